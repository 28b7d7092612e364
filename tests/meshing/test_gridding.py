"""Clouds on grids: planes exactly, outliers out, small gaps bridged, large ones left."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquamvs.errors import ConfigError, StageError
from aquamvs.meshing import MeshMethod, grid_cloud, mesh_from_cloud
from aquamvs.meshing.gridding import fill_small_gaps, point_spacing
from aquamvs.types import PointCloud

SPACING = 0.004


def scattered(
    count: int = 4000, slope: tuple[float, float] = (0.0, 0.0), seed: int = 0, size: float = 0.2
) -> PointCloud:
    """Random points of a plane, with its normals."""
    generator = torch.Generator().manual_seed(seed)
    xy = size * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    z = 1.4 + xy @ torch.tensor(slope, dtype=torch.float64)
    normal = torch.tensor([*slope, -1.0])
    return PointCloud(
        points=torch.cat([xy, z[:, None]], dim=1),
        colors=torch.rand(count, 3, generator=generator),
        normals=(normal / normal.norm()).expand(count, 3).contiguous(),
        confidence=torch.rand(count, generator=generator),
        sigma=1e-3 * (0.5 + torch.rand(count, generator=generator)),
        view_count=torch.randint(2, 9, (count,), generator=generator, dtype=torch.int32),
    )


def expected_z(grid, slope: tuple[float, float]) -> torch.Tensor:
    x, y = grid.grid_xy()
    return 1.4 + slope[0] * x + slope[1] * y


@given(st.floats(-2, 2), st.floats(-2, 2), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_tilted_plane_is_gridded_exactly(a: float, b: float, seed: int) -> None:
    """Wherever points lie in their cells: they are moved along the tangent plane."""
    grid = grid_cloud(scattered(1000, (a, b), seed), SPACING)
    known = grid.z.isfinite()
    assert known.sum() > 100
    error = (grid.z.double() - expected_z(grid, (a, b)))[known]
    assert error.abs().max() < 1e-6


def test_cells_hold_means_of_their_own_points() -> None:
    points = torch.tensor([[0.0, 0, 1.0], [0.001, 0, 1.002], [0.02, 0.01, 1.1]])
    cloud = PointCloud(
        points=points,
        colors=torch.tensor([[0.0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]]),
        normals=torch.tensor([[0.0, 0, -1]]).expand(3, 3),
        confidence=torch.tensor([0.2, 0.8, 0.5]),
        sigma=torch.tensor([1e-3, 2e-3, 1e-3]),
        view_count=torch.tensor([2, 4, 3], dtype=torch.int32),
    )
    grid = grid_cloud(cloud, 0.01, max_gap=0)
    assert grid.z.shape == (2, 3)
    # Weights 4 to 1 by inverse variance.
    assert grid.z[0, 0].item() == pytest.approx(1.0 + 0.2 * 0.002)
    assert grid.color[0, 0].tolist() == pytest.approx([0.2] * 3)
    assert grid.sigma[0, 0].item() == pytest.approx(0.8 * 1e-3 + 0.2 * 2e-3)
    assert grid.confidence[0, 0].item() == pytest.approx(0.8 * 0.2 + 0.2 * 0.8)
    assert grid.z[1, 2].item() == pytest.approx(1.1)
    assert grid.view_count.tolist() == [[2, 0, 0], [0, 0, 3]]


def test_unknown_cells_are_nan_with_zero_confidence() -> None:
    grid = grid_cloud(scattered(300), SPACING, max_gap=0)
    unknown = grid.z.isnan()
    assert unknown.any()
    assert (grid.confidence[unknown] == 0).all()
    assert (grid.view_count[unknown] == 0).all()
    assert grid.sigma[unknown].isnan().all()


def test_outlier_in_a_cell_does_not_pull_it() -> None:
    cloud = scattered(4000)
    points = cloud.points.clone()
    points[::20, 2] -= 0.03  # one in twenty floats 3 cm above the bed
    grid = grid_cloud(dataclasses.replace(cloud, points=points), 3 * SPACING)
    inner = grid.z[1:-1, 1:-1]  # cells at the rim hold few points
    torch.testing.assert_close(inner, torch.full_like(inner, 1.4), atol=1e-5, rtol=0)


def test_order_of_points_does_not_matter() -> None:
    cloud = scattered(2000, (0.3, 0.1))
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(1))
    names = [field.name for field in dataclasses.fields(cloud)]
    shuffled = PointCloud(*(getattr(cloud, name)[order] for name in names))
    one, other = grid_cloud(cloud, SPACING), grid_cloud(shuffled, SPACING)
    torch.testing.assert_close(one.z, other.z, equal_nan=True, atol=0, rtol=0)


@pytest.mark.parametrize("at_once", [1, 7, 100])
def test_cells_made_in_parts_are_the_same(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = scattered(400, (0.3, 0.1))
    cloud.points[:50] = cloud.points[0]  # more in one cell than are made at once
    whole = grid_cloud(cloud, 0.01)
    monkeypatch.setattr("aquamvs.meshing.gridding._POINTS_AT_ONCE", at_once)
    parts = grid_cloud(cloud, 0.01)
    for field in dataclasses.fields(whole):
        mine, other = (getattr(each, field.name) for each in (whole, parts))
        assert torch.equal(torch.as_tensor(mine).nan_to_num(), torch.as_tensor(other).nan_to_num())


def test_grid_moves_with_the_cloud() -> None:
    """No cell is anchored in the world."""
    cloud = scattered(2000)
    shift = torch.tensor([0.12345, -0.98765, 0.1], dtype=torch.float64)
    moved = dataclasses.replace(cloud, points=cloud.points + shift)
    one, other = grid_cloud(cloud, SPACING), grid_cloud(moved, SPACING)
    assert one.z.shape == other.z.shape
    assert other.x0 - one.x0 == pytest.approx(0.12345)
    torch.testing.assert_close(one.z + 0.1, other.z, equal_nan=True, atol=1e-6, rtol=0)


def channels(z: torch.Tensor) -> torch.Tensor:
    known = z.isfinite()
    rest = torch.where(known, torch.ones(6, *z.shape), torch.nan)
    return torch.cat([z[None], rest])


def bridged_heights(z: torch.Tensor) -> torch.Tensor:
    values = channels(z)
    fill_small_gaps(values, 3, SPACING)
    return values[0]


def ramp(rows: int, columns: int, slope: float) -> torch.Tensor:
    v, u = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return 1.4 + SPACING * slope * (u + 0.5 * v)


@pytest.mark.parametrize(("width", "bridged"), [(1, True), (3, True), (4, False)])
def test_gaps_are_bridged_linearly_up_to_their_limit(width: int, bridged: bool) -> None:
    z = ramp(9, 15, 0.4)
    gap = (slice(None), slice(5, 5 + width))
    holey = z.clone()
    holey[gap] = torch.nan
    filled = bridged_heights(holey)
    if bridged:
        torch.testing.assert_close(filled, z, atol=1e-6, rtol=0)
    else:
        assert filled[gap].isnan().all()


def test_bridged_cells_are_no_better_than_their_ends() -> None:
    values = channels(ramp(1, 3, 0.0))
    values[:, 0, 1] = torch.nan
    values[1:4, 0, 0] = torch.tensor([2e-3, 0.9, 7.0])
    values[1:4, 0, 2] = torch.tensor([1e-3, 0.4, 3.0])
    fill_small_gaps(values, 3, SPACING)
    torch.testing.assert_close(values[1:4, 0, 1], torch.tensor([2e-3, 0.4, 3.0]))


def test_gap_at_a_jump_or_at_the_rim_stays_open() -> None:
    z = ramp(1, 9, 0.0)
    z[0, 5:] -= 0.05
    z[0, 4] = torch.nan
    z[0, 0] = torch.nan
    filled = bridged_heights(z)
    assert filled[0].isnan().tolist() == [True, *[False] * 3, True, *[False] * 4]


@pytest.mark.parametrize("true", [0.002, 0.01])
def test_point_spacing_of_a_square_grid_is_its_pitch(true: float) -> None:
    u, v = torch.meshgrid(torch.arange(40.0), torch.arange(30.0), indexing="ij")
    points = torch.stack([true * u.flatten(), true * v.flatten(), 0 * u.flatten()], dim=1)
    n = len(points)
    one = torch.ones(n)
    cloud = PointCloud(points, torch.ones(n, 3), torch.ones(n, 3), one, one, one.int())
    assert point_spacing(cloud) == pytest.approx(true, rel=1e-5)


def test_own_spacing_leaves_hardly_a_hole() -> None:
    cloud = scattered(5000)
    grid = grid_cloud(cloud)
    assert grid.spacing == pytest.approx(0.2 / 5000**0.5, rel=0.25)
    assert grid.z.isfinite().float().mean() > 0.9


def test_cloud_becomes_a_mesh_that_faces_the_cameras() -> None:
    mesh = mesh_from_cloud(scattered(5000, (0.3, 0.2)), spacing=SPACING)
    assert len(mesh.faces) > 1000
    assert (mesh.normals[:, 2] < 0).all()
    corners = mesh.vertices.double()[mesh.faces]
    cross = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (cross[:, 2] < 0).all()
    residual = mesh.vertices.double() @ torch.tensor([0.3, 0.2, -1.0]).double() + 1.4
    assert residual.abs().max() < 1e-6


def test_bad_requests_are_refused() -> None:
    cloud = scattered(50)
    names = [field.name for field in dataclasses.fields(cloud)]
    empty = PointCloud(*(getattr(cloud, name)[:0] for name in names))
    single = PointCloud(*(getattr(cloud, name)[:1] for name in names))
    with pytest.raises(StageError, match="empty"):
        grid_cloud(empty)
    with pytest.raises(StageError, match="1 points is too small"):
        grid_cloud(single)
    with pytest.raises(ConfigError, match="grid spacing is 0"):
        grid_cloud(cloud, 0.0)
    with pytest.raises(ConfigError, match="choose a larger spacing"):
        grid_cloud(cloud, 1e-6)
    with pytest.raises(ConfigError, match="max_gap"):
        grid_cloud(cloud, SPACING, max_gap=-1)
    with pytest.raises(ConfigError, match="mesh spacing is -1"):
        mesh_from_cloud(cloud, spacing=-1.0)
    with pytest.raises(ConfigError, match="'delaunay'; expected heightfield or poisson"):
        mesh_from_cloud(cloud, method="delaunay")
    assert MeshMethod("poisson") is MeshMethod.POISSON
