"""Which sources count."""

import torch
from torch import Tensor


def best_half_mean(scores: Tensor) -> Tensor:
    """Mean of the better half of the sources: a source that does not see the surface stays out.

    Kang, Szeliski and Chai (CVPR 2001) choose the best half of the views against occlusion.

    Args:
        scores: shape (S, ...); NaN where a source does not see the hypothesis.

    Returns:
        shape (...); -1 where no source does.
    """
    seen = torch.isfinite(scores)
    kept = (seen.sum(0, dtype=torch.int16) + 1).div(2, rounding_mode="floor")
    best: list[Tensor] = []
    for score in scores.nan_to_num(-1.0):  # an insertion sort that keeps the better half
        for place, other in enumerate(best):
            best[place], score = torch.maximum(other, score), torch.minimum(other, score)
        if len(best) < (len(scores) + 1) // 2:
            best.append(score)
    total = best[0].clone()
    for place, score in enumerate(best[1:], start=1):
        total += score * (kept > place)
    return total / kept.clamp(min=1)
