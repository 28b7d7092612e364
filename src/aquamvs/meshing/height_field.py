"""Triangles between the cells of a height map."""

import numpy as np
import torch
from torch import Tensor

from ..cells import chosen_cells, row_starts
from ..errors import ConfigError, StageError
from ..numerics.acceleration import by_rows, has_kernels, operation_threads
from ..types import HeightMap, Mesh

_BAND_ROWS = 64
"""Rows whose triangles are made together: bounds memory."""
_KINDS = ((0, 2, 3), (0, 3, 1), (0, 2, 1), (1, 2, 3))
"""Triangles of a quad, over its corners 0 1 above 2 3. X runs right, Y down the rows and Z into the
page, to the scene: what is counter-clockwise for the cameras runs left-down-right."""


def mesh_from_height_map(height_map: HeightMap, *, max_slope: float = 4.0) -> Mesh:
    """Mesh of a height map; holes and walls stay open.

    Args:
        height_map: Height field on a horizontal grid.
        max_slope: Steepest edge of a triangle, rise over run. Steeper neighbours belong to
            different surfaces; 4 is 76 degrees.

    Returns:
        One vertex per cell that has a triangle, in row-major order, with the cell's colour and a
        normal by central differences; triangles counter-clockwise seen from the cameras (normals
        with negative Z). A cell quad is split along its flatter diagonal; where one of its corners
        is unknown or too steep, the other three still make a triangle.

    Raises:
        ConfigError: ``max_slope`` is not positive.
        StageError: No three neighbouring cells are known.

    Example:
        >>> from aquamvs.meshing import mesh_from_height_map
        >>> mesh = mesh_from_height_map(made.height_map, max_slope=2.0)
        >>> len(mesh.faces) <= len(mesh_from_height_map(made.height_map).faces)
        True
    """
    if not max_slope > 0:
        raise ConfigError(f"max_slope is {max_slope}; expected a positive number")
    z = height_map.z
    chosen = _chosen_triangles(z, max_slope * height_map.spacing)
    with operation_threads(1):  # more would wait for one another longer than they work
        used = _corners(chosen)
    faces = _compiled_faces(z, chosen, used) if has_kernels(z) else _faces(chosen, used)
    if len(faces) == 0:
        raise StageError(
            "the height map has no three neighbouring cells to make a triangle of "
            f"({int(torch.isfinite(z).sum())} of {z.numel()} cells are known)"
        )
    cells = chosen_cells(height_map, used)
    return Mesh(
        vertices=cells.points, faces=faces, normals=cells.normals, colors=cells.of(height_map.color)
    )


def _chosen_triangles(z: Tensor, max_rise: float) -> Tensor:
    """Triangles of every quad: bit i stands for the kind i.

    Shape (rows + 1, columns + 1), uint8: the quad below and right of cell (r, c) stands at
    (r + 1, c + 1), so that every cell has four quads around it.
    """
    rows, columns = z.shape
    chosen = torch.zeros(rows + 1, columns + 1, dtype=torch.uint8, device=z.device)
    if has_kernels(z):
        from ..numerics.height_kernels import choose_triangles

        heights, limit, out = z.contiguous().numpy(), np.float32(max_rise), chosen.numpy()
        by_rows(z[1:], lambda part: choose_triangles(heights, limit, part.start, part.stop, out))
        return chosen
    for start in range(0, rows - 1, _BAND_ROWS):
        band = _band_triangles(z[start : start + _BAND_ROWS + 1], max_rise)
        chosen[start + 1 : start + 1 + len(band), 1:-1] = band
    return chosen


def _band_triangles(z: Tensor, max_rise: float) -> Tensor:
    """:func:`_chosen_triangles` of a few rows, without a border."""
    corner = (z[:-1, :-1], z[:-1, 1:], z[1:, :-1], z[1:, 1:])

    def fits(*which: int) -> Tensor:
        """Where three corners are known and close enough in height."""
        a, b, c = (corner[i] for i in which)
        # Diagonals are longer than edges; held to the same rise they are held to a gentler slope.
        rise = torch.maximum(torch.maximum(a, b), c) - torch.minimum(torch.minimum(a, b), c)
        return rise <= max_rise  # False for NaN

    fit = [fits(*kind) for kind in _KINDS]
    by_falling, by_rising = fit[0] & fit[1], fit[2] & fit[3]
    flatter = (corner[0] - corner[3]).abs() <= (corner[1] - corner[2]).abs()
    by_falling &= flatter | ~by_rising
    chosen = torch.zeros_like(by_falling, dtype=torch.uint8)
    for kind in (3, 2, 1, 0):  # of a quad that is not whole, the first kind that fits
        chosen.masked_fill_(fit[kind], 1 << kind)
    return chosen.masked_fill_(by_rising, 0b1100).masked_fill_(by_falling, 0b0011)


def _corners(chosen: Tensor) -> Tensor:
    """Cells that are corners of triangles, shape (rows, columns), bool."""
    around = (chosen[1:, 1:], chosen[1:, :-1], chosen[:-1, 1:], chosen[:-1, :-1])
    corners = torch.zeros_like(around[0])
    for corner, quads in enumerate(around):
        corners |= quads & sum(1 << i for i, kind in enumerate(_KINDS) if corner in kind)
    return corners > 0


def _faces(chosen: Tensor, used: Tensor) -> Tensor:
    """Triangles over the numbers of the used cells, by rows of quads, shape (F, 3), int32."""
    columns, device = used.shape[1], used.device
    offset = torch.tensor([0, 1, columns, columns + 1], device=device)
    corners = offset[torch.tensor(_KINDS, device=device)]
    bits = torch.tensor([1 << kind for kind in range(4)], dtype=torch.uint8, device=device)
    vertex = used.flatten().cumsum(0, dtype=torch.int32) - 1
    count = sum(int(((chosen & bit) > 0).sum()) for bit in bits)
    faces = torch.empty(count, 3, dtype=torch.int32, device=device)
    done = 0
    for start in range(0, len(used) - 1, _BAND_ROWS):
        quads = chosen[1:-1, 1:-1, None][start : start + _BAND_ROWS]
        row, column, kind = ((quads & bits) > 0).nonzero(as_tuple=True)
        cell = (start + row) * columns + column
        faces[done : done + len(cell)] = vertex[cell[:, None] + corners[kind]]
        done += len(cell)
    return faces


def _compiled_faces(z: Tensor, chosen: Tensor, used: Tensor) -> Tensor:
    """:func:`_faces` by compiled code, parts of the rows shared out among threads."""
    from ..numerics.height_kernels import write_faces

    bits, corners = chosen.numpy(), used.numpy()
    # A quad has at most one triangle of the kinds 0 and 2, and one of the kinds 1 and 3.
    starts = row_starts(bits[1:-1] & 0b0101) + row_starts(bits[1:-1] & 0b1010)
    faces = torch.empty(int(starts[-1]), 3, dtype=torch.int32)
    inputs, out = (bits, corners, row_starts(corners), starts), faces.numpy()
    by_rows(z[1:], lambda part: write_faces(*inputs, part.start, part.stop, out))
    return faces
