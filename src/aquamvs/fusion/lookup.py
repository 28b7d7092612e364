"""What a view's depth map says along the rays to points."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..maps import MAX_SLOPE
from ..numerics.acceleration import has_kernels
from ..projection import RefractiveProjectionModel
from ..projection.depth import ray_depth
from ..types import DepthMap


@dataclass(frozen=True, slots=True)
class Lookup:
    """A depth map at N points; NaN where the view does not see the point or knows nothing.

    Attributes:
        pixels: Where the view sees the points, shape (N, 2).
        gap: Depth of the map less that of the point, shape (N,), metres.
        sigma: Of the map, shape (N,), metres.
        confidence: Of the map, shape (N,).
        direction: Of the view's rays under water, shape (N, 3).
    """

    pixels: Tensor
    gap: Tensor
    sigma: Tensor
    confidence: Tensor
    direction: Tensor


def jump_slope(model: RefractiveProjectionModel) -> float:
    """Depth difference between neighbouring pixels that is a jump, per metre of distance."""
    return MAX_SLOPE / float(model.K[0, 0])


def look_up(points: Tensor, model: RefractiveProjectionModel, depth_map: DepthMap) -> Lookup:
    """Depth of a map where its view sees points.

    Bilinear within a surface. Between pixels that see different surfaces, or beside an unknown
    one, the pixel whose depth is closest to the point's speaks: a mean of two surfaces is neither.

    Args:
        points: World frame, shape (N, 3), metres.
        model: Of the depth map's view.
        depth_map: The map.
    """
    if not has_kernels(points):
        return look_up_with_tensors(points, model, depth_map)
    from . import kernels

    count = len(points)
    found = Lookup(*(points.new_empty(count, *shape) for shape in ((2,), (), (), (), (3,))))
    kernels.look_up(
        points.contiguous().numpy(),
        model.coefficients().float().numpy(),
        torch.tensor(jump_slope(model)).numpy()[()],
        *(
            values.contiguous().numpy()
            for values in (depth_map.depth, depth_map.sigma, depth_map.confidence)
        ),
        *(
            values.numpy()
            for values in (
                found.pixels, found.gap, found.sigma, found.confidence, found.direction
            )
        ),
    )  # fmt: skip
    return found


def look_up_with_tensors(
    points: Tensor, model: RefractiveProjectionModel, depth_map: DepthMap
) -> Lookup:
    """The reference of :func:`look_up`, on any device."""
    pixels, depth, valid = ray_depth(model, points)
    height, width = depth_map.depth.shape
    corner = pixels.new_tensor([width - 1, height - 1])
    inside = valid & ((pixels >= 0) & (pixels <= corner)).all(-1)
    u, v = torch.where(inside[:, None], pixels, 0.0).unbind(-1)
    j, i = u.long().clamp(max=width - 2), v.long().clamp(max=height - 2)
    at = i * width + j
    corners = torch.stack([at, at + 1, at + width, at + width + 1])
    values = depth_map.depth.reshape(-1)[corners]
    known = torch.isfinite(values)
    away = torch.where(known, (values - depth).abs(), torch.inf)
    nearest = corners.gather(0, away.argmin(0)[None])[0]
    fx, fy = u - j, v - i
    top = values[0] + fx * (values[1] - values[0])
    mean = top + fy * (values[2] + fx * (values[3] - values[2]) - top)
    span = values.amax(0) - values.amin(0)
    distance = (points - model.camera_center.to(points)).norm(dim=-1)
    smooth = known.all(0) & (span <= jump_slope(model) * distance)
    surface = torch.where(smooth, mean, depth_map.depth.reshape(-1)[nearest])
    inside_known = inside & known.any(0)
    _, direction = model.cast_ray(pixels)
    return Lookup(
        torch.where(inside[:, None], pixels, torch.nan),
        torch.where(inside, surface - depth, torch.nan),
        torch.where(inside_known, depth_map.sigma.reshape(-1)[nearest], torch.nan),
        torch.where(inside_known, depth_map.confidence.reshape(-1)[nearest], torch.nan),
        torch.where(inside[:, None], direction, torch.nan),
    )
