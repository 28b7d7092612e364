"""One pass over a height map: move every cell along Z to where its views agree best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..numerics.acceleration import in_parallel
from ..numerics.filters import pad_linear
from ..numerics.pyramid import LevelView, inside_images
from ..projection import ProjectionRig
from .consistency import ROBUST_MARGIN
from .evaluator import Pass, TileEvaluator
from .grid import Grid
from .tiles import Tile, split
from .visibility import Occlusion

TILE_SIDE = 160
"""Cells along a tile: a tile's working set stays near the processor's cache."""
SPARSE_TILE_SIDE = 80
"""Cells along the tiles of work that few cells need: a smaller part around them may do."""


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
        own_texture: Squared gradients of the images at the cell over those in its windows: where
            that is small, the height is that of textured neighbours.
    """

    z: Tensor
    spread: Tensor
    curvature: Tensor
    lever: Tensor
    effective_views: Tensor
    view_count: Tensor
    own_texture: Tensor

    def part(self, cells: slice | tuple[slice, slice]) -> Estimate:
        """That of some rows, or of some rows and columns."""
        return Estimate(*(getattr(self, field.name)[cells] for field in fields(self)))


def refine(
    evaluator: TileEvaluator,
    grid: Grid,
    z: Tensor,
    occlusion: Occlusion | None,
    plan: Pass,
    step: float,
    advance: Callable[[], None],
    *,
    tile_side: int = TILE_SIDE,
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
        tile_side: Cells along a tile.

    Returns:
        The moved map.
    """
    maps = z.new_empty(7, *z.shape)
    unseen = z.new_tensor([torch.nan, torch.inf, 0, 0, 0, 0, 0])[:, None, None]
    tiles = list(split(grid, tile_side))
    for tile, found in _estimates(evaluator, grid, z, occlusion, plan, step, tiles):
        maps[(slice(None), *tile.cells)] = unseen if found is None else found
        advance()
    height, least, curvature, lever, effective, count, own = maps
    return Estimate(height, least, curvature, lever, effective, count.to(torch.uint8), own)


def refine_again(
    evaluator: TileEvaluator,
    grid: Grid,
    z: Tensor,
    occlusion: Occlusion | None,
    plan: Pass,
    step: float,
    estimate: Estimate,
    chosen: Tensor,
    *,
    rival: tuple[float, float] | None = None,
    tile_side: int = SPARSE_TILE_SIDE,
) -> None:
    """Run a pass once more, for some cells, whose estimate is replaced if they have a minimum.

    Args:
        evaluator: As for :func:`refine`, like all that is not listed here.
        grid: See there.
        z: The new heights to ride on, shape (rows, columns), metres.
        occlusion: See there.
        plan: See there.
        step: See there.
        estimate: In and out: of the pass so far.
        chosen: Cells to estimate anew, shape (rows, columns), bool.
        rival: Share of the old spread, and a spread, that the new one must both stay below; None:
            any will do.
        tile_side: Most cells along a tile.
    """
    parts = [getattr(estimate, field.name) for field in fields(Estimate)]
    tiles = _around(chosen, grid, tile_side)
    for tile, found in _estimates(evaluator, grid, z, occlusion, plan, step, tiles):
        if found is not None:
            here = tile.cells
            better = chosen[here] & torch.isfinite(found[0])
            if rival is not None:
                gain, most = rival
                before = gain * estimate.spread[here]
                before[~torch.isfinite(estimate.z[here])] = most
                better &= found[1] < before.clamp(max=most)
            for part, new in zip(parts, found, strict=True):
                part[here] = torch.where(better, new, part[here])


def _around(chosen: Tensor, grid: Grid, tile_side: int) -> list[Tile]:
    """The least tiles that hold all chosen cells."""
    tiles = split(grid, tile_side)
    return [tile.around(chosen) for tile in tiles if bool(chosen[tile.cells].any())]


def _estimates(
    evaluator: TileEvaluator,
    grid: Grid,
    z: Tensor,
    occlusion: Occlusion | None,
    plan: Pass,
    step: float,
    tiles: Sequence[Tile],
) -> Iterator[tuple[Tile, Tensor | None]]:
    """Every tile with what the evaluator finds on it."""
    outer = plan.margin + ROBUST_MARGIN
    padded = pad_linear(z, outer)

    def estimate(tile: Tile) -> Tensor | None:
        around = padded[tile.cells_with_margin(outer)]
        return evaluator.estimate(grid, tile, around, occlusion, plan, step)

    return zip(tiles, in_parallel(estimate, tiles, evaluator.workers), strict=True)


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
    cameras = ProjectionRig([view.model for view in views])
    pixels, table, valid = cameras.project_along(points, points.new_tensor([0.0, 0.0, 1.0]))
    table[~(valid & inside_images(views, pixels))] = torch.nan
    deviation = (table - table.nanmean(0)).norm(dim=-1).nan_to_num(0.0).amax(0)
    moving = deviation[deviation > 0]
    return float(moving.median()) if len(moving) else 0.0
