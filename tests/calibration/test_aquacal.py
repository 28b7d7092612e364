"""Reading AquaCal files: those that AquaCal writes, and those that nobody should trust."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aquacal.config.schema import (
    BoardConfig,
    CalibrationMetadata,
    CalibrationResult,
    CameraCalibration,
    CameraExtrinsics,
    CameraIntrinsics,
    DiagnosticsData,
    InterfaceParams,
)
from aquacal.io.serialization import save_calibration

from aquamvs.calibration import load_calibration_data
from aquamvs.errors import CalibrationError


def aquacal_result() -> CalibrationResult:
    lenses = {
        "left": ([-0.1, 0.02, 1e-4, 2e-4, 0.0], False),
        "right": ([0.3, -0.1, 1e-4, 2e-4, 0.01, 0.5, -0.05, 0.01], False),
        "top": ([-0.02, 0.004, -0.001, 0.0002], True),
    }
    cameras = {
        name: CameraCalibration(
            name=name,
            intrinsics=CameraIntrinsics(
                K=np.array([[1000.0 + i, 0, 640.5], [0, 1001.0, 480.25], [0, 0, 1]]),
                dist_coeffs=np.array(coefficients),
                image_size=(1280, 960),
                is_fisheye=fisheye,
            ),
            extrinsics=CameraExtrinsics(R=np.eye(3), t=np.array([-0.3 * i, 0.1, 0.0])),
            water_z=0.9,
            is_auxiliary=name == "top",
        )
        for i, (name, (coefficients, fisheye)) in enumerate(lenses.items())
    }
    tilt = np.array([0.02, -0.01, -1.0])
    return CalibrationResult(
        cameras=cameras,
        interface=InterfaceParams(normal=tilt / np.linalg.norm(tilt), n_air=1.0003, n_water=1.34),
        board=BoardConfig(8, 6, 0.03, 0.022, "DICT_5X5_100"),
        diagnostics=DiagnosticsData(0.2, {}, 0.001, 0.0005),
        metadata=CalibrationMetadata("2026-01-01", "2.1.0", "x", 10, 2, 0),
    )


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A file written by AquaCal's own serializer."""
    path = tmp_path / "calibration.json"
    save_calibration(aquacal_result(), path)
    return path


def test_what_aquacal_writes_comes_back(written: Path) -> None:
    expected, calibration = aquacal_result(), load_calibration_data(written)
    assert list(calibration.cameras) == ["left", "right", "top"]
    assert calibration.ring_cameras == ["left", "right"]
    assert calibration.auxiliary_cameras == ["top"]
    assert (calibration.water_z, calibration.n_air, calibration.n_water) == (0.9, 1.0003, 1.34)
    assert np.allclose(calibration.interface_normal, expected.interface.normal, atol=1e-15)
    for name, camera in calibration.cameras.items():
        reference = expected.cameras[name]
        assert camera.name == name
        assert np.array_equal(camera.K, reference.intrinsics.K)
        assert np.array_equal(camera.dist_coeffs, reference.intrinsics.dist_coeffs)
        assert np.array_equal(camera.R, reference.extrinsics.R)
        assert np.array_equal(camera.t, reference.extrinsics.t)
        assert camera.image_size == reference.intrinsics.image_size
        assert camera.is_fisheye == reference.intrinsics.is_fisheye
        assert camera.K.dtype == torch.float64
        assert np.allclose(camera.camera_center, reference.extrinsics.C)


def test_projection_model_carries_the_rig(written: Path) -> None:
    calibration = load_calibration_data(written)
    model = calibration.projection_model("right")
    assert model.n_water == 1.34
    assert torch.allclose(model.camera_center, calibration.cameras["right"].camera_center)
    assert calibration.camera_positions()["right"].tolist() == pytest.approx([0.3, -0.1, 0.0])


Break = Callable[[dict[str, Any]], None]


def _set(*keys: str, value: object) -> Break:
    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return change


def _delete(*keys: str) -> Break:
    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


def _rename(data: dict[str, Any]) -> None:
    data["cameras"]["../left"] = data["cameras"].pop("left")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("version", value="2.0"), "version is '2.0'; expected '1.0'"),
        (_set("cameras", value={}), "cameras is empty"),
        (_delete("interface"), "interface is missing"),
        (_set("interface", "n_water", value="wet"), "interface.n_water is 'wet'"),
        (_set("interface", "n_water", value=0.9), "n_water = 0.9"),
        (_set("interface", "normal", value=[0, 0, 1]), "from water to air"),
        (_set("interface", "normal", value=[0, 0, -2]), "length 2"),
        (_set("interface", "normal", value=[0, 0]), r"shape \(3,\)"),
        (_delete("cameras", "left", "water_z"), "cameras.left.water_z is missing"),
        (_set("cameras", "left", "water_z", value=0.95), "0.9.* for camera right but 0.95"),
        (_set("cameras", "left", "water_z", value=float("nan")), "finite"),
        (_set("cameras", "left", "intrinsics", "K", value=[[1, 2], [3, 4]]), r"shape \(3, 3\)"),
        (_set("cameras", "left", "intrinsics", "K", value=np.eye(3).tolist()[::-1]), "fx, s, cx"),
        (_set("cameras", "left", "intrinsics", "dist_coeffs", value=[0.1] * 7), "has 7 numbers"),
        (_set("cameras", "top", "intrinsics", "dist_coeffs", value=[0.1] * 5), "fisheye"),
        (_set("cameras", "left", "intrinsics", "image_size", value=[0, 4]), "width, height"),
        (_set("cameras", "left", "intrinsics", "image_size", value=[1e9, 4]), "width, height"),
        (_set("cameras", "left", "extrinsics", "R", value=(2 * np.eye(3)).tolist()), "rotation"),
        (_set("cameras", "left", "extrinsics", "R", value=(-np.eye(3)).tolist()), "det R = -1"),
        (_set("cameras", "left", "extrinsics", "t", value=[0, 0, -5.0]), "below the water surface"),
        (_set("cameras", "left", "is_auxiliary", value="yes"), "is a str; expected a bool"),
        (_set("cameras", "left", value=[]), "cameras.left is a list"),
        (_rename, "'../left'"),
    ],
)
def test_a_broken_file_is_refused_with_its_name_and_key(
    written: Path, change: Break, message: str
) -> None:
    data = copy.deepcopy(json.loads(written.read_text()))
    change(data)
    written.write_text(json.dumps(data))
    with pytest.raises(CalibrationError, match=message) as caught:
        load_calibration_data(written)
    assert str(written) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "nonsense", "[" * 100_000])
def test_a_file_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=r"calibration\.json"):
        load_calibration_data(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"nowhere\.json does not exist"):
        load_calibration_data(tmp_path / "nowhere.json")


def test_water_levels_within_a_millimetre_are_one_surface(written: Path) -> None:
    data = json.loads(written.read_text())
    data["cameras"]["right"]["water_z"] += 9e-4
    written.write_text(json.dumps(data))
    assert load_calibration_data(written).water_z == 0.9
