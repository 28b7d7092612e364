"""Relief that narrow windows find, compiled for the CPU (numba).

The arithmetic is that of :mod:`~.relief`, which stays the reference (and what runs on other
devices); tests compare the two. Rows are worked on in pairs: ``first`` is even, and so is ``last``
but at the map's end.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

import numpy as np

from ..numerics.compiler import compiled
from ..numerics.filter_kernels import smooth

_F = np.float32
_ZERO, _ONE = _F(0), _F(1)
_QUARTER, _THREE_QUARTERS = _F(0.25), _F(0.75)
_TINY = _F(1e-20)
_ROWS = 32
"""Filtered at a time: they stay in the cache."""


@compiled
def split(found, base, variance, taps, first, last, fine, coarse, sums):  # type: ignore[no-untyped-def]
    """Finer and coarser band of what narrow windows found.

    Args:
        found: Heights, shape (rows, columns), metres; NaN where unknown.
        base: Heights of the wider windows, same shape.
        variance: Of what was found, m².
        taps: Smoothing that parts the bands, shape (n,).
        first: Row to begin with.
        last: Row to end before.
        fine: Output, shape (rows, columns).
        coarse: Output, likewise.
        sums: Output, means of 2 x 2 cells, shape (4, h, w): weights, cells that have any, and
            weighted squares of the finer and of the coarser band.
    """
    rows, columns = found.shape
    reach = taps.shape[0] // 2
    height, width = _ROWS + 2 * reach, columns + 2 * reach
    weights, products = np.empty((2, height, width), np.float32)
    total, mean = np.empty((2, _ROWS, columns), np.float32)
    for start in range(first, last, _ROWS):
        count = min(_ROWS, last - start)
        for k in range(count + 2 * reach):
            r = min(max(start + k - reach, 0), rows - 1)
            w, p = weights[k], products[k]
            for c in range(columns):
                away, noise = found[r, c] - base[r, c], variance[r, c]
                known = np.isfinite(away) & (noise > _ZERO) & np.isfinite(noise)
                w[c + reach] = _ONE / noise if known else _ZERO
                p[c + reach] = w[c + reach] * away if known else _ZERO
            for c in range(reach):
                w[c], p[c] = w[reach], p[reach]
                w[width - 1 - c], p[width - 1 - c] = w[width - 1 - reach], p[width - 1 - reach]
        smooth(weights[: count + 2 * reach], taps, total[:count])
        smooth(products[: count + 2 * reach], taps, mean[:count])
        for k in range(count):
            r = start + k
            w = weights[k + reach]
            for c in range(columns):
                coarse[r, c] = mean[k, c] / max(total[k, c], _TINY)
                away = found[r, c] - base[r, c] if w[c + reach] > _ZERO else _ZERO
                fine[r, c] = away - coarse[r, c]
        for k in range(0, count, 2):
            pair = min(2, count - k)
            _sum_pairs(
                weights[k + reach : k + reach + pair, reach : reach + columns],
                fine[start + k : start + k + pair],
                coarse[start + k : start + k + pair],
                sums[:, (start + k) // 2],
            )


@compiled
def _sum_pairs(weights, fine, coarse, sums):  # type: ignore[no-untyped-def]
    """Means of 2 x 2 cells of one or two rows, shape (4, w)."""
    count, columns = fine.shape
    for j in range(sums.shape[1]):
        last = min(2 * j + 2, columns)
        cells = _F(count * (last - 2 * j))
        weight, known, fine_sum, coarse_sum = _ZERO, _ZERO, _ZERO, _ZERO
        for r in range(count):
            for c in range(2 * j, last):
                w = weights[r, c]
                weight += w
                known += _ONE if w > _ZERO else _ZERO
                fine_sum += w * fine[r, c] * fine[r, c]
                coarse_sum += w * coarse[r, c] * coarse[r, c]
        sums[0, j], sums[1, j] = weight / cells, known / cells
        sums[2, j], sums[3, j] = fine_sum / cells, coarse_sum / cells


@compiled
def _upsampled(half, r, out):  # type: ignore[no-untyped-def]
    """Row r of the bilinear map of twice the resolution, shape (columns,)."""
    rows, columns = half.shape
    one = half[r // 2]
    other = half[min(max(r // 2 + (r % 2) * 2 - 1, 0), rows - 1)]
    for c in range(out.shape[0]):
        j = c // 2
        beside = min(max(j + (c % 2) * 2 - 1, 0), columns - 1)
        near = _THREE_QUARTERS * one[j] + _QUARTER * other[j]
        far = _THREE_QUARTERS * one[beside] + _QUARTER * other[beside]
        out[c] = _THREE_QUARTERS * near + _QUARTER * far


@compiled
def give_back(base, bands, reliefs, variance, scales, first, last, z, noise, moved):  # type: ignore[no-untyped-def]
    """Add the share of each band that is relief.

    Args:
        base: Heights of the wider windows, shape (rows, columns), metres.
        bands: What was found: two of shape (rows, columns).
        reliefs: Mean squares of the relief of each band: two of shape (h, w), of pairs of cells.
        variance: Of what was found, m².
        scales: Noise of each band over what that says, squared, shape (2,).
        first: Row to begin with.
        last: Row to end before.
        z: Output: heights, shape (rows, columns).
        noise: Output: what of the noise came back with the relief, likewise, m².
        moved: Output: mean square change of 2 x 2 cells, shape (h, w), m².
    """
    columns = base.shape[1]
    shown = np.empty(columns, np.float32)
    changes = np.empty((2, columns), np.float32)
    for start in range(first, last, 2):
        pair = min(2, last - start)
        for k in range(pair):
            r, change = start + k, changes[k]
            for c in range(columns):
                change[c], noise[r, c] = _ZERO, _ZERO
            for band in range(2):
                _upsampled(reliefs[band], r, shown)
                found = bands[band][r]
                for c in range(columns):
                    noisy = scales[band] * variance[r, c]
                    share = shown[c] / (shown[c] + noisy)
                    if share > _ZERO:  # not so where nothing is known
                        change[c] += share * found[c]
                        noise[r, c] += share * noisy
            for c in range(columns):
                z[r, c] = base[r, c] + change[c]
        for j in range(moved.shape[1]):
            last_column = min(2 * j + 2, columns)
            total = _ZERO
            for k in range(pair):
                for c in range(2 * j, last_column):
                    total += changes[k, c] * changes[k, c]
            moved[start // 2, j] = total / _F(pair * (last_column - 2 * j))


@compiled
def add_missing(missing, moving, first, last, variance, mask):  # type: ignore[no-untyped-def]
    """Add what relief is missing to the noise, and mark the cells that may move further.

    Args:
        missing: Mean square, shape (h, w), m², of pairs of cells.
        moving: 1 where windows may find more, else 0, same shape.
        first: Row to begin with.
        last: Row to end before.
        variance: In and out, shape (rows, columns).
        mask: Output, same shape, bool.
    """
    more = np.empty(variance.shape[1], np.float32)
    for r in range(first, last):
        _upsampled(missing, r, more)
        for c in range(more.shape[0]):
            variance[r, c] += more[c]
        _upsampled(moving, r, more)
        for c in range(more.shape[0]):
            mask[r, c] = more[c] > _ZERO
