"""Files that are whole and hold numbers that no scene has: a value or our error comes out."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aquamvs.cli import main
from aquamvs.datasets.ground_truth import load_surface
from aquamvs.errors import DataError
from aquamvs.evaluation import Triangles
from aquamvs.io import (
    load_height_map,
    load_mesh,
    load_point_cloud,
    save_height_map,
    save_mesh,
    save_point_cloud,
)
from aquamvs.types import HeightMap, Mesh, PointCloud

Z = torch.linspace(1.0, 1.1, 30).reshape(5, 6)
BED = HeightMap(
    0.0, 0.0, 0.01, Z, torch.full_like(Z, 1e-3), torch.ones(5, 6), Z.int(), torch.ones(5, 6, 3)
)
CORNERS = [[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]


def saved_mesh(path: Path, vertices: list[list[float]], faces: list[list[int]]) -> Path:
    rows = torch.tensor(vertices)
    save_mesh(path, Mesh(rows, torch.tensor(faces), torch.zeros_like(rows), torch.ones_like(rows)))
    return path


def saved_cloud(path: Path, points: list[list[float]]) -> Path:
    rows, row = torch.tensor(points), torch.ones(len(points))
    save_point_cloud(path, PointCloud(rows, torch.ones_like(rows), rows, row, row, row.int()))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"spacing": 1e300},
        {"spacing": 1e-300},
        {"x0": 1e308},
        {"y0": math.nan},
        {"z": Z + math.inf},
        {"z": Z * 3e38},
        {"sigma": -Z},
        {"sigma": Z + math.inf},
    ],
)
def test_absurd_height_maps_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "h.npz"
    save_height_map(path, replace(BED, **changes))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"expected metres|or NaN where it is unknown"):
        load_height_map(path)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_height_map_without_a_single_triangle_is_refused(tmp_path: Path, rows: int) -> None:
    arrays = ("z", "sigma", "confidence", "view_count", "color")
    narrow = replace(BED, **{name: getattr(BED, name)[:rows] for name in arrays})
    save_height_map(tmp_path / "h.npz", narrow)
    for load in (load_height_map, load_surface):
        with pytest.raises(DataError, match="expected 2 x 2 or more"):
            load(tmp_path / "h.npz")


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_a_mesh_with_a_corner_nowhere_is_refused(tmp_path: Path, value: float) -> None:
    path = saved_mesh(tmp_path / "m.ply", [[value, 0.0, 1.0], *CORNERS[1:]], [[0, 1, 2]])
    with pytest.raises(DataError, match=r"without a position|more than 1e\+09 m away"):
        load_mesh(path)


def test_points_that_other_programs_leave_undefined_are_read_but_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved_cloud(tmp_path / "c.ply", [[math.nan] * 3, *CORNERS])
    assert len(load_point_cloud(path)) == 4
    assert main(["evaluate", str(path), str(path)]) == 2
    assert "1 points without a position" in capsys.readouterr().err


def test_samples_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    mesh = saved_mesh(tmp_path / "m.ply", CORNERS, [[0, 1, 2]])
    assert main(["evaluate", str(mesh), str(mesh), "--sample-spacing", "1e-9"]) == 2


def test_a_needle_among_small_triangles_costs_no_memory() -> None:
    small = torch.tensor(CORNERS) + 3 * torch.arange(100.0)[:, None, None]
    needle = torch.tensor([[0.0, 0.0, 5.0], [1.0, 0.0, 5.0], [1e7, 1e7, 5.0]])
    corners = torch.cat([small.reshape(-1, 3), needle])
    surface = Triangles(corners, torch.arange(len(corners)).reshape(-1, 3))
    assert surface.distance(torch.tensor([[0.0, 0.0, 0.5]])).tolist() == [0.5]


def test_a_surface_of_points_has_distances() -> None:
    point = Triangles(torch.tensor([[0.0, 0.0, 1.0]] * 3), torch.tensor([[0, 1, 2]]))
    assert point.distance(torch.tensor([[0.0, 3.0, 5.0]])).tolist() == [5.0]
