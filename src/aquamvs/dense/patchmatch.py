"""PatchMatch through water: a slanted plane for every pixel, coarse to fine.

1. At the coarsest resolution a sweep of level planes, cut short where seeds fit.
2. At every resolution, checkerboard passes: each pixel tries the planes of the best pixels around
   it, the plane of the smoothed map, and random changes of its own (Bleyer, Rhemann and Rother,
   BMVC 2011; Galliani, Lasinger and Schindler, ICCV 2015; Xu and Tao, CVPR 2019).
3. Each pixel weighs its sources by how well they agree with the best of them, so that one which
   does not see the surface has no say (in the spirit of Schönberger et al., ECCV 2016).
4. At the full resolution, a parabola for the fraction of a pixel, which beside steps a small window
   measures after a contest of the planes on both sides, and smoothing of what is not significant.
   Depths settle on planes of several sizes as far as these miss no relief.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..maps import grid_normals
from ..numerics.filters import extreme, fill_gaps, median3
from ..numerics.pyramid import LevelView, build_pyramid, level_count
from ..types import DepthMap, View
from .patches import (
    LEAST_FACING,
    LEAST_WEIGHT,
    PatchMatcher,
    PlaneMap,
    RayField,
    Trials,
    Window,
    combine,
    create_patch_matcher,
)
from .planes import image_motion, prior_depth, sweep_planes
from .quality import finish

_TOLERATED_COST = 0.3
"""A source whose cost exceeds the best one's by this has half its weight."""
_CARRIED_COST = 0.6
"""Pixels that cost more do not shape the smoothed map that all pixels try."""
_MOTION_STRIDE = 4
"""Image motion changes slowly: every fourth pixel and row is computed."""
_SAME_SURFACE_PX = 1.0
"""Image motion within which the smoothed map is taken for the pixel's own surface."""
_SETTLED_GAIN, _SPREAD_RADIUS = 0.02, 2
"""Cost that a pass must have gained, and how near, px, for another pass to be tried. On two views
each of a bower and of boxes of seed 0, two thirds of the pixels then rest in the second pass at the
full resolution, and as many lie within 2 mm of the truth; with 0.08, fewer."""
_SEED = 0


@dataclass(frozen=True, slots=True)
class _Schedule:
    """Passes of one resolution.

    Attributes:
        passes: Checkerboard iterations.
        trials: Random changes that each pixel tries in each.
        depth_px: Their size in the first pass, px of image motion; it halves from pass to pass.
        tilt: Change of the unit normal, likewise.
    """

    passes: int
    trials: int
    depth_px: float
    tilt: float


_COARSEST = _Schedule(passes=3, trials=3, depth_px=2.0, tilt=0.5)
_MIDDLE = _Schedule(passes=2, trials=2, depth_px=1.0, tilt=0.2)
_FINEST = _Schedule(passes=2, trials=1, depth_px=1.0, tilt=0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchMatchOptions:
    """Options of :class:`PatchMatch`.

    Attributes:
        window_radius: Windows have 2 radius + 1 pixels a side at every resolution.
        num_depths: Planes of the first sweep; None: as many as steps of a pixel need.
        min_confidence: Pixels whose confidence (their weighted NCC) stays below are left out.

    Example:
        >>> from aquamvs.dense import PatchMatchOptions
        >>> PatchMatchOptions(window_radius=4).min_confidence
        0.4
    """

    window_radius: int = 3
    num_depths: int | None = None
    min_confidence: float = 0.4

    def __post_init__(self) -> None:
        checks = (
            ("window_radius", 1 <= self.window_radius <= 32, "1 to 32"),
            ("num_depths", self.num_depths is None or self.num_depths >= 3, "at least 3"),
            ("min_confidence", 0 <= self.min_confidence < 1, "in [0, 1)"),
        )
        for name, holds, wanted in checks:
            if not holds:
                raise ConfigError(
                    f"PatchMatch: {name} is {getattr(self, name)!r}; expected {wanted}"
                )


class _Changes:
    """Random changes of planes: of depth alone, of the normal alone, and of both, in turn.

    The processor draws them, so that every device gets the same, and begins anew for every view.
    Views of one size get the same, which is kept for a device that would wait for the processor.

    Args:
        device: Where they are wanted.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._generator = torch.Generator().manual_seed(_SEED)
        self._kept: list[tuple[Tensor, Tensor]] = []

    def draw(self, number: int, trials: int, count: int) -> tuple[Tensor, Tensor]:
        """The next standard normal changes, or those that another view got.

        Args:
            number: How many draws the view has had.
            trials: Number of changes for each pixel.
            count: Number of pixels.

        Returns:
            Of the depth, shape (trials, count), and of the normal, shape (trials, count, 3); all of
            one kind are 0 where only the other changes.
        """
        if number < len(self._kept):
            return self._kept[number]
        steps = torch.randn(trials, count, generator=self._generator)
        tilts = torch.randn(trials, count, 3, generator=self._generator)
        tilts[0::3] = 0
        steps[1::3] = 0
        changes = steps.to(self._device), tilts.to(self._device)
        if self._device.type != "cpu":
            self._kept.append(changes)
        return changes


class PatchMatch:
    """Refractive PatchMatch; see the module.

    Args:
        options: Defaults if absent.

    Example:
        >>> from aquamvs.dense import PatchMatch, PatchMatchOptions
        >>> engine = PatchMatch(PatchMatchOptions(window_radius=2))
        >>> depth_map = engine.estimate(views["cam0"], [views["cam1"], views["cam2"]], (0.2, 0.5))
        >>> tuple(depth_map.depth.shape)
        (150, 200)
    """

    def __init__(self, options: PatchMatchOptions | None = None) -> None:
        self.options = options or PatchMatchOptions()
        self._changes: dict[tuple[torch.device, tuple[int, int]], _Changes] = {}

    def estimate(
        self,
        reference: View,
        sources: Sequence[View],
        depth_range: tuple[float, float],
        seeds: Tensor | None = None,
    ) -> DepthMap:
        """Depth map of a view.

        Args:
            reference: View that gets the depth map.
            sources: Views that it is matched with; auxiliary ones are welcome.
            depth_range: Least and greatest ray depth of the scene in this view, metres.
            seeds: Points near the surface, world frame, shape (M, 3), metres. Good ones save time;
                bad ones are outbid.

        Returns:
            Ray depth on the reference's grid; NaN where no source sees the pixel or the views do
            not match. ``confidence`` is the weighted NCC, ``sigma`` the 1-sigma uncertainty.

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
        device = reference.image.device
        changes = _Changes(device)
        if device.type != "cpu":
            changes = self._changes.setdefault((device, reference.size), changes)
        with torch.inference_mode():
            return _Estimation(reference, sources, depth_range, seeds, self.options, changes).run()


class _Estimation:
    """State of one depth map's estimation."""

    def __init__(
        self,
        reference: View,
        sources: Sequence[View],
        depth_range: tuple[float, float],
        seeds: Tensor | None,
        options: PatchMatchOptions,
        changes: _Changes,
    ) -> None:
        self.reference, self.depth_range = reference, depth_range
        self.seeds, self.options = seeds, options
        levels = level_count(min(reference.size))
        self.views = build_pyramid(reference, levels)
        self.others = [build_pyramid(source, levels) for source in sources]
        self.window = Window.gaussian(options.window_radius)
        self.changes, self.drawn = changes, 0

    def run(self) -> DepthMap:
        """All resolutions, then the finish."""
        matcher = self._matcher(len(self.views) - 1)
        planes = self._first_planes(matcher, self.views[-1])
        if planes is None:
            return _nothing(self.reference)
        for level in reversed(range(len(self.views))):
            if level < len(self.views) - 1:
                coarse, matcher = matcher, self._matcher(level)
                planes = _refined(planes, coarse.rays, matcher.rays, self.depth_range)
            plan = _FINEST if level == 0 else _MIDDLE
            if level == len(self.views) - 1:
                plan = _COARSEST
            weights = self._optimise(matcher, planes, plan)
        return self._depth_map(matcher, planes, weights)

    def _depth_map(self, matcher: PatchMatcher, planes: PlaneMap, weights: Tensor) -> DepthMap:
        motion = _motion(matcher, planes.depth)
        planes.normal = _regular_normals(matcher, planes, motion)
        found = finish(matcher, planes, weights, motion, self.window)
        near, far = self.depth_range
        known = (
            self.reference.mask
            & (found.depth >= near)
            & (found.depth <= far)
            & (found.confidence >= self.options.min_confidence)
        )
        return DepthMap(
            camera=self.reference.name,
            depth=torch.where(known, found.depth, torch.nan),
            confidence=torch.where(known, found.confidence, 0.0),
            sigma=torch.where(known, found.sigma, torch.nan),
            K=self.reference.model.K.double(),
        )

    def _matcher(self, level: int) -> PatchMatcher:
        return create_patch_matcher(
            self.views[level], [pyramid[level] for pyramid in self.others], self.window
        )

    def _first_planes(self, matcher: PatchMatcher, view: LevelView) -> PlaneMap | None:
        prior = None if self.seeds is None else prior_depth(matcher.rays, view, self.seeds)
        depth = sweep_planes(matcher, self.depth_range, count=self.options.num_depths, prior=prior)
        if depth is None:
            return None
        near, far = self.depth_range
        normal = matcher.rays.up.expand(len(depth), 3).clone()
        return PlaneMap(depth.clamp(near, far), normal, torch.full_like(depth, torch.inf))

    def _optimise(self, matcher: PatchMatcher, planes: PlaneMap, plan: _Schedule) -> Tensor:
        """The checkerboard passes of one resolution; returns the weights of the sources."""
        width, _ = matcher.rays.size
        pixels = matcher.rays.pixels()
        dark = (pixels // width + pixels % width) % 2 == 0
        speed = _motion(matcher, planes.depth)
        weights = _weights(matcher, planes)
        active = torch.ones_like(dark)
        for number in range(plan.passes):
            depth, normal = _smoothed(matcher.rays, planes)
            scale = 0.5**number
            before = planes.cost.clone()
            for colour in (pixels[dark], pixels[~dark]):
                steps, tilts = self.changes.draw(self.drawn, plan.trials, len(colour))
                self.drawn += 1
                chosen = active[colour]
                colour, steps, tilts = colour[chosen], steps[:, chosen], tilts[:, chosen]
                if len(colour) == 0:
                    continue
                trials = Trials(
                    depth[None],
                    normal[None],
                    scale * plan.depth_px * steps / speed[colour],
                    scale * plan.tilt * tilts,
                )
                matcher.improve(planes, colour, weights, trials, self.depth_range)
            if number + 1 < plan.passes:
                active = _unsettled(matcher.rays, before - planes.cost)
        return weights


def _unsettled(rays: RayField, gain: Tensor) -> Tensor:
    """Pixels near to where the last pass gained something in cost, shape (P,), bool."""
    width, height = rays.size
    gained = (~(gain <= _SETTLED_GAIN)).to(gain).reshape(height, width)
    return (extreme(gained, _SPREAD_RADIUS) > 0).reshape(-1)


def _weights(matcher: PatchMatcher, planes: PlaneMap) -> Tensor:
    """Weight of each source for each pixel, shape (P, S); brings the planes' costs up to date."""
    pixels = matcher.rays.pixels()
    everyone = torch.ones(len(pixels), len(matcher.sources), dtype=torch.bool, device=pixels.device)
    costs = matcher.costs(pixels, planes.depth[None], planes.normal[None], everyone)[..., 0]
    best = costs.nan_to_num(torch.inf).min(1, keepdim=True).values
    weights = (1 / (1 + ((costs - best) / _TOLERATED_COST) ** 2)).nan_to_num(0.0)
    asked = torch.where(weights >= LEAST_WEIGHT, weights, 0.0)
    planes.cost = combine(costs[..., None], asked)[:, 0]
    return weights


def _motion(matcher: PatchMatcher, depth: Tensor) -> Tensor:
    """Greatest image motion in any source, px per metre of ray depth, shape (P,)."""
    width, height = matcher.rays.size
    first = _MOTION_STRIDE // 2
    rows = torch.arange(min(first, height - 1), height, _MOTION_STRIDE, device=depth.device)
    columns = torch.arange(min(first, width - 1), width, _MOTION_STRIDE, device=depth.device)
    pixels = (rows[:, None] * width + columns).reshape(-1)
    rate = image_motion(matcher.rays, matcher.sources, pixels, depth[pixels]).norm(dim=-1)
    fastest = rate.nan_to_num(0.0).amax(0)
    fastest = torch.where(fastest > 0, fastest, fastest.max().clamp(min=1.0))
    row = (torch.arange(height, device=depth.device) // _MOTION_STRIDE).clamp(max=len(rows) - 1)
    column = (torch.arange(width, device=depth.device) // _MOTION_STRIDE).clamp(
        max=len(columns) - 1
    )
    return fastest.reshape(len(rows), len(columns))[row][:, column].reshape(-1)


def _smoothed(rays: RayField, planes: PlaneMap) -> tuple[Tensor, Tensor]:
    """The map without outliers and gaps, and its normals: a plane for every pixel to try."""
    width, height = rays.size
    trusted = torch.where(planes.cost < _CARRIED_COST, planes.depth, torch.nan)
    if not bool(torch.isfinite(trusted).any()):
        return planes.depth, planes.normal
    depth = fill_gaps(median3(trusted.reshape(height, width))).reshape(-1)
    points = rays.points(rays.pixels(), depth).reshape(height, width, 3)
    towards = -rays.direction.reshape(height, width, 3)
    normal = grid_normals(points, towards, radius=2).reshape(-1, 3)
    return depth, normal


def _regular_normals(matcher: PatchMatcher, planes: PlaneMap, motion: Tensor) -> Tensor:
    """Normals of the smoothed map wherever it runs through the pixels' planes, shape (P, 3).

    At the border of an image, and where texture lies on one side, a window's own normal is loose
    and drags its depth along.
    """
    depth, normal = _smoothed(matcher.rays, planes)
    near = ((depth - planes.depth) * motion).abs() < _SAME_SURFACE_PX
    facing = -(normal * matcher.rays.direction).sum(-1) >= LEAST_FACING
    return torch.where((near & facing)[:, None], normal, planes.normal)


def _refined(
    planes: PlaneMap, coarse: RayField, fine: RayField, depth_range: tuple[float, float]
) -> PlaneMap:
    """Planes of the next resolution: each pixel's ray met with its coarse pixel's plane."""
    width, height = fine.size
    coarse_width, coarse_height = coarse.size
    row = (torch.arange(height, device=planes.depth.device) // 2).clamp(max=coarse_height - 1)
    column = (torch.arange(width, device=planes.depth.device) // 2).clamp(max=coarse_width - 1)
    parent = (row[:, None] * coarse_width + column).reshape(-1)
    normal = planes.normal[parent]
    depth = fine.meet(fine.pixels(), coarse.points(parent, planes.depth[parent]), normal)
    near, far = depth_range
    facing = -(normal * fine.direction).sum(-1)
    usable = (facing >= LEAST_FACING) & (depth >= near) & (depth <= far)
    depth = torch.where(usable, depth, planes.depth[parent])
    normal = torch.where(usable[:, None], normal, -fine.direction)
    return PlaneMap(depth, normal, planes.cost[parent])


def _nothing(view: View) -> DepthMap:
    unknown = torch.full(view.mask.shape, torch.nan, device=view.image.device)
    return DepthMap(
        view.name, unknown, torch.zeros_like(unknown), unknown.clone(), view.model.K.double()
    )
