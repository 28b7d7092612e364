"""Where a match's keypoint really lies in the other view.

A detector puts a keypoint in the middle of something dark or bright. Of a pebble each view sees
another middle, and of a large stone's rim another bend: the two keypoints belong together, and are
several pixels from showing one point. So the fine texture around each is sought in the other view.
"""

from __future__ import annotations

import cv2
import torch
from torch import Tensor

from .guidance import Candidates
from .images import inside_mask
from .transfer import GreyPair, Transfer, correlations, transfers

_WINDOW = (3, 1.25)
"""Half side, in samples of the coarser view, and the sigma by which the samples count: it shows one
pebble rather than what lies around, which is lower and seems to move less."""

_WIDE_WINDOW = (6, 3.0)
"""Asked where noise keeps the views from agreeing on the first."""

_CLEAR = 0.8
"""Correlation from which it is not noise on which they disagree."""

_REACH = 8
"""Steps tried either way along the curve."""

_ACROSS = 2
"""Steps tried either way across it, for the detector's noise and the calibration's error."""

_COST_PER_STEP = 0.003
"""Of correlation: where several places look alike, the nearest is meant."""

_COARSE_STEP_PX = 0.5
"""Step in the coarser view, unless the finer one's pixels are larger than that."""

_NOTICEABLE_SCALE = 1.2
"""Views whose pixels differ by less are taken as they are."""

_DISAGREEMENT_PX = 2.0
"""Largest difference of the shifts that the two views ask for, px of the finer view: beyond it the
windows show different things."""

_EXACT_PX = 1.0
"""Up to that shift, px of the finer view, a keypoint is left where it is: other pairs of views know
it by its pixel."""


def placed(pair: GreyPair, pixels: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Put the source keypoints where the reference keypoints' points are.

    Args:
        pair: Reference and source.
        pixels: Matched keypoints, shape (K, 2) each.

    Returns:
        Reference keypoints, unchanged, and source pixels, and which matches to keep, shape (K,),
        bool: False where the views do not agree on a place, or it is outside of the source's mask.
    """
    own, other = pixels
    source = pair.views[1]
    each = torch.arange(len(own), device=own.device)
    ways = list(transfers(Candidates(each, each), pair.views, pixels))
    if not ways:
        return pixels, each.bool()
    images = _at_one_resolution(pair.images, torch.cat([forth.scale() for _, (forth, _) in ways]))
    target, agree = other.clone(), torch.zeros_like(each, dtype=torch.bool)
    for part, (forth, back) in ways:
        shift, known = _agreed_shift(images, forth, back)
        along = torch.where(shift.abs() > _EXACT_PX, shift * forth.scale().clamp(max=1.0), 0.0)
        target[part] = forth.other + along[:, None] * forth.tangent
        agree[part] = known
    inside = inside_mask(source, target.to(source.mask.device)).to(own.device)
    return (own, target), agree & inside


def _agreed_shift(
    images: tuple[Tensor, Tensor], forth: Transfer, back: Transfer
) -> tuple[Tensor, Tensor]:
    """Where along the curve both views find the keypoints' windows.

    Returns:
        Shift, px of the finer view, 0 where they do not agree, and whether they do, shapes (C,).
    """
    shift, correlation, agree = _both_shifts(images, forth, back, _WINDOW)
    again = (~agree & (correlation < _CLEAR)).nonzero()[:, 0]
    wide, _, found = _both_shifts(images, forth.select(again), back.select(again), _WIDE_WINDOW)
    shift[again], agree[again] = wide, found
    return torch.where(agree, shift, 0.0), agree


def _both_shifts(
    images: tuple[Tensor, Tensor], forth: Transfer, back: Transfer, window: tuple[int, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of both views' shifts, the smaller correlation, and whether they agree, shapes (C,)."""
    first, second = _shift(images, forth, *window), _shift(images[::-1], back, *window)
    agree = (first[0] - second[0]).abs() <= _DISAGREEMENT_PX
    return (first[0] + second[0]) / 2, torch.minimum(first[1], second[1]), agree


def _shift(
    images: tuple[Tensor, ...], transfer: Transfer, radius: int, sigma: float
) -> tuple[Tensor, Tensor]:
    """Where along the curve the keypoints' windows are found.

    Returns:
        Shift, px of the finer view, and correlation there, shapes (C,).
    """
    scale = transfer.scale()
    finer = torch.maximum(scale, 1 / scale)
    step = (_COARSE_STEP_PX * finer).clamp(min=1.0)
    along = torch.arange(-_REACH, _REACH + 1).to(scale)
    across = torch.arange(-_ACROSS, _ACROSS + 1).to(scale)
    unit = (step * scale.clamp(max=1.0))[:, None, None] * transfer.tangent[:, None]
    normal = torch.stack([-unit[..., 1], unit[..., 0]], -1)
    grid = (along[:, None] * unit)[:, None] + (across[:, None] * normal)[:, :, None]
    places = transfer.other[:, None, None] + grid
    correlation = correlations(
        (images[0], images[1]),
        transfer,
        places.flatten(1, 2),
        radius=radius,
        sigma=sigma,
        spacing=(1 / scale).clamp(min=1.0),
    ).reshape(-1, len(across), len(along))
    cost = across.abs()[:, None] + along.abs()
    best = (correlation - _COST_PER_STEP * cost).flatten(1).argmax(1)
    row, column = best // len(along), best % len(along)
    each = torch.arange(len(best), device=best.device)
    line = correlation[each, row]
    return step * (column - _REACH + _peak(line, column)), line[each, column]


def _peak(line: Tensor, column: Tensor) -> Tensor:
    """Sub-step place of a maximum by the parabola through its neighbours, shape (C,)."""
    middle = column.clamp(1, line.shape[1] - 2)[:, None]
    left, top, right = line.gather(1, torch.cat([middle - 1, middle, middle + 1], 1)).unbind(1)
    bend = left - 2 * top + right
    at = (left - right) / 2 / torch.where(bend < 0, bend, 1.0)
    return torch.where((bend < 0) & (column == middle[:, 0]), at.clamp(-0.5, 0.5), 0.0)


def _at_one_resolution(images: tuple[Tensor, Tensor], scale: Tensor) -> tuple[Tensor, Tensor]:
    """Grey values of both views, the finer one blurred to the pixels of the coarser."""
    typical = float(scale.nanmedian().nan_to_num(1.0))
    return _blurred(images[0], 1 / typical), _blurred(images[1], typical)


def _blurred(grey: Tensor, scale: float) -> Tensor:
    """As a camera sees it whose pixels are ``scale`` times as large."""
    if scale < _NOTICEABLE_SCALE:
        return grey
    sigma = 0.5 * (scale**2 - 1) ** 0.5
    return torch.from_numpy(cv2.GaussianBlur(grey.cpu().numpy(), (0, 0), sigma)).to(grey)
