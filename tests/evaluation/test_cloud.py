"""ETH3D's scores of constructed clouds, density of known grids, mesh errors of shifted sheets."""

import json
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from aquamvs.errors import DataError
from aquamvs.evaluation import HeightGrid, Triangles, cloud_scores, mesh_errors, surface_density
from aquamvs.types import Mesh


def sheet(side: float = 0.5) -> Triangles:
    """A level square at z = 1.5."""
    return HeightGrid(0.0, 0.0, side, torch.full((2, 2), 1.5)).triangles()


def grid_points(width: float, depth: float, spacing: float, *, z: float = 1.5) -> Tensor:
    x = torch.arange(spacing / 2, width, spacing, dtype=torch.float64)
    y = torch.arange(spacing / 2, depth, spacing, dtype=torch.float64)
    gy, gx = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([gx, gy, torch.full_like(gx, z)], dim=-1).reshape(-1, 3)


def turn(axis: tuple[float, float, float], degrees: float) -> Tensor:
    x, y, z = (math.radians(degrees) * a for a in axis)
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(cross)


def test_a_plane_lifted_by_three_millimetres_scores_nothing_below_and_all_above() -> None:
    cloud = grid_points(0.5, 0.5, 0.002, z=1.503)
    scores = cloud_scores(cloud, sheet(), tolerances=(0.0029, 0.0035), sample_spacing=0.002)
    assert scores.accuracy == {0.0029: 0, 0.0035: pytest.approx(1)}
    assert scores.completeness == {0.0029: 0, 0.0035: pytest.approx(1)}
    assert scores.f_score == {0.0029: 0, 0.0035: pytest.approx(1)}
    assert scores.distance.rms == pytest.approx(0.003, rel=1e-9)


def test_half_a_surface_with_as_many_outliers_has_the_f_score_of_its_parts() -> None:
    good = grid_points(0.5, 0.25, 0.002)  # half of the surface, on a multiple of the voxels
    bad = grid_points(0.25, 0.25, 0.002, z=1.455)  # in as many voxels again by half
    scores = cloud_scores(
        torch.cat([good, bad]), sheet(), tolerances=(0.001,), sample_spacing=0.001, voxel_size=0.01
    )
    # Points within the tolerance's width of the good half's edge are complete as well.
    assert scores.accuracy[0.001] == pytest.approx(2 / 3, abs=0.003)
    # A grid of 2 mm leaves the corners between four points beyond 1 mm: π/4 of each cell is near.
    assert scores.completeness[0.001] == pytest.approx(math.pi / 8, abs=0.005)
    a, c = scores.accuracy[0.001], scores.completeness[0.001]
    assert scores.f_score[0.001] == pytest.approx(2 * a * c / (a + c))


def test_voxels_let_dense_places_count_no_more_than_sparse_ones() -> None:
    good = grid_points(0.1, 0.1, 0.01)  # one point per voxel
    bad = grid_points(0.1, 0.1, 0.001, z=1.455)  # a hundred per voxel, as many voxels
    cloud = torch.cat([good, bad])
    averaged = cloud_scores(cloud, sheet(0.1), tolerances=(0.001,), sample_spacing=0.01)
    counted = cloud_scores(
        cloud, sheet(0.1), tolerances=(0.001,), sample_spacing=0.01, voxel_size=None
    )
    assert averaged.accuracy[0.001] == pytest.approx(0.5)
    assert counted.accuracy[0.001] == pytest.approx(1 / 101)


def test_points_where_the_truth_is_unknown_are_not_held_against_the_cloud() -> None:
    good, beyond = grid_points(0.5, 0.5, 0.01), grid_points(0.5, 0.5, 0.01) + 2.0
    cloud = torch.cat([good, beyond])
    judged = torch.arange(len(cloud)) < len(good)
    scores = cloud_scores(cloud, sheet(), tolerances=(0.001,), sample_spacing=0.01, judged=judged)
    assert scores.point_count == len(good)
    assert scores.accuracy[0.001] == pytest.approx(1)


def test_an_empty_cloud_completes_nothing_and_has_no_accuracy() -> None:
    scores = cloud_scores(torch.empty(0, 3), sheet(), tolerances=(0.01,), sample_spacing=0.05)
    assert math.isnan(scores.accuracy[0.01])
    assert scores.completeness[0.01] == scores.f_score[0.01] == 0
    assert json.loads(json.dumps(scores.as_dict(), allow_nan=False))["accuracy"] == {"0.01": None}


@pytest.mark.parametrize("spacing", [0.001, 0.002, 0.004])
@pytest.mark.parametrize("tilt", [0, 30, 60])
def test_density_of_a_grid_on_a_slope_is_one_over_its_spacing_squared(
    spacing: float, tilt: float
) -> None:
    points = grid_points(0.5, 0.4, spacing) @ turn((0.6, 0.8, 0.0), tilt).T
    found = surface_density(points, spacing=0.005)
    assert found.covered_area == pytest.approx(0.2, rel=0.04)
    assert found.density == pytest.approx(1 / spacing**2, rel=0.04)


def test_density_counts_the_surface_and_not_the_box_around_two_patches() -> None:
    patches = [grid_points(0.3, 0.3, 0.002), grid_points(0.3, 0.3, 0.002) + 2.0]
    found = surface_density(torch.cat(patches), spacing=0.005)
    assert found.covered_area == pytest.approx(0.18, rel=0.03)
    assert found.density == pytest.approx(250_000, rel=0.03)


def test_a_sparse_random_cloud_covers_what_it_surrounds() -> None:
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform([0, 0, 1.5], [1, 1, 1.5], (2000, 3)))
    found = surface_density(points, spacing=0.001)
    assert found.cell_size > 0.03
    assert found.density == pytest.approx(2000, rel=0.06)


def test_twice_the_points_are_twice_as_dense_on_the_same_area() -> None:
    points = grid_points(0.3, 0.3, 0.002)
    once = surface_density(points, spacing=0.01)
    twice = surface_density(torch.cat([points, points + 0.0005]), spacing=0.01)
    assert twice.covered_area == pytest.approx(once.covered_area, rel=0.07)
    assert twice.density / once.density == pytest.approx(2, rel=0.07)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_points_cover_nothing(count: int) -> None:
    found = surface_density(torch.zeros(count, 3), spacing=0.01)
    assert found.covered_area == 0
    assert math.isnan(found.density)
    assert found.as_dict()["density"] is None


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="spacing is 0"):
        surface_density(torch.zeros(4, 3), spacing=0)
    with pytest.raises(DataError, match="voxel_size is -1"):
        cloud_scores(grid_points(0.1, 0.1, 0.05), sheet(), sample_spacing=0.05, voxel_size=-1)


def test_mesh_errors_tell_what_is_wrong_from_what_is_missing() -> None:
    half = HeightGrid(0.0, 0.0, 0.25, torch.full((2, 3), 1.502)).triangles()
    vertices = half.vertices.float()
    mesh = Mesh(vertices, half.faces, torch.zeros_like(vertices), torch.zeros_like(vertices))
    errors = mesh_errors(mesh, sheet(0.5), sample_spacing=0.005)
    assert errors.to_truth.rms == pytest.approx(0.002, rel=1e-4)
    assert errors.to_truth.max_abs == pytest.approx(0.002, rel=1e-4)
    # The missing half reaches 0.25 m from the mesh, evenly.
    assert errors.from_truth.max_abs == pytest.approx(0.25, rel=0.02)
    assert errors.from_truth.beyond[0.01] == pytest.approx(0.5, abs=0.03)
    assert errors.area == pytest.approx(0.125)
    assert errors.truth_area == pytest.approx(0.25)
    assert json.dumps(errors.as_dict(), allow_nan=False)
