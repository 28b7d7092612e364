"""How a pass moves a surface."""

import pytest
import torch
from torch import Tensor

from aquamvs.surface.grid import Grid
from aquamvs.surface.refine import refine, refine_again
from aquamvs.surface.sweep import LAST_PASSES
from aquamvs.surface.tiles import Tile, crowded

from .conftest import KnownSurface

SPACING, BED, TOP, STEP = 1e-3, 1.0, 0.95, 1e-3
GRID = Grid(0.0, 0.0, SPACING, 64, 64)


TRUTH = torch.full(GRID.shape, BED)
TRUTH[:, :6] = TOP


def half_way(tile: Tile, z: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the way to a box on a bed, always found to agree as well."""
    return (z + TRUTH[tile.cells]) / 2, torch.ones_like(z)


@pytest.mark.parametrize("tile_side", [16, 64])
def test_a_pass_is_repeated_for_the_chosen_cells_alone(tile_side: int) -> None:
    unmatched = torch.zeros(GRID.shape, dtype=torch.bool)

    def found(tile: Tile, z: Tensor) -> tuple[Tensor, Tensor]:
        height, spread = half_way(tile, z)
        return torch.where(unmatched[tile.cells], torch.nan, height), spread

    oracle, common = KnownSurface(found), (None, LAST_PASSES[-1], STEP)
    start = torch.full(GRID.shape, BED - 0.08)
    first = refine(oracle, GRID, start, *common, lambda: None, tile_side=tile_side)
    some = torch.zeros(GRID.shape, dtype=torch.bool)
    some[20:50, 10:30] = some[3, 60] = True
    unmatched[40:] = True
    z = first.z.clone()
    refine_again(oracle, GRID, z, *common, first, some, tile_side=tile_side)
    moved = some & ~unmatched
    assert torch.equal(first.z[~moved], z[~moved])
    torch.testing.assert_close(first.z[moved], (z + TRUTH)[moved] / 2)


def test_a_repeated_pass_replaces_only_what_agrees_less() -> None:
    oracle, common = KnownSurface(half_way), (None, LAST_PASSES[-1], STEP)
    start = torch.full(GRID.shape, BED - 0.08)
    first = refine(oracle, GRID, start, *common, lambda: None, tile_side=64)
    first.spread[:, 30:] = 1.5  # what is found has 1
    first.spread[:30] = 2.5
    first.z[:, :2] = torch.nan
    every = torch.ones(GRID.shape, dtype=torch.bool)
    z = first.z.clone()
    refine_again(oracle, GRID, start, *common, first, every, rival=(0.5, 1.1))
    replaced = torch.isnan(z)
    replaced[:30] = True
    expected = torch.where(replaced, (start + TRUTH) / 2, z)
    torch.testing.assert_close(first.z, expected)
    refine_again(oracle, GRID, start - 0.1, *common, first, every, rival=(2.0, 0.9))
    torch.testing.assert_close(first.z, expected)


def test_tiles_of_which_little_is_chosen_are_left() -> None:
    grid = Grid(0.0, 0.0, 1e-3, 8, 8)
    chosen = torch.zeros(8, 8, dtype=torch.bool)
    chosen[:4, :2] = True  # half of the first tile
    chosen[4:, 4] = True  # a quarter of the last
    expected = chosen.clone()
    expected[4:] = False
    assert torch.equal(crowded(chosen, grid, 4, 0.4), expected)
