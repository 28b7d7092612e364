import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aquamvs.calibration import CalibrationData, load_calibration_data
from aquamvs.datasets import make_rig, save_calibration
from aquamvs.errors import CalibrationError, DataError
from aquamvs.pixels import rescale_pixels


def test_ring13_is_a_full_size_ring_with_one_auxiliary_fisheye() -> None:
    rig = make_rig("ring13")
    assert len(rig.cameras) == 13
    assert {camera.image_size for camera in rig.cameras.values()} == {(1600, 1200)}
    assert rig.auxiliary_cameras == ["cam12"]
    assert rig.cameras["cam12"].is_fisheye


def test_small5_has_five_reference_cameras_that_see_a_common_point() -> None:
    rig = make_rig("small5")
    assert rig.ring_cameras == [f"cam{i}" for i in range(5)]
    point = torch.tensor([0.0, 0.0, rig.water_z + 0.35], dtype=torch.float64)
    for name, camera in rig.cameras.items():
        assert camera.image_size == (400, 300)
        pixel, valid = rig.projection_model(name).project(point)
        assert valid
        assert (pixel > torch.tensor([100.0, 75.0])).all()
        assert (pixel < torch.tensor([300.0, 225.0])).all()


def test_small5_rotations_are_proper_and_the_lens_models_differ() -> None:
    rig = make_rig("small5")
    for camera in rig.cameras.values():
        torch.testing.assert_close(
            camera.R @ camera.R.T, torch.eye(3, dtype=torch.float64), atol=1e-14, rtol=0
        )
        assert float(torch.linalg.det(camera.R)) == pytest.approx(1.0)
    assert {camera.dist_coeffs.numel() for camera in rig.cameras.values()} == {5, 8}


def test_resizing_moves_projections_as_the_image_is_resized() -> None:
    full, half = make_rig("ring13"), make_rig("ring13", image_size=(800, 600))
    points = torch.tensor([[-0.4, 0.5, 1.4], [-0.1, 0.8, 1.3]], dtype=torch.float64)
    for name in full.cameras:
        expected, _ = full.projection_model(name).project(points)
        found, _ = half.projection_model(name).project(points)
        assert half.cameras[name].image_size == (800, 600)
        torch.testing.assert_close(
            found, rescale_pixels(expected, (1600, 1200), (800, 600)), atol=1e-10, rtol=0
        )


@pytest.mark.parametrize("name", ["ring13", "small5"])
def test_a_saved_rig_is_loaded_back_exactly(name: str, tmp_path: Path) -> None:
    rig = make_rig(name)
    save_calibration(rig, tmp_path / "calibration.json")
    found = load_calibration_data(tmp_path / "calibration.json")
    assert list(found.cameras) == list(rig.cameras)
    for key in ("water_z", "n_air", "n_water"):
        assert getattr(found, key) == getattr(rig, key)
    assert torch.equal(found.interface_normal, rig.interface_normal)
    for camera, other in zip(rig.cameras.values(), found.cameras.values(), strict=True):
        for key in ("K", "dist_coeffs", "R", "t"):
            assert torch.equal(getattr(camera, key), getattr(other, key))
        for key in ("image_size", "is_fisheye", "is_auxiliary"):
            assert getattr(camera, key) == getattr(other, key)


@pytest.mark.parametrize("name", ["ring13", "small5"])
def test_aquacal_reads_what_save_calibration_wrote(name: str, tmp_path: Path) -> None:
    serialization = pytest.importorskip("aquacal.io.serialization")
    rig = make_rig(name, image_size=(640, 480))
    save_calibration(rig, tmp_path / "calibration.json")
    found = serialization.load_calibration(tmp_path / "calibration.json")
    assert list(found.cameras) == list(rig.cameras)
    for key, camera in rig.cameras.items():
        other = found.cameras[key]
        assert torch.equal(torch.from_numpy(other.intrinsics.K), camera.K)
        assert torch.equal(torch.from_numpy(other.intrinsics.dist_coeffs), camera.dist_coeffs)
        assert torch.equal(torch.from_numpy(other.extrinsics.R), camera.R)
        assert torch.equal(torch.from_numpy(other.extrinsics.t), camera.t)
        assert other.intrinsics.image_size == (640, 480)
        assert other.intrinsics.is_fisheye == camera.is_fisheye
        assert other.is_auxiliary == camera.is_auxiliary
        assert other.water_z == rig.water_z
    # AquaCal's own writer round-trips it, so that no field it needs is missing.
    serialization.save_calibration(found, tmp_path / "again.json")
    again = json.loads((tmp_path / "again.json").read_text())
    assert again == json.loads((tmp_path / "calibration.json").read_text())


def test_a_rig_is_made_from_a_calibration_file(tiny_rig: CalibrationData, tmp_path: Path) -> None:
    path = tmp_path / "tilted.json"
    normal = torch.tensor([0.05, 0.0, -1.0], dtype=torch.float64)
    save_calibration(replace(tiny_rig, interface_normal=normal / normal.norm()), path)
    rig = make_rig(path, image_size=(40, 30))
    assert rig.cameras["cam0"].image_size == (40, 30)
    assert float(rig.interface_normal[0]) == pytest.approx(0.05, rel=2e-3)


def test_an_unknown_rig_is_named_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"'ring12'.*ring13, small5"):
        make_rig("ring12")


def test_a_missing_calibration_file_is_an_error() -> None:
    with pytest.raises(CalibrationError, match=r"absent\.json"):
        make_rig("absent.json")


@pytest.mark.parametrize("size", [(0, 600), (800,), (800.0, 600.0), (-8, 6)])
def test_an_impossible_image_size_is_an_error(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="image_size"):
        make_rig("small5", image_size=size)
