"""Cells of a height map as points, a few rows at a time.

A map of ten million cells makes whole-map intermediates of a hundred megabytes each, and memory
that a process takes anew costs more than the arithmetic on it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .maps import MAX_SLOPE, height_normal_bands
from .numerics.acceleration import by_rows, has_kernels, operation_threads
from .types import HeightMap

_CELLS_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True)
class Cells:
    """Some cells of a height map, in row-major order.

    Attributes:
        numbers: Row-major numbers in the map, shape (N,), int32.
        points: World positions, shape (N, 3), float32, metres.
        normals: Unit normals, up to the cameras (negative Z), same shape.

    Example:
        >>> from aquamvs.cells import chosen_cells
        >>> known = made.height_map.z.isfinite()
        >>> cells = chosen_cells(made.height_map, known)
        >>> bool((cells.of(made.height_map.z) == cells.points[:, 2]).all())
        True
    """

    numbers: Tensor
    points: Tensor
    normals: Tensor

    def of(self, values: Tensor) -> Tensor:
        """The cells' values, shape (N, ...), of a map (rows, columns, ...)."""
        with operation_threads(1):  # more would wait for one another longer than they work
            return values.flatten(0, 1).index_select(0, self.numbers)


def row_starts(wanted: NDArray[Any]) -> NDArray[np.int64]:
    """How many cells are not zero before each row of a map, and in all, shape (rows + 1,).

    Example:
        >>> import numpy as np
        >>> from aquamvs.cells import row_starts
        >>> row_starts(np.array([[True, False], [True, True]])).tolist()
        [0, 1, 3]
    """
    return np.cumsum([0, *np.count_nonzero(wanted, axis=1)], dtype=np.int64)


def chosen_cells(height_map: HeightMap, wanted: Tensor) -> Cells:
    """Some known cells of a height map.

    Compiled code fuses multiplications and additions: its normals differ from those of tensor
    operations by less than 1e-6, nothing else differs.

    Args:
        height_map: Height field on a horizontal grid.
        wanted: shape (rows, columns), bool; False where z is NaN.

    Example:
        >>> from aquamvs.cells import chosen_cells
        >>> known = made.height_map.z.isfinite()
        >>> cells = chosen_cells(made.height_map, known)
        >>> cells.points.shape == cells.normals.shape == (int(known.sum()), 3)
        True
        >>> bool((cells.normals[:, 2] < 0).all())
        True
    """
    z = height_map.z
    grid_x, grid_y = height_map.grid_xy()
    x, y = (axis.to(z.device, torch.float32) for axis in (grid_x[0], grid_y[:, 0]))
    if has_kernels(z):
        return _compiled_cells(z, wanted, x, y, height_map.spacing)
    numbers = _numbers(wanted)
    normals = _normals(z, height_map.spacing, numbers)
    return Cells(numbers, _points(z, x, y, numbers), normals)


def _compiled_cells(z: Tensor, wanted: Tensor, x: Tensor, y: Tensor, spacing: float) -> Cells:
    """:func:`chosen_cells` by compiled code, parts of the rows shared out among threads."""
    from .numerics.height_kernels import describe_cells

    heights, mask = z.contiguous().numpy(), wanted.contiguous().numpy()
    starts = row_starts(mask)
    count = int(starts[-1])
    cells = Cells(
        torch.empty(count, dtype=torch.int32), torch.empty(count, 3), torch.empty(count, 3)
    )
    inputs = heights, mask, starts, x.numpy(), y.numpy()
    sizes = np.float32(spacing), np.float32(MAX_SLOPE * spacing)
    outputs = cells.numbers.numpy(), cells.points.numpy(), cells.normals.numpy()
    by_rows(z, lambda rows: describe_cells(*inputs, *sizes, rows.start, rows.stop, *outputs))
    return cells


def _numbers(wanted: Tensor) -> Tensor:
    flat = torch.split(wanted.reshape(-1), _CELLS_AT_ONCE)
    return torch.cat(
        [(part.nonzero()[:, 0] + i * _CELLS_AT_ONCE).int() for i, part in enumerate(flat)]
    )


def _points(z: Tensor, x: Tensor, y: Tensor, numbers: Tensor) -> Tensor:
    points = x.new_empty(len(numbers), 3)
    parts = (torch.split(each, _CELLS_AT_ONCE) for each in (numbers, points))
    for some, point in zip(*parts, strict=True):
        row = some // len(x)
        point[:, 0], point[:, 1] = x[some - row * len(x)], y[row]
        point[:, 2] = z.reshape(-1)[some]
    return points


def _normals(z: Tensor, spacing: float, numbers: Tensor) -> Tensor:
    normals = z.new_empty(len(numbers), 3)
    done = first = 0
    for band in height_normal_bands(z, spacing):
        flat = band.reshape(-1, 3)
        count = int(torch.searchsorted(numbers, first + len(flat))) - done
        here = slice(done, done + count)
        torch.index_select(flat, 0, numbers[here] - first, out=normals[here])
        done, first = done + count, first + len(flat)
    return normals
