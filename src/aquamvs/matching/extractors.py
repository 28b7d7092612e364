"""Keypoint extractors that LightGlue was trained for, each building its network from a local file.

The networks are kornia's, constructed without weights (its own loaders download on their own and
accept files that do not fit) and filled by :func:`aquamvs.matching.checkpoints.load_strictly`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..errors import WeightsError
from ..pixels import cell_centres, rescale_pixels
from ..types import View
from .base import Features
from .checkpoints import load_strictly, read_tensors
from .images import equalized_image, fit_image, grey_image, inside_mask
from .sift import detect_sift
from .superpoint import SuperPoint, detect_superpoint

SIFT_CONTRAST_THRESHOLD = 0.00667
"""Of the SIFT keypoints that LightGlue learned (2/3 of 1 %, at three layers per octave), the
official and the bundled one alike."""


class ExtractorType(StrEnum):
    """Features for LightGlue.

    Example:
        >>> from aquamvs.matching import ExtractorType
        >>> [extractor.value for extractor in ExtractorType]
        ['aliked', 'disk', 'sift', 'superpoint']
    """

    ALIKED = "aliked"
    DISK = "disk"
    SIFT = "sift"
    SUPERPOINT = "superpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionOptions:
    """Common options of the extractors.

    Attributes:
        max_keypoints: The strongest kept per view.
        detection_threshold: Smallest response of the learned detectors.
        clahe_clip_limit: Equalise local contrast first; None leaves the image as it is.
        max_image_side: Larger images are shrunk to this before detection; 1024 px is what
            LightGlue's authors use.

    Example:
        >>> from aquamvs.matching import DetectionOptions, LightGlueOptions
        >>> LightGlueOptions(detection=DetectionOptions(max_keypoints=512)).detection.max_keypoints
        512
    """

    max_keypoints: int = 2048
    detection_threshold: float = 0.005
    clahe_clip_limit: float | None = None
    max_image_side: int = 1024

    def pixel_side(self, size: tuple[int, int]) -> float:
        """Side of a pixel of the image in which a view of (width, height) is searched, view px."""
        return max(1.0, max(size) / self.max_image_side)


@dataclass(frozen=True, slots=True)
class ExtractorSpec:
    """What LightGlue and the loader need to know of an extractor.

    Attributes:
        label: Name for reports.
        weights: Name of its checkpoint in the table of weights; None where it needs none.
        matcher_weights: Name of LightGlue's checkpoint for it.
        dimension: Length of a descriptor.
        oriented: LightGlue reads the keypoints' scales and orientations.
    """

    label: str
    weights: str | None
    matcher_weights: str
    dimension: int
    oriented: bool = False


EXTRACTORS: dict[ExtractorType, ExtractorSpec] = {
    ExtractorType.ALIKED: ExtractorSpec("ALIKED", "aliked-n16", "lightglue-aliked", 128),
    ExtractorType.DISK: ExtractorSpec("DISK", "disk-depth", "lightglue-disk", 128),
    ExtractorType.SIFT: ExtractorSpec("SIFT", None, "lightglue-sift", 128, oriented=True),
    ExtractorType.SUPERPOINT: ExtractorSpec(
        "SuperPoint", "superpoint-v1", "lightglue-superpoint", 256
    ),
}
"""The one table of extractors."""


class Extractor(Protocol):
    """Finds the keypoints of a view."""

    def __call__(self, view: View) -> Features:
        """Keypoints inside the view's mask; possibly none."""
        ...


def create_extractor(
    kind: ExtractorType,
    options: DetectionOptions,
    *,
    weights: Path | None,
    device: torch.device,
) -> Extractor:
    """Build an extractor.

    Args:
        kind: Which.
        options: Of detection.
        weights: Checkpoint file; None for SIFT.
        device: Where the network runs.

    Returns:
        The extractor.

    Raises:
        WeightsError: The file is no checkpoint of this extractor.
    """
    if kind is ExtractorType.SIFT:
        return _Sift(options, device)
    if weights is None:
        raise WeightsError(f"{EXTRACTORS[kind].label} needs a checkpoint file; none was given")
    if kind is ExtractorType.ALIKED:
        return _Aliked(options, weights, device)
    if kind is ExtractorType.DISK:
        return _Disk(options, weights, device)
    return _SuperPointExtractor(options, weights, device)


class _Sift:
    def __init__(self, options: DetectionOptions, device: torch.device) -> None:
        self._options, self._device = options, device

    def __call__(self, view: View) -> Features:
        image = fit_image(view.image, self._options.max_image_side)
        size = (image.shape[1], image.shape[0])
        seen = inside_mask(view, cell_centres(size, view.size).reshape(-1, 2).to(image.device))
        found = detect_sift(
            dataclasses.replace(view, image=image, mask=seen.reshape(size[1], size[0])),
            max_keypoints=self._options.max_keypoints,
            contrast_threshold=SIFT_CONTRAST_THRESHOLD,
            clahe_clip_limit=self._options.clahe_clip_limit,
        ).to(self._device)
        return dataclasses.replace(
            found,
            pixels=rescale_pixels(found.pixels, size, view.size),
            scales=found.scales * (view.size[0] / size[0]),
        )


class _Aliked:
    """ALIKED (Zhao et al., IEEE TIM 2023)."""

    def __init__(self, options: DetectionOptions, weights: Path, device: torch.device) -> None:
        from kornia.feature import ALIKED

        network = ALIKED(
            "aliked-n16",
            max_num_keypoints=options.max_keypoints,
            detection_threshold=options.detection_threshold,
        )
        load_strictly(
            network,
            read_tensors(weights),
            path=weights,
            model="ALIKED (aliked-n16)",
            derived=["dkd.hw_grid"],
        )
        self._network, self._options = network.eval().to(device), options

    @torch.inference_mode()
    def __call__(self, view: View) -> Features:
        image = _network_input(view, self._options, self._network)
        found = self._network(image.permute(2, 0, 1)[None])[0]
        return _features(view, image, found.keypoints, found.descriptors, found.keypoint_scores)


class _Disk:
    """DISK (Tyszkiewicz, Fua and Trulls, NeurIPS 2020)."""

    def __init__(self, options: DetectionOptions, weights: Path, device: torch.device) -> None:
        from kornia.feature import DISK

        network = DISK()
        content = read_tensors(weights)
        state = content.get("extractor")
        if not isinstance(state, dict):
            raise WeightsError(
                f"{weights}: not a checkpoint of DISK (it has no 'extractor'); expected the "
                "published file or one with the same layout"
            )
        load_strictly(network, state, path=weights, model="DISK")
        self._network, self._options = network.eval().to(device), options

    @torch.inference_mode()
    def __call__(self, view: View) -> Features:
        image = _network_input(view, self._options, self._network)
        found = self._network(
            image.permute(2, 0, 1)[None],
            n=self._options.max_keypoints,
            score_threshold=self._options.detection_threshold,
            pad_if_not_divisible=True,
        )[0]
        return _features(view, image, found.keypoints, found.descriptors, found.detection_scores)


class _SuperPointExtractor:
    def __init__(self, options: DetectionOptions, weights: Path, device: torch.device) -> None:
        network = SuperPoint()
        load_strictly(network, read_tensors(weights), path=weights, model="SuperPoint")
        self._network, self._options = network.eval().to(device), options

    @torch.inference_mode()
    def __call__(self, view: View) -> Features:
        image = fit_image(view.image, self._options.max_image_side)
        grey = torch.from_numpy(grey_image(image, self._options.clahe_clip_limit))
        grey = grey.to(next(self._network.parameters())) / 255
        pixels, descriptors, scores = detect_superpoint(
            self._network,
            grey,
            limit=self._options.max_keypoints,
            threshold=self._options.detection_threshold,
        )
        return _features(view, image, pixels, descriptors, scores)


def _network_input(view: View, options: DetectionOptions, network: torch.nn.Module) -> Tensor:
    """Image for a learned detector, shape (H, W, 3), on the network's device."""
    image = equalized_image(view.image, options.clahe_clip_limit)
    return fit_image(image.to(next(network.parameters())), options.max_image_side)


def _features(
    view: View, image: Tensor, pixels: Tensor, descriptors: Tensor, scores: Tensor
) -> Features:
    """Features on the view's grid, inside its mask, in a fixed order."""
    size = (image.shape[1], image.shape[0])
    pixels = rescale_pixels(pixels.float(), size, view.size)
    inside = inside_mask(view, pixels.to(view.mask.device)).to(pixels.device)
    zeros = torch.zeros_like(scores, dtype=torch.float32)
    return Features(pixels, descriptors.float(), scores.float(), zeros, zeros).select(inside)
