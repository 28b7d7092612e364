"""Photometric verification: do the images agree that a match lies where it does on its curve?

Guidance leaves the epipolar curve, along which a keypoint whose partner was not detected is easily
matched with a neighbour. The window around the keypoint tells: warped into the other image by the
affine that a level patch predicts, it correlates best at the true place, wherever detectors fired.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ..pixels import to_normalized
from ..projection import patch_affine
from ..types import View
from .frames import midpoints
from .guidance import Candidates

_RADIUS_PX = 5
"""Of the window: 11 x 11 px. Eight did no better on the validation scenes."""

_REACH_PX = 8
"""How far along the curve other places are tried."""

_SAME_PLACE_PX = 1
"""Keypoints are that exact, so the match may have the best correlation so near."""

_OTHER_PLACE_PX = 3
"""From here on a place contradicts the match; in between are bad keypoints of good matches."""

_LEAST_VARIANCE = (0.25 / 255) ** 2
"""Quantisation noise: below it there is no texture to compare."""

_LOGIT_PER_CORRELATION = 15.0
"""Weight of the lead over other places, a difference of correlations, against the network's logit;
tuned on the validation scenes, where 10 to 20 do about as well."""

_LEAST_PROBABILITY = 1e-6
"""Keeps logits finite."""

_BLOCK = 1 << 11
"""Candidates at once: about 50 MB of temporaries."""


def verified_probability(
    probability: Tensor,
    candidates: Candidates,
    views: tuple[View, View],
    pixels: tuple[Tensor, Tensor],
) -> Tensor:
    """Probability of each candidate once the images have been asked.

    Args:
        probability: Before, shape (C,).
        candidates: Pairs of keypoints near each other's epipolar curves.
        views: Reference and source.
        pixels: Keypoints of the views, shapes (N, 2) and (M, 2).

    Returns:
        shape (C,); 0 where the two rays meet nowhere in front of both cameras.
    """
    lead = correlation_lead(candidates, views, pixels)
    logit = probability.clamp(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY).logit()
    return torch.sigmoid(logit + _LOGIT_PER_CORRELATION * lead)


def correlation_lead(
    candidates: Candidates, views: tuple[View, View], pixels: tuple[Tensor, Tensor]
) -> Tensor:
    """By how much a match's place correlates better than others on the curve.

    The smaller one of both directions: each keypoint's window is sought near the other keypoint.
    The search passes through that keypoint, not along the curve itself, so that an error of the
    calibration across the curve does no harm.

    Args:
        candidates: Pairs of keypoints.
        views: Reference and source.
        pixels: Keypoints of the views, shapes (N, 2) and (M, 2).

    Returns:
        shape (C,), -2 to 2; -inf where the two rays meet nowhere in front of both cameras.
    """
    models = tuple(view.model.to(p.device) for view, p in zip(views, pixels, strict=True))
    rays = [model.cast_ray(p.double()) for model, p in zip(models, pixels, strict=True)]
    images = [_grey(view, p.device) for view, p in zip(views, pixels, strict=True)]
    lead = pixels[0].new_empty(len(candidates))
    for start in range(0, len(candidates), _BLOCK):
        part = slice(start, start + _BLOCK)
        index = candidates.reference[part], candidates.source[part]
        first, second = ((o[i], d[i]) for (o, d), i in zip(rays, index, strict=True))
        points = midpoints(first, second, models[0].camera_height)
        both = []
        for a, b, direction in ((0, 1, first[1]), (1, 0, second[1])):
            affine = patch_affine(models[a], models[b], points)
            _, jacobian, _ = models[b].project_with_jacobian(points)
            tangent = functional.normalize((jacobian @ direction[:, :, None])[..., 0], dim=-1)
            correlation = _along_curve(
                (images[a], images[b]),
                (pixels[a][index[a]], pixels[b][index[b]]),
                affine.to(lead),
                tangent.to(lead),
            )
            seen = affine.isfinite().all(-1).all(-1)
            both.append(torch.where(seen, _lead(correlation), -torch.inf))
        lead[part] = torch.minimum(*both)
    return lead


def _offsets(like: Tensor) -> Tensor:
    """Places that are tried along the curve, px from the match."""
    return torch.arange(-_REACH_PX, _REACH_PX + 1).to(like)


def _lead(correlation: Tensor) -> Tensor:
    """The best correlation at the match over the best at other places, (C, P) -> (C,)."""
    distance = _offsets(correlation).abs()
    here = correlation[:, distance <= _SAME_PLACE_PX].amax(1)
    return here - correlation[:, distance >= _OTHER_PLACE_PX].amax(1)


def _along_curve(
    images: tuple[Tensor, Tensor], pixels: tuple[Tensor, Tensor], affine: Tensor, tangent: Tensor
) -> Tensor:
    """Correlation of the first image's windows with the second one's along the curve, (C, P)."""
    side = torch.arange(-_RADIUS_PX, _RADIUS_PX + 1).to(tangent)
    window = torch.cartesian_prod(side, side)
    places = pixels[1][:, None] + _offsets(tangent)[:, None] * tangent[:, None]
    own = _centred(images[0], pixels[0][:, None] + window)
    other = _centred(images[1], places[:, :, None] + (window @ affine.mT)[:, None])
    scale = (own.square().mean(-1) + _LEAST_VARIANCE)[:, None]
    scale = scale * (other.square().mean(-1) + _LEAST_VARIANCE)
    return (own[:, None] * other).mean(-1) / scale.sqrt()


def _centred(image: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear samples, less the mean of their window, shape (..., T, 2) -> (..., T)."""
    grid = to_normalized(pixels, (image.shape[1], image.shape[0])).reshape(1, 1, -1, 2)
    sampled = functional.grid_sample(
        image[None, None], grid, padding_mode="border", align_corners=False
    )
    values = sampled.reshape(pixels.shape[:-1])
    return values - values.mean(-1, keepdim=True)


def _grey(view: View, device: torch.device) -> Tensor:
    """Mean of the colours, shape (H, W), float32."""
    return view.image.to(device).float().mean(-1)
