"""Cells of a height map as points, a few rows at a time.

A map of ten million cells makes whole-map intermediates of a hundred megabytes each, and memory
that a process takes anew costs more than the arithmetic on it.
"""

import torch
from torch import Tensor

from .maps import height_normal_bands
from .types import HeightMap

_CELLS_AT_ONCE = 1 << 18


def cell_numbers(wanted: Tensor) -> Tensor:
    """Row-major numbers of the True cells of a map (rows, columns), shape (N,), int32.

    Example:
        >>> import torch
        >>> from aquamvs.cells import cell_numbers
        >>> cell_numbers(torch.tensor([[True, False], [False, True]])).tolist()
        [0, 3]
    """
    flat = torch.split(wanted.reshape(-1), _CELLS_AT_ONCE)
    return torch.cat(
        [(part.nonzero()[:, 0] + i * _CELLS_AT_ONCE).int() for i, part in enumerate(flat)]
    )


def cell_points(height_map: HeightMap, cells: Tensor) -> Tensor:
    """World positions of cells.

    Args:
        height_map: Height field on a horizontal grid.
        cells: From :func:`cell_numbers`, shape (N,).

    Returns:
        shape (N, 3), float32, metres.

    Example:
        >>> import torch
        >>> from aquamvs.cells import cell_numbers, cell_points
        >>> known = cell_numbers(torch.isfinite(made.height_map.z))
        >>> cell_points(made.height_map, known).shape == (len(known), 3)
        True
    """
    z = height_map.z
    grid_x, grid_y = height_map.grid_xy()
    x, y = (axis.to(z.device, torch.float32) for axis in (grid_x[0], grid_y[:, 0]))
    points = x.new_empty(len(cells), 3)
    parts = (torch.split(each, _CELLS_AT_ONCE) for each in (cells, points))
    for some, point in zip(*parts, strict=True):
        row = some // len(x)
        point[:, 0], point[:, 1] = x[some - row * len(x)], y[row]
        point[:, 2] = z.reshape(-1)[some]
    return points


def cell_normals(height_map: HeightMap, cells: Tensor) -> Tensor:
    """Unit normals of cells, up to the cameras (negative Z), shape (N, 3), float32.

    Args:
        height_map: Height field on a horizontal grid.
        cells: From :func:`cell_numbers`, ascending, shape (N,).

    Example:
        >>> import torch
        >>> from aquamvs.cells import cell_normals, cell_numbers
        >>> known = cell_numbers(torch.isfinite(made.height_map.z))
        >>> bool((cell_normals(made.height_map, known)[:, 2] < 0).all())
        True
    """
    normals = height_map.z.new_empty(len(cells), 3)
    done = first = 0
    for band in height_normal_bands(height_map.z, height_map.spacing):
        flat = band.reshape(-1, 3)
        count = int(torch.searchsorted(cells, first + len(flat))) - done
        here = slice(done, done + count)
        torch.index_select(flat, 0, cells[here] - first, out=normals[here])
        done, first = done + count, first + len(flat)
    return normals
