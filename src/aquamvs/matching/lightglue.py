"""LightGlue (Lindenberger, Sarlin and Pollefeys, ICCV 2023): bundled or official weights."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..types import Matches, View
from .assignment import mutual_best
from .base import Features, SparseMatcher, chosen_matches, no_matches, swap_matches
from .bundled import BUNDLED, OFFICIAL, bundled_file, weights_origin
from .common_frame import in_common_frame
from .extractors import (
    EXTRACTORS,
    DetectionOptions,
    Extractor,
    ExtractorType,
    create_extractor,
)
from .guidance import Candidates, Guidance, epipolar_candidates, keep_guided
from .lightglue_network import BUNDLED_DESIGN, LightGlueDesign, Size, load_lightglue, log_assignment
from .orientation import with_true_turn
from .placement import placed
from .transfer import GreyPair, grey_values
from .verification import look_alikes, verified_probability
from .weights import resolve_weights

_OFFICIAL_THRESHOLD = 0.1
"""The authors' value."""

_BUNDLED_THRESHOLD, _BUNDLED_THRESHOLD_GUIDED = 0.93, 0.9
"""Chosen on development seeds (see the model card)."""

_BUNDLED_LEAST = 1e-3
"""Smallest probability of the bundled network that verification may still raise."""

_LIKELY = 0.5
"""Probability from which a pair without guidance may tell how the cameras are turned."""

_REACH = 2.0
"""Distance from the epipolar curve up to which it may, over the largest one of guided matches."""

_LEAST_LOGARITHM = -80.0
"""Of a probability: smaller ones would be denormal numbers, which take processors much longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LightGlueOptions:
    """Detection and matching with LightGlue.

    Attributes:
        extractor: Features; None takes SIFT with the bundled weights and ALIKED with others.
            SuperPoint's weights are non-commercial, must come from the user, and are never a
            default.
        detection: Options of the extractor.
        filter_threshold: Smallest match score, 0 to 1; None takes the value that belongs to the
            weights and the guidance.
        guidance: Distance from the epipolar curve, applied before the mutual check once the
            network's matches have told how the pair's cameras are turned against each other. So is
            a comparison of the images there, and of depths with those of the matches around. A
            keypoint of the source view that turns out to show another point than its partner is
            moved along the curve. None matches by the network alone.
        weights: ``bundled`` (part of AquaMVS, on SIFT), ``official`` (the cache and, where it lacks
            them, the network), or a folder with the checkpoint files under their published names.
        download: Whether the network may be used.

    Example:
        >>> from aquamvs.matching import LightGlueOptions, create_matcher
        >>> create_matcher("lightglue", LightGlueOptions(filter_threshold=0.3)).label
        'LightGlue (bundled)'
    """

    extractor: ExtractorType | None = None
    detection: DetectionOptions = field(default_factory=DetectionOptions)
    filter_threshold: float | None = None
    guidance: Guidance | None = field(default_factory=Guidance)
    weights: str | Path = BUNDLED
    download: bool = True

    def __post_init__(self) -> None:
        if self.extractor is not None and self.extractor not in list(ExtractorType):
            raise ConfigError(
                f"extractor is {self.extractor!r}; expected one of {', '.join(ExtractorType)}"
            )
        if self.is_bundled and self.extractor not in (None, ExtractorType.SIFT):
            raise ConfigError(
                f"sparse_matching.extractor_type is {str(self.extractor)!r}, but the bundled "
                "LightGlue was trained on SIFT keypoints; choose sift, or set "
                "sparse_matching.weights to `official` or to a folder of checkpoints"
            )
        if self.filter_threshold is not None and not 0 <= self.filter_threshold <= 1:
            raise ConfigError(
                f"filter_threshold is {self.filter_threshold}; expected a score from 0 to 1"
            )

    @property
    def is_bundled(self) -> bool:
        """Whether the weights are those that AquaMVS ships."""
        return self.weights == BUNDLED

    @property
    def label(self) -> str:
        """The matcher and its weights, as reports name them."""
        features = "" if self.is_bundled else f"{EXTRACTORS[self.features].label}, "
        return f"LightGlue ({features}{weights_origin(self.weights)})"

    @property
    def features(self) -> ExtractorType:
        """The extractor, chosen where it was left open."""
        if self.extractor is not None:
            return ExtractorType(self.extractor)
        return ExtractorType.SIFT if self.is_bundled else ExtractorType.ALIKED

    @property
    def design(self) -> LightGlueDesign:
        """The network that the weights fit."""
        spec = EXTRACTORS[self.features]
        if self.is_bundled:
            return BUNDLED_DESIGN
        return LightGlueDesign(dimension=spec.dimension, oriented=spec.oriented)

    @property
    def threshold(self) -> float:
        """Smallest match score, chosen where it was left open."""
        if self.filter_threshold is not None:
            return self.filter_threshold
        if not self.is_bundled:
            return _OFFICIAL_THRESHOLD
        return _BUNDLED_THRESHOLD if self.guidance is None else _BUNDLED_THRESHOLD_GUIDED

    @property
    def least_probability(self) -> float:
        """Smallest probability by the network at which a pair is a candidate."""
        if self.guidance is None or not self.is_bundled:
            return self.threshold
        return min(self.threshold, _BUNDLED_LEAST)


class LightGlueMatcher(SparseMatcher):
    """LightGlue on one kind of features.

    Args:
        options: Detection and matching.
        extractor: Finds the keypoints.
        network: kornia's LightGlue for those keypoints.
        device: Where the network runs.

    Example:
        >>> from aquamvs.matching import LightGlueMatcher, LightGlueOptions
        >>> matcher = LightGlueMatcher.create(LightGlueOptions(), "cpu")
        >>> matches = matcher.match(views["cam0"], views["cam1"])
        >>> matcher.label, matches.source
        ('LightGlue (bundled)', 'cam1')
    """

    def __init__(
        self,
        options: LightGlueOptions,
        *,
        extractor: Extractor,
        network: nn.Module,
        device: torch.device,
    ) -> None:
        self.options, self.device = options, device
        self._extractor, self._network = extractor, network
        self._greys: dict[str, tuple[weakref.ref[Tensor], Tensor]] = {}
        self.label = options.label

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
        spec = EXTRACTORS[options.features]
        folder = None if options.weights == OFFICIAL else Path(options.weights)

        def find(name: str) -> Path:
            return resolve_weights(name, path=folder, download=options.download)

        matcher_file = (
            bundled_file("lightglue") if options.is_bundled else find(spec.matcher_weights)
        )
        extractor_file = None if spec.weights is None else find(spec.weights)
        network = load_lightglue(matcher_file, options.design, device=device)
        extractor = create_extractor(
            options.features, options.detection, weights=extractor_file, device=device
        )
        return cls(options, extractor=extractor, network=network, device=device)

    def extract(self, view: View) -> Features:
        """Keypoints inside the view's mask, on the matcher's device."""
        return self._extractor(view)

    def match_features(
        self, reference: View, source: View, reference_features: Features, source_features: Features
    ) -> Matches:
        """Mutual best pairs of the network's assignment.

        The score is the network's probability and, with guidance, that of network, images,
        calibration and the matches around.
        """
        first, second = reference_features, source_features
        if reference.name > source.name:
            return swap_matches(self.match_features(source, reference, second, first))
        if len(first) == 0 or len(second) == 0:
            return no_matches(reference, source)
        probability = self._assignment((first, reference), (second, source))
        pixels = first.pixels, second.pixels
        reference, source = self._turned((reference, source), probability, pixels)
        pair = GreyPair.of((reference, source), self._grey)
        candidates = self._candidates(probability, pair, pixels)
        scores = probability[candidates.reference, candidates.source]
        # An image point detected at several orientations is one point: it matches once.
        first_places, first_place = first.unique_places()
        second_places, second_place = second.unique_places()
        pairs = Candidates(first_place[candidates.reference], second_place[candidates.source])
        if self.options.guidance is not None:
            detection = self.options.detection
            sides = detection.pixel_side(reference.size), detection.pixel_side(source.size)
            places = first_places, second_places
            scores = verified_probability(scores, pairs, pair, places, sides)
        chosen = mutual_best(pairs, scores, (len(first_places), len(second_places)))
        chosen = chosen[scores[chosen] > self.options.threshold]
        found = first_places[pairs.reference[chosen]], second_places[pairs.source[chosen]]
        scores = scores[chosen].float()
        guidance = self.options.guidance
        if guidance is None:
            return chosen_matches(reference, source, found, scores)
        found, kept = placed(pair, found)
        found = found[0][kept], found[1][kept]
        matches = chosen_matches(reference, source, found, scores[kept])
        return keep_guided(matches, reference, source, guidance)

    def _turned(
        self, views: tuple[View, View], probability: Tensor, pixels: tuple[Tensor, Tensor]
    ) -> tuple[View, View]:
        """The views as the network's own matches say that they are turned against each other."""
        guidance = self.options.guidance
        if guidance is None:
            return views
        likely = Candidates(*(probability > _LIKELY).nonzero(as_tuple=True))
        scores = probability[likely.reference, likely.source]
        likely = likely.select(mutual_best(likely, scores, (len(pixels[0]), len(pixels[1]))))
        found = pixels[0][likely.reference], pixels[1][likely.source]
        return with_true_turn(views, found, _REACH * guidance.max_distance_px)

    def _grey(self, view: View) -> Tensor:
        """Grey values of a view, found once however many pairs it is in."""
        image, values = self._greys.get(view.name, (None, None))
        if image is None or values is None or image() is not view.image:
            values = grey_values(view, self.device)
            self._greys[view.name] = weakref.ref(view.image), values
        return values

    def _candidates(
        self, probability: Tensor, pair: GreyPair, pixels: tuple[Tensor, Tensor]
    ) -> Candidates:
        """Pairs that may match, ordered by reference, then source."""
        possible = probability > self.options.least_probability
        if self.options.guidance is None:
            return Candidates(*possible.nonzero(as_tuple=True))
        reference, source = (view.model.to(self.device) for view in pair.views)
        candidates = epipolar_candidates(reference, source, *pixels, self.options.guidance)
        proposed = possible[candidates.reference, candidates.source]
        if not self.options.is_bundled:
            return candidates.select(proposed)
        doubted = (~proposed).nonzero()[:, 0]
        alike = look_alikes(candidates.select(doubted), pair, pixels)
        proposed[doubted[alike]] = True
        return candidates.select(proposed)

    @torch.inference_mode()
    def _assignment(self, first: tuple[Features, View], second: tuple[Features, View]) -> Tensor:
        """Probability that two keypoints match, shape (N, M), float32."""
        inputs = pair_input(
            self.options.design,
            (first[0], second[0]),
            (first[1].size, second[1].size),
            self.device,
        )
        logarithm = log_assignment(self._network, *inputs)[:-1, :-1].float()
        return logarithm.clamp(min=_LEAST_LOGARITHM).exp_()


def pair_input(
    design: LightGlueDesign,
    features: tuple[Features, Features],
    sizes: tuple[Size, Size],
    device: torch.device | str,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Both images' parts of the network's input, in a common frame where design and images allow.

    Args:
        design: Of the network.
        features: Of both images.
        sizes: (width, height) of both images.
        device: Of the network.
    """
    first, second = features
    frame = in_common_frame(first, second, sizes[1]) if design.placed else None
    if frame is not None:
        first, second, size = frame
        sizes = (size, size)
    return design.pair_input((first, second), sizes, device, is_common=frame is not None)
