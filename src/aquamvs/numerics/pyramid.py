"""Image pyramids whose levels carry exact intrinsics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..pixels import rescale_intrinsics
from ..projection import RefractiveProjectionModel
from ..types import View
from .filters import gaussian_taps, pad_edges, smooth

_LEAST_SIDE = 100
"""The coarsest images keep this many pixels on their short side: fine sand still has texture."""
_ANTIALIAS_SIGMA = 0.7
"""Blur before halving, px: suppresses what 2 x 2 averaging alone would alias."""
_PREFILTER_SIGMA = 0.5
"""Blur of the finest level, px. Bilinear interpolation blurs by an amount that depends on the
sub-pixel phase; a little common blur first makes that difference, which biases matching, small."""


@dataclass(frozen=True, slots=True)
class LevelView:
    """One view at one pyramid level.

    Attributes:
        name: Camera name.
        gray: Mean of R, G, B in [0, 1], shape (1, 1, H, W), float32.
        usable: Where a pixel may be used, shape (H, W), bool; None: everywhere.
        model: Projection with the level's intrinsics.
    """

    name: str
    gray: Tensor
    usable: Tensor | None
    model: RefractiveProjectionModel

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels of this level."""
        return self.gray.shape[-1], self.gray.shape[-2]

    def to(self, device: str | torch.device) -> LevelView:
        """This view with its tensors on ``device``."""
        usable = None if self.usable is None else self.usable.to(device)
        return LevelView(self.name, self.gray.to(device), usable, self.model.to(device))


def level_count(short_side: int) -> int:
    """Pyramid levels for images whose shorter side has so many pixels."""
    return max(1, int(math.log2(max(short_side / _LEAST_SIDE, 1))) + 1)


def build_pyramid(view: View, levels: int) -> list[LevelView]:
    """Levels 0 (full size) to ``levels - 1``, each half the size of the one before."""
    gray = view.image.mean(-1)[None, None]
    usable = None if bool(view.mask.all()) else view.mask
    pyramid = [LevelView(view.name, _blur(gray, usable, _PREFILTER_SIGMA), usable, view.model)]
    for _ in range(levels - 1):
        height, width = gray.shape[-2] // 2, gray.shape[-1] // 2
        gray = torch.nn.functional.avg_pool2d(_blur(gray, usable, _ANTIALIAS_SIGMA), 2)
        if usable is not None:  # of a coarser pixel: all that it averages
            cut = usable[: 2 * height, : 2 * width]
            usable = cut.reshape(height, 2, width, 2).all(3).all(1)
        model = pyramid[-1].model
        K = rescale_intrinsics(model.K, (2 * width, 2 * height), (width, height))
        pyramid.append(LevelView(view.name, gray, usable, model.with_intrinsics(K)))
    return pyramid


def inside_images(views: Sequence[LevelView], pixels: Tensor) -> Tensor:
    """Where the pixels of M views lie in their images, shape (M, ..., 2) -> (M, ...), bool."""
    limit = last_pixels(views, pixels).reshape(-1, *(1,) * (pixels.dim() - 2), 2)
    return ((pixels >= 0) & (pixels <= limit)).all(-1)


def last_pixels(views: Sequence[LevelView], like: Tensor) -> Tensor:
    """The last pixel of each view, shape (M, 2)."""
    return like.new_tensor([view.size for view in views]) - 1


def _blur(image: Tensor, usable: Tensor | None, sigma: float) -> Tensor:
    """Gaussian mean of the usable pixels; 0 where there is none."""
    if usable is None:
        return _gaussian(image, sigma)
    share = _gaussian(usable.to(image)[None, None], sigma)
    total = _gaussian(torch.where(usable, image, 0.0), sigma)
    return torch.where(usable, total / share.clamp(min=1e-6), 0.0)


def _gaussian(image: Tensor, sigma: float) -> Tensor:
    taps = gaussian_taps(sigma)
    return smooth(pad_edges(image[0, 0], len(taps) // 2), taps)[None, None]
