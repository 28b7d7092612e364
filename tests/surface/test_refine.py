"""How surfaces compete for the cells beside a jump."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from aquamvs.surface.evaluator import COST_MARGIN, TensorEvaluator
from aquamvs.surface.grid import Grid
from aquamvs.surface.refine import reselect
from aquamvs.surface.tiles import Tile

SPACING, BED, TOP = 1e-3, 1.0, 0.95
GRID = Grid(0.0, 0.0, SPACING, 64, 64)


class Oracle(TensorEvaluator):
    """Knows where the surface is: a box on a bed; what is further off agrees less."""

    def __init__(self) -> None:
        self.truth = torch.full(GRID.shape, BED)
        self.truth[:, :6] = TOP

    def costs(
        self, grid: Grid, tile: Tile, surfaces: Sequence[Tensor], *, robust: bool
    ) -> tuple[Tensor, Tensor]:
        """Distance from the truth."""
        assert grid is GRID
        assert robust
        inner = (slice(COST_MARGIN, -COST_MARGIN),) * 2
        cost = torch.stack([(z[inner] - self.truth[tile.cells]).abs() for z in surfaces])
        return cost + 0.01, torch.full_like(cost, 2)


def chosen(z: Tensor, matched: Tensor, tile_side: int) -> Tensor:
    return reselect(Oracle(), GRID, z, matched, 0.004, 0.3, tile_side=tile_side)


def test_a_top_carried_over_the_bed_goes_back() -> None:
    carried = Oracle().truth.clone()
    carried[:, 6:10] = TOP
    matched = torch.ones(GRID.shape, dtype=torch.bool)
    torch.testing.assert_close(chosen(carried, matched, 64), Oracle().truth)


@pytest.mark.parametrize("tile_side", [16, 40])
def test_surfaces_compete_whatever_tile_their_cells_are_in(tile_side: int) -> None:
    """A stray cell far from the jump, with one surface around it, shares a tile with it or not."""
    z, matched = Oracle().truth.clone(), torch.ones(GRID.shape, dtype=torch.bool)
    z[20:24, 40:44] = 1.03
    matched[20:24, 40:44] = False
    assert torch.equal(chosen(z, matched, tile_side), chosen(z, matched, 64))
