"""Depth maps of all cameras, derived from a height map."""

from __future__ import annotations

import torch
from torch import Tensor

from ..numerics.acceleration import at_once, has_kernels, in_parallel, worker_count
from ..pixels import pixel_grid
from ..types import DepthMap, HeightMap, UndistortedViews, View
from .grid import Grid
from .visibility import SurfaceRays

_ROWS_AT_ONCE = 128
"""Image rows whose rays tensor operations follow together on a processor: bounds memory."""
_RAY_BYTES = 240
"""Memory that tensor operations need for each of them."""


def depth_maps_from_surface(
    height_map: HeightMap, views: UndistortedViews, *, workers: int | None = None
) -> tuple[DepthMap, ...]:
    """Meet every pixel's ray with the surface; what the surface hides stays hidden.

    Args:
        height_map: From the surface sweep.
        views: The frame's views.
        workers: Most maps that are made at a time; None: as many as there are threads.

    Returns:
        One map per reference view. Sigma is the height's, taken along the ray.

    Example:
        >>> from aquamvs.surface import depth_maps_from_surface
        >>> depth_maps = depth_maps_from_surface(made.height_map, views)
        >>> len(depth_maps) == len(views.references)
        True
    """
    grid = Grid(height_map.x0, height_map.y0, height_map.spacing, *height_map.z.shape)
    with torch.inference_mode():
        rays = SurfaceRays(height_map.z, grid)
        return tuple(
            in_parallel(
                lambda view: _depth_map(height_map, rays, view),
                views.references,
                worker_count(height_map.z, workers),
            )
        )


def _depth_map(height_map: HeightMap, rays: SurfaceRays, view: View) -> DepthMap:
    maps = height_map.z.new_empty(3, *view.mask.shape)
    with torch.inference_mode():
        if has_kernels(height_map.z):
            rays.draw(view, height_map.confidence, height_map.sigma, maps)
        else:
            _draw(height_map, rays, view, maps)
    return DepthMap(
        view.name, depth=maps[0], confidence=maps[1], sigma=maps[2], K=view.model.K.double()
    )


def _draw(height_map: HeightMap, rays: SurfaceRays, view: View, maps: Tensor) -> None:
    """:meth:`SurfaceRays.draw` by tensor operations."""
    confidence, sigma = height_map.confidence.flatten(), height_map.sigma.flatten()
    pixels = pixel_grid(view.size, device=height_map.z.device)
    count = at_once(pixels.device, _ROWS_AT_ONCE, _RAY_BYTES * view.size[0])
    for start in range(0, len(pixels), count):
        rows = slice(start, start + count)
        origin, direction = view.model.cast_ray(pixels[rows])
        depth, cell = rays.meet(origin, direction)
        known = view.mask[rows] & (cell >= 0)
        cell = cell.clamp(min=0)
        maps[0, rows] = torch.where(known, depth, torch.nan)
        maps[1, rows] = torch.where(known, confidence[cell], 0.0)
        maps[2, rows] = torch.where(known, sigma[cell] / direction[..., 2], torch.nan)
