"""Snell's law for a point under a flat interface, compiled for the CPU (numba).

The arithmetic is that of :class:`~.refractive.RefractiveProjectionModel`, in float32.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

from math import sqrt

import numpy as np

from ..numerics.compiler import compiled

_ONE = np.float32(1)
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
