"""One cloud from the depth maps of all views."""

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor

from ..errors import StageError
from ..maps import grid_normals, sample_map
from ..numerics.acceleration import in_parallel, operation_workers
from ..pixels import pixel_grid
from ..types import DepthMap, PointCloud, View
from .consistency import (
    VIEWS_AT_ONCE,
    ConsistencyMap,
    FusionOptions,
    PixelPoints,
    PosedMap,
    ViewCheck,
    check_against,
    chunks,
    consistency_maps,
    pair_views,
)

_LEAST_SIGMA = 1e-6
"""A micrometre: no depth weighs more, not even one that claims to be exact."""

_LEAST_CONFIDENCE = 1e-3
"""A depth without confidence still counts, a little."""

_SHARED_IMAGES = 0.5
"""Depth maps share images, so their errors are not independent: the mean of several is not taken
for better than half the variance of the best."""


def fuse(
    views: Sequence[View],
    depth_maps: Sequence[DepthMap],
    options: FusionOptions | None = None,
    *,
    consistency: Sequence[ConsistencyMap] | None = None,
) -> PointCloud:
    """Merge depth maps into one cloud of points that the views agree on.

    Views are taken in order. A pixel whose point other views confirm (see
    :mod:`aquamvs.fusion.consistency`) becomes the mean of the surfaces that the agreeing views see
    there, weighted by confidence over variance. A pixel whose surface an earlier view has already
    given, and agrees on, is a duplicate and adds no point. So points lie on the pixel rays of some
    view, up to the averaging, and never on a world grid.

    Args:
        views: Views of one frame.
        depth_maps: At most one per view; views without one have no say.
        options: Defaults if absent.
        consistency: Counts by which the depth maps were filtered, one per map: what one view has
            confirmed stays, though the filter took the pixel that did. Counted if absent.

    Returns:
        The cloud, float32, in the order of views and pixels. Normals come from the depth maps,
        colours from the agreeing view that looks most squarely at the surface. ``confidence`` is
        the mean over the agreeing views, times their share in those that see the point.

    Raises:
        DataError: A map without view, of another size, or two of one camera.
        StageError: No point is consistent.

    Example:
        >>> from aquamvs.fusion import fuse
        >>> cloud = fuse(tuple(views), made.depth_maps)
        >>> len(cloud) > 10_000, int(cloud.view_count.min())
        (True, 2)
    """
    options = options or FusionOptions()
    paired = pair_views(views, depth_maps)
    counted = consistency or consistency_maps(views, depth_maps, options)
    accepted = [
        (posed.known & options.accept(count.agreeing, count.seeing)).reshape(-1)
        for posed, count in zip(paired, counted, strict=True)
    ]

    def points_of(index: int) -> list[PointCloud]:
        """The points that a view adds to those of the views before it."""
        posed, count = paired[index], counted[index]
        normals = _normals(posed, options.normal_radius)
        added = []
        for found in chunks(posed, accepted[index]):
            for other, theirs in zip(paired[:index], accepted[:index], strict=True):
                check = check_against(found, other, options)
                again = check.agrees & _at_nearest_pixel(theirs, check.pixels, other.view.size)
                fresh = torch.ones_like(found.pixels, dtype=torch.bool)
                fresh[check.index[again]] = False
                found = found.select(fresh)
            mean = _Mean(found, posed, normals[found.pixels])
            for other in (*paired[:index], *paired[index + 1 :]):
                mean.add(check_against(found, other, options), other)
            added.append(mean.cloud(*count.at(found.pixels)))
        return added

    workers = operation_workers(accepted[0].device, VIEWS_AT_ONCE) if accepted else 1
    by_view = in_parallel(points_of, range(len(paired)), workers)
    clouds = [cloud for added in by_view for cloud in added]
    if not any(len(cloud) for cloud in clouds):
        raise StageError(
            f"fusion of {len(depth_maps)} depth maps left no point that at least "
            f"{options.min_consistent_views} views agree on; check depth ranges and source views"
        )
    return _concatenate(clouds)


def _normals(posed: PosedMap, radius: int) -> Tensor:
    """Normals of a depth map's pixels towards the camera, shape (H * W, 3)."""
    depth = posed.map.depth
    pixels = pixel_grid(posed.view.size, dtype=depth.dtype, device=depth.device)
    origin, direction = posed.view.model.cast_ray(pixels)
    points = origin + depth[..., None] * direction
    return grid_normals(points, -direction, radius=radius).reshape(-1, 3)


def _at_nearest_pixel(mask: Tensor, pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Values of a flat mask at the pixels nearest to positions inside of the image."""
    u, v = pixels.round().long().unbind(-1)
    return mask[v * size[0] + u]


class _Mean:
    """Weighted means of the surfaces that agreeing views see at points of one view."""

    def __init__(self, found: PixelPoints, posed: PosedMap, normals: Tensor) -> None:
        self._normals = normals
        confidence = posed.map.confidence.reshape(-1)[found.pixels]
        variance = found.sigma.clamp(min=_LEAST_SIGMA) ** 2
        weight = confidence.clamp(min=_LEAST_CONFIDENCE) / variance
        self._weight = weight
        self._points = weight[:, None] * found.points
        self._confidence = weight * confidence
        self._spread = weight * weight * variance
        self._least_variance = variance
        self._frontal = -(normals * found.direction).sum(-1)
        self._colors = posed.view.image.reshape(-1, 3)[found.pixels]

    def add(self, check: ViewCheck, other: PosedMap) -> None:
        """Take in the points on which another view agrees."""
        index = check.index[check.agrees]
        variance = check.sigma[check.agrees].clamp(min=_LEAST_SIGMA) ** 2
        confidence = check.confidence[check.agrees]
        weight = confidence.clamp(min=_LEAST_CONFIDENCE) / variance
        self._weight[index] += weight
        self._points[index] += weight[:, None] * check.points[check.agrees]
        self._confidence[index] += weight * confidence
        self._spread[index] += weight * weight * variance
        self._least_variance[index] = torch.minimum(self._least_variance[index], variance)
        frontal = -(self._normals[index] * check.direction[check.agrees]).sum(-1)
        better = frontal > self._frontal[index]
        index = index[better]
        self._frontal[index] = frontal[better]
        image = other.view.image.movedim(-1, 0)
        self._colors[index] = sample_map(image, check.pixels[check.agrees][better]).T

    def cloud(self, agreeing: Tensor, seeing: Tensor) -> PointCloud:
        """The means."""
        weight = self._weight
        variance = self._spread / (weight * weight)
        variance = torch.maximum(variance, _SHARED_IMAGES * self._least_variance)
        return PointCloud(
            points=self._points / weight[:, None],
            colors=self._colors,
            normals=self._normals,
            confidence=self._confidence / weight * (agreeing / seeing),
            sigma=variance.sqrt(),
            view_count=agreeing.int(),
        )


def _concatenate(clouds: Sequence[PointCloud]) -> PointCloud:
    names = [field.name for field in fields(PointCloud)]
    return PointCloud(*(torch.cat([getattr(c, name) for c in clouds]) for name in names))
