"""Which cameras see which cells of a height field, and what depth each camera sees.

Both follow refracted rays above a height map. Rays are straight under water, so a cell is hidden
from a camera if the surface rises above the segment between the cell and the point at which its ray
leaves the water.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..numerics.acceleration import has_kernels
from ..numerics.filters import fill_gaps
from ..projection import RefractiveProjectionModel
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
        x: World X, shape (h, w), metres.
        y: World Y, shape (h, w), metres.

    Returns:
        shape (h, w).
    """
    column = (x - grid.x0) / grid.spacing
    row = (y - grid.y0) / grid.spacing
    sampling = torch.stack(
        [(2 * column + 1) / grid.columns - 1, (2 * row + 1) / grid.rows - 1], dim=-1
    )
    return torch.nn.functional.grid_sample(
        z[None, None],
        sampling[None].to(z),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )[0, 0]


def hidden_cells(z: Tensor, grid: Grid, model: RefractiveProjectionModel) -> Tensor:
    """Cells whose way to the camera is blocked by the surface itself.

    Args:
        z: Height map without gaps, shape (rows, columns), metres.
        grid: Of ``z``.
        model: Of the camera.

    Returns:
        shape (rows, columns), bool.
    """
    x, y = grid.axes(z)
    clearance = _CLEARANCE_CELLS * grid.spacing
    points = torch.stack(
        [x.expand(grid.shape), y[:, None].expand(grid.shape), z], dim=-1
    ).contiguous()
    pixels, visible = model.project(points)
    _, direction = model.cast_ray(torch.nan_to_num(pixels))
    lean = -direction[..., :2] / direction[..., 2:]  # horizontal motion per metre of rise
    top = float(z.min())
    if has_kernels(z):
        from .ray_kernels import hide

        hidden = torch.empty(grid.shape, dtype=torch.bool)
        hide(
            *(x.contiguous().numpy() for x in (z, _highest(z), lean)),
            *(np.float32(value) for value in (grid.spacing, top, clearance)),
            hidden.numpy(),
        )
        return hidden & visible
    reach = float(z.max()) - top
    steepest = float(torch.nan_to_num(lean).norm(dim=-1).max())
    steps = math.ceil(reach * max(steepest, 1e-3) / grid.spacing)
    hidden = torch.zeros(grid.shape, dtype=torch.bool, device=z.device)
    for step in range(1, steps + 1):
        # The same horizontal distance for every cell, so that no cell on the way is skipped.
        rise = step * grid.spacing / lean.norm(dim=-1).clamp(min=1e-3)
        ray_z = z - rise
        above = surface_at(
            z,
            grid,
            points[..., 0] + lean[..., 0] * rise,
            points[..., 1] + lean[..., 1] * rise,
        )
        hidden |= (above < ray_z - clearance) & (ray_z >= top)
    return hidden & visible


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
        known = z[self._known]
        self._empty = len(known) == 0
        self._top, self._bottom = (0.0, 0.0) if self._empty else map(float, known.aminmax())
        # Something stands in a gap, and may hide what is behind: a ray ends at the bridge over it.
        self._solid = z if self._empty else fill_gaps(z).contiguous()
        self._highest: Tensor | None = None

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
        hits = self._compiled_hits if has_kernels(self._z) else self._hits
        depth, cell = hits(origin, direction)
        known = (cell >= 0) & self._known.flatten()[cell.clamp(min=0)]
        depth, cell = torch.where(known, depth, torch.nan), torch.where(known, cell, -1)
        return depth.reshape(shape), cell.reshape(shape)

    def _compiled_hits(self, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        from .ray_kernels import meet

        if self._highest is None:
            self._highest = _highest(self._solid)
        depth = origin.new_empty(len(origin))
        cell = torch.empty(len(origin), dtype=torch.int64)
        grid = self._grid
        numbers = (grid.x0, grid.y0, grid.spacing, self._top, self._bottom)
        meet(
            *(self._solid.numpy(), self._highest.numpy()),
            *(np.float32(value) for value in numbers),
            *(x.contiguous().numpy() for x in (origin, direction, depth, cell)),
        )
        return depth, cell

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
