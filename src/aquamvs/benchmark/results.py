"""What a benchmark found, one row per pathway; a failed row holds no figures, never zeros."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..evaluation import CloudScores, DepthErrors, HeightErrors
from ..files import shortened
from ..pipeline import StageTiming, Timing
from ..plain import plain

FORMAT_VERSION = 1
"""Of the JSON form; raised when a reader of the old form would misread the new one."""


class Status(StrEnum):
    """How a pathway ended.

    Example:
        >>> from aquamvs.benchmark import Status
        >>> [row.pathway_name for row in result.results if row.status is Status.FAILED]
        []
    """

    OK = "ok"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceAccuracy:
    """Errors of depth maps or of a height map against the truth.

    Attributes:
        median_abs_m: Median absolute error, metres.
        rms_m: Root mean square error over everything estimated, metres.
        coverage: Fraction of the truth that has an estimate.
        median_over_limit: Median error over the rig's limit (1: as good as the rig allows); None
            where the limit is not known.
        rms_over_limit: RMS error over the rig's limit; None where the limit is not known.
        within_1_sigma: Fraction of errors within the estimate's own 1 sigma (0.683 when right).
        within_2_sigma: Same for 2 sigma (0.954 when right).

    Example:
        >>> depth = result.results[0].accuracy.depth
        >>> depth.median_abs_m < depth.rms_m < 0.02
        True
    """

    median_abs_m: float
    rms_m: float
    coverage: float
    median_over_limit: float | None = None
    rms_over_limit: float | None = None
    within_1_sigma: float | None = None
    within_2_sigma: float | None = None

    @classmethod
    def of_errors(cls, errors: DepthErrors | HeightErrors) -> SurfaceAccuracy:
        """The figures of :mod:`aquamvs.evaluation` that a benchmark reports."""
        return cls(
            median_abs_m=errors.median_abs,
            rms_m=errors.rms,
            coverage=errors.coverage,
            median_over_limit=errors.median_over_limit,
            rms_over_limit=errors.rms_over_limit,
            within_1_sigma=errors.within_1_sigma,
            within_2_sigma=errors.within_2_sigma,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudAccuracy:
    """ETH3D's scores of the point cloud, each by tolerance in metres.

    Example:
        >>> scores = result.results[0].accuracy.cloud
        >>> sorted(scores.f_score) == sorted(scores.accuracy), max(scores.f_score.values()) <= 1
        (True, True)
    """

    accuracy: dict[float, float]
    completeness: dict[float, float]
    f_score: dict[float, float]

    @classmethod
    def of_scores(cls, scores: CloudScores) -> CloudAccuracy:
        """The figures of :mod:`aquamvs.evaluation` that a benchmark reports."""
        return cls(
            accuracy=dict(scores.accuracy),
            completeness=dict(scores.completeness),
            f_score=dict(scores.f_score),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Comparison with ground truth; None where a pathway has no such product.

    Example:
        >>> accuracy = result.results[0].accuracy
        >>> accuracy.depth.coverage > 0.8, 0.01 in accuracy.cloud.f_score
        (True, True)
    """

    depth: SurfaceAccuracy | None = None
    height: SurfaceAccuracy | None = None
    cloud: CloudAccuracy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PathwayResult:
    """One row of the benchmark.

    Attributes:
        pathway_name: As in :data:`aquamvs.pathways.PATHWAYS`.
        status: How it ended.
        error: Why it failed; None when it did not.
        timing: Cost of the stages that ran.
        point_count: Points of the cloud; None when it failed.
        cloud_density: Points per square metre of surface covered; NaN when it failed.
        coverage: Fraction of the reference views' pixels that have a depth, or of the scene's cells
            that have a height; None without such a product.
        accuracy: Comparison with ground truth; None without.
        output_dir: Where its files are; None when it wrote none.
        peak_memory_mb: Largest resident memory of the process, megabytes; NaN when not measured.
        weights: Network and weights that it used, such as ``LightGlue (bundled)``; None when it
            needs none.

    Example:
        >>> row = result.results[0]
        >>> row.pathway_name, row.status.value, row.point_count == len(made.cloud)
        ('Surface sweep', 'ok', True)
        >>> [stage.value for stage in row.timing.stages]
        ['undistortion', 'surface_sweep', 'fusion', 'surface']
    """

    pathway_name: str
    status: Status
    error: str | None = None
    timing: Timing = field(default_factory=Timing)
    point_count: int | None = None
    cloud_density: float = math.nan
    coverage: float | None = None
    accuracy: Accuracy | None = None
    output_dir: Path | None = None
    peak_memory_mb: float = math.nan
    weights: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the pathway ended with a result."""
        return self.status is Status.OK

    @property
    def title(self) -> str:
        """The pathway's name and, on a line of its own, network and weights: for figures."""
        return "\n".join(filter(None, (self.pathway_name, self.weights)))


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """A benchmark of one frame.

    Attributes:
        results: One row per pathway, in the order in which they ran.
        frame: Frame number.
        config_path: Configuration that was benchmarked.
        output_dir: Where reports and pathways' files are.
        machine: What it ran on, such as ``{"cpu": ..., "memory": ...}``.
        versions: Versions of the packages that matter.

    Example:
        >>> from aquamvs.benchmark import BenchmarkResult
        >>> BenchmarkResult.from_json(result.to_json()).results[0].pathway_name
        'Surface sweep'
    """

    results: list[PathwayResult]
    frame: int
    config_path: Path
    output_dir: Path
    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[PathwayResult]:
        """The rows that failed."""
        return [row for row in self.results if not row.ok]

    def to_json(self) -> str:
        """The result as strict JSON; figures that are not known become null."""
        content = {"format": FORMAT_VERSION, **plain(self)}
        return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> BenchmarkResult:
        """Read what :meth:`to_json` wrote.

        Raises:
            DataError: The text is not such a result; the message names the key.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"benchmark result is not JSON ({error})") from None
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT_VERSION:
            raise DataError(
                f"benchmark result has format {found!r}; expected {FORMAT_VERSION} (run the "
                "benchmark again)"
            )
        return cls(
            results=[_pathway(row) for row in _get(data, "results", list)],
            frame=_get(data, "frame", int),
            config_path=Path(_get(data, "config_path", str)),
            output_dir=Path(_get(data, "output_dir", str)),
            machine=_get(data, "machine", dict),
            versions=_get(data, "versions", dict),
        )


def _get(data: Any, key: str, kind: type, *, optional: bool = False) -> Any:
    if not isinstance(data, dict) or key not in data:
        raise DataError(f"benchmark result lacks the key {key!r}")
    value = data[key]
    if optional and value is None:
        return None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(
            f"benchmark result: {key} is {shortened(repr(value))}; expected a {kind.__name__}"
        )
    return value


def _number(data: Any, key: str) -> float:
    """A number of which null says that it is not known."""
    value = _get(data, key, object, optional=True)
    if value is None:
        return math.nan
    return _float(_get(data, key, int if isinstance(value, int) else float), key)


def _float(value: str | float, key: str) -> float:
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise DataError(
            f"benchmark result: {key} is {shortened(str(value))}; expected a number"
        ) from None


def _maybe(data: Any, key: str) -> float | None:
    value = _number(data, key)
    return None if math.isnan(value) else value


def _pathway(row: Any) -> PathwayResult:
    status = _get(row, "status", str)
    if status not in list(Status):
        raise DataError(f"benchmark result: status is {status!r}; expected 'ok' or 'failed'")
    stages = _get(_get(row, "timing", dict), "stages", dict)
    folder = _get(row, "output_dir", str, optional=True)
    accuracy = _get(row, "accuracy", dict, optional=True)
    return PathwayResult(
        pathway_name=_get(row, "pathway_name", str),
        status=Status(status),
        error=_get(row, "error", str, optional=True),
        timing=Timing({name: _stage(stage) for name, stage in stages.items()}),
        point_count=_get(row, "point_count", int, optional=True),
        cloud_density=_number(row, "cloud_density"),
        coverage=_maybe(row, "coverage"),
        accuracy=None if accuracy is None else _accuracy(accuracy),
        output_dir=None if folder is None else Path(folder),
        peak_memory_mb=_number(row, "peak_memory_mb"),
        weights=_get(row, "weights", str, optional=True),
    )


def _stage(stage: Any) -> StageTiming:
    return StageTiming(
        _number(stage, "wall_time_ms"),
        _number(stage, "cpu_time_ms"),
        _number(stage, "peak_memory_mb"),
    )


def _accuracy(data: Any) -> Accuracy:
    cloud = _get(data, "cloud", dict, optional=True)
    return Accuracy(
        depth=_surface(_get(data, "depth", dict, optional=True)),
        height=_surface(_get(data, "height", dict, optional=True)),
        cloud=None
        if cloud is None
        else CloudAccuracy(
            accuracy=_by_tolerance(cloud, "accuracy"),
            completeness=_by_tolerance(cloud, "completeness"),
            f_score=_by_tolerance(cloud, "f_score"),
        ),
    )


def _surface(data: Any) -> SurfaceAccuracy | None:
    if data is None:
        return None
    return SurfaceAccuracy(
        median_abs_m=_number(data, "median_abs_m"),
        rms_m=_number(data, "rms_m"),
        coverage=_number(data, "coverage"),
        median_over_limit=_maybe(data, "median_over_limit"),
        rms_over_limit=_maybe(data, "rms_over_limit"),
        within_1_sigma=_maybe(data, "within_1_sigma"),
        within_2_sigma=_maybe(data, "within_2_sigma"),
    )


def _by_tolerance(data: Any, key: str) -> dict[float, float]:
    scores = _get(data, key, dict)
    return {_float(tolerance, key): _number(scores, tolerance) for tolerance in scores}
