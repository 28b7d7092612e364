"""Relief that matching windows smooth: found by narrower ones, and kept where it stands out.

The last pass's windows, and the smoothing after it, level what is as small as they are. Narrower
windows that ride on the result find what it lacks, and more noise. The difference is split into
two bands, and of each that share comes back which is relief: what it varies by around a cell beyond
what the views' residuals explain, over all that it varies by (Wiener filter). Riding on the sharper
surface, the same windows find what is still missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..numerics.acceleration import by_rows, has_kernels
from ..numerics.bands import halved, in_bands
from ..numerics.filters import gaussian_taps, halve, pad_edges, pad_linear, smooth, upsample
from .evaluator import Pass
from .quality import own_variance, usual_curvature
from .refine import Estimate

_BAND_SIGMA = 1.5
"""Smoothing that parts the coarser band from the finer one, cells."""
_FINE_NOISE, _COARSE_NOISE = 0.78, 0.65
"""Noise of a band over what residuals say of all, with a margin for what chance adds: 0.59 and 0.53
are measured on smooth beds."""
_POOLED_SIGMA = 2.0
"""Gaussian window in which relief is told from noise, pairs of cells."""
_ROUGH_SIGMA = 2.5
"""Gaussian window off which relief stands, pairs of cells."""
_MOST_OF_VISIBLE = 0.1
"""Relief that comes back, over that which the wide windows let through (mean squares). What they
smooth entirely cannot be told from the error of an edge that views show blurred differently:
without this, boards of 41 degrees were 0.35 mm off flat instead of 0.06."""
_LEVELLED_SCALE = 56.0
"""Mean square of the relief that is missing, over that which smoothing and settling levelled beyond
noise, where the finer band proves that there is relief at all. Little is levelled there, so that
the ratio is large. Chosen where sigma's other parts were, see ``_NOISY_SCALE`` in :mod:`.quality`:
gravel of another renderer needs it, whose edges every window smooths; without it one sigma holds
half of its cells."""
_LEVELLED_NOISE = 1.1
"""Mean square of the noise that smoothing levels, over the variance of what narrow windows find.
Chosen likewise."""
_STILL_MOVING = 0.5
"""Where windows moved heights by more than this many times the noise, they may find more when they
ride on that."""
_QUIET_SHARE = 0.2
"""Share of the map where heights scatter least: there is no relief, but on gravel. With 0.3 or 0.4,
and the rest chosen anew, it was no better; with the scatter around each cell, a chance low there
left one sigma of too many cells too small."""
_QUIET_POWER = 4 / 3
"""Of that scatter, over what residuals say, the power by which the result's noise is less. Chosen
likewise."""
_QUANTILE_CELLS = 1 << 16
"""Of which that is found, at least."""

_CELL_BYTES = 64
"""Memory that a cell takes meanwhile."""
_BAND_MARGIN, _POOLED_MARGIN, _ROUGH_MARGIN = (
    len(gaussian_taps(sigma)) // 2 for sigma in (_BAND_SIGMA, _POOLED_SIGMA, _ROUGH_SIGMA)
)
_SHOWN_MARGIN = _POOLED_MARGIN + _ROUGH_MARGIN


@dataclass(frozen=True, slots=True)
class Relief:
    """Heights with what narrow windows found; maps of shape (rows, columns).

    Attributes:
        z: Height, metres.
        variance: Noise that came back with the relief, and what relief is still missing, m².
        moving: Cells whose height may change further once windows ride on ``z``.
        noise_scale: Variance of the map's noise over what residuals say, at most 1.
    """

    z: Tensor
    variance: Tensor
    moving: Tensor
    noise_scale: float


def recover(base: Tensor, levelled: Tensor, estimate: Estimate, plan: Pass) -> Relief:
    """Add the relief that an estimate shows beyond its noise.

    Args:
        base: Heights of the wider windows, without gaps, shape (rows, columns), metres.
        levelled: How far these were smoothed and settled, see :func:`~.quality.levelled`.
        estimate: Of a pass with narrow windows.
        plan: That pass.

    Returns:
        Heights, without gaps.
    """
    variance = own_variance(estimate, plan, usual_curvature(estimate))
    fine, coarse, *sums = _bands(base, estimate.z, variance)
    half = halve(base)

    def show(rows: slice) -> tuple[Tensor, ...]:
        return _shown(half[rows], *(each[rows] for each in sums))

    fine_relief, coarse_relief, usual, count, scatter = in_bands(
        show, half, _CELL_BYTES, margin=_SHOWN_MARGIN
    )
    z, noise, moved = _given_back(base, (fine, coarse), (fine_relief, coarse_relief), variance)

    def move(rows: slice) -> tuple[Tensor, ...]:
        change = (_pooled(moved[rows]) / count[rows]).nan_to_num(0.0)
        beyond_noise = (_pooled(levelled[rows]) - _LEVELLED_NOISE * usual[rows]).clamp(min=0)
        proven = 1 - 1 / scatter[rows].clamp(min=1)
        # Narrow windows smooth relief too: as much as they added is still missing.
        missing = change + _LEVELLED_SCALE * (proven * beyond_noise).nan_to_num(0.0)
        return missing, (change > _STILL_MOVING**2 * usual[rows]).to(missing)

    missing, moving = in_bands(move, half, _CELL_BYTES, margin=_POOLED_MARGIN)
    return Relief(z, *_with_missing(noise, missing, moving), _quietest(scatter))


def _bands(base: Tensor, found: Tensor, variance: Tensor) -> tuple[Tensor, ...]:
    """Finer and coarser band of what was found beyond the base; its variance is inf for nothing.

    And the halved maps of weights, cells that have any, and the bands' weighted squares.
    """
    if has_kernels(base):
        from .relief_kernels import split

        bands, sums = base.new_empty(2, *base.shape), base.new_empty(4, *_halved_shape(base))
        maps = [each.numpy() for each in (found, base, variance)]
        out = [each.numpy() for each in (*bands, sums)]
        taps = np.array(gaussian_taps(_BAND_SIGMA), np.float32)
        by_rows(base, lambda rows: split(*maps, taps, rows.start, rows.stop, *out), multiple=2)
        return *bands, *sums

    def part(rows: slice) -> tuple[Tensor, ...]:
        return _parted(found[rows] - base[rows], variance[rows])

    return in_bands(part, base, _CELL_BYTES, margin=_BAND_MARGIN)


def _given_back(
    base: Tensor, bands: tuple[Tensor, Tensor], reliefs: tuple[Tensor, Tensor], variance: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Heights with that share of either band which is relief, the noise that came with it, m².

    And the mean square change of pairs of cells.
    """
    scales = _FINE_NOISE**2, _COARSE_NOISE**2
    if has_kernels(base):
        from .relief_kernels import give_back

        z, noise = torch.empty_like(base), torch.empty_like(base)
        moved = base.new_empty(_halved_shape(base))
        pairs = (tuple(each.numpy() for each in pair) for pair in (bands, reliefs))
        arrays = base.numpy(), *pairs, variance.numpy(), np.array(scales, np.float32)
        out = [each.numpy() for each in (z, noise, moved)]
        by_rows(base, lambda rows: give_back(*arrays, rows.start, rows.stop, *out), multiple=2)
        return z, noise, moved

    def some(rows: slice) -> tuple[Tensor, ...]:
        change = torch.zeros_like(base[rows])
        noise = torch.zeros_like(change)
        for band, relief, scale in zip(bands, reliefs, scales, strict=True):
            noisy = scale * variance[rows]
            shown = _upsampled(relief[halved(rows)], change)
            share = (shown / (shown + noisy)).nan_to_num(0.0)
            change += share * band[rows]
            noise += share * noisy.nan_to_num(0.0, posinf=0.0)
        return base[rows] + change, noise, halve(change.square())

    z, noise, moved = in_bands(some, base, _CELL_BYTES, margin=2)
    return z, noise, moved


def _quietest(scatter: Tensor) -> float:
    """By how much residuals overstate the noise's variance: a factor of at most 1.

    Where heights scatter least there is no relief, so that their scatter tells.
    """
    step = max(1, math.isqrt(scatter.numel() // _QUANTILE_CELLS))
    some = scatter[::step, ::step]
    some = some[torch.isfinite(some)]
    return float(some.quantile(_QUIET_SHARE).clamp(max=1)) ** _QUIET_POWER if len(some) else 1.0


def _with_missing(noise: Tensor, missing: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
    """The noise and what relief is missing besides, m², and cells that may move further.

    Both of the latter are known of pairs of cells.
    """
    if has_kernels(noise):
        from .relief_kernels import add_missing

        mask = torch.empty_like(noise, dtype=torch.bool)
        arrays = [each.numpy() for each in (missing, moving, noise, mask)]
        known, out = arrays[:2], arrays[2:]
        by_rows(noise, lambda rows: add_missing(*known, rows.start, rows.stop, *out))
        return noise, mask

    def some(rows: slice) -> tuple[Tensor, Tensor]:
        more, mark = (_upsampled(each[halved(rows)], noise[rows]) for each in (missing, moving))
        return noise[rows] + more, mark > 0

    variance, mask = in_bands(some, noise, _CELL_BYTES, margin=2)
    return variance, mask


def _halved_shape(maps: Tensor) -> tuple[int, int]:
    """Of :func:`halve`."""
    rows, columns = maps.shape
    return -(-rows // 2), -(-columns // 2)


def _parted(found: Tensor, variance: Tensor) -> tuple[Tensor, ...]:
    """:func:`_bands` of some rows."""
    weight = torch.where(torch.isfinite(found), 1 / variance, 0.0).nan_to_num(0.0, posinf=0.0)
    known = weight > 0
    found = torch.where(known, found, 0.0)
    coarse = _smoothed(weight * found) / _smoothed(weight).clamp(min=1e-20)
    fine = found - coarse
    squares = (halve(weight * band.square()) for band in (fine, coarse))
    return fine, coarse, halve(weight), halve(known.to(weight)), *squares


def _shown(
    base: Tensor, weight: Tensor, known: Tensor, fine: Tensor, coarse: Tensor
) -> tuple[Tensor, ...]:
    """Relief of either band, the usual variance, and cells that are known: all pooled, of pairs.

    And the square by which the finer band scatters over what noise makes it scatter.
    """
    total, count = _pooled(weight), _pooled(known)
    usual = count / total
    visible = _pooled(weight * _roughness(base).square()) / total
    varied = [_pooled(band) / total for band in (fine, coarse)]
    expected = [scale**2 * usual for scale in (_FINE_NOISE, _COARSE_NOISE)]
    reliefs = (
        (found - noise).clamp(min=0).minimum(_MOST_OF_VISIBLE * visible)
        for found, noise in zip(varied, expected, strict=True)
    )
    return *reliefs, usual, count, varied[0] / expected[0]


def _roughness(half: Tensor) -> Tensor:
    """How far heights stand off their smoothed map, slopes aside, metres."""
    taps = gaussian_taps(_ROUGH_SIGMA)
    return half - smooth(pad_linear(half, len(taps) // 2), taps)


def _upsampled(half: Tensor, like: Tensor) -> Tensor:
    return upsample(half, (like.shape[0], like.shape[1]))


def _smoothed(maps: Tensor) -> Tensor:
    taps = gaussian_taps(_BAND_SIGMA)
    return smooth(pad_edges(maps, len(taps) // 2), taps)


def _pooled(half: Tensor) -> Tensor:
    """Mean around every pair of cells: it changes slowly, so that half the resolution will do."""
    taps = gaussian_taps(_POOLED_SIGMA)
    return smooth(pad_edges(half, len(taps) // 2), taps)
