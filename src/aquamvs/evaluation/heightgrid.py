"""A surface on a horizontal grid: the truth for height maps, clouds and meshes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, ShapeError
from ..types import HeightMap
from .arrays import FloatArray, as_float64
from .triangles import Triangles, grid_triangles

STEEP_DEG = 60.0
"""Slope from which a surface counts as a step: sand rests below 45 degrees, even under water."""

_GRID_TOLERANCE = 1e-6
"""Offset of two grids, in cells, that is rounding."""


@dataclass(frozen=True, slots=True)
class HeightGrid:
    """A true surface on a horizontal grid.

    The node (row i, column j) is at ``x = x0 + j * spacing``, ``y = y0 + i * spacing``; between
    nodes the surface is bilinear.

    Attributes:
        x0: X of the first column, metres.
        y0: Y of the first row, metres.
        spacing: Distance of nodes, metres.
        z: World Z (down), shape (rows, columns), metres; NaN where unknown.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import HeightGrid
        >>> ramp = HeightGrid(0.0, 0.0, 0.1, torch.tensor([[1.0, 1.1], [1.0, 1.1]]))
        >>> ramp.at(torch.tensor([0.05]), torch.tensor([0.02])).round(3).tolist()
        [1.05]
    """

    x0: float
    y0: float
    spacing: float
    z: Tensor

    def __post_init__(self) -> None:
        if self.z.ndim != 2:
            raise ShapeError("z", tuple(self.z.shape), "(rows, columns)")
        if not self.spacing > 0:
            raise DataError(f"spacing is {self.spacing} m; expected a positive length")

    @classmethod
    def of_height_map(cls, height_map: HeightMap) -> HeightGrid:
        """The surface of a height map."""
        return cls(height_map.x0, height_map.y0, height_map.spacing, height_map.z)

    def at(self, x: Tensor | NDArray[Any], y: Tensor | NDArray[Any]) -> FloatArray:
        """Bilinear height.

        Args:
            x: World X, any shape, metres.
            y: World Y, same shape.

        Returns:
            World Z, same shape, float64; NaN outside of the grid and where a node that it depends
            on is unknown.
        """
        return _bilinear(as_float64("z", self.z, (None, None)), *self._indices(x, y))

    def triangles(self) -> Triangles:
        """The surface as triangles, for distances of clouds and meshes."""
        z = as_float64("z", self.z, (None, None))
        rows, columns = z.shape
        x, y = np.meshgrid(
            self.x0 + self.spacing * np.arange(columns), self.y0 + self.spacing * np.arange(rows)
        )
        return grid_triangles(x, y, z)

    def distance_to_step(
        self, x: Tensor | NDArray[Any], y: Tensor | NDArray[Any], *, steep_deg: float = STEEP_DEG
    ) -> FloatArray:
        """Horizontal distance to the nearest step (wall, edge of a rock) of the surface.

        Args:
            x: World X, any shape, metres.
            y: World Y, same shape.
            steep_deg: Slope between neighbouring nodes from which the surface is a step, degrees.

        Returns:
            Same shape, metres, good to one ``spacing``; infinite where there is no step, NaN
            outside of the grid.
        """
        from scipy.ndimage import distance_transform_edt

        z = as_float64("z", self.z, (None, None))
        rise = self.spacing * math.tan(math.radians(steep_deg))
        flat = np.ones(z.shape, dtype=bool)
        for axis in (0, 1):
            steep = np.abs(np.diff(z, axis=axis)) > rise
            first, second = [slice(None)] * 2, [slice(None)] * 2
            first[axis], second[axis] = slice(None, -1), slice(1, None)
            flat[tuple(first)] &= ~steep
            flat[tuple(second)] &= ~steep
        distance = np.full(z.shape, np.inf)
        if not flat.all():
            distance = distance_transform_edt(flat, sampling=self.spacing)
        column, row = self._indices(x, y)
        rows, columns = z.shape
        inside = (column >= 0) & (column <= columns - 1) & (row >= 0) & (row <= rows - 1)
        j = np.rint(np.where(inside, column, 0)).astype(np.int64)
        i = np.rint(np.where(inside, row, 0)).astype(np.int64)
        return np.where(inside, distance[i, j], np.nan)

    def _indices(
        self, x: Tensor | NDArray[Any], y: Tensor | NDArray[Any]
    ) -> tuple[FloatArray, FloatArray]:
        """Fractional column and row of world positions."""
        shape = tuple(x.shape)
        column = (as_float64("x", x, shape) - self.x0) / self.spacing
        row = (as_float64("y", y, shape) - self.y0) / self.spacing
        return _snap(column), _snap(row)


def _snap(index: FloatArray) -> FloatArray:
    """Indices within rounding of a whole number, made whole: coincident grids copy exactly."""
    whole = np.rint(index)
    return np.where(np.abs(index - whole) < _GRID_TOLERANCE, whole, index)


def _bilinear(values: FloatArray, column: FloatArray, row: FloatArray) -> FloatArray:
    rows, columns = values.shape
    inside = (column >= 0) & (column <= columns - 1) & (row >= 0) & (row <= rows - 1)
    column, row = np.where(inside, column, 0), np.where(inside, row, 0)
    j, i = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    j1, i1 = np.minimum(j + 1, columns - 1), np.minimum(i + 1, rows - 1)
    fj, fi = column - j, row - i
    total = np.zeros(column.shape)
    for node_i, node_j, weight in (
        (i, j, (1 - fi) * (1 - fj)),
        (i, j1, (1 - fi) * fj),
        (i1, j, fi * (1 - fj)),
        (i1, j1, fi * fj),
    ):
        # A node without weight may be unknown: zero times NaN would spread it.
        total += np.where(weight > 0, weight * values[node_i, node_j], 0.0)
    return np.where(inside, total, np.nan)
