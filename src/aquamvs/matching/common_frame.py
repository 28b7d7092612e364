"""A common frame for the keypoints of two views, from the keypoints themselves.

The matches that appearance alone finds beyond doubt fix an affine map between two views of a bed.
With both views' keypoints in one frame, true partners have nearly the same place, orientation and
scale, and a matching network need not find out the rig's geometry anew for every pair. No
calibration is used, so that its errors do no harm.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from .assignment import distinctive_pairs, nearest_candidates
from .base import Features
from .lightglue_network import Size

_RATIO = 0.8
"""Lowe's ratio."""

_TOLERANCE = 0.03
"""Error that RANSAC accepts, over the view's diagonal: relief and perspective are no errors."""

_LEAST_FIT = 12
"""Matches that must agree: four times as many as determine the map."""

_LEAST_AGREEMENT = 0.3
"""Part of the matches that must agree."""

_LARGEST_ZOOM = 6.0
"""Of the map, along any axis; a rig's wide camera sees a third to a half as large as the others."""

_LARGEST_STRETCH = 2.5
"""Of the map's axes, one over the other: a view leaning by more is hardly matched anyway."""

_TRIES = 2000
_CONFIDENCE = 0.999


def in_common_frame(
    first: Features, second: Features, size: Size
) -> tuple[Features, Features, Size] | None:
    """Both views' features in one frame: the second's pixels, moved and made wide enough for both.

    Args:
        first: Features of one view.
        second: Features of the other.
        size: (width, height) of the second view.

    Returns:
        Both, with places, scales and orientations of the frame, and the frame's (width, height);
        None where the features do not tell how the views lie to each other.
    """
    matrix = fit_affine(first, second, _TOLERANCE * math.hypot(*size))
    if matrix is None:
        return None
    moved = _moved(first, matrix)
    places = torch.cat([moved.pixels, second.pixels])
    low, high = places.amin(0), places.amax(0)
    width, height = (high - low).tolist()
    return _shifted(moved, low), _shifted(second, low), (width, height)


def fit_affine(first: Features, second: Features, tolerance_px: float) -> Tensor | None:
    """The affine map of most of the matches that pass a ratio test, by RANSAC.

    Args:
        first: Features of one view.
        second: Features of the other.
        tolerance_px: Error of a match that agrees.

    Returns:
        Pixels of the second view from homogeneous ones of the first, shape (2, 3), float64; None
        where too few matches agree, or on a map that no two views of a rig have.
    """
    candidates = nearest_candidates(first.descriptors, second.descriptors)
    possible = torch.ones_like(candidates.reference, dtype=torch.bool)
    chosen, _ = distinctive_pairs(
        (first, second), candidates, possible, ratio=_RATIO, max_distance=math.inf
    )
    if len(chosen) < _LEAST_FIT:
        return None
    own = first.pixels[candidates.reference[chosen]].cpu().numpy().astype(np.float64)
    other = second.pixels[candidates.source[chosen]].cpu().numpy().astype(np.float64)
    matrix, agree = cv2.estimateAffine2D(
        own,
        other,
        method=cv2.RANSAC,
        ransacReprojThreshold=tolerance_px,
        maxIters=_TRIES,
        confidence=_CONFIDENCE,
    )
    if matrix is None or agree.sum() < max(_LEAST_FIT, _LEAST_AGREEMENT * len(agree)):
        return None
    affine = torch.from_numpy(matrix)
    return affine if _is_plausible(affine[:, :2]) else None


def _is_plausible(linear: Tensor) -> bool:
    """No mirror, and no extreme zoom or stretch."""
    large, small = torch.linalg.svdvals(linear).tolist()
    return bool(
        torch.linalg.det(linear) > 0
        and large <= _LARGEST_ZOOM
        and small >= 1 / _LARGEST_ZOOM
        and large <= _LARGEST_STRETCH * small
    )


def _moved(features: Features, matrix: Tensor) -> Features:
    """Features under an affine map, shape (2, 3); their descriptors stay."""
    matrix = matrix.to(features.pixels)
    linear = matrix[:, :2]
    angle = features.orientations
    arrows = torch.stack([angle.cos(), angle.sin()], -1) @ linear.T
    return Features(
        features.pixels @ linear.T + matrix[:, 2],
        features.descriptors,
        features.scores,
        features.scales * torch.linalg.det(linear).abs().sqrt(),
        torch.remainder(torch.atan2(arrows[:, 1], arrows[:, 0]), 2 * math.pi),
    )


def _shifted(features: Features, origin: Tensor) -> Features:
    """Features with another origin of their pixels."""
    return Features(
        features.pixels - origin,
        features.descriptors,
        features.scores,
        features.scales,
        features.orientations,
    )
