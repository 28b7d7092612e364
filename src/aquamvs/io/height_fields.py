"""What a height map's values are called in other programs, and in which units they stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..types import HeightMap

WORLD_FRAME = (
    "AquaCal world: origin at the reference camera, X and Y horizontal, Z down into the water"
)
AXES = {
    "y": {"units": "m", "long_name": "world y"},
    "x": {"units": "m", "long_name": "world x"},
}
"""Attributes of the coordinates: the cells' centres."""
COLOR = {"units": "1", "long_name": "orthophoto, 0 to 255"}
"""Attributes of the colours, shape (rows, columns, 3), RGB."""


@dataclass(frozen=True, slots=True)
class HeightField:
    """One map of a height map.

    Attributes:
        name: Of the attribute of :class:`~aquamvs.types.HeightMap`, and of the variable written.
        dtype: As it is written.
        attributes: Units and meaning, by the CF conventions.
    """

    name: str
    dtype: type[np.generic]
    attributes: dict[str, str]

    def values(self, height_map: HeightMap) -> NDArray[Any]:
        """Its values, shape (rows, columns)."""
        values: Tensor = getattr(height_map, self.name)
        return values.cpu().numpy().astype(self.dtype, copy=False)


HEIGHT_FIELDS = (
    HeightField(
        "z",
        np.float32,
        {"units": "m", "long_name": "depth of the surface (world Z)", "positive": "down"},
    ),
    HeightField("sigma", np.float32, {"units": "m", "long_name": "1-sigma uncertainty of z"}),
    HeightField("confidence", np.float32, {"units": "1", "long_name": "confidence of z, 0 to 1"}),
    HeightField("view_count", np.int32, {"units": "1", "long_name": "views that support the cell"}),
)


def cell_centres(start: float, spacing: float, count: int) -> NDArray[np.float64]:
    """World X or Y of cells, shape (count,), metres."""
    return start + spacing * np.arange(count, dtype=np.float64)
