"""What other programs read: cameras whose pixels are ours, rays, and height maps with units."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import netcdf_file
from scipy.spatial.transform import Rotation

from aquamvs.datasets import make_rig
from aquamvs.errors import DataError
from aquamvs.io import export_cameras, open_arrays, save_netcdf
from aquamvs.projection import RefractiveProjectionModel
from aquamvs.types import HeightMap, View


def views(n_water: float) -> list[View]:
    rig = make_rig("small5", image_size=(60, 40))
    found = []
    for name, camera in rig.cameras.items():
        model = RefractiveProjectionModel(
            *(camera.K, camera.R, camera.t, rig.water_z, rig.interface_normal, 1.0, n_water)
        )
        found.append(View(name, torch.rand(40, 60, 3), torch.ones(40, 60).bool(), model))
    return found


@pytest.fixture
def points() -> torch.Tensor:
    """Points under the middle of the rig."""
    rig = make_rig("small5")
    spread = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)).double() - 0.5
    return spread * 0.2 + torch.tensor([0.0, 0.0, rig.water_z + 0.3])


def projected(R: np.ndarray, t: np.ndarray, K: tuple[float, ...], points: np.ndarray) -> np.ndarray:
    """A pinhole camera as the other programs know it."""
    x, y, z = R @ points.T + t[:, None]
    fx, fy, cx, cy = K
    return np.stack([fx * x / z + cx, fy * y / z + cy], axis=-1)


def test_colmap_cameras_see_points_where_ours_do(tmp_path: Path, points: torch.Tensor) -> None:
    ours = views(1.0)
    export_cameras(ours, tmp_path, target="colmap")
    lines = (tmp_path / "sparse/0/cameras.txt").read_text().splitlines()[1:]
    poses = (tmp_path / "sparse/0/images.txt").read_text().splitlines()[1::2]
    for view, camera, pose in zip(ours, lines, poses, strict=True):
        number, model, width, height, *K = camera.split()
        _, *numbers, owner, name = pose.split()
        assert (model, width, height, owner) == ("PINHOLE", "60", "40", number)
        assert (tmp_path / "images" / name).is_file()
        w, x, y, z, *t = map(float, numbers)
        R = Rotation.from_quat([x, y, z, w]).as_matrix()
        found = projected(R, np.array(t), tuple(map(float, K)), points.numpy())
        expected, _ = view.model.project(points)
        np.testing.assert_allclose(found - 0.5, expected.numpy(), atol=1e-9)


def test_nerfstudio_cameras_see_points_where_ours_do(tmp_path: Path, points: torch.Tensor) -> None:
    ours = views(1.0)
    export_cameras(ours, tmp_path, target="nerfstudio")
    frames = json.loads((tmp_path / "transforms.json").read_text())["frames"]
    for view, frame in zip(ours, frames, strict=True):
        camera_from_world = np.linalg.inv(frame["transform_matrix"])
        x, y, z = camera_from_world[:3, :3] @ points.numpy().T + camera_from_world[:3, 3:]
        u = frame["fl_x"] * x / -z + frame["cx"]  # OpenGL: looks along -z, y up
        v = frame["fl_y"] * -y / -z + frame["cy"]
        expected, _ = view.model.project(points)
        np.testing.assert_allclose(np.stack([u, v], -1) - 0.5, expected.numpy(), atol=1e-9)


@pytest.mark.parametrize("kind", ["colmap", "nerfstudio"])
def test_pinhole_cameras_under_water_are_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=r"rays bend there.*Export rays instead"):
        export_cameras(views(1.333), tmp_path, target=kind)
    assert not any(tmp_path.iterdir())


def test_rays_meet_what_the_pixels_see(tmp_path: Path, points: torch.Tensor) -> None:
    ours = views(1.333)
    for view, path in zip(ours, export_cameras(ours, tmp_path, target="rays"), strict=True):
        with open_arrays(path) as arrays:
            origins = arrays.array("origins", np.float32, (40, 60, 3)).double()
            directions = arrays.array("directions", np.float32, (40, 60, 3)).double()
        torch.testing.assert_close(directions.norm(dim=-1), torch.ones(40, 60).double())
        pixels, valid = view.model.project(origins + 0.4 * directions)
        rows, columns = torch.meshgrid(torch.arange(40), torch.arange(60), indexing="ij")
        assert valid.all()
        torch.testing.assert_close(
            pixels, torch.stack([columns, rows], -1).double(), atol=1e-3, rtol=0
        )


def test_height_maps_become_netcdf_with_units(tmp_path: Path) -> None:
    z = torch.linspace(1, 2, 12).reshape(3, 4)
    z[1, 2] = torch.nan
    heights = HeightMap(
        *(0.5, -0.25, 0.01, z, 0.001 * z, z * 0, torch.full((3, 4), 5).int()),
        torch.full((3, 4, 3), 0.5),
    )
    for name in ("a.nc", "b.nc"):
        save_netcdf(tmp_path / name, heights)
    assert (tmp_path / "a.nc").read_bytes() == (tmp_path / "b.nc").read_bytes()
    with netcdf_file(tmp_path / "a.nc", "r", mmap=False) as file:
        assert file.Conventions == b"CF-1.11"
        assert file.variables["z"].units == b"m"
        assert file.variables["z"].positive == b"down"
        assert file.variables["z"].dimensions == ("y", "x")
        np.testing.assert_array_equal(file.variables["z"][:], z.numpy())
        np.testing.assert_allclose(file.variables["x"][:], [0.5, 0.51, 0.52, 0.53])
        np.testing.assert_allclose(file.variables["y"][:], [-0.25, -0.24, -0.23])
        assert (file.variables["view_count"][:] == 5).all()
        assert file.variables["color"].shape == (3, 4, 3)
    with pytest.raises(DataError, match=r"ends in \.nc"):
        save_netcdf(tmp_path / "a.tif", heights)
