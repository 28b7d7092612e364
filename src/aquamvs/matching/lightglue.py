"""LightGlue (Lindenberger, Sarlin and Pollefeys, ICCV 2023): kornia's network, official weights.

Two of its habits are switched off. Early stopping and pruning of keypoints make the result depend
on thresholds trained for other data, and hide the full assignment that guidance needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..types import Matches, View
from .assignment import mutual_best
from .base import Features, SparseMatcher, no_matches, swap_matches
from .checkpoints import load_strictly, read_tensors
from .extractors import (
    EXTRACTORS,
    DetectionOptions,
    Extractor,
    ExtractorType,
    create_extractor,
)
from .guidance import Candidates, Guidance, epipolar_candidates
from .weights import resolve_weights

_LAYERS = 9
"""Of the official networks."""

_RELEASED_NAME = re.compile(r"^(self|cross)_attn\.(\d+)\.")
"""The release lists attention blocks by kind; kornia lists them by layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LightGlueOptions:
    """Detection and matching with LightGlue.

    Attributes:
        extractor: Features. SuperPoint's weights are non-commercial, must come from the user, and
            are never a default.
        detection: Options of the extractor.
        filter_threshold: Smallest match score, 0 to 1.
        guidance: Distance from the epipolar curve, applied before the mutual check; None matches
            by the network alone.
        weights: Folder with the checkpoint files under their published names; None uses the cache
            and, where they are missing, the network.
        download: Whether the network may be used.
    """

    extractor: ExtractorType = ExtractorType.ALIKED
    detection: DetectionOptions = field(default_factory=DetectionOptions)
    filter_threshold: float = 0.1
    guidance: Guidance | None = field(default_factory=Guidance)
    weights: Path | None = None
    download: bool = True

    def __post_init__(self) -> None:
        if self.extractor not in list(ExtractorType):
            raise ConfigError(
                f"extractor is {self.extractor!r}; expected one of {', '.join(ExtractorType)}"
            )
        if not 0 <= self.filter_threshold <= 1:
            raise ConfigError(
                f"filter_threshold is {self.filter_threshold}; expected a score from 0 to 1"
            )


class LightGlueMatcher(SparseMatcher):
    """LightGlue on one kind of features.

    Args:
        options: Detection and matching.
        extractor: Finds the keypoints.
        network: kornia's LightGlue for those keypoints.
        device: Where the network runs.
        weights_label: Where the weights come from, for reports.
    """

    def __init__(
        self,
        options: LightGlueOptions,
        *,
        extractor: Extractor,
        network: nn.Module,
        device: torch.device,
        weights_label: str,
    ) -> None:
        self.options, self.device = options, device
        self._extractor, self._network = extractor, network
        self.label = f"LightGlue ({EXTRACTORS[options.extractor].label}, {weights_label})"

    @classmethod
    def create(
        cls, options: LightGlueOptions | None = None, device: str | torch.device = "cpu"
    ) -> LightGlueMatcher:
        """Find the weights and build the networks.

        Args:
            options: Detection and matching.
            device: Where the networks run.

        Returns:
            The matcher.

        Raises:
            WeightsError: A checkpoint is missing and cannot be downloaded, or does not fit.
        """
        options, device = options or LightGlueOptions(), torch.device(device)
        kind = ExtractorType(options.extractor)
        spec = EXTRACTORS[kind]

        def find(name: str) -> Path:
            return resolve_weights(name, path=options.weights, download=options.download)

        matcher_file = find(spec.matcher_weights)
        extractor_file = None if spec.weights is None else find(spec.weights)
        network = build_lightglue(
            matcher_file, dimension=spec.dimension, oriented=spec.oriented, device=device
        )
        extractor = create_extractor(kind, options.detection, weights=extractor_file, device=device)
        return cls(
            options,
            extractor=extractor,
            network=network,
            device=device,
            weights_label="official" if options.weights is None else "from file",
        )

    def extract(self, view: View) -> Features:
        """Keypoints inside the view's mask, on the matcher's device."""
        return self._extractor(view)

    def match_features(
        self, reference: View, source: View, reference_features: Features, source_features: Features
    ) -> Matches:
        """Mutual best pairs of the network's assignment; the score is its probability."""
        first, second = reference_features, source_features
        if reference.name > source.name:
            return swap_matches(self.match_features(source, reference, second, first))
        if len(first) == 0 or len(second) == 0:
            return no_matches(reference, source)
        probability = self._assignment((first, reference), (second, source))
        if self.options.guidance is None:
            possible = probability > self.options.filter_threshold
            candidates = Candidates(*possible.nonzero(as_tuple=True))
        else:
            candidates = epipolar_candidates(
                reference.model.to(self.device),
                source.model.to(self.device),
                first.pixels,
                second.pixels,
                self.options.guidance,
            )
        scores = probability[candidates.reference, candidates.source]
        chosen = mutual_best(candidates, scores, (len(first), len(second)))
        chosen = chosen[scores[chosen] > self.options.filter_threshold]
        device = reference.image.device
        return Matches(
            reference.name,
            source.name,
            first.pixels[candidates.reference[chosen]].to(device),
            second.pixels[candidates.source[chosen]].to(device),
            scores[chosen].to(device),
        )

    @torch.inference_mode()
    def _assignment(self, first: tuple[Features, View], second: tuple[Features, View]) -> Tensor:
        """Probability that two keypoints match, shape (N, M), float32."""
        result = self._network({"image0": self._input(*first), "image1": self._input(*second)})
        assignment: Tensor = result["log_assignment"]
        return assignment[0, :-1, :-1].float().exp()

    def _input(self, features: Features, view: View) -> dict[str, Tensor]:
        # The order is (width, height), unlike an image's shape; the wrong one is out of range.
        size = torch.tensor([view.size], dtype=torch.float32, device=self.device)
        return {
            "keypoints": features.pixels[None],
            "descriptors": features.descriptors[None],
            "image_size": size,
            "scales": features.scales[None],
            "oris": features.orientations[None],
        }


def build_lightglue(
    weights: Path, *, dimension: int, oriented: bool, device: torch.device
) -> nn.Module:
    """LightGlue, as kornia builds it, with the weights of a local file.

    Args:
        weights: Checkpoint in the layout of the official release, or in kornia's.
        dimension: Length of a descriptor.
        oriented: The network reads scales and orientations.
        device: Where it runs.

    Returns:
        The network in evaluation mode, without early stopping and pruning.

    Raises:
        WeightsError: The file is no checkpoint of this network.
    """
    from kornia.feature import LightGlue

    with _flash_attention_kept():
        network = LightGlue(
            features=None,  # type: ignore[arg-type]  # kornia's own way of loading nothing
            input_dim=dimension,
            add_scale_ori=oriented,
            n_layers=_LAYERS,
            depth_confidence=-1,
            width_confidence=-1,
        )
    state = {
        _RELEASED_NAME.sub(r"transformers.\2.\1_attn.", name): tensor
        for name, tensor in read_tensors(weights).items()
    }
    load_strictly(
        network,
        state,
        path=weights,
        model=f"LightGlue for {dimension}-d {'oriented ' if oriented else ''}features",
        derived=["confidence_thresholds"],
        unused=[f"log_assignment.{layer}.r" for layer in range(_LAYERS)],
    )
    return network.eval().to(device)


@contextmanager
def _flash_attention_kept() -> Iterator[None]:
    """Undo what kornia's constructor does to PyTorch's process-wide choice of attention."""
    before: bool = torch.backends.cuda.flash_sdp_enabled()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        torch.backends.cuda.enable_flash_sdp(before)
