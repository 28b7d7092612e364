"""How well the views agree on a piece of surface, and how that changes as the surface moves.

All views of a tile are resampled onto the cells of the current surface, so that windows ride on it
and slopes cost nothing. With locally normalised intensities N_c of the m views that see a cell, the
spread ``Σ (N_c - mean N)² / (m - 1)`` is linear in the number of views and equals one minus the
mean pairwise ZNCC; its minimum over a common motion of the window along Z is the maximum-likelihood
height under independent Gaussian noise (object-space least-squares matching: Wrobel 1987, Helava
1988, Ebner and Heipke 1988).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..numerics.filters import box_taps, gaussian_taps, shrink, smooth
from ..numerics.pyramid import LevelView, inside_images
from ..numerics.splines import sample
from ..projection import ProjectionRig

Sampler = Callable[[Tensor, Tensor], Tensor]

NORMALISATION_TAPS = box_taps(9)
"""Window of local mean and contrast, cells."""

NOISE_FLOOR = 0.25 / 255
"""Contrast below this is quantisation noise, not texture (intensity, 1 sigma)."""
LEAST_PIXELS_PER_CELL = 0.6
"""A view with fewer pixels along a cell than this, and than this share of the sharpest view's, is
blurred against the others and would spoil their mean (an auxiliary fisheye, say); it counts at the
coarser levels, where it resolves the cells. Where cells are finer than every view's pixels, deep
down or by choice, all views are equally blurred and count."""
ENOUGH_WHOLE = 3
"""Where so many views hold all of a cell's normalisation window, those that hold a part of it do
not count: what continues their images there bends the height. With fewer they are better than
nothing."""
USABLE = 0.999
"""A bilinear sample of the mask that touches an unusable pixel falls below this."""
TOLERATED_RESIDUAL = 0.3
"""A view that deviates from the others by this much more than the best one does (in variances of
normalised intensity) has half its weight; another surface or a fish exceeds it by about 2."""
RESIDUAL_TAPS = gaussian_taps(1.5)
ROBUST_MARGIN = len(NORMALISATION_TAPS) // 2 + len(RESIDUAL_TAPS) // 2
"""Cells around a tile that :func:`robust_weight` uses up."""


@dataclass(frozen=True, slots=True)
class Resampled:
    """A tile of surface as its views see it.

    Attributes:
        views: Indices into the level's views.
        pixels: Where each view sees each cell, shape (m, ..., H, W, 2).
        rate: Pixel motion per metre of Z, shape (m, ..., H, W, 2).
        seen: 1 where the view sees the cell (in the image, in the mask, sharply),
            shape (m, ..., H, W).
        whole: Where the view's image holds all of the cell's normalisation window, same shape,
            bool; True at the tile's rim, where the window leaves the tile.
    """

    views: list[int]
    pixels: Tensor
    rate: Tensor
    seen: Tensor
    whole: Tensor

    def without_margin(self, margin: int) -> Resampled:
        """The inner part of a tile."""
        inner = slice(margin, -margin)
        return Resampled(
            self.views,
            self.pixels[..., inner, inner, :],
            self.rate[..., inner, inner, :],
            shrink(self.seen, margin),
            shrink(self.whole, margin),
        )

    def counted(self, seen: Tensor) -> Tensor:
        """Of views that see a cell those that count: with whole windows where these are enough."""
        enough = (seen * self.whole).sum(0) >= ENOUGH_WHOLE
        return seen * (self.whole | ~enough)


def resample(
    views: Sequence[LevelView], cameras: ProjectionRig, candidates: Sequence[int], points: Tensor
) -> Resampled | None:
    """Project a tile of surface points into the views.

    Args:
        views: All views of the level.
        cameras: Theirs.
        candidates: Which of them may see the tile.
        points: One surface or a stack of them, shape (..., H, W, 3), world frame, metres.

    Returns:
        The tile, with those candidates that see any of it; None if fewer than two do.
    """
    if len(candidates) < 2:
        return None
    able = [views[i] for i in candidates]
    down = points.new_tensor([0.0, 0.0, 1.0])
    pixels, rate, valid = cameras.select(candidates).project_along(points, down)
    area = torch.where(valid & inside_images(able, pixels), _pixels_per_cell(pixels), 0.0)
    # Beyond its border an image continues, so that windows there hold no foreign values.
    pixels = torch.where(valid[..., None], pixels, 0.0)
    for view, at, own in zip(able, pixels, area, strict=True):
        if view.usable is not None:
            usable = sample(view.usable.to(points)[None, None], at)[..., 0, :, :]
            own.masked_fill_(usable <= USABLE, 0.0)
    seen = (area > LEAST_PIXELS_PER_CELL**2 * area.amax(0).clamp(max=1.0)).to(points)
    sharp = seen.flatten(1).any(1)
    found = [i for i, chosen in zip(candidates, sharp.tolist(), strict=True) if chosen]
    if len(found) < 2:
        return None
    return Resampled(
        found,
        pixels[sharp],
        torch.where(valid[..., None], rate, 0.0)[sharp],
        seen[sharp],
        _whole_windows(area[sharp] > 0),
    )


def _whole_windows(inside: Tensor) -> Tensor:
    """Cells whose whole normalisation window is inside, and the tile's rim, same shape."""
    margin = len(NORMALISATION_TAPS) // 2
    share = smooth(inside.to(torch.float32), NORMALISATION_TAPS)
    return torch.nn.functional.pad(share, (margin,) * 4, value=1.0) > USABLE


def _pixels_per_cell(pixels: Tensor) -> Tensor:
    """Area of the view's image that each cell spans, px², shape (..., H, W)."""
    pad = torch.nn.functional.pad
    right = pad(pixels[..., 2:, :] - pixels[..., :-2, :], (0, 0, 1, 1))
    down = pad(pixels[..., 2:, :, :] - pixels[..., :-2, :, :], (0, 0, 0, 0, 1, 1))
    right[..., 0, :], right[..., -1, :] = right[..., 1, :], right[..., -2, :]
    down[..., 0, :, :], down[..., -1, :, :] = down[..., 1, :, :], down[..., -2, :, :]
    return (right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]).abs() / 4


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of the views for each offset of the surface along Z.

    Attributes:
        spread: Σ w (N - mean)² / (Σ w - 1), not yet averaged over a window, shape (K, h, w); 0
            where fewer than two views count.
        contrast: Mean local contrast of the views (intensity, 1 sigma), one map per map of
            weights, (K or 1, h, w); 0 there too.
        residual: Each view's squared deviation from the others, shape (m, K or 1, h, w).
    """

    spread: Tensor
    contrast: Tensor
    residual: Tensor


def agreement(
    images: Sequence[Tensor],
    indices: Sequence[int],
    positions: Iterable[Tensor],
    weight: Tensor,
    sampler: Sampler = sample,
) -> Agreement:
    """Spread of the normalised views for each hypothesis.

    Args:
        images: Of all views of the level, shape (1, 1, H, W).
        indices: Which of them take part, m of them.
        positions: For each, where it sees the cells, shape (K, H, W, 2), K odd unless ``weight``
            has K maps.
        weight: Weight of each view at each cell (0: not used), shape (m, K, H, W), or
            (m, 1, H, W) where all hypotheses are small motions of one surface; these then share
            the local contrast of the middle one.
        sampler: How images are read: bilinearly, or as spline coefficients.

    Returns:
        Maps that are smaller than the tile by ``len(NORMALISATION_TAPS) - 1``.
    """
    margin = len(NORMALISATION_TAPS) // 2
    kept = shrink(weight, margin)
    total = kept.sum(0)
    share = kept / total.clamp(min=1e-6)
    values = torch.stack(
        [sampler(images[i], pixels)[:, 0] for i, pixels in zip(indices, positions, strict=True)]
    )
    count = values.shape[1]
    own = slice(None) if len(total) == count else slice(count // 2, count // 2 + 1)
    mean = smooth(values, NORMALISATION_TAPS)
    variance = smooth(values[:, own] ** 2, NORMALISATION_TAPS) - mean[:, own] ** 2
    deviation = torch.sqrt(variance.clamp(min=0) + NOISE_FLOOR**2)
    normal = (shrink(values, margin) - mean) / deviation
    difference = normal - (share * normal).sum(0)
    # The mean holds the view's own share: undo that to compare it with the others.
    residual = (difference[:, own] / (1 - share.clamp(max=0.9))) ** 2
    several = total > 1
    freedom = torch.where(several, total - 1, 1.0)
    return Agreement(
        torch.where(several, (kept * difference**2).sum(0) / freedom, 0.0),
        torch.where(several, (share * deviation).sum(0), 0.0),
        residual,
    )


def robust_weight(
    images: Sequence[Tensor],
    indices: Sequence[int],
    positions: Iterable[Tensor],
    seen: Tensor,
    sampler: Sampler = sample,
) -> Tensor:
    """Weights that leave out views which disagree with the others (one step of Geman-McClure).

    Args:
        images: Of all views of the level, shape (1, 1, H, W).
        indices: Which of them take part, m of them.
        positions: For each, where it sees the cells, shape (K, H, W, 2).
        seen: Which views may count, shape (m, K, H, W).
        sampler: How images are read: bilinearly, or as spline coefficients.

    Returns:
        shape (m, K, H - 2 margin, W - 2 margin) with ``ROBUST_MARGIN``: what it takes to judge.
    """
    residual = agreement(images, indices, positions, seen, sampler).residual
    shown = shrink(seen, len(NORMALISATION_TAPS) // 2)
    residual = smooth(shown * residual, RESIDUAL_TAPS)
    residual = residual / smooth(shown, RESIDUAL_TAPS).clamp(min=1e-6)
    inner = shrink(seen, ROBUST_MARGIN)
    # Against the view that agrees best: noise that all share is no reason to leave any of them out.
    best = torch.where(inner > 0, residual, torch.inf).amin(0)
    excess = torch.where(inner > 0, residual - best, 0.0)
    return inner / (1 + (excess / TOLERATED_RESIDUAL) ** 2)
