"""Triangles between the cells of a height map."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..cells import cell_normals, cell_numbers, cell_points
from ..errors import ConfigError, StageError
from ..types import HeightMap, Mesh

_BAND_ROWS = 64
"""Rows whose triangles are made together: bounds memory."""
_FACES_AT_ONCE = 1 << 18


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
    # Two triangles per quad, if all were whole; memory that is not written to is not taken.
    faces = torch.empty(2 * z.numel(), 3, dtype=torch.int32, device=z.device)
    used = torch.zeros(z.numel(), dtype=torch.bool, device=z.device)
    count = 0
    for band in _triangle_bands(z, max_slope * height_map.spacing):
        faces[count : count + len(band)] = band
        used[band.reshape(-1)] = True
        count += len(band)
    if count == 0:
        raise StageError(
            "the height map has no three neighbouring cells to make a triangle of "
            f"({int(torch.isfinite(z).sum())} of {z.numel()} cells are known)"
        )
    faces = faces[:count]
    number = used.cumsum(0, dtype=torch.int32) - 1
    for part in torch.split(faces, _FACES_AT_ONCE):  # an index is widened to 64 bits meanwhile
        part.copy_(number[part])
    cells = cell_numbers(used)
    return Mesh(
        vertices=cell_points(height_map, cells),
        faces=faces,
        normals=cell_normals(height_map, cells),
        colors=height_map.color.reshape(-1, 3).index_select(0, cells),
    )


def _triangle_bands(z: Tensor, max_rise: float) -> Iterator[Tensor]:
    """Faces over flat cell numbers, shape (F, 3), int32, in row-major order of their quads."""
    for start in range(0, max(z.shape[0] - 1, 1), _BAND_ROWS):
        band = _band_triangles(z[start : start + _BAND_ROWS + 1], max_rise)
        yield band.add_(start * z.shape[1])


def _band_triangles(z: Tensor, max_rise: float) -> Tensor:
    """:func:`_triangle_bands` of a few rows."""
    columns = z.shape[1]
    # Corners: 0 1 over 2 3. X runs right, Y down the rows and Z into the page, to the scene: what
    # is counter-clockwise for the cameras runs left-down-right.
    offset = torch.tensor([0, 1, columns, columns + 1], dtype=torch.int32, device=z.device)
    kinds = offset[torch.tensor([(0, 2, 3), (0, 3, 1), (0, 2, 1), (1, 2, 3)], device=z.device)]
    corner = (z[:-1, :-1], z[:-1, 1:], z[1:, :-1], z[1:, 1:])

    def fits(*which: int) -> Tensor:
        """Where three corners are known and close enough in height."""
        a, b, c = (corner[i] for i in which)
        # Diagonals are longer than edges; held to the same rise they are held to a gentler slope.
        rise = torch.maximum(torch.maximum(a, b), c) - torch.minimum(torch.minimum(a, b), c)
        return rise <= max_rise  # False for NaN

    fit = [fits(0, 2, 3), fits(0, 3, 1), fits(0, 2, 1), fits(1, 2, 3)]
    by_falling, by_rising = fit[0] & fit[1], fit[2] & fit[3]
    flatter = (corner[0] - corner[3]).abs() <= (corner[1] - corner[2]).abs()
    by_falling &= flatter | ~by_rising
    none = torch.tensor(-1, dtype=torch.int8, device=z.device)
    first = none.expand(corner[0].shape)
    for index in (3, 2, 1, 0):  # of a quad that is not whole, the first kind that fits
        first = torch.where(fit[index], none.new_tensor(index), first)
    first = torch.where(by_rising & ~by_falling, none.new_tensor(2), first)
    first = torch.where(by_falling, none.new_tensor(0), first)
    second = torch.where(by_rising, none.new_tensor(3), none)
    second = torch.where(by_falling, none.new_tensor(1), second)
    kind = torch.stack([first, second], dim=-1).reshape(-1)
    wanted = torch.nonzero(kind >= 0)[:, 0]
    quad = wanted.int() // 2
    start = quad + quad // (columns - 1)  # quads have one column less than cells
    return start[:, None] + kinds[kind[wanted].long()]
