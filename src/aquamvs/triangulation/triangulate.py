"""The triangulation stage: tracks to a sparse cloud with quality gates and covariance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ConfigError, DataError, StageError
from ..pixels import to_normalized
from ..projection import RefractiveProjectionModel
from ..types import Matches, UndistortedViews
from .cloud import SparseCloud
from .grow import GrowthOptions, grow_tracks, join_refined
from .outliers import drop_outliers
from .refine import RefinedTracks, RefinementOptions, grey_layers, refine_tracks
from .solver import Rays, Solution, cast_rays, depth_below_surface, solve_tracks
from .tracks import Tracks, build_tracks

_LEAST_PIXEL_SIGMA = 1e-3
"""Floor of the estimated pixel noise, px: a keypoint is stored in float32, to about 1e-4 px."""

_CONFIRMING_VIEWS = 3
"""Refined observations that a point needs where so many views should see it: two rays meet wherever
a wrong match lies on its curve, three do not."""

_ANGLE_BLOCK = 1 << 12
"""Tracks whose rays are compared with each other at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriangulationOptions:
    """Quality gates.

    Attributes:
        max_reprojection_error_px: Largest residual of any observation of a point.
        min_ray_angle_deg: Least angle between the two most different refracted rays.
        min_views: Least number of views.
        min_depth: Least depth below the water surface, metres; None: no limit beyond the physical
            one (under water where the rig is refractive).
        max_depth: Largest depth below the water surface, metres; None: no limit.
        pixel_sigma: 1-sigma noise of one pixel coordinate, for the covariance; None: estimated.
        refinement: Least-squares matching of every point in all the views that see it; None keeps
            the observations as they are.
        growth: After the refinement, further points between those that several views confirm;
            None adds none.

    Example:
        >>> from aquamvs.triangulation import TriangulationOptions
        >>> TriangulationOptions(min_views=3, max_depth=0.6).min_ray_angle_deg
        1.0
    """

    max_reprojection_error_px: float = 2.0
    min_ray_angle_deg: float = 1.0
    min_views: int = 2
    min_depth: float | None = None
    max_depth: float | None = None
    pixel_sigma: float | None = None
    refinement: RefinementOptions | None = None
    growth: GrowthOptions | None = None

    def __post_init__(self) -> None:
        if not self.max_reprojection_error_px > 0:
            raise ConfigError(
                f"max_reprojection_error_px is {self.max_reprojection_error_px}; expected a "
                "positive number"
            )
        if self.min_views < 2:
            raise ConfigError(f"min_views is {self.min_views}; expected at least 2")
        shallowest, deepest = self.min_depth, self.max_depth
        if shallowest is not None and deepest is not None and not shallowest < deepest:
            raise ConfigError(
                f"min_depth is {shallowest} m and max_depth {deepest} m; expected "
                "min_depth < max_depth"
            )
        if self.pixel_sigma is not None and not self.pixel_sigma > 0:
            raise ConfigError(f"pixel_sigma is {self.pixel_sigma}; expected a positive number")


def triangulate(
    views: UndistortedViews,
    tracks: Tracks | Sequence[Matches],
    options: TriangulationOptions | None = None,
) -> SparseCloud:
    """Triangulate points through water from all the views that see them.

    Each track's refracted rays are intersected, and the point is refined by minimising its squared
    reprojection error through water (Levenberg-Marquardt). Where an observation fits worse than the
    gate allows, the track is solved again without each one of its observations in turn, and the
    best is kept.

    Args:
        views: Must hold every camera of the tracks.
        tracks: Tracks, or matches to be joined into tracks (sparse ones, or samples of warps).
        options: Quality gates.

    Returns:
        Points that pass every gate, on the device of the images, in the order of the tracks.

    Raises:
        DataError: A camera of the tracks is not among the views.
        StageError: There are no tracks, or none passes; the message counts what each gate removed.

    Example:
        >>> from aquamvs.triangulation import triangulate
        >>> from aquamvs.matching import create_matcher
        >>> cloud = triangulate(views, [create_matcher("sift").match(views["cam0"], views["cam1"])])
        >>> len(cloud.points) > 20, bool((cloud.points[:, 2] > rig.water_z).all())
        (True, True)
    """
    options = options or TriangulationOptions()
    if not isinstance(tracks, Tracks):
        tracks = build_tracks(tracks)
    missing = [name for name in tracks.cameras if name not in views.names]
    if missing:
        raise DataError(
            f"tracks name the camera {missing[0]}, which is not among the views "
            f"({', '.join(views.names)})"
        )
    if len(tracks) == 0:
        raise StageError(
            "matching found no correspondences to triangulate; check that the images are in focus "
            "and lit, and that the masks leave something to match"
        )
    device = views.views[0].image.device
    tracks = tracks.to(device)
    models = [views[name].model.to(device) for name in tracks.cameras]
    tracks, solution = _solve_robustly(models, tracks, options, options.max_reprojection_error_px)
    expected = None
    if options.refinement is not None:
        refined = _refined(views, models, tracks, solution, options)
        tracks, expected = refined.tracks, refined.expected
        models = [views[name].model.to(device) for name in tracks.cameras]
        tracks, solution = _solve_robustly(models, tracks, options, _max_error_px(options))
    rays = cast_rays(models, tracks)
    keep = _gates(models, tracks, solution, rays, expected, options)
    rows = keep[tracks.track]
    return _cloud(
        views,
        tracks.select(keep),
        Solution(solution.points[keep], solution.residual[rows], solution.information[keep]),
        Rays(rays.origin[rows], rays.direction[rows]),
        options,
    )


def _refined(
    views: UndistortedViews,
    models: Sequence[RefractiveProjectionModel],
    tracks: Tracks,
    solution: Solution,
    options: TriangulationOptions,
) -> RefinedTracks:
    """Sub-pixel tracks of the points that have a place, and of further ones between them."""
    fits = torch.isfinite(tracks.largest(solution.squared()))
    fits &= ray_angles_deg(cast_rays(models, tracks), tracks) >= options.min_ray_angle_deg
    layers = grey_layers(views)
    refined = refine_tracks(
        views, tracks.select(fits), solution.points[fits], options.refinement, layers=layers
    )
    several = refined.tracks.view_count >= options.min_views
    refined = RefinedTracks(refined.tracks.select(several), refined.expected[several])
    if options.growth is None or len(refined.tracks) == 0:
        return refined
    # Only what several views confirm may lead others.
    own = [views[name].model.to(tracks.pixels.device) for name in refined.tracks.cameras]
    known, places = _solve_robustly(own, refined.tracks, options, _max_error_px(options))
    sure = known.view_count >= refined.expected.clamp(max=_CONFIRMING_VIEWS)
    sure &= known.largest(places.squared()) <= _max_error_px(options) ** 2
    grown = grow_tracks(
        views,
        known.select(sure),
        places.points[sure],
        options.growth,
        options.refinement,
        layers=layers,
    )
    return join_refined([refined, grown], refined.tracks)


def _max_error_px(options: TriangulationOptions) -> float:
    """Largest residual of an observation of a point in the cloud."""
    refinement = options.refinement
    return options.max_reprojection_error_px if refinement is None else refinement.max_error_px


def _solve_robustly(
    models: Sequence[RefractiveProjectionModel],
    tracks: Tracks,
    options: TriangulationOptions,
    max_error_px: float,
) -> tuple[Tracks, Solution]:
    """Least-squares points, without the observations that do not fit."""
    return drop_outliers(
        models,
        tracks,
        solve_tracks(models, tracks),
        max_error_px=max_error_px,
        min_views=options.min_views,
    )


def _gates(
    models: Sequence[RefractiveProjectionModel],
    tracks: Tracks,
    solution: Solution,
    rays: Rays,
    expected: Tensor | None,
    options: TriangulationOptions,
) -> Tensor:
    """Tracks that pass, shape (T,), bool."""
    limit = _max_error_px(options) ** 2
    worst = tracks.largest(solution.squared())
    depth = depth_below_surface(models[0], solution.points)
    passes = {
        "are seen by too few views": tracks.view_count >= options.min_views,
        "lie above the water or behind a camera": torch.isfinite(worst),
        "exceed the reprojection error": worst <= limit,
        "have too small a ray angle": ray_angles_deg(rays, tracks) >= options.min_ray_angle_deg,
    }
    if expected is not None:
        needed = expected.clamp(max=_CONFIRMING_VIEWS)
        passes["are not confirmed by the views that should see them"] = tracks.view_count >= needed
    if options.min_depth is not None:
        passes["are too shallow"] = depth >= options.min_depth
    if options.max_depth is not None:
        passes["are too deep"] = depth <= options.max_depth
    keep = torch.ones(len(tracks), dtype=torch.bool, device=tracks.track.device)
    for passed in passes.values():
        keep = keep & passed
    if not bool(keep.any()):
        counts = ", ".join(f"{int((~p).sum())} {gate}" for gate, p in passes.items())
        raise StageError(
            f"triangulation kept none of {len(tracks)} tracks ({counts}); check the calibration "
            "and the masks, or loosen the gates"
        )
    return keep


def ray_angles_deg(rays: Rays, tracks: Tracks) -> Tensor:
    """Largest angle between two rays of each track, degrees, shape (T,)."""
    count = tracks.view_count
    widest = int(count.max()) if len(count) else 0
    padded = rays.direction.new_full((len(tracks), widest, 3), torch.nan)
    first = torch.cumsum(count, 0) - count
    slot = torch.arange(len(tracks.track), device=count.device) - first[tracks.track]
    padded[tracks.track, slot] = rays.direction
    angles = []
    for start in range(0, len(tracks), _ANGLE_BLOCK):
        block = padded[start : start + _ANGLE_BLOCK]
        # |a - b| = 2 sin(angle / 2): exact for small angles, where the cosine is not.
        gap = (block[:, :, None] - block[:, None]).norm(dim=-1).nan_to_num(nan=0.0)
        angles.append(2 * torch.asin((gap.amax((1, 2)) / 2).clamp(max=1)))
    return torch.rad2deg(torch.cat(angles)) if angles else padded.new_zeros(0)


def _cloud(
    views: UndistortedViews,
    tracks: Tracks,
    solution: Solution,
    rays: Rays,
    options: TriangulationOptions,
) -> SparseCloud:
    squared = solution.squared()
    count = tracks.view_count
    pixel_sigma = options.pixel_sigma or robust_pixel_sigma(tracks.total(squared), count)
    covariance = pixel_sigma**2 * torch.linalg.inv(solution.information)
    direction = tracks.total(rays.direction)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    variance = (direction[:, None] @ covariance @ direction[:, :, None])[:, 0, 0]
    worst = tracks.largest(squared) / _max_error_px(options) ** 2
    observed = torch.zeros(len(tracks), len(tracks.cameras), dtype=torch.bool)
    observed = observed.to(tracks.track.device)
    observed[tracks.track, tracks.camera] = True
    return SparseCloud(
        points=solution.points,
        reprojection_error_px=(tracks.total(squared) / count).sqrt().float(),
        view_count=count.to(torch.int32),
        ray_angle_deg=ray_angles_deg(rays, tracks).float(),
        sigma=variance.sqrt().float(),
        covariance=covariance,
        colors=_colors(views, tracks),
        confidence=(tracks.scores * (1 - worst)).float().clamp(0, 1),
        viewing_direction=direction.float(),
        cameras=tracks.cameras,
        observed=observed,
        pixel_sigma=pixel_sigma,
    )


def robust_pixel_sigma(squared: Tensor, view_count: Tensor) -> float:
    """Noise of one pixel coordinate from the residuals of many tracks, px.

    Each track's sum of squares follows a chi-square law with the track's redundancy (two equations
    per view, less three unknowns) times the variance. The ratio to that law's median (Wilson and
    Hilferty, 1931) has the variance as its own median over the tracks, which the wrong matches that
    are left cannot inflate as they would a mean.

    Args:
        squared: Sum of squared residuals of each track, shape (T,), px^2; T > 0.
        view_count: shape (T,), each at least 2.

    Returns:
        The estimate, at least 0.001 px.
    """
    redundancy = 2.0 * view_count - 3.0
    law = redundancy * (1 - 2 / (9 * redundancy)) ** 3
    return max(float((squared / law).median().sqrt()), _LEAST_PIXEL_SIGMA)


def _colors(views: UndistortedViews, tracks: Tracks) -> Tensor:
    """Mean colour of each track's observations, bilinear, shape (T, 3), float32."""
    samples = torch.zeros(len(tracks.track), 3, device=tracks.track.device)
    for position, name in enumerate(tracks.cameras):
        rows = tracks.rows(position)
        view = views[name]
        grid = to_normalized(tracks.pixels[rows], view.size).float()[None, None]
        image = view.image.float().permute(2, 0, 1)[None]
        sampled = functional.grid_sample(image, grid, padding_mode="border", align_corners=False)
        samples[rows] = sampled[0, :, 0].T
    mean: Tensor = tracks.total(samples) / tracks.view_count[:, None]
    return mean
