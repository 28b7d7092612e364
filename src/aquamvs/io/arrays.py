"""Depth maps and height maps as npz archives, byte-identical for identical input.

The archives are plain: NumPy's ``load`` reads them. They are read without pickle, and each array's
declared size is checked before it is allocated.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, ShapeError
from ..types import DepthMap, HeightMap
from .atomic import atomic_path

MAX_ELEMENTS = 1 << 28
"""Largest array that is read, in elements: a guard against headers that lie."""

_DATE = (1980, 1, 1, 0, 0, 0)
"""Every archive member's time: the earliest that zip knows, so that bytes depend on data only."""

_MAX_HEADER_BYTES = 1024
"""An .npy header of a plain array needs about 100 bytes."""


def save_depth_map(path: str | Path, depth_map: DepthMap) -> None:
    """Write a depth map as npz with the arrays ``depth``, ``confidence``, ``sigma`` and ``K``.

    Args:
        path: File to write; its stem is taken for the camera's name when it is read.
        depth_map: Ray depth, float32, and what belongs to it.

    Raises:
        DataError: The file cannot be written.

    Example:
        >>> import torch
        >>> import numpy as np
        >>> from aquamvs.io import save_depth_map
        >>> from aquamvs.types import DepthMap
        >>> depth = torch.full((3, 4), 0.5)
        >>> sure, sigma, K = torch.ones(3, 4), torch.full((3, 4), 1e-3), torch.eye(3)
        >>> save_depth_map("cam0.npz", DepthMap("cam0", depth, sure, sigma, K))
        >>> np.load("cam0.npz")["depth"].shape
        (3, 4)
    """
    arrays = {
        "depth": _numpy(depth_map.depth, np.float32),
        "confidence": _numpy(depth_map.confidence, np.float32),
        "sigma": _numpy(depth_map.sigma, np.float32),
        "K": _numpy(depth_map.K, np.float64),
    }
    save_arrays(path, arrays)


def load_depth_map(path: str | Path) -> DepthMap:
    """Read what :func:`save_depth_map` wrote; the camera's name is the file's stem.

    Raises:
        DataError: The file is missing, damaged, or holds other arrays.

    Example:
        >>> import torch
        >>> from aquamvs.io import load_depth_map, save_depth_map
        >>> from aquamvs.types import DepthMap
        >>> depth = torch.full((3, 4), 0.5)
        >>> sure, sigma, K = torch.ones(3, 4), torch.full((3, 4), 1e-3), torch.eye(3)
        >>> save_depth_map("cam0.npz", DepthMap("cam0", depth, sure, sigma, K))
        >>> load_depth_map("cam0.npz").camera
        'cam0'
    """
    path = Path(path)
    with _Archive(path) as archive:
        depth = archive.array("depth", np.float32, 2)
        confidence = archive.array("confidence", np.float32, 2)
        sigma = archive.array("sigma", np.float32, 2)
        K = archive.array("K", np.float64, 2)
    try:
        return DepthMap(path.stem, depth, confidence, sigma, K)
    except ShapeError as error:
        raise DataError(f"depth map {path}: {error}") from None


def save_height_map(path: str | Path, height_map: HeightMap) -> None:
    """Write a height map as npz: its fields under their names, and a readable ``georeference``.

    Args:
        path: File to write.
        height_map: Height field on a horizontal grid of the world frame.

    Raises:
        DataError: The file cannot be written.

    Example:
        >>> import torch
        >>> import numpy as np
        >>> from aquamvs.io import save_height_map
        >>> from aquamvs.types import HeightMap
        >>> z = torch.full((2, 3), 1.3)
        >>> blank, count = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.int32)
        >>> color = torch.zeros(2, 3, 3)
        >>> bed = HeightMap(0.0, 0.0, 0.01, z, blank, blank, count, color)
        >>> save_height_map("bed.npz", bed)
        >>> float(np.load("bed.npz")["spacing"])
        0.01
    """
    rows, columns = height_map.z.shape
    georeference = {
        "frame": "AquaCal world, Z down into the water, metres",
        "x": f"{height_map.x0!r} + {height_map.spacing!r} * column",
        "y": f"{height_map.y0!r} + {height_map.spacing!r} * row",
        "rows": rows,
        "columns": columns,
    }
    arrays: dict[str, NDArray[Any] | np.generic] = {
        "x0": np.float64(height_map.x0),
        "y0": np.float64(height_map.y0),
        "spacing": np.float64(height_map.spacing),
        "z": _numpy(height_map.z, np.float32),
        "sigma": _numpy(height_map.sigma, np.float32),
        "confidence": _numpy(height_map.confidence, np.float32),
        "view_count": _numpy(height_map.view_count, np.int32),
        "color": _numpy(height_map.color, np.float32),
        "georeference": np.array(json.dumps(georeference)),
    }
    save_arrays(path, arrays)


def load_height_map(path: str | Path) -> HeightMap:
    """Read what :func:`save_height_map` wrote.

    Raises:
        DataError: The file is missing, damaged, or holds other arrays.

    Example:
        >>> import torch
        >>> from aquamvs.io import load_height_map, save_height_map
        >>> from aquamvs.types import HeightMap
        >>> z = torch.full((2, 3), 1.3)
        >>> blank, count = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.int32)
        >>> color = torch.zeros(2, 3, 3)
        >>> bed = HeightMap(0.0, 0.0, 0.01, z, blank, blank, count, color)
        >>> save_height_map("bed.npz", bed)
        >>> tuple(load_height_map("bed.npz").z.shape)
        (2, 3)
    """
    path = Path(path)
    with _Archive(path) as archive:
        x0, y0, spacing = (
            float(archive.array(key, np.float64, 0)) for key in ("x0", "y0", "spacing")
        )
        z = archive.array("z", np.float32, 2)
        sigma = archive.array("sigma", np.float32, 2)
        confidence = archive.array("confidence", np.float32, 2)
        view_count = archive.array("view_count", np.int32, 2)
        color = archive.array("color", np.float32, 3)
    if not (np.isfinite([x0, y0, spacing]).all() and spacing > 0):
        raise DataError(
            f"height map {path} has x0 = {x0}, y0 = {y0}, spacing = {spacing}; expected finite "
            "numbers and a positive spacing"
        )
    try:
        return HeightMap(x0, y0, spacing, z, sigma, confidence, view_count, color)
    except ShapeError as error:
        raise DataError(f"height map {path}: {error}") from None


def _numpy(tensor: Tensor, dtype: type[np.generic]) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=dtype)


def save_arrays(path: str | Path, arrays: Mapping[str, NDArray[Any] | np.generic]) -> None:
    """Write arrays as npz; the same arrays give the same bytes.

    Args:
        path: File to write, ``.npz``.
        arrays: Name to array, in the order in which they are written.

    Raises:
        DataError: The name has another suffix, or the file cannot be written.

    Example:
        >>> import numpy as np
        >>> from aquamvs.io import save_arrays
        >>> save_arrays("table.npz", {"x": np.arange(3)})
        >>> np.load("table.npz")["x"].tolist()
        [0, 1, 2]
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        raise DataError(f"cannot write arrays to {path}; expected a name that ends in .npz")
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for key, array in arrays.items():
            member = zipfile.ZipInfo(f"{key}.npy", _DATE)
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


class _Archive:
    """Reader of an npz file that trusts no declared size."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "_Archive":
        try:
            self._zip = zipfile.ZipFile(self._path)
        except FileNotFoundError:
            raise DataError(f"{self._path} does not exist") from None
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"cannot read {self._path}: {error}; expected an npz file") from None
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def array(self, key: str, dtype: type[np.generic], ndim: int) -> Tensor:
        """The array of a key, checked for kind and size before it is allocated."""
        try:
            info = self._zip.getinfo(f"{key}.npy")
            with self._zip.open(info) as file:
                shape, fortran, found = _read_header(file)
                if found != np.dtype(dtype) or len(shape) != ndim or fortran:
                    raise DataError(
                        f"{self._path}: array {key!r} is {found} of shape {shape}; expected "
                        f"{np.dtype(dtype)} of {ndim} dimensions"
                    )
                count = int(np.prod(shape, dtype=object)) if shape else 1
                if count > MAX_ELEMENTS:
                    raise DataError(
                        f"{self._path}: array {key!r} declares {count} elements; at most "
                        f"{MAX_ELEMENTS} are read"
                    )
                size = count * found.itemsize
                data = file.read(size + 1)
        except KeyError:
            raise DataError(f"{self._path} has no array {key!r}") from None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(
                f"{self._path}: cannot read array {key!r}: {error}; the file is damaged"
            ) from None
        if len(data) != size:
            raise DataError(
                f"{self._path}: array {key!r} holds {min(len(data), size + 1)} bytes; its header "
                f"declares {size}"
            )
        return torch.from_numpy(np.frombuffer(data, dtype=found).reshape(shape).copy())


def _read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"array format {version} is not 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(
        file, max_header_size=_MAX_HEADER_BYTES
    )
    return shape, fortran, dtype
