"""The orthophoto: the views' colours, blended, at the true place of every cell."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..numerics.acceleration import has_kernels, in_parallel, worker_count
from ..numerics.splines import sample
from ..types import UndistortedViews
from .consistency import USABLE
from .grid import Grid
from .refine import TILE_SIDE
from .tiles import Tile, split, tile_points
from .visibility import Occlusion

_FADE_PX = 40.0
"""A view's weight falls to zero over this distance from its border, so that no seam shows."""


def orthophoto(
    views: UndistortedViews,
    grid: Grid,
    z: Tensor,
    occlusion: Occlusion | None,
    *,
    tile_side: int = TILE_SIDE,
    workers: int | None = None,
) -> Tensor:
    """Blend the views' colours on a height map.

    Args:
        views: One frame.
        grid: Of the height map.
        z: Heights, shape (rows, columns), metres; NaN where unknown.
        occlusion: What each view cannot see; None: it sees all.
        tile_side: Cells along a tile.
        workers: Most tiles that are painted at a time; None: as many as there are threads.

    Returns:
        RGB, shape (rows, columns, 3), float32 in [0, 1]; 0 where z is NaN.
    """
    color = z.new_zeros(*grid.shape, 3)
    tiles = list(split(grid, tile_side))
    draw = (
        _compiled_painter(views, grid, z, occlusion)
        if has_kernels(z)
        else partial(_painted, views, grid, z, occlusion)
    )
    for tile, (total, weight) in zip(
        tiles, in_parallel(draw, tiles, worker_count(z, workers)), strict=True
    ):
        weight = weight[..., None]
        color[tile.cells] = torch.where(weight > 0, total / weight.clamp(min=1e-12), 0.0)
    return color


def _painted(
    views: UndistortedViews, grid: Grid, z: Tensor, occlusion: Occlusion | None, tile: Tile
) -> tuple[Tensor, Tensor]:
    """Weighted sum of the views' colours, shape (h, w, 3), and of the weights, shape (h, w)."""
    points = tile_points(grid, tile, z[tile.cells], 0)
    total = points.new_zeros(tile.rows, tile.columns, 3)
    weights = points.new_zeros(tile.rows, tile.columns)
    for index, view in enumerate(views):
        pixels, valid = view.model.project(points)
        limit = pixels.new_tensor(view.size) - 1
        border = torch.minimum(pixels, limit - pixels).amin(-1)
        weight = torch.where(valid, border, 0.0).clamp(0, _FADE_PX)
        if occlusion is not None:
            weight = torch.where(occlusion.of(index, grid, tile, 0), 0.0, weight)
        if not bool((weight > 0).any()):
            continue
        safe = torch.where(valid[..., None], pixels, 0.0)[None]
        usable = sample(view.mask.to(z)[None, None], safe)[0, 0]
        # Square of the image scale: a nearer view, or one of longer focus, is sharper.
        scale = 1 / (points - view.model.camera_center.to(points)).square().sum(-1)
        weight = weight * (usable > USABLE) * scale * float(view.model.K[0, 0]) ** 2
        rgb = sample(view.image.permute(2, 0, 1)[None], safe)[0]
        total.addcmul_(weight[..., None].nan_to_num(0.0), rgb.permute(1, 2, 0))
        weights += weight.nan_to_num(0.0)
    return total, weights


def _compiled_painter(
    views: UndistortedViews, grid: Grid, z: Tensor, occlusion: Occlusion | None
) -> Callable[[Tile], tuple[Tensor, Tensor]]:
    """:func:`_painted` by compiled code."""
    from .projection_kernels import may_see
    from .ray_kernels import paint

    nothing = np.zeros((0, 0), np.bool_)
    inputs = [
        (
            view.model.coefficients().float().numpy(),
            view.image.reshape(-1, 3).contiguous().numpy(),
            view.mask.flatten().numpy(),
            *view.size,
            nothing if occlusion is None else occlusion.blocked[index].numpy(),
            1 if occlusion is None else occlusion.factor,
            np.float32(_FADE_PX),
            np.float32(view.model.K[0, 0] ** 2),
        )
        for index, view in enumerate(views)
    ]

    def draw(tile: Tile) -> tuple[Tensor, Tensor]:
        total = torch.zeros(tile.rows, tile.columns, 3)
        weights = torch.zeros(tile.rows, tile.columns)
        arrays = total.numpy(), weights.numpy()
        heights = np.ascontiguousarray(z[tile.cells].numpy())
        known = heights[np.isfinite(heights)]
        if not len(known):
            return total, weights
        where = (heights, tile.row, tile.column, grid.x0, grid.y0, grid.spacing)
        corner = (grid.x0 + grid.spacing * tile.column, grid.y0 + grid.spacing * tile.row)
        extent = (grid.spacing, tile.rows, tile.columns, known.min(), known.max())
        for camera, image, usable, width, height, *view in inputs:
            if may_see(camera, width, height, *corner, *extent):
                paint(camera, image, usable, width, height, *view, *where, *arrays)
        return total, weights

    return draw
