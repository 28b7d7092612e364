"""Training of the bundled LightGlue (Lindenberger et al., ICCV 2023) on RootSIFT keypoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets.noise import random_stream
from ..matching.base import Features
from ..matching.common_frame import in_common_frame
from ..matching.lightglue_network import (
    BUNDLED_DESIGN,
    HINTS,
    PLACE_FEATURES,
    PLACE_WEIGHT,
    TEMPERATURE,
    log_assignment,
)
from .data import TRAINING_SEEDS, TrainingView, training_scene, true_warp
from .keypoints import FeatureBank, TrueAssignment, choose, placed, true_assignment
from .loop import Run, Schedule, save_weights, train

WEIGHTS = "lightglue-bundled.safetensors"

_SCHEDULE = Schedule(steps=10000, learning_rate=6e-4, warmup=50, average=0.99)
_PAIRS_PER_STEP = 2
_KEYPOINTS = (128, 448)
"""Range of the number of keypoints per view."""
_WINDOW = (0.45, 1.0)
"""Range of the side of the part that is seen, over the image's."""
_FREQUENCY = (1.0, 40.0)
"""Range of the positional encoding's first frequencies, radians per half image."""
_HINT_WEIGHT = 2.0
"""Weight with which training starts of the hints at the best partner: few numbers among many."""
_SURENESS = 1.0
"""Likewise of those hints in whether a keypoint has a partner at all."""
_WHOLE = 0.4
"""Part of the pairs that are seen whole."""
_APART = 0.1
"""Part of the pairs whose common frame is withheld: matching must not depend on finding one."""
_TURNED = 0.5
"""Part of these of which one view is turned against the other, beyond what its rig does."""
_LEAST_PAIRS = 8

_Window = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Two sets of features, each with its (width, height), the truth, and whose places they are."""

    first: tuple[Features, tuple[float, float]]
    second: tuple[Features, tuple[float, float]]
    truth: TrueAssignment
    is_common: bool


def train_lightglue(run: Run) -> Path:
    """Train, and write the weights in half precision into the run's folder.

    Args:
        run: Seed, folders, device, length.

    Returns:
        The weights' file.
    """
    torch.manual_seed(run.seed)
    network = initial_network().to(run.device)
    run.report(f"preparing {len(TRAINING_SEEDS)} scenes")
    bank = FeatureBank([training_scene(seed, run.work) for seed in TRAINING_SEEDS], run.work)
    schedule = replace(_SCHEDULE, steps=run.steps or _SCHEDULE.steps)

    def loss(model: nn.Module, step: int) -> tuple[Tensor, Mapping[str, float]]:
        return _loss(model, bank, run, step)

    network = train(network, loss, schedule, run)
    path = run.out / WEIGHTS
    save_weights(network, path, leave_out=["confidence_thresholds"])
    return path


def initial_network() -> nn.Module:
    """The network as an identity on its input: training starts from mutual nearest neighbours.

    Every block adds nothing yet. The first and last projections keep the descriptors and prefer
    equal places in the common frame; whether a keypoint has a partner follows the hints. The
    positional encoding covers distances from the image down to neighbouring keypoints; orientations
    enter it with whole multiples, so that a full turn is none.
    """
    network = BUNDLED_DESIGN.build()
    state = network.state_dict()
    width = BUNDLED_DESIGN.width
    directions = torch.linalg.qr(torch.randn(width, PLACE_FEATURES + HINTS)).Q
    place, hint = directions.split([PLACE_FEATURES, HINTS], 1)
    for name, tensor in state.items():
        if name.endswith(("ffn.3.weight", "ffn.3.bias", "final_proj.bias", "input_proj.bias")):
            tensor.zero_()
        elif name.endswith("final_proj.weight"):
            tensor.copy_(torch.eye(width) * math.sqrt(TEMPERATURE) * width**-0.25)
        elif name == "input_proj.weight":
            tensor.copy_(
                torch.cat([torch.eye(width), PLACE_WEIGHT * place, _HINT_WEIGHT * hint], 1)
            )
        elif name.endswith("matchability.weight"):
            tensor.copy_(_SURENESS * hint.sum(1))
        elif name.endswith("matchability.bias"):
            tensor.zero_()
    encoding = state["posenc.Wr.weight"]
    count = len(encoding)
    low, high = np.log(_FREQUENCY)
    magnitude = torch.exp(torch.linspace(low, high, count))
    azimuth = torch.arange(count) * math.pi * (math.sqrt(5) - 1)
    encoding[:, 0] = magnitude * azimuth.cos()
    encoding[:, 1] = magnitude * azimuth.sin()
    encoding[:, 2] = torch.tensor([0.0, 0.0, 0.5, 1.0]).repeat(count // 4)
    encoding[:, 3] = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.0]).repeat(count)[:count]
    network.load_state_dict(state)
    return network


def _loss(
    network: nn.Module, bank: FeatureBank, run: Run, step: int
) -> tuple[Tensor, Mapping[str, float]]:
    """Mean negative log-likelihood of the true assignments of a step's pairs."""
    total: Tensor = torch.zeros((), device=run.device)
    figures = {"precision": 0.0, "recall": 0.0}
    for part in range(_PAIRS_PER_STEP):
        rng = random_stream(run.seed, "lightglue pair", step, part)
        drawn = _draw(bank, rng)
        while drawn is None:
            drawn = _draw(bank, rng)
        first, second = BUNDLED_DESIGN.pair_input(
            (drawn.first[0].to(run.device), drawn.second[0].to(run.device)),
            (drawn.first[1], drawn.second[1]),
            run.device,
            is_common=drawn.is_common,
        )
        scores = log_assignment(network, first, second)
        total = total + assignment_loss(scores, drawn.truth) / _PAIRS_PER_STEP
        precision, recall = _quality(scores.detach(), drawn.truth)
        figures["precision"] += precision / _PAIRS_PER_STEP
        figures["recall"] += recall / _PAIRS_PER_STEP
    return total, figures


def assignment_loss(scores: Tensor, truth: TrueAssignment) -> Tensor:
    """Negative log-likelihood: pairs against the keypoints that have none, half and half.

    Args:
        scores: Log-assignment, shape (N + 1, M + 1).
        truth: True pairs; keypoints of which nothing is known do not count.

    Returns:
        Scalar.
    """
    i, j = truth.pairs.to(scores.device).unbind(-1)
    alone = truth.unmatched.to(scores.device), truth.unmatched_source.to(scores.device)
    negative = torch.cat([scores[:-1, -1][alone[0]], scores[-1, :-1][alone[1]]])
    return -0.5 * scores[i, j].mean() - 0.5 * negative.sum() / max(len(negative), 1)


def _draw(bank: FeatureBank, rng: np.random.Generator) -> _Drawn | None:
    """A pair as the network sees it, and the truth; None where too little matches."""
    number = int(rng.integers(len(bank.scenes)))
    scene = bank.scenes[number]
    i, j = (int(k) for k in rng.permutation(scene.pairs[int(rng.integers(len(scene.pairs)))]))
    first, second = scene.views[i], scene.views[j]
    features, others = (bank.features(number, k) for k in (i, j))
    limit = int(np.exp(rng.uniform(*np.log(_KEYPOINTS))))
    window, other_window = _windows(first, second, rng)
    features = choose(features, first.size, window, limit)
    others = choose(others, second.size, other_window, limit)
    truth = true_assignment(first, second, features, others)
    if len(truth.pairs) < _LEAST_PAIRS:
        return None
    angle = rng.uniform(-math.pi, math.pi)
    frame = in_common_frame(features, others, second.size)
    if frame is not None and rng.random() >= _APART:
        features, others, size = frame
        window = (0.0, 0.0, *size)
        return _Drawn(placed(features, window, angle), placed(others, window, angle), truth, True)
    other_angle = angle + (rng.uniform(-math.pi, math.pi) if rng.random() < _TURNED else 0.0)
    first_placed = placed(features, window, angle)
    return _Drawn(first_placed, placed(others, other_window, other_angle), truth, False)


def _windows(
    first: TrainingView, second: TrainingView, rng: np.random.Generator
) -> tuple[_Window, _Window]:
    """Parts of both views, (u0, v0, u1, v1), that show about the same; often the whole views."""
    width, height = first.size
    whole = (0.0, 0.0, float(width), float(height))
    side = float(rng.uniform(*_WINDOW))
    place = rng.uniform(0.0, 1.0, 2)
    jitter = rng.normal(0, 0.1, 2)
    if rng.random() < _WHOLE:
        return whole, whole
    corner = place * (1 - side) * (width, height)
    middle = torch.tensor(corner + 0.5 * side * np.array([width, height]), dtype=torch.float32)
    target, _ = true_warp(first, second, middle[None])
    shown = target[0].numpy() if bool(torch.isfinite(target).all()) else middle.numpy()
    shown = shown + jitter * (width, height)
    other = np.clip(shown - 0.5 * side * np.array([width, height]), 0, None)
    other = np.minimum(other, (1 - side) * np.array([width, height]))
    return (
        (*corner, corner[0] + side * width, corner[1] + side * height),
        (*other, other[0] + side * width, other[1] + side * height),
    )


def _quality(scores: Tensor, truth: TrueAssignment) -> tuple[float, float]:
    """Precision and recall of the mutual best pairs above a probability of 0.1."""
    inner = scores[:-1, :-1]
    best, column = inner.max(1)
    row = inner.argmax(0)
    index = torch.arange(len(best), device=best.device)
    chosen = (row[column] == index) & (best > math.log(0.1))
    right = torch.full_like(index, -1)
    i, j = truth.pairs.to(scores.device).unbind(-1)
    right[i] = j
    hits = int((right[chosen] == column[chosen]).sum())
    return hits / max(int(chosen.sum()), 1), hits / len(truth.pairs)
