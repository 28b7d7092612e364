"""What uncertain cells of a warp take from the certain ones around them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from ...pixels import pixel_grid
from .network import ScaleWarp

_CERTAIN = 0.5
"""Certainty above which a cell keeps its own motion."""

_REACHES = (1, 3, 7)
"""Distances, cells, at which certain cells are sought for the others, one after the other."""

_LEAST_AROUND = 0.1
"""Mean certainty of a window that says enough."""


def with_neighbours(at: ScaleWarp) -> ScaleWarp:
    """A warp whose uncertain cells move as the certain ones around them.

    Where the source view sees nothing, mostly beyond its border, the network's motion means
    nothing, and interpolation would carry it into what is seen.

    Args:
        at: Warp and logits of its certainty.

    Returns:
        The warp with the same logits; cells far from anything certain keep their motion.
    """
    rows, columns = at.logit.shape[1:]
    grid = pixel_grid((columns, rows), device=at.warp.device)
    motion = (at.warp - grid).permute(0, 3, 1, 2)
    weight = torch.sigmoid(at.logit)[:, None]
    filled, missing = motion, weight < _CERTAIN
    for reach in _REACHES:
        around = _mean(weight, reach)
        mean = _mean(weight * motion, reach) / around.clamp(min=_LEAST_AROUND)
        known = missing & (around > _LEAST_AROUND)
        filled, missing = torch.where(known, mean, filled), missing & ~known
    return replace(at, warp=filled.permute(0, 2, 3, 1) + grid)


def _mean(values: Tensor, reach: int) -> Tensor:
    return functional.avg_pool2d(values, 2 * reach + 1, 1, reach)
