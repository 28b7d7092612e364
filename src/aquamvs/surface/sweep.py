"""The surface sweep: a refractive rig's height map by object-space matching, coarse to fine.

1. The coarsest level finds the height range by itself, then the best horizontal plane per cell.
2. Every finer level moves the current surface up and down by a few pixels and keeps, per cell, the
   height at which the views agree best; windows ride on the surface, so slopes cost nothing.
3. Beside a jump, the surfaces on both sides compete for every cell. Cells that the images do not
   fix are bridged from their neighbours before the next pass.
4. Cameras whose ray the surface blocks, and views that disagree, leave the mean.
5. A parabola gives the fraction of a step. Differences between neighbours that are no larger than
   noise are smoothed out, before the last pass and after it; walls and slopes stay.
6. Heights settle on planes of several sizes as far as these miss no relief; between passes the
   planes also bridge what the images do not fix.
7. Sigma comes from what smoothing took away (neighbouring estimates scatter by their error) and
   from how far the planes are trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, StageError
from ..numerics.filters import (
    fill_gaps,
    gaussian_taps,
    halve,
    isolated,
    local_rms,
    median3,
    smooth_pairs,
    specks,
    upsample,
)
from ..numerics.pyramid import LevelView, build_pyramid, level_count
from ..types import HeightMap, UndistortedViews
from .evaluator import Pass, TileEvaluator, create_evaluator, working_bytes
from .grid import Grid, footprint, grid_over, median_gsd
from .orthophoto import orthophoto
from .planes import settle
from .refine import TILE_SIDE, Estimate, motion_per_metre, refine, reselect
from .search import (
    COARSE_STEP_PX,
    COARSE_TILE_SIDE,
    RANGE_STEP_PX,
    HeightRange,
    coarse_heights,
    find_height_range,
    plane_heights,
)
from .tiles import split
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

_CARRY_SPREAD = 0.4
"""Cells that agree less than this are bridged from their neighbours before the next pass."""
_LOOSEST_CARRY_PX = 0.5
"""Likewise cells that the images fix no better than this: where there is no texture, noise would
lead the surface astray, and with it the windows at the texture's edge."""
_LEAST_OWN_TEXTURE = 0.1
"""A cell with less than this share of its window's texture has borrowed its height."""
_BOTH = 0.99
"""Of an upsampled mask: all the cells that it was made of are in it."""
_CHANCE_SIGMAS = 4.5
"""A cell counts as matched if its mean ZNCC exceeds chance by this many standard deviations."""
_LOOSEST_MATCH_PX = 0.45
"""A minimum so flat or so noisy that it fixes the image motion no better is no match."""
_STRAY = 4.0
"""A cell that stands this many cells off the median of its neighbours is a stray match: no
surface that a window resolves does that."""
_LEAST_ISLAND = 50
"""Cut-off pieces of fewer cells are chance matches: about the area of one matching window."""
_SIGNIFICANT = 6.0
"""A height difference above this many times the noise is relief, which smoothing leaves alone."""
_CARRY_SIGMA = 2.0
"""Smoothing of the surface on which the last windows ride, cells: a window moves as a whole, so
that what is rough within it would stay."""
_FINAL_SIGMA = 1.5
"""Smoothing of the result, cells: as wide as the matching window, whose detail is noise."""
_SCATTER_SIGMA = 3.0
"""Window over which the estimates' scatter is measured, cells."""
_SCATTER_SCALE = 2.1
"""Noise of a smoothed cell over the roughness that the smoothing took away: measured on the bower,
box, low-texture and in-air scenes of seeds 0 and 1."""
_COMMON_ERROR_PX = 0.02
"""Error that neighbours share and scatter does not show. Between passes it keeps cells of little
scatter from pulling the planes: without it a bower lost 4 % of its cells."""
_LEAST_ERROR_PX = 0.005
"""No matching is better. A few cells that happen to scatter by nothing would pull the planes
around them centimetres off."""
_OWN_EXCESS, _PLANE_EXCESS = 2.3, 1.2
"""Squared error over the variance that scatter explains, of what a cell keeps of its own height and
of what it takes from planes: where it keeps its own, matching has smoothed the relief, which no
scatter shows. Fitted to bower, box, low-texture and in-air scenes of seeds 0 and 1 (seven), where
65 to 74 % of the errors then lie within 1 sigma and 92 to 96 % within 2."""


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
            time, and give the same bytes.
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
    tile_side: int = TILE_SIDE
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.spacing is not None and not self.spacing > 0:
            raise ConfigError(f"spacing is {self.spacing}; expected a positive length in metres")
        if self.tile_side < _LEAST_TILE_SIDE:
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
        self.coarsest = self._evaluator(self.level_count - 1)
        self.done = self.total = 0

    def run(self) -> HeightMap:
        """Range, coarse map, finer levels, quality."""
        grids, z = self._coarse()
        estimate, occlusion = self._refine(grids, z)
        self.levels.clear()  # what follows needs memory, and no pyramids
        return self._finish(grids[0], estimate, occlusion)

    def _evaluator(self, level: int, *, cubic: bool = False) -> TileEvaluator:
        """Of a level, held to the wanted number of workers."""
        evaluator = create_evaluator(self.levels[level], cubic=cubic)
        if self.options.workers is not None:
            evaluator.workers = min(evaluator.workers, self.options.workers)
        return evaluator

    def _coarse(self) -> tuple[list[Grid], Tensor]:
        """Grids of all levels, and the coarsest level's best planes without gaps."""
        coarsest = self.levels[-1]
        found = self._search_range()
        height_range = (found.low, found.high)
        box = self.options.region_of_interest or footprint(self.views.views, height_range)
        spacing = self.options.spacing or median_gsd(self.views.views, found.typical)
        grid = grid_over(box, spacing)
        grids = [grid.coarser(2**level) for level in range(self.level_count)]
        heights = plane_heights(coarsest, grids[-1], height_range, COARSE_STEP_PX)
        self._expect(grids)
        planes = torch.tensor(heights, dtype=torch.float32, device=coarsest[0].gray.device)
        side = self._coarse_tile_side()
        z = coarse_heights(self.coarsest, grids[-1], planes, self._advance, tile_side=side)
        return grids, _without_gaps(median3(z))

    def _refine(self, grids: list[Grid], z: Tensor) -> tuple[Estimate, Occlusion | None]:
        """All passes of all levels: the last estimate, and the occlusion that it knew of."""
        estimate: Estimate | None = None
        previous: Pass | None = None
        rode_on = 0.0
        occlusion: Occlusion | None = None
        for level in reversed(range(self.level_count)):
            is_coarsest = level == self.level_count - 1
            evaluator = self.coarsest if is_coarsest else self._evaluator(level)
            grid, motion = grids[level], 0.0
            for plan in LAST_PASSES if level == 0 else LEVEL_PASSES:
                trusted, matched = 0.0, torch.ones_like(z, dtype=torch.bool)
                if estimate is not None and previous is not None:
                    trusted = _trusted_spread(estimate)
                    matched = estimate.spread < trusted
                    reach = _CARRY_SIGMA if plan is LAST_PASSES[-1] else None
                    z = _carried(estimate, previous, rode_on, reach)
                if z.shape != grid.shape:
                    z = upsample(z, grid.shape)
                    matched = upsample(matched.to(z), grid.shape) > _BOTH
                motion = motion or self._motion(level, grid, z)
                if not is_coarsest:  # planes know no relief yet
                    reach = LEVEL_PASSES[0].reach_px / motion
                    side = self.options.tile_side
                    z = reselect(evaluator, grid, z, matched, reach, trusted, tile_side=side)
                    occlusion = self._occlusion(z, grid, level)
                if plan.cubic:
                    evaluator = self._evaluator(level, cubic=True)
                step = plan.step_px / motion
                estimate = refine(
                    evaluator,
                    *(grid, z, occlusion, plan, step, self._advance),
                    tile_side=self.options.tile_side,
                )
                previous, rode_on = plan, grid.spacing
        assert estimate is not None  # noqa: S101  (there is at least one level)
        return estimate, occlusion

    def _search_range(self) -> HeightRange:
        """The surface's range: the given one, or where in the water the views match."""
        model = self.views.views[0].model
        top = model.water_z + (_WATER_CLEARANCE if model.is_refractive else 0.0)
        given = self.options.height_range
        widest = given or (top, model.water_z + _DEEPEST_WATER)
        box = self.options.region_of_interest or footprint(self.views.views, widest)
        spacing = median_gsd(self.views.views, widest[0]) * 2 ** (self.level_count - 1)
        grid = grid_over(box, spacing)
        heights = plane_heights(self.levels[-1], grid, widest, RANGE_STEP_PX)
        found = find_height_range(self.coarsest, grid, heights, self._advance)
        if given is not None:
            return HeightRange(*given, sum(given) / 2 if found is None else found.typical)
        if found is None:
            raise StageError(
                f"the views match nowhere between z = {heights[0]:.3f} m and {heights[-1]:.3f} m; "
                "check that the images are of one instant and belong to the calibration, or set "
                "reconstruction.height_range"
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
        blocked = [hidden_cells(z, coarse, view.model) for view in self.levels[level]]
        return Occlusion(torch.stack(blocked), factor)

    def _finish(self, grid: Grid, estimate: Estimate, occlusion: Occlusion | None) -> HeightMap:
        samples = _window_samples(LAST_PASSES[-1])
        zncc = 1 - estimate.spread
        pairs = (estimate.effective_views * (estimate.effective_views - 1) / 2).clamp(min=1e-3)
        chance = _CHANCE_SIGMAS / (samples * pairs).sqrt()
        matched = torch.isfinite(estimate.z) & (zncc > chance) & (estimate.curvature > 0)
        matched &= (estimate.own_texture > _LEAST_OWN_TEXTURE) & (estimate.spread < _CARRY_SPREAD)
        limit = _insignificant(estimate, LAST_PASSES[-1], grid.spacing)
        smoothed = smooth_pairs(estimate.z, limit, _FINAL_SIGMA)
        noise = _height_noise(estimate, LAST_PASSES[-1], estimate.z - smoothed)
        matched &= noise * estimate.lever < _LOOSEST_MATCH_PX
        variance = torch.where(matched, _variance(estimate, noise, _LEAST_ERROR_PX), torch.inf)
        smoothed, own, planes = settle(smoothed, variance, grid.spacing)
        sigma = (_OWN_EXCESS * own + _PLANE_EXCESS * planes).sqrt()
        jump = _STRAY * grid.spacing
        matched &= ~isolated(torch.where(matched, smoothed, torch.nan), jump)
        matched &= ~specks(torch.where(matched, smoothed, torch.nan), jump, _LEAST_ISLAND)
        z = torch.where(matched, smoothed, torch.nan)
        return HeightMap(
            x0=grid.x0,
            y0=grid.y0,
            spacing=grid.spacing,
            z=z,
            sigma=torch.where(matched, sigma, torch.nan),
            confidence=torch.where(matched, zncc.clamp(0, 1), 0.0),
            view_count=torch.where(matched, estimate.view_count, 0),
            color=orthophoto(
                *(self.views, grid, z, occlusion),
                tile_side=self.options.tile_side,
                workers=self.options.workers,
            ),
        )

    def _expect(self, grids: list[Grid]) -> None:
        """Count the steps of work that lie ahead."""
        tiles = [sum(1 for _ in split(grid, self.options.tile_side)) for grid in grids]
        passes = [len(LAST_PASSES)] + [len(LEVEL_PASSES)] * (len(grids) - 1)
        coarse = sum(1 for _ in split(grids[-1], self._coarse_tile_side()))
        ahead = coarse + sum(t * p for t, p in zip(tiles, passes, strict=True))
        self.total = self.done + ahead

    def _coarse_tile_side(self) -> int:
        return min(COARSE_TILE_SIDE, self.options.tile_side)

    def _advance(self) -> None:
        self.done += 1
        if self.progress is not None and self.total:
            self.progress(min(self.done, self.total), self.total)


def _without_gaps(z: Tensor) -> Tensor:
    if not bool(torch.isfinite(z).any()):
        raise StageError("no two views agree anywhere in the region; check images and calibration")
    return fill_gaps(z)


def _carried(estimate: Estimate, plan: Pass, spacing: float, reach: float | None) -> Tensor:
    """The surface on which the next pass rides: matched cells, smoothed, and planes between."""
    kept = torch.where(_fixed(estimate, plan), estimate.z, torch.nan)
    if plan.shift:
        kept = median3(kept)
    limit = _insignificant(estimate, plan, spacing)
    smoothed = smooth_pairs(kept, limit, _FINAL_SIGMA if reach is None else reach)
    noise = _height_noise(estimate, plan, kept - smoothed)
    variance = _variance(estimate, noise, _COMMON_ERROR_PX)
    return _without_gaps(settle(kept if reach is None else smoothed, variance, spacing)[0])


def _variance(estimate: Estimate, noise: Tensor, error_px: float) -> Tensor:
    """Variance of the heights with an error that scatter does not show; m².

    Only a share of a cell's height is its own; the rest is that of textured neighbours.
    """
    hidden = error_px / estimate.lever.clamp(min=1e-6)
    return (noise**2 + hidden**2) / estimate.own_texture.clamp(_LEAST_OWN_TEXTURE, 1.0)


def _trusted_spread(estimate: Estimate) -> float:
    """Spread below which a cell agrees about as well as most of the map does."""
    known = estimate.spread[torch.isfinite(estimate.z)]
    return min(3 * float(known.median()) + 0.05, 0.5)


def _window_samples(plan: Pass) -> float:
    """Cells that a matching window averages, as an effective number."""
    return 1 / sum(tap * tap for tap in gaussian_taps(plan.window_sigma)) ** 2


def _noise(estimate: Estimate, plan: Pass) -> Tensor:
    """Height noise if the views' residuals were independent from cell to cell, metres.

    The parabola's vertex has the variance of the mean residual over the curvature.
    """
    freedom = (estimate.effective_views - 1).clamp(min=0.5)
    return (2 * estimate.spread / (estimate.curvature * freedom * _window_samples(plan))).sqrt()


def _fixed(estimate: Estimate, plan: Pass) -> Tensor:
    """Cells whose views agree, and fix the height: others are better bridged than carried on."""
    motion = _SCATTER_SCALE * _noise(estimate, plan) * estimate.lever
    own = estimate.own_texture > _LEAST_OWN_TEXTURE
    return own & (estimate.spread < _CARRY_SPREAD) & (motion < _LOOSEST_CARRY_PX)


def _insignificant(estimate: Estimate, plan: Pass, spacing: float) -> Tensor:
    """Height difference within a window that may be noise, metres: at least a cell's size."""
    noise = _noise(estimate, plan)
    noise = torch.where(torch.isfinite(noise), noise, 0.0)
    return (_SIGNIFICANT * noise).clamp(min=spacing, max=_SIGNIFICANT * spacing)


def _height_noise(estimate: Estimate, plan: Pass, roughness: Tensor) -> Tensor:
    """1-sigma noise of the heights from what a smoothing took away, metres.

    Residuals are correlated from cell to cell (texture, interpolation), by how much depends on the
    scene; what neighbouring estimates differ by shows it.
    """
    known = torch.isfinite(roughness) & (roughness != 0)
    scatter = local_rms(roughness, known, _SCATTER_SIGMA)
    return _SCATTER_SCALE * torch.where(torch.isfinite(scatter), scatter, _noise(estimate, plan))
