"""Where a surface moved: regions of detected change, told from noise and grown to their feet."""

import math

import numpy as np
from numpy.typing import NDArray

from .arrays import FloatArray

MARGIN = 3.0
"""Correlation radii by which regions are widened, for the flat foot of heaps. Widening is blind to
the cells' values, so that it adds noise of both signs; growing down to a lower level instead would
add the positive noise around every heap (2 % of the volume of a heap of 2 cm)."""

_SMOOTHED_PATCH = 5 * math.pi
"""Integral of the smoothed errors' correlation over the squared correlation radius: Gaussian, of
variance tau² + 2 radius² = 2.5 radius² (see :func:`_smoothed_significance`)."""

_EXACT = 1e-9
"""Metres below which a sigma weighs no more."""


def moved_cells(
    rise: FloatArray,
    sigma: FloatArray,
    *,
    min_significance: float,
    correlation_cells: float | None = None,
) -> NDArray[np.int8]:
    """Cells that rose or sank for certain, with the cells around them that went along.

    Cells judged one by one mislead: one in twenty that did not move lies beyond two sigmas. So the
    change is averaged first, weighted by its variance, over a Gaussian window as wide as the
    errors' correlation, and each mean is judged by its own uncertainty. Of the many windows of a
    map some lie beyond two sigmas by chance; the level at which change is detected is therefore
    raised until a whole map without change has a chance of one in twenty (Bonferroni) to show any.
    Regions then follow by hysteresis (Canny, *IEEE Trans. PAMI* 8, 1986): what is detected is a
    seed and grows over neighbours of the same sign down to ``min_significance``. Last, regions are
    widened by ``MARGIN`` correlation radii.

    Args:
        rise: Change, shape (rows, columns), metres; NaN where unknown.
        sigma: 1-sigma uncertainty, same shape, metres.
        min_significance: Of the whole map's change, sigmas; 0 takes every cell by its sign.
        correlation_cells: Radius of correlated errors, cells; absent, cells err independently and
            each is judged alone.

    Returns:
        1 where the surface rose, -1 where it sank, 0 elsewhere; same shape.
    """
    known = np.isfinite(rise) & np.isfinite(sigma)
    if min_significance <= 0:
        return np.where(np.isfinite(rise), np.sign(rise), 0).astype(np.int8)
    windows = float(known.sum())
    if correlation_cells is None:
        significance = np.where(known, significance_of(rise, sigma), 0.0)
    else:
        significance = _smoothed_significance(rise, sigma, known, correlation_cells)
        windows /= max(1.0, _SMOOTHED_PATCH * correlation_cells**2)
    level = _whole_map_level(min_significance, windows)
    cores = [_grown(sign * significance, level, min_significance) for sign in (1, -1)]
    margin = 0.0 if correlation_cells is None else MARGIN * correlation_cells
    rose, sank = (distance_to(core) for core in cores)
    up, down = (rose <= margin) & (rose < sank), (sank <= margin) & (sank < rose)
    return (known & up).astype(np.int8) - (known & down).astype(np.int8)


def significance_of(rise: FloatArray, sigma: FloatArray) -> FloatArray:
    """Change over its uncertainty; NaN where either is unknown, infinite where sigma is 0.

    Exactly no change is no evidence, also between two maps without noise.
    """
    ratio = np.divide(
        rise, sigma, out=np.where(rise == 0, 0.0, np.copysign(np.inf, rise)), where=sigma > 0
    )
    return np.where(np.isfinite(rise) & np.isfinite(sigma), ratio, np.nan)


def distance_to(region: NDArray[np.bool_]) -> FloatArray:
    """Distance to a region in cells; infinite where there is none."""
    from scipy.ndimage import distance_transform_edt

    if not region.any():
        return np.full(region.shape, np.inf)
    return np.asarray(distance_transform_edt(~region), dtype=np.float64)


def _smoothed_significance(
    rise: FloatArray, sigma: FloatArray, known: NDArray[np.bool_], radius: float
) -> FloatArray:
    """Mean change over a window and its uncertainty.

    Errors that are correlated within ``radius`` have a Gaussian correlation of standard deviation
    radius / sqrt(2) (same integral, pi radius²); a Gaussian window of standard deviation ``radius``
    then leaves a fifth of their variance.
    """
    from scipy.ndimage import gaussian_filter

    weight = np.where(known, 1 / np.maximum(np.where(known, sigma, 1.0), _EXACT) ** 2, 0.0)
    total = np.maximum(gaussian_filter(weight, radius, mode="constant"), np.finfo(np.float64).tiny)
    mean = gaussian_filter(np.where(known, weight * rise, 0.0), radius, mode="constant") / total
    tau2 = radius**2 / 2
    deviation = np.sqrt(tau2 / (tau2 + 2 * radius**2) / total)
    return np.where(known, mean / deviation, 0.0)


def _whole_map_level(min_significance: float, windows: float) -> float:
    """The level that one of many windows exceeds by chance as rarely as one alone exceeds another.

    In sigmas of independent normal errors, ``windows`` of them.
    """
    from scipy.special import ndtri_exp
    from scipy.stats import norm

    one = float(norm.logsf(min_significance))
    return -float(ndtri_exp(one - math.log(max(1.0, windows))))


def _grown(significance: FloatArray, level: float, foot: float) -> NDArray[np.bool_]:
    """Connected regions above ``foot`` that reach ``level`` somewhere."""
    from scipy.ndimage import label

    regions, count = label(significance >= foot)
    kept = np.zeros(count + 1, dtype=bool)
    kept[np.unique(regions[significance >= level])] = True
    kept[0] = False
    chosen: NDArray[np.bool_] = kept[regions]
    return chosen
