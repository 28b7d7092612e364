"""Verification: do images, calibration and the matches around agree with a match?

Guidance leaves the epipolar curve, along which a keypoint whose partner was not detected is easily
matched with a neighbour. The window around the keypoint tells: warped into the other image by the
affine that a level patch predicts, it correlates best at the true place, wherever detectors fired.
So do the depths of the matches around (:mod:`.support`), and the distance that is left from the
curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .guidance import Candidates
from .support import support
from .transfer import GreyPair, Transfer, correlations, transfers

_RADIUS_PX = 5
"""Of the window: 11 x 11 px. Eight did no better on the validation scenes."""

_REACH_PX = 8
"""How far along the curve other places are tried."""

_SAME_PLACE_PX = 1
"""Keypoints are that exact, so the match may have the best correlation so near."""

_OTHER_PLACE_PX = 3
"""From here on a place contradicts the match; in between are bad keypoints of good matches."""

_LOGIT_PER_CORRELATION = 15.0
"""Weight of the lead over other places, a difference of correlations, against the network's logit;
tuned on development scenes, where 13 to 17 do about as well."""

_FINE_PX = 1.6
"""Pixels of the finer view that a pixel of the detection may span at no loss: a large view is
shrunk by about as much before its keypoints are detected."""

_LOGIT_PER_OCTAVE = 2.5
"""Loss where it spans twice as many: keypoints are known to some pixels only. Tuned likewise,
together with the threshold; 3 does about as well."""

_LEAST_PROBABILITY = 1e-2
"""By the network. It was taught to doubt pairs whose orientations differ, however alike they look
once the calibration has turned them; so its doubts count for no more than this."""

_LOGIT_PER_SQUARE_PX = 1.0
"""Loss with the square of the distance from the epipolar curve; tuned likewise."""

_ALIKE = 0.85
"""Correlation at which windows are so alike that the network need not have proposed the match."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What images and calibration say of matches.

    Attributes:
        lead: By how much the match's place correlates better than others on the curve, shape (C,),
            -2 to 2; -inf where the two rays meet nowhere in front of both cameras.
        octaves: Pixels of the finer view that a pixel of the coarser detection spans, over those
            that do no harm, as a power of two, at least 0, shape (C,).
        distance: From the epipolar curve, the larger one of both views, px, shape (C,).
        rate: Pixels by which the match moves along it per metre, likewise, shape (C,).
        level: Depth of the point below the interface, metres, shape (C,).
    """

    lead: Tensor
    octaves: Tensor
    distance: Tensor
    rate: Tensor
    level: Tensor


def verified_probability(
    probability: Tensor,
    candidates: Candidates,
    pair: GreyPair,
    pixels: tuple[Tensor, Tensor],
    detection_px: tuple[float, float],
) -> Tensor:
    """Probability of each candidate once all the evidence is in.

    Args:
        probability: Before, shape (C,).
        candidates: Pairs of keypoints near each other's epipolar curves.
        pair: Reference and source.
        pixels: Keypoints of the views, shapes (N, 2) and (M, 2).
        detection_px: Side of a pixel of the images in which they were detected, px of the views.

    Returns:
        shape (C,); 0 where the two rays meet nowhere in front of both cameras.
    """
    evidence = match_evidence(candidates, pair, pixels, detection_px)
    # In float64, so that the best of several sure candidates is still known.
    logit = probability.double().clamp(_LEAST_PROBABILITY, 1 - 1e-6).logit()
    logit = logit + _LOGIT_PER_CORRELATION * evidence.lead - _LOGIT_PER_OCTAVE * evidence.octaves
    logit = logit + support(logit, candidates, pixels, evidence.level, evidence.rate)
    return torch.sigmoid(logit - _LOGIT_PER_SQUARE_PX * evidence.distance.square())


def match_evidence(
    candidates: Candidates,
    pair: GreyPair,
    pixels: tuple[Tensor, Tensor],
    detection_px: tuple[float, float],
) -> Evidence:
    """Ask the images and the calibration.

    The lead is the smaller one of both directions: each keypoint's window is sought near the other
    keypoint. The search passes through that keypoint, not along the curve itself, so that an error
    of the calibration across the curve does no harm.

    Args:
        candidates: Pairs of keypoints.
        pair: Reference and source.
        pixels: Keypoints of the views, shapes (N, 2) and (M, 2).
        detection_px: Side of a pixel of the images in which they were detected, px of the views.
    """
    images = pair.images
    lead, octaves, distance, rate, level = pixels[0].new_zeros(5, len(candidates))
    for part, (forth, back) in transfers(candidates, pair.views, pixels):
        both = torch.minimum(_lead(images, forth), _lead(images[::-1], back))
        lead[part] = torch.where(forth.is_seen() & back.is_seen(), both, -torch.inf)
        coarsest = torch.maximum(
            detection_px[0] * forth.scale().clamp(min=1.0),
            detection_px[1] * back.scale().clamp(min=1.0),
        )
        octaves[part] = (coarsest / _FINE_PX).clamp(min=1.0).log2().nan_to_num(nan=0.0)
        distance[part] = torch.maximum(forth.distance, back.distance).nan_to_num(nan=0.0)
        rate[part], level[part] = torch.maximum(forth.rate, back.rate), forth.level
    return Evidence(lead, octaves, distance, rate, level)


def look_alikes(candidates: Candidates, pair: GreyPair, pixels: tuple[Tensor, Tensor]) -> Tensor:
    """Candidates whose windows look the same in both views, shape (C,), bool.

    Args:
        candidates: Pairs of keypoints near each other's epipolar curves.
        pair: Reference and source.
        pixels: Keypoints of the views, shapes (N, 2) and (M, 2).
    """
    images = pair.images
    alike = torch.zeros_like(candidates.reference, dtype=torch.bool)
    for part, (forth, back) in transfers(candidates, pair.views, pixels):
        # NaN, of rays that meet nowhere, is no likeness. Most fail one way already.
        here = correlations(images, forth, forth.other[:, None], radius=_RADIUS_PX)[:, 0]
        some = (here >= _ALIKE).nonzero()[:, 0]
        back = back.select(some)
        there = correlations(images[::-1], back, back.other[:, None], radius=_RADIUS_PX)[:, 0]
        alike[part][some] = there >= _ALIKE
    return alike


def _lead(images: tuple[Tensor, ...], transfer: Transfer) -> Tensor:
    """The best correlation at the match over the best at other places on the curve, (C,)."""
    offset = torch.arange(-_REACH_PX, _REACH_PX + 1).to(transfer.other)
    places = transfer.other[:, None] + offset[:, None] * transfer.tangent[:, None]
    correlation = correlations((images[0], images[1]), transfer, places, radius=_RADIUS_PX)
    here = correlation[:, offset.abs() <= _SAME_PLACE_PX].amax(1)
    return here - correlation[:, offset.abs() >= _OTHER_PLACE_PX].amax(1)
