"""A time series of height maps as one Zarr store, which xarray opens (extra ``export``)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ConfigError, DataError
from ..maps import sample_map
from ..types import HeightMap
from .arrays import MAX_ELEMENTS, load_height_map, open_arrays
from .height_fields import AXES, COLOR, HEIGHT_FIELDS, WORLD_FRAME, cell_centres
from .images import color_levels
from .storage import new_folder

if TYPE_CHECKING:
    from xarray import Dataset

_GRID_TOLERANCE = 1e-6
"""Offset of two grids, in cells, that is rounding."""
_CHUNK_SIDE = 512
_NUMBERED = re.compile(r"frame_(\d+)")


@dataclass(frozen=True, slots=True)
class _Cells:
    """Centres of a grid's columns and rows, and their distance, metres."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    spacing: float


def save_height_series(
    path: str | Path,
    maps: Sequence[str | Path],
    *,
    interval: float | None = None,
    overwrite: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Write height maps as one Zarr store with the dimensions ``frame``, ``y`` and ``x``.

    One map at a time is in memory. Maps on other grids than the first are brought to its cells,
    continued to all that any map covers: heights, sigma and confidence bilinearly, the rest from
    the nearest cell.

    Args:
        path: Store (a folder) to create, ending in .zarr.
        maps: Files of :func:`save_height_map` in the order of time. The frame's number is that of
            the folder ``frame_000000`` that holds a map, else its position.
        interval: Time from one frame number to the next, seconds: adds the coordinate ``time``.
        overwrite: Replace a store that exists.
        progress: Called for every map with its frame, how many are done, and how many there are.

    Raises:
        ConfigError: xarray or zarr is not installed, or the interval is not positive.
        DataError: A map cannot be read, no map is given, the maps together cover more than can be
            written, or the store exists or cannot be written.

    Example:
        >>> import xarray
        >>> from aquamvs.io import save_height_map, save_height_series
        >>> save_height_map("height.npz", made.height_map)
        >>> save_height_series("heights.zarr", ["height.npz"])
        >>> xarray.open_zarr("heights.zarr", consolidated=False)["z"].dims
        ('frame', 'y', 'x')
    """
    try:
        import xarray
        import zarr
    except ImportError:
        raise ConfigError(
            "a series of height maps needs xarray and zarr; install the extra: "
            'pip install "aquamvs[export]"'
        ) from None
    del xarray, zarr
    path = Path(path)
    if path.suffix.lower() != ".zarr":
        raise DataError(f"cannot write a Zarr store to {path}; expected a name that ends in .zarr")
    if interval is not None and not 0 < interval < math.inf:
        raise ConfigError(f"the interval is {interval} s; expected a positive time")
    if not maps:
        raise DataError("no height map was given; expected one or more")
    files = [Path(each) for each in maps]
    frames = _frame_numbers(files)
    grid = _common_grid(files)
    with new_folder(path, overwrite=overwrite) as store:
        for position, (frame, file) in enumerate(zip(frames, files, strict=True)):
            dataset = _dataset(_brought_to(load_height_map(file), grid), grid, frame, interval)
            try:
                _append(store, dataset, first=position == 0)
            except OSError as error:
                raise DataError(f"cannot write {path}: {error.strerror or error}") from None
            if progress is not None:
                progress(f"frame {frame}", position + 1, len(files))


def _frame_numbers(files: Sequence[Path]) -> list[int]:
    found = [
        _NUMBERED.fullmatch(parent.name)
        for file in files
        for parent in [file.absolute().parents[1]]
    ]
    numbers = [int(match.group(1)) for match in found if match is not None]
    whole = len(numbers) == len(files) and len(set(numbers)) == len(numbers)
    return numbers if whole else list(range(len(files)))


def _common_grid(files: Sequence[Path]) -> _Cells:
    """The first map's cells, continued to all that any map covers."""
    boxes = []
    for file in files:
        with open_arrays(file) as arrays:
            x0, y0, spacing, z = arrays.heights()
        rows, columns = z.shape
        boxes.append((x0, y0, x0 + (columns - 1) * spacing, y0 + (rows - 1) * spacing, spacing))
    x0, y0, _, _, spacing = boxes[0]
    before_x, before_y = (
        max(0, _cells_to(start - min(box[axis] for box in boxes), spacing))
        for axis, start in enumerate((x0, y0))
    )
    x0, y0 = x0 - before_x * spacing, y0 - before_y * spacing
    columns = _cells_to(max(box[2] for box in boxes) - x0, spacing) + 1
    rows = _cells_to(max(box[3] for box in boxes) - y0, spacing) + 1
    if rows * columns * 3 > MAX_ELEMENTS:
        raise DataError(
            f"the height maps together cover {columns} x {rows} cells of {spacing} m; at most "
            f"{MAX_ELEMENTS // 3} cells are written: do they belong together?"
        )
    return _Cells(cell_centres(x0, spacing, columns), cell_centres(y0, spacing, rows), spacing)


def _cells_to(distance: float, spacing: float) -> int:
    """Whole cells that reach over a distance."""
    return math.ceil(distance / spacing - _GRID_TOLERANCE)


def _brought_to(found: HeightMap, grid: _Cells) -> HeightMap:
    """A map on another grid; a copy of every value where the cells coincide."""
    x, y = (grid.x - found.x0) / found.spacing, (grid.y - found.y0) / found.spacing
    column, row = (np.rint(each).astype(np.int64) for each in (x, y))
    rows, columns = found.z.shape
    inside = torch.from_numpy(
        ((row >= 0) & (row < rows))[:, None] & ((column >= 0) & (column < columns))
    )
    at = np.ix_(row.clip(0, rows - 1), column.clip(0, columns - 1))
    aligned = bool(
        (np.abs(x - column) < _GRID_TOLERANCE).all() and (np.abs(y - row) < _GRID_TOLERANCE).all()
    )

    def nearest(values: torch.Tensor, absent: float) -> torch.Tensor:
        there = inside if values.ndim == 2 else inside[..., None]
        return torch.where(there, values[at], torch.tensor(absent, dtype=values.dtype))

    def between(values: torch.Tensor, absent: float) -> torch.Tensor:
        if aligned:
            return nearest(values, absent)
        pixels = torch.from_numpy(np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1))
        return sample_map(values.double(), pixels).to(values).nan_to_num(absent)

    z = between(found.z, math.nan)
    known = torch.isfinite(z)
    return HeightMap(
        *(float(grid.x[0]), float(grid.y[0]), grid.spacing, z),
        sigma=torch.where(known, between(found.sigma, math.nan), torch.nan),
        confidence=torch.where(known, between(found.confidence, 0.0), 0.0),
        view_count=torch.where(known, nearest(found.view_count, 0), 0),
        color=nearest(found.color, 0.0),
    )


def _dataset(height_map: HeightMap, grid: _Cells, frame: int, interval: float | None) -> Dataset:
    import xarray

    coordinates: dict[str, Any] = {
        "frame": ("frame", [frame], {"long_name": "frame number"}),
        "y": ("y", grid.y, AXES["y"]),
        "x": ("x", grid.x, AXES["x"]),
    }
    if interval is not None:
        since = {"units": "s", "long_name": "time since frame 0"}
        coordinates["time"] = ("frame", [frame * interval], since)
    variables: dict[str, Any] = {
        field.name: (("frame", "y", "x"), field.values(height_map)[None], field.attributes)
        for field in HEIGHT_FIELDS
    }
    variables["color"] = (("frame", "y", "x", "rgb"), color_levels(height_map.color)[None], COLOR)
    about = {
        "Conventions": "CF-1.11",
        "title": "AquaMVS height maps",
        "comment": WORLD_FRAME,
        "spacing_m": grid.spacing,
    }
    return xarray.Dataset(variables, coordinates, about)


def _append(store: Path, dataset: Dataset, *, first: bool) -> None:
    """Add a frame; format 2, which older readers know too."""
    if not first:
        dataset.to_zarr(store, append_dim="frame", consolidated=False)
        return
    limits = {"frame": 1, "y": _CHUNK_SIDE, "x": _CHUNK_SIDE, "rgb": 3}
    encoding = {
        name: {
            "chunks": tuple(min(limits[str(d)], n) for d, n in zip(v.dims, v.shape, strict=True))
        }
        for name, v in dataset.data_vars.items()
    }
    dataset.to_zarr(store, mode="w", consolidated=False, zarr_format=2, encoding=encoding)
