"""Zero-mean normalised cross-correlation over square windows, with unknown pixels left out."""

import torch
from torch import Tensor

from ..maps import box_sum

GREY_LEVEL = 1 / 255
"""Contrast below one level of an 8-bit image is rounding: it must not correlate."""

_MIN_SUPPORT = 0.5
"""Least part of a window that must be known; a window at an image's edge keeps half its pixels."""


def zncc(reference: Tensor, source: Tensor, radius: int) -> Tensor:
    """Correlation of two images around every pixel (e.g. Szeliski 2022, section 9.1).

    Both images should have a mean near 0, where single precision is finest.

    Args:
        reference: shape (..., H, W); NaN where unknown.
        source: Warped onto the reference's grid, broadcastable to it; NaN where unknown.
        radius: Windows have 2 radius + 1 pixels a side.

    Returns:
        shape (..., H, W), in [-1, 1]; NaN where either centre is unknown or less than half of the
        window is known in both. A window without contrast correlates with nothing: 0.
    """
    known = torch.isfinite(source) & torch.isfinite(reference)
    weight = known.to(source.dtype)
    r, s = reference.nan_to_num(0.0) * weight, source.nan_to_num(0.0) * weight
    count = box_sum(weight, radius)
    inverse = 1 / count.clamp(min=1)
    mean_r, mean_s = box_sum(r, radius) * inverse, box_sum(s, radius) * inverse
    var_r = (box_sum(r * r, radius) * inverse - mean_r * mean_r).clamp(min=0)
    var_s = (box_sum(s * s, radius) * inverse - mean_s * mean_s).clamp(min=0)
    covariance = box_sum(r * s, radius) * inverse - mean_r * mean_s
    floor = GREY_LEVEL**2
    score = covariance * torch.rsqrt((var_r + floor) * (var_s + floor))
    enough = known & (count >= _MIN_SUPPORT * (2 * radius + 1) ** 2)
    return torch.where(enough, score, torch.nan)
