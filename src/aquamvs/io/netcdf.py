"""Height maps as NetCDF files (classic format, CF conventions), which GIS and xarray read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..types import HeightMap
from .atomic import atomic_path
from .height_fields import AXES, COLOR, HEIGHT_FIELDS, WORLD_FRAME, cell_centres
from .images import color_levels


def save_netcdf(path: str | Path, height_map: HeightMap) -> None:
    """Write a height map as NetCDF.

    Args:
        path: File to write, ending in .nc.
        height_map: Becomes the variables ``z``, ``sigma``, ``confidence``, ``view_count`` and
            ``color`` over the coordinates ``y`` and ``x``, the cells' centres in metres of the
            world frame; unknown cells are NaN.

    Raises:
        DataError: The path does not end in .nc or cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from aquamvs.io import save_netcdf
        >>> save_netcdf("height.nc", made.height_map)
        >>> Path("height.nc").stat().st_size > 0
        True
    """
    from scipy.io import netcdf_file  # slow to import

    path = Path(path)
    if path.suffix.lower() != ".nc":
        raise DataError(f"cannot write NetCDF to {path}; expected a name that ends in .nc")
    rows, columns = height_map.z.shape
    with atomic_path(path) as temporary, netcdf_file(temporary, "w", version=2) as file:
        file.Conventions = "CF-1.11"
        file.title = "AquaMVS height map"
        file.comment = WORLD_FRAME
        for name, count, start in (
            ("y", rows, height_map.y0),
            ("x", columns, height_map.x0),
        ):
            file.createDimension(name, count)
            values = cell_centres(start, height_map.spacing, count)
            _add(file, name, values, "f8", (name,), AXES[name])
        file.createDimension("rgb", 3)
        for field in HEIGHT_FIELDS:
            kind = np.dtype(field.dtype).str[1:]
            _add(file, field.name, field.values(height_map), kind, ("y", "x"), field.attributes)
        _add(file, "color", color_levels(height_map.color), "i2", ("y", "x", "rgb"), COLOR)


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
