"""Removal of wrong observations from tracks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..projection import RefractiveProjectionModel
from .solver import Solution, solve_tracks
from .tracks import Tracks


def drop_outliers(
    models: Sequence[RefractiveProjectionModel],
    tracks: Tracks,
    solution: Solution,
    *,
    max_error_px: float,
    min_views: int,
) -> tuple[Tracks, Solution]:
    """Drop observations, one per round, from tracks that do not fit.

    A least-squares fit spreads one bad observation over the good ones, so the largest residual need
    not be the bad one. A track that does not fit is therefore solved again without each of its
    observations in turn, and the best of these solutions is taken.

    Args:
        models: In the order of ``tracks.cameras``.
        tracks: Observations.
        solution: Of the tracks.
        max_error_px: A track fits if no residual is larger.
        min_views: No track falls below this number of views.

    Returns:
        The tracks, in number and order as before, less the dropped observations, and their
        solution. Tracks that fit in no way are returned too.
    """
    while True:
        poor = torch.zeros(len(tracks), dtype=torch.bool, device=tracks.track.device)
        poor[tracks.track[solution.squared() > max_error_px**2]] = True
        poor &= tracks.view_count > max(min_views, 2)
        if not bool(poor.any()):
            return tracks, solution
        tracks, solution = _drop_one(models, tracks, solution, poor)


def _drop_one(
    models: Sequence[RefractiveProjectionModel], tracks: Tracks, solution: Solution, poor: Tensor
) -> tuple[Tracks, Solution]:
    """Drop from each poor track the observation without which it fits best."""
    rows = poor[tracks.track].nonzero()[:, 0]
    attempts, kept_rows = _leave_one_out(tracks, rows)
    trial = solve_tracks(models, attempts)
    cost = attempts.total(trial.squared())
    owner = tracks.track[rows]
    lowest = cost.new_full((len(tracks),), torch.inf).scatter_reduce(0, owner, cost, "amin")
    attempt = torch.arange(len(rows), device=rows.device)
    candidate = torch.where(cost == lowest[owner], attempt, len(rows))
    chosen = torch.full((len(tracks),), len(rows), device=rows.device)
    chosen = chosen.scatter_reduce(0, owner, candidate, "amin")[poor]
    points, information = solution.points.clone(), solution.information.clone()
    residual = solution.residual.clone()
    points[poor], information[poor] = trial.points[chosen], trial.information[chosen]
    taken = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    taken[chosen] = True
    of_chosen = taken[attempts.track]
    residual[kept_rows[of_chosen]] = trial.residual[of_chosen]
    dropped = torch.zeros_like(tracks.track, dtype=torch.bool)
    dropped[rows[chosen]] = True
    return tracks.without(dropped), Solution(points, residual[~dropped], information)


def _leave_one_out(tracks: Tracks, rows: Tensor) -> tuple[Tracks, Tensor]:
    """For each observation at ``rows``, a track of the other observations of its own track.

    Returns:
        As many tracks as rows, and the position in ``tracks`` of each of their observations.
    """
    count = tracks.view_count
    first = torch.cumsum(count, 0) - count
    size = count[tracks.track[rows]]
    attempt = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), size)
    begins = torch.cumsum(size, 0) - size
    slot = torch.arange(len(attempt), device=rows.device) - begins[attempt]
    member = first[tracks.track[rows[attempt]]] + slot
    keep = member != rows[attempt]
    attempt, member = attempt[keep], member[keep]
    scores = torch.zeros(len(rows), device=rows.device)
    return (
        Tracks(tracks.cameras, attempt, tracks.camera[member], tracks.pixels[member], scores),
        member,
    )
