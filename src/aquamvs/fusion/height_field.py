"""A height map as a cloud."""

import torch

from ..maps import height_normals
from ..types import HeightMap, PointCloud


def cloud_from_height_map(height_map: HeightMap) -> PointCloud:
    """One point per known cell, in row-major order.

    Args:
        height_map: Height field on a horizontal grid.

    Returns:
        The cloud, float32: normals by central differences, pointing up to the cameras (negative Z);
        colours, confidence, sigma and view counts are the cells'.

    Example:
        >>> from aquamvs.fusion import cloud_from_height_map
        >>> cloud = cloud_from_height_map(made.height_map)
        >>> len(cloud) == int(made.height_map.z.isfinite().sum())
        True
        >>> bool((cloud.normals[:, 2] < 0).all())
        True
    """
    x, y = height_map.grid_xy()
    z = height_map.z
    normals = height_normals(z, height_map.spacing)
    known = torch.isfinite(z)
    points = torch.stack([x.to(z.device)[known], y.to(z.device)[known], z.double()[known]], dim=-1)
    return PointCloud(
        points=points.float(),
        colors=height_map.color[known],
        normals=normals[known],
        confidence=height_map.confidence[known],
        sigma=height_map.sigma[known],
        view_count=height_map.view_count[known].int(),
    )
