"""From planes to depths: fractions of pixels, sides of jumps, smoothing, and what to leave out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..numerics.filters import isolated, local_rms, scatter, smooth_pairs, specks
from ..numerics.planes import settle
from .patches import PatchMatcher, PlaneMap, RayField, Window, combine
from .selection import best_half_mean

_SUB_STEP_PX = 0.5
"""Image motion between the three depths of the parabola."""
_LEAST_SHARE = 0.05
"""Sources with a smaller weight stay out of the parabola."""
_SMALL_WINDOW = Window.gaussian(2, sigma=1.0)
"""What judges and measures pixels beside steps: half as wide as the usual window. A box of 3 x 3
decides contests as well, but measures with more noise, by which boxes lost what bowers gained."""
_JUMP_PX = 3.0
"""Image motion between two surfaces that is a jump, behind which some sources do not see."""
_STEP_PX, _STEP_NOISE = 0.5, 10.0
"""Two planes near a pixel compete for it if they differ there by this image motion (px) and by this
many times the noise of its depth, which is as far as the extremes of a neighbourhood differ on
faint ground."""
_STEP_RADIUS = 4
"""Half the side of the neighbourhood searched for other planes: a window's reach and one more."""
_DECISIVE = 0.15
"""Lead in cost that the winner of a contest at a jump needs; the pixel is left out otherwise."""
_SIGNIFICANT = 3.0
"""A depth difference above this many times the noise is relief, which smoothing leaves alone."""
_ROUGHEST_PX = 3.0
"""No difference above this is noise, px of image motion."""
_SCATTERED, _FLATTEST_PX = 6.0, 0.5
"""Differences above this many times the noise, and above this much image motion (px), are no
scatter of neighbours."""
_SMOOTHING_SIGMA = 1.5
"""Smoothing of the result, px: as wide as the matching window, whose detail is noise."""
_ERROR_OF_SMOOTHED = 0.81
"""What makes depths settle, over the noise that independent residuals would leave before smoothing:
with more, bowers lose relief, and with less, faint texture keeps noise."""
_SIGMA_FLOOR_PX = 0.02
_NOISE_SCALE, _SCATTER_SCALE, _PLANES_SCALE = 1.0, 1.4, 0.7
"""Error of a pixel over its noise, the reference's own included; over the roughness that smoothing
took away; and of what it takes from planes over what settling says: together they bring two views
each of bower, box and low-texture scenes of seeds 0 to 2 to 0.65 to 0.71 within one sigma."""
_LOST_SIGMA = 4.0
"""Gaussian window in which lost relief is told from noise, px: as wide as what one match sees."""
_LOST_NOISE = 0.25
"""What of the noise is in what another averaging takes away, smoothed: with 0.6 without smoothing,
errors that follow the texture grew by a tenth, with 0.2 more cells beside boxes were off."""
_AVERAGED = 2.0
"""Times that depths have been averaged with about the same window: by matching and by smoothing.
With 2.5, gravel of another renderer was overdone."""
_LOOSEST_MATCH_PX = 0.5
"""A minimum so flat or so noisy that it fixes the image motion no better is no match."""
_LEAST_ISLAND = 50
"""Cut-off pieces of fewer pixels are chance matches: about the area of one matching window."""


@dataclass(frozen=True, slots=True)
class Depths:
    """Depths of an image's pixels and what is known of their quality; all of shape (H, W).

    Attributes:
        depth: Ray depth, metres; NaN where unknown.
        sigma: 1-sigma uncertainty of it, metres; NaN where unknown.
        confidence: Weighted NCC, in [0, 1]; 0 where unknown.
    """

    depth: Tensor
    sigma: Tensor
    confidence: Tensor


@dataclass(frozen=True, slots=True)
class _Optimum:
    """Minimum of the cost along each ray, all of shape (P,).

    Attributes:
        depth: Of the parabola's vertex, metres; NaN where there is no minimum.
        cost: At the middle depth.
        noise: Of the depth if residuals were independent from pixel to pixel, metres.
        whole_noise: Likewise, with the reference's own share, which is in all sources' residuals
            and does not average out.
    """

    depth: Tensor
    cost: Tensor
    noise: Tensor
    whole_noise: Tensor


def finish(
    matcher: PatchMatcher,
    planes: PlaneMap,
    weights: Tensor,
    motion: Tensor,
    window: Window,
) -> Depths:
    """Final depths of planes that were optimised at the full resolution.

    Args:
        matcher: At the full resolution.
        planes: One per pixel.
        weights: Of the sources, shape (P, S).
        motion: Image motion, px per metre of ray depth, shape (P,).
        window: The matching window of ``matcher``.
    """
    width, height = matcher.rays.size
    found = _sub_step(matcher, matcher.rays.pixels(), planes, weights, motion, window)
    depth = _continued(matcher.rays, found.depth, planes.normal, motion, window)
    small = matcher.with_window(_SMALL_WINDOW)
    depth = _beside_steps(small, depth, planes.normal, found.noise, weights, motion)
    depth, motion, noise, whole_noise, cost = (
        values.reshape(height, width)
        for values in (depth, motion, found.noise, found.whole_noise, found.cost)
    )
    floor = _SIGMA_FLOOR_PX / motion
    error = torch.hypot(_ERROR_OF_SMOOTHED * noise, floor)
    noise, roughest = noise.nan_to_num(0.0), _ROUGHEST_PX / motion
    smooth = smooth_pairs(depth, (_SIGNIFICANT * noise).minimum(roughest), _SMOOTHING_SIGMA)
    # Neighbours scatter by their errors, and by relief that windows do not resolve. Which of the
    # two it is does not show: it widens sigma, but makes no depth settle.
    limit = (_SCATTERED * noise).maximum(_FLATTEST_PX / motion).minimum(roughest)
    roughness = depth - smooth_pairs(depth, limit, _SMOOTHING_SIGMA)
    shown = (_SCATTER_SCALE * scatter(roughness).nan_to_num(0.0)).maximum(
        _NOISE_SCALE * whole_noise
    )
    settled, sigma = _settled(matcher.rays, smooth, error, torch.hypot(shown, floor))
    settled = _with_lost_relief(settled, whole_noise, limit)
    confidence = (1 - cost).clamp(0, 1)
    depth = torch.where(
        torch.isfinite(depth) & (sigma * motion < _LOOSEST_MATCH_PX), settled, torch.nan
    )
    jump = _JUMP_PX / float(motion.median())
    depth = torch.where(isolated(depth, jump), torch.nan, depth)
    depth = torch.where(specks(depth, jump, _LEAST_ISLAND), torch.nan, depth)
    known = torch.isfinite(depth)
    return Depths(
        depth,
        torch.where(known, sigma, torch.nan),
        torch.where(known, confidence, 0.0),
    )


def _settled(rays: RayField, depth: Tensor, error: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Ray depths and their sigma, combined with the planes around them, shape (H, W), metres.

    Planes are planes of the inverse distance too, which is what is settled.

    Args:
        rays: Of the image.
        depth: Smoothed, shape (H, W), metres.
        error: That makes depths settle, same shape, metres.
        shown: That counts for sigma, likewise.
    """
    surface, rate = (values.reshape(depth.shape) for values in rays.apparent())
    inverse = 1 / (surface + rate * depth)
    steepness = rate * inverse**2
    slope = steepness.reshape(-1) * rays.footprint(depth.reshape(-1))
    settled = settle(inverse, (steepness * error) ** 2, float(slope.nanmedian()))
    planes = settled.fit + settled.missed
    variance = settled.own * (shown / error) ** 2 + _PLANES_SCALE**2 * planes
    return (1 / settled.height - surface) / rate, variance.sqrt() / (rate * settled.height**2)


def _with_lost_relief(depth: Tensor, noise: Tensor, limit: Tensor) -> Tensor:
    """Depths with the relief that windows have smoothed, as far as it stands out of the noise.

    Windows find relief averaged, and smoothing averages it again. What one more averaging takes
    away is nearly what each of these took (van Cittert, Zeitschrift für Physik 69, 1931), and
    noise; but nothing that is finer than windows, so that smoothing it takes mostly noise. The
    share of relief in it (Wiener) goes back.

    Args:
        depth: shape (H, W), metres; NaN where unknown.
        noise: Of each, same shape, metres; NaN where unknown.
        limit: Greatest difference of neighbours that averaging passes over, same shape, metres.
    """
    lost = depth - smooth_pairs(depth, limit, _SMOOTHING_SIGMA)
    lost = smooth_pairs(lost, limit, _SMOOTHING_SIGMA)
    found, usual = (local_rms(x, torch.isfinite(x), _LOST_SIGMA) for x in (lost, noise))
    relief = (1 - (_LOST_NOISE * usual / found) ** 2).clamp(min=0).nan_to_num(0.0)
    return depth + _AVERAGED * relief * lost


def _sub_step(
    matcher: PatchMatcher,
    pixels: Tensor,
    planes: PlaneMap,
    weights: Tensor,
    motion: Tensor,
    window: Window,
) -> _Optimum:
    """Vertex of the parabola through three depths, the normal held fixed.

    Args:
        matcher: Whose window is ``window``.
        pixels: Flat indices, shape (P,).
        planes: One for each of these pixels; likewise ``weights`` and ``motion``.
        weights: Of the sources, shape (P, S).
        motion: Image motion, px per metre of ray depth, shape (P,).
        window: The matching window.
    """
    step = _SUB_STEP_PX / motion
    depth = torch.stack([planes.depth - step, planes.depth, planes.depth + step])
    normal = planes.normal.expand(3, -1, 3)
    asked = weights >= _LEAST_SHARE
    costs = matcher.costs(pixels, depth, normal, asked)
    weights = torch.where(asked & torch.isfinite(costs).all(-1), weights, 0.0)
    before, here, after = combine(costs, weights).unbind(1)
    bend = before - 2 * here + after
    offset = (before - after) / (2 * bend)
    fixed = (bend > 0) & (offset.abs() < 1)
    total, square = weights.sum(1), (weights * weights).sum(1)
    sources = total * total / square.clamp(min=1e-6)
    # The vertex has the variance of the mean residual over the curvature.
    noise = step * (2 * here / (bend * window.size * sources)).sqrt()
    vertex = torch.where(fixed, planes.depth + offset * step, torch.nan)
    # Half of a residual's variance is the reference's, the same for all sources.
    return _Optimum(vertex, here, noise, noise * ((1 + sources) / 2).sqrt())


def _continued(
    rays: RayField, depth: Tensor, normal: Tensor, motion: Tensor, window: Window
) -> Tensor:
    """Depths, shape (P,), with the image's border on the planes of the first whole windows.

    A window cut by the border lies on one side of its centre, and errs there with its normal.
    """
    width, height = rays.size
    radius = min(window.radius, (width - 1) // 2, (height - 1) // 2)
    pixels = rays.pixels()
    row = (pixels // width).clamp(radius, height - 1 - radius)
    column = (pixels % width).clamp(radius, width - 1 - radius)
    inner = row * width + column
    plane = rays.meet(pixels, rays.points(inner, depth[inner]), normal[inner])
    near = ((plane - depth) * motion).abs() < _JUMP_PX
    return torch.where(near & (inner != pixels), plane, depth)


def _beside_steps(
    small: PatchMatcher,
    depth: Tensor,
    normal: Tensor,
    noise: Tensor,
    weights: Tensor,
    motion: Tensor,
) -> Tensor:
    """Give the pixels beside a step to the surface that fits a small window, and measure with it.

    A matching window beside a step follows the side with more texture, whichever side its centre is
    on, and levels what is narrower than itself, such as a stone. The nearest and the farthest plane
    around compete with the pixel's own.

    Returns:
        Depths, shape (P,), metres; NaN where the contest of two sides of a jump was close.
    """
    rays = small.rays
    width, height = rays.size
    pixels = rays.pixels()
    level = (depth * rays.descent(pixels)).reshape(1, 1, height, width)
    side, radius = 2 * _STEP_RADIUS + 1, _STEP_RADIUS
    rivals = [
        functional.max_pool2d(
            torch.where(torch.isfinite(level), sign * level, -torch.inf),
            side,
            1,
            radius,
            return_indices=True,
        )[1].reshape(-1)
        for sign in (-1, 1)
    ]
    nearest, farthest = (
        rays.meet(pixels, rays.points(rival, depth[rival]), normal[rival]) for rival in rivals
    )
    gap = (farthest - nearest) * motion
    # Across a jump, even the noisiest surfaces are two.
    least = (_STEP_NOISE * noise * motion).clamp(_STEP_PX, _JUMP_PX)
    index = (torch.isfinite(depth) & (gap > least)).nonzero()[:, 0]
    depths = torch.stack([depth[index], nearest[index], farthest[index]])
    normals = torch.stack([normal[at[index]] for at in (pixels, *rivals)])
    winner, lead = _contest(small, index, depths, normals, motion[index])
    chosen = winner[None]
    plane = PlaneMap(
        depths.gather(0, chosen)[0],
        normals.gather(0, chosen[..., None].expand(1, -1, 3))[0],
        lead,
    )
    found = _sub_step(small, index, plane, weights[index], motion[index], _SMALL_WINDOW)
    measured = torch.where(torch.isfinite(found.depth), found.depth, plane.depth)
    unclear = (gap[index] > _JUMP_PX) & (lead <= _DECISIVE)
    depth = depth.clone()
    depth[index] = torch.where(unclear, torch.nan, measured)
    return depth


def _contest(
    small: PatchMatcher, index: Tensor, depths: Tensor, normals: Tensor, motion: Tensor
) -> tuple[Tensor, Tensor]:
    """Which of K planes fits each of N pixels best, and its lead in cost over other surfaces.

    Args:
        small: With a small window.
        index: The pixels, shape (N,).
        depths: Of their planes, shape (K, N), metres.
        normals: Likewise, shape (K, N, 3).
        motion: Image motion, px per metre of ray depth, shape (N,).

    Returns:
        Each of shape (N,).
    """
    width, height = small.rays.size
    everyone = torch.ones(len(index), len(small.sources), dtype=torch.bool, device=depths.device)
    costs = small.costs(index, depths, normals, everyone)
    # The better half of the sources: the others may not see what is behind the step.
    score = 1 - best_half_mean((1 - costs).movedim(1, 0))
    score = _shared(score, index, (height, width))
    least, winner = score.min(1)
    won = depths.gather(0, winner[None])[0]
    other = ((depths - won) * motion).abs() > _JUMP_PX / 2
    return winner, torch.where(other.T, score, torch.inf).amin(1) - least


def _shared(score: Tensor, index: Tensor, shape: tuple[int, int]) -> Tensor:
    """Scores of some pixels, averaged over those of them in a 3 x 3 neighbourhood, shape (N, K)."""
    count = score.shape[1]
    planes = torch.zeros(count + 1, shape[0] * shape[1], dtype=score.dtype, device=score.device)
    planes[:count, index] = score.T
    planes[count, index] = 1.0
    mean = functional.avg_pool2d(planes.reshape(1, -1, *shape), 3, 1, 1).reshape(count + 1, -1)
    return (mean[:count, index] / mean[count, index]).T
