"""Choosing a limited number of points that are strong and well spread over the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def spread_selection(
    pixels: Tensor, scores: Tensor, *, size: tuple[int, int], limit: int
) -> Tensor:
    """The strongest points of every part of an image.

    The image is divided into about ``limit / 4`` square cells. First comes every cell's strongest
    point, then every cell's second, and so on until ``limit`` is reached: an even block of tie
    points, where the plain strongest would crowd on the few most contrasted objects.

    Args:
        pixels: shape (N, 2).
        scores: Larger is better, shape (N,). Equal scores go to the smaller v, then u.
        size: (width, height) of the image.
        limit: Largest number of points.

    Returns:
        Positions, ascending, shape (min(N, limit),), int64.
    """
    if len(pixels) <= limit:
        return torch.arange(len(pixels), device=pixels.device)
    width, height = size
    cell = math.sqrt(width * height / max(limit / 4, 1))
    columns = math.ceil(width / cell)
    key = (pixels[:, 1] / cell).floor().long() * columns + (pixels[:, 0] / cell).floor().long()
    order = _lexsort(pixels[:, 0], pixels[:, 1], -scores, key)
    sorted_key = key[order]
    position = torch.arange(len(order), device=pixels.device)
    begins = torch.ones_like(sorted_key, dtype=torch.bool)
    begins[1:] = sorted_key[1:] != sorted_key[:-1]
    rank = position - torch.where(begins, position, 0).cummax(0).values
    chosen = _lexsort(pixels[order, 0], pixels[order, 1], -scores[order], rank)[:limit]
    return order[chosen].sort().values


def _lexsort(*keys: Tensor) -> Tensor:
    """Order by the last key, ties by the one before it, and so on (as numpy's)."""
    order = torch.arange(len(keys[0]), device=keys[0].device)
    for key in keys:
        order = order[key[order].argsort(stable=True)]
    return order
