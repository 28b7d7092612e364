"""A height map as a cloud."""

import torch

from ..maps import grid_normals
from ..types import HeightMap, PointCloud

_NORMAL_RADIUS = 1
"""Cells are already as coarse as the surface is known."""


def cloud_from_height_map(height_map: HeightMap) -> PointCloud:
    """One point per known cell, in row-major order.

    Args:
        height_map: Height field on a horizontal grid.

    Returns:
        The cloud, float32: normals by central differences, pointing up to the cameras (negative Z);
        colours, confidence, sigma and view counts are the cells'.
    """
    x, y = height_map.grid_xy()
    z = height_map.z
    points = torch.stack([x.to(z.device), y.to(z.device), z.double()], dim=-1)
    normals = grid_normals(points, points.new_tensor([0.0, 0.0, -1.0]), radius=_NORMAL_RADIUS)
    known = torch.isfinite(z)
    return PointCloud(
        points=points[known].float(),
        colors=height_map.color[known],
        normals=normals[known].float(),
        confidence=height_map.confidence[known],
        sigma=height_map.sigma[known],
        view_count=height_map.view_count[known].int(),
    )
