"""What detectors need from a view: grey or equalised images, other sizes, and its mask."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..types import View

_CLAHE_TILES = (8, 8)
"""OpenCV's default: tiles large enough to hold texture, small enough to follow the lighting."""


def to_uint8(image: Tensor) -> NDArray[np.uint8]:
    """RGB image, shape (H, W, 3), [0, 1], as uint8 RGB."""
    scaled = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(scaled.cpu().numpy())


def grey_image(image: Tensor, clahe_clip_limit: float | None) -> NDArray[np.uint8]:
    """Luma of an RGB image, shape (H, W), uint8; contrast equalised unless the limit is None."""
    grey = cv2.cvtColor(to_uint8(image), cv2.COLOR_RGB2GRAY)
    if clahe_clip_limit is not None:
        grey = cv2.createCLAHE(clahe_clip_limit, _CLAHE_TILES).apply(grey)
    return np.asarray(grey, dtype=np.uint8)


def equalized_image(image: Tensor, clahe_clip_limit: float | None) -> Tensor:
    """An RGB image with its lightness equalised by CLAHE, or as it is if the limit is None."""
    if clahe_clip_limit is None:
        return image
    lab = cv2.cvtColor(to_uint8(image), cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clahe_clip_limit, _CLAHE_TILES).apply(lab[..., 0])
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return torch.from_numpy(rgb).to(image) / 255


def fit_image(image: Tensor, max_side: int) -> Tensor:
    """Shrink an RGB image, shape (H, W, 3), until its longer side is at most ``max_side``."""
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = functional.interpolate(
        image.permute(2, 0, 1)[None], size=size, mode="bilinear", antialias=True
    )
    return small[0].permute(1, 2, 0)


def inside_mask(view: View, pixels: Tensor) -> Tensor:
    """Whether pixels lie on a pixel of the view that may be used.

    Args:
        view: With its mask.
        pixels: shape (N, 2); NaN lies nowhere.

    Returns:
        shape (N,), bool.
    """
    width, height = view.size
    u, v = pixels.round().unbind(-1)
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    column, row = (x.nan_to_num(0.0).clamp(0, n - 1).long() for x, n in ((u, width), (v, height)))
    return inside & view.mask[row, column]
