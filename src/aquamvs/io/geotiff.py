"""Height maps as GeoTIFF, which every GIS opens in its place (extra ``export``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import ConfigError, DataError
from ..types import HeightMap
from .atomic import atomic_path
from .height_fields import HEIGHT_FIELDS, WORLD_FRAME

_FRAME_WKT = (
    'LOCAL_CS["AquaCal world",LOCAL_DATUM["reference camera",0],UNIT["metre",1],'
    'AXIS["X",OTHER],AXIS["Y",OTHER]]'
)


def save_geotiff(path: str | Path, height_map: HeightMap) -> None:
    """Write a height map as GeoTIFF.

    Args:
        path: File to write, ending in .tif or .tiff.
        height_map: Its ``z``, ``sigma``, ``confidence`` and ``view_count`` become the bands 1 to 4,
            float32, NaN where unknown, with descriptions and units. The coordinates are metres of
            the world frame (a local one, nowhere on the globe): Y grows down the rows.

    Raises:
        ConfigError: rasterio is not installed.
        DataError: The path has another ending or cannot be written.

    Example:
        >>> import rasterio
        >>> from aquamvs.io import save_geotiff
        >>> save_geotiff("height.tif", made.height_map)
        >>> with rasterio.open("height.tif") as file:
        ...     file.descriptions[0], file.units[0]
        ('z', 'm')
    """
    path = Path(path)
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise DataError(f"cannot write GeoTIFF to {path}; expected a name that ends in .tif")
    try:
        import rasterio
        from rasterio.errors import RasterioError
        from rasterio.transform import from_origin
    except ImportError:
        raise ConfigError(
            'GeoTIFF needs rasterio; install the extra: pip install "aquamvs[export]"'
        ) from None
    rows, columns = height_map.z.shape
    spacing = height_map.spacing
    corner = (height_map.x0 - spacing / 2, height_map.y0 - spacing / 2)
    place = from_origin(*corner, spacing, -spacing)  # Y grows down the rows
    unknown = ~np.isfinite(height_map.z.cpu().numpy())
    with atomic_path(path) as temporary:
        try:
            with rasterio.open(
                temporary,
                "w",
                driver="GTiff",
                width=columns,
                height=rows,
                count=len(HEIGHT_FIELDS),
                dtype="float32",
                nodata=float("nan"),
                crs=rasterio.CRS.from_wkt(_FRAME_WKT),
                transform=place,
                compress="deflate",
                interleave="band",
            ) as file:
                file.update_tags(TIFFTAG_IMAGEDESCRIPTION=f"AquaMVS height map; {WORLD_FRAME}")
                for band, field in enumerate(HEIGHT_FIELDS, start=1):
                    values = field.values(height_map).astype(np.float32)
                    file.write(np.where(unknown, np.float32(np.nan), values), band)
                    file.set_band_description(band, field.name)
                    file.set_band_unit(band, field.attributes["units"])
                    file.update_tags(band, **field.attributes)
        except RasterioError as error:
            raise DataError(f"cannot write {path}: {error}") from None
