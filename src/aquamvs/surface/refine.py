"""One pass over a height map: move every cell along Z to where its views agree best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .consistency import (
    NORMALISATION_TAPS,
    ROBUST_MARGIN,
    agreement,
    resample,
    robust_weight,
)
from .filters import gaussian_taps, pad_edges, pad_linear, shrink, smooth
from .grid import Grid
from .pyramid import LevelView
from .tiles import split, tile_points, views_of

TILE_SIDE = 160
"""Cells along a tile: a tile's working set stays near the processor's cache."""


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
    """

    hypotheses: int
    step_px: float
    window_sigma: float
    shift: int = 0

    @property
    def margin(self) -> int:
        """Cells around a tile that its result depends on."""
        window = len(gaussian_taps(self.window_sigma)) // 2
        return len(NORMALISATION_TAPS) // 2 + window + self.shift


@dataclass(frozen=True, slots=True)
class Estimate:
    """A height map and what is known of its quality; each of shape (rows, columns).

    Attributes:
        z: Height, metres; NaN where fewer than two views see the cell or no minimum was found.
        spread: At the minimum: one minus the mean pairwise ZNCC.
        curvature: Second derivative of the spread with respect to Z, 1/m².
        lever: Root of Σ_c |r_c - mean r|² over the views, r the pixel motion per metre, px/m.
        effective_views: (Σ w)² / Σ w² of the views' weights.
        view_count: Views with at least half a weight.
    """

    z: Tensor
    spread: Tensor
    curvature: Tensor
    lever: Tensor
    effective_views: Tensor
    view_count: Tensor


def refine(
    views: Sequence[LevelView],
    grid: Grid,
    z: Tensor,
    hidden: Sequence[Tensor] | None,
    plan: Pass,
    step: float,
    advance: Callable[[], None],
) -> Estimate:
    """Run one pass.

    Args:
        views: All views of the level.
        grid: Of the height map.
        z: Heights without gaps, shape (rows, columns), metres.
        hidden: Per view, cells that it cannot see, shape (rows, columns), bool; None: none.
        plan: What to try.
        step: Distance of neighbouring offsets, metres.
        advance: Called after every tile.

    Returns:
        The moved map.
    """
    margin = plan.margin
    outer = margin + ROBUST_MARGIN
    padded = pad_linear(z, outer)
    shown = [pad_edges((~blocked).to(z), outer) for blocked in hidden or ()]
    offsets = step * (torch.arange(plan.hypotheses, device=z.device) - plan.hypotheses // 2).to(z)
    maps = [torch.full_like(z, torch.nan)] + [torch.zeros_like(z) for _ in range(5)]
    for tile in split(grid, TILE_SIDE):
        points = tile_points(grid, tile, padded[tile.cells_with_margin(outer)], outer)
        seen_by = resample(views, views_of(views, points), points)
        if seen_by is not None:
            seen = seen_by.seen
            if shown:
                around = tile.cells_with_margin(outer)
                seen = seen * torch.stack([shown[index][around] for index in seen_by.views])
            weight = robust_weight(views, seen_by.views, seen_by.pixels[:, None], seen[:, None])
            seen_by, seen = seen_by.without_margin(ROBUST_MARGIN), shrink(seen, ROBUST_MARGIN)
            moved = (
                pixels + offsets[:, None, None, None] * rate
                for pixels, rate in zip(seen_by.pixels, seen_by.rate, strict=True)
            )
            result = agreement(views, seen_by.views, moved, weight)
            spread = _windowed(result.spread, result.contrast**2, plan)
            move, least, curvature = _minimum(spread, step)
            inner = shrink(weight[:, 0], margin)
            total = inner.sum(0)
            several = (total > 1) & ((shrink(seen, margin) > 0).sum(0) >= 2)
            rate = shrink(seen_by.rate.movedim(-1, 1), margin)
            values = (
                torch.where(several, z[tile.cells] + move, torch.nan),
                least,
                curvature,
                _lever(rate, inner, total),
                total**2 / (inner**2).sum(0).clamp(min=1e-6),
                (inner >= 0.5).sum(0).to(z),
            )
            for target, value in zip(maps, values, strict=True):
                target[tile.cells] = value
        advance()
    height, least, curvature, lever, effective, count = maps
    return Estimate(height, least, curvature, lever, effective, count.int())


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


def motion_per_metre(views: Sequence[LevelView], grid: Grid, z: Tensor) -> float:
    """Median over the grid of the largest motion of a view against the views' mean, px per metre.

    Args:
        views: All views of the level.
        grid: Of the height map.
        z: Heights, shape (rows, columns), metres.

    Returns:
        0 if no two views see a common probe.
    """
    rows = torch.linspace(0, grid.rows - 1, min(16, grid.rows)).round().long()
    columns = torch.linspace(0, grid.columns - 1, min(16, grid.columns)).round().long()
    x, y = grid.axes(z)
    height = z[rows][:, columns]
    points = torch.stack(
        [x[columns].expand(height.shape), y[rows][:, None].expand(height.shape), height], dim=-1
    )
    rates = []
    for view in views:
        pixels, rate, valid = view.model.project_along(points, points.new_tensor([0.0, 0.0, 1.0]))
        limit = pixels.new_tensor(view.size) - 1
        inside = valid & ((pixels >= 0) & (pixels <= limit)).all(-1)
        rates.append(torch.where(inside[..., None], rate, torch.nan))
    table = torch.stack(rates)
    deviation = (table - table.nanmean(0)).norm(dim=-1).nan_to_num(0.0).amax(0)
    moving = deviation[deviation > 0]
    return float(moving.median()) if len(moving) else 0.0
