"""Ray-depth range of each view, from the sparse points that it sees."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import StageError
from ..types import UndistortedViews, View
from .cloud import SparseCloud

_PERCENTILES = (0.01, 0.99)
"""A hundredth at either end is left to outliers."""

_LEAST_POINTS = 50
"""Below this a percentile of a hundredth is a single point, and the whole rig's range is safer."""


def depth_range_per_view(
    cloud: SparseCloud, views: UndistortedViews, *, margin: float = 0.05
) -> dict[str, tuple[float, float]]:
    """Ray depths between which each view's surface lies.

    Only points inside a view's image and mask count for it. A view that sees fewer than 50 gets the
    widest range of the points that any view sees.

    Args:
        cloud: Triangulated points.
        views: Views that need a range.
        margin: Added at both ends, metres.

    Returns:
        Camera name to (nearest, farthest) ray depth, metres; under water never above the surface.

    Raises:
        StageError: No view sees any point.

    Example:
        >>> from aquamvs.triangulation import depth_range_per_view, triangulate
        >>> from aquamvs.matching import create_matcher
        >>> cloud = triangulate(views, [create_matcher("sift").match(views["cam0"], views["cam1"])])
        >>> nearest, farthest = depth_range_per_view(cloud, views)["cam0"]
        >>> 0 <= nearest < farthest
        True
    """
    seen = {view.name: visible_depths(view, cloud.points) for view in views}
    every = [depths for depths in seen.values() if len(depths)]
    if not every:
        raise StageError(
            f"none of the {len(cloud)} sparse points lies inside the image and mask of any view, "
            "so the depth range is unknown; check the masks and the calibration"
        )
    well_covered = [depths for depths in every if len(depths) >= _LEAST_POINTS] or every
    ends = [_robust_ends(depths) for depths in well_covered]
    common = (min(low for low, _ in ends), max(high for _, high in ends))
    ranges = {}
    for view in views:
        depths = seen[view.name]
        low, high = _robust_ends(depths) if len(depths) >= _LEAST_POINTS else common
        low = max(low - margin, 0.0) if view.model.is_refractive else low - margin
        ranges[view.name] = (low, high + margin)
    return ranges


def visible_depths(view: View, points: Tensor) -> Tensor:
    """Ray depths of the points inside a view's image and mask.

    Args:
        view: With its mask.
        points: World frame, shape (N, 3), metres.

    Returns:
        Metres along the refracted ray from the water surface, shape (M,), float64, in the order of
        the points. Occlusion is not considered.

    Example:
        >>> import torch
        >>> from aquamvs.triangulation import visible_depths
        >>> points = torch.tensor([[0.0, 0.0, 1.0], [5.0, 0.0, 1.0]])
        >>> len(visible_depths(views["cam0"], points))
        1
    """
    points = points.double()
    model = view.model.to(points.device)
    pixels, valid = model.project(points)
    width, height = view.size
    u, v = pixels.round().unbind(-1)
    inside = valid & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    row, column = v[inside].long(), u[inside].long()
    unmasked = view.mask.to(points.device)[row, column]
    origin, direction = model.cast_ray(pixels[inside][unmasked])
    return ((points[inside][unmasked] - origin) * direction).sum(-1)


def _robust_ends(depths: Tensor) -> tuple[float, float]:
    low, high = torch.quantile(depths, depths.new_tensor(_PERCENTILES)).tolist()
    return low, high
