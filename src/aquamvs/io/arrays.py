"""Depth maps and height maps as npz archives, byte-identical for identical input.

The archives are plain: NumPy's ``load`` reads them. They are read without pickle, and each array's
declared size is checked before it is allocated.
"""

import json
import math
import tokenize
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from ..files import check_file, open_zip, shortened
from ..types import DepthMap, HeightMap
from .atomic import atomic_path

MAX_ELEMENTS = 3 << 26
"""Largest array that is read, in elements (an RGB image of 8192 x 8192): a guard against headers
that lie."""

LARGEST_LENGTH = 1e9
"""Lengths beyond it, metres, come from no scene, and their products from no number."""

_SMALLEST_CELL = 1e-9
_MAX_FILE_BYTES = 1 << 32
_MAX_DIRECTORY_BYTES = 1 << 17

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
    with open_arrays(path) as arrays:
        depth = arrays.array("depth", np.float32, (None, None))
        confidence, sigma = (
            arrays.array(key, np.float32, depth.shape) for key in ("confidence", "sigma")
        )
        K = arrays.array("K", np.float64, (3, 3))
    return DepthMap(path.stem, depth, confidence, sigma, K)


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
    with open_arrays(path) as arrays:
        x0, y0, spacing, z = arrays.heights()
        sigma, confidence = (
            arrays.array(key, np.float32, z.shape) for key in ("sigma", "confidence")
        )
        view_count = arrays.array("view_count", np.int32, z.shape)
        color = arrays.array("color", np.float32, (*z.shape, 3))
    if not _are_lengths(sigma) or bool((sigma < 0).any()):
        raise DataError(
            f"height map {path} has a sigma that is negative or infinite; expected metres, or NaN "
            "where it is unknown"
        )
    return HeightMap(x0, y0, spacing, z, sigma, confidence, view_count, color)


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
            values = np.ascontiguousarray(array)
            header = np.lib.format.header_data_from_array_1_0(np.asarray(array))
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, header)
                file.write(
                    values.reshape(-1).view(np.uint8).data
                )  # as it is: write_array copies it


@contextmanager
def open_arrays(path: Path) -> Iterator["Arrays"]:
    """Open an npz file for reading.

    Raises:
        DataError: The file is missing, damaged, or lacks what is asked of it in the block.

    Example:
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from aquamvs.io import open_arrays, save_arrays
        >>> save_arrays("map.npz", {"depth": np.ones((3, 4), np.float32)})
        >>> with open_arrays(Path("map.npz")) as arrays:
        ...     tuple(arrays.array("depth", np.float32, (None, None)).shape)
        (3, 4)
    """
    check_file(path, "array file", max_bytes=_MAX_FILE_BYTES)
    try:
        with open_zip(path, max_directory_bytes=_MAX_DIRECTORY_BYTES) as archive:
            yield Arrays(path, archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"cannot read {path}: {error}; the file is damaged or no npz file"
        ) from None


def array_names(path: str | Path) -> frozenset[str]:
    """Names of the arrays in an npz file.

    Raises:
        DataError: The file is missing or damaged.

    Example:
        >>> from aquamvs.io import array_names
        >>> sorted(array_names(folder / "ground_truth/frame_000000/surface.npz"))
        ['discontinuity', 'spacing', 'x0', 'y0', 'z']
    """
    with open_arrays(Path(path)) as arrays:
        return arrays.names


class Arrays:
    """The arrays of an open npz file; no declared size is trusted.

    Example:
        >>> from aquamvs.io import open_arrays
        >>> with open_arrays(folder / "ground_truth/frame_000000/surface.npz") as arrays:
        ...     sorted(arrays.names)
        ['discontinuity', 'spacing', 'x0', 'y0', 'z']
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._zip = archive

    @property
    def names(self) -> frozenset[str]:
        """Names of the arrays."""
        return frozenset(name.removesuffix(".npy") for name in self._zip.namelist())

    def array(self, key: str, dtype: type[np.generic], shape: Sequence[int | None]) -> Tensor:
        """An array, checked for kind and size before it is allocated.

        Args:
            key: Its name.
            dtype: That it must have.
            shape: That it must have; None: any size.

        Raises:
            DataError: There is no such array.
        """
        try:
            info = self._zip.getinfo(f"{key}.npy")
        except KeyError:
            raise DataError(f"{self._path} has no array {key!r}") from None
        with self._zip.open(info) as file:
            try:
                found, fortran, kind = _read_header(file)
            except (ValueError, SyntaxError, tokenize.TokenError) as error:
                raise DataError(f"{self._path}: array {key!r} is damaged: {error}") from None
            same = len(found) == len(shape) and all(
                want in (None, have) for have, want in zip(found, shape, strict=True)
            )
            if not same or kind != np.dtype(dtype) or fortran:
                wanted = ", ".join("any" if size is None else str(size) for size in shape)
                raise DataError(
                    f"{self._path}: array {key!r} is {kind} of shape {found}; expected "
                    f"{np.dtype(dtype)} of shape ({wanted})"
                )
            count = math.prod(found)
            if max(count, *found, 0) > MAX_ELEMENTS:  # NumPy multiplies sides of empty arrays too
                raise DataError(
                    f"{self._path}: array {key!r} declares {shortened(found)} elements; at most "
                    f"{MAX_ELEMENTS} are read"
                )
            size = count * kind.itemsize
            if info.file_size - file.tell() != size:
                raise DataError(
                    f"{self._path}: array {key!r} holds {info.file_size - file.tell()} bytes; its "
                    f"header declares {size}"
                )
            data = bytearray(size)
            if cast(BufferedIOBase, file).readinto(data) != size:
                raise DataError(f"{self._path}: array {key!r} ends before its {size} bytes")
        if kind == np.bool_:  # other bytes than 0 and 1 would be neither true nor false
            return torch.from_numpy(np.frombuffer(data, np.uint8).reshape(found) != 0)
        return torch.from_numpy(np.frombuffer(data, dtype=kind).reshape(found))

    def heights(self) -> tuple[float, float, float, Tensor]:
        """The grid of a height map or true surface: ``x0``, ``y0``, ``spacing`` and ``z``.

        Raises:
            DataError: One of them is missing, or no length that a scene can have; or the grid has
                fewer than two rows or columns.
        """
        x0, y0, spacing = (
            float(self.array(key, np.float64, ())) for key in ("x0", "y0", "spacing")
        )
        placed = abs(x0) <= LARGEST_LENGTH and abs(y0) <= LARGEST_LENGTH  # False for NaN
        if not (placed and _SMALLEST_CELL <= spacing <= LARGEST_LENGTH):
            raise DataError(
                f"{self._path} has x0 = {x0}, y0 = {y0}, spacing = {spacing}; expected metres, and "
                "a positive spacing"
            )
        z = self.array("z", np.float32, (None, None))
        if min(z.shape) < 2:
            raise DataError(
                f"{self._path} has {z.shape[0]} x {z.shape[1]} heights; expected 2 x 2 or more"
            )
        if not _are_lengths(z):
            raise DataError(
                f"{self._path} has infinite or absurd heights; expected metres, or NaN where they "
                "are unknown"
            )
        return x0, y0, spacing, z


def _are_lengths(values: Tensor) -> bool:
    """Whether all are lengths that a scene can have, or unknown."""
    return not bool((values.abs() > LARGEST_LENGTH).any())


def _read_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"array format {version} is not 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(
        file, max_header_size=_MAX_HEADER_BYTES
    )
    if any(type(size) is not int for size in shape):  # True and False pass for numbers
        raise ValueError(f"its shape is {shape}")
    return shape, fortran, dtype
