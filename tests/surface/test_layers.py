"""The surfaces that meet at a jump: told apart, carried on, and chosen from."""

import dataclasses

import pytest
import torch
from torch import Tensor

from aquamvs.surface.grid import Grid
from aquamvs.surface.layers import compete, layers
from aquamvs.surface.refine import Estimate
from aquamvs.surface.sweep import LAST_PASSES
from aquamvs.surface.tiles import Tile

from .conftest import KnownSurface, estimate_of

SPACING, STEP = 1e-3, 1e-3
GRID = Grid(0.0, 0.0, SPACING, 96, 112)
ROW, COLUMN = torch.meshgrid(torch.arange(96.0), torch.arange(112.0), indexing="ij")
BED = 1.0 + 0.1 * SPACING * COLUMN
TOP = 0.93 - 0.2 * SPACING * ROW
ON_BOX = (COLUMN >= 41) & (COLUMN < 75) & (ROW >= 30) & (ROW < 66)
BOX = torch.where(ON_BOX, TOP, BED)
MATCHED = torch.ones(GRID.shape, dtype=torch.bool)


def cells_to_edge() -> Tensor:
    """Distance to the box's edge along the rows and columns, cells."""
    across = torch.minimum((COLUMN - 40.5).abs(), (COLUMN - 74.5).abs())
    along = torch.minimum((ROW - 29.5).abs(), (ROW - 65.5).abs())
    beside_columns = (ROW >= 30) & (ROW < 66)
    beside_rows = (COLUMN >= 41) & (COLUMN < 75)
    far = torch.full(GRID.shape, torch.inf)
    return torch.minimum(
        torch.where(beside_columns, across, far), torch.where(beside_rows, along, far)
    )


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("smeared", [0, 8])
def test_both_surfaces_go_on_over_each_other(smeared: int) -> None:
    """Also where what lies between them is not matched, as smeared walls are not."""
    matched = cells_to_edge() > smeared
    found = layers(torch.where(matched, BOX, torch.nan), matched, SPACING)
    assert found is not None
    near = cells_to_edge() < 10
    assert (found.upper - TOP)[near].abs().max() < SPACING
    assert (found.lower - BED)[near].abs().max() < SPACING
    assert found.beside[near].all()
    assert not found.beside[:, :16].any()


@pytest.mark.usefixtures("engine")
def test_the_scale_of_the_scene_does_not_matter() -> None:
    found, larger = layers(BOX, MATCHED, SPACING), layers(8 * BOX, MATCHED, 8 * SPACING)
    assert found is not None
    assert larger is not None
    assert torch.equal(found.beside, larger.beside)
    near = cells_to_edge() < 10
    for surface, of_larger in zip(found[:2], larger[:2], strict=True):
        assert (surface - of_larger / 8)[near].abs().max() < 0.01 * SPACING


@pytest.mark.parametrize("slope", [0.0, 1.4])
def test_a_slope_has_no_layers(slope: float) -> None:
    assert layers(1.0 + slope * SPACING * COLUMN, MATCHED, SPACING) is None


def test_a_gap_in_a_bed_has_no_layers() -> None:
    matched = MATCHED.clone()
    matched[30:60, 30:60] = False
    assert layers(BED, matched, SPACING) is None


def ridden_on(tile: Tile, z: Tensor) -> tuple[Tensor, Tensor]:
    """The surface that windows ride on; the further it is off, the less the views agree."""
    return z, (z - BOX[tile.cells]).abs()


def disagreeing(tile: Tile, z: Tensor) -> tuple[Tensor, Tensor]:
    height, spread = ridden_on(tile, z)
    return height, spread + 0.07


def fattened(cells: int) -> Estimate:
    """A box whose top was carried out over the bed."""
    carried = (cells_to_edge() < cells) & ~ON_BOX
    estimate = estimate_of(torch.where(carried, TOP, BOX), 1e5)
    return dataclasses.replace(estimate, spread=torch.where(carried, 0.08, 0.004))


def test_a_top_carried_over_the_bed_goes_back_whatever_the_tiles() -> None:
    estimates = [fattened(5), fattened(5)]
    for estimate, tile_side in zip(estimates, (32, 128), strict=True):
        given = (GRID, estimate, None, LAST_PASSES[-1], STEP)
        compete(KnownSurface(ridden_on), *given, trusted=0.06, tile_side=tile_side)
        assert (estimate.z - BOX).abs().max() < SPACING
    assert torch.equal(estimates[0].z, estimates[1].z)


def test_where_no_surface_is_trusted_the_estimate_stays() -> None:
    estimate = fattened(5)
    before = estimate.z.clone()
    given = (GRID, estimate, None, LAST_PASSES[-1], STEP)
    compete(KnownSurface(disagreeing), *given, trusted=0.06, tile_side=64)
    assert torch.equal(estimate.z, before)
