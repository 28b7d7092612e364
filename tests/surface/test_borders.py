"""Cells beside the border of a view's image."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from aquamvs.numerics.pyramid import LevelView, build_pyramid
from aquamvs.pixels import pixel_grid
from aquamvs.surface.consistency import ROBUST_MARGIN
from aquamvs.surface.evaluator import TensorEvaluator
from aquamvs.surface.fused import FusedEvaluator
from aquamvs.surface.grid import grid_over, points_at_height
from aquamvs.surface.refine import motion_per_metre
from aquamvs.surface.sweep import LAST_PASSES
from aquamvs.surface.tiles import Tile
from aquamvs.types import View

from .conftest import Rendered

WAVELENGTHS = (0.3, 0.13, 0.06, 0.03, 0.014)
"""Metres: most of the contrast is in shades wider than a window, as in photographs."""
CUT = 200
TILE = Tile(30, 30, 60, 60)


def shaded(view: View, z: float) -> View:
    """The view of a plane at z that carries waves as strong as they are long."""
    pixels = pixel_grid(view.size, dtype=torch.float64).reshape(-1, 2)
    x, y, _ = points_at_height(view.model, pixels, z).unbind(-1)
    total = torch.zeros_like(x)
    for i, length in enumerate(WAVELENGTHS):
        along, across = x * math.cos(i) + y * math.sin(i), x * math.sin(i) - y * math.cos(i)
        for phase in (along + i, across + 2 * i):
            total += length * torch.sin(2 * math.pi * phase / length)
    width, height = view.size
    image = (0.5 + 0.4 * total).reshape(height, width, 1).expand(-1, -1, 3)
    return dataclasses.replace(view, image=image.float().contiguous())


def cut_off(view: View) -> View:
    """The left part of a view."""
    image, mask = view.image[:, :CUT].contiguous(), view.mask[:, :CUT].contiguous()
    return dataclasses.replace(view, image=image, mask=mask)


def finest(view: View) -> LevelView:
    return build_pyramid(view, 1)[0]


@pytest.mark.parametrize("make", [FusedEvaluator, TensorEvaluator])
def test_a_view_that_ends_does_not_bend_the_surface(
    level_plane: Rendered, make: type[FusedEvaluator] | type[TensorEvaluator]
) -> None:
    views, scene, region = level_plane
    z = float(scene.height(torch.zeros(1, 1).double(), torch.zeros(1, 1).double()))
    first, *others = (shaded(view, z) for view in views.views)
    grid, plan = grid_over(region, 0.002), LAST_PASSES[-1]
    margin = 2 * (plan.margin + ROBUST_MARGIN)
    surface = torch.full((TILE.rows + margin, TILE.columns + margin), z)

    def error(view: View) -> Tensor:
        levels = [finest(each) for each in (view, *others)]
        step = plan.step_px / motion_per_metre(levels, grid, torch.full(grid.shape, z))
        found = make(levels, cubic=True).estimate(grid, TILE, surface, None, plan, step)
        assert found is not None
        return (found[0] - z) / grid.spacing

    x, y = grid.axes(surface.double())
    rows, columns = TILE.cells
    shape = (TILE.rows, TILE.columns)
    points = torch.stack(
        [x[columns].expand(shape), y[rows, None].expand(shape), torch.full(shape, z).double()], -1
    )
    u = first.model.project(points)[0][..., 0]
    beside = (u > CUT - 4) & (u < CUT)
    whole, ends = (error(view)[beside].square().mean().sqrt() for view in (first, cut_off(first)))
    assert beside.sum() > 100
    assert ends < 1.3 * whole
