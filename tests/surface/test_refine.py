"""How a pass moves a surface."""

import pytest
import torch
from torch import Tensor

from aquamvs.surface.consistency import ROBUST_MARGIN
from aquamvs.surface.evaluator import Pass, TensorEvaluator
from aquamvs.surface.grid import Grid
from aquamvs.surface.refine import refine, refine_again
from aquamvs.surface.sweep import LAST_PASSES
from aquamvs.surface.tiles import Tile, crowded
from aquamvs.surface.visibility import Occlusion

SPACING, BED, TOP, STEP = 1e-3, 1.0, 0.95, 1e-3
GRID = Grid(0.0, 0.0, SPACING, 64, 64)


class Oracle(TensorEvaluator):
    """Knows where the surface is: a box on a bed; what is further off agrees less."""

    def __init__(self) -> None:
        self.truth = torch.full(GRID.shape, BED)
        self.truth[:, :6] = TOP
        self.unmatched = torch.zeros(GRID.shape, dtype=torch.bool)

    def estimate(
        self,
        grid: Grid,
        tile: Tile,
        z: Tensor,
        occlusion: Occlusion | None,
        plan: Pass,
        step: float,
    ) -> Tensor | None:
        """Half of the way to the truth."""
        assert grid is GRID
        assert occlusion is None
        assert step == STEP
        margin = plan.margin + ROBUST_MARGIN
        half = (z[margin:-margin, margin:-margin] + self.truth[tile.cells]) / 2
        half[self.unmatched[tile.cells]] = torch.nan
        return torch.stack([half] + [torch.ones_like(half)] * 6)


@pytest.mark.parametrize("tile_side", [16, 64])
def test_a_pass_is_repeated_for_the_chosen_cells_alone(tile_side: int) -> None:
    oracle, plan = Oracle(), LAST_PASSES[-1]
    start = torch.full(GRID.shape, BED - 0.08)
    common = (None, plan, STEP)
    first = refine(oracle, GRID, start, *common, lambda: None, tile_side=tile_side)
    some = torch.zeros(GRID.shape, dtype=torch.bool)
    some[20:50, 10:30] = some[3, 60] = True
    oracle.unmatched[40:] = True
    z = first.z.clone()
    refine_again(oracle, GRID, z, *common, first, some, tile_side=tile_side)
    moved = some & ~oracle.unmatched
    assert torch.equal(first.z[~moved], z[~moved])
    torch.testing.assert_close(first.z[moved], (z + oracle.truth)[moved] / 2)


def test_a_repeated_pass_replaces_only_what_agrees_less() -> None:
    oracle, plan = Oracle(), LAST_PASSES[-1]
    start = torch.full(GRID.shape, BED - 0.08)
    common = (None, plan, STEP)
    first = refine(oracle, GRID, start, *common, lambda: None, tile_side=64)
    first.spread[:, 30:] = 1.5  # the oracle always says 1
    first.spread[:30] = 2.5
    first.z[:, :2] = torch.nan
    every = torch.ones(GRID.shape, dtype=torch.bool)
    z = first.z.clone()
    refine_again(oracle, GRID, start, *common, first, every, rival=(0.5, 1.1))
    replaced = torch.isnan(z)
    replaced[:30] = True
    expected = torch.where(replaced, (start + oracle.truth) / 2, z)
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
