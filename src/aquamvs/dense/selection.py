"""From correlations per source and hypothesis to one hypothesis per pixel."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

_NEIGHBOURHOOD = 2
"""Hypotheses around the winner that belong to its own peak, not to a rival."""

_MAX_CORRELATION = 0.995
"""Caps a source's weight: beyond, rounding and interpolation decide, not noise."""


@dataclass(frozen=True, slots=True)
class Winners:
    """Best hypothesis of every pixel.

    Attributes:
        index: Fractional hypothesis number, shape (H, W); NaN where no source sees the pixel.
        bracketed: The optimum lies between hypotheses, shape (H, W), bool. Elsewhere the index is
            that of the first or last hypothesis, and the optimum may lie beyond.
        score: Correlation at the winner, weighted over the sources that agree, shape (H, W).
        rival: Best score outside of the winner's peak, shape (H, W); -1 where there is none.
        curvature: Minus the second derivative of the score by the hypothesis number, shape (H, W).
        sources: Effective number of sources, shape (H, W); 0 where none sees the pixel.
    """

    index: Tensor
    bracketed: Tensor
    score: Tensor
    rival: Tensor
    curvature: Tensor
    sources: Tensor

    @staticmethod
    def cat(parts: "list[Winners]") -> "Winners":
        """Stripes of rows, one below the other."""
        return Winners(
            *(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Winners))
        )


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


def select(scores: Tensor) -> Winners:
    """Winner takes all over the best half's mean, then a parabola through its neighbours.

    For the parabola the set of sources is held fixed and weighted by the signal-to-noise ratio
    ρ / (1 - ρ) that a correlation ρ implies (Förstner 1982).

    Args:
        scores: Correlations, shape (S, K, H, W), K >= 3; NaN where unknown.
    """
    count = scores.shape[1]
    mean = best_half_mean(scores)
    best, winner = mean.max(0)
    inner = winner.clamp(1, count - 2)
    window = (inner + torch.arange(-1, 2, device=inner.device)[:, None, None])[None]
    near = scores.gather(1, window.expand(len(scores), -1, -1, -1))
    seen = torch.isfinite(near).all(1)
    middle = near[:, 1].nan_to_num(0.0).clamp(0, _MAX_CORRELATION)
    weight = torch.where(seen, middle / (1 - middle), 0.0)
    total = weight.sum(0)
    share = weight / total.clamp(min=torch.finfo(weight.dtype).tiny)
    left, centre, right = (near.nan_to_num(0.0) * share[:, None]).sum(0)
    curvature = 2 * centre - left - right
    offset = ((right - left) / (2 * curvature)).clamp(-1, 1)
    bracketed = (winner == inner) & (total > 0) & (curvature > 0)
    known = torch.isfinite(scores).any(0).any(0)
    return Winners(
        index=torch.where(known, torch.where(bracketed, inner + offset, winner), torch.nan),
        bracketed=bracketed,
        score=torch.where(bracketed, centre, best),
        rival=_rival(mean, winner),
        curvature=curvature,
        sources=1 / (share * share).sum(0).clamp(min=1 / len(scores)) * (total > 0),
    )


def _rival(mean: Tensor, winner: Tensor) -> Tensor:
    number = torch.arange(len(mean), device=mean.device)[:, None, None]
    own_peak = (number - winner).abs() <= _NEIGHBOURHOOD
    return mean.masked_fill(own_peak, -1.0).amax(0)
