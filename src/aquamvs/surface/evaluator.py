"""How well the views agree on a tile: the interface, and its implementation with tensors.

The implementation here runs on every device and is the reference; CPUs use the compiled one of
:mod:`~.fused` where numba is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..numerics.acceleration import at_once, has_kernels
from ..numerics.filters import gaussian_taps, shrink, smooth
from ..numerics.pyramid import LevelView
from ..numerics.splines import sample, sample_spline, spline_coefficients
from ..projection import ProjectionRig
from .consistency import (
    NORMALISATION_TAPS,
    ROBUST_MARGIN,
    Resampled,
    agreement,
    resample,
    robust_weight,
)
from .grid import Grid
from .tiles import Tile, tile_points, views_of
from .visibility import Occlusion

COST_WINDOW_TAPS = gaussian_taps(1.5)
"""Matching window where whole surfaces compete."""
_COST_INNER_MARGIN = len(NORMALISATION_TAPS) // 2 + len(COST_WINDOW_TAPS) // 2
COST_MARGIN = _COST_INNER_MARGIN + ROBUST_MARGIN
"""Cells around a tile that its costs depend on."""
_ESTIMATED_MAPS = 7
_FLOAT_BYTES = 4
_OWN_TAPS = [0.25, 0.5, 0.25]
"""What belongs to a cell: matching there is as sharp as the images are."""
_PROJECTION_MAPS, _AGREEMENT_MAPS = 30, 6
"""Intermediate maps of each view that tensor operations hold at a time, at most."""
_CELLS_AT_ONCE = 1 << 17
"""Cells of all surfaces that a processor resamples together: bounds memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one pass tries.

    Attributes:
        hypotheses: Number of offsets, odd; 3 is a pure sub-step.
        step_px: Distance of neighbouring offsets, as the largest image motion that they cause
            between two views, pixels of the level.
        window_sigma: Gaussian window of the matching, cells.
        shift: Cells by which a window may lie off its cell. Each hypothesis takes the best of
            these windows, so that near an edge one side decides and not a mixture.
        cubic: Sample the images as cubic splines, not bilinearly.
    """

    hypotheses: int
    step_px: float
    window_sigma: float
    shift: int = 0
    cubic: bool = False

    @property
    def reach_px(self) -> float:
        """Largest offset that it tries, as image motion, pixels of the level."""
        return self.step_px * (self.hypotheses // 2)

    @property
    def margin(self) -> int:
        """Cells around a tile that its result depends on."""
        window = len(gaussian_taps(self.window_sigma)) // 2
        return len(NORMALISATION_TAPS) // 2 + window + self.shift


def cell_bytes(views: int, hypotheses: int) -> int:
    """Memory that tensor operations need for a cell of a tile, bytes: projection, then agreement.

    Args:
        views: Of the level.
        hypotheses: That are tried at a time.
    """
    return _FLOAT_BYTES * (views * (_PROJECTION_MAPS + _AGREEMENT_MAPS * hypotheses) + 16)


def scratch_size(cells: int, views: int, hypotheses: int) -> int:
    """Numbers that the compiled kernels keep while they evaluate a tile.

    Args:
        cells: Of the tile with its margin.
        views: Of the level.
        hypotheses: That are tried at a time.
    """
    return cells * (8 * views + 2 * hypotheses + 8)


def working_bytes(plan: Pass, views: int, tile_side: int) -> int:
    """Memory that a worker needs for a square tile, bytes: scratch, outputs and the estimate."""
    around = (tile_side + 2 * (plan.margin + ROBUST_MARGIN)) ** 2
    outputs = plan.hypotheses + 4 * views + 1 + _ESTIMATED_MAPS
    return _FLOAT_BYTES * (
        scratch_size(around, views, plan.hypotheses) + outputs * tile_side**2 + around
    )


class TileEvaluator(Protocol):
    """Evaluates tiles of one level's grid.

    Attributes:
        workers: Tiles that may be evaluated at the same time, by as many threads.
        device: Where heights are expected.
    """

    workers: int
    device: torch.device

    def estimate(
        self,
        grid: Grid,
        tile: Tile,
        z: Tensor,
        occlusion: Occlusion | None,
        plan: Pass,
        step: float,
    ) -> Tensor | None:
        """Best height of every cell.

        Args:
            grid: Of the height map.
            tile: Which part.
            z: Its heights with a margin of ``plan.margin + ROBUST_MARGIN``, shape (H, W), metres.
            occlusion: What each view cannot see; None: it sees all.
            plan: What to try.
            step: Distance of neighbouring offsets, metres.

        Returns:
            The maps of :class:`~.refine.Estimate` in their order, shape (7, h, w), float32; None
            where fewer than two views see the tile.
        """

    def costs(
        self, grid: Grid, tile: Tile, surfaces: Sequence[Tensor], *, robust: bool
    ) -> tuple[Tensor, Tensor]:
        """Spread of the views on several surfaces.

        Args:
            grid: Of the level.
            tile: Which part.
            surfaces: Heights of the tile with a margin of ``COST_MARGIN``, each of shape (H, W),
                metres.
            robust: Leave out views that disagree.

        Returns:
            Spread averaged over the window (inf: unseen), and number of views, each of shape
            (K, h, w), float32.
        """


def create_evaluator(views: Sequence[LevelView], *, cubic: bool = False) -> TileEvaluator:
    """The fastest evaluator of a level on the views' device.

    Args:
        views: Of the level.
        cubic: Sample cubic splines: exact where it matters, at twice the cost of a bilinear sample.
    """
    if has_kernels(views[0].gray):
        from .fused import FusedEvaluator

        return FusedEvaluator(views, cubic=cubic)
    return TensorEvaluator(views, cubic=cubic)


def sampled_images(views: Sequence[LevelView], cubic: bool) -> list[Tensor]:
    """What an evaluator samples of each view, shape (1, 1, H, W): pixels, or coefficients."""
    return [spline_coefficients(view.gray) if cubic else view.gray for view in views]


class TensorEvaluator:
    """Evaluates tiles with tensor operations; see :class:`TileEvaluator`."""

    workers = 1  # the operations are parallel themselves

    def __init__(self, views: Sequence[LevelView], *, cubic: bool = False) -> None:
        self._views = views
        self._cameras = ProjectionRig([view.model for view in views])
        self._images = sampled_images(views, cubic)
        self._sampler = sample_spline if cubic else sample
        self.device = views[0].gray.device
        self._cells_at_once = at_once(self.device, _CELLS_AT_ONCE, cell_bytes(len(views), 1))

    def estimate(
        self,
        grid: Grid,
        tile: Tile,
        z: Tensor,
        occlusion: Occlusion | None,
        plan: Pass,
        step: float,
    ) -> Tensor | None:
        """See :meth:`TileEvaluator.estimate`."""
        margin, views, cameras = plan.margin, self._views, self._cameras
        outer = margin + ROBUST_MARGIN
        points = tile_points(grid, tile, z, outer)
        seen_by = resample(views, cameras, views_of(views, cameras, points), points)
        if seen_by is None:
            return None
        seen = seen_by.seen
        if occlusion is not None:
            hidden = [occlusion.of(view, grid, tile, outer) for view in seen_by.views]
            seen = seen * ~torch.stack(hidden)
        seen = seen_by.counted(seen)
        own = self._share(seen_by, seen, plan)
        weight = robust_weight(
            self._images, seen_by.views, seen_by.pixels[:, None], seen[:, None], self._sampler
        )
        seen_by, seen = seen_by.without_margin(ROBUST_MARGIN), shrink(seen, ROBUST_MARGIN)
        offsets = step * (torch.arange(plan.hypotheses, device=z.device) - plan.hypotheses // 2)
        moved = (
            pixels + offsets.to(z)[:, None, None, None] * rate
            for pixels, rate in zip(seen_by.pixels, seen_by.rate, strict=True)
        )
        result = agreement(self._images, seen_by.views, moved, weight, self._sampler)
        energy = result.contrast**2
        spread = _windowed(result.spread, energy, plan)
        move, least, curvature = _minimum(spread, step)
        inner = shrink(weight[:, 0], margin)
        total = inner.sum(0)
        several = (total > 1) & ((shrink(seen, margin) > 0).sum(0) >= 2)
        rate = shrink(seen_by.rate.movedim(-1, 1), margin)
        maps = (
            torch.where(several, shrink(z, outer) + move, torch.nan),
            least,
            curvature,
            _lever(rate, inner, total),
            total**2 / (inner**2).sum(0).clamp(min=1e-6),
            (inner >= 0.5).sum(0).to(z),
            own,
        )
        return torch.stack(maps)

    def _share(self, seen_by: Resampled, seen: Tensor, plan: Pass) -> Tensor:
        """Texture of a cell over that of all cells that its match depends on."""
        values = torch.stack(
            [
                self._sampler(self._images[view], pixels[None])[0, 0]
                for view, pixels in zip(seen_by.views, seen_by.pixels, strict=True)
            ]
        )
        right = values[:, 1:-1, 2:] - values[:, 1:-1, :-2]
        down = values[:, 2:, 1:-1] - values[:, :-2, 1:-1]
        known = seen[:, 1:-1, 2:] * seen[:, 1:-1, :-2] * seen[:, 2:, 1:-1] * seen[:, :-2, 1:-1]
        texture = (known * (right**2 + down**2)).sum(0)
        window = gaussian_taps(plan.window_sigma)
        around = smooth(smooth(texture, NORMALISATION_TAPS), window)
        local = shrink(smooth(texture, _OWN_TAPS), len(NORMALISATION_TAPS) // 2 - 1)
        local = shrink(local, len(window) // 2)
        return shrink(local / around.clamp(min=1e-20), ROBUST_MARGIN - 1 + plan.shift)

    def costs(
        self, grid: Grid, tile: Tile, surfaces: Sequence[Tensor], *, robust: bool
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`TileEvaluator.costs`."""
        at_once = max(1, self._cells_at_once // surfaces[0].numel())
        parts = [
            self._costs(grid, tile, torch.stack(list(surfaces[start : start + at_once])), robust)
            for start in range(0, len(surfaces), at_once)
        ]
        costs, counts = zip(*parts, strict=True)
        return torch.cat(costs), torch.cat(counts)

    def _costs(
        self, grid: Grid, tile: Tile, surfaces: Tensor, robust: bool
    ) -> tuple[Tensor, Tensor]:
        views, cameras, margin = self._views, self._cameras, _COST_INNER_MARGIN
        points = torch.stack([tile_points(grid, tile, z, COST_MARGIN) for z in surfaces])
        seen_by = resample(views, cameras, views_of(views, cameras, points), points)
        if seen_by is None:
            shape = (len(surfaces), tile.rows, tile.columns)
            return surfaces.new_full(shape, torch.inf), surfaces.new_zeros(shape)
        seen = seen_by.counted(seen_by.seen)
        inner = seen_by.without_margin(ROBUST_MARGIN)
        shown = shrink(seen, ROBUST_MARGIN)
        weight = shown
        if robust:
            weight = robust_weight(self._images, seen_by.views, seen_by.pixels, seen, self._sampler)
        result = agreement(self._images, inner.views, inner.pixels, weight, self._sampler)
        energy = result.contrast**2
        above = smooth(result.spread * energy, COST_WINDOW_TAPS)
        below = smooth(energy, COST_WINDOW_TAPS)
        count = shrink(shown, margin).sum(0)
        known = (below > 0) & (count >= 2) & (shrink(weight, margin).sum(0) > 1)
        return torch.where(known, above / below.clamp(min=1e-20), torch.inf), count


def _windowed(spread: Tensor, energy: Tensor, plan: Pass) -> Tensor:
    """Average over the window, weighted by texture energy; inf where there is none."""
    taps = gaussian_taps(plan.window_sigma)
    above, below = smooth(spread * energy, taps), smooth(energy, taps)
    averaged = torch.where(below > 0, above / below.clamp(min=1e-20), torch.inf)
    if plan.shift:
        side = 2 * plan.shift + 1
        averaged = -torch.nn.functional.max_pool2d(-averaged[None], side, stride=1)[0]
    return averaged


def _minimum(spread: Tensor, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """Parabola through the least of the hypotheses and its neighbours.

    Returns:
        Motion in metres (NaN without a minimum), least spread, curvature in 1/m²; each (h, w).
    """
    count = len(spread)
    best = spread.argmin(0).clamp(1, count - 2)[None]
    here = spread.gather(0, best)[0]
    before, after = spread.gather(0, best - 1)[0], spread.gather(0, best + 1)[0]
    bend = before - 2 * here + after
    convex = torch.isfinite(bend) & (bend > 0)
    fraction = torch.where(convex, (before - after) / (2 * bend), torch.nan).clamp(-1, 1)
    least = (here - 0.25 * (before - after) * fraction).clamp(min=0)
    move = (best[0] - count // 2 + fraction) * step
    return move, least.nan_to_num(torch.inf), torch.where(convex, bend / step**2, 0.0)


def _lever(rate: Tensor, weight: Tensor, total: Tensor) -> Tensor:
    """How strongly height moves the views' pixels against each other, px per metre, (h, w)."""
    mean = (weight[:, None] * rate).sum(0) / total.clamp(min=1e-6)
    return ((weight[:, None] * (rate - mean) ** 2).sum((0, 1))).sqrt()
