"""What an estimate is worth: its noise, which cells count, and the heights that follow from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import StageError
from ..numerics.acceleration import by_cells, has_kernels
from ..numerics.bands import in_bands
from ..numerics.filters import (
    extreme,
    fill_gaps,
    gaussian_taps,
    halve,
    isolated,
    local_rms,
    median3,
    scatter,
    smooth_pairs,
    specks,
)
from ..numerics.planes import Settled, settle, settled_heights
from .evaluator import Pass
from .layers import JUMP_CELLS
from .refine import Estimate
from .steepness import steepness, steepness_off_walls

_CARRY_SPREAD = 0.4
"""Cells that agree less than this are bridged from their neighbours before the next pass."""
_LOOSEST_CARRY_PX = 0.3
"""Likewise cells that the images fix no better than this: where there is no texture, noise would
lead the surface astray, and with it the windows at the texture's edge."""
_FULL_TEXTURE = 1 / 4
"""A cell with this share of its windows' texture decides its height itself."""
_LEAST_OWN = 0.05
"""A cell that decides less of its height has borrowed it: beside an edge, where all is plain, it
would carry on whatever slope the surface had before."""
_CHANCE_SIGMAS = 4.5
"""A cell counts as matched if its mean ZNCC exceeds chance by this many standard deviations."""
_LOOSEST_MATCH_PX = 0.25
"""A height that is less certain than this, as a view's image motion, is no match."""
_LENIENCE = 0.1
"""Spread by which a cell may exceed what is trusted and still be a match. With 0.05 the boxes
of seeds 0, 1, 3 and 8 lost 0.3 % of their cells, beside walls, and the RMS error fell by 3 %."""
_SURE_PX = 0.1
"""An island's cells that are more certain than this count towards its size: chance matches in
plain areas run together where uncertain ones count."""
_STRAY = 2.0
"""A cell that stands this many cells off the median of its neighbours is a stray match, and so is
an island that such steps cut off: windows resolve no surface that steep but a wall."""
_MOST_SETTLED = 3.0
"""Cells by which smoothing and settling move a height at most that tells of relief: what they move
further was a stray match. Without it, sigma of boxes 1 was 2.4 times as large on average."""
_LEAST_ISLAND = 17 * 17
"""Cut-off pieces of fewer sure cells are chance matches: what one match sees, its window of 9 x 9
cells each normalised over 9 x 9."""
_SIGNIFICANT = 6.0
"""A height difference above this many times the noise is relief, not scatter."""
_FINAL_SIGNIFICANT = 3.0
"""Likewise what the result keeps, and the surface that the last windows ride on."""
_UNRESOLVED = 2.0
"""Where a pass moved the surface by more than this many times the noise of what its cells say
themselves, its windows have smoothed relief."""
_OVERSHOOT = 0.5
"""Share of such a move by which the next windows ride further. Chosen on box and bower scenes of
seed 0, and on gravel and bricks of another renderer; with 1 the boxes lost 1 % of their cells."""
_MOVE_SIGMA = 4.0
"""Gaussian window of such moves, cells: as wide as what one match sees."""
_FINAL_SIGMA = 1.5
"""Smoothing of the result, cells: as wide as the matching window, whose detail is noise."""
_RESIDUAL_SCALE = 1.2
"""Noise of a smoothed cell over what independent residuals would leave: measured on the low-texture
scenes of seeds 0 to 2, where noise is all there is."""
_SCATTER_SCALE = 2.1
"""Error of a cell over the roughness that smoothing took away, relief included: measured on the
bower, box, low-texture and in-air scenes of seeds 0 to 2."""
_SCATTER_OF_RELIEF = 2.2
"""Scatter that may be relief, over the residuals' noise (squared): what relief is missing from a
height is judged later. Only what exceeds it widens sigma here."""
_NOISY_SCALE, _NOISY_PX = 3.2, 0.029
"""Adds to the mean square of a cell's error, over what the residuals say of the share that is its
own: all of it where the images' own noise is all that disagrees, half where the noise is this
motion. The map's scatter then tells how much of all that is real (:class:`~.relief.Relief`).
Chosen, with all else that sigma is made of, on the bower, box, low-texture and in-air scenes of
seeds 0 to 9 and on another renderer's gravel, ripples, dunes, rough sand and noisy images: one
sigma holds 65 to 73 % of the cells of each, two hold 92 to 97 %."""
_MISSED_SCALE = 0.55
"""Of what planes miss there, which its own share makes up for. Chosen likewise."""
_RIM, _JUMP_REACH = 2, 3
"""Cells before a jump that windows carry out over it, and cells around those whose scatter does not
tell of cells further off."""
_CARRY_SCALE = 2.4
"""Likewise between passes, where a surface that keeps too much of its own goes astray: with 2.1
the board of seed 9 (41 degrees) was 0.077 mm off flat instead of 0.061."""
_COMMON_ERROR_PX = 0.02
"""Error that neighbours share and scatter does not show. Between passes it keeps cells of little
scatter from pulling the planes: without it a bower lost 4 % of its cells."""
_LEAST_ERROR_PX = 0.005
"""No matching is better. A few cells that happen to scatter by nothing would pull the planes
around them centimetres off."""
_APERTURE_ERROR_PX = 0.15
"""Error that neighbours share where the texture runs along the views' motion, as an edge does that
is parallel to the baseline: on a slope, views show it blurred differently, and the match slides
along it. It is that of a steep slope, and grows with the slope (:mod:`.steepness`). With 0.05 on
all slopes the board of seed 4 (41 degrees) was 0.18 mm off flat instead of 0.03; with 0.15 on all,
the RMS error of the bower of seed 0 was 1.2 times as large, since planes overruled the flanks of
stones; with nothing on level ones, a board of 2 degrees was 0.12 mm off flat instead of 0.01."""
_APERTURE_OF_RELIEF_PX = 0.02
"""Likewise where relief is told from noise. With 0 the board of seed 4 was 0.09 mm off flat instead
of 0.06; with 0.1 next to no relief came back."""
_LEAST_CROSSING = 1e-4
"""Of the curvature over what is usual."""
_MEDIAN_CELLS = 1 << 16
"""Of which a median over the map is taken, at least."""
_CELL_BYTES = 64
"""Memory that a cell takes while it is judged."""


class Heights(NamedTuple):
    """Heights of the cells that are matched; each of shape (rows, columns).

    Attributes:
        z: Height, metres; NaN where no match is trusted.
        own: Variance of what each cell keeps of its own, m², where residuals tell the noise.
        taken: And of what it takes from the planes around it, but for relief that is missing.
        confidence: Agreement of the views; 0 where no match is trusted.
    """

    z: Tensor
    own: Tensor
    taken: Tensor
    confidence: Tensor


def final_heights(estimate: Estimate, plan: Pass, spacing: float) -> Heights:
    """Heights of the cells that are matched.

    Args:
        estimate: Of the last pass.
        plan: That pass.
        spacing: Cell size, metres.
    """
    hidden = _hidden(estimate, _LEAST_ERROR_PX, spacing)
    noise = _noise(estimate, plan)
    matched = _matches(estimate, plan, trusted_spread(estimate) + _LENIENCE)
    smoothed = smooth_pairs(estimate.z, _roughness_limit(noise, spacing), _FINAL_SIGMA)
    variance = _variance(estimate, noise, _RESIDUAL_SCALE, hidden)
    variance[~matched] = torch.inf
    settled = settle(smoothed, variance, spacing)
    # Neighbours scatter by their errors, and by relief that windows do not resolve. Which of the
    # two it is does not show: it makes no height settle, and is no reason to doubt a match.
    limit = _insignificant(noise, spacing)
    rough = estimate.z - smooth_pairs(estimate.z, limit, _FINAL_SIGMA)
    rough[_at_jumps(settled.height, spacing)] = 0.0  # their scatter is their own
    shown = scatter(rough)
    z, own, taken, sure = _judged(estimate, matched, settled, variance, noise, shown, hidden)
    real = _variance(estimate, noise, _RESIDUAL_SCALE, _off_walls(hidden, z, spacing))
    real.div_(variance).clamp_(max=1)
    own *= real
    taken *= real
    jump = _STRAY * spacing
    z[isolated(z, jump)] = torch.nan
    z[specks(z, jump, _LEAST_ISLAND, sure)] = torch.nan
    known = torch.isfinite(z)
    zncc = (1 - estimate.spread).clamp(0, 1)
    return Heights(z, own, taken, torch.where(known, zncc, 0.0))


def _matches(estimate: Estimate, plan: Pass, trusted: float) -> Tensor:
    """Cells whose views agree better than by chance, and about as well as most."""
    chance, limit = _CHANCE_SIGMAS / math.sqrt(_window_samples(plan)), min(trusted, _CARRY_SPREAD)
    if has_kernels(estimate.z):
        from .quality_kernels import matches as compiled_matches

        matched = torch.empty_like(estimate.z, dtype=torch.bool)
        maps = estimate.z, estimate.spread, estimate.curvature, estimate.effective_views
        by_cells(compiled_matches, maps, [np.float32(chance), np.float32(limit)], [matched])
        return matched

    def some(rows: slice) -> tuple[Tensor]:
        part = estimate.part(rows)
        pairs = (part.effective_views * (part.effective_views - 1) / 2).clamp(min=1e-3)
        matched = torch.isfinite(part.z) & (1 - part.spread > chance / pairs.sqrt())
        return (matched & (part.curvature > 0) & (part.spread < limit),)

    return in_bands(some, estimate.z, _CELL_BYTES)[0]


def _judged(
    estimate: Estimate,
    matched: Tensor,
    settled: Settled,
    variance: Tensor,
    noise: Tensor,
    shown: Tensor,
    hidden: _Hidden,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Heights that are certain enough, else NaN; variances; and cells that are sure.

    The variances are those of :class:`Heights`.

    Args:
        estimate: Of the last pass.
        matched: Cells that count.
        settled: Its heights.
        variance: Of the cells before they settled.
        noise: That residuals show.
        shown: And the scatter of neighbours; NaN where there are few.
        hidden: What the variance before they settled holds besides noise.
    """
    bounds = _LOOSEST_MATCH_PX, _SURE_PX, _SCATTER_OF_RELIEF
    scales = _NOISY_SCALE, _NOISY_PX**2, _MISSED_SCALE
    if has_kernels(estimate.z):
        from .quality_kernels import judge

        z, kept, taken = (torch.empty_like(estimate.z) for _ in range(3))
        sure = torch.empty_like(matched)
        views = estimate.lever, estimate.effective_views, estimate.own_texture
        quality = estimate.curvature, *views, hidden.aperture
        settings = np.float32(_SCATTER_SCALE), hidden.rule(), np.array(bounds + scales, np.float32)
        maps = matched, settled.height, variance, *settled[1:], noise, shown, *quality
        by_cells(judge, maps, settings, [z, kept, taken, sure])
        return z, kept, taken, sure

    def some(rows: slice) -> tuple[Tensor, ...]:
        part = estimate.part(rows)
        height, own, fit, missed = (maps[rows] for maps in settled)
        scattered = torch.where(torch.isfinite(shown[rows]), shown[rows], noise[rows])
        excess = _variance(part, scattered, _SCATTER_SCALE, hidden.part(rows)) / variance[rows]
        each_view = part.lever / part.effective_views.clamp(min=1).sqrt()
        motion = each_view * (own + fit + missed).sqrt()
        noisy = (noise[rows] * part.lever).square()
        own = own * (1 + _NOISY_SCALE * noisy / (noisy + _NOISY_PX**2))
        own = own * (excess - _SCATTER_OF_RELIEF).clamp(min=1)
        # Planes average the noise, but no error that neighbours share.
        shared = hidden.error_px**2 / _squared_lever(part)
        taken = fit + _MISSED_SCALE * missed + shared
        counts = matched[rows] & (motion < _LOOSEST_MATCH_PX)
        return torch.where(counts, height, torch.nan), own, taken, motion < _SURE_PX

    z, kept, taken, sure = in_bands(some, estimate.z, _CELL_BYTES)
    return z, kept, taken, sure


def levelled(estimate: Estimate, settled: Tensor, bridged: Tensor, spacing: float) -> Tensor:
    """How far smoothing and settling moved the heights: mean square of pairs of cells, m².

    Stray matches count for nothing, and neither do unknown cells and those around jumps.

    Args:
        estimate: Of the last pass.
        settled: Its heights, shape (rows, columns), metres; NaN where unknown.
        bridged: The same without gaps.
        spacing: Cell size, metres.

    Returns:
        shape (ceil(rows / 2), ceil(columns / 2)).
    """
    jumps = _at_jumps(bridged, spacing)

    def some(rows: slice) -> tuple[Tensor]:
        moved = estimate.z[rows] - settled[rows]
        near = (moved.abs() < _MOST_SETTLED * spacing) & ~jumps[rows]
        return (halve(torch.where(near, moved.square(), 0.0)),)

    return in_bands(some, settled, _CELL_BYTES)[0]


def overhanging(z: Tensor, bridged: Tensor, spacing: float) -> Tensor:
    """Last cells of a surface before a jump down, shape (rows, columns), bool.

    Windows at a wall's edge carry it out over what lies below: nine in ten gross errors are too
    high, and most of them beside a jump. Those of such cells that are right cannot be told apart.

    Args:
        z: Heights, shape (rows, columns), metres; NaN where unknown.
        bridged: The same without gaps.
        spacing: Cell size, metres.
    """
    return extreme(bridged, _RIM) - z > JUMP_CELLS * spacing


def _at_jumps(z: Tensor, spacing: float) -> Tensor:
    """Cells around jumps, shape (rows, columns), bool; no NaN in ``z``."""
    jumps = extreme(z, _RIM) + extreme(-z, _RIM) > JUMP_CELLS * spacing
    return extreme(jumps.to(z), _JUMP_REACH) > 0


def carried(estimate: Estimate, plan: Pass, spacing: float) -> Tensor:
    """The surface on which the next pass rides: matched cells, and planes between.

    Args:
        estimate: Of a pass.
        plan: That pass.
        spacing: Cell size, metres.
    """
    noise = _noise(estimate, plan)
    kept = _kept(estimate, plan, noise)
    limit = _insignificant(noise, spacing)
    shown = scatter(kept - smooth_pairs(kept, limit, _FINAL_SIGMA))
    # Residuals are correlated from cell to cell (texture, interpolation), by how much depends on
    # the scene; what neighbouring estimates differ by shows it.
    scattered = torch.where(torch.isfinite(shown), shown, noise)
    hidden = _hidden(estimate, _COMMON_ERROR_PX, spacing)
    variance = _variance(estimate, scattered, _CARRY_SCALE, hidden)
    return without_gaps(settled_heights(kept, variance, spacing))


def overshot(estimate: Estimate, plan: Pass, spacing: float, ridden: Tensor) -> Tensor:
    """The surface on which the last windows ride, beyond what was found where relief shows.

    A window moves as a whole, so that it finds what the surface it rides on lacks of the relief
    within it, averaged. Repeated, this converges to all of the relief that windows pass on (van
    Cittert, Zeitschrift für Physik 69, 1931); to go a little further each time takes fewer times.

    Args:
        estimate: Of a pass at the last level.
        plan: That pass.
        spacing: Cell size, metres.
        ridden: The surface that its windows rode on, shape (rows, columns), metres.

    Returns:
        Heights without gaps, same shape.
    """
    noise = _noise(estimate, plan)
    kept = _kept(estimate, plan, noise)
    smoothed = smooth_pairs(kept, _roughness_limit(noise, spacing), _FINAL_SIGMA)
    hidden = _hidden(estimate, _COMMON_ERROR_PX, spacing)
    variance = _variance(estimate, noise, _RESIDUAL_SCALE, hidden)
    z = without_gaps(settled_heights(smoothed, variance, spacing))

    known = torch.isfinite(estimate.z) & torch.isfinite(noise)
    doubt = noise / _own_share(estimate)
    move = z - ridden
    moved, expected = (local_rms(x, known, _MOVE_SIGMA) for x in (move, doubt))
    return torch.where(moved <= _UNRESOLVED * expected, z, z + _OVERSHOOT * move)


def trusted_spread(estimate: Estimate) -> float:
    """Spread below which a cell agrees about as well as most of the map does."""
    some = _sample(estimate)
    known = some.spread[torch.isfinite(some.z)]
    return min(3 * float(known.median()) + 0.05, 0.5)


def without_gaps(z: Tensor) -> Tensor:
    """Heights with every gap bridged; StageError where nothing is known at all."""
    if bool(torch.isnan(z).all()):
        raise StageError("no two views agree anywhere in the region; check images and calibration")
    return fill_gaps(z)


def own_variance(estimate: Estimate, plan: Pass, usual: float) -> Tensor:
    """Variance of what every cell itself says of its height, m²; NaN where it says nothing.

    Relief that narrower windows find is told from it, so that edges along the motion count for less
    than in the planes: the share of relief that the surface shows already holds them back too.

    Args:
        estimate: Of a pass.
        plan: That pass.
        usual: :func:`usual_curvature` of the whole estimate.
    """
    noise = _noise(estimate, plan)
    aperture = torch.full_like(noise, _APERTURE_OF_RELIEF_PX**2)
    return _variance(estimate, noise, 1.0, _Hidden(usual, _LEAST_ERROR_PX, aperture))


def usual_curvature(estimate: Estimate) -> float:
    """Median over the map of the agreement's curvature per pixel of motion."""
    some = _sample(estimate)
    known = torch.isfinite(some.z) & (some.spread < _CARRY_SPREAD) & (some.curvature > 0)
    return float(_curvature(some)[known].median()) if bool(known.any()) else 1.0


def _sample(estimate: Estimate) -> Estimate:
    """Cells spread evenly over the map, enough for a median."""
    step = max(1, math.isqrt(estimate.z.numel() // _MEDIAN_CELLS))
    return estimate.part((slice(None, None, step), slice(None, None, step)))


def _curvature(estimate: Estimate) -> Tensor:
    """The agreement's curvature per pixel of motion, however many views there are.

    The squared lever is a sum over the views, the spread a mean of one degree of freedom less.
    """
    return estimate.curvature * _freedom(estimate) / _squared_lever(estimate)


def _squared_lever(estimate: Estimate) -> Tensor:
    """Of the views together; never 0."""
    return estimate.lever.clamp(min=1e-6) ** 2


def _freedom(estimate: Estimate) -> Tensor:
    """Views that may disagree with the others."""
    return (estimate.effective_views - 1).clamp(min=0.5)


@dataclass(frozen=True, slots=True)
class _Hidden:
    """Errors that neither residuals nor scatter show.

    Attributes:
        usual: :func:`usual_curvature` of the map.
        error_px: Of every view's image motion.
        aperture: Likewise where texture runs along the motion, squared: shape (rows, columns), px².
    """

    usual: float
    error_px: float
    aperture: Tensor

    def part(self, rows: slice) -> _Hidden:
        """That of some rows."""
        return _Hidden(self.usual, self.error_px, self.aperture[rows])

    def rule(self) -> NDArray[np.float32]:
        """What the kernels need of it besides the map."""
        least = _FULL_TEXTURE, _LEAST_OWN, _LEAST_CROSSING
        return np.array([self.error_px**2, self.usual, *least], np.float32)


def _hidden(estimate: Estimate, error_px: float, spacing: float) -> _Hidden:
    """Of an estimate, where the aperture's error grows with the slope."""
    aperture = _APERTURE_ERROR_PX**2 * steepness(estimate.z, spacing)
    return _Hidden(usual_curvature(estimate), error_px, aperture)


def _off_walls(hidden: _Hidden, z: Tensor, spacing: float) -> _Hidden:
    """The same where walls are no slopes.

    Beside a wall the heights had better settle as on a steep slope, since matches stray there. What
    is left is no less certain than elsewhere: without this, sigma was twice the error up to 16
    cells from the walls of the boxes of seeds 0 to 3.
    """
    aperture = _APERTURE_ERROR_PX**2 * steepness_off_walls(z, spacing)
    return replace(hidden, aperture=aperture)


def _variance(estimate: Estimate, noise: Tensor, scale: float, hidden: _Hidden) -> Tensor:
    """Variance of the heights with hidden errors; m².

    Only a share of a cell's height is its own; the rest is that of textured neighbours. What the
    cell itself would say is as uncertain as the whole over that share.

    Args:
        estimate: Of a pass.
        noise: Of its heights, shape (rows, columns), metres.
        scale: Of that.
        hidden: Further errors.
    """
    if has_kernels(noise):
        from .quality_kernels import variances

        variance = torch.empty_like(noise)
        views = estimate.lever, estimate.effective_views
        maps = noise, estimate.curvature, *views, estimate.own_texture, hidden.aperture
        by_cells(variances, maps, [np.float32(scale), hidden.rule()], [variance])
        return variance

    def some(rows: slice) -> tuple[Tensor]:
        part = estimate.part(rows)
        aperture = hidden.aperture[rows] * _along(part, hidden.usual)
        unseen = (hidden.error_px**2 + aperture) / _squared_lever(part)
        own = _own_share(part)
        return (((scale * noise[rows]) ** 2 + unseen) / own**2,)

    return in_bands(some, noise, _CELL_BYTES)[0]


def _along(estimate: Estimate, usual: float) -> Tensor:
    """How far texture runs along the motion, as an edge along the baseline does: 0 or more."""
    return 1 / (_curvature(estimate) / usual).clamp(_LEAST_CROSSING, 1.0) - 1


def _own_share(estimate: Estimate) -> Tensor:
    """How much of its height each cell decides itself, at least ``_LEAST_OWN`` and at most 1."""
    return (estimate.own_texture / _FULL_TEXTURE).clamp(_LEAST_OWN, 1.0)


def _window_samples(plan: Pass) -> float:
    """Cells that a matching window averages, as an effective number."""
    return 1 / sum(tap * tap for tap in gaussian_taps(plan.window_sigma)) ** 2


def _noise(estimate: Estimate, plan: Pass) -> Tensor:
    """Height noise if the views' residuals were independent from cell to cell, metres.

    The parabola's vertex has the variance of the mean residual over the curvature.
    """
    samples = _window_samples(plan)
    if has_kernels(estimate.z):
        from .quality_kernels import noises

        noise = torch.empty_like(estimate.z)
        maps = estimate.spread, estimate.curvature, estimate.effective_views
        by_cells(noises, maps, [np.float32(samples)], [noise])
        return noise

    def some(rows: slice) -> tuple[Tensor]:
        part = estimate.part(rows)
        return ((2 * part.spread / (part.curvature * _freedom(part) * samples)).sqrt(),)

    return in_bands(some, estimate.z, _CELL_BYTES)[0]


def _kept(estimate: Estimate, plan: Pass, noise: Tensor) -> Tensor:
    """Heights of the cells that the next pass takes over, NaN elsewhere.

    Their views agree, and fix the height: others are better bridged than carried on.
    """

    def some(rows: slice) -> tuple[Tensor]:
        part = estimate.part(rows)
        fixed = _RESIDUAL_SCALE * noise[rows] * part.lever < _LOOSEST_CARRY_PX
        fixed &= (_own_share(part) > _LEAST_OWN) & (part.spread < _CARRY_SPREAD)
        return (torch.where(fixed, part.z, torch.nan),)

    (kept,) = in_bands(some, noise, _CELL_BYTES)
    return median3(kept) if plan.shift else kept


def _roughness_limit(noise: Tensor, spacing: float) -> Tensor:
    """Height difference that the result smooths out as noise, metres."""
    return (_FINAL_SIGNIFICANT * noise).nan_to_num_(0.0).clamp_(max=_SIGNIFICANT * spacing)


def _insignificant(noise: Tensor, spacing: float) -> Tensor:
    """Height difference within a window that may be noise, metres: at least a cell's size."""
    limit = (_SIGNIFICANT * noise).nan_to_num_(0.0, posinf=0.0)
    return limit.clamp_(min=spacing, max=_SIGNIFICANT * spacing)
