"""Ray depth: the metres along the refracted ray from the water surface that depth maps store."""

from torch import Tensor

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
