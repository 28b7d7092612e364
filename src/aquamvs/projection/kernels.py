"""Snell's law at a flat interface, compiled for the CPU (numba).

The arithmetic is that of :class:`~.refractive.RefractiveProjectionModel`, in float32.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

from math import sqrt

import numpy as np

from ..numerics.compiler import compiled

_ONE = np.float32(1)
_NAN, _EPS = np.float32(np.nan), np.float32(np.finfo(np.float32).eps)
_NEWTON_STEPS = 3
# Places in a camera's coefficients; see ``RefractiveProjectionModel.coefficients``.
CENTRE, ROWS, DOWN, NORMAL, HEIGHT, INDEX, REFRACTIVE = 0, 3, 12, 15, 18, 19, 20


@compiled
def bend(square, sunk, height):  # type: ignore[no-untyped-def]
    """Where a path crosses the interface, as w: the crossing's share of the offset is w h.

    Args:
        square: Horizontal distance squared times 1 - (n_air / n_water)^2, m^2.
        sunk: Depth of the point under the interface times n_air / n_water, metres.
        height: Of the camera over the interface, metres.
    """
    w = _ONE / (height + sunk)
    for _ in range(_NEWTON_STEPS):
        w = _step(square, sunk, height, w)
    return w


@compiled
def _step(square, sunk, height, w):  # type: ignore[no-untyped-def]
    """Newton's step from w."""
    s = _ONE / sqrt(_ONE + square * w * w)
    t = sunk * s
    return (_ONE + t * w * (s * s - _ONE)) / (height + t * s * s)


@compiled
def bend_row(square, sunk, height, w):  # type: ignore[no-untyped-def]
    """:func:`bend` of a row of points, into ``w``.

    All of them take one step before any takes the next: every step waits for its square root and
    its quotients, and meanwhile others can be worked on.
    """
    for c in range(w.shape[0]):
        w[c] = _ONE / (height + sunk[c])
    for _ in range(_NEWTON_STEPS):
        for c in range(w.shape[0]):
            w[c] = _step(square[c], sunk[c], height, w[c])


@compiled
def cast_row(camera, v, rays):  # type: ignore[no-untyped-def]
    """Rays under water that belong to a row of pixels.

    Args:
        camera: Ray coefficients of its model, shape (17,).
        v: Number of the row.
        rays: Output, shape (6, width): origins on the water surface, metres (NaN where a pixel
            looks at or above the horizon), and unit directions.
    """
    cx, cy, cz = camera[0], camera[1], camera[2]
    xu, xv, xw, yu, yv, yw, zu, zv, zw = camera[3:12]
    nx, ny, nz, height, k = camera[12:17]
    row = np.float32(v)
    for c in range(rays.shape[1]):
        u = np.float32(c)
        x, y, z = xu * u + xv * row + xw, yu * u + yv * row + yw, zu * u + zv * row + zw
        scale = _ONE / np.sqrt(x * x + y * y + z * z)
        x, y, z = x * scale, y * scale, z * scale
        descent = -(x * nx + y * ny + z * nz)
        distance = height / descent if descent > _EPS else _NAN
        rays[0, c], rays[1, c] = cx + distance * x, cy + distance * y
        rays[2, c] = cz + distance * z
        turn = k * descent - np.sqrt(_ONE - k * k * (_ONE - descent * descent))
        rays[3, c], rays[4, c] = k * x + turn * nx, k * y + turn * ny
        rays[5, c] = k * z + turn * nz
