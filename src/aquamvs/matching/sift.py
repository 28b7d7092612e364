"""The matcher that needs no weights: RootSIFT, guided by the calibration.

Keypoints are SIFT's (Lowe, IJCV 2004), descriptors RootSIFT (Arandjelović and Zisserman, CVPR
2012). Candidates must lie on each other's refractive epipolar curves before they compete, so that a
true match on repetitive sand is not lost to a look-alike elsewhere in the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..types import Matches, View
from .assignment import distinctive_pairs, nearest_candidates
from .base import Features, SparseMatcher, chosen_matches, no_matches, swap_matches
from .frames import consistent_frames
from .guidance import Candidates, Guidance, epipolar_candidates
from .images import grey_image
from .spread import spread_selection

_DESCRIPTOR = 128

_POSITIVE = (
    "max_keypoints",
    "contrast_threshold",
    "edge_threshold",
    "max_descriptor_distance",
    "ratio",
    "max_rotation_deg",
    "max_octaves",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiftOptions:
    """Detection and matching of SIFT keypoints.

    Attributes:
        max_keypoints: Per view, the strongest of every part of the image.
        contrast_threshold: Of OpenCV's detector. A quarter of its default: beds under water have
            little contrast, and guidance copes with weak keypoints.
        edge_threshold: Of OpenCV's detector.
        clahe_clip_limit: Equalise local contrast first; None leaves the image as it is.
        max_descriptor_distance: Largest Euclidean distance of RootSIFT descriptors (0 to sqrt 2).
        ratio: Largest ratio of that distance to the best rival's (Lowe's value).
        guidance: Distance from the epipolar curve; None matches by appearance alone.
        max_rotation_deg: With guidance: largest deviation of a keypoint's orientation from the one
            that the calibration predicts for a level patch. Nine of ten wrong candidates fail; of
            true matches on slopes and walls one in a hundred does.
        max_octaves: Likewise of its scale, as a power of two.

    Example:
        >>> from aquamvs.matching import SiftOptions
        >>> SiftOptions(ratio=0.7, guidance=None).max_keypoints
        4096
    """

    max_keypoints: int = 4096
    contrast_threshold: float = 0.01
    edge_threshold: float = 10.0
    clahe_clip_limit: float | None = None
    max_descriptor_distance: float = 0.7
    ratio: float = 0.8
    guidance: Guidance | None = field(default_factory=Guidance)
    max_rotation_deg: float = 30.0
    max_octaves: float = 0.5

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a positive number")
        if self.clahe_clip_limit is not None and not self.clahe_clip_limit > 0:
            raise ConfigError(
                f"clahe_clip_limit is {self.clahe_clip_limit}; expected a positive number or none"
            )


class SiftMatcher(SparseMatcher):
    """Guided RootSIFT matching.

    Args:
        options: Detection and matching.
        device: Where descriptors are compared; detection runs on the CPU.

    Example:
        >>> from aquamvs.matching import SiftMatcher, SiftOptions
        >>> matcher = SiftMatcher(SiftOptions(max_keypoints=200))
        >>> matches = matcher.match(views["cam0"], views["cam1"])
        >>> matches.reference, len(matches) > 20
        ('cam0', True)
    """

    def __init__(
        self, options: SiftOptions | None = None, device: str | torch.device = "cpu"
    ) -> None:
        self.options = options or SiftOptions()
        self.device = torch.device(device)
        self.label = "SIFT" if self.options.guidance else "SIFT (unguided)"

    def extract(self, view: View) -> Features:
        """RootSIFT keypoints inside the view's mask, on the matcher's device."""
        options = self.options
        return detect_sift(
            view,
            max_keypoints=options.max_keypoints,
            contrast_threshold=options.contrast_threshold,
            edge_threshold=options.edge_threshold,
            clahe_clip_limit=options.clahe_clip_limit,
        ).to(self.device)

    def match_features(
        self, reference: View, source: View, reference_features: Features, source_features: Features
    ) -> Matches:
        """Mutual nearest neighbours among the guided candidates that pass the ratio test.

        The score of a match falls linearly from 1 at equal descriptors to 0 at
        ``max_descriptor_distance``.
        """
        first, second, options = reference_features, source_features, self.options
        if reference.name > source.name:
            return swap_matches(self.match_features(source, reference, second, first))
        if len(first) == 0 or len(second) == 0:
            return no_matches(reference, source)
        candidates, possible = self._candidates(reference, source, first, second)
        chosen, distance = distinctive_pairs(
            (first, second),
            candidates,
            possible,
            ratio=options.ratio,
            max_distance=options.max_descriptor_distance,
        )
        return chosen_matches(
            reference,
            source,
            (
                first.pixels[candidates.reference[chosen]],
                second.pixels[candidates.source[chosen]],
            ),
            1 - distance / options.max_descriptor_distance,
        )

    def _candidates(
        self, reference: View, source: View, first: Features, second: Features
    ) -> tuple[Candidates, Tensor]:
        """Pairs of keypoints that compete, and which of them may win, shape (C,), bool.

        Every keypoint near the epipolar curve is a rival for the ratio test, whatever its
        orientation: without rivals nothing would tell a chance resemblance from a match.
        """
        options = self.options
        if options.guidance is None:
            candidates = nearest_candidates(first.descriptors, second.descriptors)
            return candidates, torch.ones_like(candidates.reference, dtype=torch.bool)
        models = (reference.model.to(self.device), source.model.to(self.device))
        candidates = epipolar_candidates(
            models[0], models[1], first.pixels, second.pixels, options.guidance
        )
        possible = consistent_frames(
            candidates,
            models,
            (first, second),
            max_rotation_deg=options.max_rotation_deg,
            max_octaves=options.max_octaves,
        )
        return candidates, possible


def detect_sift(
    view: View,
    *,
    max_keypoints: int,
    contrast_threshold: float,
    edge_threshold: float = 10.0,
    clahe_clip_limit: float | None = None,
) -> Features:
    """SIFT keypoints with RootSIFT descriptors, on the CPU.

    Args:
        view: Image and mask.
        max_keypoints: The strongest of every part of the image are kept.
        contrast_threshold: Of OpenCV's detector.
        edge_threshold: Of OpenCV's detector.
        clahe_clip_limit: Equalise local contrast first; None leaves the image as it is.

    Returns:
        Features in a fixed order; ``scales`` are OpenCV's patch diameters.
    """
    detector = cv2.SIFT.create(
        contrastThreshold=contrast_threshold,
        edgeThreshold=edge_threshold,
        # Without it OpenCV's first octave is half a pixel off: keypoints shift by 0.25 px.
        enable_precise_upscale=True,
    )
    mask = np.ascontiguousarray(view.mask.cpu().numpy()).astype(np.uint8) * 255
    grey = grey_image(view.image, clahe_clip_limit)
    keypoints = detector.detect(grey, mask)
    table = torch.tensor(
        [(*k.pt, k.response, k.size, k.angle) for k in keypoints], dtype=torch.float64
    ).reshape(-1, 5)
    order = torch.from_numpy(np.lexsort(table.numpy().T[[4, 3, 0, 1]]))
    table = table[order]
    chosen = spread_selection(
        table[:, :2].float(), table[:, 2].float(), size=view.size, limit=max_keypoints
    )
    if len(chosen) == 0:
        return Features.empty(_DESCRIPTOR)
    # Described after the selection: of tens of thousands most would be described in vain.
    kept = [keypoints[i] for i in order[chosen].tolist()]
    _, descriptors = detector.compute(grey, kept)
    table = table[chosen]
    return Features(
        table[:, :2].float(),
        root_sift(torch.from_numpy(descriptors)),
        table[:, 2].float(),
        table[:, 3].float(),
        torch.deg2rad(table[:, 4]).float(),
    )


def root_sift(descriptors: Tensor) -> Tensor:
    """RootSIFT of SIFT descriptors, shape (N, 128): unit length, float32.

    Their Euclidean distance is the Hellinger distance of the gradient histograms.
    """
    histogram = descriptors.float()
    total = histogram.sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.sqrt(histogram / total)
