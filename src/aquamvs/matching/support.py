"""Whether the matches around bear a match out: what lies side by side mostly lies equally deep.

A match with the wrong keypoint of an epipolar curve puts its point at a depth of its own. The idea
is that of motion smoothness (Bian et al., GMS, CVPR 2017); since the calibration gives every match
a depth, depths are compared rather than motions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .assignment import mutual_best
from .guidance import Candidates

_NEIGHBOURS = 8
"""Sure matches around that are asked."""

_AGREEING = 2
"""Of them, so many must agree: beside a step, half of them lie on the other side, and one alone may
be wrong."""

_SURE_LOGIT = 3.0
"""From which a match may bear out others."""

_LEAST_SURE = 4
"""Fewer say nothing."""

_USUAL_PX = 3.0
"""Disagreement, as a shift of the match along its curve, that speaks neither for it nor against."""

_WEIGHT = 5.0
"""Logits per factor of e in the disagreement; tuned on development scenes at full size, where 4 to
6 do as well."""

_FARTHEST_PX = 1e3
"""Larger disagreements are all the same."""

_BLOCK = 1 << 12
"""Candidates at once: a few thousand sure matches make 64 MB of distances."""


def support(
    logit: Tensor,
    candidates: Candidates,
    pixels: tuple[Tensor, Tensor],
    level: Tensor,
    rate: Tensor,
) -> Tensor:
    """What the matches around add to each candidate's logit.

    Args:
        logit: Of each candidate by itself, shape (C,).
        candidates: Pairs of keypoints.
        pixels: Keypoints of the views, shapes (N, 2) and (M, 2).
        level: Depth of each candidate's point below the interface, shape (C,), metres.
        rate: Pixels by which it moves along its curve per metre, shape (C,).

    Returns:
        shape (C,); zeros where there are too few sure matches to ask.
    """
    best = mutual_best(candidates, logit, (len(pixels[0]), len(pixels[1])))
    sure = best[logit[best] > _SURE_LOGIT]
    added = torch.zeros_like(logit)
    if len(sure) < _LEAST_SURE:
        return added
    own, partner = candidates.reference, candidates.source
    count = min(_NEIGHBOURS, len(sure) - 1)
    for start in range(0, len(candidates), _BLOCK):
        part = slice(start, start + _BLOCK)
        away = torch.cdist(pixels[0][own[part]], pixels[0][own[sure]])
        # No match bears out itself, nor one that it excludes.
        away[own[part, None] == own[sure]] = torch.inf
        away[partner[part, None] == partner[sure]] = torch.inf
        distance, near = away.topk(count, dim=1, largest=False)
        gap = (level[part, None] - level[sure][near]).abs() * rate[part, None]
        gap = torch.where(distance.isfinite(), gap.nan_to_num(nan=torch.inf), torch.inf)
        gap = gap.sort(dim=1).values[:, _AGREEING - 1].clamp(max=_FARTHEST_PX)
        added[part] = _WEIGHT * (math.log1p(_USUAL_PX) - gap.log1p()).to(added)
    return added
