"""Cameras for other programs: COLMAP and nerfstudio in air; rays where the water bends them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..pixels import pixel_grid, to_colmap
from ..types import View
from .arrays import save_arrays
from .atomic import atomic_path
from .images import write_image

_OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


class CameraFormat(StrEnum):
    """What to write.

    Example:
        >>> from aquamvs.io import CameraFormat
        >>> [target.value for target in CameraFormat]
        ['colmap', 'nerfstudio', 'rays']
    """

    COLMAP = "colmap"
    NERFSTUDIO = "nerfstudio"
    RAYS = "rays"


def export_cameras(
    views: Sequence[View], folder: str | Path, *, target: CameraFormat | str
) -> list[Path]:
    """Write cameras, and the undistorted images that belong to them.

    ``colmap`` writes a text model (``sparse/0``) of PINHOLE cameras, ``nerfstudio`` a
    ``transforms.json``, and ``rays`` one npz file per camera with ``origins`` on the water surface
    and unit ``directions`` in the water, each of shape (H, W, 3), float32, world frame, metres.

    Args:
        views: Undistorted views.
        folder: Folder to write into; images go to ``images`` in it.
        target: What to write.

    Returns:
        The camera files.

    Raises:
        DataError: The cameras look through a water surface and the format knows pinhole cameras
            only; or the folder cannot be written.

    Example:
        >>> from aquamvs.io import export_cameras
        >>> [path.name for path in export_cameras(tuple(views), "rays", target="rays")]
        ['cam0.npz', 'cam1.npz', 'cam2.npz', 'cam3.npz', 'cam4.npz']
    """
    folder, wanted = Path(folder), CameraFormat(target)
    if wanted is not CameraFormat.RAYS:
        _require_pinhole(views, wanted)
    for view in views:
        write_image(folder / "images" / f"{view.name}.png", view.image)
    if wanted is CameraFormat.RAYS:
        return [_write_rays(view, folder / "rays" / f"{view.name}.npz") for view in views]
    if wanted is CameraFormat.NERFSTUDIO:
        return [_write_text(folder / "transforms.json", _transforms(views))]
    model = folder / "sparse" / "0"
    return [
        _write_text(model / "cameras.txt", _colmap_cameras(views)),
        _write_text(model / "images.txt", _colmap_images(views)),
        _write_text(model / "points3D.txt", "# No points: they come from the matching.\n"),
    ]


def _require_pinhole(views: Sequence[View], wanted: CameraFormat) -> None:
    for view in views:
        if view.model.is_refractive:
            raise DataError(
                f"camera {view.name} looks through a water surface (n_air = {view.model.n_air:g}, "
                f"n_water = {view.model.n_water:g}): its rays bend there and meet in no point, so "
                f"that no camera of {wanted} has them. Export rays instead, or use the cloud and "
                "the depth maps of a run"
            )


def _pose(view: View) -> tuple[Any, Any]:
    """Rotation and translation of ``cam_from_world``, float64."""
    return view.model.R.double().cpu().numpy(), view.model.t.double().cpu().numpy()


def _intrinsics(view: View) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy with the origin at the corner of the top-left pixel."""
    K = view.model.K.double().cpu()
    skew = float(K[0, 1])
    if skew != 0:
        raise DataError(f"camera {view.name} has skew {skew}, which pinhole models lack")
    cx, cy = to_colmap(K[:2, 2]).tolist()
    return float(K[0, 0]), float(K[1, 1]), cx, cy


def _colmap_cameras(views: Sequence[View]) -> str:
    lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, fx, fy, cx, cy"]
    for number, view in enumerate(views, start=1):
        numbers = " ".join(map(repr, _intrinsics(view)))
        lines.append(f"{number} PINHOLE {view.size[0]} {view.size[1]} {numbers}")
    return "\n".join(lines) + "\n"


def _colmap_images(views: Sequence[View]) -> str:
    from scipy.spatial.transform import Rotation  # slow to import

    lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; then an empty line"]
    for number, view in enumerate(views, start=1):
        R, t = _pose(view)
        x, y, z, w = Rotation.from_matrix(R).as_quat(canonical=True)
        numbers = " ".join(repr(float(value)) for value in (w, x, y, z, *t))
        lines += [f"{number} {numbers} {number} {view.name}.png", ""]
    return "\n".join(lines) + "\n"


def _transforms(views: Sequence[View]) -> str:
    frames = []
    for view in views:
        R, t = _pose(view)
        world_from_camera = np.eye(4)
        world_from_camera[:3, :3], world_from_camera[:3, 3] = R.T, -R.T @ t
        fx, fy, cx, cy = _intrinsics(view)
        frames.append(
            {
                "file_path": f"images/{view.name}.png",
                "w": view.size[0],
                "h": view.size[1],
                "fl_x": fx,
                "fl_y": fy,
                "cx": cx,
                "cy": cy,
                "transform_matrix": (world_from_camera @ _OPENGL_FROM_OPENCV).tolist(),
            }
        )
    return json.dumps({"camera_model": "OPENCV", "frames": frames}, indent=2) + "\n"


def _write_rays(view: View, path: Path) -> Path:
    pixels = pixel_grid(view.size, dtype=view.model.K.dtype, device=view.image.device)
    origins, directions = view.model.cast_ray(pixels.reshape(-1, 2))
    width, height = view.size
    save_arrays(
        path,
        {
            "origins": origins.reshape(height, width, 3).float().cpu().numpy(),
            "directions": directions.reshape(height, width, 3).float().cpu().numpy(),
        },
    )
    return path


def _write_text(path: Path, text: str) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
