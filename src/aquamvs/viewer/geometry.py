"""What the page draws, as one compact message per file: points, triangles or lines with colours.

A message is a JSON header padded to a multiple of four bytes, preceded by its length (uint32), then
the arrays that it lists, little-endian: positions (float32 x 3), colours (uint8 x 4), and for
triangles and lines indices (uint32).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..calibration import CalibrationData
from ..errors import DataError
from ..io import (
    array_names,
    load_height_map,
    load_mesh,
    load_point_cloud,
    ply_elements,
)
from ..io.images import color_levels
from ..meshing import mesh_from_height_map
from ..types import Mesh

MAX_POINTS = 2_000_000
"""Points that are sent of a cloud; a browser draws no more smoothly."""

_FRUSTUM_DEPTH = 0.08
"""Length of the pyramids that stand for cameras, metres."""
_CAMERA_COLOR, _WATER_COLOR = (240, 170, 60, 255), (60, 140, 220, 255)
_WATER_LINES = 9


def is_viewable(path: Path) -> bool:
    """Whether a file may be shown, by its name: clouds and meshes, height maps, images."""
    return path.suffix.lower() in (".ply", ".png") or path.name == "height_map.npz"


def encode_file(path: Path) -> bytes:
    """The message of a PLY file or a height map.

    Raises:
        DataError: The file is missing, damaged, or shows nothing.
    """
    if path.suffix.lower() == ".npz":
        if "z" not in array_names(path):
            raise DataError(f"{path} is no height map")
        return _encode_mesh(mesh_from_height_map(load_height_map(path)))
    if "face" in ply_elements(path):
        return _encode_mesh(load_mesh(path))
    cloud = load_point_cloud(path)
    stride = -(-len(cloud) // MAX_POINTS) or 1
    return _message(
        "points", cloud.points[::stride].numpy(), _levels(cloud.colors[::stride]), None, len(cloud)
    )


def encode_rig(calibration: CalibrationData) -> bytes:
    """The message of a rig: a pyramid per camera, and the water surface as a grid of lines."""
    vertices: list[NDArray[Any]] = []
    lines: list[tuple[int, int]] = []
    colors: list[tuple[int, int, int, int]] = []
    for camera in calibration.cameras.values():
        width, height = camera.image_size
        corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]], float)
        rays = np.linalg.solve(camera.K.numpy(), corners.T).T * _FRUSTUM_DEPTH
        start = len(vertices)
        center = camera.camera_center.numpy()
        vertices += [center, *(rays @ camera.R.numpy() + center)]
        lines += [(start, start + i) for i in range(1, 5)]
        lines += [(start + i, start + i % 4 + 1) for i in range(1, 5)]
        colors += [_CAMERA_COLOR] * 5
    for line in _water_lines(calibration):
        lines.append((len(vertices), len(vertices) + 1))
        vertices += list(line)
        colors += [_WATER_COLOR] * 2
    return _message(
        "lines", np.array(vertices), np.array(colors, np.uint8), np.array(lines), len(lines)
    )


def _water_lines(calibration: CalibrationData) -> NDArray[Any]:
    """Ends of lines of the water surface above which the cameras are, shape (N, 2, 3)."""
    positions = torch.stack(list(calibration.camera_positions().values())).numpy()
    low, high = positions[:, :2].min(0) - 0.2, positions[:, :2].max(0) + 0.2
    ticks = np.linspace(0, 1, _WATER_LINES)[:, None]
    sides = low + ticks * (high - low)
    lines = [[(x, low[1]), (x, high[1])] for x in sides[:, 0]]
    lines += [[(low[0], y), (high[0], y)] for y in sides[:, 1]]
    plan = np.array(lines)
    normal = calibration.interface_normal.numpy()
    z = calibration.water_z - plan @ normal[:2] / normal[2]
    return np.concatenate([plan, z[..., None]], axis=-1)


def _encode_mesh(mesh: Mesh) -> bytes:
    return _message(
        "triangles",
        mesh.vertices.numpy(),
        _levels(mesh.colors),
        mesh.faces.numpy(),
        len(mesh.faces),
    )


def _levels(colors: torch.Tensor) -> NDArray[np.uint8]:
    levels = color_levels(colors)
    return np.concatenate([levels, np.full((len(levels), 1), 255, np.uint8)], axis=1)


def _message(
    kind: str,
    positions: NDArray[Any],
    colors: NDArray[np.uint8],
    indices: NDArray[Any] | None,
    total: int,
) -> bytes:
    known = np.isfinite(positions).all(axis=1)
    if indices is None:
        positions, colors = positions[known], colors[known]
    elif not known.all():
        raise DataError("the mesh has vertices that are no finite numbers")
    if len(positions) == 0:
        raise DataError("there is nothing to show: no point has a finite position")
    header = json.dumps(
        {
            "kind": kind,
            "vertices": len(positions),
            "indices": 0 if indices is None else int(indices.size),
            "total": total,
            "low": positions.min(0).tolist(),
            "high": positions.max(0).tolist(),
        }
    ).encode()
    header += b" " * (-len(header) % 4)
    parts = [np.uint32(len(header)).tobytes(), header]
    parts += [positions.astype("<f4").tobytes(), colors.tobytes()]
    if indices is not None:
        parts.append(indices.astype("<u4").tobytes())
    return b"".join(parts)
