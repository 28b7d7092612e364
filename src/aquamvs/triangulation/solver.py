"""Intersection of refracted rays, and its refinement by reprojection through water.

All points are solved at once: one loop over the cameras gathers each camera's observations, so the
cost grows with the number of observations and no point is handled alone. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..numerics.acceleration import operation_threads
from ..projection import RefractiveProjectionModel
from .tracks import Tracks

_MAX_STEPS = 10
"""Levenberg-Marquardt steps; from the midpoint of good rays three reach the rounding level."""

_SETTLED_M = 1e-10
"""Steps shorter than this, metres, change nothing: the next one is orders of magnitude shorter."""

_DAMPING, _MAX_DAMPING = 1e-4, 1e8
"""First damping, relative to the diagonal (Marquardt), and the one at which a point is given up."""

_START_DEPTH = 1e-3
"""Least depth of a starting point below the surface, in camera heights: projection ends there."""

_OBSERVATIONS_PER_THREAD = 1 << 16
"""Threads that have less to do spend more time waiting for one another."""


@dataclass(frozen=True, slots=True)
class Rays:
    """Refracted rays of observations, world frame.

    Attributes:
        origin: Points on the water surface, shape (O, 3), metres.
        direction: Unit vectors, shape (O, 3).
    """

    origin: Tensor
    direction: Tensor


@dataclass(frozen=True, slots=True)
class Solution:
    """Least-squares points of tracks.

    Attributes:
        points: shape (T, 3), metres.
        residual: Projected minus observed pixel, shape (O, 2), px; NaN where the camera cannot see
            the point (above the water, behind the camera).
        information: Sum of J^T J over the observations, shape (T, 3, 3), px^2 / m^2. Its inverse
            times the variance of a pixel is the covariance of the point.
    """

    points: Tensor
    residual: Tensor
    information: Tensor

    def squared(self) -> Tensor:
        """Squared length of each residual, shape (O,); infinite where it is NaN."""
        return (self.residual**2).sum(-1).nan_to_num(nan=torch.inf)


def cast_rays(models: Sequence[RefractiveProjectionModel], tracks: Tracks) -> Rays:
    """Refracted ray of every observation; ``models`` in the order of ``tracks.cameras``."""
    origin = torch.full((len(tracks.track), 3), torch.nan, dtype=torch.float64)
    origin = origin.to(tracks.pixels.device)
    direction = origin.clone()
    for camera, model in enumerate(models):
        rows = tracks.rows(camera)
        origin[rows], direction[rows] = model.cast_ray(tracks.pixels[rows])
    return Rays(origin, direction)


def intersect(rays: Rays, tracks: Tracks) -> Tensor:
    """Point nearest to all rays of each track, in the least-squares sense, shape (T, 3), metres.

    Under water rays are straight, so the classic midpoint holds. Parallel rays have no such point;
    a small damping keeps theirs finite, and their angle gives them away.
    """
    across = torch.eye(3).to(rays.direction) - rays.direction[:, :, None] * rays.direction[:, None]
    matrix = tracks.total(across)
    vector = tracks.total((across @ rays.origin[:, :, None])[..., 0])
    damping = torch.finfo(torch.float64).eps * torch.eye(3).to(matrix)
    return _solve(matrix + damping, vector)


def solve_tracks(models: Sequence[RefractiveProjectionModel], tracks: Tracks) -> Solution:
    """Points of least squared reprojection error.

    Args:
        models: In the order of ``tracks.cameras``, on the device of the tracks.
        tracks: Observations.

    Returns:
        The solution; tracks whose points no camera could see have NaN residuals.
    """
    with operation_threads(1 + len(tracks.track) // _OBSERVATIONS_PER_THREAD):
        return _solved(models, tracks)


def _solved(models: Sequence[RefractiveProjectionModel], tracks: Tracks) -> Solution:
    points = _below_surface(models[0], intersect(cast_rays(models, tracks), tracks))
    state = _linearise(models, tracks, points)
    damping = torch.full((len(tracks), 1, 1), _DAMPING, dtype=torch.float64).to(points)
    for _ in range(_MAX_STEPS):
        scaled = torch.diag_embed(state.information.diagonal(dim1=1, dim2=2)) * damping
        step = -_solve(state.information + scaled, state.gradient)
        moved = points + step
        trial = _linearise(models, tracks, moved)
        better = trial.cost <= state.cost
        points = torch.where(better[:, None], moved, points)
        state = state.updated(trial, better, tracks)
        damping = torch.where(better[:, None, None], damping / 10, damping * 10)
        settled = (step.norm(dim=-1) < _SETTLED_M) | (damping[:, 0, 0] > _MAX_DAMPING)
        if bool((settled | ~torch.isfinite(state.cost)).all()):
            break
    return Solution(points, state.residual, state.information)


@dataclass(frozen=True, slots=True)
class _Linearised:
    """The problem around some points; ``cost`` is infinite where a camera sees nothing."""

    cost: Tensor
    gradient: Tensor
    information: Tensor
    residual: Tensor

    def updated(self, other: _Linearised, where: Tensor, tracks: Tracks) -> _Linearised:
        return _Linearised(
            torch.where(where, other.cost, self.cost),
            torch.where(where[:, None], other.gradient, self.gradient),
            torch.where(where[:, None, None], other.information, self.information),
            torch.where(where[tracks.track][:, None], other.residual, self.residual),
        )


def _linearise(
    models: Sequence[RefractiveProjectionModel], tracks: Tracks, points: Tensor
) -> _Linearised:
    residual = torch.full_like(tracks.pixels, torch.nan)
    jacobian = residual.new_zeros(len(residual), 2, 3)
    for camera, model in enumerate(models):
        rows = tracks.rows(camera)
        pixels, slope, valid = model.project_with_jacobian(points[tracks.track[rows]])
        residual[rows] = pixels - tracks.pixels[rows]
        jacobian[rows] = torch.where(valid[:, None, None], slope, 0.0)
    known = residual.nan_to_num(nan=0.0)
    cost = (residual**2).sum(-1).nan_to_num(nan=torch.inf)
    return _Linearised(
        tracks.total(cost),
        tracks.total((jacobian.mT @ known[:, :, None])[..., 0]),
        tracks.total(jacobian.mT @ jacobian),
        residual,
    )


def _solve(matrix: Tensor, vector: Tensor) -> Tensor:
    """Batched 3 x 3 solve, 0 where there is no solution."""
    solution: Tensor = torch.linalg.solve_ex(matrix, vector[..., None])[0]
    return torch.where(torch.isfinite(solution), solution, 0.0)[..., 0]


def depth_below_surface(model: RefractiveProjectionModel, points: Tensor) -> Tensor:
    """Distance of points, shape (T, 3), below the model's water surface, shape (T,), metres."""
    normal = model.normal.to(points)
    drop = ((model.camera_center.to(points) - points) * (normal / normal.norm())).sum(-1)
    depth: Tensor = drop - model.camera_height.to(points)
    return depth


def _below_surface(model: RefractiveProjectionModel, points: Tensor) -> Tensor:
    """Push points that noise has lifted out of the water back under it."""
    if not model.is_refractive:
        return points
    normal = model.normal.to(points)
    least = _START_DEPTH * model.camera_height.to(points)
    lift = (least - depth_below_surface(model, points)).clamp(min=0)
    lowered: Tensor = points - lift[:, None] * (normal / normal.norm())
    return lowered
