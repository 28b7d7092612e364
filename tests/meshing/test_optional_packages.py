"""Poisson meshing and simplification, with the packages that they need and without them."""

import importlib.util

import numpy as np
import pytest
import torch

from aquamvs.errors import ConfigError
from aquamvs.meshing import decimate, mesh_from_cloud, mesh_from_height_map
from aquamvs.meshing.normals import vertex_normals
from aquamvs.types import HeightMap, Mesh, PointCloud

HAS_OPEN3D = importlib.util.find_spec("open3d") is not None
HAS_SIMPLIFICATION = importlib.util.find_spec("fast_simplification") is not None


def dome(count: int = 3000) -> PointCloud:
    """Points of the upper half of a ball of 5 cm, by the golden spiral."""
    index = torch.arange(count, dtype=torch.float64)
    down = -(index + 0.5) / count
    turn = index * torch.pi * (3 - 5**0.5)
    radius = torch.sqrt(1 - down**2)
    normals = torch.stack([radius * turn.cos(), radius * turn.sin(), down], dim=1)
    one = torch.ones(count)
    colors = torch.stack([-down, 1 + down, 0 * down], dim=1).float()
    points = torch.tensor([0.1, 0.2, 1.5], dtype=torch.float64) + 0.05 * normals
    return PointCloud(points, colors, normals.float(), one, 1e-3 * one, 3 * one.int())


def bumpy() -> Mesh:
    v, u = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    z = 1.4 + 0.004 * torch.sin(u / 8) * torch.cos(v / 6)
    one = torch.ones_like(z)
    color = torch.stack([u / 50, v / 40, 0 * u], dim=-1)
    return mesh_from_height_map(HeightMap(0.0, 0.0, 0.002, z, one, one, one.int(), color))


@pytest.mark.skipif(HAS_OPEN3D, reason="Open3D is installed")
def test_poisson_without_open3d_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"install \"aquamvs\[mesh\]\""):
        mesh_from_cloud(dome(), method="poisson")


@pytest.mark.skipif(HAS_SIMPLIFICATION, reason="fast-simplification is installed")
def test_simplification_without_its_package_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match="fast-simplification"):
        decimate(bumpy(), 100)


@pytest.mark.skipif(not HAS_OPEN3D, reason="needs Open3D")
def test_poisson_recovers_a_dome_faces_out_and_leaves_its_foot_open() -> None:
    meshes = [mesh_from_cloud(dome(), spacing=0.003, method="poisson") for _ in range(2)]
    assert torch.equal(meshes[0].vertices, meshes[1].vertices)
    assert torch.equal(meshes[0].faces, meshes[1].faces)
    from_centre = meshes[0].vertices.double() - torch.tensor([0.1, 0.2, 1.5]).double()
    radius = from_centre.norm(dim=1)
    near = from_centre[:, 2] < -0.005
    assert (radius[near] - 0.05).abs().max() < 0.001
    assert from_centre[:, 2].max() < 0.012  # no invented lid
    outward = (meshes[0].normals.double() * from_centre).sum(1) / radius
    assert outward[near].min() > 0.9


@pytest.mark.skipif(not HAS_SIMPLIFICATION, reason="needs fast-simplification")
def test_simplified_mesh_keeps_shape_orientation_and_colours() -> None:
    mesh = bumpy()
    simple = decimate(mesh, 800)
    assert len(simple.faces) == pytest.approx(800, rel=0.05)
    u, v = simple.vertices[:, 0] / 0.002, simple.vertices[:, 1] / 0.002
    expected = 1.4 + 0.004 * torch.sin(u / 8) * torch.cos(v / 6)
    assert (simple.vertices[:, 2] - expected).abs().median() < 1e-4
    assert (simple.normals[:, 2] < 0).all()
    np.testing.assert_allclose(simple.colors[:, 0], u / 50, atol=0.05)
    assert torch.equal(decimate(mesh, 800).vertices, simple.vertices)


def test_mesh_that_is_small_enough_stays_as_it_is() -> None:
    mesh = bumpy()
    assert decimate(mesh, len(mesh.faces)) is mesh


def test_target_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="target_faces is 0"):
        decimate(bumpy(), 0)


def test_vertex_normals_of_a_tetrahedron_point_from_its_centre() -> None:
    vertices = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1], [5, 5, 5]])
    faces = torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    normals = vertex_normals(vertices, faces)
    torch.testing.assert_close(normals[:4], vertices[:4] / 3**0.5)
    assert normals[4].tolist() == [0, 0, -1]  # a vertex without faces looks at the cameras
