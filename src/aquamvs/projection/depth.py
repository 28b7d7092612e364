"""Ray depth: the metres along the refracted ray from the water surface that depth maps store."""

import torch
from torch import Tensor

from ..errors import ShapeError
from ..pixels import pixel_grid
from .refractive import RefractiveProjectionModel


def ray_depth(model: RefractiveProjectionModel, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where a view sees world points, and how deep on its rays.

    Args:
        model: Projection of the view.
        points: World frame, shape (..., 3), metres.

    Returns:
        Pixels, shape (..., 2); ray depth, shape (...,), metres, negative only in air for points
        between camera and interface; mask, shape (...,). Invalid entries are NaN. Image bounds are
        the caller's to check.
    """
    pixels, valid = model.project(points)
    origin, direction = model.cast_ray(pixels)
    depth = ((points - origin) * direction).sum(-1)
    return pixels, depth, valid


def points_from_depth(model: RefractiveProjectionModel, depth: Tensor) -> Tensor:
    """World points of a depth map.

    Args:
        model: Projection with the intrinsics of the depth map's grid.
        depth: Ray depth, shape (H, W), metres.

    Returns:
        shape (H, W, 3), metres, in the dtype of ``depth``; NaN where depth is.

    Raises:
        ShapeError: ``depth`` is not two-dimensional.
    """
    if depth.ndim != 2:
        raise ShapeError("depth", tuple(depth.shape), "(H, W)")
    height, width = depth.shape
    pixels = pixel_grid((width, height), dtype=torch.float64, device=depth.device)
    origin, direction = model.cast_ray(pixels.to(depth.dtype))
    return origin + depth[..., None] * direction
