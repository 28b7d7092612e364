"""Snell's law for a flat interface."""

import torch
from torch import Tensor


def refract(direction: Tensor, normal: Tensor, n_ratio: float) -> tuple[Tensor, Tensor]:
    """Bend unit directions at a flat interface (vector form of Snell's law).

    Args:
        direction: Incident unit directions, shape (..., 3).
        normal: Unit normal towards the incident side, shape (3,).
        n_ratio: Incident over transmitted refractive index.

    Returns:
        Refracted unit directions, shape (..., 3), and a mask, shape (...,), False where the ray is
        totally reflected (its direction is then NaN, with a zero gradient).

    Example:
        A ray that meets water at 45 degrees goes on at 32:

        >>> import torch
        >>> from aquamvs.projection import refract
        >>> incident = torch.tensor([0.5**0.5, 0.0, 0.5**0.5], dtype=torch.float64)
        >>> up = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
        >>> bent, valid = refract(incident, up, 1 / 1.333)
        >>> round(float(torch.rad2deg(torch.acos(bent[2]))), 1), bool(valid)
        (32.0, True)
    """
    cos_i = -(direction * normal).sum(-1)
    cos2_t = 1 - n_ratio**2 * (1 - cos_i**2)
    transmitted = cos2_t >= 0
    cos_t = torch.sqrt(torch.where(transmitted, cos2_t, 1.0))
    bent = n_ratio * direction + (n_ratio * cos_i - cos_t)[..., None] * normal
    return torch.where(transmitted[..., None], bent, torch.nan), transmitted
