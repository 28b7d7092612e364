"""Reader of AquaCal's calibration JSON, version 1.0 (as written by AquaCal 2.1).

The file comes from outside, so every field is checked for presence, type, shape and physical sense
before anything is built from it.
"""

import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CalibrationError
from ..files import load_json, shortened
from ..projection import RefractiveProjectionModel

SUPPORTED_VERSION = "1.0"
WATER_Z_TOLERANCE = 1e-3
"""Largest disagreement of the cameras' water_z that counts as one surface, metres."""

_MAX_FILE_BYTES = 8 << 20
_MAX_IMAGE_SIDE = 32766
"""OpenCV's remapping takes no larger image."""
_DISTORTION_COUNTS = {False: (4, 5, 8), True: (4,)}
_CAMERA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,99}")
_DEVICE_NAME = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9])(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices, whatever their suffix; elsewhere a camera may be "aux"."""
_ON_WINDOWS = sys.platform == "win32"
_ROTATION_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class CameraData:
    """One calibrated camera.

    Attributes:
        name: Camera name; safe as a file name.
        K: Intrinsics, shape (3, 3), float64, pixels of the raw image.
        dist_coeffs: OpenCV distortion, shape (5,) or (8,), float64; fisheye: shape (4,).
        R: Rotation of ``cam_from_world``, shape (3, 3), float64.
        t: Translation of ``cam_from_world``, shape (3,), float64, metres.
        image_size: (width, height) in pixels.
        is_fisheye: ``dist_coeffs`` are OpenCV's equidistant fisheye model.
        is_auxiliary: Used as a source of matches, never as a reference.

    Example:
        >>> from aquamvs.datasets import make_rig
        >>> camera = make_rig("small5").cameras["cam0"]
        >>> camera.image_size, tuple(camera.dist_coeffs.shape), camera.is_fisheye
        ((400, 300), (5,), False)
    """

    name: str
    K: Tensor
    dist_coeffs: Tensor
    R: Tensor
    t: Tensor
    image_size: tuple[int, int]
    is_fisheye: bool = False
    is_auxiliary: bool = False

    @property
    def camera_center(self) -> Tensor:
        """Optical centre in the world frame, shape (3,), metres."""
        return -self.R.T @ self.t


@dataclass(frozen=True, slots=True)
class CalibrationData:
    """A calibrated rig above one flat water surface.

    Attributes:
        cameras: Camera name to camera, in the file's order.
        water_z: The water surface contains (0, 0, water_z), metres.
        interface_normal: Unit normal from water to air, shape (3,), float64.
        n_air: Refractive index of air.
        n_water: Refractive index of water; equal to ``n_air`` for a rig in air.

    Example:
        >>> import torch
        >>> from aquamvs.datasets import make_rig
        >>> rig = make_rig("small5")
        >>> rig.ring_cameras, rig.water_z, rig.n_water
        (['cam0', 'cam1', 'cam2', 'cam3', 'cam4'], 0.7, 1.333)
        >>> pixels, seen = rig.projection_model("cam0").project(torch.tensor([[0.0, 0.0, 1.0]]))
        >>> seen.tolist()
        [True]
    """

    cameras: dict[str, CameraData]
    water_z: float
    interface_normal: Tensor
    n_air: float
    n_water: float

    @property
    def ring_cameras(self) -> list[str]:
        """Names of the cameras that get a depth map, in the file's order."""
        return [name for name, camera in self.cameras.items() if not camera.is_auxiliary]

    @property
    def auxiliary_cameras(self) -> list[str]:
        """Names of the cameras that only support others, in the file's order."""
        return [name for name, camera in self.cameras.items() if camera.is_auxiliary]

    def camera_positions(self) -> dict[str, Tensor]:
        """Optical centres in the world frame, each of shape (3,), metres."""
        return {name: camera.camera_center for name, camera in self.cameras.items()}

    def projection_model(self, name: str, K: Tensor | None = None) -> RefractiveProjectionModel:
        """Refractive model of a camera.

        Args:
            name: Camera name.
            K: Intrinsics of the undistorted grid, shape (3, 3); the raw ones when absent.

        Returns:
            The model, float64.

        Raises:
            CalibrationError: The camera is not above the water surface.
        """
        camera = self.cameras[name]
        try:
            return RefractiveProjectionModel(
                camera.K if K is None else K,
                camera.R,
                camera.t,
                self.water_z,
                self.interface_normal,
                self.n_air,
                self.n_water,
            )
        except CalibrationError as error:
            raise CalibrationError(f"camera {name}: {error}") from None


def load_calibration_data(path: str | Path) -> CalibrationData:
    """Read an AquaCal calibration.

    Args:
        path: AquaCal JSON file, version 1.0.

    Returns:
        The rig, in float64, world frame of AquaCal (Z down into the water, metres).

    Raises:
        CalibrationError: The file is missing, malformed or describes an impossible rig; the message
            names the file, the key, what was found and what was expected.

    Example:
        >>> from aquamvs.calibration import load_calibration_data
        >>> from aquamvs.datasets import make_rig, save_calibration
        >>> save_calibration(make_rig("small5"), "calibration.json")
        >>> rig = load_calibration_data("calibration.json")
        >>> list(rig.cameras), rig.water_z
        (['cam0', 'cam1', 'cam2', 'cam3', 'cam4'], 0.7)
    """
    path = Path(path)
    reader = _Reader(path)
    data = reader.load()
    version = reader.get(data, "version", str)
    if version != SUPPORTED_VERSION:
        reader.fail(
            "version",
            f"is {shortened(repr(version))}",
            f"{SUPPORTED_VERSION!r}, as AquaCal 2.1 writes",
        )
    entries = reader.get(data, "cameras", dict)
    if not entries:
        reader.fail("cameras", "is empty", "at least one camera")
    _check_names(reader, list(entries))
    cameras = {name: _camera(reader, name, entry) for name, entry in entries.items()}
    interface = reader.get(data, "interface", dict)
    normal = reader.array(interface, "interface.normal", (3,))
    length = float(normal.norm())
    if not abs(length - 1) < _ROTATION_TOLERANCE:
        reader.fail("interface.normal", f"has length {length:.6g}", "a unit vector")
    if not normal[2] < 0:
        reader.fail(
            "interface.normal", f"is {normal.tolist()}", "a vector from water to air (z < 0)"
        )
    n_air, n_water = (reader.number(interface, f"interface.{key}") for key in ("n_air", "n_water"))
    if not 0 < n_air <= n_water:
        reader.fail(
            "interface", f"has n_air = {n_air} and n_water = {n_water}", "0 < n_air <= n_water"
        )
    calibration = CalibrationData(
        cameras, _water_z(reader, entries), normal / length, n_air, n_water
    )
    for name in cameras:
        try:
            calibration.projection_model(name)
        except CalibrationError as error:
            raise CalibrationError(f"{path}: {error}") from None
    return calibration


class _Reader:
    """Typed access to the parsed JSON; every failure names file and key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fail(self, key: str, found: str, expected: str) -> None:
        raise CalibrationError(f"{self.path}: {key} {found}; expected {expected}")

    def load(self) -> dict[str, Any]:
        return load_json(
            self.path,
            "AquaCal calibration (calibration_path)",
            max_bytes=_MAX_FILE_BYTES,
            error=CalibrationError,
        )

    def get(self, data: dict[str, Any], key: str, kind: type) -> Any:
        leaf = key.rsplit(".", 1)[-1]
        if leaf not in data:
            self.fail(key, "is missing", f"a {kind.__name__}")
        value = data[leaf]
        if not isinstance(value, kind):
            self.fail(key, f"is a {type(value).__name__}", f"a {kind.__name__}")
        return value

    def number(self, data: dict[str, Any], key: str) -> float:
        leaf = key.rsplit(".", 1)[-1]
        value = data.get(leaf)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fail(
                key, f"is {shortened(repr(value))}" if leaf in data else "is missing", "a number"
            )
        try:
            number = float(value)  # type: ignore[arg-type]
        except OverflowError:  # JSON's whole numbers may have thousands of digits
            number = math.inf
        if not math.isfinite(number):
            self.fail(key, f"is {shortened(value)}", "a finite number")
        return number

    def array(self, data: dict[str, Any], key: str, shape: tuple[int, ...]) -> Tensor:
        values = self.get(data, key, list)
        try:
            tensor = torch.tensor(values, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            tensor = torch.empty(0)
        if shape == (3,) and tuple(tensor.shape) == (3, 1):
            tensor = tensor[:, 0]
        if tuple(tensor.shape) != shape:
            self.fail(key, f"is {shortened(values)}", f"numbers of shape {shape}")
        if not bool(torch.isfinite(tensor).all()):
            self.fail(key, f"is {shortened(values)}", "finite numbers")
        return tensor


def _check_names(reader: _Reader, names: list[str]) -> None:
    """Names become file names, also on systems that do not tell capitals from small letters."""
    seen: dict[str, str] = {}
    for name in names:
        is_file_name = _CAMERA_NAME.fullmatch(name) and not name.endswith((".", " "))
        if not is_file_name or (_ON_WINDOWS and _DEVICE_NAME.fullmatch(name)):
            reader.fail(
                "cameras",
                f"has a camera named {shortened(repr(name))}",
                "names of letters, digits, '.', '_', '-' and spaces that start with a letter or "
                "digit (they become file names; Windows keeps some, such as aux, for devices)",
            )
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            reader.fail("cameras", f"has cameras {other} and {name}", "different file names")


def _camera(reader: _Reader, name: str, entry: Any) -> CameraData:
    where = f"cameras.{name}"
    if not isinstance(entry, dict):
        reader.fail(where, f"is a {type(entry).__name__}", "an object")
    intrinsics = reader.get(entry, f"{where}.intrinsics", dict)
    extrinsics = reader.get(entry, f"{where}.extrinsics", dict)
    K = reader.array(intrinsics, f"{where}.intrinsics.K", (3, 3))
    upper = bool((K[1, 0] == 0) & (K[2] == K.new_tensor([0, 0, 1])).all())
    if not (upper and K[0, 0] > 0 and K[1, 1] > 0):
        reader.fail(
            f"{where}.intrinsics.K",
            f"is {K.tolist()}",
            "[[fx, s, cx], [0, fy, cy], [0, 0, 1]] with positive focal lengths",
        )
    R = reader.array(extrinsics, f"{where}.extrinsics.R", (3, 3))
    deviation = float((R @ R.T - torch.eye(3, dtype=torch.float64)).abs().max())
    if deviation > _ROTATION_TOLERANCE or float(torch.linalg.det(R)) < 0:
        reader.fail(
            f"{where}.extrinsics.R",
            f"is no rotation (R Rᵀ differs from 1 by {deviation:.2g}, det R = "
            f"{float(torch.linalg.det(R)):.3g})",
            "a rotation matrix",
        )
    is_fisheye = _flag(reader, intrinsics, f"{where}.intrinsics.is_fisheye")
    return CameraData(
        name=name,
        K=K,
        dist_coeffs=_distortion(reader, intrinsics, where, is_fisheye=is_fisheye),
        R=R,
        t=reader.array(extrinsics, f"{where}.extrinsics.t", (3,)),
        image_size=_image_size(reader, intrinsics, where),
        is_fisheye=is_fisheye,
        is_auxiliary=_flag(reader, entry, f"{where}.is_auxiliary"),
    )


def _flag(reader: _Reader, data: dict[str, Any], key: str) -> bool:
    """An optional boolean; AquaCal writes it only where it is true."""
    leaf = key.rsplit(".", 1)[-1]
    return leaf in data and bool(reader.get(data, key, bool))


def _distortion(
    reader: _Reader, intrinsics: dict[str, Any], where: str, *, is_fisheye: bool
) -> Tensor:
    key = f"{where}.intrinsics.dist_coeffs"
    values = reader.get(intrinsics, key, list)
    if len(values) == 1 and isinstance(values[0], list):  # OpenCV's own (1, n) form
        values = values[0]
    counts = _DISTORTION_COUNTS[is_fisheye]
    if len(values) not in counts:
        reader.fail(
            key,
            f"has {len(values)} numbers",
            f"{' or '.join(map(str, counts))} ({'fisheye' if is_fisheye else 'OpenCV'} model)",
        )
    coefficients = reader.array({"dist_coeffs": values}, key, (len(values),))
    if len(values) == 4 and not is_fisheye:
        coefficients = torch.cat([coefficients, coefficients.new_zeros(1)])
    return coefficients


def _image_size(reader: _Reader, intrinsics: dict[str, Any], where: str) -> tuple[int, int]:
    key = f"{where}.intrinsics.image_size"
    values = reader.get(intrinsics, key, list)
    whole = len(values) == 2 and all(type(v) is int and 0 < v <= _MAX_IMAGE_SIDE for v in values)
    if not whole:
        reader.fail(key, f"is {shortened(values)}", "[width, height] in pixels")
    return values[0], values[1]


def _water_z(reader: _Reader, entries: dict[str, Any]) -> float:
    """The cameras' common water level; AquaCal stores it once per camera."""
    levels = {
        name: reader.number(entry, f"cameras.{name}.water_z") for name, entry in entries.items()
    }
    low, high = min(levels, key=levels.__getitem__), max(levels, key=levels.__getitem__)
    if levels[high] - levels[low] > WATER_Z_TOLERANCE:
        reader.fail(
            "water_z",
            f"is {levels[low]} m for camera {low} but {levels[high]} m for camera {high}",
            f"one water surface (within {WATER_Z_TOLERANCE * 1000:g} mm); recalibrate with a "
            "shared interface",
        )
    first = next(iter(levels))
    return levels[first]
