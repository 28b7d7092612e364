"""Interpolation of images at scattered points."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .noise import Floats

_LONGEST_ROW = 32_000
"""OpenCV's maps have sides below 2^15."""


def sample_points(
    image: NDArray[Any], column: Floats, row: Floats, interpolation: int
) -> NDArray[Any]:
    """Values of an image at points.

    Args:
        image: shape (rows, columns) or (rows, columns, 3).
        column: shape (N,), texels; the border's value continues outwards.
        row: shape (N,), texels.
        interpolation: OpenCV's flag. OpenCV rounds positions to 1/32 texel, which makes the image a
            slightly stepped function of position, the same one for every camera.

    Returns:
        shape (N,) or (N, 3), in the image's dtype.
    """
    values = np.empty((len(column), *image.shape[2:]), dtype=image.dtype)
    for start in range(0, len(column), _LONGEST_ROW):
        part = slice(start, start + _LONGEST_ROW)
        values[part] = cv2.remap(
            image, column[None, part], row[None, part], interpolation,
            borderMode=cv2.BORDER_REPLICATE,
        )[0]  # fmt: skip
    return values
