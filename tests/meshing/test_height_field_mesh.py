"""Meshes of height maps: closed where the surface is known, open where it is not."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aquamvs.errors import ConfigError, StageError
from aquamvs.meshing import mesh_from_height_map
from aquamvs.types import HeightMap, Mesh

pytestmark = pytest.mark.usefixtures("engine")

SPACING = 0.002


def height_map(z: torch.Tensor) -> HeightMap:
    known = z.isfinite()
    color = torch.rand(*z.shape, 3, generator=torch.Generator().manual_seed(0))
    count = 4 * known.int()
    return HeightMap(0.1, -0.2, SPACING, z.float(), 0.001 + 0 * z, known.float(), count, color)


def plane(rows: int, columns: int, a: float = 0.0, b: float = 0.0) -> torch.Tensor:
    v, u = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return 1.4 + SPACING * (a * u + b * v)


def edges(mesh: Mesh) -> Counter[tuple[int, int]]:
    """Directed edges of all faces and how often each occurs."""
    pairs = torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    return Counter((int(a), int(b)) for a, b in pairs)


def boundary(mesh: Mesh) -> set[tuple[int, int]]:
    every = edges(mesh)
    return {edge for edge in every if edge[::-1] not in every}


def face_normals(mesh: Mesh) -> np.ndarray:
    a, b, c = mesh.vertices.double().numpy()[mesh.faces.numpy()].transpose(1, 0, 2)
    return np.cross(b - a, c - a)


def area(mesh: Mesh) -> float:
    return float(np.linalg.norm(face_normals(mesh), axis=1).sum() / 2)


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.8, -0.5), (-1.5, 2.0)])
def test_plane_has_its_area_normals_and_orientation(slope: tuple[float, float]) -> None:
    grid = height_map(plane(7, 9, *slope))
    mesh = mesh_from_height_map(grid)
    a, b = slope
    expected = 6 * 8 * SPACING**2 * np.sqrt(1 + a * a + b * b)
    assert area(mesh) == pytest.approx(expected, rel=1e-3)
    assert (face_normals(mesh)[:, 2] < 0).all()  # counter-clockwise for cameras above
    normal = torch.tensor([a, b, -1.0])
    torch.testing.assert_close(
        mesh.normals, (normal / normal.norm()).expand(63, 3), atol=1e-3, rtol=0
    )
    assert torch.equal(mesh.colors, grid.color.reshape(-1, 3))
    x, y = grid.grid_xy()
    torch.testing.assert_close(mesh.vertices[:, 0], x.reshape(-1).float())
    torch.testing.assert_close(mesh.vertices[:, 1], y.reshape(-1).float())


@given(st.integers(0, 9999), st.floats(0.0, 0.5))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_mesh_is_a_manifold_of_one_orientation(seed: int, missing: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    rough, chance = torch.rand(2, 8, 9, generator=generator)
    z = torch.where(chance < missing, torch.nan, 1.4 + 6 * SPACING * rough)
    try:
        mesh = mesh_from_height_map(height_map(z))
    except StageError:
        return
    every = edges(mesh)
    assert max(every.values()) == 1  # no edge is used twice in one direction
    assert (face_normals(mesh)[:, 2] < 0).all()
    assert mesh.faces.unique().numel() == len(mesh.vertices)  # no vertex is left over
    assert mesh.vertices.isfinite().all()


def test_full_grid_has_no_inner_boundary() -> None:
    mesh = mesh_from_height_map(height_map(plane(6, 7)))
    count = len(edges(mesh))
    undirected = (count + len(boundary(mesh))) // 2
    assert len(mesh.vertices) - undirected + len(mesh.faces) == 1  # Euler: a disc
    assert len(boundary(mesh)) == 2 * (5 + 6)


def test_hole_stays_a_hole_of_its_own_size() -> None:
    z = plane(7, 7)
    z[3, 3] = torch.nan
    mesh = mesh_from_height_map(height_map(z))
    assert len(mesh.vertices) == 48
    # The four quads around the cell keep one triangle each.
    assert len(mesh.faces) == 2 * 36 - 4
    inner = [e for e in boundary(mesh) if not _on_rim(mesh, e)]
    assert len(inner) == 4


def _on_rim(mesh: Mesh, edge: tuple[int, int]) -> bool:
    place = ((mesh.vertices[list(edge), :2] - torch.tensor([0.1, -0.2])) / SPACING).round()
    return bool(((place == 0).all(0) | (place == 6).all(0)).any())


def test_no_triangle_crosses_a_wall() -> None:
    z = plane(6, 8)
    z[:, 4:] -= 0.05  # a box of 5 cm height
    mesh = mesh_from_height_map(height_map(z))
    assert len(mesh.faces) == 2 * 5 * 3 + 2 * 5 * 3
    heights = mesh.vertices[:, 2][mesh.faces]
    assert (heights.amax(1) - heights.amin(1)).max() < 1e-6
    whole = mesh_from_height_map(height_map(z), max_slope=100.0)
    assert len(whole.faces) == 2 * 5 * 7


def test_corner_above_the_rest_is_cut_off_along_the_other_diagonal() -> None:
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        z = plane(2, 2)
        z[corner] -= 0.1
        mesh = mesh_from_height_map(height_map(z))
        assert len(mesh.faces) == 1
        assert (mesh.vertices[:, 2] == z.max().float()).all()


def test_grid_without_triangles_is_a_stage_error() -> None:
    z = torch.full((3, 3), torch.nan)
    z[1, 1] = 1.0
    with pytest.raises(StageError, match="1 of 9 cells"):
        mesh_from_height_map(height_map(z))


def test_slope_limit_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="max_slope"):
        mesh_from_height_map(height_map(plane(3, 3)), max_slope=0.0)
