"""Where a rig puts its points when its model is wrong: the bias that no matching can remove."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import DataError, ShapeError
from ..projection import RefractiveProjectionModel

_STEPS = 30
"""Gauss-Newton steps at most; a surface that is millimetres off needs three."""
_SETTLED = 1e-10
"""Metres."""
_LEAST_DEPTH = 1e-3
"""Metres under the assumed surface at which a point is kept while it moves: there is no projection
above."""


@dataclass(frozen=True, slots=True)
class ModelBias:
    """Systematic error of points triangulated with a wrong model.

    Attributes:
        shift: Found minus true position, shape (..., 3), float64, metres; NaN where fewer than two
            cameras see the point or no point fits.
        residual_px: Root of the mean squared distance, over the views, between the pixels seen and
            those of the found point, shape (...,): how much the views disagree, which is all that
            a reconstruction notices.
        view_count: Views that see the point, shape (...,), int32.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import model_bias
        >>> from aquamvs.projection import straight
        >>> models = [view.model for view in views]
        >>> flat = [straight(model) for model in models]
        >>> bias = model_bias(models, flat, torch.tensor([0.0, 0.0, 1.0]))
        >>> bool(bias.shift[2] < 0), int(bias.view_count)  # without refraction all looks nearer
        (True, 5)
    """

    shift: Tensor
    residual_px: Tensor
    view_count: Tensor


def model_bias(
    true_models: Sequence[RefractiveProjectionModel],
    assumed_models: Sequence[RefractiveProjectionModel],
    points: Tensor,
    *,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> ModelBias:
    """Project points by the true rig and triangulate them by the assumed one.

    Args:
        true_models: What the cameras do.
        assumed_models: What is believed of them, in the same order.
        points: World frame, shape (..., 3), metres.
        sizes: (width, height) of the images; a point outside of an image is not seen by it. No
            bounds when absent.

    Returns:
        The bias of the point of least squared distance in the images.

    Raises:
        ShapeError: ``points`` has another shape.
        DataError: Not one assumed model and one size for each camera.

    Example:
        Without refraction, the ground at 1 m seems to lie 7 cm higher:

        >>> import torch
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.evaluation import model_bias
        >>> from aquamvs.projection import straight
        >>> rig = make_rig("small5")
        >>> models = [rig.projection_model(name) for name in rig.cameras]
        >>> flat = [straight(model) for model in models]
        >>> bias = model_bias(models, flat, torch.tensor([0.0, 0.0, 1.0]))
        >>> -0.09 < float(bias.shift[2]) < -0.06
        True
    """
    if points.shape[-1:] != (3,):
        raise ShapeError("points", tuple(points.shape), "(..., 3)")
    for name, given in (("assumed models", assumed_models), ("image sizes", sizes)):
        if given is not None and len(given) != len(true_models):
            raise DataError(
                f"{len(given)} {name} for {len(true_models)} cameras; expected one each"
            )
    flat = points.detach().reshape(-1, 3).double()
    seen = [_observe(model, flat, None if sizes is None else sizes[i])
            for i, model in enumerate(true_models)]  # fmt: skip
    view_count = torch.stack([visible for _, visible in seen]).sum(0).int()
    found = _triangulate(assumed_models, seen, flat)
    residual = torch.zeros(len(flat), dtype=torch.float64)
    for model, (pixels, visible) in zip(assumed_models, seen, strict=True):
        off = (model.project(found)[0] - pixels).square().sum(-1)
        residual += torch.where(visible, off, 0.0)
    batch = points.shape[:-1]
    known = view_count >= 2
    shift = torch.where(known[:, None], found - flat, torch.nan)
    rms = torch.where(known, (residual / view_count).sqrt(), torch.nan)
    return ModelBias(shift.reshape(*batch, 3), rms.reshape(batch), view_count.reshape(batch))


def _observe(
    model: RefractiveProjectionModel, points: Tensor, size: tuple[int, int] | None
) -> tuple[Tensor, Tensor]:
    pixels, visible = model.project(points)
    if size is not None:
        limit = pixels.new_tensor([size[0] - 1.0, size[1] - 1.0])
        visible = visible & ((pixels >= 0) & (pixels <= limit)).all(-1)
    return pixels, visible


def _triangulate(
    models: Sequence[RefractiveProjectionModel],
    seen: Sequence[tuple[Tensor, Tensor]],
    start: Tensor,
) -> Tensor:
    """Points of least squared distance in the images, by Gauss-Newton steps."""
    points = start.clone()
    eye = torch.eye(3, dtype=torch.float64)
    for _ in range(_STEPS):
        matrix = torch.zeros(len(points), 3, 3, dtype=torch.float64)
        vector = torch.zeros(len(points), 3, dtype=torch.float64)
        for model, (pixels, visible) in zip(models, seen, strict=True):
            projected, jacobian, valid = model.project_with_jacobian(points)
            used = visible & valid
            J = torch.where(used[:, None, None], jacobian, 0.0)
            off = torch.where(used[:, None], projected - pixels, 0.0)
            matrix += J.mT @ J
            vector += (J.mT @ off[:, :, None])[..., 0]
        # A point that fewer than two cameras see has no solution: it stays where it is.
        solvable = torch.linalg.det(matrix) > torch.finfo(torch.float64).tiny
        step = torch.linalg.solve(torch.where(solvable[:, None, None], matrix, eye), vector)
        step = torch.where(solvable[:, None], step, 0.0)
        points = _under_surface(models[0], points - step)
        if float(step.norm(dim=-1).max()) < _SETTLED:
            break
    return points


def _under_surface(model: RefractiveProjectionModel, points: Tensor) -> Tensor:
    """Points lifted back under the water surface where a step left it."""
    if not model.is_refractive:
        return points
    normal = model.normal.double()
    surface = points.new_tensor([0.0, 0.0, model.water_z])
    height = ((points - surface) @ normal + _LEAST_DEPTH).clamp(min=0)
    return points - height[:, None] * normal
