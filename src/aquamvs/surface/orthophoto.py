"""The orthophoto: the views' colours, blended, at the true place of every cell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..types import UndistortedViews
from .consistency import sample
from .grid import Grid
from .refine import TILE_SIDE
from .tiles import split, tile_points

_FADE_PX = 40.0
"""A view's weight falls to zero over this distance from its border, so that no seam shows."""


def orthophoto(
    views: UndistortedViews, grid: Grid, z: Tensor, hidden: Sequence[Tensor] | None
) -> Tensor:
    """Blend the views' colours on a height map.

    Args:
        views: One frame.
        grid: Of the height map.
        z: Heights, shape (rows, columns), metres; NaN where unknown.
        hidden: Per view, cells that it cannot see, shape (rows, columns), bool; None: none.

    Returns:
        RGB, shape (rows, columns, 3), float32 in [0, 1]; 0 where z is NaN.
    """
    color = z.new_zeros(*grid.shape, 3)
    for tile in split(grid, TILE_SIDE):
        points = tile_points(grid, tile, z[tile.cells], 0)
        total = points.new_zeros(tile.rows, tile.columns, 3)
        weights = points.new_zeros(tile.rows, tile.columns)
        for index, view in enumerate(views):
            pixels, valid = view.model.project(points)
            limit = pixels.new_tensor(view.size) - 1
            border = torch.minimum(pixels, limit - pixels).amin(-1)
            weight = torch.where(valid, border, 0.0).clamp(0, _FADE_PX)
            if hidden is not None:
                weight = torch.where(hidden[index][tile.cells], 0.0, weight)
            if not bool((weight > 0).any()):
                continue
            safe = torch.where(valid[..., None], pixels, 0.0)[None]
            usable = sample(view.mask.to(z)[None, None], safe)[0, 0]
            # Square of the image scale: a nearer view, or one of longer focus, is sharper.
            scale = 1 / (points - view.model.camera_center.to(points)).square().sum(-1)
            weight = weight * (usable > 0.999) * scale * float(view.model.K[0, 0]) ** 2
            rgb = sample(view.image.permute(2, 0, 1)[None], safe)[0]
            total.addcmul_(weight[..., None].nan_to_num(0.0), rgb.permute(1, 2, 0))
            weights += weight.nan_to_num(0.0)
        color[tile.cells] = torch.where(
            weights[..., None] > 0, total / weights.clamp(min=1e-12)[..., None], 0.0
        )
    return color
