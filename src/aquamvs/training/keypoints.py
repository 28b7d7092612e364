"""Keypoints of training views with their true places in space, and the true pairs among them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.noise import random_stream
from ..io import atomic_path
from ..matching.base import Features
from ..matching.checkpoints import read_tensors
from ..matching.extractors import SIFT_CONTRAST_THRESHOLD
from ..matching.sift import detect_sift
from ..matching.spread import spread_selection
from ..projection import patch_affine
from .data import TrainingScene, TrainingView, change_light, sample_depth, true_warp

_MAX_KEYPOINTS = 1024

SAME_POINT_PX = 3.0
"""Largest distance, in either image, of keypoints that show the same point."""

_APART_PX = 5.0
"""A keypoint without any other within this distance has no match; between the two, who knows."""

_MAX_TURN_DEG = 40.0
"""Largest deviation of a true pair's orientations from the true turn."""


@dataclass(frozen=True, slots=True)
class TrueAssignment:
    """Which of N and M keypoints match.

    Attributes:
        pairs: Positions of true pairs, shape (K, 2), int64.
        unmatched: Keypoints of the first view that surely have no match, shape (N,), bool.
        unmatched_source: Likewise of the second, shape (M,).
    """

    pairs: Tensor
    unmatched: Tensor
    unmatched_source: Tensor


class FeatureBank:
    """Features of every view, each under a light of its own, detected once.

    What a pair sees of them (window, number, turn) is drawn anew every time.

    Args:
        scenes: Of the views.
        work: Folder that keeps the features between runs; None keeps nothing.
    """

    def __init__(self, scenes: Sequence[TrainingScene], work: Path | None = None) -> None:
        self.scenes = scenes
        self._found = [_scene_features(scene, work) for scene in scenes]

    def features(self, scene: int, view: int) -> Features:
        """Features of a view."""
        return self._found[scene][view]


def _scene_features(scene: TrainingScene, work: Path | None) -> list[Features]:
    """Features of all views of a scene."""
    path = None if work is None else work / f"sift_{scene.seed}.pt"
    if path is not None and path.is_file():
        stored = read_tensors(path)["features"]
        return [Features(*columns) for columns in stored]  # type: ignore[attr-defined]
    found = []
    for index, view in enumerate(scene.views):
        lit = change_light(view, random_stream(scene.seed, "training light", index))
        found.append(
            detect_sift(
                lit.as_view(),
                max_keypoints=_MAX_KEYPOINTS,
                contrast_threshold=SIFT_CONTRAST_THRESHOLD,
            )
        )
    if path is not None:
        with atomic_path(path) as temporary:
            torch.save({"features": [dataclasses.astuple(f) for f in found]}, temporary)
    return found


def choose(
    features: Features, size: tuple[int, int], window: tuple[float, float, float, float], limit: int
) -> Features:
    """The strongest features of every part of a window (u0, v0, u1, v1)."""
    u, v = features.pixels.unbind(-1)
    u0, v0, u1, v1 = window
    inside = features.select((u >= u0) & (u < u1) & (v >= v0) & (v < v1))
    return inside.select(spread_selection(inside.pixels, inside.scores, size=size, limit=limit))


def true_assignment(
    first: TrainingView, second: TrainingView, features: Features, others: Features
) -> TrueAssignment:
    """True pairs of two views' features, from the rendered depth.

    A pair's points coincide within 3 px in both images and its orientations within 40 degrees;
    among such rivals (a point detected at several scales and orientations) it is the best of both
    its features.
    """
    forth, visible = true_warp(first, second, features.pixels)
    back, visible_back = true_warp(second, first, others.pixels)
    gap = torch.maximum(
        torch.cdist(forth.nan_to_num(1e6), others.pixels),
        torch.cdist(back.nan_to_num(1e6), features.pixels).T,
    )
    gap = torch.where(visible[:, None] & visible_back[None], gap, torch.inf)
    turn = _turn_deg(first, second, features, others)
    cost = torch.where(turn < _MAX_TURN_DEG, gap + turn / 30.0, torch.inf)
    cost = torch.where(gap < SAME_POINT_PX, cost, torch.inf)
    if cost.numel() == 0:
        none = torch.zeros(0, 2, dtype=torch.int64)
        return TrueAssignment(none, torch.ones(len(features)) > 0, torch.ones(len(others)) > 0)
    best, column = cost.min(1)
    row = cost.argmin(0)
    index = torch.arange(len(features))
    mutual = torch.isfinite(best) & (row[column] == index)
    near = gap < _APART_PX
    return TrueAssignment(
        torch.stack([index[mutual], column[mutual]], -1), ~near.any(1), ~near.any(0)
    )


def _turn_deg(
    first: TrainingView, second: TrainingView, features: Features, others: Features
) -> Tensor:
    """Deviation of every pair's orientations from the turn of a level patch, shape (N, M)."""
    depth = sample_depth(first.depth, features.pixels).double()
    origin, direction = first.model.cast_ray(features.pixels.double())
    affine = patch_affine(first.model, second.model, origin + depth[:, None] * direction)
    angle = features.orientations.double()
    arrow = torch.stack([angle.cos(), angle.sin()], -1)
    turned = (affine @ arrow[..., None])[..., 0]
    expected = torch.atan2(turned[:, 1], turned[:, 0])
    difference = expected[:, None] - others.orientations.double()[None]
    wrapped = torch.rad2deg(torch.atan2(difference.sin(), difference.cos())).abs()
    return wrapped.nan_to_num(nan=180.0).float()


def placed(
    features: Features, window: tuple[float, float, float, float], angle: float
) -> tuple[Features, tuple[float, float]]:
    """Features as those of an image of their own that shows the window, turned about its middle.

    Args:
        features: Inside of the window.
        window: (u0, v0, u1, v1), px.
        angle: Radians, from u to v. Descriptors do not change.

    Returns:
        The features, and the window's (width, height); turned ones may lie outside of these, but
        within the circle about them.
    """
    u0, v0, u1, v1 = window
    size = (u1 - u0, v1 - v0)
    half = features.pixels.new_tensor(size) / 2
    c, s = math.cos(angle), math.sin(angle)
    rotation = features.pixels.new_tensor([[c, s], [-s, c]])
    corner = features.pixels.new_tensor([u0, v0])
    return Features(
        (features.pixels - corner - half) @ rotation + half,
        features.descriptors,
        features.scores,
        features.scales,
        torch.remainder(features.orientations + angle, 2 * math.pi),
    ), size
