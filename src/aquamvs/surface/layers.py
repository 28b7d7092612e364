"""The two surfaces that meet at a jump, each carried on over the other.

A window at the foot or the edge of a wall holds some of both surfaces and fits neither, so that
matching smears a wall over a dozen cells. Windows that ride on one of the two alone, as it would go
on, agree up to the wall wherever that is the surface which the views see.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..numerics.filters import extreme, fill_gaps, halve, upsample
from ..numerics.planes import settled_heights
from .evaluator import Pass, TileEvaluator
from .grid import Grid
from .refine import Estimate, refine_again
from .visibility import Occlusion

JUMP_CELLS = 6.0
"""Rise within 5 x 5 cells that is a jump and not a slope, cells."""
_STEP_PAIRS, _GAP_PAIRS = 1, 6
"""Pairs of cells within which matched heights rise by as much at a jump: across a step, and across
a gap between matched cells."""
_REACH_PAIRS = 4
"""Pairs of cells beside a jump for which both surfaces compete: as far as windows straddle it."""
_SUPPORT_PAIRS = 16
"""Pairs of cells within which the two surfaces are told apart and fitted."""
_FITTED_SIGMA = 1.0
"""Of every height that a layer is fitted to, cells: all count the same."""
_NEEDED_GAIN, _LOWER_GAIN = 0.7, 1.4
"""Another surface must agree this much better. The lower of two may agree less: near a wall some
views see it only in part, and the edge of the upper one looks alike in all of them. Between 0.7 and
2 the RMS error of boxes 3 and 5 (mottled) changes by 3 %."""


class Layers(NamedTuple):
    """Two surfaces, and where to choose between them; each of shape (rows, columns).

    Attributes:
        upper: Height without gaps, metres.
        lower: Likewise.
        beside: Cells beside a jump.
    """

    upper: Tensor
    lower: Tensor
    beside: Tensor


def layers(z: Tensor, matched: Tensor, spacing: float) -> Layers | None:
    """Tell apart the surfaces that meet at jumps, and carry on each as planes.

    Args:
        z: Heights, shape (rows, columns), metres.
        matched: Cells whose height is trusted, same shape, bool.
        spacing: Cell size, metres.

    Returns:
        None where there is no jump.
    """
    # They change slowly: pairs of cells will do.
    share = halve(matched.to(z))
    pairs = halve(torch.where(matched, z, 0.0)) / share
    known, rise = share > 0, JUMP_CELLS * spacing

    def lowest_and_highest(radius: int) -> tuple[Tensor, Tensor]:
        lowest = extreme(torch.where(known, pairs, -torch.inf), radius)
        return lowest, -extreme(torch.where(known, -pairs, -torch.inf), radius)

    lowest, highest = lowest_and_highest(_STEP_PAIRS)
    step = lowest - highest > rise
    lowest, highest = lowest_and_highest(_GAP_PAIRS)
    jump = step | (~known & (lowest - highest > rise))
    if not bool(jump.any()):
        return None
    middle = fill_gaps(torch.where(jump, (lowest + highest) / 2, torch.nan))
    fitted = known & ~step & (extreme(jump.to(z), _SUPPORT_PAIRS) > 0)
    of_upper = pairs < middle
    surfaces = []
    for side in (fitted & of_upper, fitted & ~of_upper):
        if not bool(side.any()):
            return None
        heights = torch.where(side, pairs, torch.nan)
        variance = torch.full_like(heights, (_FITTED_SIGMA * spacing) ** 2)
        surfaces.append(settled_heights(heights, variance, 2 * spacing))
    beside = extreme(jump.to(z), _REACH_PAIRS)
    shape = (z.shape[0], z.shape[1])
    upper, lower, chosen = (upsample(each, shape) for each in (*surfaces, beside))
    return Layers(upper, lower, chosen > 0)


def compete(
    evaluator: TileEvaluator,
    grid: Grid,
    estimate: Estimate,
    occlusion: Occlusion | None,
    plan: Pass,
    step: float,
    trusted: float,
    *,
    tile_side: int,
) -> None:
    """Let the surfaces that meet at jumps compete for the cells beside them.

    Args:
        evaluator: Of the level.
        grid: Of the height map.
        estimate: In and out: of a pass.
        occlusion: What each view cannot see; None: it sees all.
        plan: The pass.
        step: Distance of its offsets, metres.
        trusted: Spread below which a match is trusted: without texture any may look better.
        tile_side: Most cells along a tile.
    """
    found = layers(estimate.z, estimate.spread < trusted, grid.spacing)
    if found is None:
        return
    for surface, gain in ((found.upper, _NEEDED_GAIN), (found.lower, _LOWER_GAIN)):
        refine_again(
            *(evaluator, grid, surface, occlusion, plan, step, estimate, found.beside),
            rival=(gain, trusted),
            tile_side=tile_side,
        )
