"""Occlusion and first hits on height fields, against brute force."""

import torch

from aquamvs.pixels import pixel_grid
from aquamvs.projection import RefractiveProjectionModel
from aquamvs.surface.grid import Grid
from aquamvs.surface.visibility import SurfaceRays, hidden_cells, surface_at

F64 = torch.float64
MODEL = RefractiveProjectionModel(
    torch.tensor([[300.0, 0, 99.5], [0, 300.0, 74.5], [0, 0, 1]], dtype=F64),
    torch.eye(3, dtype=F64),
    torch.zeros(3, dtype=F64),
    1.0,
    torch.tensor([0.0, 0, -1], dtype=F64),
    1.0,
    1.333,
)
GRID = Grid(-0.4, -0.3, 0.004, 151, 201)


def block() -> torch.Tensor:
    """A bed at 1.4 m with a block 10 cm high, off the axis."""
    x, y = GRID.axes(torch.zeros((), dtype=F64))
    inside = ((x[None] - 0.2).abs() < 0.05) & (y[:, None].abs() < 0.05)
    return torch.where(inside, 1.3, 1.4).to(F64)


def test_only_cells_behind_the_block_are_hidden() -> None:
    (hidden,) = hidden_cells(block(), GRID, [MODEL])
    x, y = GRID.axes(torch.zeros((), dtype=F64))
    column = int((0.258 - GRID.x0) / GRID.spacing)  # just behind the block, seen from the axis
    row = int((0.0 - GRID.y0) / GRID.spacing)
    assert hidden[row, column]
    assert not hidden[:, x < 0.14].any()  # in front of it
    assert not hidden[y.abs() > 0.09].any()  # beside it
    shadow = x[hidden.any(0)]
    # The ray over the far upper edge (0.25, 1.3) fixes the shadow's end.
    pixel, _ = MODEL.project(torch.tensor([[0.25, 0.0, 1.3]], dtype=F64))
    origin, direction = MODEL.cast_ray(pixel)
    end = float(origin[0, 0] + direction[0, 0] / direction[0, 2] * (1.4 - origin[0, 2]))
    assert abs(float(shadow.max()) - end) < 2 * GRID.spacing


def test_first_hits_agree_with_dense_marching() -> None:
    z = block()
    pixels = pixel_grid((200, 150), dtype=F64)[::7, ::7]
    depth, _ = SurfaceRays(z, GRID).meet(*MODEL.cast_ray(pixels))
    origin, direction = MODEL.cast_ray(pixels)
    steps = torch.linspace(0.25, 0.5, 4001, dtype=F64)
    first = torch.full_like(depth, torch.nan)
    for step in steps.flip(0):
        at = origin + step * direction
        below = at[..., 2] >= surface_at(z, GRID, at[..., 0], at[..., 1])
        first = torch.where(below, step, first)
    both = torch.isfinite(depth) & torch.isfinite(first)
    assert both.double().mean() > 0.8  # the rest looks past the map
    error = (depth - first).abs()[both]
    assert error.quantile(0.98) < 2e-4


def test_rays_that_meet_nothing_known_are_nan() -> None:
    z = block()
    z[:, 120:] = torch.nan
    points = MODEL.cast_ray(pixel_grid((200, 150), dtype=F64))
    depth, cell = SurfaceRays(z, GRID).meet(*points)
    assert torch.equal(cell >= 0, torch.isfinite(depth))
    at = points[0] + depth[..., None] * points[1]
    edge = GRID.x0 + 119.5 * GRID.spacing
    assert torch.isfinite(depth).any()
    assert (at[..., 0][torch.isfinite(depth)] <= edge + 1e-9).all()
    nothing, _ = SurfaceRays(torch.full_like(z, torch.nan), GRID).meet(*points)
    assert torch.isnan(nothing).all()


def test_what_stands_in_a_gap_hides_the_bed_behind_it() -> None:
    """The middle of the block's top is unknown; its rim is not."""
    z = block()
    x, y = GRID.axes(torch.zeros((), dtype=F64))
    gap = ((x[None] - 0.2).abs() < 0.03) & (y[:, None].abs() < 0.03)
    rays = MODEL.cast_ray(pixel_grid((200, 150), dtype=F64))
    _, cell = SurfaceRays(z, GRID).meet(*rays)
    into_gap = (cell >= 0) & gap.flatten()[cell.clamp(min=0)]
    assert into_gap.sum() > 20
    z[gap] = torch.nan
    depth, _ = SurfaceRays(z, GRID).meet(*rays)
    assert torch.isnan(depth[into_gap]).double().mean() > 0.9
