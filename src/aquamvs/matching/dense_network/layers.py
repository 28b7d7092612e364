"""Building blocks: input channels, convolutions with group normalisation, attention."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

INPUT_CHANNELS = 5
"""Locally normalised luma, normalised R, G and B, and the mask."""

_LOCAL_WINDOW = 15
"""Side of the window of local normalisation, px: wider than sand's grains, narrower than stones."""

_NOISE_FLOOR = 0.01
"""Standard deviation of intensities, [0, 1], below which texture counts as noise: 2.5 levels."""

_LUMA = (0.299, 0.587, 0.114)
_CHANNELS_PER_GROUP = 8
_POOLED = 2
"""Side of the squares of cells that keys and values stand for."""
_WAVELENGTHS = (2.0, 64.0)
"""Shortest and longest wavelength of rotary positions, in cells of the coarse grid."""


def network_input(images: Tensor, masks: Tensor) -> Tensor:
    """What the network sees of images: contrast free of gain, tint and shading.

    Args:
        images: RGB, shape (B, 3, H, W), [0, 1].
        masks: False where an image must not be used, shape (B, H, W), bool.

    Returns:
        shape (B, 5, H, W); 0 where masked.
    """
    weight = masks[:, None].to(images.dtype)
    count = weight.sum((2, 3), keepdim=True).clamp(min=1)
    images = images * weight
    mean = images.sum((2, 3), keepdim=True) / count
    centred = (images - mean) * weight
    spread = (centred.square().sum((2, 3), keepdim=True) / count).sqrt()
    luma = (images * images.new_tensor(_LUMA)[:, None, None]).sum(1, keepdim=True)
    channels = [_locally_normalised(luma, weight), centred / (spread + _NOISE_FLOOR), weight]
    return torch.cat(channels, 1)


def _locally_normalised(luma: Tensor, weight: Tensor) -> Tensor:
    def average(values: Tensor) -> Tensor:
        return _box_sum(_box_sum(values, 2), 3) / _LOCAL_WINDOW**2

    share = average(weight).clamp(min=1e-6)
    mean = average(luma * weight) / share
    centred = (luma - mean) * weight
    spread = (average(centred.square()) / share).sqrt()
    return centred / (spread + _NOISE_FLOOR)


def _box_sum(values: Tensor, axis: int) -> Tensor:
    """Sums over windows of 15 = 8 + 4 + 2 + 1 values, of which none are beyond the ends."""
    count, reach = values.shape[axis], _LOCAL_WINDOW // 2
    one = functional.pad(values, (reach, reach, 0, 0) if axis == 3 else (0, 0, reach, reach))

    def doubled(sums: Tensor, size: int) -> Tensor:
        length = sums.shape[axis] - size
        return sums.narrow(axis, 0, length) + sums.narrow(axis, size, length)

    two = doubled(one, 1)
    four = doubled(two, 2)
    eight = doubled(four, 4)
    total = eight.narrow(axis, 0, count) + four.narrow(axis, 8, count)
    return total + two.narrow(axis, 12, count) + one.narrow(axis, 14, count)


def convolution(inputs: int, outputs: int, *, stride: int = 1, size: int = 3) -> nn.Sequential:
    """Convolution, group normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.GroupNorm(outputs // _CHANNELS_PER_GROUP, outputs),
        nn.ReLU(),
    )


class ResidualBlock(nn.Module):
    """Two convolutions beside an identity (He et al., CVPR 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(channels // _CHANNELS_PER_GROUP, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (B, C, H, W) -> the same."""
        return functional.relu(x + self.norm(self.second(self.first(x))))


def rotary_angles(rows: int, columns: int, channels: int, *, stride: int = 1) -> Tensor:
    """Angles of rotary position encoding (Su et al., 2021), half of them for either axis.

    Attention between two cells then depends on how far they are apart, not on where they are.

    Args:
        rows: Of the grid of cells.
        columns: Likewise.
        channels: Of an attention head.
        stride: Side of the squares of cells whose centres are wanted.

    Returns:
        shape (squares, channels / 2), radians.
    """
    shortest, longest = _WAVELENGTHS
    steps = torch.linspace(0, 1, channels // 4)
    frequency = 2 * math.pi / (shortest * (longest / shortest) ** steps)
    v, u = torch.meshgrid(
        *(torch.arange(0.0, size, stride) + (stride - 1) / 2 for size in (rows, columns)),
        indexing="ij",
    )
    return torch.cat([x.reshape(-1, 1) * frequency for x in (u, v)], -1)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of channels, shape (..., N, C), by angles, shape (N, C / 2)."""
    first, second = x.chunk(2, -1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1)


class AttentionBlock(nn.Module):
    """Attention and a feed-forward layer, each added to what came in.

    Keys and values are means of two by two cells (Wang et al., PVT, ICCV 2021): context is smooth,
    and attention then costs a quarter. The last layer of either part starts at zero, so that an
    untrained block passes its input on and matching starts from plain descriptors.

    Args:
        channels: Of the cells.
        heads: Of the attention.
        is_self: Attend within an image, with relative positions, or to the other one.
    """

    def __init__(self, channels: int, heads: int, *, is_self: bool) -> None:
        super().__init__()
        self.heads, self.is_self = heads, is_self
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(channels, channels)
        self.feed_norm = nn.LayerNorm(channels)
        self.feed_in = nn.Linear(channels, 2 * channels)
        self.feed_out = nn.Linear(2 * channels, channels)
        for layer in (self.out, self.feed_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, cells: Tensor, other: Tensor) -> Tensor:
        """Update cells, shape (B, h, w, C), by themselves or by the other image's, same shape."""
        own = self.norm(cells)
        context = own if self.is_self else self.norm(other)
        pooled = functional.avg_pool2d(
            context.permute(0, 3, 1, 2), _POOLED, ceil_mode=True, count_include_pad=False
        )
        query = self._split(self.query(own).flatten(1, 2))
        key, value = (
            self._split(x) for x in self.key_value(pooled.flatten(2).transpose(1, 2)).chunk(2, -1)
        )
        if self.is_self:
            rows, columns = cells.shape[1:3]
            per_head = query.shape[-1]
            query = rotate(query, rotary_angles(rows, columns, per_head).to(query))
            key = rotate(key, rotary_angles(rows, columns, per_head, stride=_POOLED).to(key))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        cells = cells + self.out(mixed.transpose(1, 2).flatten(2)).reshape(cells.shape)
        fed: Tensor = self.feed_out(functional.relu(self.feed_in(self.feed_norm(cells))))
        return cells + fed

    def _split(self, x: Tensor) -> Tensor:
        """Channels of every head, shape (B, N, C) -> (B, heads, N, C / heads)."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
