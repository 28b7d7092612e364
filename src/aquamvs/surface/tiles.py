"""Tiles of a grid: what bounds memory, and which views each needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..numerics.pyramid import LevelView, last_pixels
from ..projection import ProjectionRig
from .grid import Grid

_PROBES = 9
"""Points along each side of a tile that are projected to find the views that may see it."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of cells.

    Attributes:
        row: First row.
        column: First column.
        rows: Number of rows.
        columns: Number of columns.
    """

    row: int
    column: int
    rows: int
    columns: int

    @property
    def cells(self) -> tuple[slice, slice]:
        """Index of the tile's cells in a map of the grid."""
        return (
            slice(self.row, self.row + self.rows),
            slice(self.column, self.column + self.columns),
        )

    def cells_with_margin(self, margin: int) -> tuple[slice, slice]:
        """Index of the tile and a margin around it in a map padded by that margin."""
        return (
            slice(self.row, self.row + self.rows + 2 * margin),
            slice(self.column, self.column + self.columns + 2 * margin),
        )

    def around(self, chosen: Tensor) -> Tile:
        """The least part of it that holds all of its chosen cells (at least one).

        Args:
            chosen: Cells of the grid, shape (rows, columns), bool.
        """
        inside = chosen[self.cells]
        rows, columns = (inside.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
        return Tile(
            self.row + rows[0],
            self.column + columns[0],
            rows[-1] - rows[0] + 1,
            columns[-1] - columns[0] + 1,
        )


def split(grid: Grid, side: int) -> Iterator[Tile]:
    """Tiles of at most ``side`` x ``side`` cells that cover a grid, in row-major order."""
    for row in range(0, grid.rows, side):
        for column in range(0, grid.columns, side):
            yield Tile(row, column, min(side, grid.rows - row), min(side, grid.columns - column))


def crowded(chosen: Tensor, grid: Grid, side: int, least_share: float) -> Tensor:
    """Chosen cells, shape (rows, columns), bool, of the tiles of which this share is chosen."""
    kept = torch.zeros_like(chosen)
    for tile in split(grid, side):
        inside = chosen[tile.cells]
        if float(inside.double().mean()) >= least_share:
            kept[tile.cells] = inside
    return kept


def tile_points(grid: Grid, tile: Tile, z: Tensor, margin: int) -> Tensor:
    """World points of a tile and its margin, shape (rows + 2m, columns + 2m, 3).

    Args:
        grid: Of the map.
        tile: Which part.
        z: Heights of the tile and its margin, shape (rows + 2m, columns + 2m).
        margin: Cells around the tile.
    """
    column = torch.arange(tile.column - margin, tile.column + tile.columns + margin)
    row = torch.arange(tile.row - margin, tile.row + tile.rows + margin)
    x = (grid.x0 + grid.spacing * column.double()).to(z)
    y = (grid.y0 + grid.spacing * row.double()).to(z)
    return torch.stack([x.expand(z.shape), y[:, None].expand(z.shape), z], dim=-1)


def views_of(views: Sequence[LevelView], cameras: ProjectionRig, points: Tensor) -> list[int]:
    """Views whose image may contain any of a tile's points (a superset, quickly found).

    Args:
        views: All views of a level.
        cameras: Theirs.
        points: One surface or a stack of them over the same cells, shape (..., H, W, 3).
    """
    rows = torch.linspace(0, points.shape[-3] - 1, _PROBES).round().long().to(points.device)
    columns = torch.linspace(0, points.shape[-2] - 1, _PROBES).round().long().to(points.device)
    plan = points.reshape(-1, *points.shape[-3:])[0][rows][:, columns, :2]
    heights = (points[..., 2].min(), points[..., 2].max())
    probes = torch.cat([torch.cat([plan, z.expand(*plan.shape[:2], 1)], dim=-1) for z in heights])
    pixels, _, valid = cameras.project_along(probes.reshape(-1, 3), probes.new_tensor([0, 0, 1]))
    low = torch.where(valid[..., None], pixels, torch.inf).amin(1)
    high = torch.where(valid[..., None], pixels, -torch.inf).amax(1)
    # One probe distance of slack: between probes the outline may bulge.
    slack = (high - low) / (_PROBES - 1)
    reached = (high + slack >= 0) & (low - slack <= last_pixels(views, pixels))
    return reached.all(-1).nonzero().flatten().tolist()
