"""LightGlue's network: kornia's implementation, in the sizes that AquaMVS has weights for.

kornia's own loading is not used (it downloads, and takes files that do not fit); two of its habits
are switched off. Early stopping and pruning of keypoints make the result depend on thresholds
trained for other data, and hide the full assignment that guidance needs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import Features
from .checkpoints import load_strictly, read_tensors

_RELEASED_NAME = re.compile(r"^(self|cross)_attn\.(\d+)\.")
"""The release lists attention blocks by kind; kornia lists them by layer."""

_LEAST_SCALE = 1e-3
"""Stands for the scale of detectors that have none, px, and for the spread of a flat descriptor."""


_PLACE_FREQUENCIES = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Radians per half diagonal of the frame: from the whole of it down to a twentieth, the reach of
relief and of what an affine map leaves."""

_TURN_FREQUENCIES = (1.0, 2.0)
"""Multiples of the orientation; whole ones, so that a full turn is none."""

_SCALE_FREQUENCIES = (0.5, 1.0)
"""Radians per octave of scale."""

PLACE_FEATURES: Final = 2 * (
    2 * len(_PLACE_FREQUENCIES) + len(_TURN_FREQUENCIES) + len(_SCALE_FREQUENCIES)
)
"""Numbers that describe a keypoint's place, orientation and scale; their products are largest
where all three are alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LightGlueDesign:
    """Size and input of a LightGlue.

    Attributes:
        dimension: Length of a descriptor.
        width: Length of a token inside of the network.
        layers: Number of layers, each of self- and cross-attention.
        oriented: The network reads the keypoints' scales and orientations.
        normalised: It reads places over half the image's diagonal, so that a turned image is within
            the same bounds; the logarithm of scales to base 2, in which a zoom is a shift; and
            descriptors of zero mean and unit variance, the numbers that networks learn on best.
        placed: Places, scales and orientations of a common frame are appended to descriptors.
    """

    dimension: int
    width: int = 256
    layers: int = 9
    oriented: bool = False
    normalised: bool = False
    placed: bool = False

    def build(self) -> nn.Module:
        """The network with random weights."""
        from kornia.feature import LightGlue
        from kornia.feature.lightglue import CrossBlock

        with _flash_attention_kept():
            network: nn.Module = LightGlue(
                features=None,  # type: ignore[arg-type]  # kornia's own way of loading nothing
                input_dim=self.dimension + PLACE_FEATURES * self.placed,
                descriptor_dim=self.width,
                add_scale_ori=self.oriented,
                n_layers=self.layers,
                depth_confidence=-1,
                width_confidence=-1,
            )
        for module in network.modules():
            if isinstance(module, CrossBlock):
                setattr(module, "forward", MethodType(_cross_attention, module))  # noqa: B010
        return network

    def network_input(
        self,
        features: Features,
        size: tuple[float, float],
        device: torch.device | str,
        *,
        in_common_frame: bool = False,
    ) -> dict[str, Tensor]:
        """One image's part of the network's input.

        Args:
            features: Keypoints within the image, or within the frame common to both images.
            size: (width, height) of the image or frame.
            device: Of the result.
            in_common_frame: Places may be compared with the other image's. Only networks of a
                ``placed`` design do so.
        """
        pixels, scales, descriptors = features.pixels, features.scales, features.descriptors
        if self.normalised:
            side = math.hypot(*size)
            pixels = pixels + pixels.new_tensor([(side - size[0]) / 2, (side - size[1]) / 2])
            scales = scales.clamp(min=_LEAST_SCALE).log2()
            size = (side, side)
            descriptors = descriptors - descriptors.mean(-1, keepdim=True)
            spread = descriptors.norm(dim=-1, keepdim=True).clamp(min=_LEAST_SCALE)
            descriptors = descriptors / spread * math.sqrt(self.dimension)
        if self.placed:
            place = _place_features(pixels, size, scales, features.orientations)
            # Zeros, which no place has, say that nothing is known.
            descriptors = torch.cat([descriptors, place * float(in_common_frame)], -1)
        return {
            "keypoints": pixels[None],
            "descriptors": descriptors[None],
            # The order is (width, height), unlike an image's shape; the wrong one is out of range.
            "image_size": torch.tensor([size], dtype=torch.float32, device=device),
            "scales": scales[None],
            "oris": features.orientations[None],
        }


BUNDLED_DESIGN: Final = LightGlueDesign(
    dimension=128, width=128, layers=5, oriented=True, normalised=True, placed=True
)
"""Of the weights that AquaMVS trains and ships: 1.67 million parameters, on RootSIFT."""


def log_assignment(
    network: nn.Module, first: dict[str, Tensor], second: dict[str, Tensor]
) -> Tensor:
    """Logarithm of the assignment with its "no match" row and column, shape (N + 1, M + 1)."""
    result: Tensor = network({"image0": first, "image1": second})["log_assignment"]
    return result[0]


def load_lightglue(
    weights: Path, design: LightGlueDesign, *, device: torch.device | str = "cpu"
) -> nn.Module:
    """LightGlue with the weights of a local file.

    Args:
        weights: Checkpoint in the layout of the official release, or in kornia's.
        design: What the file must fit.
        device: Where the network runs.

    Returns:
        The network in evaluation mode, float32.

    Raises:
        WeightsError: The file is no checkpoint of this network.
    """
    network = design.build()
    state = {
        _RELEASED_NAME.sub(r"transformers.\2.\1_attn.", name): tensor
        for name, tensor in read_tensors(weights).items()
    }
    load_strictly(
        network,
        state,
        path=weights,
        model=f"LightGlue for {design.dimension}-d {'oriented ' if design.oriented else ''}"
        f"features ({design.layers} layers of {design.width})",
        derived=["confidence_thresholds"],
        unused=[f"log_assignment.{layer}.r" for layer in range(design.layers)],
    )
    return network.eval().to(device)


def _place_features(
    pixels: Tensor, size: tuple[float, float], scales: Tensor, orientations: Tensor
) -> Tensor:
    """Cosines and sines of place, orientation and logarithmic scale, shape (N, PLACE_FEATURES)."""
    place = (2 * pixels - pixels.new_tensor(size)) / math.hypot(*size)
    phases = torch.cat(
        [
            (place[..., None] * place.new_tensor(_PLACE_FREQUENCIES)).flatten(-2),
            orientations[:, None] * place.new_tensor(_TURN_FREQUENCIES),
            scales[:, None] * place.new_tensor(_SCALE_FREQUENCIES),
        ],
        -1,
    )
    return torch.cat([phases.cos(), phases.sin()], -1)


def _cross_attention(
    block: Any, x0: Tensor, x1: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Kornia's cross-attention block, fused: its own keeps and transposes the N x M attention.

    On the CPU the fused one takes a third off a match's time.
    """
    (qk0, v0), (qk1, v1) = (
        [
            part(x).unflatten(-1, (block.heads, -1)).transpose(1, 2)
            for part in (block.to_qk, block.to_v)
        ]
        for x in (x0, x1)
    )
    back = None if mask is None else mask.transpose(-1, -2)
    messages = (
        functional.scaled_dot_product_attention(qk0, qk1, v1, attn_mask=mask),
        functional.scaled_dot_product_attention(qk1, qk0, v0, attn_mask=back),
    )
    m0, m1 = (block.to_out(m.transpose(1, 2).flatten(start_dim=-2)) for m in messages)
    return x0 + block.ffn(torch.cat([x0, m0], -1)), x1 + block.ffn(torch.cat([x1, m1], -1))


@contextmanager
def _flash_attention_kept() -> Iterator[None]:
    """Undo what kornia's constructor does to PyTorch's process-wide choice of attention."""
    before: bool = torch.backends.cuda.flash_sdp_enabled()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.backends.cuda.enable_flash_sdp(before)
