"""Height maps in other programs' formats, read back by readers that are not ours."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from aquamvs.errors import ConfigError, DataError
from aquamvs.io import save_geotiff, save_height_map, save_height_series
from aquamvs.types import HeightMap

SPACING = 0.01
_METRE = 9001  # EPSG's code of the unit


def heights(
    x0: float = 0.5, y0: float = -0.25, shape: tuple[int, int] = (3, 4), rise: float = 0.0
) -> HeightMap:
    """A slope of which one cell is unknown."""
    x, y = x0 + SPACING * torch.arange(shape[1]), y0 + SPACING * torch.arange(shape[0])[:, None]
    z = (1.0 + x + 2 * y - rise).float()
    z[1, 2] = torch.nan
    color = torch.full((*shape, 3), 0.2)
    return HeightMap(
        *(x0, y0, SPACING, z, 0.001 * z, torch.where(z.isnan(), 0.0, 0.5)),
        torch.where(z.isnan(), 0, 5).int(),
        color,
    )


def test_a_geotiff_lies_where_the_height_map_does(tmp_path: Path) -> None:
    import rasterio

    found = heights()
    for name in ("a.tif", "b.tiff"):
        save_geotiff(tmp_path / name, found)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tiff").read_bytes()
    with rasterio.open(tmp_path / "a.tif") as file:
        assert file.descriptions == ("z", "sigma", "confidence", "view_count")
        assert file.units == ("m", "m", "1", "1")
        assert 'LOCAL_CS["AquaCal world",UNIT["metre",1' in file.crs.to_wkt()
        assert np.isnan(file.nodata)
        for row, column in ((0, 0), (2, 3)):
            centre = (0.5 + SPACING * column, -0.25 + SPACING * row)
            np.testing.assert_allclose(file.xy(row, column), centre, atol=1e-12)
        np.testing.assert_array_equal(file.read(1), found.z.numpy())
        np.testing.assert_array_equal(file.read(2), found.sigma.numpy())
        assert np.isnan(file.read(4)[1, 2])
        assert file.read(4)[0, 0] == 5


def test_the_tags_of_a_geotiff_say_the_same_to_a_reader_of_plain_tiff(tmp_path: Path) -> None:
    import tifffile

    found = heights()
    save_geotiff(tmp_path / "a.tif", found)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        bands, georeference = file.asarray(), file.geotiff_metadata
    assert georeference["ProjLinearUnitsGeoKey"] == _METRE
    place = np.array(georeference["ModelTransformation"])
    np.testing.assert_array_equal(bands[0], found.z.numpy())
    # A raster's corner lies half a cell before the first cell's centre.
    corner = place @ [0.5, 0.5, 0, 1]
    np.testing.assert_allclose(corner[:2], [found.x0, found.y0], atol=1e-12)
    np.testing.assert_allclose(place[[0, 1], [0, 1]], SPACING)


def test_a_series_is_one_dataset_with_units(tmp_path: Path) -> None:
    import xarray

    maps = [heights(), heights(rise=0.02)]
    files = []
    for number, found in zip((3, 7), maps, strict=True):
        files.append(tmp_path / f"frame_{number:06d}" / "surface" / "height_map.npz")
        save_height_map(files[-1], found)
    save_height_series(tmp_path / "heights.zarr", files, interval=2.0)
    with xarray.open_zarr(tmp_path / "heights.zarr", consolidated=False) as series:
        assert dict(series.sizes) == {"frame": 2, "y": 3, "x": 4, "rgb": 3}
        assert series.frame.to_numpy().tolist() == [3, 7]
        assert series.time.to_numpy().tolist() == [6.0, 14.0]
        assert series.time.attrs["units"] == "s"
        assert {series[name].attrs["units"] for name in ("x", "y", "z", "sigma")} == {"m"}
        assert series.z.attrs["positive"] == "down"
        np.testing.assert_allclose(series.x, [0.5, 0.51, 0.52, 0.53])
        np.testing.assert_allclose(series.y, [-0.25, -0.24, -0.23])
        for number, found in enumerate(maps):
            np.testing.assert_array_equal(series.z[number], found.z.numpy())
            np.testing.assert_array_equal(series.sigma[number], found.sigma.numpy())
            np.testing.assert_array_equal(series.view_count[number], found.view_count.numpy())
            assert (series.color[number] == 51).all()


def test_a_map_on_other_cells_is_brought_to_the_first_ones(tmp_path: Path) -> None:
    import xarray

    first, second = heights(), heights(0.463, -0.262, (6, 9))
    for name, found in (("a.npz", first), ("b.npz", second)):
        save_height_map(tmp_path / name, found)
    save_height_series(tmp_path / "heights.zarr", [tmp_path / "a.npz", tmp_path / "b.npz"])
    with xarray.open_zarr(tmp_path / "heights.zarr", consolidated=False) as series:
        assert "time" not in series
        assert series.x.min() <= second.x0
        assert series.x.max() >= second.x0 + 8 * SPACING
        assert series.y.min() <= second.y0
        offset = [
            int(np.argmin(abs(axis.to_numpy() - at)))
            for axis, at in ((series.x, first.x0), (series.y, first.y0))
        ]
        inner = series.z[0].to_numpy()[offset[1] : offset[1] + 3, offset[0] : offset[0] + 4]
        np.testing.assert_array_equal(inner, first.z.numpy())
        # A slope stays the same slope under bilinear interpolation.
        x, y = np.meshgrid(series.x, series.y)
        z = series.z[1].to_numpy()
        known = np.isfinite(z)
        assert known.sum() >= 20
        np.testing.assert_allclose(z[known], (1 + x + 2 * y)[known], atol=1e-6)
        assert (series.confidence.to_numpy()[1][~known] == 0).all()


def test_maps_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    for name, found in (("a.npz", heights()), ("b.npz", heights(1e6))):
        save_height_map(tmp_path / name, found)
    with pytest.raises(DataError, match="belong together"):
        save_height_series(tmp_path / "h.zarr", [tmp_path / "a.npz", tmp_path / "b.npz"])
    assert not (tmp_path / "h.zarr").exists()


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    save_height_map(tmp_path / "a.npz", heights())
    with pytest.raises(DataError, match=r"ends in \.tif"):
        save_geotiff(tmp_path / "a.nc", heights())
    with pytest.raises(DataError, match=r"ends in \.zarr"):
        save_height_series(tmp_path / "a.nc", [tmp_path / "a.npz"])
    with pytest.raises(DataError, match="no height map"):
        save_height_series(tmp_path / "a.zarr", [])
    with pytest.raises(ConfigError, match="interval is 0"):
        save_height_series(tmp_path / "a.zarr", [tmp_path / "a.npz"], interval=0)
    (tmp_path / "full.zarr").mkdir()
    (tmp_path / "full.zarr" / "precious").touch()
    with pytest.raises(DataError, match="not empty"):
        save_height_series(tmp_path / "full.zarr", [tmp_path / "a.npz"])
    assert (tmp_path / "full.zarr" / "precious").exists()


@pytest.mark.parametrize("package", ["rasterio", "xarray", "zarr"])
def test_a_missing_package_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    save_height_map(tmp_path / "a.npz", heights())
    monkeypatch.setitem(sys.modules, package, None)
    export = (
        partial(save_geotiff, tmp_path / "a.tif", heights())
        if package == "rasterio"
        else partial(save_height_series, tmp_path / "a.zarr", [tmp_path / "a.npz"])
    )
    with pytest.raises(ConfigError, match=r"install \"aquamvs\[export\]\""):
        export()
