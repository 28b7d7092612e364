"""The network: features, coarse matching by classification, refinement by local correlation.

The form is that of RoMa (Edstedt et al., CVPR 2024) at a size that a CPU can afford: its coarse
matches are a classification over anchors, here the cells of the other image's coarse grid and one
more for "not visible", and convolutional refiners move them by what they see in a local correlation
at ever finer scales. Written from the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...numerics.acceleration import has_kernels
from ...pixels import pixel_grid, to_normalized
from .layers import (
    INPUT_CHANNELS,
    AttentionBlock,
    ResidualBlock,
    convolution,
    network_input,
)

_SHARPNESS = 20.0
"""Of the softmax over cosines, at first: 0.1 of cosine outweighs a rival seven times."""

_COARSE_SHARPNESS = 10.0
"""Likewise of the coarse classification, which must first learn what to compare."""

_UNSEEN = 5.0
"""Logit of "not visible", at first: somewhat less than hundreds of wrong anchors add up to."""

COARSE_STRIDE: Final = 8
"""Pixels per cell of the coarse grid; image sides must be multiples of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseNetworkConfig:
    """Sizes of the network.

    Attributes:
        channels: Of the features at 1/2, 1/4 and 1/8.
        hidden: Of the refiners at 1/2, 1/4 and 1/8.
        radius: Of the local correlation at 1/2, 1/4 and 1/8, in cells of that scale.
        correlated: Channels that the local correlation compares, at 1/2, 1/4 and 1/8.
        heads: Of the attention.
        layers: Pairs of a self- and a cross-attention block.
    """

    channels: tuple[int, int, int] = (24, 48, 128)
    hidden: tuple[int, int, int] = (24, 48, 64)
    radius: tuple[int, int, int] = (2, 3, 4)
    correlated: tuple[int, int, int] = (16, 16, 32)
    heads: int = 4
    layers: int = 2


@dataclass(frozen=True, slots=True)
class ScaleWarp:
    """A warp at one scale.

    Attributes:
        stride: Pixels per cell.
        warp: Where each cell lies in the other image, shape (B, h, w, 2), in cells of that scale
            (pixel convention: the first cell's centre is (0, 0)).
        logit: Of the certainty that it lies there, shape (B, h, w).
    """

    stride: int
    warp: Tensor
    logit: Tensor


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Features of a batch of images at 1/2, 1/4 and 1/8, each of shape (B, C, h, w)."""

    maps: tuple[Tensor, Tensor, Tensor]

    def swapped(self) -> ImageFeatures:
        """First and second half of the batch exchanged."""
        first, second, third = (torch.cat(x.chunk(2)[::-1]) for x in self.maps)
        return ImageFeatures((first, second, third))


class Encoder(nn.Module):
    """Convolutional features at three scales."""

    def __init__(self, config: DenseNetworkConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.channels
        self.at_half = nn.Sequential(
            convolution(INPUT_CHANNELS, half, stride=2, size=5), ResidualBlock(half)
        )
        self.at_quarter = nn.Sequential(
            convolution(half, quarter, stride=2), ResidualBlock(quarter)
        )
        self.at_eighth = nn.Sequential(
            convolution(quarter, eighth, stride=2), ResidualBlock(eighth), ResidualBlock(eighth)
        )

    def forward(self, images: Tensor, masks: Tensor) -> ImageFeatures:
        """RGB, shape (B, 3, H, W), and masks, shape (B, H, W) -> features."""
        half = self.at_half(network_input(images, masks))
        quarter = self.at_quarter(half)
        return ImageFeatures((half, quarter, self.at_eighth(quarter)))


class CoarseMatcher(nn.Module):
    """Classifies every coarse cell of one image as one of the other's, or as not visible."""

    def __init__(self, config: DenseNetworkConfig) -> None:
        super().__init__()
        channels = config.channels[2]
        self.blocks = nn.ModuleList(
            AttentionBlock(channels, config.heads, is_self=is_self)
            for _ in range(config.layers)
            for is_self in (True, False)
        )
        self.descriptor = nn.Linear(channels, channels, bias=False)
        self.scale = nn.Parameter(torch.tensor(_COARSE_SHARPNESS))
        self.unseen = nn.Linear(channels, 1)
        nn.init.constant_(self.unseen.bias, _UNSEEN)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both directions.

        Args:
            first: Features at 1/8, shape (B, C, h, w).
            second: Of the other images, same shape.

        Returns:
            First to second and back, each of shape (B, h * w, h * w + 1); the last stands for "not
            visible".
        """
        cells = torch.cat([first, second]).permute(0, 2, 3, 1)
        for block in self.blocks:
            cells = block(cells, torch.cat(cells.chunk(2)[::-1]))
        # What all cells of an image share tells none from another.
        tokens = functional.instance_norm(cells.flatten(1, 2).transpose(1, 2)).transpose(1, 2)
        unit = functional.normalize(self.descriptor(tokens), dim=-1)
        one, other = unit.chunk(2)
        similarity = self.scale * (one @ other.transpose(1, 2))
        unseen, unseen_back = self.unseen(tokens).chunk(2)
        return (
            torch.cat([similarity, unseen], 2),
            torch.cat([similarity.transpose(1, 2), unseen_back], 2),
        )


class Refiner(nn.Module):
    """Moves a warp by what a local correlation shows.

    The mean offset under the softmax of the correlation is a first answer, right from the start of
    training; convolutions see it in its surroundings and correct it.
    """

    def __init__(self, channels: int, hidden: int, radius: int, correlated: int) -> None:
        super().__init__()
        self.radius = radius
        self.project = nn.Conv2d(channels, correlated, 1, bias=False)
        self.sharpness = nn.Parameter(torch.tensor(_SHARPNESS))
        inputs = 2 * channels + (2 * radius + 1) ** 2 + 6
        self.body = nn.Sequential(
            convolution(inputs, hidden, size=1),
            convolution(hidden, hidden),
            ResidualBlock(hidden),
        )
        self.head = nn.Conv2d(hidden, 3, 3, padding=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, own: Tensor, other: Tensor, at: ScaleWarp) -> ScaleWarp:
        """Refine.

        Args:
            own: Features of this scale, shape (B, C, h, w).
            other: Of the other images, shape (B, C, h', w').
            at: The warp so far.

        Returns:
            The better warp.
        """
        size = (other.shape[3], other.shape[2])
        grid = to_normalized(at.warp, size)
        compared, others = (functional.instance_norm(self.project(x)) for x in (own, other))
        both = functional.grid_sample(
            torch.cat([other, others], 1), grid, padding_mode="zeros", align_corners=False
        )
        warped, others = both[:, : other.shape[1]], both[:, other.shape[1] :]
        correlation = local_correlation(compared, others, self.radius)
        offset = self._mean_offset(correlation)
        inside = (grid.abs() <= 1).all(-1)[:, None].to(own)
        rows, columns = own.shape[2:]
        motion = (at.warp - pixel_grid((columns, rows), device=own.device)).permute(0, 3, 1, 2)
        # How the motion differs around a cell; its mean says nothing.
        uneven = motion - functional.avg_pool2d(motion, 5, 1, 2, count_include_pad=False)
        certainty = torch.tanh(at.logit[:, None] / 4)
        state = torch.cat([uneven.clamp(-4, 4), offset, certainty, inside], 1)
        change = self.head(self.body(torch.cat([own, warped, correlation, state], 1)))
        step = (offset + change[:, :2]).permute(0, 2, 3, 1)
        return ScaleWarp(at.stride, at.warp + step, at.logit + change[:, 2])

    def _mean_offset(self, correlation: Tensor) -> Tensor:
        """Mean offset (u, v) under the softmax of the correlation of 3 x 3 cells, (B, 2, h, w)."""
        smooth = functional.avg_pool2d(correlation, 3, 1, 1, count_include_pad=False)
        likelihood = (self.sharpness * smooth).softmax(1)
        steps = torch.arange(-self.radius, self.radius + 1, device=correlation.device)
        v, u = torch.meshgrid(steps, steps, indexing="ij")
        offsets = torch.stack([u, v]).flatten(1).to(correlation)
        return torch.einsum("bkhw,ck->bchw", likelihood, offsets)


def local_correlation(own: Tensor, warped: Tensor, radius: int) -> Tensor:
    """Cosine of each cell's features with those of the cells around it in the warped image.

    Args:
        own: shape (B, C, h, w).
        warped: Same shape.
        radius: Largest offset, cells.

    Returns:
        shape (B, (2 * radius + 1)^2, h, w); 0 beyond the image.
    """
    own, warped = functional.normalize(own, dim=1), functional.normalize(warped, dim=1)
    rows, columns = own.shape[2:]
    padded = functional.pad(warped, (radius,) * 4)
    if has_kernels(own) and not torch.is_grad_enabled():
        from .kernels import correlate

        found = torch.empty(len(own), (2 * radius + 1) ** 2, rows, columns)
        for one, other, out in zip(own.contiguous(), padded.contiguous(), found, strict=True):
            correlate(one.numpy(), other.numpy(), radius, out.numpy())
        return found
    offsets = range(2 * radius + 1)
    return torch.stack(
        [
            (own * padded[:, :, i : i + rows, j : j + columns]).sum(1)
            for i in offsets
            for j in offsets
        ],
        1,
    )


def coarse_warp(logits: Tensor, size: tuple[int, int]) -> ScaleWarp:
    """The most likely cell of each, made finer by the likelihood of the cells around it.

    Args:
        logits: shape (B, h * w, h * w + 1).
        size: (columns, rows) of the coarse grid.

    Returns:
        Warp at the coarse scale; certainty is one minus the probability of "not visible".
    """
    columns, rows = size
    logits = logits.detach().float()
    probability = logits.softmax(-1)
    seen = 1 - probability[..., -1]
    best = logits[..., :-1].argmax(-1)
    u, v = best % columns, best // columns
    total = torch.zeros_like(seen)
    mean = torch.zeros(*seen.shape, 2, device=seen.device)
    for dv in (-1, 0, 1):
        for du in (-1, 0, 1):
            near_u, near_v = u + du, v + dv
            known = (near_u >= 0) & (near_u < columns) & (near_v >= 0) & (near_v < rows)
            index = near_v.clamp(0, rows - 1) * columns + near_u.clamp(0, columns - 1)
            share = probability.gather(-1, index[..., None])[..., 0] * known
            total = total + share
            mean = mean + share[..., None] * torch.stack([near_u, near_v], -1)
    warp = mean / total.clamp(min=1e-12)[..., None]
    shape = (len(logits), rows, columns)
    return ScaleWarp(
        COARSE_STRIDE,
        warp.reshape(*shape, 2),
        torch.logit(seen, 1e-4).reshape(shape),
    )


def upsample(at: ScaleWarp, size: tuple[int, int]) -> ScaleWarp:
    """A warp at twice its resolution, or more, detached: every scale learns by itself.

    Args:
        at: Warp.
        size: (columns, rows) of the finer grid.

    Returns:
        The warp in cells of the finer grid.
    """
    rows, columns = at.logit.shape[1:]
    factor = at.warp.new_tensor([size[0] / columns, size[1] / rows])
    # Bilinear on the motion, which unlike the warp is nearly even and so needs no extrapolation.
    motion = at.warp - pixel_grid((columns, rows), device=at.warp.device)
    channels = torch.cat([motion * factor, at.logit[..., None]], -1).permute(0, 3, 1, 2)
    fine = functional.interpolate(
        channels.detach(), size=(size[1], size[0]), mode="bilinear", align_corners=False
    ).permute(0, 2, 3, 1)
    grid = pixel_grid(size, device=at.warp.device)
    return ScaleWarp(at.stride * columns // size[0], fine[..., :2] + grid, fine[..., 2])


class DenseNetwork(nn.Module):
    """Dense matcher of two images of equal size.

    Args:
        config: Sizes.

    Attributes:
        certainty_shift: Logit at which a match is right often enough, without and with the
            calibration, shape (2,); chosen after training, on the validation seeds.
    """

    certainty_shift: Tensor

    def __init__(self, config: DenseNetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config or DenseNetworkConfig()
        self.register_buffer("certainty_shift", torch.zeros(2))
        self.encoder = Encoder(self.config)
        self.coarse = CoarseMatcher(self.config)
        self.refiners = nn.ModuleList(
            Refiner(*sizes)
            for sizes in zip(
                self.config.channels,
                self.config.hidden,
                self.config.radius,
                self.config.correlated,
                strict=True,
            )
        )

    def refine(
        self, own: ImageFeatures, other: ImageFeatures, start: ScaleWarp
    ) -> tuple[ScaleWarp, ...]:
        """Refine a warp at 1/8, 1/4 and 1/2.

        Args:
            own: Features.
            other: Of the other images.
            start: Warp at 1/8.

        Returns:
            The warps at the three scales, coarse to fine.
        """
        warps = []
        at = start
        for level in (2, 1, 0):
            features = own.maps[level]
            at = upsample(at, (features.shape[3], features.shape[2]))
            at = self.refiners[level](features, other.maps[level], at)
            warps.append(at)
        return tuple(warps)
