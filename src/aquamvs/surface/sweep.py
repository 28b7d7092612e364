"""The surface sweep: a refractive rig's height map by object-space matching, coarse to fine.

1. The coarsest level finds the height range by itself, then the best horizontal plane per cell;
   neighbours must have reason to choose planes far apart.
2. Every finer level moves the current surface up and down by a few pixels and keeps, per cell, the
   height at which the views agree best; windows ride on the surface, so slopes cost nothing.
3. Beside a jump, the surfaces on both sides compete for every cell, each carried on over the other.
   Cells that the images do not fix are bridged from their neighbours before the next pass.
4. Cameras whose ray the surface blocks, and views that disagree, leave the mean.
5. A parabola gives the fraction of a step. Differences between neighbours that are no larger than
   noise are smoothed out, before the last pass and after it; walls and slopes stay. Where windows
   have smoothed relief, the last ones ride further.
6. Heights settle on planes of several sizes as far as these miss no relief beyond the noise that
   the views' residuals show; between passes the planes also bridge what the images do not fix.
7. Narrower windows ride on the result: of what they find, relief beyond the noise comes back.
8. Sigma comes from the residuals, less where narrow windows scatter less than these say; from how
   far the planes are trusted; and from how much relief came back and how much was levelled where
   any shows, since some is still missing then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError, StageError
from ..numerics.acceleration import at_once
from ..numerics.filters import halve, median3, upsample
from ..numerics.pyramid import LevelView, build_pyramid, level_count
from ..types import HeightMap, UndistortedViews
from .evaluator import Pass, TileEvaluator, cell_bytes, create_evaluator, working_bytes
from .grid import Grid, footprint, grid_over, median_gsd
from .layers import compete
from .orthophoto import orthophoto
from .quality import (
    carried,
    final_heights,
    levelled,
    overhanging,
    overshot,
    trusted_spread,
    without_gaps,
)
from .refine import (
    SPARSE_TILE_SIDE,
    TILE_SIDE,
    Estimate,
    motion_per_metre,
    refine,
    refine_again,
)
from .relief import Relief, recover
from .search import (
    COARSE_STEP_PX,
    COARSE_TILE_SIDE,
    RANGE_STEP_PX,
    HeightRange,
    coarse_heights,
    find_height_range,
    plane_heights,
)
from .tiles import crowded, split
from .visibility import Occlusion, hidden_cells

_LEAST_TILE_SIDE = 16
"""A tile's margin is about 13 cells wide: smaller ones would be margin and nothing else."""
_DEEPEST_WATER = 2.0
"""Heights searched below the water surface when no range is given, metres."""
_WATER_CLEARANCE = 1e-3
"""The surface is at least this far under water, metres."""

LEVEL_PASSES = (
    Pass(hypotheses=7, step_px=0.6, window_sigma=1.2, shift=1),
    Pass(hypotheses=3, step_px=0.4, window_sigma=1.2),
)
LAST_PASSES = (
    Pass(hypotheses=5, step_px=0.6, window_sigma=1.8, shift=1),
    Pass(hypotheses=3, step_px=0.4, window_sigma=1.5, cubic=True),
)
"""Passes at the intermediate levels and at the last: the surface carried over from twice the
spacing is good to about a pixel; then a pure sub-step with the window and the
interpolation of the final estimate."""

RELIEF_PASS = Pass(hypotheses=3, step_px=0.3, window_sigma=1.0, cubic=True)
"""Finds what the windows of the last pass have smoothed."""
_WORTHWHILE = 0.4
"""Share of a tile's cells that must still move for it to be worth another pass: with less, a bower
of seed 0 and gravel of another renderer were no better, and took twice the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceSweepOptions:
    """Options of :func:`sweep_surface`.

    Attributes:
        spacing: Cell size, metres; None: the views' median GSD.
        region_of_interest: (x_min, y_min, x_max, y_max), world frame, metres; None: all that two
            views see.
        height_range: (z_min, z_max), world frame, metres; None: found between the water surface
            and 2 m below it.
        tile_side: Cells along the tiles that are worked on: smaller ones take less memory and more
            time, and give the same bytes. None: what suits the device.
        workers: Most tiles that are worked on at a time; None: as many as there are threads.

    Example:
        >>> from aquamvs.surface import SurfaceSweepOptions, sweep_surface
        >>> height_map = sweep_surface(views, SurfaceSweepOptions(spacing=0.03))
        >>> height_map.spacing
        0.03
    """

    spacing: float | None = None
    region_of_interest: tuple[float, float, float, float] | None = None
    height_range: tuple[float, float] | None = None
    tile_side: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.spacing is not None and not self.spacing > 0:
            raise ConfigError(f"spacing is {self.spacing}; expected a positive length in metres")
        if self.tile_side is not None and self.tile_side < _LEAST_TILE_SIDE:
            raise ConfigError(
                f"tile_side is {self.tile_side} cells; expected {_LEAST_TILE_SIDE} or more"
            )
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers is {self.workers}; expected 1 or more")


def tile_memory(view_count: int, tile_side: int) -> int:
    """Memory that the sweep takes for every tile that is worked on at a time, bytes.

    Args:
        view_count: Views that are matched.
        tile_side: See :class:`SurfaceSweepOptions`.

    Example:
        >>> from aquamvs.surface import tile_memory
        >>> tile_memory(13, 80) < tile_memory(13, 160)
        True
    """
    return max(working_bytes(plan, view_count, tile_side) for plan in LEVEL_PASSES + LAST_PASSES)


def sweep_surface(
    views: UndistortedViews,
    options: SurfaceSweepOptions | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> HeightMap:
    """Reconstruct the height map that all views agree on.

    Args:
        views: Two or more views of one instant.
        options: Region, range and spacing.
        progress: Called with the steps done and the steps in all.

    Returns:
        Height, sigma, confidence, view count and orthophoto, on the views' device. Cells that
        fewer than two views see, or that match no better than chance, are NaN.

    Raises:
        ConfigError: Fewer than two views, or none that overlap in the given region and range.
        StageError: The views match nowhere.

    Example:
        >>> from aquamvs.surface import SurfaceSweepOptions, sweep_surface
        >>> height_map = sweep_surface(views, SurfaceSweepOptions(spacing=0.02))
        >>> bool(height_map.z.nanmedian() > rig.water_z)
        True
    """
    if len(views) < 2:
        raise ConfigError(f"the surface sweep needs two views or more; found {len(views)}")
    with torch.inference_mode():
        return _Sweep(views, options or SurfaceSweepOptions(), progress).run()


class _TileSides(NamedTuple):
    """Cells along the tiles of a pass, of work that few cells need, and of the search on planes."""

    full: int
    sparse: int
    coarse: int


def _tile_sides(wanted: int | None, device: torch.device, views: int) -> _TileSides:
    """A processor's tiles stay near its cache; an accelerator's fill its memory."""
    most = max(plan.hypotheses for plan in LEVEL_PASSES + LAST_PASSES)
    cells = at_once(device, TILE_SIDE**2, cell_bytes(views, most))
    full = wanted or max(_LEAST_TILE_SIDE, math.isqrt(cells))
    if device.type != "cpu":
        return _TileSides(full, full, full)
    return _TileSides(full, min(full, SPARSE_TILE_SIDE), min(full, COARSE_TILE_SIDE))


class _Sweep:
    """State of one run: the pyramids, the grids, and the progress."""

    def __init__(
        self,
        views: UndistortedViews,
        options: SurfaceSweepOptions,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.views, self.options, self.progress = views, options, progress
        short_side = min(min(view.size) for view in views)
        self.level_count = level_count(short_side)
        pyramids = [build_pyramid(view, self.level_count) for view in views]
        self.levels: list[list[LevelView]] = [list(level) for level in zip(*pyramids, strict=True)]
        self.coarsest = self._evaluator(self.levels[-1])
        # Planning takes thousands of small operations, which an accelerator is slow to begin.
        self.planning = [view.to("cpu") for view in self.levels[-1]]
        self.tiles = _tile_sides(options.tile_side, self.coarsest.device, len(views))
        self.done = self.total = 0

    def run(self) -> HeightMap:
        """Range, coarse map, finer levels, quality."""
        grids, z = self._coarse()
        estimate, occlusion, evaluator = self._refine(grids, z)
        found = final_heights(estimate, LAST_PASSES[-1], grids[0].spacing)
        base = without_gaps(found.z)
        moved = levelled(estimate, found.z, base, grids[0].spacing)
        sharp = self._sharpened(evaluator, grids[0], base, moved, occlusion)
        del evaluator
        kept = torch.isfinite(found.z) & ~overhanging(found.z, base, grids[0].spacing)
        z = torch.where(kept, sharp.z, torch.nan)
        variance = found.own * sharp.noise_scale + found.taken + sharp.variance
        sigma = torch.where(kept, variance.sqrt(), torch.nan)
        confidence = torch.where(kept, found.confidence, 0.0)
        self.levels.clear()  # what follows needs memory, and no pyramids
        return self._finish(grids[0], z, sigma, confidence, estimate, occlusion)

    def _evaluator(self, level: list[LevelView], *, cubic: bool = False) -> TileEvaluator:
        """Of a level, held to the wanted number of workers."""
        evaluator = create_evaluator(level, cubic=cubic)
        if self.options.workers is not None:
            evaluator.workers = min(evaluator.workers, self.options.workers)
        return evaluator

    def _coarse(self) -> tuple[list[Grid], Tensor]:
        """Grids of all levels, and the coarsest level's best planes without gaps."""
        widest = self._widest_range()
        found = self._search_range(widest)
        height_range = (found.low, found.high)
        box = self.options.region_of_interest or footprint(self.views.views, height_range)
        spacing = self.options.spacing or median_gsd(self.views.views, found.typical)
        grid = grid_over(box, spacing)
        grids = [grid.coarser(2**level) for level in range(self.level_count)]
        heights = plane_heights(self.planning, grids[-1], height_range, COARSE_STEP_PX)
        self._expect(grids)

        def beyond() -> Tensor:
            every = plane_heights(self.planning, grids[-1], widest, COARSE_STEP_PX)
            low, high = heights[0] - 1e-9, heights[-1] + 1e-9
            return self._planes([z for z in every if not low <= z <= high])

        planes, side = self._planes(heights), self.tiles.coarse
        z = coarse_heights(self.coarsest, grids[-1], planes, beyond, self._advance, tile_side=side)
        return grids, without_gaps(median3(z))

    def _planes(self, heights: list[float]) -> Tensor:
        return torch.tensor(heights, dtype=torch.float32, device=self.coarsest.device)

    def _refine(
        self, grids: list[Grid], z: Tensor
    ) -> tuple[Estimate, Occlusion | None, TileEvaluator]:
        """All passes of all levels: the last estimate, the occlusion it knew of, its evaluator."""
        estimate: Estimate | None = None
        previous: Pass | None = None
        rode_on = 0.0
        evaluator = self.coarsest
        occlusion: Occlusion | None = None
        for level in reversed(range(self.level_count)):
            is_coarsest = level == self.level_count - 1
            if not is_coarsest:
                evaluator = self._evaluator(self.levels[level])
            grid, motion = grids[level], 0.0
            passes = LAST_PASSES if level == 0 else LEVEL_PASSES
            for plan in passes:
                if estimate is not None and previous is not None:
                    if plan is LAST_PASSES[-1]:
                        z = overshot(estimate, previous, rode_on, z)
                    else:
                        z = carried(estimate, previous, rode_on)
                if z.shape != grid.shape:
                    z = upsample(z, grid.shape)
                motion = motion or self._motion(level, grid, z)
                if not is_coarsest:  # planes know no relief yet
                    occlusion = self._occlusion(z, grid, level)
                if plan.cubic:
                    evaluator = self._evaluator(self.levels[level], cubic=True)
                step = plan.step_px / motion
                estimate = refine(
                    evaluator,
                    *(grid, z, occlusion, plan, step, self._advance),
                    tile_side=self.tiles.full,
                )
                if plan is passes[-1]:
                    trusted, side = trusted_spread(estimate), self.tiles.sparse
                    given = (occlusion, plan, step, trusted)
                    compete(evaluator, grid, estimate, *given, tile_side=side)
                previous, rode_on = plan, grid.spacing
        assert estimate is not None  # noqa: S101  (there is at least one level)
        return estimate, occlusion, evaluator

    def _widest_range(self) -> tuple[float, float]:
        """The given range, or the water."""
        model = self.views.views[0].model
        top = model.water_z + (_WATER_CLEARANCE if model.is_refractive else 0.0)
        return self.options.height_range or (top, model.water_z + _DEEPEST_WATER)

    def _search_range(self, widest: tuple[float, float]) -> HeightRange:
        """The surface's range: the given one, or where in the water the views match."""
        given = self.options.height_range
        box = self.options.region_of_interest or footprint(self.views.views, widest)
        top, bottom = (
            median_gsd(self.views.views, z) * 2 ** (self.level_count - 1) for z in widest
        )
        grid = grid_over(box, top)
        heights = plane_heights(self.planning, grid, widest, RANGE_STEP_PX)
        growth = (bottom - top) / (widest[1] - widest[0])
        spacings = [top + growth * (z - widest[0]) for z in heights]
        evaluator = self._evaluator(self.planning)
        found = find_height_range(evaluator, grid, heights, spacings, self._advance)
        if given is not None:
            return HeightRange(*given, sum(given) / 2 if found is None else found.typical)
        if found is None:
            region, setting = "", "reconstruction.height_range"
            if self.options.region_of_interest:
                region = f" in the region of interest {list(box)}"
                setting = f"reconstruction.region_of_interest and {setting}"
            raise StageError(
                f"the views match nowhere{region} between z = {heights[0]:.3f} m and "
                f"{heights[-1]:.3f} m; check that the images are of one instant and belong to the "
                f"calibration, or set {setting}"
            )
        return found

    def _motion(self, level: int, grid: Grid, z: Tensor) -> float:
        motion = motion_per_metre(self.levels[level], grid, z)
        if motion == 0:
            raise StageError("no two views overlap in the region; check region_of_interest")
        return motion

    def _occlusion(self, z: Tensor, grid: Grid, level: int) -> Occlusion:
        """Cells that each view cannot see, from a map of a quarter of the level's resolution."""
        factor = 1
        while factor < 4 and min(z.shape) > 8:
            z, factor = halve(z), factor * 2
        coarse = grid.coarser(factor)
        models = [view.model for view in self.levels[level]]
        blocked = hidden_cells(z, coarse, models, workers=self.coarsest.workers)
        return Occlusion(blocked, factor)

    def _sharpened(
        self,
        evaluator: TileEvaluator,
        grid: Grid,
        base: Tensor,
        moved: Tensor,
        occlusion: Occlusion | None,
    ) -> Relief:
        """Heights with the relief that narrower windows show, and again where it moved them."""
        step = RELIEF_PASS.step_px / self._motion(0, grid, base)
        given = (occlusion, RELIEF_PASS, step)
        estimate = refine(evaluator, grid, base, *given, self._advance, tile_side=self.tiles.full)
        sharp = recover(base, moved, estimate, RELIEF_PASS)
        moving = crowded(sharp.moving, grid, SPARSE_TILE_SIDE, _WORTHWHILE)
        refine_again(
            *(evaluator, grid, sharp.z, *given, estimate, moving), tile_side=self.tiles.sparse
        )
        return recover(base, moved, estimate, RELIEF_PASS)

    def _finish(
        self,
        grid: Grid,
        z: Tensor,
        sigma: Tensor,
        confidence: Tensor,
        estimate: Estimate,
        occlusion: Occlusion | None,
    ) -> HeightMap:
        return HeightMap(
            x0=grid.x0,
            y0=grid.y0,
            spacing=grid.spacing,
            z=z,
            sigma=sigma,
            confidence=confidence,
            view_count=torch.where(torch.isfinite(z), estimate.view_count, 0),
            color=orthophoto(
                *(self.views, grid, z, occlusion),
                tile_side=self.tiles.full,
                workers=self.options.workers,
            ),
        )

    def _expect(self, grids: list[Grid]) -> None:
        """Count the steps of work that lie ahead."""
        tiles = [sum(1 for _ in split(grid, self.tiles.full)) for grid in grids]
        passes = [len(LAST_PASSES) + 1] + [len(LEVEL_PASSES)] * (len(grids) - 1)
        coarse = sum(1 for _ in split(grids[-1], self.tiles.coarse))
        ahead = coarse + sum(t * p for t, p in zip(tiles, passes, strict=True))
        self.total = self.done + ahead

    def _advance(self) -> None:
        self.done += 1
        if self.progress is not None and self.total:
            self.progress(min(self.done, self.total), self.total)
