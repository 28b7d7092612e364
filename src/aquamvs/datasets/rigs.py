"""Camera rigs to render with: built in, or any AquaCal calibration; and the writer of AquaCal JSON.

The file format is AquaCal's JSON 1.0 as AquaCal 2.1 writes it, so that AquaCal itself can read what
this module writes.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..calibration import CalibrationData, CameraData, load_calibration_data
from ..errors import DataError
from ..io import atomic_path
from ..pixels import rescale_intrinsics

_WATER_INDEX = 1.333


def make_rig(
    name_or_path: str | Path, *, image_size: tuple[int, int] | None = None
) -> CalibrationData:
    """A calibrated rig by name, or from a calibration file.

    Args:
        name_or_path: ``"ring13"`` (12 cameras of 1600 x 1200 on a ring about a fisheye, 1.03 m
            above the water), ``"small5"`` (5 cameras of 400 x 300, 0.7 m above the water), or the
            path of an AquaCal JSON file.
        image_size: (width, height) to which every camera's image is resized; the calibration's
            own size when absent.

    Returns:
        The rig, float64. Distortion coefficients do not depend on the resolution; intrinsics are
        rescaled exactly (see :func:`aquamvs.pixels.rescale_intrinsics`).

    Raises:
        DataError: ``image_size`` is not two positive whole numbers, or the name is unknown.
        CalibrationError: The file is not a usable calibration.

    Example:
        >>> from aquamvs.datasets import make_rig
        >>> rig = make_rig("ring13")
        >>> len(rig.ring_cameras), rig.auxiliary_cameras
        (12, ['cam12'])
    """
    builtin = _BUILT_IN.get(str(name_or_path))
    if builtin is not None:
        rig = builtin()
    elif Path(name_or_path).suffix == "" and not Path(name_or_path).exists():
        raise DataError(
            f"there is no rig named {str(name_or_path)!r} and no such file; expected one of "
            f"{', '.join(_BUILT_IN)} or the path of an AquaCal JSON file"
        )
    else:
        rig = load_calibration_data(name_or_path)
    return rig if image_size is None else resize_rig(rig, image_size)


def resize_rig(rig: CalibrationData, image_size: tuple[int, int]) -> CalibrationData:
    """The rig as if its images were resized to ``image_size`` (width, height).

    Raises:
        DataError: ``image_size`` is not two positive whole numbers.
    """
    if len(image_size) != 2 or not all(type(side) is int and side > 0 for side in image_size):
        raise DataError(
            f"image_size is {image_size!r}; expected two positive whole numbers (width, height)"
        )
    cameras = {
        name: replace(
            camera,
            K=rescale_intrinsics(camera.K, camera.image_size, image_size),
            image_size=image_size,
        )
        for name, camera in rig.cameras.items()
    }
    return replace(rig, cameras=cameras)


def save_calibration(calibration: CalibrationData, path: str | Path) -> None:
    """Write a rig as AquaCal JSON 1.0.

    What a rig does not know (the calibration board and the statistics of the adjustment) is written
    as AquaCal's required fields with zeros: a rendered rig has no calibration error.

    Args:
        calibration: Rig to write.
        path: File to create or replace; it appears whole or not at all.

    Raises:
        DataError: The file cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from aquamvs.datasets import make_rig, save_calibration
        >>> save_calibration(make_rig("small5"), "calibration.json")
        >>> Path("calibration.json").is_file()
        True
    """
    data = {
        "version": "1.0",
        "cameras": {
            name: _camera_entry(camera, calibration.water_z)
            for name, camera in calibration.cameras.items()
        },
        "interface": {
            "normal": calibration.interface_normal.tolist(),
            "n_air": calibration.n_air,
            "n_water": calibration.n_water,
        },
        "board": {
            "squares_x": 12,
            "squares_y": 9,
            "square_size": 0.06,
            "marker_size": 0.045,
            "dictionary": "DICT_5X5_100",
        },
        "diagnostics": {
            "reprojection_error_rms": 0.0,
            "reprojection_error_per_camera": dict.fromkeys(calibration.cameras, 0.0),
            "validation_3d_error_mean": 0.0,
            "validation_3d_error_std": 0.0,
        },
        "metadata": {
            "calibration_date": "1970-01-01T00:00:00",
            "software_version": "aquamvs.datasets",
            "config_hash": "",
            "num_frames_used": 0,
            "num_frames_holdout": 0,
            "seed": None,
        },
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _camera_entry(camera: CameraData, water_z: float) -> dict[str, Any]:
    """AquaCal writes its two flags only where they are true."""
    intrinsics: dict[str, Any] = {
        "K": camera.K.tolist(),
        "dist_coeffs": camera.dist_coeffs.tolist(),
        "image_size": list(camera.image_size),
    }
    if camera.is_fisheye:
        intrinsics["is_fisheye"] = True
    entry: dict[str, Any] = {
        "name": camera.name,
        "intrinsics": intrinsics,
        "extrinsics": {"R": camera.R.tolist(), "t": camera.t.tolist()},
        "water_z": water_z,
    }
    if camera.is_auxiliary:
        entry["is_auxiliary"] = True
    return entry


def _ring13() -> CalibrationData:
    with as_file(files(__package__) / "data" / "ring13.json") as path:
        return load_calibration_data(path)


def _small5() -> CalibrationData:
    """One camera over the centre and four around it that lean inwards; slightly unlike lenses."""
    height, radius, lean = 0.70, 0.24, math.radians(8.0)
    positions = [(0.0, 0.0)] + [
        (radius * math.cos(angle), radius * math.sin(angle))
        for angle in (math.radians(45.0 + 90.0 * k) for k in range(4))
    ]
    cameras = {}
    for index, (x, y) in enumerate(positions):
        R = torch.eye(3, dtype=torch.float64) if index == 0 else _lean_inwards(x, y, lean)
        focal = 430.0 + 1.7 * index
        centre = torch.tensor([x, y, 0.0], dtype=torch.float64)
        # The last camera has the rational (8-parameter) lens model.
        lens = [-0.05 - 0.004 * index, 0.02, 1e-4 * (index - 2), 5e-5 * index, 0.0]
        rational = [0.02, 0.01, 0.001] if index == 4 else []
        cameras[f"cam{index}"] = CameraData(
            name=f"cam{index}",
            K=torch.tensor(
                [
                    [focal, 0.0, 199.5 + 1.3 * (index - 2)],
                    [0.0, focal * 0.9996, 149.5 - 0.9 * (index - 2)],
                    [0.0, 0.0, 1.0],
                ],
                dtype=torch.float64,
            ),
            dist_coeffs=torch.tensor(lens + rational, dtype=torch.float64),
            R=R,
            t=-R @ centre,
            image_size=(400, 300),
        )
    normal = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    return CalibrationData(cameras, height, normal, 1.0, _WATER_INDEX)


def _lean_inwards(x: float, y: float, angle: float) -> Tensor:
    """``cam_from_world`` of a camera at (x, y) whose axis leans by ``angle`` towards the origin."""
    axis = torch.tensor([-y, x, 0.0], dtype=torch.float64)
    axis = axis / axis.norm()
    skew = torch.zeros(3, 3, dtype=torch.float64)
    skew[0, 2], skew[1, 2] = axis[1], -axis[0]
    skew[2, 0], skew[2, 1] = -axis[1], axis[0]
    rotation: Tensor = torch.linalg.matrix_exp(angle * skew)
    return rotation


_BUILT_IN: dict[str, Callable[[], CalibrationData]] = {"ring13": _ring13, "small5": _small5}
