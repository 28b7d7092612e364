"""Relief that matching windows smooth: found by narrower ones, and kept where it stands out.

The last pass's windows, and the smoothing after it, level what is as small as they are. Narrower
windows that ride on the result find what it lacks, and more noise. The difference is split into
two bands, and of each that share comes back which is relief: what it varies by around a cell beyond
what the views' residuals explain, over all that it varies by (Wiener filter). Riding on the sharper
surface, the same windows find what is still missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..numerics.filters import gaussian_taps, halve, pad_edges, pad_linear, smooth, upsample
from .evaluator import Pass
from .quality import own_variance
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
_UNSEEN_SHARE = 3.0
"""Mean square of the relief that narrow windows smooth too, over that of what they added. Chosen on
bower, box and low-texture scenes of seeds 0 to 2, and on gravel of another renderer."""
_STILL_MOVING = 0.5
"""Where windows moved heights by more than this many times the noise, they may find more when they
ride on that."""


@dataclass(frozen=True, slots=True)
class Relief:
    """Heights with what narrow windows found; each of shape (rows, columns).

    Attributes:
        z: Height, metres.
        variance: Noise that came back with the relief, and what relief is still missing, m².
        moving: Cells whose height may change further once windows ride on ``z``.
    """

    z: Tensor
    variance: Tensor
    moving: Tensor


def recover(base: Tensor, estimate: Estimate, plan: Pass) -> Relief:
    """Add the relief that an estimate shows beyond its noise.

    Args:
        base: Heights of the wider windows, without gaps, shape (rows, columns), metres.
        estimate: Of a pass with narrow windows.
        plan: That pass.

    Returns:
        Heights, without gaps.
    """
    variance = own_variance(estimate, plan)
    found = estimate.z - base
    weight = torch.where(torch.isfinite(found), 1 / variance, 0.0).nan_to_num(0.0, posinf=0.0)
    found = torch.where(weight > 0, found, 0.0)
    coarse = _smoothed(weight * found) / _smoothed(weight).clamp(min=1e-20)
    visible = _mean(_roughness(base).square(), weight)
    z, returned = base.clone(), torch.zeros_like(base)
    for band, scale in ((found - coarse, _FINE_NOISE), (coarse, _COARSE_NOISE)):
        expected = scale**2 * variance
        relief = (
            _mean(band.square() - expected, weight).clamp(min=0).minimum(_MOST_OF_VISIBLE * visible)
        )
        share = (relief / (relief + expected)).nan_to_num(0.0)
        z += share * band
        returned += share * expected.nan_to_num(0.0, posinf=0.0)
    moved = _mean((z - base).square(), (weight > 0).to(weight)).nan_to_num(0.0)
    returned += _UNSEEN_SHARE * moved
    return Relief(z, returned, moved > _STILL_MOVING**2 * _mean(variance, weight))


def _roughness(base: Tensor) -> Tensor:
    """How far heights stand off their smoothed map, slopes aside, same shape, metres."""
    taps = gaussian_taps(_ROUGH_SIGMA)
    half = halve(base)
    smoothed = smooth(pad_linear(half, len(taps) // 2), taps)
    return upsample(half - smoothed, (base.shape[0], base.shape[1]))


def _smoothed(maps: Tensor) -> Tensor:
    taps = gaussian_taps(_BAND_SIGMA)
    return smooth(pad_edges(maps, len(taps) // 2), taps)


def _mean(maps: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean around every cell, shape (rows, columns); NaN where nothing has weight.

    It changes slowly: half the resolution does, at a quarter of the cost.
    """
    taps = gaussian_taps(_POOLED_SIGMA)
    weighted = torch.where(weight > 0, weight * maps, 0.0)
    total, share = (
        smooth(pad_edges(halve(values), len(taps) // 2), taps) for values in (weighted, weight)
    )
    return upsample(total / share, (maps.shape[0], maps.shape[1]))
