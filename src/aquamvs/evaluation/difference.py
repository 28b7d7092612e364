"""What changed between two height maps: how far, where it is certain, and how much volume."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..types import HeightMap
from .arrays import FloatArray, as_float64, plain
from .heightgrid import HeightGrid


@dataclass(frozen=True, slots=True)
class HeightDifference:
    """How a surface changed between two height maps, on the grid of the first.

    The standard deviations describe errors of the matching, taken from the maps' own sigma. An
    error that a whole map shares (water level, calibration, alignment) is not in them: it moves
    ``net_volume`` by its size times ``area``, so align the maps on ground that did not change.

    Attributes:
        x0: X of the first column's centre, metres.
        y0: Y of the first row's centre, metres.
        spacing: Cell size, metres.
        rise: How far the surface came up (to smaller Z), shape (rows, columns), float64, metres;
            NaN where either map is unknown.
        sigma: 1-sigma uncertainty of ``rise``, same shape, metres.
        significance: ``rise / sigma``, same shape.
        area: Horizontal area compared, square metres.
        volume_up: Volume gained by the cells that rose, cubic metres.
        volume_down: Volume lost by the cells that sank, cubic metres, positive.
        volume_up_sigma: 1-sigma uncertainty of ``volume_up``, cubic metres.
        volume_down_sigma: 1-sigma uncertainty of ``volume_down``, cubic metres.
        net_volume: ``volume_up - volume_down``, cubic metres.
        net_volume_sigma: 1-sigma uncertainty of ``net_volume``, cubic metres.
    """

    x0: float
    y0: float
    spacing: float
    rise: Tensor
    sigma: Tensor
    significance: Tensor
    area: float
    volume_up: float
    volume_down: float
    volume_up_sigma: float
    volume_down_sigma: float
    net_volume: float
    net_volume_sigma: float

    def as_dict(self) -> dict[str, Any]:
        """Everything but the maps, as plain Python for JSON."""
        whole: dict[str, Any] = plain(self)
        return {k: v for k, v in whole.items() if k not in ("rise", "sigma", "significance")}


def height_difference(
    before: HeightMap,
    after: HeightMap,
    *,
    min_significance: float = 0.0,
    correlation_length: float | None = None,
) -> HeightDifference:
    """Change of a surface and the volumes that moved.

    The second map is interpolated at the first one's cells (exactly copied where the grids
    coincide), together with its sigma, which is not reduced for the averaging.

    Cells add their noise to ``volume_up`` and ``volume_down`` even where nothing moved, for each
    sums one sign only; ``min_significance`` (a level of detection: Wheaton et al., *Earth Surface
    Processes and Landforms* 35, 2010) leaves cells out of the volumes whose change may be noise.
    Errors of neighbouring cells are correlated because matching windows overlap: cells within
    ``correlation_length`` of each other are taken to err alike (after Rolstad et al., *Journal of
    Glaciology* 55, 2009), and the uncertainty is never more than that of fully correlated errors.

    Args:
        before: First height map.
        after: Second height map.
        min_significance: Smallest absolute ``significance`` of cells that count for the volumes.
        correlation_length: Radius of correlated errors, metres; about half the matching window.
            Absent: cells err independently.

    Returns:
        The change.

    Raises:
        DataError: The maps have no cell in common.
    """
    x, y = before.grid_xy()
    shape: tuple[int, ...] = tuple(before.z.shape)
    after_z = HeightGrid.of_height_map(after).at(x, y)
    after_sigma = HeightGrid(after.x0, after.y0, after.spacing, after.sigma).at(x, y)
    rise = as_float64("z", before.z, shape) - after_z
    if not np.isfinite(rise).any():
        raise DataError("the two height maps have no known cell in common; nothing to compare")
    sigma = np.hypot(as_float64("sigma", before.sigma, shape), after_sigma)
    # Exactly no change is no evidence, also between two maps without noise.
    significance = np.divide(
        rise, sigma, out=np.where(rise == 0, 0.0, np.copysign(np.inf, rise)), where=sigma > 0
    )
    significance = np.where(np.isfinite(rise) & np.isfinite(sigma), significance, np.nan)
    counted = np.isfinite(rise)
    if min_significance > 0:
        counted &= np.abs(significance) >= min_significance
    cell = before.spacing**2
    patch = 1.0
    if correlation_length is not None:
        patch = max(1.0, math.pi * correlation_length**2 / cell)
    up, down = counted & (rise > 0), counted & (rise < 0)
    gained, lost = cell * float(rise[up].sum()), -cell * float(rise[down].sum())
    return HeightDifference(
        x0=before.x0,
        y0=before.y0,
        spacing=before.spacing,
        rise=torch.from_numpy(rise),
        sigma=torch.from_numpy(np.where(np.isfinite(rise), sigma, np.nan)),
        significance=torch.from_numpy(significance),
        area=cell * int(np.isfinite(rise).sum()),
        volume_up=gained,
        volume_down=lost,
        volume_up_sigma=_volume_sigma(sigma[up], cell, patch),
        volume_down_sigma=_volume_sigma(sigma[down], cell, patch),
        net_volume=gained - lost,
        net_volume_sigma=_volume_sigma(sigma[counted], cell, patch),
    )


def _volume_sigma(sigma: FloatArray, cell: float, patch: float) -> float:
    """Uncertainty of a sum of cells, ``patch`` of which err together; NaN if a sigma is unknown."""
    independent = float(np.sqrt((sigma**2).sum()))
    return cell * min(math.sqrt(patch) * independent, float(sigma.sum()))
