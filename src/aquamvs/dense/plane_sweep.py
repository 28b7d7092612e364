"""Refractive plane sweep, coarse to fine.

Collins (CVPR 1996) swept planes through space; here the planes are parallel to the water surface
and every hypothesis is projected through it. The coarsest level sweeps the whole range; each finer
level moves the surface found so far up and down by a few pixels, so that windows ride on it and a
slope costs nothing. Scores are windowed correlations, the better half of the sources counts, winner
takes all, a parabola gives the fraction of a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..maps import resize_map
from ..pixels import pixel_grid
from ..types import DepthMap, View
from .hypotheses import (
    CoarseGrid,
    Hypotheses,
    PlaneHypotheses,
    RayGrid,
    SurfaceHypotheses,
    pixels_per_metre,
    place_planes,
    plane_depth_range,
)
from .images import GreyView, grey_view
from .prior import smooth_surface
from .selection import Winners, select
from .zncc import zncc

_GRID_SPACING = 8
"""Pixels between exact projections of a plane; the interpolated warp errs by under 0.02 px."""

_FINE_STEP_PX = 0.5
"""The last pass brackets the optimum closely: there a parabola is a good model of the peak."""
_FINE_REACH = 3
"""Half steps on each side in the last pass: more than a pixel-wide pass leaves open."""

_CORRELATED_NOISE = 1.8
"""Interpolation hides part of the sources' noise from the correlation, and a window holds fewer
independent samples than pixels: measured factor between variance and Förstner's formula."""
_FLOOR_PX = 0.03
"""Matching error that no correlation shows: interpolation, calibration, relief in the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneSweepOptions:
    """Options of :class:`PlaneSweep`.

    Attributes:
        scale: Fraction of the resolution at which depth is estimated; the map is then brought to
            the full grid bilinearly, without further matching.
        levels: Resolutions, each half of the next; the first sweeps the whole range.
        window_radius: Windows have 2 radius + 1 pixels a side at every level.
        step_px: Largest image motion between neighbouring hypotheses of the first sweep.
        num_depths: Number of planes of the first sweep, instead of ``step_px``.
        band_px: Reach of the finer levels on each side of the surface found so far, in their own
            pixels.
        min_score: Pixels whose correlation stays below are left out: windows of 49 pixels without
            anything in common reach 0.4 by chance about once in 400 trials.
        min_confidence: Pixels whose confidence stays below are left out: their correlation, or its
            lead over the best rival, is too weak.
        chunk_samples: Samples of one source in memory at a time.
    """

    scale: float = 1.0
    levels: int = 3
    window_radius: int = 3
    step_px: float = 1.0
    num_depths: int | None = None
    band_px: int = 4
    min_score: float = 0.4
    min_confidence: float = 0.2
    chunk_samples: int = 1 << 19

    def __post_init__(self) -> None:
        checks = (
            ("scale", 0 < self.scale <= 1, "in (0, 1]"),
            ("levels", 1 <= self.levels <= 8, "1 to 8"),
            ("window_radius", 1 <= self.window_radius <= 32, "1 to 32"),
            ("step_px", self.step_px > 0, "positive"),
            ("num_depths", self.num_depths is None or self.num_depths >= 3, "at least 3"),
            ("band_px", 1 <= self.band_px <= 64, "1 to 64"),
            ("min_score", 0 <= self.min_score < 1, "in [0, 1)"),
            ("min_confidence", 0 <= self.min_confidence < 1, "in [0, 1)"),
            ("chunk_samples", self.chunk_samples >= 1, "at least 1"),
        )
        for name, holds, wanted in checks:
            if not holds:
                raise ConfigError(
                    f"plane sweep: {name} is {getattr(self, name)!r}; expected {wanted}"
                )


@dataclass(frozen=True, slots=True)
class _Surface:
    """What one level found.

    Attributes:
        plane_depth: shape (H, W), metres; NaN where unknown.
        score: Correlation, shape (H, W).
        lead: How far the winner stands above its best rival in the full sweep, shape (H, W), in
            [0, 1].
        sigma: Of plane depth, shape (H, W), metres; NaN where unknown.
    """

    plane_depth: Tensor
    score: Tensor
    lead: Tensor
    sigma: Tensor

    @property
    def confidence(self) -> Tensor:
        return (self.score.clamp(0, 1) * self.lead).nan_to_num(0.0)

    def resized(self, size: tuple[int, int]) -> "_Surface":
        maps = (self.plane_depth, self.score, self.lead, self.sigma)
        return _Surface(*(resize_map(each, size) for each in maps))


class PlaneSweep:
    """Refractive plane sweep over planes parallel to the water, coarse to fine.

    Args:
        options: Defaults if absent.
    """

    def __init__(self, options: PlaneSweepOptions | None = None) -> None:
        self.options = options or PlaneSweepOptions()

    def estimate(
        self, reference: View, sources: Sequence[View], depth_range: tuple[float, float]
    ) -> DepthMap:
        """Depth map of a view.

        Args:
            reference: View that gets the depth map.
            sources: Views that it is matched with; auxiliary ones are welcome.
            depth_range: Least and greatest ray depth of the scene in this view, metres.

        Returns:
            Ray depth on the reference's grid. NaN where no source sees the pixel, where the
            optimum lies at an end of the range or beyond, or where the views do not correlate.
            ``sigma`` follows from the curvature of the correlation (Förstner 1982) and a floor of
            matching noise through the rig's geometry; ``confidence`` is the correlation times how
            far it stands above its best rival.

        Raises:
            DataError: No sources, or a range that is empty or above the water.
        """
        near, far = depth_range
        if not 0 <= near < far < float("inf"):
            raise DataError(
                f"depth range of {reference.name} is {near} m to {far} m of ray depth; expected "
                "0 <= near < far"
            )
        if not sources:
            raise DataError(f"{reference.name} has no source views to match with")
        surface = self._surface(reference, sources, depth_range) or _unknown(reference)
        surface = surface.resized(reference.size)
        grid = pixel_grid(reference.size, device=reference.image.device)
        descent = RayGrid.cast(reference.model, grid).descent
        depth, sigma = surface.plane_depth / descent, surface.sigma / descent
        known = (
            reference.mask
            & (depth >= near)
            & (depth <= far)
            & (surface.score >= self.options.min_score)
            & (surface.confidence >= self.options.min_confidence)
            & torch.isfinite(sigma)
        )
        return DepthMap(
            camera=reference.name,
            depth=torch.where(known, depth, torch.nan),
            confidence=torch.where(known, surface.confidence, 0.0),
            sigma=torch.where(known, sigma, torch.nan),
            K=reference.model.K.double(),
        )

    def _surface(
        self, reference: View, sources: Sequence[View], depth_range: tuple[float, float]
    ) -> _Surface | None:
        """All levels, coarse to fine, and a last pass with finer steps; None if nothing is seen."""
        options = self.options
        surface: _Surface | None = None
        for level in reversed(range(options.levels)):
            factor = options.scale * 0.5**level
            view = grey_view(reference, factor)
            others = [grey_view(source, factor) for source in sources]
            if level == options.levels - 1:
                surface = self._sweep_range(view, others, depth_range)
            else:
                surface = self._sweep_band(view, others, surface, 1.0, options.band_px)
            if level == 0:
                surface = self._sweep_band(view, others, surface, _FINE_STEP_PX, _FINE_REACH)
            if surface is None:
                return None
        return surface

    def _sweep_range(
        self, view: GreyView, sources: list[GreyView], depth_range: tuple[float, float]
    ) -> _Surface | None:
        grid = CoarseGrid.build(view.size, _GRID_SPACING, view.grey.device)
        rays = RayGrid.cast(view.model, grid.pixels)
        planes = place_planes(
            rays,
            sources,
            plane_depth_range(rays, depth_range),
            step_px=self.options.step_px,
            count=self.options.num_depths,
        )
        if planes is None:
            return None
        plane_depth, winners = self._sweep(
            view, sources, PlaneHypotheses(grid, rays, sources, planes)
        )
        lead = ((winners.score - winners.rival) / (1 - winners.rival)).clamp(0, 1)
        return _Surface(plane_depth, winners.score, lead, torch.full_like(plane_depth, torch.nan))

    def _sweep_band(
        self,
        view: GreyView,
        sources: list[GreyView],
        found: _Surface | None,
        step_px: float,
        half_count: int,
    ) -> _Surface | None:
        if found is None or not bool((found.confidence > 0).any()):
            return None
        prior = resize_map(smooth_surface(found.plane_depth, found.confidence), view.size)
        rays = RayGrid.cast(view.model, pixel_grid(view.size, device=prior.device))
        speed = pixels_per_metre(rays, sources, prior)
        step = step_px / torch.where(speed > 0, speed, torch.nan)
        hypotheses = SurfaceHypotheses(view, rays, sources, prior, step, half_count)
        plane_depth, winners = self._sweep(view, sources, hypotheses)
        lead = resize_map(found.lead.nan_to_num(0.0), view.size)
        noise = self._sigma_steps(winners) * step
        sigma = torch.hypot(noise, _FLOOR_PX / speed)
        sigma = torch.where(winners.bracketed, sigma, torch.nan)
        return _Surface(plane_depth, winners.score, lead, sigma)

    def _sigma_steps(self, winners: Winners) -> Tensor:
        """Standard deviation of the winner in steps.

        Förstner (ISPRS 1982): the variance of a shift is (1 - ρ) / (n |ρ''|) per noisy image. The
        reference's own noise averages out over the sources like theirs, because they lie in
        different directions.
        """
        pixels = (2 * self.options.window_radius + 1) ** 2
        images = 2 / winners.sources
        variance = _CORRELATED_NOISE * images * (1 - winners.score) / (pixels * winners.curvature)
        return variance.clamp(min=0).sqrt()

    def _sweep(
        self, view: GreyView, sources: list[GreyView], hypotheses: Hypotheses
    ) -> tuple[Tensor, Winners]:
        """Plane depth of the winners and what is known about them, in stripes of rows."""
        width, height = view.size
        radius = self.options.window_radius
        stripe = max(1, self.options.chunk_samples // (hypotheses.count * width))
        depths, found = [], []
        for start in range(0, height, stripe):
            stop = min(height, start + stripe)
            outer = slice(max(0, start - radius), min(height, stop + radius))
            inner = slice(start - outer.start, stop - outer.start)
            grey = view.grey[outer]
            scores = [
                zncc(grey, source.sample(hypotheses.warp(number, outer)), radius)[:, inner]
                for number, source in enumerate(sources)
            ]
            winners = select(torch.stack(scores))
            depths.append(hypotheses.plane_depth(winners.index, slice(start, stop)))
            found.append(winners)
        return torch.cat(depths), Winners.cat(found)


def _unknown(view: View) -> _Surface:
    nothing = torch.full_like(view.image[..., 0], torch.nan)
    return _Surface(nothing, nothing, nothing, nothing)
