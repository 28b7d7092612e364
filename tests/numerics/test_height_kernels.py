"""Compiled cells and triangles of height maps against the tensor operations that they stand for."""

import pytest
import torch
from torch import Tensor

from aquamvs.cells import Cells, chosen_cells
from aquamvs.maps import MAX_SLOPE
from aquamvs.meshing import mesh_from_height_map
from aquamvs.types import HeightMap

SPACING = 0.002
SHAPES = [(150, 70), (65, 3), (2, 40), (40, 2), (1, 9), (9, 1), (1, 1)]


def rough_map(shape: tuple[int, int], missing: float = 0.1) -> HeightMap:
    """Noise, of which some neighbours are too steep, a wall and gaps.

    Heights repeat, so that the diagonals of some quads rise alike.
    """
    generator = torch.Generator().manual_seed(2)
    rough, chance = torch.rand(2, *shape, generator=generator)
    z = 1.4 + 6 * SPACING * (64 * rough).round() / 64
    z[shape[0] // 3 :, shape[1] // 3 :] -= 0.05
    z[chance < missing] = torch.nan
    known = z.isfinite()
    color = torch.rand(*shape, 3, generator=generator)
    return HeightMap(0.1, -0.2, SPACING, z, 0.001 + 0 * z, known.float(), 4 * known.int(), color)


def normal_by_hand(z: Tensor, row: int, column: int) -> Tensor:
    """From the mean of the usable steps of the 3 x 3 cells to their neighbours, one axis a time."""
    slopes = []
    for heights, r, c in ((z, row, column), (z.T, column, row)):
        steps = [
            heights[i, j + 1] - heights[i, j]
            for i in range(max(r - 1, 0), min(r + 2, len(heights)))
            for cell in range(max(c - 1, 0), min(c + 2, heights.shape[1]))
            for j in (cell - 1, cell)
            if 0 <= j < heights.shape[1] - 1
        ]
        usable = [float(step) for step in steps if abs(step) <= MAX_SLOPE * SPACING]
        slopes.append(sum(usable) / max(len(usable), 1) / SPACING)
    return torch.nn.functional.normalize(torch.tensor([*slopes, -1.0]), dim=0)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("shape", [(7, 9), (1, 9), (9, 1)])
def test_normals_lean_against_the_mean_step_of_the_neighbours(shape: tuple[int, int]) -> None:
    made = rough_map(shape)
    known = made.z.isfinite()
    expected = [normal_by_hand(made.z, *map(int, cell)) for cell in known.nonzero()]
    found = chosen_cells(made, known).normals
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-4, rtol=0)


def assert_same_cells(found: Cells, expected: Cells) -> None:
    assert found.numbers.dtype == expected.numbers.dtype
    assert torch.equal(found.numbers, expected.numbers)
    assert torch.equal(found.points, expected.points)
    torch.testing.assert_close(found.normals, expected.normals, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_cells_are_those_of_tensor_operations(
    shape: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    made = rough_map(shape, missing=0.1 if min(shape) > 1 else 0.0)
    known = made.z.isfinite()
    some = known & (torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.5)
    found = [chosen_cells(made, wanted) for wanted in (known, some)]
    request.getfixturevalue("without_kernels")
    for cells, wanted in zip(found, (known, some), strict=True):
        assert len(cells.points) == wanted.sum()
        assert_same_cells(cells, chosen_cells(made, wanted))


@pytest.mark.parametrize("shape", SHAPES[:4])
@pytest.mark.parametrize("missing", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("max_slope", [2.0, 100.0])
def test_meshes_are_those_of_tensor_operations(
    shape: tuple[int, int], missing: float, max_slope: float, request: pytest.FixtureRequest
) -> None:
    made = rough_map(shape, missing)
    found = mesh_from_height_map(made, max_slope=max_slope)
    request.getfixturevalue("without_kernels")
    expected = mesh_from_height_map(made, max_slope=max_slope)
    assert found.faces.dtype == expected.faces.dtype
    assert torch.equal(found.faces, expected.faces)
    assert torch.equal(found.vertices, expected.vertices)
    assert torch.equal(found.colors, expected.colors)
    torch.testing.assert_close(found.normals, expected.normals, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", SHAPES[:4])
def test_threads_change_no_byte(shape: tuple[int, int]) -> None:
    made = rough_map(shape, missing=0.0)
    alone = mesh_from_height_map(made, max_slope=100.0)
    for threads in (2, 5):
        torch.set_num_threads(threads)
        shared = mesh_from_height_map(made, max_slope=100.0)
        for name in ("vertices", "faces", "normals", "colors"):
            assert torch.equal(getattr(shared, name), getattr(alone, name))
