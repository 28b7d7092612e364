"""One cloud against another, where neither is a surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import DataError
from ..plain import plain
from .arrays import as_float64
from .cloud import CLOUD_TOLERANCES
from .statistics import DistanceStatistics, distance_statistics


@dataclass(frozen=True, slots=True)
class CloudErrors:
    """Distances between the points of two clouds; unsigned, nothing trimmed.

    The distance to a cloud exceeds that to the surface that it was taken from by up to the spacing
    of its points.

    Attributes:
        to_truth: From every point to the nearest one of the truth (what is wrong).
        from_truth: From every point of the truth to the nearest one (what is missing).

    Example:
        >>> from aquamvs.evaluation import cloud_errors
        >>> points = made.cloud.points
        >>> errors = cloud_errors(points[::2], points)
        >>> errors.to_truth.max_abs, errors.from_truth.count == len(points)
        (0.0, True)
    """

    to_truth: DistanceStatistics
    from_truth: DistanceStatistics

    def as_dict(self) -> dict[str, Any]:
        """The errors as plain Python for JSON; NaN becomes None."""
        result: dict[str, Any] = plain(self)
        return result


def cloud_errors(
    points: Tensor, truth: Tensor, *, thresholds: tuple[float, ...] = CLOUD_TOLERANCES
) -> CloudErrors:
    """Compare two clouds.

    Args:
        points: World frame, shape (N, 3), metres, finite.
        truth: World frame, shape (M, 3), metres, finite.
        thresholds: Distances for ``beyond``, metres.

    Returns:
        The errors.

    Raises:
        DataError: A cloud is empty.
        ShapeError: A tensor has another shape.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import cloud_errors
        >>> x, y = torch.meshgrid(torch.arange(20) / 100, torch.arange(20) / 100, indexing="ij")
        >>> points = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3)
        >>> errors = cloud_errors(points + torch.tensor([0.0, 0.0, 0.001]), points)
        >>> round(1000 * errors.to_truth.median_abs, 3)  # mm
        1.0
    """
    from scipy.spatial import cKDTree

    mine = as_float64("points", points, (None, 3))
    other = as_float64("truth", truth, (None, 3))
    if not (len(mine) and len(other)):
        raise DataError(f"the clouds have {len(mine)} and {len(other)} points; expected some")
    to_truth, _ = cKDTree(other).query(mine)
    from_truth, _ = cKDTree(mine).query(other)
    return CloudErrors(
        to_truth=distance_statistics(to_truth, thresholds=thresholds),
        from_truth=distance_statistics(from_truth, thresholds=thresholds),
    )
