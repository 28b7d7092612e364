"""Samples of images, compiled for the CPU (numba); see :mod:`~.splines`."""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

import numpy as np

from .compiler import compiled

_F = np.float32
_ZERO, _ONE, _TWO, _HALF = _F(0), _F(1), _F(2), _F(0.5)
_SIXTH, _TWO_THIRDS = _F(1 / 6), _F(2 / 3)
PADDING = 3
"""Coefficients that an image has more than pixels, along each axis: one before, two after."""


@compiled
def sample_row(image, width, height, u, v, du, dv, offset, out):  # type: ignore[no-untyped-def]
    """Bilinear samples of an image; arguments as of :func:`spline_row`, but pixels in ``image``."""
    right, bottom = _F(width - 1), _F(height - 1)
    stride = np.int32(width + PADDING)
    corner, right_of = np.uintp(stride + 1), np.uintp(1)
    for c in range(out.shape[0]):
        x = min(max(u[c] + offset * du[c], _ZERO), right)
        y = min(max(v[c] + offset * dv[c], _ZERO), bottom)
        j, i = np.int32(x), np.int32(y)
        fx, fy = x - _F(j), y - _F(i)
        at = np.uintp(i * stride + j) + corner
        below = at + np.uintp(stride)
        top = image[at] + fx * (image[at + right_of] - image[at])
        base = image[below] + fx * (image[below + right_of] - image[below])
        out[c] = top + fy * (base - top)


@compiled
def spline_row(image, width, height, u, v, du, dv, offset, out):  # type: ignore[no-untyped-def]
    """Cubic samples of an image along a row of cells; the border continues outwards.

    Args:
        image: Spline coefficients with their padding, shape ((height + 3) * (width + 3),).
        width: Of the image, pixels.
        height: Of the image, pixels.
        u: Columns, shape (n,).
        v: Rows.
        du: Their change per unit of ``offset``.
        dv: Likewise of the rows.
        offset: How far the cells are moved.
        out: Output, shape (n,).
    """
    right, bottom = _F(width - 1), _F(height - 1)
    stride = np.int32(width + PADDING)
    line = np.uintp(stride)
    first, second, third = np.uintp(1), np.uintp(2), np.uintp(3)
    for c in range(out.shape[0]):
        x = min(max(u[c] + offset * du[c], _ZERO), right)
        y = min(max(v[c] + offset * dv[c], _ZERO), bottom)
        j, i = np.int32(x), np.int32(y)
        fx, fy = x - _F(j), y - _F(i)
        gx, gy = _ONE - fx, _ONE - fy
        x0, x3 = gx * gx * gx * _SIXTH, fx * fx * fx * _SIXTH
        x1 = _TWO_THIRDS - _HALF * fx * fx * (_TWO - fx)
        x2 = _TWO_THIRDS - _HALF * gx * gx * (_TWO - gx)
        at = np.uintp(i * stride + j)
        a = x0 * image[at] + x1 * image[at + first] + x2 * image[at + second]
        a += x3 * image[at + third]
        at += line
        b = x0 * image[at] + x1 * image[at + first] + x2 * image[at + second]
        b += x3 * image[at + third]
        at += line
        e = x0 * image[at] + x1 * image[at + first] + x2 * image[at + second]
        e += x3 * image[at + third]
        at += line
        d = x0 * image[at] + x1 * image[at + first] + x2 * image[at + second]
        d += x3 * image[at + third]
        out[c] = (
            gy * gy * gy * _SIXTH * a
            + (_TWO_THIRDS - _HALF * fy * fy * (_TWO - fy)) * b
            + (_TWO_THIRDS - _HALF * gy * gy * (_TWO - gy)) * e
            + fy * fy * fy * _SIXTH * d
        )


@compiled
def spline_map(coefficients, u, v, out):  # type: ignore[no-untyped-def]
    """Cubic samples of an image at a map of pixels; the border continues outwards.

    Args:
        coefficients: Of its splines, with their padding, shape (H + 3, W + 3, C).
        u: Columns, shape (h, w).
        v: Rows.
        out: Output, shape (h, w, C).
    """
    bottom, right = _F(coefficients.shape[0] - PADDING - 1), _F(coefficients.shape[1] - PADDING - 1)
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            x = min(max(u[r, c], _ZERO), right)
            y = min(max(v[r, c], _ZERO), bottom)
            j, i = int(x), int(y)
            fx, fy = x - _F(j), y - _F(i)
            gx, gy = _ONE - fx, _ONE - fy
            x0, x3 = gx * gx * gx * _SIXTH, fx * fx * fx * _SIXTH
            x1 = _TWO_THIRDS - _HALF * fx * fx * (_TWO - fx)
            x2 = _TWO_THIRDS - _HALF * gx * gx * (_TWO - gx)
            y0, y3 = gy * gy * gy * _SIXTH, fy * fy * fy * _SIXTH
            y1 = _TWO_THIRDS - _HALF * fy * fy * (_TWO - fy)
            y2 = _TWO_THIRDS - _HALF * gy * gy * (_TWO - gy)
            for channel in range(out.shape[2]):
                total = _ZERO
                for k, share in enumerate((y0, y1, y2, y3)):
                    total += share * (
                        x0 * coefficients[i + k, j, channel]
                        + x1 * coefficients[i + k, j + 1, channel]
                        + x2 * coefficients[i + k, j + 2, channel]
                        + x3 * coefficients[i + k, j + 3, channel]
                    )
                out[r, c, channel] = total
