"""What a matcher is: two small protocols and the features that a sparse one keeps per view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import ShapeError
from ..types import Matches, View, Warp


@dataclass(frozen=True, slots=True)
class Features:
    """Keypoints of one view with their descriptors.

    Attributes:
        pixels: Keypoints (u, v), shape (N, 2), float32.
        descriptors: Unit length, shape (N, D), float32.
        scores: Strength of detection, larger is better, shape (N,), float32.
        scales: Diameter of the described patch, px, shape (N,); zero where the detector has none.
        orientations: Radians, shape (N,); zero where the detector has none.

    Example:
        >>> from aquamvs.matching import create_matcher
        >>> features = create_matcher("sift").extract(views["cam0"])
        >>> features.pixels.shape[1], features.descriptors.shape[1]
        (2, 128)
    """

    pixels: Tensor
    descriptors: Tensor
    scores: Tensor
    scales: Tensor
    orientations: Tensor

    def __post_init__(self) -> None:
        count = self.pixels.shape[0]
        if tuple(self.pixels.shape) != (count, 2):
            raise ShapeError("pixels", tuple(self.pixels.shape), "(N, 2)")
        if self.descriptors.ndim != 2 or self.descriptors.shape[0] != count:
            raise ShapeError("descriptors", tuple(self.descriptors.shape), f"({count}, D)")
        for name in ("scores", "scales", "orientations"):
            if tuple(getattr(self, name).shape) != (count,):
                raise ShapeError(name, tuple(getattr(self, name).shape), f"({count},)")

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def select(self, index: Tensor) -> Features:
        """The features at ``index`` (positions or a mask), in that order."""
        return Features(
            self.pixels[index],
            self.descriptors[index],
            self.scores[index],
            self.scales[index],
            self.orientations[index],
        )

    def to(self, device: str | torch.device) -> Features:
        """These features on ``device``."""
        return Features(
            self.pixels.to(device),
            self.descriptors.to(device),
            self.scores.to(device),
            self.scales.to(device),
            self.orientations.to(device),
        )

    def unique_places(self) -> tuple[Tensor, Tensor]:
        """Distinct keypoint pixels, sorted, shape (P, 2), and each feature's place, shape (N,)."""
        places, place = torch.unique(self.pixels, dim=0, return_inverse=True)
        return places, place

    @staticmethod
    def empty(dimension: int) -> Features:
        """No keypoints, descriptors of length ``dimension``."""
        none = torch.zeros(0)
        return Features(torch.zeros(0, 2), torch.zeros(0, dimension), none, none, none)


@runtime_checkable
class SparseMatcher(Protocol):
    """Finds keypoints in each view once and pairs them up.

    Matching is symmetric: swapping the two views gives the same correspondences. On the CPU,
    several threads may call a matcher at a time.

    Attributes:
        label: Name for reports; says which weights are in use.

    Example:
        >>> from aquamvs.matching import SparseMatcher, create_matcher
        >>> matcher: SparseMatcher = create_matcher("sift")
        >>> len(matcher.match(views["cam0"], views["cam1"])) > 20
        True
    """

    label: str

    def extract(self, view: View) -> Features:
        """Keypoints of a view, inside its mask; possibly none."""
        ...

    def match_features(
        self, reference: View, source: View, reference_features: Features, source_features: Features
    ) -> Matches:
        """Correspondences between features that :meth:`extract` returned; possibly none."""
        ...

    def match(self, reference: View, source: View) -> Matches:
        """Correspondences between two views; possibly none."""
        return self.match_features(reference, source, self.extract(reference), self.extract(source))


@runtime_checkable
class DenseMatcher(Protocol):
    """Finds for every cell of the reference view where it lies in the source view.

    Attributes:
        label: Name for reports; says which weights are in use.

    Example:
        >>> from aquamvs.matching import DenseMatcher, create_matcher
        >>> matcher: DenseMatcher = create_matcher("roma")
        >>> warp = matcher.match(views["cam0"], views["cam1"])
        >>> warp.certainty.ndim, warp.reference_size
        (2, (200, 150))
    """

    label: str

    def match(self, reference: View, source: View) -> Warp:
        """Correspondence and certainty; certainty is 0 outside of either view's mask."""
        ...


def swap_matches(matches: Matches) -> Matches:
    """The same correspondences with reference and source exchanged.

    Matchers work on a pair in the order of its names and swap the result, so that neither rounding
    nor a tie depends on the direction that was asked for.
    """
    return Matches(
        matches.source,
        matches.reference,
        matches.source_pixels,
        matches.reference_pixels,
        matches.scores,
    )


def chosen_matches(
    reference: View,
    source: View,
    keypoints: tuple[Tensor, Tensor],
    scores: Tensor,
) -> Matches:
    """Paired keypoints, each of shape (K, 2), as matches of two views, on the views' device."""
    device = reference.image.device
    first, second = (pixels.to(device) for pixels in keypoints)
    return Matches(reference.name, source.name, first, second, scores.to(device))


def no_matches(reference: View, source: View) -> Matches:
    """Empty correspondences between two views."""
    return chosen_matches(reference, source, (torch.zeros(0, 2), torch.zeros(0, 2)), torch.zeros(0))
