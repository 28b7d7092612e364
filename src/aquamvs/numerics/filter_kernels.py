"""Filters of maps, compiled for the CPU (numba).

The arithmetic is that of :mod:`~.filters`, which stays the reference (and what runs on other
devices); tests compare the two.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

import numpy as np

from .compiler import compiled

_F = np.float32
_ZERO, _ONE, _HALF = _F(0), _F(1), _F(0.5)
_NAN = _F(np.nan)


@compiled
def known_median(values, radius, first, last, median):  # type: ignore[no-untyped-def]
    """Lower median of the known cells of every neighbourhood; the edge is repeated outwards.

    Args:
        values: shape (rows, columns), NaN where unknown.
        radius: Of the neighbourhood, cells.
        first: Row to begin with.
        last: Row to end before.
        median: Output, shape (rows, columns); NaN where no cell is known.
    """
    rows, columns = values.shape
    kept = np.empty((2 * radius + 1) ** 2, np.float32)
    for r in range(first, last):
        for c in range(columns):
            count = 0
            for i in range(r - radius, r + radius + 1):
                line = values[min(max(i, 0), rows - 1)]
                for j in range(c - radius, c + radius + 1):
                    value = line[min(max(j, 0), columns - 1)]
                    if np.isnan(value):
                        continue
                    place = count
                    while place > 0 and kept[place - 1] > value:
                        kept[place] = kept[place - 1]
                        place -= 1
                    kept[place] = value
                    count += 1
            median[r, c] = kept[(count - 1) // 2] if count > 0 else _NAN


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
