"""Samples of images, compiled for the CPU (numba); see :mod:`~.splines`.

Where a whole row of samples lies is found first: that becomes vector instructions, while pixels
from anywhere must be fetched one by one.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

import numpy as np

from .compiler import compiled

_F = np.float32
_ZERO, _ONE, _TWO, _HALF = _F(0), _F(1), _F(2), _F(0.5)
_SIXTH, _TWO_THIRDS = _F(1 / 6), _F(2 / 3)
PADDING = 3
"""Coefficients that an image has more than pixels, along each axis: one before, two after."""
_SHARES = 8
"""Numbers that say how the coefficients around a sample are weighed, at most."""


@compiled
def _place_linear(width, height, u, v, du, dv, offset, first, shares):  # type: ignore[no-untyped-def]
    """Of a row of samples: the pixel above and left of each, and how far it lies beyond."""
    right, bottom = _F(width - 1), _F(height - 1)
    stride = np.int32(width + PADDING)
    corner = stride + np.int32(1)
    for c in range(first.shape[0]):
        x = min(max(u[c] + offset * du[c], _ZERO), right)
        y = min(max(v[c] + offset * dv[c], _ZERO), bottom)
        j, i = np.int32(x), np.int32(y)
        shares[0, c], shares[1, c] = x - _F(j), y - _F(i)
        first[c] = i * stride + j + corner


@compiled
def _fetch_linear(image, width, first, shares, out):  # type: ignore[no-untyped-def]
    """Bilinear samples along a row, see :func:`_place_linear`."""
    line, second = np.uintp(width + PADDING), np.uintp(1)
    for c in range(out.shape[0]):
        fx, fy = shares[0, c], shares[1, c]
        at = np.uintp(first[c])
        below = at + line
        top = image[at] + fx * (image[at + second] - image[at])
        base = image[below] + fx * (image[below + second] - image[below])
        out[c] = top + fy * (base - top)


@compiled
def _place_cubic(width, height, u, v, du, dv, offset, first, shares):  # type: ignore[no-untyped-def]
    """Of a row of samples: the first coefficient of each, and how its columns and rows count."""
    right, bottom = _F(width - 1), _F(height - 1)
    stride = np.int32(width + PADDING)
    for c in range(first.shape[0]):
        x = min(max(u[c] + offset * du[c], _ZERO), right)
        y = min(max(v[c] + offset * dv[c], _ZERO), bottom)
        j, i = np.int32(x), np.int32(y)
        fx, fy = x - _F(j), y - _F(i)
        gx, gy = _ONE - fx, _ONE - fy
        shares[0, c], shares[3, c] = gx * gx * gx * _SIXTH, fx * fx * fx * _SIXTH
        shares[1, c] = _TWO_THIRDS - _HALF * fx * fx * (_TWO - fx)
        shares[2, c] = _TWO_THIRDS - _HALF * gx * gx * (_TWO - gx)
        shares[4, c], shares[7, c] = gy * gy * gy * _SIXTH, fy * fy * fy * _SIXTH
        shares[5, c] = _TWO_THIRDS - _HALF * fy * fy * (_TWO - fy)
        shares[6, c] = _TWO_THIRDS - _HALF * gy * gy * (_TWO - gy)
        first[c] = i * stride + j


@compiled
def _fetch_cubic(image, width, first, shares, out):  # type: ignore[no-untyped-def]
    """Cubic samples along a row, see :func:`_place_cubic`."""
    line = np.uintp(width + PADDING)
    second, third, fourth = np.uintp(1), np.uintp(2), np.uintp(3)
    for c in range(out.shape[0]):
        x0, x1, x2, x3 = shares[0, c], shares[1, c], shares[2, c], shares[3, c]
        at = np.uintp(first[c])
        a = x0 * image[at] + x1 * image[at + second] + x2 * image[at + third]
        a += x3 * image[at + fourth]
        at += line
        b = x0 * image[at] + x1 * image[at + second] + x2 * image[at + third]
        b += x3 * image[at + fourth]
        at += line
        e = x0 * image[at] + x1 * image[at + second] + x2 * image[at + third]
        e += x3 * image[at + fourth]
        at += line
        d = x0 * image[at] + x1 * image[at + second] + x2 * image[at + third]
        d += x3 * image[at + fourth]
        out[c] = shares[4, c] * a + shares[5, c] * b + shares[6, c] * e + shares[7, c] * d


@compiled
def sample_map(image, width, height, cubic, u, v, du, dv, margin, offset, out):  # type: ignore[no-untyped-def]
    """Samples of an image at a map of pixels; the border continues outwards.

    Args:
        image: Pixels or coefficients with their padding, shape ((height + 3) * (width + 3),).
        width: Of the image, pixels.
        height: Of the image, pixels.
        cubic: Whether ``image`` holds coefficients of a cubic spline; else samples are bilinear.
        u: Columns, shape (h + 2 margin, w + 2 margin).
        v: Rows.
        du: Their change per unit of ``offset``.
        dv: Likewise of the rows.
        margin: Pixels of the map on each side that are not sampled.
        offset: How far the pixels are moved.
        out: Output, shape (h, w).
    """
    rows, columns = out.shape
    inner = slice(margin, margin + columns)
    first, shares = np.empty(columns, np.int32), np.empty((_SHARES, columns), np.float32)
    for r in range(rows):
        m = r + margin
        at_u, at_v, by_u, by_v = u[m, inner], v[m, inner], du[m, inner], dv[m, inner]
        if cubic:
            _place_cubic(width, height, at_u, at_v, by_u, by_v, offset, first, shares)
            _fetch_cubic(image, width, first, shares, out[r])
        else:
            _place_linear(width, height, at_u, at_v, by_u, by_v, offset, first, shares)
            _fetch_linear(image, width, first, shares, out[r])


@compiled
def sample_image(planes, width, height, u, v, out):  # type: ignore[no-untyped-def]
    """Samples of a colour image's cubic spline at a map of pixels; the border continues outwards.

    Args:
        planes: Coefficients of each channel with their padding, shape (C, (height + 3) *
            (width + 3)).
        width: Of the image, pixels.
        height: Of the image, pixels.
        u: Columns, shape (h, w).
        v: Rows.
        out: Output, shape (h, w, C).
    """
    rows, columns, channels = out.shape
    first, shares = np.empty(columns, np.int32), np.empty((_SHARES, columns), np.float32)
    still, samples = np.zeros(columns, np.float32), np.empty(columns, np.float32)
    for r in range(rows):
        _place_cubic(width, height, u[r], v[r], still, still, _ZERO, first, shares)
        for k in range(channels):
            _fetch_cubic(planes[k], width, first, shares, samples)
            out[r, :, k] = samples
