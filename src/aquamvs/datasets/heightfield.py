"""A smooth height field that rays can be intersected with exactly.

The surface is ``z = h(x, y)`` with h a uniform bicubic B-spline, so it is twice continuously
differentiable, lies within the range of its coefficients, and has a slope bounded by their
differences (convex hull property; de Boor, A Practical Guide to Splines). Both bounds make the
intersection safe: a ray steeper than the steepest slope meets the surface exactly once, and on any
ray ``-g / (dz + L |dxy|)`` is a step that cannot jump over the first root.

Arrays here are structure-of-arrays, shape (3, N), float64: every operation then runs over
contiguous memory, and every ray is treated alone, so that results do not depend on the block.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError

Array = NDArray[np.float64]

_CONVERGED = 1e-7
"""Residual, metres, from which one more Newton step reaches rounding (the error squares)."""
_NEWTON_STEPS = 60
"""At most; bisection alone would reach 1e-17 m. Three are usual."""
_MARCH_STEPS = 4000
"""At most, on rays so flat that they may meet the surface more than once."""
_MARCH_TOLERANCE = 1e-10
_GRAZING = 1e-7
"""Residual, metres, with which a ray that ran out of steps while touching the surface counts."""


@dataclass(frozen=True, slots=True)
class SplineSurface:
    """Height field on a rectangle, z down.

    Attributes:
        x0: X of the first column of coefficients, metres.
        y0: Y of the first row of coefficients, metres.
        spacing: Distance of coefficients, metres.
        coefficients: B-spline coefficients of z, shape (rows, columns), at least 4 x 4, float64.
        z_range: Bounds of z over the whole surface, metres.
        slope_bound: Upper bound of the gradient's length.
    """

    x0: float
    y0: float
    spacing: float
    coefficients: Array = field(repr=False)
    z_range: tuple[float, float] = field(init=False)
    slope_bound: float = field(init=False)

    def __post_init__(self) -> None:
        c = self.coefficients
        if c.ndim != 2 or min(c.shape) < 4:
            raise ShapeError("coefficients", c.shape, "(rows, columns), at least 4 x 4")
        # The gradient at a point is a mean of differences within two rows and columns of it.
        steps = (np.abs(np.diff(c[:-1], axis=1)), np.abs(np.diff(c[:, :-1], axis=0)))
        slope = np.hypot(*(cv2.dilate(step, np.ones((7, 7))) for step in steps)).max()
        # Frozen: the bounds are derived once, because every block of rays asks for them.
        object.__setattr__(self, "z_range", (float(c.min()), float(c.max())))
        object.__setattr__(self, "slope_bound", float(slope / self.spacing))

    def evaluate(self, x: Array, y: Array) -> tuple[Array, Array, Array]:
        """Height and its gradient.

        Args:
            x: World X, shape (N,), metres; beyond the grid the border height is continued.
            y: World Y, shape (N,), metres.

        Returns:
            z, dz/dx and dz/dy, each of shape (N,).
        """
        rows, columns = self.coefficients.shape
        column, wx, dx = _weights((x - self.x0) / self.spacing, columns)
        row, wy, dy = _weights((y - self.y0) / self.spacing, rows)
        first = row * columns + column
        flat = self.coefficients.reshape(-1)
        z = np.zeros_like(wx[0])
        z_x, z_y = np.zeros_like(z), np.zeros_like(z)
        for j in range(4):
            # Views that start later save the additions to the indices.
            taps = [flat[j * columns + i :].take(first) for i in range(4)]
            value = wx[0] * taps[0] + wx[1] * taps[1] + wx[2] * taps[2] + wx[3] * taps[3]
            slope = dx[0] * taps[0] + dx[1] * taps[1] + dx[2] * taps[2] + dx[3] * taps[3]
            z += wy[j] * value
            z_x += wy[j] * slope
            z_y += dy[j] * value
        return z, z_x / self.spacing, z_y / self.spacing

    def intersect(self, origins: Array, directions: Array, limit: Array) -> Array:
        """Distance along rays to the first point on the surface, from above.

        Args:
            origins: shape (3, N), metres; a ray that starts below the surface hits nothing.
            directions: Unit vectors, shape (3, N).
            limit: Distance at which each ray leaves the surface's rectangle, shape (N,), metres.

        Returns:
            Distances, shape (N,), metres; infinite where there is none before ``limit``.
        """
        distance = np.full(origins.shape[1], np.inf)
        flat = np.hypot(directions[0], directions[1])
        steep = directions[2] > self.slope_bound * flat
        for chosen, solve in ((steep, self._newton), (~steep, self._march)):
            index = np.flatnonzero(chosen)
            if len(index):
                distance[index] = solve(
                    np.ascontiguousarray(origins[:, index]),
                    np.ascontiguousarray(directions[:, index]),
                    limit[index],
                )
        return distance

    def _nearest_height(self, x: Array, y: Array) -> Array:
        """Coefficient nearest to each point: a height good to a few millimetres."""
        rows, columns = self.coefficients.shape
        column = np.clip(np.rint((x - self.x0) / self.spacing), 0, columns - 1)
        row = np.clip(np.rint((y - self.y0) / self.spacing), 0, rows - 1)
        index = (row * columns + column).astype(np.intp)
        return np.asarray(self.coefficients.reshape(-1).take(index))

    def _newton(self, o: Array, d: Array, limit: Array) -> Array:
        """Safeguarded Newton's method on rays along which the residual only grows."""
        z_min, z_max = self.z_range
        low = np.maximum((z_min - o[2]) / d[2], 0.0)
        high = (z_max - o[2]) / d[2]
        s = 0.5 * (low + high)
        for _ in range(2):
            z = self._nearest_height(o[0] + s * d[0], o[1] + s * d[1])
            s = np.clip((z - o[2]) / d[2], low, high)
        result = np.full_like(s, np.inf)
        index = np.flatnonzero(high >= 0)
        if len(index) < len(s):
            o, d, s, low, high = (a[..., index] for a in (o, d, s, low, high))
        for _ in range(_NEWTON_STEPS):
            z, z_x, z_y = self.evaluate(o[0] + s * d[0], o[1] + s * d[1])
            residual = o[2] + s * d[2] - z
            step = residual / (d[2] - z_x * d[0] - z_y * d[1])
            low = np.where(residual < 0, s, low)
            high = np.where(residual > 0, s, high)
            update = s - step
            settled = np.abs(residual) < _CONVERGED
            done = np.flatnonzero(settled)
            result[index[done]] = update[done]
            if len(done) == len(s):
                break
            # Fifteen digits of bracket are all that there is: what has not settled is no hit.
            inside = (update > low) & (update < high)
            s = np.where(inside, update, 0.5 * (low + high))
            if len(done):
                keep = np.flatnonzero(~settled)
                index = index[keep]
                o, d, s, low, high = (a[..., keep] for a in (o, d, s, low, high))
        return np.where((result > 0) & (result <= limit), result, np.inf)

    def _march(self, o: Array, d: Array, limit: Array) -> Array:
        """Conservative steps on rays that may meet the surface more than once."""
        z_min, z_max = self.z_range
        with np.errstate(divide="ignore", invalid="ignore"):
            enter = np.where(d[2] > 0, (z_min - o[2]) / d[2], 0.0)
            leave = np.where(d[2] > 0, (z_max - o[2]) / d[2], (z_min - o[2]) / d[2])
        # An upward or level ray above the slab never comes down; NaN is a level ray in its top.
        leave = np.where((d[2] <= 0) & (o[2] > z_min), np.where(d[2] < 0, leave, np.inf), leave)
        limit = np.minimum(limit, leave)
        s = np.maximum(enter, 0.0)
        rate = np.abs(d[2]) + self.slope_bound * np.hypot(d[0], d[1])
        result = np.full_like(s, np.inf)
        index = np.flatnonzero((s <= limit) & np.isfinite(s) & np.isfinite(limit))
        start = s[index]
        residual = np.zeros(0)
        for _ in range(_MARCH_STEPS):
            p = o[:, index] + s[index] * d[:, index]
            residual = p[2] - self.evaluate(p[0], p[1])[0]
            hit = (residual > -_MARCH_TOLERANCE) & ((residual < _GRAZING) | (s[index] > start))
            result[index[hit]] = s[index[hit]]
            s[index] -= np.minimum(residual, -_MARCH_TOLERANCE) / rate[index]
            keep = ~hit & (residual <= 0) & (s[index] <= limit[index])
            index, start, residual = index[keep], start[keep], residual[keep]
            if not len(index):
                return result
        grazing = residual > -_GRAZING
        result[index[grazing]] = s[index[grazing]]
        return result


def _weights(position: Array, count: int) -> tuple[NDArray[np.intp], list[Array], list[Array]]:
    """First of the four coefficients at grid positions, their weights and weights' derivatives."""
    cell = np.clip(np.floor(position), 1, count - 3)
    t = np.clip(position - cell, 0.0, 1.0)
    r = 1 - t
    t2 = t * t
    w0, w3 = r * r * r / 6, t2 * t / 6
    w1 = (0.5 * t - 1) * t2 + 2 / 3
    d0, d3 = -0.5 * r * r, 0.5 * t2
    d1 = (1.5 * t - 2) * t
    first = cell.astype(np.intp) - 1
    return first, [w0, w1, 1 - w0 - w1 - w3, w3], [d0, d1, -d0 - d1 - d3, d3]
