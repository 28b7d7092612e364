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


_PLACE_FREQUENCIES = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
"""Radians per half diagonal of the frame: from the whole of it down to a fortieth, the reach of
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


HINTS: Final = 2
"""Numbers that tell how good a keypoint's best partner is."""

TEMPERATURE: Final = 30.0
"""Of the softmax over the cosines of centred descriptors by which hints are computed, and with
which training starts."""

PLACE_WEIGHT: Final = 2.5
"""Likewise of places, orientations and scales in the common frame against descriptors. Of 1 to 3,
the larger, the smaller the loss on the training scenes; relief still asks for some tolerance."""

Size = tuple[float, float]
"""(width, height), px."""


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
        placed: Appended to descriptors are places, scales and orientations of a frame that is
            common to both images, and how good the best partner by all of these is.
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
        from kornia.feature.lightglue import CrossBlock, MatchAssignment

        with _flash_attention_kept():
            network: nn.Module = LightGlue(
                features=None,  # type: ignore[arg-type]  # kornia's own way of loading nothing
                input_dim=self.dimension + (PLACE_FEATURES + HINTS) * self.placed,
                descriptor_dim=self.width,
                add_scale_ori=self.oriented,
                n_layers=self.layers,
                depth_confidence=-1,
                width_confidence=-1,
            )
        for module in network.modules():
            for kind, own in (
                (CrossBlock, _cross_attention),
                (MatchAssignment, _match_assignment),
            ):
                if isinstance(module, kind):
                    setattr(module, "forward", MethodType(own, module))  # noqa: B010
        return network

    def pair_input(
        self,
        features: tuple[Features, Features],
        sizes: tuple[Size, Size],
        device: torch.device | str,
        *,
        is_common: bool = False,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The network's input, one part per image.

        Args:
            features: Keypoints of both images, at least one each.
            sizes: (width, height) of both images, or of the frame common to them.
            device: Of the result.
            is_common: Places are those of a common frame and may be compared. Only networks of a
                ``placed`` design do so.
        """
        first, second = (
            self._image_input(each, size, device, is_common=is_common)
            for each, size in zip(features, sizes, strict=True)
        )
        if self.placed:
            own, other = first["descriptors"][0], second["descriptors"][0]
            hints = _partner_hints(own, other, self.dimension)
            first["descriptors"] = torch.cat([own, hints[0]], -1)[None]
            second["descriptors"] = torch.cat([other, hints[1]], -1)[None]
        return first, second

    def _image_input(
        self, features: Features, size: Size, device: torch.device | str, *, is_common: bool
    ) -> dict[str, Tensor]:
        """One image's part of it, without what depends on the other image."""
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
            descriptors = torch.cat([descriptors, place * float(is_common)], -1)
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
"""Of the weights that AquaMVS trains and ships: 1.68 million parameters, on RootSIFT."""


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


def _partner_hints(first: Tensor, second: Tensor, dimension: int) -> tuple[Tensor, Tensor]:
    """How good each token's best partner in the other image is, shapes (N, HINTS), (M, HINTS).

    The best similarity over a perfect one's, and the largest logarithm of the assignment by these
    similarities, each shifted and scaled to the range of the other inputs.
    """
    weights = first.new_full((first.shape[1],), PLACE_WEIGHT)
    weights[:dimension] = 1.0
    first, second = first * weights, second * weights
    perfect = first.square().sum(-1).amax().clamp(min=_LEAST_SCALE)
    similarity = first @ second.T
    logits = TEMPERATURE / dimension * similarity
    assignment = 2 * logits - logits.logsumexp(0, keepdim=True) - logits.logsumexp(1, keepdim=True)
    hints = []
    for axis in (1, 0):
        closeness = 10 * (similarity.amax(axis) / perfect - 0.8)
        sureness = assignment.amax(axis).clamp(min=-8.0) / 2 + 1
        hints.append(torch.stack([closeness, sureness], -1))
    return hints[0], hints[1]


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


def _match_assignment(block: Any, x0: Tensor, x1: Tensor) -> tuple[Tensor, Tensor]:
    """Kornia's assignment, from the sums of rows and columns alone.

    Its own computes the logarithm of both softmaxes as N x M matrices, one of them transposed.
    """
    scale = block.final_proj.out_features**0.25
    projected = (block.final_proj(x) / scale for x in (x0, x1))
    similarity = torch.einsum("bmd,bnd->bmn", *projected)
    logit0, logit1 = block.matchability(x0), block.matchability(x1).transpose(1, 2)
    batch, rows, columns = similarity.shape
    assignment = similarity.new_zeros(batch, rows + 1, columns + 1)
    own, other = (
        functional.logsigmoid(logit) - similarity.logsumexp(axis, keepdim=True)
        for logit, axis in ((logit0, 2), (logit1, 1))
    )
    assignment[:, :-1, :-1] = (2 * similarity).add_(own).add_(other)
    assignment[:, :-1, -1] = functional.logsigmoid(-logit0)[..., 0]
    assignment[:, -1, :-1] = functional.logsigmoid(-logit1)[:, 0]
    return assignment, similarity


@contextmanager
def _flash_attention_kept() -> Iterator[None]:
    """Undo what kornia's constructor does to PyTorch's process-wide choice of attention."""
    before: bool = torch.backends.cuda.flash_sdp_enabled()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.backends.cuda.enable_flash_sdp(before)
