"""Distances to triangles and samples on them, against brute force and closed forms."""

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from aquamvs.errors import DataError, ShapeError
from aquamvs.evaluation import HeightGrid, Triangles, cloud_to_mesh


def single(*corners: tuple[float, float, float]) -> Triangles:
    return Triangles(torch.tensor(corners, dtype=torch.float64), torch.tensor([[0, 1, 2]]))


def rough_surface(rows: int = 40, seed: int = 0) -> Triangles:
    noise = torch.rand(rows, rows, generator=torch.Generator().manual_seed(seed)) * 0.02
    return HeightGrid(0.0, 0.0, 0.01, 1.5 + noise).triangles()


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((0.25, 0.25, 0.75), 0.75),  # above the inside
        ((0.5, -2.0, 0.0), 2.0),  # beside an edge
        ((-3.0, -4.0, 0.0), 5.0),  # beyond a corner
        ((1.0, 1.0, 0.0), 0.5**0.5),  # beside the hypotenuse
        ((0.25, 0.25, 0.0), 0.0),  # on it
        ((4.0, -4.0, 12.0), (9 + 16 + 144) ** 0.5),  # beyond a corner, above the plane
    ],
)
def test_distance_to_one_triangle(point: tuple[float, float, float], expected: float) -> None:
    triangle = single((0, 0, 0), (1, 0, 0), (0, 1, 0))
    assert cloud_to_mesh(torch.tensor([point]).double(), triangle)[0] == pytest.approx(
        expected, abs=1e-12
    )


def test_a_degenerate_triangle_is_a_segment() -> None:
    line = single((0, 0, 0), (1, 0, 0), (2, 0, 0))
    assert line.distance(torch.tensor([[1.5, 0.0, 3.0], [3.0, 0.0, 0.0]])).tolist() == [3.0, 1.0]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), height=st.sampled_from([0.0, 0.005, 0.05, 0.3]))
def test_nearest_triangles_are_found_as_by_brute_force(seed: int, height: float) -> None:
    surface = rough_surface(12, seed)
    rng = np.random.default_rng(seed)
    points = rng.uniform([-0.05, -0.05, 1.5], [0.15, 0.15, 1.52], (50, 3)) - [0, 0, height]
    corners = surface.corners
    each = np.repeat(points, len(corners), axis=0)
    tiled = np.tile(corners, (len(points), 1, 1))
    nearest = trimesh.triangles.closest_point(tiled, each)
    brute = np.linalg.norm(nearest - each, axis=1).reshape(len(points), -1).min(axis=1)
    assert np.allclose(surface.distance(points), brute, rtol=0, atol=1e-9)


def test_a_wall_of_two_large_triangles_is_as_near_as_it_is() -> None:
    fine = rough_surface(20)
    wall = torch.tensor([[0.3, -1.0, 0.0], [0.3, 1.0, 0.0], [0.3, 1.0, 3.0], [0.3, -1.0, 3.0]])
    count = len(fine.vertices)
    mixed = Triangles(
        torch.cat([fine.vertices, wall.double()]),
        torch.cat([fine.faces, count + torch.tensor([[0, 1, 2], [0, 2, 3]])]),
    )
    assert mixed.distance(torch.tensor([[0.29, 0.7, 0.2]])) == pytest.approx(0.01, abs=1e-7)


def test_far_points_are_good_to_a_percent() -> None:
    flat = HeightGrid(0.0, 0.0, 0.001, torch.full((200, 200), 1.5)).triangles()
    points = torch.tensor([[0.1, 0.1, 0.5], [0.05, 0.15, 1.0]])
    assert np.allclose(flat.distance(points), [1.0, 0.5], rtol=0.01)


def test_samples_lie_on_the_surface_evenly_by_area_and_repeat() -> None:
    # A sheet of which one half is cut into 200 times more triangles than the other.
    coarse = single((0, 0, 0), (1, 0, 0), (0, 1, 0))
    grid = HeightGrid(2.0, 0.0, 0.1, torch.zeros(11, 11)).triangles()
    both = Triangles(
        torch.cat([coarse.vertices, grid.vertices]), torch.cat([coarse.faces, grid.faces + 3])
    )
    points = both.sample(0.01)
    assert both.area == pytest.approx(1.5)
    assert len(points) == 15_000
    assert int((points[:, 0] > 1.5).sum()) == pytest.approx(10_000, abs=2)
    assert both.distance(points).max() < 1e-12
    assert torch.equal(points, both.sample(0.01))
    # Even within a triangle: the corner cut off at half height holds a quarter of the area.
    inside = points[points[:, 0] < 1.5]
    assert int((inside[:, 1] > 0.5).sum()) == pytest.approx(1250, rel=0.03)


def test_a_height_grid_leaves_out_cells_with_unknown_corners_and_faces_up() -> None:
    z = torch.zeros(4, 5)
    z[1, 1] = torch.nan
    surface = HeightGrid(0.0, 0.0, 1.0, z).triangles()
    assert surface.area == pytest.approx(12 - 4)
    a, b, c = surface.corners.transpose(1, 0, 2)
    assert (np.cross(b - a, c - a)[:, 2] < 0).all()  # Z is down, so up is negative


def test_surfaces_without_triangles_are_refused() -> None:
    with pytest.raises(DataError, match="without triangles"):
        Triangles(torch.zeros(3, 3), torch.empty(0, 3, dtype=torch.int64))
    with pytest.raises(DataError, match="no cell"):
        HeightGrid(0.0, 0.0, 1.0, torch.full((3, 3), torch.nan)).triangles()
    with pytest.raises(ShapeError, match="vertices"):
        Triangles(torch.zeros(3, 2), torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(DataError, match="spacing"):
        single((0, 0, 0), (1, 0, 0), (0, 1, 0)).sample(0.0)
