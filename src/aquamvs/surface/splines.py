"""Cubic B-spline interpolation of images, in two steps: coefficients once, then samples.

Bilinear samples are blurred by an amount that depends on their sub-pixel phase, which biases and
roughens matching by some hundredths of a pixel; a cubic spline's error is several times smaller
(Unser, Aldroubi and Eden, IEEE Trans. Signal Processing 41, 1993).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..numerics.filters import smooth
from ..pixels import to_normalized

_POLE = math.sqrt(3) - 2
_REACH = 6
"""Taps on each side of the inverse filter: the next one would be 2e-4."""
BEFORE, AFTER = 1, 2
"""Coefficients that a sample needs before and after its pixel, along each axis."""


def _inverse_taps() -> list[float]:
    taps = [_POLE ** abs(i) for i in range(-_REACH, _REACH + 1)]
    return [tap / sum(taps) for tap in taps]


def spline_coefficients(image: Tensor) -> Tensor:
    """Coefficients of the cubic spline through an image's pixels.

    Args:
        image: shape (1, 1, H, W); it continues past its border as the border.

    Returns:
        Same shape.
    """
    padded = torch.nn.functional.pad(image, (_REACH,) * 4, mode="replicate")
    return smooth(padded, _inverse_taps())


def sample(image: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear samples of an image (1, C, H, W) at pixels (..., h, w, 2) -> (..., C, h, w)."""
    *stack, rows, columns, _ = pixels.shape
    grid = to_normalized(pixels, (image.shape[-1], image.shape[-2]))
    values = torch.nn.functional.grid_sample(
        image,
        grid.reshape(1, -1, columns, 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return (
        values.reshape(image.shape[1], -1, rows, columns)
        .transpose(0, 1)
        .reshape(*stack, image.shape[1], rows, columns)
    )


def sample_spline(coefficients: Tensor, pixels: Tensor) -> Tensor:
    """Samples of a cubic spline, as four bilinear samples of its coefficients.

    The weights of two neighbouring coefficients have the same sign, so that one linear
    interpolation between them gives both (Sigg and Hadwiger, GPU Gems 2, 2005).

    Args:
        coefficients: From :func:`spline_coefficients`, shape (1, 1, H, W).
        pixels: Clamped to the image, shape (..., h, w, 2).

    Returns:
        shape (..., 1, h, w).
    """
    limit = pixels.new_tensor([coefficients.shape[-1] - 1, coefficients.shape[-2] - 1])
    pixels = torch.minimum(pixels.clamp(min=0), limit)
    whole = pixels.floor()
    after = pixels - whole
    before = 1 - after
    far = after**3 / 6
    near = 2 / 3 - before**2 * (2 - before) / 2
    share = far + near
    high = whole + 1 + far / share
    low = whole - before**3 / 6 / (1 - share)
    total = torch.zeros(())
    for u, share_u in ((low, 1 - share), (high, share)):
        for v, share_v in ((low, 1 - share), (high, share)):
            at = torch.stack([u[..., 0], v[..., 1]], dim=-1)
            weight = (share_u[..., 0] * share_v[..., 1]).unsqueeze(-3)
            total = weight * sample(coefficients, at) + total
    return total
