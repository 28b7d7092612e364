"""Bringing the cameras' colours together."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..types import FrameSet

_QUANTILES = 257
"""Support points of a channel's distribution: one per step of an 8-bit image."""


def normalize_colors(frames: FrameSet, method: Literal["gain", "histogram"]) -> FrameSet:
    """Give all cameras the same overall colours.

    Args:
        frames: Images of one instant.
        method: ``gain`` scales each channel so that its median is the median over the cameras;
            ``histogram`` maps each channel's distribution to the mean distribution of the cameras
            (Reinhard-style transfer by quantiles).

    Returns:
        Images in [0, 1]; equal for any order of cameras.
    """
    levels = {name: _quantiles(image) for name, image in frames.images.items()}
    table = torch.stack(list(levels.values()))
    if method == "gain":
        middle = _QUANTILES // 2
        target = table[:, middle].median(dim=0).values
        images = {
            name: (image * (target / levels[name][middle].clamp(min=1e-6))).clamp(0, 1)
            for name, image in frames.images.items()
        }
    else:
        common = table.double().mean(0).float()
        images = {
            name: _transfer(image, levels[name], common) for name, image in frames.images.items()
        }
    return FrameSet(frames.index, images)


def _quantiles(image: Tensor) -> Tensor:
    """Quantiles of each channel, shape (257, 3); exact, by sorting."""
    pixels = image.reshape(-1, 3).sort(dim=0).values
    index = torch.linspace(0, len(pixels) - 1, _QUANTILES, device=image.device).round().long()
    return pixels[index]


def _transfer(image: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Map each channel so that its quantiles become the target's (piecewise linear)."""
    channels = []
    for channel in range(3):
        knots, values = source[:, channel].contiguous(), target[:, channel]
        flat = image[..., channel].contiguous()
        upper = torch.searchsorted(knots, flat).clamp(1, _QUANTILES - 1)
        low, high = knots[upper - 1], knots[upper]
        share = ((flat - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
        channels.append(values[upper - 1] + share * (values[upper] - values[upper - 1]))
    return torch.stack(channels, dim=-1).clamp(0, 1)
