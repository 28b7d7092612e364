"""The 3D view: what its data decode to, how it is thinned, and that it needs nothing else."""

import base64
import json
import re

import numpy as np
import pytest
import torch

from aquamvs.datasets import make_rig
from aquamvs.errors import DataError
from aquamvs.types import HeightMap, Mesh, PointCloud
from aquamvs.visualization import View3D, view_3d


def cloud(count: int, *, strays: int = 0) -> PointCloud:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(count, 3, generator=generator)
    points[:strays] += 50
    zeros = torch.zeros(count)
    return PointCloud(points, points.clamp(0, 1), points, zeros, zeros, zeros.int())


def height_map(side: int) -> HeightMap:
    z = 1 + 0.01 * torch.arange(side).float()[:, None].expand(side, side).clone()
    z[0, 0] = torch.nan
    known = z.isfinite()
    color = torch.zeros(side, side, 3)
    color[..., 0] = 1.0
    return HeightMap(0.1, 0.2, 0.01, z, torch.zeros_like(z), known.float(), known.int(), color)


def sphere(rings: int) -> Mesh:
    """A closed unit sphere of latitude rings."""
    theta = torch.linspace(0, np.pi, rings)
    phi = torch.linspace(0, 2 * np.pi, 2 * rings + 1)[:-1]
    t, p = torch.meshgrid(theta, phi, indexing="ij")
    vertices = torch.stack([t.sin() * p.cos(), t.sin() * p.sin(), t.cos()], -1).reshape(-1, 3)
    columns = len(phi)
    i, j = torch.meshgrid(torch.arange(rings - 1), torch.arange(columns), indexing="ij")
    a, b = (i * columns + j).ravel(), (i * columns + (j + 1) % columns).ravel()
    faces = torch.cat(
        [torch.stack([a, b, a + columns], 1), torch.stack([b, b + columns, a + columns], 1)]
    )
    return Mesh(vertices, faces, vertices, torch.ones_like(vertices))


def decoded(view: View3D) -> dict[str, np.ndarray]:
    """The data as the page's script reads them."""
    page = view._repr_html_()
    match = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    data = json.loads(match[1])
    arrays = {
        key: np.frombuffer(base64.b64decode(data[key]), kind).reshape(-1, 3)
        for key, kind in (("positions", "<u2"), ("colors", "u1"), ("faces", "<u4"))
    }
    arrays["positions"] = np.array(data["low"]) + arrays["positions"] / 65535 * data["span"]
    arrays["markers"] = np.array(data["markers"])
    return arrays


def test_positions_and_colours_survive_the_page_to_the_step() -> None:
    source = cloud(2000)
    view = view_3d(source)
    data = decoded(view)
    assert np.abs(data["positions"] - view.vertices).max() <= 0.51 / 65535
    assert np.abs(data["colors"] / 255 - data["positions"].clip(0, 1)).max() < 0.003
    assert len(data["faces"]) == 0


def test_a_large_cloud_is_thinned_and_alike_every_time() -> None:
    source = cloud(30_000)
    first, second = view_3d(source, max_vertices=5000), view_3d(source, max_vertices=5000)
    assert 4900 < len(first.vertices) <= 5000
    assert first._repr_html_() == second._repr_html_()
    assert "30,000 points" in first.title


def test_stray_points_do_not_shrink_the_scene() -> None:
    view = view_3d(cloud(20_000, strays=5))
    assert np.ptp(view.vertices, axis=0).max() < 1.2


def test_a_height_map_is_a_surface_without_its_unknown_cells() -> None:
    view = view_3d(height_map(30))
    data = decoded(view)
    assert len(data["positions"]) == 30 * 30 - 1
    assert len(data["faces"]) == 2 * (29 * 29 - 1)
    assert data["positions"][:, 2].min() == pytest.approx(1.0, abs=1e-5)
    assert set(map(tuple, data["colors"])) == {(255, 0, 0)}
    corners = data["positions"][data["faces"]]
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    assert edges.max() < 0.01 * 3**0.5 + 1e-4  # neighbours only: no triangle spans the hole


def test_a_fine_height_map_is_shown_on_a_wider_grid() -> None:
    view = view_3d(height_map(300), max_vertices=1000)
    assert 500 < len(view.vertices) <= 1000
    assert np.ptp(view.vertices[:, 0]) > 2.8


def test_a_fine_mesh_keeps_its_shape_with_fewer_vertices() -> None:
    view = view_3d(sphere(120), max_vertices=2000)
    assert 500 < len(view.vertices) <= 2000
    radius = np.linalg.norm(view.vertices, axis=1)
    assert radius.min() > 0.95
    assert view.faces.max() < len(view.vertices)
    a, b, c = (view.vertices[view.faces[:, k]] for k in range(3))
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    assert area == pytest.approx(4 * np.pi, rel=0.03)


def test_cameras_are_marked() -> None:
    rig = make_rig("small5")
    markers = decoded(view_3d(cloud(500), rig))["markers"]
    expected = torch.stack(list(rig.camera_positions().values())).numpy()
    assert np.abs(markers - expected).max() < 1e-5


def test_the_page_loads_nothing_and_escapes_its_title() -> None:
    page = view_3d(cloud(500), title="a < b & c")._repr_html_()
    assert "a &lt; b &amp; c" in page
    assert not re.search(r"https?:|src=|import\s", page)
    assert "@" not in page


def test_a_notebook_stores_the_page_once_and_no_arrays() -> None:
    bundle = view_3d(cloud(500))._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert len(bundle["text/plain"]) < 200


def test_nothing_to_show_is_an_error() -> None:
    with pytest.raises(DataError, match="PointCloud is empty"):
        view_3d(cloud(0))
    with pytest.raises(DataError, match="max_vertices is 10"):
        view_3d(cloud(5), max_vertices=10)
