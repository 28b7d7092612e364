"""One pass over a height map: move every cell along Z to where its views agree best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .consistency import ROBUST_MARGIN
from .evaluator import Pass, TileEvaluator, in_parallel
from .filters import pad_linear
from .grid import Grid
from .pyramid import LevelView
from .tiles import Tile, split
from .visibility import Occlusion

TILE_SIDE = 160
"""Cells along a tile: a tile's working set stays near the processor's cache."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A height map and what is known of its quality; each of shape (rows, columns).

    Attributes:
        z: Height, metres; NaN where fewer than two views see the cell or no minimum was found.
        spread: At the minimum: one minus the mean pairwise ZNCC.
        curvature: Second derivative of the spread with respect to Z, 1/m².
        lever: Root of Σ_c |r_c - mean r|² over the views, r the pixel motion per metre, px/m.
        effective_views: (Σ w)² / Σ w² of the views' weights.
        view_count: Views with at least half a weight.
    """

    z: Tensor
    spread: Tensor
    curvature: Tensor
    lever: Tensor
    effective_views: Tensor
    view_count: Tensor


def refine(
    evaluator: TileEvaluator,
    grid: Grid,
    z: Tensor,
    occlusion: Occlusion | None,
    plan: Pass,
    step: float,
    advance: Callable[[], None],
) -> Estimate:
    """Run one pass.

    Args:
        evaluator: Of the level.
        grid: Of the height map.
        z: Heights without gaps, shape (rows, columns), metres.
        occlusion: What each view cannot see; None: it sees all.
        plan: What to try.
        step: Distance of neighbouring offsets, metres.
        advance: Called after every tile.

    Returns:
        The moved map.
    """
    outer = plan.margin + ROBUST_MARGIN
    padded = pad_linear(z, outer)

    def estimate(tile: Tile) -> Tensor | None:
        around = padded[tile.cells_with_margin(outer)]
        return evaluator.estimate(grid, tile, around, occlusion, plan, step)

    maps = z.new_zeros(6, *z.shape)
    maps[0] = torch.nan
    tiles = list(split(grid, TILE_SIDE))
    for tile, found in zip(tiles, in_parallel(estimate, tiles, evaluator.workers), strict=True):
        if found is not None:
            maps[(slice(None), *tile.cells)] = found
        advance()
    height, least, curvature, lever, effective, count = maps
    return Estimate(height, least, curvature, lever, effective, count.to(torch.uint8))


def motion_per_metre(views: Sequence[LevelView], grid: Grid, z: Tensor) -> float:
    """Median over the grid of the largest motion of a view against the views' mean, px per metre.

    Args:
        views: All views of the level.
        grid: Of the height map.
        z: Heights, shape (rows, columns), metres.

    Returns:
        0 if no two views see a common probe.
    """
    rows = torch.linspace(0, grid.rows - 1, min(16, grid.rows)).round().long()
    columns = torch.linspace(0, grid.columns - 1, min(16, grid.columns)).round().long()
    x, y = grid.axes(z)
    height = z[rows][:, columns]
    points = torch.stack(
        [x[columns].expand(height.shape), y[rows][:, None].expand(height.shape), height], dim=-1
    )
    rates = []
    for view in views:
        pixels, rate, valid = view.model.project_along(points, points.new_tensor([0.0, 0.0, 1.0]))
        limit = pixels.new_tensor(view.size) - 1
        inside = valid & ((pixels >= 0) & (pixels <= limit)).all(-1)
        rates.append(torch.where(inside[..., None], rate, torch.nan))
    table = torch.stack(rates)
    deviation = (table - table.nanmean(0)).norm(dim=-1).nan_to_num(0.0).amax(0)
    moving = deviation[deviation > 0]
    return float(moving.median()) if len(moving) else 0.0
