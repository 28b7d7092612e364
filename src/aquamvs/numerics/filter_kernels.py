"""Filters of maps, compiled for the CPU (numba).

The arithmetic is that of :mod:`~.filters`, which stays the reference (and what runs on other
devices); tests compare the two.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

import numpy as np

from .compiler import compiled

_F = np.float32
_ZERO, _ONE, _HALF = _F(0), _F(1), _F(0.5)
_NAN, _INF, _TINY = _F(np.nan), _F(np.inf), _F(np.finfo(np.float32).tiny)


_SORT9 = (
    *((0, 3), (1, 7), (2, 5), (4, 8), (0, 7), (2, 4), (3, 8), (5, 6), (0, 2), (1, 3), (4, 5)),
    *((7, 8), (1, 4), (3, 6), (5, 7), (0, 1), (2, 4), (3, 5), (6, 8), (2, 3), (4, 5), (6, 7)),
    *((1, 2), (3, 4), (5, 6)),
)
"""Pairs that sort nine values when they are put in order one after the other."""
_ROWS = 64
"""Rows that are smoothed at a time: they stay in a cache."""
_LEAST = _F(1e-6)
_COLUMNS = 256
"""Cells of a row that are worked on at a time: their neighbourhoods stay in the nearest cache."""


@compiled
def _neighbours(values, r, c, rows, columns, out):  # type: ignore[no-untyped-def]
    """Copy part of a row, shape (n,), beginning at cell (r, c); the edge is repeated outwards."""
    line = values[min(max(r, 0), rows - 1)]
    for k in range(out.shape[0]):
        out[k] = line[min(max(c + k, 0), columns - 1)]


@compiled
def smooth(values, taps, smoothed):  # type: ignore[no-untyped-def]
    """Separable symmetric filter.

    Args:
        values: shape (rows + n - 1, columns + n - 1).
        taps: shape (n,), n odd.
        smoothed: Output, shape (rows, columns).
    """
    rows, columns = smoothed.shape
    n = taps.shape[0]
    radius = n // 2
    across = np.empty((n, columns), values.dtype)  # rows that the next ones need, in turn
    for r in range(rows + n - 1):
        line, into = values[r], across[r % n]
        for c in range(columns):
            into[c] = taps[radius] * line[c + radius]
        for i in range(radius):
            tap, j = taps[i], n - 1 - i
            for c in range(columns):
                into[c] += tap * (line[c + i] + line[c + j])
        if r < n - 1:
            continue
        total, middle = smoothed[r - n + 1], across[(r - radius) % n]
        for c in range(columns):
            total[c] = taps[radius] * middle[c]
        for i in range(radius):
            tap, before, after = taps[i], across[(r - n + 1 + i) % n], across[(r - i) % n]
            for c in range(columns):
                total[c] += tap * (before[c] + after[c])


@compiled
def local_rms(values, known, taps, least_share, first, last, rms):  # type: ignore[no-untyped-def]
    """Root mean square of the known cells under a window; the edge is repeated outwards.

    Args:
        values: shape (rows, columns).
        known: Same shape, bool.
        taps: Window, shape (n,), n odd.
        least_share: Of the window that must be known.
        first: Row to begin with.
        last: Row to end before.
        rms: Output, shape (rows, columns); NaN where less is known.
    """
    rows, columns = values.shape
    reach = taps.shape[0] // 2
    squares, there = np.zeros((2, _ROWS + 2 * reach, columns + 2 * reach), np.float32)
    mean, share = np.empty((2, _ROWS, columns), np.float32)
    for start in range(first, last, _ROWS):
        count = min(_ROWS, last - start)
        for k in range(count + 2 * reach):
            r = min(max(start + k - reach, 0), rows - 1)
            line, usable, a, b = values[r], known[r], squares[k], there[k]
            for c in range(columns):
                value = line[c] if usable[c] else _ZERO
                a[c + reach] = value * value
                b[c + reach] = _ONE if usable[c] else _ZERO
            end = columns + reach
            a[:reach], b[:reach], a[end:], b[end:] = a[reach], b[reach], a[end - 1], b[end - 1]
        smooth(squares[: count + 2 * reach], taps, mean[:count])
        smooth(there[: count + 2 * reach], taps, share[:count])
        for k in range(count):
            a, b, out = mean[k], share[k], rms[start + k]
            for c in range(columns):
                out[c] = np.sqrt(a[c] / max(b[c], _LEAST)) if b[c] > least_share else _NAN


@compiled
def median3(values, first, last, median):  # type: ignore[no-untyped-def]
    """Lower median of the known cells of every 3 x 3 neighbourhood; the edge is repeated outwards.

    Args:
        values: shape (rows, columns), NaN where unknown.
        first: Row to begin with.
        last: Row to end before.
        median: Output, shape (rows, columns); NaN where the cell is unknown.
    """
    rows, columns = values.shape
    around, known = np.empty((9, _COLUMNS), np.float32), np.empty(_COLUMNS, np.int32)
    for r in range(first, last):
        for start in range(0, columns, _COLUMNS):
            count = min(_COLUMNS, columns - start)
            known[:] = 0
            for k in range(9):
                line = around[k, :count]
                _neighbours(values, r + k // 3 - 1, start + k % 3 - 1, rows, columns, line)
                for c in range(count):
                    known[c] += line[c] == line[c]
                    line[c] = line[c] if line[c] == line[c] else _INF
            for a, b in _SORT9:
                for c in range(count):
                    low, high = around[a, c], around[b, c]
                    around[a, c] = low if low < high else high
                    around[b, c] = high if low < high else low
            for c in range(count):
                here = np.isnan(values[r, start + c])
                median[r, start + c] = _NAN if here else around[(known[c] - 1) // 2, c]


@compiled
def isolated(values, radius, tolerance, first, last, found):  # type: ignore[no-untyped-def]
    """Cells that are further than a tolerance from the lower median of their neighbourhood.

    Or of whose neighbourhood fewer than a third is known. Where the median is need not be known: it
    is further below if more than half of the known cells are.

    Args:
        values: shape (rows, columns), NaN where unknown.
        radius: Of the neighbourhood, cells; the edge is repeated outwards.
        tolerance: See above.
        first: Row to begin with.
        last: Row to end before.
        found: Output, shape (rows, columns), bool; False where the cell is unknown.
    """
    rows, columns = values.shape
    side = 2 * radius + 1
    wide = np.empty(_COLUMNS + 2 * radius, np.float32)
    below, above, known = np.empty((3, _COLUMNS), np.int32)
    for r in range(first, last):
        for start in range(0, columns, _COLUMNS):
            count = min(_COLUMNS, columns - start)
            middle = values[r, start : start + count]
            below[:], above[:], known[:] = 0, 0, 0
            for i in range(side):
                line = wide[: count + 2 * radius]
                _neighbours(values, r + i - radius, start - radius, rows, columns, line)
                for j in range(side):
                    for c in range(count):
                        away = middle[c] - line[c + j]
                        below[c] += away > tolerance
                        above[c] += away < -tolerance
                        known[c] += line[c + j] == line[c + j]
            for c in range(count):
                half = (known[c] - 1) // 2  # of the known cells are below the median
                far = below[c] > half or above[c] >= known[c] - half
                sparse = 3 * known[c] < side * side
                found[r, start + c] = (far or sparse) and not np.isnan(middle[c])


@compiled
def smooth_pairs(values, limit, weights, out):  # type: ignore[no-untyped-def]
    """Mean of every cell with those opposite pairs of neighbours whose mean lies close to it.

    Args:
        values: shape (rows + 2 r, columns + 2 r), with a margin of r; NaN where unknown.
        limit: Largest distance of a pair's mean from the cell, shape (rows, columns).
        weights: Of a pair by its offset, shape (r + 1, 2 r + 1); 0 for the pairs to leave out.
        out: Output, shape (rows, columns); NaN where the cell is unknown.
    """
    rows, columns = out.shape
    reach = weights.shape[0] - 1
    total, weight = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for r in range(rows):
        middle, bound = values[r + reach], limit[r]
        for c in range(columns):
            total[c], weight[c] = _ZERO, _ONE
        for i in range(reach + 1):
            below, above = values[r + reach + i], values[r + reach - i]
            for j in range(2 * reach + 1):
                share = weights[i, j]
                if share > _ZERO:
                    other = 2 * reach - j
                    for c in range(columns):
                        away = _HALF * (below[c + j] + above[c + other]) - middle[c + reach]
                        if abs(away) < bound[c]:
                            total[c] += share * away
                            weight[c] += share
        for c in range(columns):
            out[r, c] = middle[c + reach] + total[c] / weight[c]


@compiled
def grid_normals(points, towards, slope, radius, first, last, normals):  # type: ignore[no-untyped-def]
    """Normals from mean differences of neighbours, see :func:`aquamvs.maps.grid_normals`.

    Args:
        points: shape (rows, columns, 3); NaN where unknown.
        towards: Unit vectors to the observer, same shape.
        slope: A steeper difference against that direction is a jump.
        radius: Windows have 2 radius + 1 pixels a side.
        first: Row to begin with.
        last: Row to end before.
        normals: Output, same shape.
    """
    rows, columns = points.shape[:2]
    side = 2 * radius + 1
    below, above = np.zeros((4, columns), np.float32), np.zeros((4, columns), np.float32)
    steps = np.zeros((4, columns + 1), np.float32)  # with one before the row and one behind it
    wide = np.zeros((8, columns + 2 * radius), np.float32)
    sums = np.zeros((side, 8, columns), np.float32)  # along rows that the next ones need, in turn
    total = np.empty((8, columns), np.float32)
    start = max(first - radius, 0)
    if start > 0:
        _steps_between(points[start - 1], points[start], towards[start - 1], slope, below)
    for r in range(start, last + radius):
        into = sums[r % side]
        if r < rows:
            line = points[r]
            above, below = below, above
            if r + 1 < rows:
                _steps_between(line, points[r + 1], towards[r], slope, below)
            else:
                below[:] = _ZERO
            _steps_between(line[:-1], line[1:], towards[r], slope, steps[:, 1:columns])
            for k in range(4):
                # Each difference lies between two pixels and is shared by both.
                for c in range(columns):
                    wide[k, c + radius] = steps[k, c] + steps[k, c + 1]
                    wide[k + 4, c + radius] = above[k, c] + below[k, c]
            for k in range(8):
                for c in range(columns):
                    into[k, c] = wide[k, c]
                for j in range(1, side):
                    for c in range(columns):
                        into[k, c] += wide[k, c + j]
        else:
            into[:] = _ZERO
        out = r - radius
        if out < first:
            continue
        total[:] = _ZERO
        for i in range(max(out - radius, start), r + 1):
            for k in range(8):
                for c in range(columns):
                    total[k, c] += sums[i % side, k, c]
        _unit_normals(points[out], towards[out], total, normals[out])


@compiled
def _steps_between(one, other, towards, slope, steps):  # type: ignore[no-untyped-def]
    """Differences of a row's neighbours, x, y, z, and 1; all 0 where unknown or across a jump."""
    for c in range(one.shape[0]):
        x, y, z = other[c, 0] - one[c, 0], other[c, 1] - one[c, 1], other[c, 2] - one[c, 2]
        rise = x * towards[c, 0] + y * towards[c, 1] + z * towards[c, 2]
        run = x * x + y * y + z * z - rise * rise
        usable = rise * rise <= slope * slope * run  # False for NaN
        steps[0, c], steps[1, c] = x if usable else _ZERO, y if usable else _ZERO
        steps[2, c], steps[3, c] = z if usable else _ZERO, _ONE if usable else _ZERO


@compiled
def _unit_normals(points, towards, total, normals):  # type: ignore[no-untyped-def]
    """Normals of a row from the sums of steps along u and along v and their numbers."""
    for c in range(points.shape[0]):
        along, down = max(total[3, c], _ONE), max(total[7, c], _ONE)
        ux, uy, uz = total[0, c] / along, total[1, c] / along, total[2, c] / along
        vx, vy, vz = total[4, c] / down, total[5, c] / down, total[6, c] / down
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        tx, ty, tz = towards[c, 0], towards[c, 1], towards[c, 2]
        length = np.sqrt(x * x + y * y + z * z)
        scale = (-_ONE if x * tx + y * ty + z * tz < _ZERO else _ONE) / length
        flat = length <= _TINY
        known = np.isfinite(points[c, 0] + points[c, 1] + points[c, 2])
        normals[c, 0] = (tx if flat else scale * x) if known else _NAN
        normals[c, 1] = (ty if flat else scale * y) if known else _NAN
        normals[c, 2] = (tz if flat else scale * z) if known else _NAN
