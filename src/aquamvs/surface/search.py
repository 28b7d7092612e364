"""Where the surface lies, found without a prior: the height range, then a coarse height map."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import StageError
from ..numerics.acceleration import has_kernels, in_parallel
from ..numerics.filters import box_taps, extreme, pad_edges, smooth
from ..numerics.pyramid import LevelView
from .evaluator import COST_MARGIN, TileEvaluator
from .grid import Grid
from .refine import motion_per_metre
from .tiles import Tile, split

COARSE_STEP_PX = 0.7
"""Motion between neighbouring planes of the coarse map, pixels of the coarsest level: well inside
the width of the correlation peak, which is about two pixels."""
RANGE_STEP_PX = 1.4
"""Likewise where only the range is looked for: no height is further than 0.7 px from a plane."""
_MAX_PLANES = 4096
COARSE_TILE_SIDE = 64
"""Cells along a tile on which whole planes compete."""

_PATCHES = 5
"""Patches along each side of the grid that look for the height range."""
_PATCH_SIDE = 16
_BAND_RATIO = 1.25
"""Planes whose GSD differs by less share one grid."""
_CONFIDENT_SPREAD = 0.5
_CONFIDENT_LEAD = 0.6
"""A patch cell counts for the range if its best spread is below 0.5, and below 0.6 of its best
rival's: a chance match rarely stands so far out."""
_SURE_VIEWS = 3
"""So many views hardly agree by chance."""
_LEAST_CHOICE = 0.25
"""Likewise it must be seen on so many of the planes: among few rivals chance stands out easily, and
deep below the cameras there are places that all of them see and that they see nowhere else."""
_MUCH_CHOICE = 0.75
"""Patches that are seen on this share of the most planes that any is seen on say where the others
belong."""
_LEAST_SHARE = 0.3
"""A patch counts if so many of its cells are confident: chance matches come singly."""
_TAIL = 0.1
"""Share of a patch's confident cells at each end that may be chance matches."""
_OUTLYING = 4.0
"""Patches further than this from their median, in median absolute deviations, do not count."""
_RIM = 8
"""Windows this close to cells that too few views see lack samples, cells."""
_REACH = 32
"""Beyond the range is searched this far around lost cells: half a tile."""
_LEAST_PLANES = 3
"""A parabola needs so many."""
_STEP_COST = 0.02
"""Spread that a path pays from cell to cell for every change to the next plane: slopes are many."""
_JUMP_COST = 0.7
"""Likewise for a jump to any other: as much as a cell that disagrees costs more than one that
agrees. Chance matches of a repetitive texture reach over a window's width; what stands there is as
wide, and gains more than two jumps."""
_RANGE_SLACK = 0.25
"""Added at both ends, as a share of the range found: patches miss the tip of a rock."""


class HeightRange(NamedTuple):
    """Where a surface lies.

    Attributes:
        low: Least Z, metres.
        high: Greatest Z, metres.
        typical: Z of most of it, metres.
    """

    low: float
    high: float
    typical: float


def plane_heights(
    views: Sequence[LevelView], grid: Grid, height_range: tuple[float, float], step_px: float
) -> list[float]:
    """Heights of planes that move the image by ``step_px`` from one to the next.

    Raises:
        StageError: No two views overlap within the range.
    """
    z = height_range[0]
    heights: list[float] = []
    while z < height_range[1] and len(heights) < _MAX_PLANES:
        heights.append(z)
        plane = torch.full(grid.shape, z, dtype=torch.float64)
        motion = motion_per_metre(views, grid, plane.to(views[0].gray.device))
        # Where no two views overlap (too close below the cameras), look a little deeper.
        z += step_px / motion if motion > 0 else (height_range[1] - height_range[0]) / 64
    if not heights:
        raise StageError(f"the height range {height_range} is empty")
    if len(heights) == 1:  # a parabola needs three
        heights.append(sum(height_range) / 2)
    return [*heights, height_range[1]]


def find_height_range(
    evaluator: TileEvaluator,
    grid: Grid,
    heights: Sequence[float],
    spacings: Sequence[float],
    advance: Callable[[], None],
) -> HeightRange | None:
    """Range of heights that holds the surface, from patches spread over the grid.

    Args:
        evaluator: Of the coarsest level.
        grid: At that level's spacing, over everything that may be seen.
        heights: Planes to try, ascending.
        spacings: The level's GSD on each plane, metres: a window must hold as many pixels deep down
            as just below the water, or it finds chance matches there.
        advance: Called after every patch.

    Returns:
        The range, within that of the planes; None if no patch matches at any height.
    """
    bands = _bands(heights, spacings)

    def search(patch: Tile) -> tuple[Tensor, Tensor]:
        return _patch_costs(evaluator, grid, patch, bands)

    costs = []
    for cost in in_parallel(search, _patches(grid), evaluator.workers):
        costs.append(cost)
        advance()
    # Where a rig or its masks leave only two views, these must do.
    found = _confident_ranges(costs, heights, _SURE_VIEWS) or _confident_ranges(costs, heights, 2)
    if not found:
        return None
    typical, low, high = _consensus(torch.tensor(found, dtype=torch.float64), heights)
    step = 2 * max(b - a for a, b in itertools.pairwise(heights) if a <= high)
    slack = _RANGE_SLACK * (high - low) + step
    return HeightRange(max(low - slack, heights[0]), min(high + slack, heights[-1]), typical)


def _confident_ranges(
    costs: Sequence[tuple[Tensor, Tensor]], heights: Sequence[float], needed: int
) -> list[list[float]]:
    """Range of every patch in which enough cells stand out, seen by ``needed`` views.

    And on how many of the planes its cells are seen, on average.
    """
    table = torch.tensor(heights, dtype=torch.float64)
    found = []
    for cost, count in costs:
        best, index = cost.min(0)
        rivals = cost.clone()
        for near in (-1, 0, 1):
            rivals.scatter_(0, (index + near).clamp(0, len(heights) - 1)[None], torch.inf)
        confident = best < _CONFIDENT_SPREAD
        confident &= best < _CONFIDENT_LEAD * rivals.min(0).values
        confident &= count.gather(0, index[None])[0] >= needed
        choice = torch.isfinite(cost).sum(0)
        confident &= choice >= _LEAST_CHOICE * len(heights)
        z = table[index[confident].cpu()].sort().values
        if len(z) >= _LEAST_SHARE * confident.numel():
            ends = (float(z[int(share * (len(z) - 1))]) for share in (_TAIL, 1 - _TAIL))
            found.append([*ends, float(choice.double().mean())])
    return found


def _consensus(found: Tensor, heights: Sequence[float]) -> tuple[float, float, float]:
    """Height of most patches, and the union of their ranges without those far from there.

    Smooth shading that only looks alike can give a whole patch a false height, and so can chance
    where few planes compete: those that are seen on many planes count first.

    Args:
        found: Range and number of planes of every patch, shape (P, 3).
        heights: All planes.
    """
    middle, choice = found[:, :2].mean(1), found[:, 2]
    best = choice >= _MUCH_CHOICE * choice.max()
    centre = middle[best].median()
    step = max(b - a for a, b in itertools.pairwise(heights) if a <= float(centre))
    spread = max(float((middle - centre)[best].abs().median()), 2 * step)
    kept = (middle - centre).abs() <= _OUTLYING * spread
    low, high, _ = found[kept].T
    return float(middle[kept].median()), float(low.min()), float(high.max())


def coarse_heights(
    evaluator: TileEvaluator,
    grid: Grid,
    heights: Tensor,
    beyond: Callable[[], Tensor],
    advance: Callable[[], None],
    *,
    tile_side: int = COARSE_TILE_SIDE,
) -> Tensor:
    """Best plane of every cell, with that of its neighbours in view.

    A repetitive texture agrees by chance on planes far from the surface, and as well as on the
    surface where that slopes: cells in a row, a column, must have reason to jump (semi-global
    matching: Hirschmüller, IEEE Trans. Pattern Analysis and Machine Intelligence 30, 2008; four
    paths).

    Args:
        evaluator: Of the coarsest level.
        grid: At that level's spacing.
        heights: Planes to try, ascending, shape (K,), float32, on the views' device, metres.
        beyond: Gives the planes to try as well where the views agree on none of ``heights``,
            likewise, shape (L,): what stands high above the rest may lie between the places that
            the range was found at.
        advance: Called after every tile.
        tile_side: Cells along a tile.

    Returns:
        shape (rows, columns), float32, metres; NaN where no plane is seen by two views or none
        matches better than chance.
    """
    tiles = list(split(grid, tile_side))
    volume = _volume(evaluator, grid, heights, tiles, advance)
    least, count = volume.best()
    lost = _near_lost(least, count)
    tiles = [tile for tile in tiles if bool(lost[tile.cells].any())]
    others = beyond() if tiles else heights[:0]
    if len(others) >= _LEAST_PLANES:
        more = _volume(evaluator, grid, others, tiles, lambda: None)
        sure = lost & (count >= _SURE_VIEWS) & (more.count >= _SURE_VIEWS)
        more.cost[~sure | (more.cost >= _CONFIDENT_SPREAD)] = torch.inf
        volume = volume.with_planes(more)
        least, _ = volume.best()
    cost = volume.cost
    index = torch.where(cost < torch.inf, _along_paths(cost), torch.inf).argmin(0)
    return torch.where(least < 1.0, _between(cost, index, volume.heights), torch.nan)


@dataclass(frozen=True, slots=True)
class _Volume:
    """How well the views agree at every cell on many planes.

    Attributes:
        heights: Of the planes, ascending, shape (K,), metres.
        cost: Spread of the views, shape (K, rows, columns); inf: unseen.
        count: Views that see it, same shape, int16.
    """

    heights: Tensor
    cost: Tensor
    count: Tensor

    def best(self) -> tuple[Tensor, Tensor]:
        """Least spread, and the views that see it there; each of shape (rows, columns)."""
        least, index = self.cost.min(0)
        return least, self.count.gather(0, index[None])[0]

    def with_planes(self, other: _Volume) -> _Volume:
        """Those of both, as far up and down as any is seen."""
        seen = torch.isfinite(other.cost).flatten(1).any(1)
        ends = torch.cat([self.heights, other.heights[seen]]).aminmax()
        within = (other.heights >= ends.min) & (other.heights <= ends.max)
        other = _Volume(other.heights[within], other.cost[within], other.count[within])
        heights, order = torch.cat([self.heights, other.heights]).sort()
        cost = torch.cat([self.cost, other.cost])[order]
        return _Volume(heights, cost, torch.cat([self.count, other.count])[order])


def _volume(
    evaluator: TileEvaluator,
    grid: Grid,
    heights: Tensor,
    tiles: Sequence[Tile],
    advance: Callable[[], None],
) -> _Volume:
    """Of the tiles; unseen elsewhere."""
    cost = heights.new_full((len(heights), *grid.shape), torch.inf)
    count = torch.zeros(cost.shape, dtype=torch.int16, device=heights.device)

    def search(tile: Tile) -> tuple[Tensor, Tensor]:
        return _plane_costs(evaluator, grid, tile, heights.tolist(), robust=True)

    for tile, maps in zip(tiles, in_parallel(search, tiles, evaluator.workers), strict=True):
        here = (slice(None), *tile.cells)
        cost[here], count[here] = maps
        advance()
    return _Volume(heights, cost, count)


def _along_paths(cost: Tensor) -> Tensor:
    """Costs plus those of the best paths to each cell from its four sides, (K, H, W).

    What no two views see costs a path as much as what agrees no better than chance.
    """
    known = torch.where(cost < torch.inf, cost, 1.0)
    if has_kernels(cost):
        from .search_kernels import along_paths

        by_cell = known.permute(1, 2, 0).contiguous()
        reached = torch.empty_like(by_cell)
        costs = np.float32(_STEP_COST), np.float32(_JUMP_COST)
        along_paths(by_cell.numpy(), *costs, reached.numpy())
        return reached.permute(2, 0, 1)
    total = torch.zeros_like(cost)
    for axis in (1, 2):
        count = cost.shape[axis]
        path = cost.new_zeros(2, *cost.select(axis, 0).shape)  # forth and back, at the same time
        for i in range(count):
            least = path.amin(1, keepdim=True)
            reached = torch.minimum(path, least + _JUMP_COST)
            reached[:, 1:] = torch.minimum(reached[:, 1:], path[:, :-1] + _STEP_COST)
            reached[:, :-1] = torch.minimum(reached[:, :-1], path[:, 1:] + _STEP_COST)
            ends = (i, count - 1 - i)
            here = torch.stack([known.select(axis, end) for end in ends])
            path = here + (reached - least)
            for end, one in zip(ends, path, strict=True):
                total.select(axis, end).add_(one)
    return total


def _near_lost(least: Tensor, count: Tensor) -> Tensor:
    """Cells near to where the views agree on no plane though they should, shape (H, W), bool.

    What is lost reaches further than it shows: beside it the views that see past it agree.
    """
    blind = extreme((count < _SURE_VIEWS).float(), _RIM) > 0
    lost = (~blind & (least > _CONFIDENT_SPREAD)).float()
    lost = (smooth(pad_edges(lost, _RIM // 2), box_taps(_RIM + 1)) > 0.5).float()
    return extreme(lost, _REACH) > 0


def _between(cost: Tensor, index: Tensor, table: Tensor) -> Tensor:
    """Height of the parabola's minimum around the best plane, so that planes leave no terraces."""
    inner = index.clamp(1, len(table) - 2)
    before, here, after = (cost.gather(0, (inner + i)[None])[0] for i in (-1, 0, 1))
    bend = before - 2 * here + after
    convex = torch.isfinite(bend) & (bend > 0)
    fraction = torch.where(convex, (before - after) / (2 * bend), 0.0).clamp(-1, 1)
    step = (table[inner + 1] - table[inner - 1]) / 2
    return torch.where(convex, table[inner] + fraction * step, table[index])


def _patches(grid: Grid) -> list[Tile]:
    side = (min(_PATCH_SIDE, grid.rows), min(_PATCH_SIDE, grid.columns))
    rows = torch.linspace(0, grid.rows - side[0], _PATCHES + 2)[1:-1].long().tolist()
    columns = torch.linspace(0, grid.columns - side[1], _PATCHES + 2)[1:-1].long().tolist()
    places = sorted({(row, column) for row in rows for column in columns})
    return [Tile(row, column, *side) for row, column in places]


def _bands(heights: Sequence[float], spacings: Sequence[float]) -> list[tuple[float, list[float]]]:
    """Neighbouring planes that can do with one spacing, and that spacing."""
    bands: list[tuple[float, list[float]]] = []
    for height, spacing in zip(heights, spacings, strict=True):
        if not bands or not 1 <= spacing / bands[-1][0] < _BAND_RATIO:
            bands.append((spacing, []))
        bands[-1][1].append(height)
    return bands


def _patch_costs(
    evaluator: TileEvaluator,
    grid: Grid,
    patch: Tile,
    bands: Sequence[tuple[float, Sequence[float]]],
) -> tuple[Tensor, Tensor]:
    """:func:`_plane_costs` of a patch of the grid, each band of planes at its own spacing."""
    parts = []
    for spacing, heights in bands:
        rows, columns = (
            max(1, round(size * grid.spacing / spacing)) for size in (patch.rows, patch.columns)
        )
        x = grid.x0 + grid.spacing * (patch.column + (patch.columns - 1) / 2)
        y = grid.y0 + grid.spacing * (patch.row + (patch.rows - 1) / 2)
        x0, y0 = x - spacing * (columns - 1) / 2, y - spacing * (rows - 1) / 2
        own = Grid(x0, y0, spacing, rows, columns)
        maps = _plane_costs(evaluator, own, Tile(0, 0, rows, columns), heights, robust=False)
        row = torch.arange(patch.rows) * rows // patch.rows
        column = torch.arange(patch.columns) * columns // patch.columns
        parts.append([each[:, row][:, :, column] for each in maps])
    costs, counts = zip(*parts, strict=True)
    return torch.cat(costs), torch.cat(counts)


def _plane_costs(
    evaluator: TileEvaluator, grid: Grid, tile: Tile, heights: Sequence[float], *, robust: bool
) -> tuple[Tensor, Tensor]:
    """Spread of the views on horizontal planes (inf: unseen) and number of views, (K, h, w)."""
    shape = (tile.rows + 2 * COST_MARGIN, tile.columns + 2 * COST_MARGIN)
    planes = torch.tensor(heights, dtype=torch.float32, device=evaluator.device)
    return evaluator.costs(grid, tile, [z.expand(shape) for z in planes], robust=robust)
