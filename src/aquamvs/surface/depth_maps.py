"""Depth maps of all cameras, derived from a height map."""

from __future__ import annotations

import torch

from ..pixels import pixel_grid
from ..types import DepthMap, HeightMap, UndistortedViews, View
from .grid import Grid
from .visibility import ray_depth_of_surface

_ROWS_AT_ONCE = 128
"""Image rows whose rays are followed together: bounds memory."""


def depth_maps_from_surface(height_map: HeightMap, views: UndistortedViews) -> tuple[DepthMap, ...]:
    """Meet every pixel's ray with the surface; what the surface hides stays hidden.

    Args:
        height_map: From the surface sweep.
        views: The frame's views.

    Returns:
        One map per reference view. Sigma is the height's, taken along the ray.
    """
    grid = Grid(height_map.x0, height_map.y0, height_map.spacing, *height_map.z.shape)
    with torch.inference_mode():
        return tuple(_depth_map(height_map, grid, view) for view in views.references)


def _depth_map(height_map: HeightMap, grid: Grid, view: View) -> DepthMap:
    depth, confidence, sigma = [], [], []
    pixels = pixel_grid(view.size, device=height_map.z.device)
    for start in range(0, len(pixels), _ROWS_AT_ONCE):
        rows = pixels[start : start + _ROWS_AT_ONCE]
        mask = view.mask[start : start + _ROWS_AT_ONCE]
        part = ray_depth_of_surface(height_map.z, grid, view.model, rows)
        part = torch.where(mask, part, torch.nan)
        origin, direction = view.model.cast_ray(rows)
        at = origin + part[..., None] * direction
        known = torch.isfinite(part)
        column = ((at[..., 0] - grid.x0) / grid.spacing).round().nan_to_num(0)
        row = ((at[..., 1] - grid.y0) / grid.spacing).round().nan_to_num(0)
        cell = (row.long().clamp(0, grid.rows - 1), column.long().clamp(0, grid.columns - 1))
        depth.append(part)
        confidence.append(torch.where(known, height_map.confidence[cell], 0.0))
        sigma.append(torch.where(known, height_map.sigma[cell] / direction[..., 2], torch.nan))
    return DepthMap(
        view.name,
        depth=torch.cat(depth),
        confidence=torch.cat(confidence),
        sigma=torch.cat(sigma),
        K=view.model.K.double(),
    )
