"""One definition of error statistics for depth maps, height maps, clouds and meshes.

Nothing is trimmed or clipped: a robust figure (median, percentile) stands beside one that every
outlier moves (RMS, maximum), and coverage says what was left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plain import plain

NORMAL_MEDIAN = 0.6744897501960817
"""Median of |x| of a standard normal x: median errors over it compare with a standard deviation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistanceStatistics:
    """Summary of distances, or of errors without their sign; NaN where there is nothing.

    Attributes:
        count: Errors summarised.
        median_abs: Median of the absolute error, metres.
        mean_abs: Mean of the absolute error, metres.
        rms: Root of the mean square, metres.
        p90: 90th percentile of the absolute error, metres.
        p95: 95th percentile of the absolute error, metres.
        max_abs: Largest absolute error, metres.
        beyond: Threshold in metres to the fraction of errors beyond it.

    Example:
        >>> import numpy as np
        >>> from aquamvs.evaluation import distance_statistics
        >>> statistics = distance_statistics(np.array([0.001, 0.003]), thresholds=(0.002,))
        >>> statistics.mean_abs, statistics.beyond[0.002]
        (0.002, 0.5)
    """

    count: int
    median_abs: float
    mean_abs: float
    rms: float
    p90: float
    p95: float
    max_abs: float
    beyond: dict[float, float]

    def as_dict(self) -> dict[str, Any]:
        """The statistics as plain Python for JSON; NaN becomes None."""
        result: dict[str, Any] = plain(self)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorStatistics(DistanceStatistics):
    """Summary of signed errors: the attributes of :class:`DistanceStatistics`, and those below.

    Attributes:
        bias: Mean of the signed error, metres.
        median_over_limit: Median of absolute error over limit, divided by 0.6745: 1 for normal
            errors at the limit. None when no limit was given.
        rms_over_limit: Root of the mean square of error / limit. None when no limit was given.
        within_1_sigma: Fraction of errors within the estimate's own 1 sigma (0.683 when it is
            right and errors are normal). None when no sigma was given.
        within_2_sigma: Same for 2 sigma (0.954).

    Example:
        >>> import numpy as np
        >>> from aquamvs.evaluation import error_statistics
        >>> statistics = error_statistics(np.array([-0.001, 0.001, 0.003]), thresholds=(0.002,))
        >>> round(statistics.rms, 6), round(statistics.beyond[0.002], 3)
        (0.001915, 0.333)
    """

    bias: float
    median_over_limit: float | None
    rms_over_limit: float | None
    within_1_sigma: float | None
    within_2_sigma: float | None

    def values(self) -> dict[str, Any]:
        """The statistics by field name, to build a result that extends them."""
        return {field.name: getattr(self, field.name) for field in fields(ErrorStatistics)}


def distance_statistics(
    distance: NDArray[np.floating[Any]], *, thresholds: Sequence[float] = ()
) -> DistanceStatistics:
    """Summarise distances.

    Args:
        distance: Finite, shape (N,), metres.
        thresholds: Distances for ``beyond``, metres.

    Returns:
        The summary; distances are in the unit of ``distance``.

    Example:
        >>> import numpy as np
        >>> from aquamvs.evaluation import distance_statistics
        >>> distance_statistics(np.array([0.001, 0.003])).max_abs
        0.003
    """
    return DistanceStatistics(**_summary(np.abs(distance), thresholds))


def error_statistics(
    error: NDArray[np.floating[Any]],
    *,
    limit: NDArray[np.floating[Any]] | None = None,
    sigma: NDArray[np.floating[Any]] | None = None,
    thresholds: Sequence[float] = (),
) -> ErrorStatistics:
    """Summarise signed errors.

    Args:
        error: Finite errors, shape (N,), metres.
        limit: Standard deviation that the rig allows for each, shape (N,), metres. Errors whose
            limit is not finite are left out of the ratios only.
        sigma: The estimate's own standard deviation of each, shape (N,), metres. Errors whose sigma
            is not finite are left out of the calibration only.
        thresholds: Distances for ``beyond``, metres.

    Returns:
        The summary; distances are in the unit of ``error``.

    Example:
        >>> import numpy as np
        >>> from aquamvs.evaluation import error_statistics
        >>> found = error_statistics(np.array([-0.001, 0.001, 0.003]))
        >>> found.count, found.median_abs, round(found.bias, 6)
        (3, 0.001, 0.001)
    """
    size = np.abs(error)
    over_limit = None if limit is None else _over(size, limit)
    over_sigma = None if sigma is None else _over(size, sigma)
    return ErrorStatistics(
        **_summary(size, thresholds),
        bias=_mean(error),
        median_over_limit=(
            None if over_limit is None else _percentiles(over_limit, (50,))[0] / NORMAL_MEDIAN
        ),
        rms_over_limit=None if over_limit is None else _rms(over_limit),
        within_1_sigma=None if over_sigma is None else _mean(over_sigma <= 1),
        within_2_sigma=None if over_sigma is None else _mean(over_sigma <= 2),
    )


def _summary(size: NDArray[Any], thresholds: Sequence[float]) -> dict[str, Any]:
    """The fields of :class:`DistanceStatistics`."""
    p50, p90, p95 = _percentiles(size, (50, 90, 95))
    return {
        "count": int(size.size),
        "median_abs": p50,
        "mean_abs": _mean(size),
        "rms": _rms(size),
        "p90": p90,
        "p95": p95,
        "max_abs": float(size.max()) if size.size else float("nan"),
        "beyond": {float(t): _mean(size > t) for t in thresholds},
    }


def _over(size: NDArray[Any], scale: NDArray[Any]) -> NDArray[Any]:
    known = np.isfinite(scale) & (scale > 0)
    return np.asarray(size[known] / scale[known])


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(_mean(np.square(values, dtype=np.float64))))


def _percentiles(values: NDArray[Any], percents: Sequence[float]) -> list[float]:
    if not values.size:
        return [float("nan")] * len(percents)
    return [float(value) for value in np.percentile(values, percents)]
