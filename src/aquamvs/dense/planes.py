"""First planes: a sweep of horizontal planes at the coarsest resolution, and seeds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..numerics.filters import fill_gaps
from ..numerics.pyramid import LevelView, inside_images
from ..projection import ProjectionRig
from .patches import PatchMatcher, RayField
from .selection import best_half_mean

SWEEP_STEP_PX = 1.0
"""Largest image motion between neighbouring planes, px of the coarsest level."""
_STRIDE = 2
"""The sweep judges every second pixel and row; the checkerboard passes fill in the others."""
_GOOD_SEED = 0.25
"""A seed's plane that costs less is taken as it is, and its pixel is not swept."""
_PLANES_AT_ONCE = 8
_PROBE_STRIDE = 5
_LEAST_DEPTH = 1e-3
"""Planes start so far below the water surface, metres."""


def image_motion(
    rays: RayField, sources: Sequence[LevelView], pixels: Tensor, depth: Tensor
) -> Tensor:
    """Pixels by which a point moves in each source per metre of ray depth.

    Args:
        rays: Of the reference view.
        sources: The S other views.
        pixels: Flat indices, shape (N,).
        depth: Their ray depth, shape (N,), metres.

    Returns:
        shape (S, N, 2), px per metre; NaN where a source does not see the point.
    """
    points = rays.points(pixels, depth)
    cameras = ProjectionRig([source.model for source in sources])
    where, rate, valid = cameras.project_along(points, rays.direction[pixels])
    seen = valid & inside_images(sources, where)
    return torch.where(seen[..., None], rate, torch.nan)


def sweep_planes(
    matcher: PatchMatcher,
    depth_range: tuple[float, float],
    *,
    count: int | None = None,
    prior: Tensor | None = None,
) -> Tensor | None:
    """Ray depth of the best plane parallel to the water surface for every pixel.

    Collins (CVPR 1996) with the better half of the sources (Kang, Szeliski and Chai, CVPR 2001).

    Args:
        matcher: At the coarsest resolution.
        depth_range: Least and greatest ray depth, metres.
        count: Number of planes; None: as many as steps of a pixel need.
        prior: Expected ray depth, shape (P,), metres. Where its plane fits well, it is taken, and
            no other is tried.

    Returns:
        shape (P,), metres; None if no source sees any plane.
    """
    rays = matcher.rays
    width, height = rays.size
    rows = torch.arange(_STRIDE // 2, height, _STRIDE, device=rays.rays.device)
    columns = torch.arange(_STRIDE // 2, width, _STRIDE, device=rays.rays.device)
    pixels = (rows[:, None] * width + columns).reshape(-1)
    levels = _plane_levels(matcher, pixels[::_PROBE_STRIDE], depth_range, count)
    if levels is None:
        return None
    descent = rays.descent(pixels)
    level = torch.full_like(descent, torch.nan)
    cost = torch.full_like(descent, torch.inf)
    wanted = torch.ones_like(pixels, dtype=torch.bool)
    if prior is not None:
        level = prior[pixels] * descent
        cost = _sweep_cost(matcher, pixels, prior[pixels][None])[0]
        wanted = ~(cost < _GOOD_SEED)
    index = wanted.nonzero()[:, 0]
    for group in torch.split(levels, _PLANES_AT_ONCE):
        costs = _sweep_cost(matcher, pixels[index], group[:, None] / descent[index])
        least, which = costs.min(0)
        better = least < cost[index]
        cost[index[better]] = least[better]
        level[index[better]] = group[which[better]]
    nearest_row = (torch.arange(height) // _STRIDE).clamp(max=len(rows) - 1)
    nearest_column = (torch.arange(width) // _STRIDE).clamp(max=len(columns) - 1)
    known = fill_gaps(level.reshape(len(rows), len(columns)))
    return known[nearest_row][:, nearest_column].reshape(-1) / rays.descent(rays.pixels())


def _sweep_cost(matcher: PatchMatcher, pixels: Tensor, depth: Tensor) -> Tensor:
    """Cost of level planes by the better half of the sources, shape (K, N)."""
    normal = matcher.rays.up.expand(*depth.shape, 3)
    asked = torch.ones(len(pixels), len(matcher.sources), dtype=torch.bool, device=pixels.device)
    costs = matcher.costs(pixels, depth, normal, asked)
    score = 1 - best_half_mean((1 - costs).movedim(1, 0)).T
    return torch.where(torch.isfinite(costs).any(1).T, score, torch.inf)


def _plane_levels(
    matcher: PatchMatcher,
    probes: Tensor,
    depth_range: tuple[float, float],
    count: int | None,
) -> Tensor | None:
    """Depths of the planes below the water surface, shape (K,), metres, nearest first."""
    rays = matcher.rays
    descent = rays.descent(probes)
    near = max(depth_range[0] * float(descent.min()), _LEAST_DEPTH)
    far = depth_range[1] * float(descent.max())
    levels = [near]
    motion = 0.0
    while levels[-1] < far:
        motion = _largest_motion(matcher, probes, levels[-1] / descent, descent) or motion
        if motion == 0:
            return None
        levels.append(levels[-1] + SWEEP_STEP_PX / motion)
    if count is not None:
        share = torch.linspace(0, len(levels) - 1, count)
        table = torch.tensor(levels)
        below = share.long().clamp(max=len(levels) - 2)
        levels = (table[below] + (share - below) * (table[below + 1] - table[below])).tolist()
    return torch.tensor(levels, dtype=torch.float32, device=probes.device)


def _largest_motion(matcher: PatchMatcher, probes: Tensor, depth: Tensor, descent: Tensor) -> float:
    """Pixels per metre of plane depth that few pixels exceed; 0 where no source looks."""
    motion = image_motion(matcher.rays, matcher.sources, probes, depth).norm(dim=-1) * descent
    seen = motion[torch.isfinite(motion)]
    return float(seen.quantile(0.95)) if len(seen) else 0.0


def prior_depth(rays: RayField, view: LevelView, seeds: Tensor) -> Tensor | None:
    """Expected ray depth of every pixel from points on the surface, shape (P,), metres.

    Every pixel that points project to takes the mean of their depths below the water; the others
    are interpolated (pull and push through a pyramid).

    Args:
        rays: Of the view's pixels.
        view: Reference view at the coarsest level.
        seeds: World points, shape (M, 3), metres.

    Returns:
        The prior; None if the view sees no seed.
    """
    model = view.model
    seeds = seeds.to(device=rays.rays.device, dtype=torch.float32)
    where, valid = model.project(seeds)
    width, height = view.size
    column, row = where.round().unbind(-1)
    seen = valid & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if not bool(seen.any()):
        return None
    at = row[seen].long() * width + column[seen].long()
    below = -(seeds[seen] @ rays.up) + float(model.camera_center @ rays.up.double())
    below = below - float(model.camera_height)
    total = torch.zeros(width * height, device=at.device).index_add_(0, at, below)
    number = torch.zeros_like(total).index_add_(0, at, torch.ones_like(below))
    level = torch.where(number > 0, total / number, torch.nan).reshape(height, width)
    return fill_gaps(level).reshape(-1) / rays.descent(rays.pixels())
