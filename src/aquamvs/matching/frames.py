"""Keypoint orientation and scale that the calibration predicts from one view to the other.

In a calibrated rig the relative roll, distance and foreshortening of two views are known. A small
patch parallel to the water surface maps from one image to the other by an affine transformation
that follows from the derivatives of both projections; a detector's orientation and scale must
change by as much, give or take the slope of the scene and the detector's own noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..projection import RefractiveProjectionModel, patch_affine
from .base import Features
from .guidance import Candidates

_BLOCK = 1 << 17
"""Candidates at once: about 50 MB of temporaries."""

_PARALLEL = 1e-12
"""Squared sine of the angle between rays below which they meet nowhere in particular."""


def consistent_frames(
    candidates: Candidates,
    models: tuple[RefractiveProjectionModel, RefractiveProjectionModel],
    features: tuple[Features, Features],
    *,
    max_rotation_deg: float,
    max_octaves: float,
) -> Tensor:
    """Candidates whose orientation and scale change as predicted.

    Args:
        candidates: Pairs of keypoints near each other's epipolar curves.
        models: Of the reference and the source view.
        features: With scales and orientations.
        max_rotation_deg: Largest deviation of the orientation from the predicted one, degrees.
        max_octaves: Largest deviation of the scale, as a power of two.

    Returns:
        shape (C,), bool; False too where the two rays meet nowhere in front of both cameras.
    """
    rays = [model.cast_ray(f.pixels.double()) for model, f in zip(models, features, strict=True)]
    keep = torch.zeros(len(candidates), dtype=torch.bool, device=candidates.reference.device)
    for start in range(0, len(candidates), _BLOCK):
        part = slice(start, start + _BLOCK)
        i, j = candidates.reference[part], candidates.source[part]
        points = midpoints(
            (rays[0][0][i], rays[0][1][i]), (rays[1][0][j], rays[1][1][j]), models[0].camera_height
        )
        affine = patch_affine(*models, points)
        first, second = features
        angle = first.orientations[i].double()
        turned = affine @ torch.stack([torch.cos(angle), torch.sin(angle)], -1)[:, :, None]
        predicted = torch.atan2(turned[:, 1, 0], turned[:, 0, 0])
        rotation = second.orientations[j] - predicted
        rotation = torch.remainder(rotation + math.pi, 2 * math.pi) - math.pi
        octaves = torch.log2(second.scales[j] / first.scales[i])
        octaves = octaves - torch.log2(torch.linalg.det(affine).abs()) / 2
        # NaN, from a point that cannot be seen, fails both comparisons.
        keep[part] = (rotation.abs() <= math.radians(max_rotation_deg)) & (
            octaves.abs() <= max_octaves
        )
    return keep


def midpoints(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], parallel_depth: Tensor
) -> Tensor:
    """Middle of the shortest line between two rays (origin, direction), shape (C, 3).

    Parallel rays come from one place, where any depth predicts the same; theirs is given.
    """
    (origin, direction), (other, toward) = first, second
    gap = origin - other
    cosine = (direction * toward).sum(-1)
    along, against = (direction * gap).sum(-1), (toward * gap).sum(-1)
    sine2 = 1 - cosine**2
    meets = sine2 > _PARALLEL
    sine2 = torch.where(meets, sine2, 1.0)
    near = torch.where(meets, (cosine * against - along) / sine2, parallel_depth)
    far = torch.where(meets, (against - cosine * along) / sine2, parallel_depth)
    middle: Tensor = (origin + near[:, None] * direction + other + far[:, None] * toward) / 2
    return middle
