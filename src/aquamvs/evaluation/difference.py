"""What changed between two height maps: how far, where it is certain, and how much volume."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..io import save_arrays
from ..plain import plain
from ..types import HeightMap
from .arrays import BoolArray, FloatArray, as_bool, as_float64
from .heightgrid import HeightGrid
from .moved import distance_to, moved_cells, significance_of
from .statistics import NORMAL_MEDIAN

_MEDIAN_OVER_MEAN = math.sqrt(math.pi / 2)
"""Standard deviation of a median over that of the mean, for normal errors."""


@dataclass(frozen=True, slots=True)
class HeightDifference:
    """How a surface changed between two height maps, on the grid of the first.

    The standard deviations describe errors of the matching, taken from the maps' own sigma. An
    error that a whole map shares (water level, calibration) is in them only as far as ``stable``
    ground takes it out: without such ground it moves ``net_volume`` by its size times the area
    that moved. The choice of regions is in the uncertainty of volumes as the noise of a rim around
    each region, one correlation radius wide. What is not in it is a foot so flat and wide that it
    never stands out of the noise: it is missing from the volume (``benchmarks/change_volumes.py``
    prints actual over stated errors).

    Attributes:
        x0: X of the first column's centre, metres.
        y0: Y of the first row's centre, metres.
        spacing: Cell size, metres.
        rise: How far the surface came up (to smaller Z), shape (rows, columns), float64, metres;
            NaN where either map is unknown.
        sigma: 1-sigma uncertainty of ``rise``, same shape, metres.
        significance: ``rise / sigma``, same shape.
        moved: Where volumes are counted, same shape, int8: 1 rose, -1 sank, 0 neither.
        area: Horizontal area compared, square metres.
        area_up: Horizontal area that rose, square metres.
        area_down: Horizontal area that sank, square metres.
        volume_up: Volume gained where the surface rose, cubic metres.
        volume_down: Volume lost where it sank, cubic metres, positive.
        volume_up_sigma: 1-sigma uncertainty of ``volume_up``, cubic metres.
        volume_down_sigma: 1-sigma uncertainty of ``volume_down``, cubic metres.
        net_volume: ``volume_up - volume_down``, cubic metres.
        net_volume_sigma: 1-sigma uncertainty of ``net_volume``, cubic metres.
        offset: Rise of the stable ground, which was taken off, metres; 0 without such ground.
        offset_sigma: 1-sigma uncertainty of ``offset``, metres.
        stable_scatter: Median of the absolute ``significance`` on the stable ground over that of a
            standard normal: 1 where sigma is right, less where it is cautious. None without such
            ground.

    Example:
        >>> from aquamvs.evaluation import height_difference
        >>> change = height_difference(made.height_map, made.height_map, min_significance=2)
        >>> change.net_volume, change.area_up, change.as_dict()["volume_up"]
        (0.0, 0.0, 0.0)
    """

    x0: float
    y0: float
    spacing: float
    rise: Tensor
    sigma: Tensor
    significance: Tensor
    moved: Tensor
    area: float
    area_up: float
    area_down: float
    volume_up: float
    volume_down: float
    volume_up_sigma: float
    volume_down_sigma: float
    net_volume: float
    net_volume_sigma: float
    offset: float
    offset_sigma: float
    stable_scatter: float | None

    def as_dict(self) -> dict[str, Any]:
        """Everything but the maps, as plain Python for JSON."""
        maps = ("rise", "sigma", "significance", "moved")
        return {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.name not in maps}


def save_height_difference(path: str | Path, difference: HeightDifference) -> None:
    """Write the maps of a difference as npz.

    Args:
        path: File to write, ``.npz``.
        difference: Its ``rise``, ``sigma`` and ``significance`` are written in float32 and
            ``moved`` in int8, with ``x0``, ``y0`` and ``spacing`` in float64.

    Raises:
        DataError: The file cannot be written.

    Example:
        >>> import torch
        >>> import numpy as np
        >>> from aquamvs.evaluation import height_difference, save_height_difference
        >>> from aquamvs.types import HeightMap
        >>> z = torch.full((20, 20), 1.0)
        >>> sigma, sure = torch.full_like(z, 1e-4), torch.ones_like(z)
        >>> count, color = torch.full_like(z, 5).int(), torch.ones(20, 20, 3)
        >>> before = HeightMap(0.0, 0.0, 0.01, z, sigma, sure, count, color)
        >>> after = HeightMap(0.0, 0.0, 0.01, z - 0.002, sigma, sure, count, color)
        >>> save_height_difference("change.npz", height_difference(before, after))
        >>> np.load("change.npz")["rise"].shape
        (20, 20)
    """
    place = {key: np.float64(getattr(difference, key)) for key in ("x0", "y0", "spacing")}
    maps = {
        key: np.float32(getattr(difference, key).numpy())
        for key in ("rise", "sigma", "significance")
    }
    save_arrays(path, place | maps | {"moved": difference.moved.numpy()})


def height_difference(
    before: HeightMap,
    after: HeightMap,
    *,
    min_significance: float = 0.0,
    correlation_length: float | None = None,
    stable: Tensor | None = None,
) -> HeightDifference:
    """Change of a surface and the volumes that moved.

    The second map is interpolated at the first one's cells (exactly copied where the grids
    coincide), together with its sigma, which is not reduced for the averaging.

    Cells add their noise to ``volume_up`` and ``volume_down`` even where nothing moved, for each
    sums one sign only; ``min_significance`` (a level of detection: Wheaton et al., *Earth Surface
    Processes and Landforms* 35, 2010) counts only regions whose change is no noise, with the cells
    around them that went along (see :func:`~.moved.moved_cells`). Errors of neighbouring cells are
    correlated because matching windows overlap: cells within ``correlation_length`` of each other
    are taken to err alike (after Rolstad et al., *Journal of Glaciology* 55, 2009), and the
    uncertainty is never more than that of fully correlated errors.

    Args:
        before: First height map.
        after: Second height map.
        min_significance: How certain it must be that regions moved whose volumes count, sigmas;
            0 counts every cell.
        correlation_length: Radius of correlated errors, metres: five cells of a height map of the
            surface sweep, whose window and smoothing are that wide. Absent: cells err
            independently.
        stable: Ground that did not change, shape of ``before``, bool: its median rise (a shift of
            the water level, say) is taken off everywhere.

    Returns:
        The change.

    Raises:
        DataError: The maps have no cell in common, or none on the stable ground.
        ShapeError: ``stable`` has another shape than ``before``.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import height_difference
        >>> from aquamvs.types import HeightMap
        >>> z = torch.full((20, 20), 1.0)
        >>> sigma, sure = torch.full_like(z, 1e-4), torch.ones_like(z)
        >>> count, color = torch.full_like(z, 5).int(), torch.ones(20, 20, 3)
        >>> before = HeightMap(0.0, 0.0, 0.01, z, sigma, sure, count, color)
        >>> after = HeightMap(0.0, 0.0, 0.01, z - 0.002, sigma, sure, count, color)
        >>> change = height_difference(before, after, min_significance=2)
        >>> round(1000 * change.volume_up, 3)  # litres
        0.08
    """
    x, y = before.grid_xy()
    shape: tuple[int, ...] = tuple(before.z.shape)
    after_z = HeightGrid.of_height_map(after).at(x, y)
    after_sigma = HeightGrid(after.x0, after.y0, after.spacing, after.sigma).at(x, y)
    rise = as_float64("z", before.z, shape) - after_z
    if not np.isfinite(rise).any():
        raise DataError("the two height maps have no known cell in common; nothing to compare")
    sigma = np.hypot(as_float64("sigma", before.sigma, shape), after_sigma)
    sigma = np.where(np.isfinite(rise), sigma, np.nan)
    cell = before.spacing**2
    patch = 1.0
    if correlation_length is not None:
        patch = max(1.0, math.pi * correlation_length**2 / cell)
    offset, offset_sigma, scatter = 0.0, 0.0, None
    if stable is not None:
        ground = as_bool("stable", stable, shape)
        offset, offset_sigma, scatter = _ground_level(rise, sigma, ground, patch)
        rise = rise - offset
    radius = None if correlation_length is None else correlation_length / before.spacing
    moved = moved_cells(rise, sigma, min_significance=min_significance, correlation_cells=radius)

    def volume(cells: BoolArray) -> tuple[float, float]:
        """Signed volume and its uncertainty."""
        noise = _sum_sigma(sigma[cells], patch)
        edge = _sum_sigma(sigma[_rim(cells, radius) & np.isfinite(sigma)], patch)
        shared = int(cells.sum()) * offset_sigma
        return cell * float(rise[cells].sum()), cell * math.hypot(noise, edge, shared)

    gained, gained_sigma = volume(moved > 0)
    lost, lost_sigma = volume(moved < 0)
    net, net_sigma = volume(moved != 0)
    return HeightDifference(
        x0=before.x0,
        y0=before.y0,
        spacing=before.spacing,
        rise=torch.from_numpy(rise),
        sigma=torch.from_numpy(sigma),
        significance=torch.from_numpy(significance_of(rise, sigma)),
        moved=torch.from_numpy(moved),
        area=cell * int(np.isfinite(rise).sum()),
        area_up=cell * int((moved > 0).sum()),
        area_down=cell * int((moved < 0).sum()),
        volume_up=gained,
        volume_down=abs(lost),
        volume_up_sigma=gained_sigma,
        volume_down_sigma=lost_sigma,
        net_volume=net,
        net_volume_sigma=net_sigma,
        offset=offset,
        offset_sigma=offset_sigma,
        stable_scatter=scatter,
    )


def _ground_level(
    rise: FloatArray, sigma: FloatArray, ground: BoolArray, patch: float
) -> tuple[float, float, float]:
    """Median rise of unmoved ground, its uncertainty, and the scatter of significance about it."""
    known = ground & np.isfinite(rise) & np.isfinite(sigma)
    if not known.any():
        raise DataError(
            "the stable ground has no cell that both height maps know; choose another part"
        )
    offset = float(np.median(rise[known]))
    mean_sigma = _sum_sigma(sigma[known], patch) / int(known.sum())
    ratio = significance_of(rise[known] - offset, sigma[known])
    return offset, _MEDIAN_OVER_MEAN * mean_sigma, float(np.median(np.abs(ratio))) / NORMAL_MEDIAN


def _rim(cells: BoolArray, radius: float | None) -> BoolArray:
    """Cells outside of a region within the radius of correlated errors from its edge.

    The errors decide where a region ends, to about that radius; what the sum gains and loses there
    is the noise of so many cells.
    """
    if radius is None or not cells.any():
        return np.zeros_like(cells)
    distance = distance_to(cells)
    return (distance > 0) & (distance <= radius)


def _sum_sigma(sigma: FloatArray, patch: float) -> float:
    """Uncertainty of a sum of cells, ``patch`` of which err together; NaN if a sigma is unknown."""
    independent = float(np.sqrt((sigma**2).sum()))
    return min(math.sqrt(patch) * independent, float(sigma.sum()))
