"""Errors of height maps against a true surface."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..types import HeightMap
from .arrays import BoolArray, as_bool, as_float64
from .heightgrid import STEEP_DEG, HeightGrid
from .statistics import ErrorStatistics, error_statistics

HEIGHT_THRESHOLDS = (0.001, 0.002, 0.005, 0.01, 0.02)
"""Distances at which the fraction of larger errors is reported by default, metres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeightErrors(ErrorStatistics):
    """Errors of Z over every cell that has both an estimate and the truth.

    Positive errors are too deep. The attributes of :class:`ErrorStatistics`, and:

    Attributes:
        truth_count: Cells of the estimate's grid whose true height is known.
        coverage: Fraction of them that have an estimate.
        mask_coverage: The same over the mask that was given; None without one.
        near_steps: Errors of the cells near walls and edges, where a height field is least able to
            follow the surface.
        away_from_steps: Errors of all other cells.

    Example:
        >>> from aquamvs.evaluation import HeightGrid, height_errors
        >>> surface = truth.surface
        >>> grid = HeightGrid(surface.x0, surface.y0, surface.spacing, surface.z)
        >>> errors = height_errors(made.height_map, grid)
        >>> errors.coverage > 0.8, errors.near_steps.count < errors.count
        (True, True)
    """

    truth_count: int
    coverage: float
    mask_coverage: float | None
    near_steps: ErrorStatistics
    away_from_steps: ErrorStatistics


def height_errors(
    estimated: HeightMap,
    truth: HeightGrid,
    limit: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    thresholds: Sequence[float] = HEIGHT_THRESHOLDS,
    steep_deg: float = STEEP_DEG,
    step_radius: float | None = None,
) -> HeightErrors:
    """Compare a height map with the true surface at its cells' centres; no cell is trimmed.

    Args:
        estimated: Height map; its ``sigma`` is judged too.
        truth: True surface.
        limit: The rig's 1-sigma limit of Z per cell, same shape as the map, metres (``height`` of
            :func:`aquamvs.evaluation.rig_limit` at the true points).
        mask: Same shape, bool: cells over which coverage is reported as well, such as those that
            three cameras see.
        thresholds: Distances for ``beyond``, metres.
        steep_deg: Slope from which the truth counts as a step, degrees.
        step_radius: Horizontal distance within which a cell is near a step, metres; two cells of
            the estimate when absent.

    Returns:
        The errors.

    Raises:
        ShapeError: ``limit`` or ``mask`` has another shape than the height map.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import HeightGrid
        >>> from aquamvs.evaluation import height_errors
        >>> from aquamvs.types import HeightMap
        >>> z = torch.full((20, 20), 1.0)
        >>> sigma, sure = torch.full_like(z, 1e-4), torch.ones_like(z)
        >>> count, color = torch.full_like(z, 5).int(), torch.ones(20, 20, 3)
        >>> before = HeightMap(0.0, 0.0, 0.01, z, sigma, sure, count, color)
        >>> after = HeightMap(0.0, 0.0, 0.01, z - 0.002, sigma, sure, count, color)
        >>> errors = height_errors(after, HeightGrid.of_height_map(before))
        >>> round(1000 * errors.median_abs, 3), errors.coverage
        (2.0, 1.0)
    """
    shape: tuple[int, ...] = tuple(estimated.z.shape)
    z = as_float64("z", estimated.z, shape)
    sigma = as_float64("sigma", estimated.sigma, shape)
    allowed = None if limit is None else as_float64("limit", limit, shape)
    x, y = estimated.grid_xy()
    true_z = truth.at(x, y)
    known = np.isfinite(true_z)
    both = known & np.isfinite(z)
    radius = 2 * estimated.spacing if step_radius is None else step_radius
    near = truth.distance_to_step(x, y, steep_deg=steep_deg) <= radius

    def summary(cells: BoolArray) -> ErrorStatistics:
        return error_statistics(
            z[cells] - true_z[cells],
            limit=None if allowed is None else allowed[cells],
            sigma=sigma[cells],
            thresholds=thresholds,
        )

    wanted = None if mask is None else known & as_bool("mask", mask, shape)
    return HeightErrors(
        **summary(both).values(),
        truth_count=int(known.sum()),
        coverage=_mean(both[known]),
        mask_coverage=None if wanted is None else _mean(both[wanted]),
        near_steps=summary(both & near),
        away_from_steps=summary(both & ~near),
    )


def _mean(values: BoolArray) -> float:
    return float(values.mean()) if values.size else float("nan")
