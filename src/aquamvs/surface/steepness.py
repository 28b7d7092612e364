"""How steep the ground around every cell is: stones have no slope here, and walls may have none."""

from __future__ import annotations

import torch
from torch import Tensor

from ..numerics.filters import (
    fill_gaps,
    gaussian_taps,
    halve,
    pad_edges,
    pad_linear,
    smooth,
    upsample,
)

_STEEP, _LEAST_STEEP = 0.87, 0.3
"""A steep slope (41 degrees), and the least share of it that counts: on level ground, too, edges
along the motion err together."""
_HALVINGS, _SIGMA = 4, 1.0
"""The slope is that of 16 x 16 cells, smoothed over as many such blocks."""
_STEEPEST_GROUND = 1.5
"""Pairs of cells that rise more than this are a wall, and no slope of the ground."""


def steepness(z: Tensor, spacing: float) -> Tensor:
    """Squared slope around every cell over that of a steep one, within bounds.

    Args:
        z: Heights, shape (rows, columns), metres; NaN is bridged.
        spacing: Cell size, metres.

    Returns:
        Same shape.
    """
    total, share, shapes = _blocks(z, _HALVINGS)
    blocks = fill_gaps(torch.where(share > 0, total / share, torch.nan))
    taps = gaussian_taps(_SIGMA)
    wide = smooth(pad_linear(blocks, len(taps) // 2 + 1), taps)
    rise = torch.stack([wide[1:-1, 2:] - wide[1:-1, :-2], wide[2:, 1:-1] - wide[:-2, 1:-1]])
    run = 2 * 2**_HALVINGS * spacing
    return _bounded(rise / (run * _STEEP), shapes)


def steepness_off_walls(z: Tensor, spacing: float) -> Tensor:
    """Likewise of the ground alone: differences that are as large as a wall's do not count.

    Args:
        z: See :func:`steepness`.
        spacing: See there.
    """
    total, share, whole = _blocks(z, 1)
    pairs = torch.where(share > 0, total / share, torch.nan)
    taps = gaussian_taps(_SIGMA)
    slopes = []
    for axis in 0, 1:
        slope = torch.full_like(pairs, torch.nan)
        slope.narrow(axis, 0, pairs.shape[axis] - 1).copy_(pairs.diff(dim=axis) / (2 * spacing))
        slope[slope.abs() > _STEEPEST_GROUND] = torch.nan
        total, share, shapes = _blocks(slope, _HALVINGS - 1)
        total, share = (smooth(pad_edges(x, len(taps) // 2), taps) for x in (total, share))
        slopes.append(total / share.clamp(min=1e-6))
    return _bounded(torch.stack(slopes) / _STEEP, whole + shapes)


def _blocks(maps: Tensor, halvings: int) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """Means over blocks with 0 for unknown cells, shares of known ones, and the shapes before."""
    known = torch.isfinite(maps)
    total, share = torch.where(known, maps, 0.0), known.to(maps)
    shapes = []
    for _ in range(halvings):
        shapes.append((total.shape[0], total.shape[1]))
        total, share = halve(total), halve(share)
    return total, share, shapes


def _bounded(relative: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """Square of slopes over a steep one, shape (2, H, W), within bounds; in the first shape."""
    squared = relative.square().sum(0).clamp_(_LEAST_STEEP**2, 1.0)
    for shape in reversed(shapes):
        squared = upsample(squared, shape)
    return squared
