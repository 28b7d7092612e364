"""Errors of depth maps against true ray depth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..errors import DataError
from ..types import DepthMap
from .arrays import BoolArray, FloatArray, as_bool, as_float64
from .statistics import ErrorStatistics, error_statistics

DEPTH_THRESHOLDS = (0.001, 0.002, 0.005, 0.01, 0.02)
"""Distances at which the fraction of larger errors is reported by default, metres."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthErrors(ErrorStatistics):
    """Errors of ray depth over every pixel that has both an estimate and the truth.

    Positive errors are too deep. The attributes of :class:`ErrorStatistics`, and:

    Attributes:
        truth_count: Pixels whose true depth is known.
        coverage: Fraction of them that have an estimate.
        mask_coverage: The same over the mask that was given; None without one.

    Example:
        >>> from aquamvs.evaluation import depth_errors
        >>> errors = depth_errors(made.depth_maps[0], truth.depth(made.depth_maps[0].camera))
        >>> errors.coverage > 0.8, errors.median_abs < 0.01, errors.median_over_limit
        (True, True, None)
    """

    truth_count: int
    coverage: float
    mask_coverage: float | None


def depth_errors(
    estimated: DepthMap,
    truth: Tensor,
    limit: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    thresholds: Sequence[float] = DEPTH_THRESHOLDS,
) -> DepthErrors:
    """Compare one depth map with the truth; no pixel is trimmed.

    Args:
        estimated: Depth map; its ``sigma`` is judged too.
        truth: True ray depth, shape (H, W), metres; NaN where unknown.
        limit: The rig's 1-sigma limit along each ray, shape (H, W), metres (see
            :func:`aquamvs.evaluation.depth_limit`).
        mask: shape (H, W), bool: a part of the image over which coverage is reported as well, such
            as the pixels that three cameras see. Errors are those of the whole image regardless.
        thresholds: Distances for ``beyond``, metres.

    Returns:
        The errors.

    Raises:
        ShapeError: ``truth``, ``limit`` or ``mask`` has another shape than the depth map.

    Example:
        >>> from aquamvs.evaluation import depth_errors
        >>> depth_map = made.depth_maps[0]
        >>> errors = depth_errors(depth_map, depth_map.depth - 0.001)
        >>> round(1000 * errors.bias, 3)  # mm, too deep
        1.0
    """
    return pooled_depth_errors(
        [estimated],
        [truth],
        None if limit is None else [limit],
        None if mask is None else [mask],
        thresholds=thresholds,
    )


def pooled_depth_errors(
    estimated: Sequence[DepthMap],
    truth: Sequence[Tensor],
    limit: Sequence[Tensor] | None = None,
    mask: Sequence[Tensor] | None = None,
    *,
    thresholds: Sequence[float] = DEPTH_THRESHOLDS,
) -> DepthErrors:
    """Errors over all pixels of several depth maps (medians do not combine afterwards).

    Args:
        estimated: Depth maps.
        truth: True ray depth of each, shape (H, W), metres.
        limit: Limit of each, shape (H, W), metres.
        mask: Mask of each, shape (H, W), bool; see :func:`depth_errors`.
        thresholds: Distances for ``beyond``, metres.

    Returns:
        The errors of all maps together.

    Raises:
        ShapeError: A map's shapes differ.
        DataError: The sequences differ in length.

    Example:
        >>> from aquamvs.evaluation import pooled_depth_errors
        >>> depths = [truth.depth(depth_map.camera) for depth_map in made.depth_maps]
        >>> errors = pooled_depth_errors(made.depth_maps, depths)
        >>> errors.truth_count == sum(int(depth.isfinite().sum()) for depth in depths)
        True
    """
    for name, values in (("truth", truth), ("limit", limit), ("mask", mask)):
        if values is not None and len(values) != len(estimated):
            raise DataError(
                f"{len(values)} {name} maps for {len(estimated)} depth maps; expected one each"
            )
    parts = [
        _compare(
            depth_map,
            truth[i],
            None if limit is None else limit[i],
            None if mask is None else mask[i],
        )
        for i, depth_map in enumerate(estimated)
    ]
    statistics = error_statistics(
        _joined([part.error for part in parts]),
        limit=None if limit is None else _joined([part.limit for part in parts]),
        sigma=_joined([part.sigma for part in parts]),
        thresholds=thresholds,
    )
    truth_count = sum(part.truth_count for part in parts)
    mask_coverage = None
    if mask is not None:
        mask_coverage = _fraction(
            sum(part.mask_covered for part in parts), sum(part.mask_count for part in parts)
        )
    return DepthErrors(
        **statistics.values(),
        truth_count=truth_count,
        coverage=_fraction(statistics.count, truth_count),
        mask_coverage=mask_coverage,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """One map's errors, shape (N,) each, and counts of pixels."""

    error: FloatArray
    limit: FloatArray
    sigma: FloatArray
    truth_count: int
    mask_count: int
    mask_covered: int


def _compare(
    estimated: DepthMap, truth: Tensor, limit: Tensor | None, mask: Tensor | None
) -> _Part:
    shape: tuple[int, ...] = tuple(estimated.depth.shape)
    depth = as_float64("depth", estimated.depth, shape)
    true_depth = as_float64("truth", truth, shape)
    known: BoolArray = np.isfinite(true_depth)
    both = known & np.isfinite(depth)
    wanted = known if mask is None else known & as_bool("mask", mask, shape)
    no_limit = np.empty(0)
    return _Part(
        error=depth[both] - true_depth[both],
        limit=no_limit if limit is None else as_float64("limit", limit, shape)[both],
        sigma=as_float64("sigma", estimated.sigma, shape)[both],
        truth_count=int(known.sum()),
        mask_count=int(wanted.sum()),
        mask_covered=int((wanted & both).sum()),
    )


def _joined(arrays: list[FloatArray]) -> FloatArray:
    return np.concatenate(arrays) if arrays else np.empty(0)


def _fraction(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
