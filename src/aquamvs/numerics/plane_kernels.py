"""Planes around blocks of cells, compiled for the CPU (numba).

The arithmetic is that of :mod:`~.planes`, which stays the reference (and what runs on other
devices), here in float64 throughout; tests compare the two. A plane is what holds at a place, in
the first axis: height there, slopes along X and Y (metres per cell), variance and relief.
"""

import numpy as np

from .compiler import compiled
from .filter_kernels import smooth

MOMENTS, PLANE = 11, 5
"""Sums of a block, and numbers of a plane."""
_LEAST_VARIANCE = 1e-14
_LEAST_DOUBT = 1e-12


@compiled
def mean_height(z, variance):  # type: ignore[no-untyped-def]
    """Mean of the known heights, shape (rows, columns); NaN where none is known."""
    total, count = 0.0, 0
    for r in range(z.shape[0]):
        for c in range(z.shape[1]):
            known = np.isfinite(z[r, c]) & np.isfinite(variance[r, c])
            total += z[r, c] if known else 0.0
            count += known
    return total / count if count else np.nan


@compiled
def block_moments(z, variance, middle, side, first, last, moments):  # type: ignore[no-untyped-def]
    """Sums over blocks of w·(1, x, y, xx, xy, yy, z, xz, yz, zz) and of cells.

    Args:
        z: Heights, shape (rows, columns), metres; NaN where unknown.
        variance: Of each, m².
        middle: Height that they are counted from, metres; x and y are cells from the map's first.
        side: Of a block, cells.
        first: Row of blocks to begin with.
        last: Row of blocks to end before.
        moments: Output, shape (11, h, w), float64.
    """
    rows, columns = z.shape
    sums = np.empty(MOMENTS)
    for i in range(first, last):
        for j in range(moments.shape[2]):
            sums[:] = 0.0
            for r in range(side * i, min(side * (i + 1), rows)):
                for c in range(side * j, min(side * (j + 1), columns)):
                    height, noise = z[r, c] - middle, variance[r, c]
                    if not (np.isfinite(height) and np.isfinite(noise)):
                        continue
                    x, y, w = float(c), float(r), 1 / max(float(noise), _LEAST_VARIANCE)
                    wx, wy, wz = w * x, w * y, w * height
                    sums[0] += w
                    sums[1] += wx
                    sums[2] += wy
                    sums[3] += wx * x
                    sums[4] += wx * y
                    sums[5] += wy * y
                    sums[6] += wz
                    sums[7] += wz * x
                    sums[8] += wz * y
                    sums[9] += wz * height
                    sums[10] += 1.0
            moments[:, i, j] = sums


@compiled
def pool(moments, pooled):  # type: ignore[no-untyped-def]
    """Moments of blocks of twice the size, shape (11, h, w) -> (11, ceil h/2, ceil w/2)."""
    _, rows, columns = moments.shape
    pooled[:] = 0.0
    for k in range(MOMENTS):
        for i in range(rows):
            for j in range(columns):
                pooled[k, i // 2, j // 2] += moments[k, i, j]


@compiled
def _sums_around(blocks, taps, sums):  # type: ignore[no-untyped-def]
    """Weighted sums over the blocks around each; there is nothing beyond the edge."""
    reach = taps.shape[0] // 2
    rows, columns = blocks.shape
    padded = np.zeros((rows + 2 * reach, columns + 2 * reach))
    padded[reach : reach + rows, reach : reach + columns] = blocks
    smooth(padded, taps, sums)


@compiled
def fit(moments, taps, side, ridge, correlated, least_weight, prior, planes):  # type: ignore[no-untyped-def]
    """Weighted least-squares plane around every block.

    Args:
        moments: From :func:`block_moments`, of blocks of this size, shape (11, h, w).
        taps: Window of a plane, blocks, shape (n,).
        side: Of a block, cells.
        ridge: Weight of the slopes that are expected.
        correlated: Cells that share one error.
        least_weight: Of no information, 1/m².
        prior: Plane expected at each block, shape (5, h, w).
        planes: Output, shape (5, h, w); in place of relief the squares of what is off the plane.

    Returns:
        Sums of weights and of cells around each block, shape (2, h, w).
    """
    _, rows, columns = moments.shape
    around = np.empty_like(moments)
    for k in range(MOMENTS):
        _sums_around(moments[k], taps, around[k])
    for i in range(rows):
        y = (side - 1) / 2 + side * i
        for j in range(columns):
            x = (side - 1) / 2 + side * j
            w, wx, wy, wxx, wxy, wyy, wz, wxz, wyz, wzz, _ = around[:, i, j]
            # About the block's centre.
            wxx, wxy = wxx - 2 * x * wx + x * x * w, wxy - x * wy - y * wx + x * y * w
            wyy = wyy - 2 * y * wy + y * y * w
            wx, wy, wxz, wyz = wx - x * w, wy - y * w, wxz - x * wz, wyz - y * wz
            # What is left to find once the expected slope is taken out.
            tilt_x, tilt_y = prior[1, i, j], prior[2, i, j]
            wzz += tilt_x * tilt_x * wxx + 2 * tilt_x * tilt_y * wxy + tilt_y * tilt_y * wyy
            wzz -= 2 * (tilt_x * wxz + tilt_y * wyz)
            wz -= tilt_x * wx + tilt_y * wy
            wxz -= tilt_x * wxx + tilt_y * wxy
            wyz -= tilt_x * wxy + tilt_y * wyy
            a, d, f = w + least_weight, wxx + ridge, wyy + ridge
            m0, m1, m2 = d * f - wxy * wxy, wxy * wy - wx * f, wx * wxy - d * wy
            determinant = a * m0 + wx * m1 + wy * m2
            cross = wx * wy - a * wxy
            height = (m0 * wz + m1 * wxz + m2 * wyz) / determinant
            slope_x = (m1 * wz + (a * f - wy * wy) * wxz + cross * wyz) / determinant
            slope_y = (m2 * wz + cross * wxz + (a * d - wx * wx) * wyz) / determinant
            planes[0, i, j] = height
            planes[1, i, j], planes[2, i, j] = tilt_x + slope_x, tilt_y + slope_y
            planes[3, i, j] = correlated * m0 / determinant
            planes[4, i, j] = max(wzz - height * wz - slope_x * wxz - slope_y * wyz, 0.0)
    return around[::10]


@compiled
def tell_relief(around, taps, shown, evident, least_weight, planes):  # type: ignore[no-untyped-def]
    """Turn the squares of what is off the planes into relief beyond the noise.

    Args:
        around: From :func:`fit`.
        taps: Window in which relief below the noise is pooled, blocks, shape (n,).
        shown: Mean square off a plane that noise alone leaves, over its variance.
        evident: Relief above this many times the noise (squared) is not pooled.
        least_weight: See :func:`fit`.
        planes: In and out, shape (5, h, w).
    """
    weight, number = around
    excess, pooled, count = np.empty((3, *number.shape))
    for i in range(number.shape[0]):
        for j in range(number.shape[1]):
            excess[i, j] = planes[4, i, j] / max(number[i, j], least_weight) - shown
            planes[4, i, j] = number[i, j] * min(excess[i, j], evident)
    _sums_around(planes[4], taps, pooled)
    _sums_around(number, taps, count)
    for i in range(number.shape[0]):
        for j in range(number.shape[1]):
            one = excess[i, j]
            if not one > evident:
                one = pooled[i, j] / max(count[i, j], least_weight)
            planes[4, i, j] = max(one, 0.0) * number[i, j] / max(weight[i, j], least_weight)


@compiled
def combine(prior, planes):  # type: ignore[no-untyped-def]
    """Mean of the planes and of those expected there, which miss relief; in place, (5, h, w)."""
    for i in range(planes.shape[1]):
        for j in range(planes.shape[2]):
            relief, variance = prior[4, i, j], planes[3, i, j]
            gain = relief / (relief + variance)
            for k in range(3):
                planes[k, i, j] = prior[k, i, j] + gain * (planes[k, i, j] - prior[k, i, j])
            left = (1 - gain) * (1 - gain) * (prior[3, i, j] + relief)
            planes[3, i, j] = left + gain * gain * variance


@compiled
def weighed(planes, side):  # type: ignore[no-untyped-def]
    """Planes as they are blended: their certainty, and with it what holds at the map's first cell.

    Args:
        planes: shape (5, h, w).
        side: Of a block, cells.

    Returns:
        shape (6, h, w): the certainty itself goes first.
    """
    _, rows, columns = planes.shape
    maps = np.empty((1 + PLANE, rows, columns))
    for i in range(rows):
        y = (side - 1) / 2 + side * i
        for j in range(columns):
            x = (side - 1) / 2 + side * j
            height, slope_x, slope_y, variance, relief = planes[:, i, j]
            certainty = 1 / (variance + relief + _LEAST_DOUBT)
            maps[0, i, j] = certainty
            maps[1, i, j] = certainty * (height - slope_x * x - slope_y * y)
            maps[2, i, j], maps[3, i, j] = certainty * slope_x, certainty * slope_y
            maps[4, i, j], maps[5, i, j] = certainty * variance, certainty * relief
    return maps


@compiled
def _places(size, factor, count):  # type: ignore[no-untyped-def]
    """The block before each of ``size`` smaller ones, the block after, and the share of that."""
    before, after = np.empty((2, size), np.int32)
    share = np.empty(size)
    for k in range(size):
        at = max((k + 0.5) / factor - 0.5, 0.0)
        before[k] = min(int(at), count - 1)
        after[k] = min(before[k] + 1, count - 1)
        share[k] = at - before[k]
    return before, after, share


@compiled
def _blend(maps, r, side, down, across, line, out):  # type: ignore[no-untyped-def]
    """Planes at the centres of a row of smaller blocks, shape (5, columns); ``line`` is scratch."""
    above, below, share = down
    left, right, shares = across
    for k in range(1 + PLANE):
        a, b, t = maps[k, above[r]], maps[k, below[r]], line[k]
        for j in range(t.shape[0]):
            t[j] = a[j] + share[r] * (b[j] - a[j])
    y, t = (side - 1) / 2 + side * r, line[0]
    total = out[PLANE]
    for c in range(total.shape[0]):
        total[c] = 1 / (t[left[c]] + shares[c] * (t[right[c]] - t[left[c]]))
    for k in range(PLANE):
        t, values = line[k + 1], out[k]
        for c in range(total.shape[0]):
            values[c] = (t[left[c]] + shares[c] * (t[right[c]] - t[left[c]])) * total[c]
    height, slope_x, slope_y = out[0], out[1], out[2]
    for c in range(total.shape[0]):
        height[c] += slope_x[c] * ((side - 1) / 2 + side * c) + slope_y[c] * y


@compiled
def spread_out(maps, factor, side, planes):  # type: ignore[no-untyped-def]
    """Planes at the centres of smaller blocks.

    Args:
        maps: From :func:`weighed`.
        factor: Smaller blocks along one.
        side: Of a smaller block, cells.
        planes: Output, shape (5, h, w).
    """
    _, rows, columns = planes.shape
    line, out = np.empty((1 + PLANE, maps.shape[2])), np.empty((PLANE + 1, columns))
    down = _places(rows, factor, maps.shape[1])
    across = _places(columns, factor, maps.shape[2])
    for r in range(rows):
        _blend(maps, r, side, down, across, line, out)
        planes[:, r] = out[:PLANE]


@compiled
def settle(maps, side, z, variance, middle, first, last, out):  # type: ignore[no-untyped-def]
    """Combine cells with the planes there.

    Args:
        maps: From :func:`weighed`, of the smallest blocks.
        side: Of these, cells.
        z: See :func:`block_moments`.
        variance: See there.
        middle: See there.
        first: Row to begin with.
        last: Row to end before.
        out: Output, see :class:`~.planes.Settled`, shape (4, rows, columns); or (1, rows, columns)
            for the heights alone.
    """
    rows, columns = z.shape
    line, planes = np.empty((1 + PLANE, maps.shape[2])), np.empty((PLANE + 1, columns))
    down, across = _places(rows, side, maps.shape[1]), _places(columns, side, maps.shape[2])
    prior, _, _, uncertain, missed, _ = planes
    gain = np.empty(columns)
    for r in range(first, last):
        _blend(maps, r, 1, down, across, line, planes)
        heights, noises = z[r], variance[r]
        settled = out[0, r]
        for c in range(columns):
            height, noise = heights[c] - middle, float(noises[c])
            known = np.isfinite(height) & np.isfinite(noise)
            gain[c] = missed[c] / (missed[c] + noise) if known else 0.0
            settled[c] = prior[c] + (gain[c] * (height - prior[c]) if known else 0.0) + middle
        if out.shape[0] == 1:
            continue
        own, fitted, left = out[1, r], out[2, r], out[3, r]
        for c in range(columns):
            taken = (1 - gain[c]) * (1 - gain[c])
            own[c] = gain[c] * gain[c] * float(noises[c]) if gain[c] > 0.0 else 0.0
            fitted[c], left[c] = taken * uncertain[c], taken * missed[c]
