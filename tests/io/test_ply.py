"""Clouds and meshes survive a round trip, others read them, and headers that lie are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from aquamvs.errors import DataError
from aquamvs.io import export_mesh, load_mesh, load_point_cloud, save_mesh, save_point_cloud
from aquamvs.types import Mesh, PointCloud


def cloud(count: int, seed: int = 0) -> PointCloud:
    generator = torch.Generator().manual_seed(seed)
    points, colors, normals = torch.rand(3, count, 3, generator=generator)
    confidence, sigma = torch.rand(2, count, generator=generator)
    colors = (colors * 255).round() / 255
    views = torch.randint(2, 13, (count,), generator=generator, dtype=torch.int32)
    return PointCloud(points, colors, normals, confidence, sigma, views)


@pytest.fixture
def roof() -> Mesh:
    """Two triangles that meet at a ridge, counter-clockwise from above (from the cameras)."""
    vertices = torch.tensor([[0.0, 0, 1.5], [1, 0, 1.2], [0, 1, 1.5], [1, 1, 1.2]])
    faces = torch.tensor([[0, 2, 1], [1, 2, 3]])
    normals = torch.tensor([[0.0, 0, -1]]).expand(4, 3)
    colors = torch.tensor([[0.0, 0.2, 0.4], [0.6, 0.8, 1], [1, 0, 0], [0, 1, 0]])
    return Mesh(vertices, faces, normals.contiguous(), colors)


@given(st.integers(0, 20), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_cloud_round_trip(tmp_path_factory, count: int, seed: int) -> None:
    original = cloud(count, seed)
    path = tmp_path_factory.mktemp("ply") / "fused.ply"
    save_point_cloud(path, original)
    loaded = load_point_cloud(path)
    for name in ("points", "colors", "normals", "confidence", "sigma", "view_count"):
        assert torch.equal(getattr(loaded, name), getattr(original, name)), name


def test_another_program_reads_the_cloud(tmp_path: Path) -> None:
    original = cloud(7)
    save_point_cloud(tmp_path / "a.ply", original)
    other = trimesh.load(tmp_path / "a.ply")
    np.testing.assert_array_equal(other.vertices, original.points.numpy())
    np.testing.assert_array_equal(other.colors[:, :3], (original.colors * 255).round().numpy())


def test_same_cloud_gives_same_bytes(tmp_path: Path) -> None:
    for name in ("a.ply", "b.ply"):
        save_point_cloud(tmp_path / name, cloud(9))
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_foreign_cloud_loads_with_what_it_lacks_unknown(tmp_path: Path) -> None:
    header = (
        "ply\r\nformat binary_little_endian 1.0\r\nobj_info scanner\r\nelement vertex 2\r\n"
        "property double x\r\nproperty double y\r\nproperty uchar flags\r\nproperty double z\r\n"
        "end_header\r\n"
    )
    dtype = [("x", "<f8"), ("y", "<f8"), ("flags", "u1"), ("z", "<f8")]
    rows = np.array([(0.1, 0.2, 7, 0.3), (1.1, 1.2, 8, 1.3)], dtype=dtype)
    (tmp_path / "a.ply").write_bytes(header.encode() + rows.tobytes())
    loaded = load_point_cloud(tmp_path / "a.ply")
    assert loaded.points.dtype == torch.float64
    assert loaded.points.tolist() == [[0.1, 0.2, 0.3], [1.1, 1.2, 1.3]]
    assert loaded.normals.isnan().all()
    assert loaded.sigma.isnan().all()
    assert loaded.view_count.tolist() == [0, 0]


def test_mesh_round_trip(tmp_path: Path, roof: Mesh) -> None:
    save_mesh(tmp_path / "surface.ply", roof)
    loaded = load_mesh(tmp_path / "surface.ply")
    for name in ("vertices", "faces", "normals", "colors"):
        torch.testing.assert_close(getattr(loaded, name), getattr(roof, name), atol=1e-7, rtol=0)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl"])
def test_exports_keep_geometry_and_winding(tmp_path: Path, roof: Mesh, suffix: str) -> None:
    export_mesh(roof, tmp_path / f"m{suffix}")
    other = trimesh.load(tmp_path / f"m{suffix}")
    assert other.area == pytest.approx(np.hypot(1, 0.3), rel=1e-6)
    assert (other.face_normals[:, 2] < -0.9).all()
    np.testing.assert_allclose(other.bounds, [[0, 0, 1.2], [1, 1, 1.5]], atol=1e-7)


def test_glb_shows_the_surface_the_right_way_up(tmp_path: Path, roof: Mesh) -> None:
    export_mesh(roof, tmp_path / "m.glb")
    scene = trimesh.load(tmp_path / "m.glb")
    (stored,) = scene.geometry.values()
    np.testing.assert_allclose(stored.bounds, [[0, 0, 1.2], [1, 1, 1.5]], atol=1e-6)
    shown = scene.to_geometry()
    # glTF has Y up: what is deepest in the water comes out lowest, and triangles face up.
    np.testing.assert_allclose(shown.bounds[:, 1], [-1.5, -1.2], atol=1e-6)
    assert (shown.face_normals[:, 1] > 0.9).all()


def test_export_refuses_unknown_formats_and_empty_meshes(tmp_path: Path, roof: Mesh) -> None:
    with pytest.raises(DataError, match=r"\.ply, \.obj, \.stl, \.glb"):
        export_mesh(roof, tmp_path / "m.fbx")
    empty = Mesh(torch.empty(0, 3), torch.empty(0, 3).long(), torch.empty(0, 3), torch.empty(0, 3))
    with pytest.raises(DataError, match="without faces"):
        export_mesh(empty, tmp_path / "m.obj")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"element vertex 5", b"element vertex 6", "declares"),
        (b"element vertex 5", b"element vertex 99999999999", "declares"),
        (b"element vertex 5", b"element vertex -5", "cannot understand"),
        (b"property float x", b"property double x", "declares"),
        (b"property float x", b"property string x", "cannot understand"),
        (b"property float y", b"property float x", "contradictory"),
        (b"property float x", b"property float w", "only some of"),
        (b"property float nx", b"property float mx", "only some of"),
        (b"binary_little_endian", b"ascii", "expected binary_little_endian"),
        (b"binary_little_endian", b"binary_big_endian", "expected binary_little_endian"),
        (b"ply\n", b"plx\n", "no PLY file"),
        (b"end_header", b"end_headless", "no PLY file"),
        (b"element vertex 5", b"element point 5", "no vertices"),
    ],
)
def test_header_that_lies_is_refused(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    path = tmp_path / "a.ply"
    save_point_cloud(path, cloud(5))
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(DataError, match=message):
        load_point_cloud(path)


@pytest.mark.parametrize("change", [-1, 1])
def test_file_of_another_length_is_refused(tmp_path: Path, change: int) -> None:
    path = tmp_path / "a.ply"
    save_point_cloud(path, cloud(5))
    data = path.read_bytes()
    path.write_bytes(data[:-1] if change < 0 else data + b"x")
    with pytest.raises(DataError, match="holds"):
        load_point_cloud(path)


def test_faces_must_be_triangles_of_existing_vertices(tmp_path: Path, roof: Mesh) -> None:
    path = tmp_path / "m.ply"
    save_mesh(path, roof)
    data = bytearray(path.read_bytes())
    data[-4:] = (4).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(DataError, match="vertices 0 to 4; it has 4"):
        load_mesh(path)
    data[-13] = 4
    path.write_bytes(data)
    with pytest.raises(DataError, match="no triangles"):
        load_mesh(path)


def test_faces_without_a_list_of_vertices_are_refused(tmp_path: Path) -> None:
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 1\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz")
    header += "element face 1\nproperty uchar quality\nend_header\n"
    (tmp_path / "m.ply").write_bytes(header.encode() + bytes(13))
    with pytest.raises(DataError, match="without a list"):
        load_mesh(tmp_path / "m.ply")


def test_cloud_is_no_mesh(tmp_path: Path) -> None:
    save_point_cloud(tmp_path / "a.ply", cloud(3))
    with pytest.raises(DataError, match="has no faces"):
        load_mesh(tmp_path / "a.ply")


def test_missing_file_and_wrong_suffix_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_point_cloud(tmp_path / "none.ply")
    with pytest.raises(DataError, match=r"ends in .ply"):
        save_point_cloud(tmp_path / "a.pcd", cloud(3))
