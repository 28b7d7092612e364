"""Height maps as NetCDF files (classic format, CF conventions), which GIS and xarray read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..types import HeightMap
from .atomic import atomic_path

_VARIABLES: dict[str, tuple[str, dict[str, str]]] = {
    "z": ("f4", {"units": "m", "long_name": "depth of the surface (world Z)", "positive": "down"}),
    "sigma": ("f4", {"units": "m", "long_name": "1-sigma uncertainty of z"}),
    "confidence": ("f4", {"units": "1", "long_name": "confidence of z, 0 to 1"}),
    "view_count": ("i4", {"units": "1", "long_name": "views that support the cell"}),
}
_FRAME = "AquaCal world: origin at the reference camera, X and Y horizontal, Z down into the water"


def save_netcdf(path: str | Path, height_map: HeightMap) -> None:
    """Write a height map as NetCDF.

    Args:
        path: File to write, ending in .nc.
        height_map: Becomes the variables ``z``, ``sigma``, ``confidence``, ``view_count`` and
            ``color`` over the coordinates ``y`` and ``x``, the cells' centres in metres of the
            world frame; unknown cells are NaN.

    Raises:
        DataError: The path does not end in .nc or cannot be written.
    """
    from scipy.io import netcdf_file  # slow to import

    path = Path(path)
    if path.suffix.lower() != ".nc":
        raise DataError(f"cannot write NetCDF to {path}; expected a name that ends in .nc")
    rows, columns = height_map.z.shape
    with atomic_path(path) as temporary, netcdf_file(temporary, "w", version=2) as file:
        file.Conventions = "CF-1.11"
        file.title = "AquaMVS height map"
        file.comment = _FRAME
        for name, count, start in (
            ("y", rows, height_map.y0),
            ("x", columns, height_map.x0),
        ):
            file.createDimension(name, count)
            values = start + height_map.spacing * np.arange(count)
            _add(file, name, values, "f8", (name,), {"units": "m", "long_name": f"world {name}"})
        file.createDimension("rgb", 3)
        for name, (kind, attributes) in _VARIABLES.items():
            values = getattr(height_map, name).cpu().numpy()
            _add(file, name, values, kind, ("y", "x"), attributes)
        color = (height_map.color.nan_to_num(0.0).clamp(0, 1) * 255).round().cpu().numpy()
        attributes = {"units": "1", "long_name": "orthophoto, 0 to 255"}
        _add(file, "color", color, "i2", ("y", "x", "rgb"), attributes)


def _add(
    file: Any,
    name: str,
    values: Any,
    kind: str,
    dimensions: tuple[str, ...],
    attributes: dict[str, str],
) -> None:
    variable = file.createVariable(name, kind, dimensions)
    variable[:] = values
    if kind == "f4":
        variable._FillValue = np.float32(np.nan)
    for key, text in attributes.items():
        setattr(variable, key, text)
