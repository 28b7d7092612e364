"""Which cameras see which cells of a height field, and what depth each camera sees.

Both follow refracted rays above a height map. Rays are straight under water, so a cell is hidden
from a camera if the surface rises above the segment between the cell and the point at which its ray
leaves the water.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..projection import RefractiveProjectionModel
from .grid import Grid

_CLEARANCE_CELLS = 1.0
"""The surface must rise this many cells above a ray to block it: the height of a cell on a steep
slope is itself uncertain by about as much."""


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
    points = torch.stack(
        [x.expand(grid.shape), y[:, None].expand(grid.shape), z], dim=-1
    ).contiguous()
    pixels, visible = model.project(points)
    _, direction = model.cast_ray(torch.nan_to_num(pixels))
    lean = -direction[..., :2] / direction[..., 2:]  # horizontal motion per metre of rise
    top = float(z.min())
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
        hidden |= (above < ray_z - _CLEARANCE_CELLS * grid.spacing) & (ray_z >= top)
    return hidden & visible


def ray_depth_of_surface(
    z: Tensor, grid: Grid, model: RefractiveProjectionModel, pixels: Tensor
) -> Tensor:
    """Ray depth at which pixels see a height field: the first meeting from above.

    Args:
        z: Height map, shape (rows, columns), metres; NaN where unknown.
        grid: Of ``z``.
        model: Of the camera.
        pixels: shape (h, w, 2).

    Returns:
        Metres along the refracted ray, shape (h, w), dtype of ``z``; NaN where the ray meets an
        unknown cell or leaves the map.
    """
    known = torch.isfinite(z)
    if not bool(known.any()):
        return torch.full(pixels.shape[:2], torch.nan, dtype=z.dtype, device=z.device)
    top, bottom = float(z[known].min()), float(z[known].max())
    solid = torch.where(known, z, bottom + 1.0)  # a ray passes over what is not known
    origin, direction = (value.to(z) for value in model.cast_ray(pixels))
    down = direction[..., 2].clamp(min=1e-6)
    start = ((top - grid.spacing - origin[..., 2]) / down).clamp(min=0)
    end = (bottom + grid.spacing - origin[..., 2]) / down
    lean = (direction[..., :2].norm(dim=-1) / down).nan_to_num()
    steps = max(2, math.ceil(float((bottom - top) * lean.max()) / grid.spacing) + 2)

    def clearance(depth: Tensor) -> Tensor:
        at = origin + depth[..., None] * direction
        return surface_at(solid, grid, at[..., 0], at[..., 1]) - at[..., 2]

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
    for _ in range(12):
        middle = (low + high) / 2
        over = clearance(middle) > 0
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    depth = (low + high) / 2
    at = origin + depth[..., None] * direction
    column = ((at[..., 0] - grid.x0) / grid.spacing).round()
    row = ((at[..., 1] - grid.y0) / grid.spacing).round()
    inside = met & (column >= 0) & (row >= 0) & (column < grid.columns) & (row < grid.rows)
    safe_row, safe_column = (torch.where(inside, index, 0.0).long() for index in (row, column))
    return torch.where(inside & known[safe_row, safe_column], depth, torch.nan)
