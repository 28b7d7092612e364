"""Triangles between the cells of a height map."""

import torch
from torch import Tensor

from ..errors import ConfigError, StageError
from ..maps import grid_normals
from ..types import HeightMap, Mesh

_NORMAL_RADIUS = 1


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
    """
    if not max_slope > 0:
        raise ConfigError(f"max_slope is {max_slope}; expected a positive number")
    z = height_map.z
    faces = _triangles(z, max_slope * height_map.spacing)
    if len(faces) == 0:
        raise StageError(
            "the height map has no three neighbouring cells to make a triangle of "
            f"({int(torch.isfinite(z).sum())} of {z.numel()} cells are known)"
        )
    used = torch.zeros(z.numel(), dtype=torch.bool, device=z.device)
    used[faces.reshape(-1)] = True
    number = used.cumsum(0) - 1
    x, y = (each.to(z.device) for each in height_map.grid_xy())
    points = torch.stack([x, y, z.double()], dim=-1)
    normals = grid_normals(points, points.new_tensor([0.0, 0.0, -1.0]), radius=_NORMAL_RADIUS)
    return Mesh(
        vertices=points.reshape(-1, 3)[used].float(),
        faces=number[faces],
        normals=normals.reshape(-1, 3)[used].float(),
        colors=height_map.color.reshape(-1, 3)[used],
    )


def _triangles(z: Tensor, max_rise: float) -> Tensor:
    """Faces over flat cell numbers, shape (F, 3), in row-major order of their quads."""
    rows, columns = z.shape
    number = torch.arange(z.numel(), device=z.device).reshape(rows, columns)
    corners = [(slice(0, -1), slice(0, -1)), (slice(0, -1), slice(1, None))]
    corners += [(slice(1, None), slice(0, -1)), (slice(1, None), slice(1, None))]
    index = [number[corner].reshape(-1) for corner in corners]
    height = [z[corner].reshape(-1) for corner in corners]

    def triangle(*which: int) -> tuple[Tensor, Tensor]:
        """Faces of three corners, and where all three are known and close enough in height."""
        face = torch.stack([index[i] for i in which], dim=-1)
        levels = torch.stack([height[i] for i in which], dim=-1)
        # Diagonals are longer than edges; held to the same rise they are held to a gentler slope.
        rise = levels.amax(-1) - levels.amin(-1)
        return face, rise <= max_rise  # False for NaN

    # Corners: 0 1 over 2 3. X runs right, Y down the rows and Z into the page, to the scene: what
    # is counter-clockwise for the cameras runs left-down-right.
    falling = (height[0] - height[3]).abs() <= (height[1] - height[2]).abs()
    by_falling = [triangle(0, 2, 3), triangle(0, 3, 1)]
    by_rising = [triangle(0, 2, 1), triangle(1, 2, 3)]
    whole_falling = by_falling[0][1] & by_falling[1][1]
    whole_rising = by_rising[0][1] & by_rising[1][1]
    use_falling = whole_falling & (falling | ~whole_rising)
    use_rising = whole_rising & ~use_falling
    partial = ~use_falling & ~use_rising
    chosen = []
    for face, fits in by_falling:
        chosen.append((face, fits & use_falling))
    for face, fits in by_rising:
        chosen.append((face, fits & use_rising))
    for face, fits in (*by_falling, *by_rising):
        chosen.append((face, fits & partial))
        partial = partial & ~fits
    faces = torch.stack([face for face, _ in chosen], dim=1)
    wanted = torch.stack([where for _, where in chosen], dim=1)
    return faces[wanted]
