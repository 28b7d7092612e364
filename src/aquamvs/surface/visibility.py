"""Which cameras see which cells of a height field, and what depth each camera sees.

Both follow refracted rays above a height map. Rays are straight under water, so a cell is hidden
from a camera if the surface rises above the segment between the cell and the point at which its ray
leaves the water.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..numerics.acceleration import has_kernels, in_parallel
from ..numerics.filters import fill_gaps
from ..projection import ProjectionRig, RefractiveProjectionModel
from ..types import View
from .grid import Grid
from .tiles import Tile

_CLEARANCE_CELLS = 1.0
"""The surface must rise this many cells above a ray to block it: the height of a cell on a steep
slope is itself uncertain by about as much."""
_HALVINGS = 8
"""Of the last step of a ray; a straight line through its ends finds the rest."""


@dataclass(frozen=True, slots=True)
class Occlusion:
    """What each view cannot see of a height map, on a grid coarser than the map's.

    Attributes:
        blocked: shape (M, ceil(rows / factor), ceil(columns / factor)), bool.
        factor: Cells of the map along a cell of ``blocked``.
    """

    blocked: Tensor
    factor: int

    def of(self, view: int, grid: Grid, tile: Tile, margin: int) -> Tensor:
        """Hidden cells of a tile and its margin (the map's edge continues), shape (H, W), bool."""
        device = self.blocked.device
        row = torch.arange(tile.row - margin, tile.row + tile.rows + margin, device=device)
        column = torch.arange(
            tile.column - margin, tile.column + tile.columns + margin, device=device
        )
        row = row.clamp(0, grid.rows - 1) // self.factor
        column = column.clamp(0, grid.columns - 1) // self.factor
        return self.blocked[view][row][:, column]


def surface_at(z: Tensor, grid: Grid, x: Tensor, y: Tensor) -> Tensor:
    """Height of a map at world positions (bilinear; the edge continues outwards).

    Args:
        z: shape (rows, columns); NaN spreads to its neighbours.
        grid: Of ``z``.
        x: World X, shape (..., w), metres.
        y: World Y, same shape, metres.

    Returns:
        Same shape.
    """
    column = (x - grid.x0) / grid.spacing
    row = (y - grid.y0) / grid.spacing
    sampling = torch.stack(
        [(2 * column + 1) / grid.columns - 1, (2 * row + 1) / grid.rows - 1], dim=-1
    )
    return torch.nn.functional.grid_sample(
        z[None, None],
        sampling.reshape(1, -1, x.shape[-1], 2).to(z),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    ).reshape(x.shape)


def hidden_cells(
    z: Tensor, grid: Grid, models: Sequence[RefractiveProjectionModel], *, workers: int = 1
) -> Tensor:
    """Cells whose way to a camera is blocked by the surface itself.

    Args:
        z: Height map without gaps, shape (rows, columns), metres.
        grid: Of ``z``.
        models: Of the cameras.
        workers: Threads that share the cameras out among them.

    Returns:
        shape (M, rows, columns), bool.
    """
    if not has_kernels(z):
        x, y = grid.axes(z)
        points = torch.stack([x.expand(grid.shape), y[:, None].expand(grid.shape), z], dim=-1)
        ray, visible = ProjectionRig(models).rays_to(points)
        # Horizontal motion per metre of rise.
        return _hidden_along(z, grid, points, -ray[..., :2] / ray[..., 2:]) & visible
    from .ray_kernels import hide

    heights, highest = (maps.contiguous().numpy() for maps in (z, _highest(z)))
    numbers = (grid.x0, grid.y0, grid.spacing)
    limits = np.float32(z.min()), np.float32(_CLEARANCE_CELLS * grid.spacing)

    def hidden_from(model: RefractiveProjectionModel) -> Tensor:
        hidden = torch.empty(grid.shape, dtype=torch.bool)
        camera = model.coefficients().float().numpy()
        hide(camera, heights, highest, *numbers, *limits, hidden.numpy())
        return hidden

    return torch.stack(list(in_parallel(hidden_from, models, workers)))


def _hidden_along(z: Tensor, grid: Grid, points: Tensor, lean: Tensor) -> Tensor:
    """Cells above whose rays, shape (M, rows, columns, 2), the surface rises."""
    top = float(z.min())
    reach = float(z.max()) - top
    steepness = lean.norm(dim=-1)
    steepest = float(steepness.nan_to_num(0.0).max())
    steps = math.ceil(reach * max(steepest, 1e-3) / grid.spacing)
    # The same horizontal distance for every cell, so that no cell on the way is skipped.
    rise = grid.spacing / steepness.clamp(min=1e-3)
    motion = lean * rise[..., None]
    lowest = z - _CLEARANCE_CELLS * grid.spacing
    hidden = torch.zeros_like(rise, dtype=torch.bool)
    for step in range(1, steps + 1):
        at = points[..., :2] + step * motion
        above = surface_at(z, grid, at[..., 0], at[..., 1])
        hidden |= (above < lowest - step * rise) & (z - step * rise >= top)
    return hidden


def _highest(z: Tensor) -> Tensor:
    """Least height of every block of the compiled code's and its neighbours, which it may skip."""
    from .ray_kernels import BLOCK

    blocks = torch.nn.functional.max_pool2d(-z[None, None], BLOCK, ceil_mode=True)
    return -torch.nn.functional.max_pool2d(blocks, 3, stride=1, padding=1)[0, 0]


class SurfaceRays:
    """Meets rays with a height field: the first meeting from above.

    Args:
        z: Height map, shape (rows, columns), metres; NaN where unknown.
        grid: Of ``z``.
    """

    def __init__(self, z: Tensor, grid: Grid) -> None:
        self._z, self._grid = z, grid
        self._known = torch.isfinite(z)
        self._empty = not bool(self._known.any())
        # Something stands in a gap, and may hide what is behind: a ray ends at the bridge over it.
        self._solid = z if self._empty else fill_gaps(z).contiguous()
        self._top, self._bottom = map(float, self._solid.aminmax())
        self._highest = _highest(self._solid) if has_kernels(z) else z  # which nobody asks

    def meet(self, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Where rays meet the surface.

        Args:
            origin: On the water surface, shape (..., 3), metres.
            direction: Unit vectors under water, shape (..., 3).

        Returns:
            Metres along the ray, shape (...,), dtype of ``z``, NaN where it meets an unknown cell
            or leaves the map; and the number of the cell that it meets, shape (...,), int64, -1
            there.
        """
        shape = origin.shape[:-1]
        if self._empty:
            nothing = torch.full(shape, -1, dtype=torch.int64, device=self._z.device)
            return torch.full(shape, torch.nan).to(self._z), nothing
        origin, direction = (x.reshape(-1, 3).to(self._z) for x in (origin, direction))
        depth, cell = self._hits(origin, direction)
        known = (cell >= 0) & self._known.flatten()[cell.clamp(min=0)]
        depth, cell = torch.where(known, depth, torch.nan), torch.where(known, cell, -1)
        return depth.reshape(shape), cell.reshape(shape)

    def draw(self, view: View, confidence: Tensor, sigma: Tensor, maps: Tensor) -> None:
        """Draw the surface as a view sees it (compiled code).

        Args:
            view: With any mask; what it leaves out is unknown.
            confidence: Of the heights, shape (rows, columns).
            sigma: Of the heights, same shape, metres.
            maps: Output, shape (3, H, W): depth along the ray, confidence, sigma along the ray.
        """
        from .ray_kernels import draw

        grid = self._grid
        numbers = (grid.x0, grid.y0, grid.spacing, self._top, self._bottom)
        draw(
            view.model.ray_coefficients().float().numpy(),
            *(each.contiguous().numpy() for each in (view.mask, self._solid, self._highest)),
            *(np.float32(number) for number in numbers),
            *(each.contiguous().numpy() for each in (self._known, confidence, sigma)),
            maps.numpy(),
        )

    def _hits(self, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        grid = self._grid
        down = direction[:, 2].clamp(min=1e-6)
        start = ((self._top - grid.spacing - origin[:, 2]) / down).clamp(min=0)
        end = (self._bottom + grid.spacing - origin[:, 2]) / down
        lean = (direction[:, :2].norm(dim=-1) / down).nan_to_num()
        reach = self._bottom - self._top + 2 * grid.spacing
        steps = max(2, math.ceil(reach * float(lean.max()) / grid.spacing) + 2)

        def clearance(depth: Tensor) -> Tensor:
            at = (origin + depth[:, None] * direction)[None]
            return surface_at(self._solid, grid, at[..., 0], at[..., 1])[0] - at[0, :, 2]

        low, high = start, end
        above = clearance(start)
        met = torch.zeros_like(start, dtype=torch.bool)
        for step in range(1, steps + 1):
            depth = start + (end - start) * (step / steps)
            here = clearance(depth)
            first = ~met & (here <= 0) & (above > 0)
            low = torch.where(first, start + (end - start) * ((step - 1) / steps), low)
            high = torch.where(first, depth, high)
            met |= first
            above = here
        over, under = clearance(low), clearance(high)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            here = clearance(middle)
            low, high = torch.where(here > 0, middle, low), torch.where(here > 0, high, middle)
            over, under = torch.where(here > 0, here, over), torch.where(here > 0, under, here)
        depth = low + (high - low) * over / (over - under).clamp(min=1e-20)
        at = origin + depth[:, None] * direction
        column = ((at[:, 0] - grid.x0) / grid.spacing).round()
        row = ((at[:, 1] - grid.y0) / grid.spacing).round()
        inside = met & (column >= 0) & (row >= 0) & (column < grid.columns) & (row < grid.rows)
        cell = torch.where(inside, row * grid.columns + column, -1.0).long()
        return depth, cell
