"""Where the height range is looked for, and the coarse map within it."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from aquamvs.surface.evaluator import COST_MARGIN, TensorEvaluator
from aquamvs.surface.grid import Grid
from aquamvs.surface.search import _along_paths, _consensus, coarse_heights, find_height_range
from aquamvs.surface.tiles import Tile

GRID = Grid(0.0, 0.0, 0.01, 160, 160)
HEIGHTS = [1.0 + 0.1 * i for i in range(21)]
BED, DEEPEST = 1.3, 3.0


class Oracle(TensorEvaluator):
    """Three views that meet over a quarter of the grid, and over the rest deep down only.

    They agree on the bed; elsewhere now and then by chance.
    """

    workers = 1

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    def costs(
        self, grid: Grid, tile: Tile, surfaces: Sequence[Tensor], *, robust: bool
    ) -> tuple[Tensor, Tensor]:
        """Little on the bed, less than usual on the deepest plane."""
        assert not robust
        shape = (tile.rows, tile.columns)
        over_all = grid.x0 + grid.y0 > 1.1
        costs, counts = [], []
        for surface in surfaces:
            z = float(surface[COST_MARGIN, COST_MARGIN])
            seen = not over_all or z > DEEPEST - 0.15
            level = 0.05 if abs(z - BED) < 0.01 else 0.4 if abs(z - DEEPEST) < 0.01 else 0.9
            costs.append(torch.full(shape, level if seen else torch.inf))
            counts.append(torch.full(shape, 3.0 if seen else 0.0))
        return torch.stack(costs), torch.stack(counts)


def test_places_seen_only_deep_down_do_not_outvote_the_bed() -> None:
    spacings = [GRID.spacing * z for z in HEIGHTS]
    found = find_height_range(Oracle(), GRID, HEIGHTS, spacings, lambda: None)
    assert found is not None
    assert abs(found.typical - BED) < 0.01
    assert found.high < 2.0


def test_patches_that_few_planes_compete_for_do_not_outvote_the_others() -> None:
    """Two patches see all planes, and the bed; three see deep ones only, and match by chance."""
    deep = [[2.4 + 0.2 * i, 2.6 + 0.2 * i, 6.0] for i in range(3)]
    found = torch.tensor([[1.2, 1.4, 21.0], [1.3, 1.4, 21.0], *deep], dtype=torch.float64)
    typical, low, high = _consensus(found, HEIGHTS)
    assert abs(typical - BED) < 0.06
    assert (low, high) == (1.2, 1.4)


class Board(TensorEvaluator):
    """Views of a board that rises from left to right, with a box before it.

    They agree better on the box, and somewhat better where its pattern repeats by chance.
    """

    workers = 1
    box, chance = (slice(10, 22), slice(8, 20)), (slice(30, 38), slice(24, 32))

    def __init__(self, grid: Grid) -> None:
        self.device = torch.device("cpu")
        self.truth = 1.2 + 0.5 * grid.spacing * torch.arange(grid.columns).expand(grid.shape)
        self.truth = self.truth.clone()
        self.truth[self.box] = 1.1
        self.second = torch.zeros(grid.shape)
        self.second[self.chance] = 2.0

    def costs(
        self, grid: Grid, tile: Tile, surfaces: Sequence[Tensor], *, robust: bool
    ) -> tuple[Tensor, Tensor]:
        """By the distance from the truth."""
        assert robust
        assert grid.spacing == 0.01
        here = []
        for surface in surfaces:
            z = surface[COST_MARGIN:-COST_MARGIN, COST_MARGIN:-COST_MARGIN]
            cost = (0.2 + 4 * (z - self.truth[tile.cells]).abs()).clamp(max=0.9)
            here.append(torch.where((z - self.second[tile.cells]).abs() < 0.01, 0.14, cost))
        costs = torch.stack(here)
        return costs, torch.full_like(costs, 3.0)


@pytest.mark.parametrize("tile_side", [16, 64])
@pytest.mark.parametrize("split_at", [41, 2])
def test_a_chance_match_does_not_stand_against_all_around_it(split_at: int, tile_side: int) -> None:
    """Whether its plane is one of the range, or of those beyond."""
    grid = Grid(0.0, 0.0, 0.01, 64, 48)
    planes = torch.linspace(1.0, 3.0, 41)
    board = Board(grid)
    heights, beyond = planes[:split_at], planes[split_at:]
    z = coarse_heights(board, grid, heights, lambda: beyond, lambda: None, tile_side=tile_side)
    assert float((z - board.truth).abs().max()) < 0.1


def test_unseen_cells_have_no_height() -> None:
    grid = Grid(0.0, 0.0, 0.01, 64, 48)
    board = Board(grid)
    board.truth[5, 7] = torch.nan
    planes = torch.tensor(HEIGHTS)
    z = coarse_heights(board, grid, planes, lambda: planes[:0], lambda: None)
    assert torch.isnan(z).nonzero().tolist() == [[5, 7]]


@pytest.mark.parametrize("planes", [1, 2, 9])
def test_compiled_paths_agree_with_tensor_operations(
    planes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = torch.rand(planes, 12, 17, generator=torch.Generator().manual_seed(1))
    cost[cost > 0.9] = torch.inf  # seen by no two views
    compiled = _along_paths(cost)
    monkeypatch.setattr("aquamvs.surface.search.has_kernels", lambda _: False)
    assert torch.allclose(compiled, _along_paths(cost), atol=1e-5)
