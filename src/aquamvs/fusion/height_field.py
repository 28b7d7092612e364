"""A height map as a cloud."""

import torch

from ..cells import chosen_cells
from ..numerics.acceleration import operation_threads
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
    with operation_threads(1):  # more would wait for one another longer than they work
        known = torch.isfinite(height_map.z)
    cells = chosen_cells(height_map, known)
    return PointCloud(
        points=cells.points,
        colors=cells.of(height_map.color),
        normals=cells.normals,
        confidence=cells.of(height_map.confidence),
        sigma=cells.of(height_map.sigma),
        view_count=cells.of(height_map.view_count).int(),
    )
