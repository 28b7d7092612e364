"""Cubic B-spline interpolation of images, in two steps: coefficients once, then samples.

Bilinear samples are blurred by an amount that depends on their sub-pixel phase, which biases and
roughens matching by some hundredths of a pixel; a cubic spline's error is several times smaller
(Unser, Aldroubi and Eden, IEEE Trans. Signal Processing 41, 1993).
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..pixels import to_normalized
from .acceleration import has_kernels

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
    return torch.from_numpy(_filtered(image[0, 0].cpu().numpy())).to(image)[None, None]


def _filtered(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """:func:`spline_coefficients` of an image of shape (H, W)."""
    taps = np.array(_inverse_taps(), np.float32)
    return np.asarray(cv2.sepFilter2D(image, -1, taps, taps, borderType=cv2.BORDER_REPLICATE))


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
        coefficients: From :func:`spline_coefficients`, shape (1, C, H, W).
        pixels: Clamped to the image, shape (..., h, w, 2).

    Returns:
        shape (..., C, h, w).
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


def resample(
    image: NDArray[np.float32], u: NDArray[np.float32], v: NDArray[np.float32]
) -> NDArray[np.float32]:
    """An image's values at a map of pixels, by its cubic spline.

    Args:
        image: shape (H, W, C).
        u: Columns, shape (h, w); beyond the border the image continues as the border.
        v: Rows, shape (h, w).

    Returns:
        shape (h, w, C).
    """
    height, width, channels = image.shape
    # One by one, channels stay in the processor's cache.
    channel = (np.asarray(cv2.extractChannel(image, k), np.float32) for k in range(channels))
    coefficients = map(_filtered, channel)
    if not has_kernels(torch.from_numpy(u)):
        at = torch.stack([torch.from_numpy(u), torch.from_numpy(v)], dim=-1)[None]
        whole = torch.from_numpy(np.stack([*coefficients]))[None]
        return sample_spline(whole, at)[0].movedim(0, -1).numpy()
    from .sampling_kernels import PADDING, sample_image

    border = (BEFORE, AFTER) * 2
    planes = np.empty((channels, height + PADDING, width + PADDING), np.float32)
    for plane, inner in zip(planes, coefficients, strict=True):
        cv2.copyMakeBorder(inner, *border, cv2.BORDER_REPLICATE, dst=plane)
    out = np.empty((*u.shape, channels), np.float32)
    sample_image(planes.reshape(channels, -1), width, height, u, v, out)
    return out
