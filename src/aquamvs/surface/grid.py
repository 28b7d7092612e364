"""The horizontal grid of a height map: where it lies, how fine it is, and coarser grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError
from ..pixels import pixel_grid
from ..projection import RefractiveProjectionModel
from ..types import View

_BORDER_SAMPLES = 24
"""Pixels cast along each side of an image to find what it covers."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Cells of a horizontal grid; the centre of cell (i, j) is (x0 + j·spacing, y0 + i·spacing).

    Attributes:
        x0: X of the first column's centre, metres.
        y0: Y of the first row's centre, metres.
        spacing: Cell size, metres.
        rows: Cells along Y.
        columns: Cells along X.
    """

    x0: float
    y0: float
    spacing: float
    rows: int
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.rows, self.columns

    def coarser(self, factor: int) -> Grid:
        """The grid whose cells hold ``factor`` x ``factor`` of these; it covers at least these."""
        shift = (factor - 1) / 2 * self.spacing
        return Grid(
            self.x0 + shift,
            self.y0 + shift,
            self.spacing * factor,
            -(-self.rows // factor),
            -(-self.columns // factor),
        )

    def axes(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """X of every column and Y of every row, computed in float64, given in ``like``'s dtype."""
        x = self.x0 + self.spacing * torch.arange(self.columns, dtype=torch.float64)
        y = self.y0 + self.spacing * torch.arange(self.rows, dtype=torch.float64)
        return x.to(like), y.to(like)


def footprint(
    views: Sequence[View], height_range: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Rectangle that holds everything any two views can see within a range of heights.

    Args:
        views: At least two.
        height_range: World Z, metres.

    Returns:
        x_min, y_min, x_max, y_max in the world frame, metres.

    Raises:
        ConfigError: No two views share a part of the scene.
    """
    boxes = []
    for view in views:
        corners = _border(view)
        points = [points_at_height(view.model, corners, z) for z in height_range]
        seen = torch.cat(points)
        seen = seen[torch.isfinite(seen).all(-1), :2]
        if len(seen):
            boxes.append(torch.cat([seen.amin(0), seen.amax(0)]))
    if len(boxes) < 2:
        raise ConfigError("fewer than two cameras look at the water; check the calibration")
    table = torch.stack(boxes)
    # The second-smallest lower bound and second-largest upper bound: where two can overlap.
    low = table[:, :2].sort(dim=0).values[1]
    high = table[:, 2:].sort(dim=0, descending=True).values[1]
    if not bool((low < high).all()):
        raise ConfigError(
            "no two cameras see a common part of the scene within the height range "
            f"{height_range}; check calibration and reconstruction.height_range"
        )
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _border(view: View) -> Tensor:
    width, height = view.size
    u = torch.linspace(0, width - 1, _BORDER_SAMPLES, dtype=torch.float64)
    v = torch.linspace(0, height - 1, _BORDER_SAMPLES, dtype=torch.float64)
    sides = [
        torch.stack([u, torch.zeros_like(u)], -1),
        torch.stack([u, torch.full_like(u, height - 1)], -1),
        torch.stack([torch.zeros_like(v), v], -1),
        torch.stack([torch.full_like(v, width - 1), v], -1),
    ]
    return torch.cat(sides).to(view.model.camera_center)


def points_at_height(model: RefractiveProjectionModel, pixels: Tensor, z: float) -> Tensor:
    """Where rays of pixels reach the world height ``z``, shape (N, 3); NaN where they do not."""
    origin, direction = model.cast_ray(pixels)
    distance = (z - origin[:, 2]) / direction[:, 2]
    reached = (direction[:, 2] > 0) & ((distance >= 0) | (not model.is_refractive))
    return torch.where(reached[:, None], origin + distance[:, None] * direction, torch.nan)


def median_gsd(views: Sequence[View], z: float) -> float:
    """Median over views of the ground sampling distance at the world height ``z``, metres.

    The GSD of a view is the square root of the area of a pixel on the horizontal plane, taken as
    the median over the image.
    """
    samples = []
    for view in views:
        pixels = pixel_grid((9, 7), dtype=torch.float64, device=view.image.device)
        scale = pixels.new_tensor([(view.size[0] - 2) / 8, (view.size[1] - 2) / 6])
        pixels = (pixels * scale).reshape(-1, 2)
        here = points_at_height(view.model, pixels, z)
        right = points_at_height(view.model, pixels + pixels.new_tensor([1.0, 0.0]), z) - here
        down = points_at_height(view.model, pixels + pixels.new_tensor([0.0, 1.0]), z) - here
        area = (right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0]).abs()
        area = area[torch.isfinite(area)]
        if len(area):
            samples.append(area.sqrt().median())
    if not samples:
        raise ConfigError(f"no camera sees the height z = {z:.3f} m; check the height range")
    return float(torch.stack(samples).median())


def grid_over(box: tuple[float, float, float, float], spacing: float) -> Grid:
    """The grid of a spacing that covers a rectangle (x_min, y_min, x_max, y_max)."""
    x_min, y_min, x_max, y_max = box
    return Grid(
        x_min + spacing / 2,
        y_min + spacing / 2,
        spacing,
        max(1, round((y_max - y_min) / spacing)),
        max(1, round((x_max - x_min) / spacing)),
    )
