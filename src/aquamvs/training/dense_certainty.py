"""When the dense network may be called confident: chosen on scenes that it has not learnt from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..datasets.noise import random_stream
from ..matching.dense_network import DenseNetwork
from ..matching.guidance import Guidance
from ..matching.roma_bundled import SMALL_SIDE, BundledRomaMatcher
from .data import TrainingScene, true_warp
from .loop import Run

PAIRS_PER_SCENE = 6

WANTED = 0.99
"""Part of the confident matches that shall be right: the scenes to come are others."""

_WITHIN_PX = (3.0, 2.0)
"""Error of a match that is right: px of the small images, and px of the warp's own grid."""


def certainty_shifts(network: DenseNetwork, scenes: Sequence[TrainingScene], run: Run) -> Tensor:
    """Logits from which on matches are right often enough, without and with the calibration.

    Args:
        network: Trained; its own ``certainty_shift`` is still zero.
        scenes: Validation scenes.
        run: Seed and device.

    Returns:
        shape (2,).
    """
    shifts = []
    for guidance, within in zip((None, Guidance()), _WITHIN_PX, strict=True):
        matcher = BundledRomaMatcher(network, guidance=guidance, device=run.device)
        logits, right = judged_matches(matcher, scenes, within, run.seed)
        shifts.append(least_logit(logits, right, WANTED))
        share = float((logits >= shifts[-1]).float().mean())
        name = "unguided" if guidance is None else "guided"
        run.report(f"{name}: logit {shifts[-1]:.2f}, {share:.1%} of the matches")
    return torch.tensor(shifts)


def judged_matches(
    matcher: BundledRomaMatcher, scenes: Sequence[TrainingScene], within_px: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Certainty and truth of every match of some pairs that has any certainty.

    Args:
        matcher: To be judged.
        scenes: To draw pairs from.
        within_px: Largest error of a right match: px of small images for an unguided matcher, px of
            the warp's own grid for a guided one.
        seed: Of the choice of pairs.

    Returns:
        Logits, shape (N,), and whether the match is visible and right, shape (N,).
    """
    logits, right = [], []
    for scene in scenes:
        rng = random_stream(seed, "dense validation", scene.seed)
        count = min(PAIRS_PER_SCENE, len(scene.pairs))
        for number in rng.choice(len(scene.pairs), count, replace=False):
            first, second = (scene.views[int(k)] for k in rng.permutation(scene.pairs[number]))
            warp = matcher.match(first.as_view(), second.as_view())
            truth, visible = true_warp(first, second, warp.reference_pixels())
            cells = SMALL_SIDE if matcher.guidance is None else warp.certainty.shape[1]
            error = (warp.source_pixels - truth).norm(dim=-1) * cells / first.size[0]
            known = warp.certainty > 0
            logits.append(torch.logit(warp.certainty[known]))
            right.append((visible & (error <= within_px))[known])
    return torch.cat(logits), torch.cat(right)


def least_logit(logits: Tensor, right: Tensor, wanted: float) -> float:
    """The least threshold above which the wanted part of the matches is right.

    Args:
        logits: shape (N,).
        right: shape (N,), bool.
        wanted: 0 to 1.

    Returns:
        A logit; the largest one where no threshold is enough.
    """
    order = logits.argsort(descending=True)
    precision = right[order].double().cumsum(0) / torch.arange(1, len(order) + 1)
    enough = (precision >= wanted).nonzero()[:, 0]
    return float(logits[order[enough[-1] if len(enough) else 0]])
