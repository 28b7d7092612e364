"""A height map as a cloud."""

import torch
from torch import Tensor

from ..cells import cell_normals, cell_numbers, cell_points
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
    known = cell_numbers(torch.isfinite(height_map.z))

    def chosen(values: Tensor) -> Tensor:
        return values.reshape(height_map.z.numel(), -1).index_select(0, known)

    return PointCloud(
        points=cell_points(height_map, known),
        colors=chosen(height_map.color),
        normals=cell_normals(height_map, known),
        confidence=chosen(height_map.confidence)[:, 0],
        sigma=chosen(height_map.sigma)[:, 0],
        view_count=chosen(height_map.view_count)[:, 0].int(),
    )
