"""An interactive 3D view that is nothing but HTML: it works offline, in notebooks and in pages.

The viewer (WebGL 2, no library) and the thinned data are written into the output itself. Positions
are 16-bit steps of the bounding box, a hundredth of a millimetre on a bed of half a metre.
"""

from __future__ import annotations

import base64
import html
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError
from ..types import HeightMap, Mesh, PointCloud

if TYPE_CHECKING:
    from ..calibration import CalibrationData

MAX_VERTICES = 40_000
"""Vertices kept by default: half a megabyte of HTML."""

_STEPS = 65535
_SPAN_PERCENT = 0.1
"""Percentile at either end beyond which points neither widen the view nor are shown: a stray point
a metre away would shrink the bed to a dot."""
_SPAN_MARGIN = 0.05
"""Part of the span kept around it."""


@dataclass(frozen=True, slots=True)
class View3D:
    """A cloud or surface that can be turned with the mouse, a finger or the arrow keys.

    Attributes:
        vertices: What is shown, world frame, shape (N, 3), float64, metres.
        colors: RGB, shape (N, 3), uint8.
        faces: Vertex indices of triangles, shape (F, 3), uint32; empty for a cloud.
        markers: Camera centres, shape (C, 3), float64, metres.
        title: Line under the view.

    Example:
        >>> from aquamvs.visualization import view_3d
        >>> shown = view_3d(made.mesh)
        >>> shown.vertices.shape[1], shown.colors.dtype.name
        (3, 'uint8')
    """

    vertices: NDArray[np.float64]
    colors: NDArray[np.uint8]
    faces: NDArray[np.uint32]
    markers: NDArray[np.float64]
    title: str

    def _repr_html_(self) -> str:
        """The view as HTML that needs nothing else."""
        template = files(__package__).joinpath("view_3d.html").read_text(encoding="utf-8")
        fields = {"TITLE": html.escape(self.title), "DATA": json.dumps(self._payload())}
        for key, value in fields.items():
            template = template.replace(f"@{key}@", value)
        return template

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """HTML alone: the arrays have no place in a notebook's text output."""
        return {"text/html": self._repr_html_(), "text/plain": f"3D view: {self.title}"}

    def _payload(self) -> dict[str, Any]:
        low, high = self.vertices.min(axis=0), self.vertices.max(axis=0)
        span = np.maximum(high - low, 1e-9)
        steps = np.rint((self.vertices - low) / span * _STEPS).astype("<u2")
        return {
            "low": low.tolist(),
            "span": span.tolist(),
            "positions": _text(steps),
            "colors": _text(self.colors),
            "faces": _text(self.faces.astype("<u4")),
            "markers": self.markers.round(5).tolist(),
        }


def view_3d(
    item: PointCloud | Mesh | HeightMap,
    calibration: CalibrationData | None = None,
    *,
    max_vertices: int = MAX_VERTICES,
    title: str | None = None,
) -> View3D:
    """An interactive view of a cloud, a mesh or a height map in its own colours.

    Args:
        item: What to show. Clouds are thinned at random (but always alike), height maps by a wider
            grid, meshes by joining vertices that are close.
        calibration: Adds the cameras' optical centres.
        max_vertices: Vertices kept at most.
        title: What and how many when absent.

    Returns:
        The view: the value of a notebook's cell, or HTML by its ``_repr_html_``.

    Raises:
        DataError: There is nothing to show, or ``max_vertices`` is less than 100.

    Example:
        >>> import torch
        >>> from aquamvs.types import PointCloud
        >>> from aquamvs.visualization import view_3d
        >>> points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
        >>> one = torch.ones(500)
        >>> cloud = PointCloud(points, points, points, one, one, one.int())
        >>> view = view_3d(cloud)
        >>> view.title
        '500 points; drag to turn, Ctrl + wheel to zoom'
        >>> page = view._repr_html_()
    """
    if max_vertices < 100:
        raise DataError(f"max_vertices is {max_vertices}; expected 100 or more")
    if isinstance(item, PointCloud):
        vertices, colors, faces = _of_cloud(item, max_vertices)
        count = f"{len(item):,} points"
    elif isinstance(item, HeightMap):
        vertices, colors, faces = _of_height_map(item, max_vertices)
        count = f"{int(torch.isfinite(item.z).sum()):,} cells"
    else:
        vertices, colors, faces = _of_mesh(item, max_vertices)
        count = f"{len(item.faces):,} triangles"
    if not len(vertices):
        raise DataError(f"there is nothing to show in 3D: the {type(item).__name__} is empty")
    markers = np.zeros((0, 3))
    if calibration is not None:
        markers = torch.stack(list(calibration.camera_positions().values())).double().numpy()
    shown = f"{len(vertices):,} shown" if f"{len(vertices):,}" not in count else ""
    parts = (count, shown, "drag to turn, Ctrl + wheel to zoom")
    label = title or "; ".join(part for part in parts if part)
    levels = np.rint(np.clip(np.nan_to_num(colors), 0, 1) * 255).astype(np.uint8)
    return View3D(vertices, levels, faces, markers, label)


_Parts = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint32]]
"""Vertices, colours in [0, 1] and faces."""


def _of_cloud(cloud: PointCloud, most: int) -> _Parts:
    chosen = torch.randperm(len(cloud), generator=torch.Generator().manual_seed(0))[:most]
    points = cloud.points.detach().cpu()[chosen].double().numpy()
    colors = cloud.colors.detach().cpu()[chosen].double().numpy()
    if len(points):
        low, high = np.percentile(points, (_SPAN_PERCENT, 100 - _SPAN_PERCENT), axis=0)
        margin = _SPAN_MARGIN * float((high - low).max()) + 1e-6
        near = ((points >= low - margin) & (points <= high + margin)).all(axis=1)
        points, colors = points[near], colors[near]
    return points, colors, np.zeros((0, 3), dtype=np.uint32)


def _of_height_map(height_map: HeightMap, most: int) -> _Parts:
    rows, columns = height_map.z.shape
    step = max(1, int(np.ceil(np.sqrt(rows * columns / most))))
    x, y = (each[::step, ::step].numpy() for each in height_map.grid_xy())
    z = height_map.z.detach().cpu()[::step, ::step].double().numpy()
    colors = height_map.color.detach().cpu()[::step, ::step].double().numpy()
    known = np.isfinite(z)
    index = np.full(z.shape, -1, dtype=np.int64)
    index[known] = np.arange(int(known.sum()))
    corners = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    whole = np.all([corner >= 0 for corner in corners], axis=0)
    a, b, c, d = (corner[whole] for corner in corners)
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)]).astype(np.uint32)
    return np.stack([x[known], y[known], z[known]], axis=1), colors[known], faces


def _of_mesh(mesh: Mesh, most: int) -> _Parts:
    vertices = mesh.vertices.detach().cpu().double().numpy()
    colors = mesh.colors.detach().cpu().double().numpy()
    faces = mesh.faces.detach().cpu().long().numpy()
    if len(vertices) > most:
        vertices, colors, faces = _clustered(vertices, colors, faces, most)
    return vertices, colors, faces.astype(np.uint32)


def _clustered(
    vertices: NDArray[np.float64],
    colors: NDArray[np.float64],
    faces: NDArray[np.int64],
    most: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Vertices joined by cubes that grow until few enough are left (Rossignac and Borrel, 1993)."""
    low, span = vertices.min(axis=0), np.ptp(vertices, axis=0)
    size = float(span.max()) / np.sqrt(most)
    while True:
        keys = np.floor((vertices - low) / size).astype(np.int64)
        _, cluster, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
        if len(counts) <= most:
            break
        size *= 1.2
    cluster = cluster.reshape(-1)
    joined = np.zeros((len(counts), 6))
    np.add.at(joined, cluster, np.concatenate([vertices, colors], axis=1))
    joined /= counts[:, None]
    faces = cluster[faces]
    a, b, c = faces.T
    faces = np.unique(faces[(a != b) & (b != c) & (c != a)], axis=0)
    return joined[:, :3], joined[:, 3:], faces


def _text(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
