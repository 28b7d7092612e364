"""Training of the bundled dense network, in RoMa's form (Edstedt et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..datasets.noise import random_stream
from ..matching.dense_network import COARSE_STRIDE, DenseNetwork, ScaleWarp, coarse_warp
from .data import TRAINING_SEEDS, VALIDATION_SEEDS, TrainingScene, training_scene
from .dense_certainty import certainty_shifts
from .dense_samples import FINE_STRIDE, DenseSample, coarser, draw_sample, sees_whole_views
from .loop import Run, Schedule, save_weights, train

WEIGHTS = "roma-bundled.safetensors"

_SCHEDULE = Schedule(
    steps=6000, learning_rate=1e-3, warmup=50, average=0.995, save_every=50, report_every=25
)
_PAIRS_PER_STEP = 2

_SHOWN_STEPS, _SHOWN_LEAST = 400, 0.3
"""Part of the steps in which refinement starts beside the truth rather than at the coarse matches:
from one to 0.3 over the first 400 steps."""

_SHOWN_NOISE = 1.5
"""Largest standard deviation of that start's error, coarse cells."""

_ROBUST = 0.25
"""Error, in cells, above which the loss grows like its square root only."""

_REACH = 4.0
"""Error, in cells, above which a local correlation cannot see the truth and nothing is learnt."""

_COARSE_WEIGHT = 4.0
"""Of the classification against one scale's refinement: it decides what can be refined at all."""

_RIGHT = 1.0
"""Error, in cells of its scale, up to which a match counts as right for its certainty."""


def train_dense(run: Run) -> Path:
    """Train, and write the weights in half precision into the run's folder.

    Args:
        run: Seed, folders, device, length.

    Returns:
        The weights' file.
    """
    torch.manual_seed(run.seed)
    network = DenseNetwork().to(run.device)
    run.report(f"preparing {len(TRAINING_SEEDS)} scenes")
    scenes = [training_scene(seed, run.work) for seed in TRAINING_SEEDS]

    def loss(_: nn.Module, step: int) -> tuple[Tensor, Mapping[str, float]]:
        return _loss(network, _batch(scenes, run, step), run, step)

    train(network, loss, replace(_SCHEDULE, steps=run.steps or _SCHEDULE.steps), run)
    run.report("choosing the certainties on the validation scenes")
    validation = [training_scene(seed, run.work) for seed in VALIDATION_SEEDS]
    network.certainty_shift.copy_(certainty_shifts(network, validation, run))
    path = run.out / WEIGHTS
    save_weights(network, path)
    return path


def _batch(scenes: list[TrainingScene], run: Run, step: int) -> DenseSample:
    """Samples of a step: all first patches, then all second ones."""
    samples = [
        draw_sample(scenes, whole=sees_whole_views(step), seed=run.seed, step=step, part=part)
        for part in range(_PAIRS_PER_STEP)
    ]

    def joined(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts), 1).flatten(0, 1).to(run.device)

    return DenseSample(
        images=joined([sample.images for sample in samples]),
        masks=joined([sample.masks for sample in samples]),
        warps=joined([sample.warps for sample in samples]),
        visible=joined([sample.visible for sample in samples]),
    )


def _loss(
    network: DenseNetwork, batch: DenseSample, run: Run, step: int
) -> tuple[Tensor, Mapping[str, float]]:
    """Of the coarse classification, and of motion and certainty at every scale."""
    features = network.encoder(batch.images, batch.masks)
    logits = torch.cat(network.coarse(*features.maps[2].chunk(2)))
    truth, visible = coarser(batch.warps, batch.visible, COARSE_STRIDE // FINE_STRIDE)
    used = functional.avg_pool2d(batch.masks[:, None].float(), COARSE_STRIDE)[:, 0] > 0.5
    rows, columns = visible.shape[1:]
    found = coarse_warp(logits, (columns, rows))
    figures = {"coarse": _right(found.warp, truth, visible, 1.0)}
    total = classification_loss(logits, truth, visible, used)
    figures["classification"] = float(total.detach())
    total = _COARSE_WEIGHT * total
    rng = random_stream(run.seed, "dense start", step)
    if rng.random() < max(_SHOWN_LEAST, 1 - step / _SHOWN_STEPS):
        beside = truth + _start_error(rng, visible.shape).to(truth)
        shown = torch.where(visible[..., None], beside, found.warp)
        found = ScaleWarp(found.stride, shown, found.logit)
    for at in network.refine(features, features.swapped(), found):
        truth, visible = coarser(batch.warps, batch.visible, at.stride // FINE_STRIDE)
        used = functional.avg_pool2d(batch.masks[:, None].float(), at.stride)[:, 0] > 0.5
        total = total + refinement_loss(at, truth, visible, used)
    figures["fine"] = _right(at.warp, truth, visible, 0.5)
    return total, figures


def _start_error(rng: np.random.Generator, shape: torch.Size) -> Tensor:
    """Error of a start beside the truth, smooth with some noise, shape (B, h, w, 2)."""
    count, rows, columns = shape
    smooth = torch.from_numpy(rng.standard_normal((count, 2, 4, 5), dtype=np.float32))
    smooth = functional.interpolate(smooth, size=(rows, columns), mode="bicubic")
    noise = torch.from_numpy(rng.standard_normal((count, 2, rows, columns), dtype=np.float32))
    error = rng.uniform(0, _SHOWN_NOISE) * smooth + rng.uniform(0, 0.3) * noise
    return error.permute(0, 2, 3, 1)


def classification_loss(logits: Tensor, truth: Tensor, visible: Tensor, used: Tensor) -> Tensor:
    """Cross entropy of the coarse cells.

    The four anchors around a true place share its probability as in bilinear interpolation.

    Args:
        logits: shape (B, h * w, h * w + 1).
        truth: True places in coarse cells, shape (B, h, w, 2).
        visible: shape (B, h, w).
        used: Cells that show anything, shape (B, h, w).

    Returns:
        Scalar; visible cells and the others weigh as much as there are of them, the others half.
    """
    rows, columns = visible.shape[1:]
    log_probability = logits.log_softmax(-1)
    place = truth.flatten(1, 2)
    corner = place.floor()
    fraction = place - corner
    chosen = torch.zeros(place.shape[:2], device=place.device)
    for dv in (0, 1):
        for du in (0, 1):
            u, v = corner[..., 0] + du, corner[..., 1] + dv
            share = (fraction[..., 0] if du else 1 - fraction[..., 0]) * (
                fraction[..., 1] if dv else 1 - fraction[..., 1]
            )
            index = (v.clamp(0, rows - 1) * columns + u.clamp(0, columns - 1)).long()
            chosen = chosen + share * log_probability.gather(-1, index[..., None])[..., 0]
    seen = (visible & used).flatten(1)
    unseen = (~visible & used).flatten(1)
    count = seen.sum() + unseen.sum()
    return -(chosen[seen].sum() + 0.5 * log_probability[..., -1][unseen].sum()) / count


def refinement_loss(at: ScaleWarp, truth: Tensor, visible: Tensor, used: Tensor) -> Tensor:
    """Robust error of the motion where it can be found, and cross entropy of the certainty.

    Args:
        at: Warp of a scale, shape (B, h, w, 2) in its cells.
        truth: True places in the same cells.
        visible: Where they are known and seen, shape (B, h, w).
        used: Cells that show anything, shape (B, h, w).

    Returns:
        Scalar.
    """
    error = (at.warp - truth).norm(dim=-1)
    learns = visible & used & (error.detach() < _REACH)
    robust = _ROBUST * (((error[learns] / _ROBUST).square() + 1) ** 0.25 - 1).sum()
    right = (visible & (error.detach() < _RIGHT)).float()
    certainty = functional.binary_cross_entropy_with_logits(at.logit[used], right[used])
    motion: Tensor = robust / learns.sum().clamp(min=1)
    return motion + certainty


@torch.no_grad()
def _right(warp: Tensor, truth: Tensor, visible: Tensor, limit: float) -> float:
    """Part of the visible cells that are right to within a limit, cells."""
    error = (warp - truth).norm(dim=-1)[visible]
    return float((error < limit).float().mean()) if len(error) else 0.0
