"""From similarities of candidate pairs to a one-to-one assignment.

Everything works on a list of candidates instead of a full matrix: guidance leaves about one pair in
a hundred, and gating before the mutual check lets a true match win against a look-alike elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Features
from .guidance import Candidates

_SIMILARITIES_PER_BLOCK = 1 << 22
"""Entries of the similarity matrix held at once: 16 MB of float32."""

_NEAREST_KEPT = 8
"""Candidates kept per keypoint when matching is unguided: the best, its rivals for the ratio test,
and copies of either at other orientations."""

_SAME_POINT_PX = 3.0
"""Keypoints closer than this are one image point at several scales or orientations."""


def nearest_candidates(reference: Tensor, source: Tensor) -> Candidates:
    """The most similar pairs of descriptors, seen from either side.

    Args:
        reference: Unit descriptors, shape (N, D).
        source: Unit descriptors, shape (M, D).

    Returns:
        Each keypoint's nearest neighbours on the other side; ordered, without duplicates.
    """
    count, other = len(reference), len(source)
    if count == 0 or other == 0:
        none = torch.zeros(0, dtype=torch.int64, device=reference.device)
        return Candidates(none, none)
    forth = _nearest(reference, source)
    back = _nearest(source, reference)
    rows = torch.arange(count, device=reference.device)[:, None].expand_as(forth)
    columns = torch.arange(other, device=reference.device)[:, None].expand_as(back)
    keys = torch.cat([(rows * other + forth).flatten(), (back * other + columns).flatten()])
    keys = torch.unique(keys)
    return Candidates(keys // other, keys % other)


def similarity(candidates: Candidates, reference: Tensor, source: Tensor) -> Tensor:
    """Cosine of each candidate pair of unit descriptors, shape (C,)."""
    block = max(1, _SIMILARITIES_PER_BLOCK // max(reference.shape[1], 1))
    result = reference.new_empty(len(candidates))
    for start in range(0, len(candidates), block):
        part = slice(start, start + block)
        i, j = candidates.reference[part], candidates.source[part]
        result[part] = (reference[i] * source[j]).sum(-1)
    return result


def mutual_best(candidates: Candidates, scores: Tensor, sizes: tuple[int, int]) -> Tensor:
    """Candidates that are the best of both their keypoints; equal scores go to the first.

    Args:
        candidates: Ordered by reference, then source.
        scores: Larger is better, shape (C,).
        sizes: Numbers of reference and source keypoints.

    Returns:
        Positions among the candidates, ascending, shape (K,), int64.
    """
    first = _best_position(candidates.reference, scores, sizes[0])
    second = _best_position(candidates.source, scores, sizes[1])
    position = torch.arange(len(candidates), device=scores.device)
    mutual = (first[candidates.reference] == position) & (second[candidates.source] == position)
    return mutual.nonzero()[:, 0]


def runner_up(
    candidates: Candidates,
    scores: Tensor,
    chosen: Tensor,
    pixels: tuple[Tensor, Tensor],
    radius_px: float,
) -> Tensor:
    """Best score of a rival of each chosen candidate, on either side.

    A rival shares one keypoint with the chosen pair and lies elsewhere in the other view: the same
    image point detected again at another orientation or scale is no rival.

    Args:
        candidates: All pairs.
        scores: shape (C,).
        chosen: Positions among the candidates, at most one per keypoint, shape (K,).
        pixels: Keypoints of the reference, shape (N, 2), and of the source, shape (M, 2).
        radius_px: Keypoints closer than this are the same image point.

    Returns:
        shape (K,); minus infinity where there is no rival.
    """
    ends = (candidates.reference, candidates.source)
    best = scores.new_full((len(chosen),), -torch.inf)
    for side in (0, 1):
        own, other = ends[side], ends[1 - side]
        winner = torch.full((len(pixels[side]),), -1, device=scores.device)
        winner[own[chosen]] = other[chosen]
        partner = winner[own]
        away = (pixels[1 - side][other] - pixels[1 - side][partner]).norm(dim=-1) > radius_px
        rival = torch.where((partner >= 0) & away, scores, -torch.inf)
        rivals = scores.new_full((len(pixels[side]),), -torch.inf)
        rivals.scatter_reduce_(0, own, rival, "amax")
        best = torch.maximum(best, rivals[own[chosen]])
    return best


def distinctive_pairs(
    features: tuple[Features, Features],
    candidates: Candidates,
    possible: Tensor,
    *,
    ratio: float,
    max_distance: float,
) -> tuple[Tensor, Tensor]:
    """Mutual nearest neighbours that pass Lowe's ratio test.

    Args:
        features: Of the reference and of the source view.
        candidates: Pairs that compete; ordered by reference, then source.
        possible: Which of them may win, shape (C,), bool. The others are rivals all the same.
        ratio: Largest ratio of a pair's distance to its best rival's.
        max_distance: Largest Euclidean distance of its descriptors.

    Returns:
        Positions among the candidates, ascending, shape (K,), and the distances, shape (K,).
    """
    first, second = features
    cosine = similarity(candidates, first.descriptors, second.descriptors)
    # An image point detected at several orientations is one point: it matches once.
    first_places, first_place = first.unique_places()
    second_places, second_place = second.unique_places()
    pairs = Candidates(first_place[candidates.reference], second_place[candidates.source])
    chosen = mutual_best(
        pairs,
        torch.where(possible, cosine, -torch.inf),
        (len(first_places), len(second_places)),
    )
    chosen = chosen[possible[chosen]]
    distance = _chord(cosine[chosen])
    rivals = runner_up(pairs, cosine, chosen, (first_places, second_places), _SAME_POINT_PX)
    keep = (distance < max_distance) & (distance < ratio * _chord(rivals))
    return chosen[keep], distance[keep]


def _chord(cosine: Tensor) -> Tensor:
    """Euclidean distance of unit vectors with that cosine; infinite for no vector at all."""
    return torch.sqrt((2 - 2 * cosine).clamp(min=0))


def _nearest(queries: Tensor, targets: Tensor) -> Tensor:
    """Positions of the most similar targets of each query, shape (N, k)."""
    kept = min(_NEAREST_KEPT, len(targets))
    rows = max(1, _SIMILARITIES_PER_BLOCK // len(targets))
    found = [
        (queries[start : start + rows] @ targets.T).topk(kept, dim=1).indices
        for start in range(0, len(queries), rows)
    ]
    return torch.cat(found)


def _best_position(keypoint: Tensor, scores: Tensor, size: int) -> Tensor:
    """Position of each keypoint's best candidate, shape (size,); the first of equals."""
    best = scores.new_full((size,), -torch.inf).scatter_reduce(0, keypoint, scores, "amax")
    position = torch.arange(len(keypoint), device=scores.device)
    position = torch.where(scores == best[keypoint], position, len(keypoint))
    return torch.full((size,), len(keypoint), device=scores.device).scatter_reduce(
        0, keypoint, position, "amin"
    )
