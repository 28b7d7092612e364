"""How two cameras are really turned against each other, told by matches of the pair itself.

A camera that has moved a little in its mount displaces all epipolar curves of its pairs, and
guidance that trusts them loses true matches. Matches that were found without guidance show it:
their distances from the curves follow a small turn of the camera.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from ..projection import RefractiveProjectionModel
from ..types import View
from .guidance import Candidates, nearest_on_curves
from .transfer import transfers

_LEAST_MATCHES = 10
"""Fewer say nothing about three angles."""

_EXPECTED_PX = 1.0
"""Motion of the image that a calibration's error is expected to cause about each axis, RMS."""

_LINEARISATIONS = 2
"""A second one corrects what a turn of a few pixels bends."""

_REWEIGHTINGS = 5
"""Solutions per linearisation, each with the weights of the one before."""

_LEAST_SPREAD_PX = 0.3
"""Noise of keypoints that are as good as they get."""

_MAD_TO_SIGMA = 1.4826


def with_true_turn(
    views: tuple[View, View], pixels: tuple[Tensor, Tensor], reach_px: float
) -> tuple[View, View]:
    """A pair whose source camera is turned so that its matches lie on their epipolar curves.

    Least squares of the distances from the curves over three angles, with a prior for none and
    Geman-McClure weights (Black and Rangarajan, IJCV 1996). It corrects what both cameras' errors
    do across the curves; what moves pixels along them, no match of one pair can tell.

    Args:
        views: Reference and source.
        pixels: Matched keypoints of both, shape (K, 2) each; some may be wrong.
        reach_px: Matches further from their curves do not count; px of the coarser view.

    Returns:
        The reference as it was, and the source with the turned model; as it was, too, with too few
        matches.
    """
    reference, source = views
    own, other = (p.double() for p in pixels)
    each = torch.arange(len(own), device=own.device)
    ways = [forth for _, (forth, _) in transfers(Candidates(each, each), views, (own, other))]
    if not ways:
        return views
    # A pixel of the reference may be several of a source that shows everything larger.
    finer = float(torch.cat([way.scale() for way in ways]).nanmedian().nan_to_num(1.0).clamp(min=1))
    model, first = (view.model.to(own.device) for view in (source, reference))
    radians = _radians_per_px(model, source.size)
    prior = torch.eye(3).to(own) / (_EXPECTED_PX * finer) ** 2
    turn = own.new_zeros(3)
    across = torch.cat([way.tangent for way in ways]).double().flip(-1) * own.new_tensor(
        [-1.0, 1.0]
    )
    rates = (_turn_rates(model, other) * across[:, :, None]).sum(1) * radians
    near: Tensor | None = None
    for _ in range(_LINEARISATIONS):
        nearest, distance = nearest_on_curves(first, model.turned(turn * radians), own, other)
        if near is None:
            # Rays that meet above the water have a distance, but no direction along the curve.
            near = (distance <= reach_px * finer) & rates.isfinite().all(1)
            if int(near.sum()) < _LEAST_MATCHES:
                return views
        residual = ((other - nearest) * across).sum(-1)[near].nan_to_num()
        turn = turn + _step(residual, rates[near], turn, prior)
    return reference, replace(source, model=source.model.turned(turn * radians))


def _step(residual: Tensor, rates: Tensor, turn: Tensor, prior: Tensor) -> Tensor:
    """By how much to go on turning, shape (3,)."""
    step = torch.zeros_like(turn)
    for _ in range(_REWEIGHTINGS):
        left = residual - rates @ step
        spread = (_MAD_TO_SIGMA * left.abs().median()).clamp(min=_LEAST_SPREAD_PX)
        weight = (1 + (left / (2 * spread)).square()).reciprocal().square() / spread**2
        normal = (rates * weight[:, None]).T @ rates + prior
        gradient = (weight * left) @ rates - prior @ (turn + step)
        step = step + torch.linalg.solve(normal, gradient)
    return step


def _radians_per_px(model: RefractiveProjectionModel, size: tuple[int, int]) -> Tensor:
    """Turn about each axis of the camera that moves the image by 1 px RMS, shape (3,)."""
    K = model.K.double()
    roll = K.new_tensor(((size[0] ** 2 + size[1] ** 2) / 12) ** 0.5)
    return torch.stack([K[1, 1], K[0, 0], roll]).reciprocal()


def _turn_rates(model: RefractiveProjectionModel, pixels: Tensor) -> Tensor:
    """How pixels move as the camera turns about each of its axes, shape (K, 2, 3), px per radian.

    Whatever its depth: a turn about the optical centre moves the image by a homography.
    """
    K = model.K.double()
    ray = torch.linalg.solve(K, functional.pad(pixels, (0, 1), value=1.0).T).T
    moved = torch.linalg.cross(torch.eye(3).to(ray)[None], ray[:, None]) @ K.T
    rates: Tensor = (moved[..., :2] - pixels[:, None] * moved[..., 2:]).mT
    return rates
