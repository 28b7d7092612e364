"""Point clouds and meshes as binary little-endian PLY (Turk, The PLY Polygon File Format, 1994).

Reading validates the header against the file's size before anything is allocated, and accepts any
scalar types and additional properties, so that clouds of other programs load too.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from ..files import check_file
from ..types import Mesh, PointCloud
from .arrays import LARGEST_LENGTH
from .atomic import atomic_path
from .images import color_levels

_TYPES = {
    **dict.fromkeys(("char", "int8"), "<i1"),
    **dict.fromkeys(("uchar", "uint8"), "<u1"),
    **dict.fromkeys(("short", "int16"), "<i2"),
    **dict.fromkeys(("ushort", "uint16"), "<u2"),
    **dict.fromkeys(("int", "int32"), "<i4"),
    **dict.fromkeys(("uint", "uint32"), "<u4"),
    **dict.fromkeys(("float", "float32"), "<f4"),
    **dict.fromkeys(("double", "float64"), "<f8"),
}
_WHOLE = {name for name, kind in _TYPES.items() if kind[1] in "iu"}
_COLUMNS = {
    "position": ("x", "y", "z"),
    "color": ("red", "green", "blue"),
    "normal": ("nx", "ny", "nz"),
}
"""Properties of a vertex that are written at once: one by one they take longer."""
_VERTEX = (("position", "<f4", (3,)), ("color", "u1", (3,)), ("normal", "<f4", (3,)))
_VERTEX_DTYPE = np.dtype([*_VERTEX])
_CLOUD_DTYPE = np.dtype([*_VERTEX, ("confidence", "<f4"), ("sigma", "<f4"), ("view_count", "<i4")])
_FACE_DTYPE = np.dtype([("count", "u1"), ("indices", "<i4", (3,))])
MAX_ROWS = 1 << 27
"""Most vertices or faces that are read: a guard against headers that lie."""

_MAX_FILE_BYTES = 1 << 33
_MAX_HEADER_BYTES = 1 << 16
_ROWS_AT_ONCE = 1 << 14
"""They stay in the processor's cache."""
_NAMES = {"<f4": "float", "|u1": "uchar", "<i4": "int"}


def save_point_cloud(path: str | Path, cloud: PointCloud) -> None:
    """Write a cloud: x y z, red green blue, nx ny nz, confidence, sigma, view_count per vertex.

    Args:
        path: File to write, ending in .ply.
        cloud: Points are stored as float32, colours in 8 bits.

    Raises:
        DataError: The path does not end in .ply or cannot be written.

    Example:
        >>> import torch
        >>> from aquamvs.io import load_point_cloud, save_point_cloud
        >>> from aquamvs.types import PointCloud
        >>> one = torch.ones(1)
        >>> up = torch.tensor([[0.0, 0.0, -1.0]])
        >>> cloud = PointCloud(torch.rand(1, 3), torch.rand(1, 3), up, one, one, one.int())
        >>> save_point_cloud("cloud.ply", cloud)
        >>> len(load_point_cloud("cloud.ply"))
        1
    """

    def rows(part: slice) -> NDArray[np.void]:
        rows = _vertices(_CLOUD_DTYPE, cloud.points[part], cloud.colors[part], cloud.normals[part])
        rows["confidence"] = _numpy(cloud.confidence[part])
        rows["sigma"] = _numpy(cloud.sigma[part])
        rows["view_count"] = _numpy(cloud.view_count[part])
        return rows

    _save(Path(path), _header(_CLOUD_DTYPE, len(cloud), 0), map(rows, _parts(len(cloud))))


def load_point_cloud(path: str | Path) -> PointCloud:
    """Read a cloud from binary little-endian PLY.

    Args:
        path: File of this library or another program; faces are ignored.

    Returns:
        The cloud, float32 (float64 points where the file has them). What the file lacks is unknown:
        normals, sigma and confidence NaN, view_count 0; colours are then white.

    Raises:
        DataError: The file is missing, ASCII or big-endian, its header does not match its size, or
            a point lies farther away than any scene reaches. (Undefined points pass: other programs
            write them for pixels without depth.)

    Example:
        >>> import torch
        >>> from aquamvs.io import load_point_cloud, save_point_cloud
        >>> from aquamvs.types import PointCloud
        >>> one = torch.ones(1)
        >>> up = torch.tensor([[0.0, 0.0, -1.0]])
        >>> save_point_cloud("a.ply", PointCloud(up, up.abs(), up, one, one, one.int()))
        >>> load_point_cloud("a.ply").points.tolist()
        [[0.0, 0.0, -1.0]]
    """
    path = Path(path)
    rows = _read(path)["vertex"]
    count = len(rows)
    points = _positions(path, rows)
    normals = _columns(path, rows, ("nx", "ny", "nz"))
    confidence = _columns(path, rows, ("confidence",))
    sigma = _columns(path, rows, ("sigma",))
    names = rows.dtype.names or ()
    view_count = rows["view_count"] if "view_count" in names else np.zeros(count, np.int32)
    if view_count.dtype.kind not in "iu":
        raise DataError(
            f"{path} has view counts of type {view_count.dtype}; expected whole numbers"
        )
    unknown = torch.full((count, 3), torch.nan)
    return PointCloud(
        points=points,
        colors=_colors(path, rows),
        normals=unknown if normals is None else normals.float(),
        confidence=unknown[:, 0].clone() if confidence is None else confidence[:, 0].float(),
        sigma=unknown[:, 0].clone() if sigma is None else sigma[:, 0].float(),
        view_count=torch.from_numpy(view_count.astype(np.int32)),
    )


def save_mesh(path: str | Path, mesh: Mesh) -> None:
    """Write a triangle mesh: x y z, red green blue, nx ny nz per vertex, and faces.

    Args:
        path: File to write, ending in .ply.
        mesh: Vertices are stored as float32, colours in 8 bits.

    Raises:
        DataError: The path does not end in .ply or cannot be written.

    Example:
        >>> import torch
        >>> from aquamvs.io import load_mesh, save_mesh
        >>> from aquamvs.types import Mesh
        >>> corners = torch.tensor([[0.0, 0, 1], [1, 0, 1], [0, 1, 1]])
        >>> up = torch.tensor([[0.0, 0.0, -1.0]]).expand(3, 3)
        >>> mesh = Mesh(corners, torch.tensor([[0, 2, 1]]), up, torch.ones(3, 3))
        >>> save_mesh("triangle.ply", mesh)
        >>> len(load_mesh("triangle.ply").faces)
        1
    """

    def vertices(part: slice) -> NDArray[np.void]:
        return _vertices(_VERTEX_DTYPE, mesh.vertices[part], mesh.colors[part], mesh.normals[part])

    def faces(part: slice) -> NDArray[np.void]:
        rows = np.empty(len(mesh.faces[part]), dtype=_FACE_DTYPE)
        rows["count"] = 3
        rows["indices"] = _numpy(mesh.faces[part])
        return rows

    counts = len(mesh.vertices), len(mesh.faces)
    blocks = chain(map(vertices, _parts(counts[0])), map(faces, _parts(counts[1])))
    _save(Path(path), _header(_VERTEX_DTYPE, *counts), blocks)


def load_mesh(path: str | Path) -> Mesh:
    """Read a triangle mesh from binary little-endian PLY.

    Args:
        path: File of this library or another program.

    Returns:
        The mesh; normals are NaN and colours white where the file has none.

    Raises:
        DataError: As :func:`load_point_cloud`, or faces that are no triangles or point at vertices
            that do not exist.

    Example:
        >>> import torch
        >>> from aquamvs.io import load_mesh, save_mesh
        >>> from aquamvs.types import Mesh
        >>> corners = torch.tensor([[0.0, 0, 1], [1, 0, 1], [0, 1, 1]])
        >>> up = torch.tensor([[0.0, 0.0, -1.0]]).expand(3, 3)
        >>> mesh = Mesh(corners, torch.tensor([[0, 2, 1]]), up, torch.ones(3, 3))
        >>> save_mesh("triangle.ply", mesh)
        >>> load_mesh("triangle.ply").vertices[1].tolist()
        [1.0, 0.0, 1.0]
    """
    path = Path(path)
    elements = _read(path)
    rows = elements["vertex"]
    points = _positions(path, rows)
    if bool(points.isnan().any()):
        raise DataError(f"{path} has vertices without a position; a mesh has none such")
    if "face" not in elements:
        raise DataError(f"{path} has no faces; load_point_cloud reads clouds")
    faces = elements["face"]
    if "indices" not in (faces.dtype.names or ()):
        raise DataError(f"{path} has faces without a list of their vertices")
    indices = faces["indices"].astype(np.int64)
    if bool((faces["count"] != 3).any()):
        raise DataError(f"{path} has faces that are no triangles; triangulate it first")
    if indices.size and (indices.min() < 0 or indices.max() >= len(rows)):
        raise DataError(
            f"{path} has faces that refer to vertices {indices.min()} to {indices.max()}; it has "
            f"{len(rows)} vertices"
        )
    normals = _columns(path, rows, ("nx", "ny", "nz"))
    return Mesh(
        vertices=points,
        faces=torch.from_numpy(indices),
        normals=torch.full((len(rows), 3), torch.nan) if normals is None else normals.float(),
        colors=_colors(path, rows),
    )


def ply_elements(path: str | Path) -> frozenset[str]:
    """Names of the elements that a PLY file holds rows of, such as ``vertex`` and ``face``.

    Raises:
        DataError: As :func:`load_point_cloud`.

    Example:
        >>> from aquamvs.io import ply_elements, save_mesh
        >>> save_mesh("surface.ply", made.mesh)
        >>> sorted(ply_elements("surface.ply"))
        ['face', 'vertex']
    """
    return frozenset(name for name, rows in _read(Path(path)).items() if len(rows))


def _numpy(tensor: Tensor) -> NDArray[np.generic]:
    return np.asarray(tensor.detach().cpu().numpy())


def _vertices(
    dtype: np.dtype[np.void], points: Tensor, colors: Tensor, normals: Tensor
) -> NDArray[np.void]:
    rows = np.empty(len(points), dtype=dtype)
    rows["position"], rows["normal"] = _numpy(points), _numpy(normals)
    rows["color"] = color_levels(colors)
    return rows


def _parts(count: int) -> Iterator[slice]:
    """Slices of so many rows that writing them needs little memory."""
    return (slice(start, start + _ROWS_AT_ONCE) for start in range(0, count, _ROWS_AT_ONCE))


def _header(dtype: np.dtype[np.void], count: int, face_count: int) -> bytes:
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        "comment AquaMVS: metres, AquaCal world frame, Z down into the water",
        f"element vertex {count}",
    ]
    lines += [
        f"property {_NAMES[dtype[name].base.str]} {column}"
        for name in dtype.names or ()
        for column in _COLUMNS.get(name, (name,))
    ]
    if face_count or dtype == _VERTEX_DTYPE:
        lines += [f"element face {face_count}", "property list uchar int vertex_indices"]
    return ("\n".join([*lines, "end_header"]) + "\n").encode("ascii")


def _save(path: Path, header: bytes, blocks: Iterable[NDArray[np.void]]) -> None:
    if path.suffix.lower() != ".ply":
        raise DataError(f"cannot write a PLY file to {path}; expected a name that ends in .ply")
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        for block in blocks:
            block.tofile(file)


@dataclass(frozen=True, slots=True)
class _Element:
    """One element of a header: its rows' name, number and layout."""

    name: str
    count: int
    dtype: np.dtype[np.void]


def _read(path: Path) -> dict[str, NDArray[np.void]]:
    """All elements of a file as structured arrays, after the header has proved consistent."""
    check_file(path, "PLY file", max_bytes=_MAX_FILE_BYTES)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from None
    end = re.search(rb"end_header\r?\n", data[:_MAX_HEADER_BYTES])
    if not data.startswith(b"ply") or end is None:
        raise DataError(f"{path} is no PLY file (no 'ply' … 'end_header' at its start)")
    elements = _parse_header(path, data[: end.start()].decode("latin-1").splitlines()[1:])
    largest = max((e.count for e in elements), default=0)
    if largest > MAX_ROWS:
        raise DataError(f"{path} declares {largest} rows; at most {MAX_ROWS} are read")
    declared = sum(e.count * e.dtype.itemsize for e in elements)
    if declared != len(data) - end.end():
        raise DataError(
            f"{path} holds {len(data) - end.end()} bytes after its header, which declares "
            f"{declared}; the file is truncated, or has faces that are no triangles"
        )
    tables = {}
    offset = end.end()
    for element in elements:
        tables[element.name] = np.frombuffer(data, element.dtype, element.count, offset)
        offset += element.count * element.dtype.itemsize
    if "vertex" not in tables:
        raise DataError(f"{path} has no vertices")
    return tables


def _parse_header(path: Path, lines: list[str]) -> list[_Element]:
    names: list[tuple[str, int]] = []
    fields: list[list[tuple[str, str] | tuple[str, str, tuple[int]]]] = []
    encoding = None
    for line in lines:
        match line.split():
            case ["format", kind, _]:
                encoding = kind
            case ["element", name, count] if re.fullmatch(r"\d{1,12}", count):
                names.append((name, int(count)))
                fields.append([])
            case ["property", "list", size, kind, _] if {size, kind} <= _WHOLE and fields:
                fields[-1] += [("count", _TYPES[size]), ("indices", _TYPES[kind], (3,))]
            case ["property", kind, name] if kind in _TYPES and fields:
                fields[-1].append((name, _TYPES[kind]))
            case ["comment" | "obj_info", *_] | []:
                continue
            case _:
                raise DataError(f"{path}: cannot understand the PLY header line {line[:80]!r}")
    if encoding != "binary_little_endian":
        raise DataError(f"{path} is a PLY file in format {encoding}; expected binary_little_endian")
    if len({name for name, _ in names}) < len(names) or not all(fields):
        raise DataError(f"{path}: the PLY header has an element twice, or one without properties")
    try:
        return [
            _Element(name, count, np.dtype(columns))
            for (name, count), columns in zip(names, fields, strict=True)
        ]
    except ValueError as error:
        raise DataError(f"{path}: the PLY header is contradictory: {error}") from None


def _positions(path: Path, rows: NDArray[np.void]) -> Tensor:
    """World positions, shape (N, 3); NaN where the file has none."""
    points = _columns(path, rows, ("x", "y", "z"))
    if points is None:
        raise DataError(f"{path} has no vertex properties x, y, z")
    if bool((points.abs() > LARGEST_LENGTH).any()):
        raise DataError(f"{path} has vertices more than {LARGEST_LENGTH:g} m away; expected metres")
    return points


def _columns(path: Path, rows: NDArray[np.void], names: tuple[str, ...]) -> Tensor | None:
    """Columns side by side, shape (N, len(names)), or None where the file lacks them."""
    present = rows.dtype.names or ()
    if not set(names) <= set(present):
        if set(names) & set(present):
            raise DataError(f"{path} has only some of the vertex properties {', '.join(names)}")
        return None
    double = any(rows.dtype[name] == np.float64 for name in names)
    table = np.empty((len(rows), len(names)), dtype=np.float64 if double else np.float32)
    for column, name in enumerate(names):
        table[:, column] = rows[name]
    return torch.from_numpy(table)


def _colors(path: Path, rows: NDArray[np.void]) -> Tensor:
    levels = _columns(path, rows, ("red", "green", "blue"))
    if levels is None:
        return torch.ones(len(rows), 3)
    kind = rows.dtype["red"]
    return levels.float() / (float(np.iinfo(kind).max) if kind.kind in "iu" else 1.0)
