"""How a small patch of the scene maps from one view to another."""

from __future__ import annotations

import torch
from torch import Tensor

from .refractive import RefractiveProjectionModel


def patch_affine(
    reference_model: RefractiveProjectionModel,
    source_model: RefractiveProjectionModel,
    points: Tensor,
) -> Tensor:
    """Derivative of the source pixel with respect to the reference pixel on a level patch.

    Args:
        reference_model: Of the reference view.
        source_model: Of the source view.
        points: Centres of patches parallel to the water surface, shape (N, 3), metres.

    Returns:
        shape (N, 2, 2); NaN where either camera cannot see the point.

    Example:
        >>> import torch
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.projection import patch_affine
        >>> model = make_rig("small5").projection_model("cam0")
        >>> affine = patch_affine(model, model, torch.tensor([[0.1, 0.0, 1.0]]))
        >>> torch.allclose(affine[0], torch.eye(2), atol=1e-3)
        True
    """
    _, first, _ = reference_model.project_with_jacobian(points)
    _, second, _ = source_model.project_with_jacobian(points)
    return level_affine(reference_model.normal, first, second)


def level_affine(normal: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """:func:`patch_affine` where the projections' derivatives are already at hand.

    Args:
        normal: Of the water surface, shape (3,).
        first: Derivative of the reference pixel with respect to the point, shape (N, 2, 3).
        second: Likewise of the source pixel.

    Returns:
        shape (N, 2, 2).
    """
    # Two directions in the surface, (3, 2).
    level = torch.linalg.svd(normal.to(first)[None])[2][1:].mT
    first, second = first @ level, second @ level
    (a, b), (c, d) = (row.unbind(-1) for row in first.unbind(-2))
    adjugate = torch.stack([torch.stack([d, -b], -1), torch.stack([-c, a], -1)], -2)
    affine: Tensor = second @ adjugate / (a * d - b * c)[:, None, None]
    return affine
