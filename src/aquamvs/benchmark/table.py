"""The tables of a benchmark report, defined once for the console, Markdown and HTML."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..pathways import Stage
from .results import BenchmarkResult, PathwayResult, SurfaceAccuracy

Value = float | int | str | None

MISSING = "-"
"""Shown for what is not known: never a zero."""


LEGEND = (
    f'"{MISSING}" means not known. Density is points per square metre of surface covered. '
    "The limit is the standard deviation that 0.1 px of matching noise per view leaves in this "
    "rig, at each point; 1 x limit is as good as the rig allows. 1-sigma and 2-sigma are the "
    "shares of errors within the stated uncertainty: 68.3 % and 95.4 % when that is right."
)
"""What the tables' terms mean."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        header: Name.
        unit: Unit, or an empty string.
        value: The value of a row; None or NaN where it is not known.
        text: The value as text.
        is_number: Aligned to the right.
    """

    header: str
    unit: str
    value: Callable[[PathwayResult], Value]
    text: Callable[[Value], str]
    is_number: bool = True

    def cell(self, row: PathwayResult) -> str:
        """A row's text; ``MISSING`` where the value is not known."""
        value = self.value(row)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return MISSING
        return self.text(value)


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of a benchmark's pathways."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[PathwayResult, ...]


def benchmark_tables(result: BenchmarkResult) -> list[Table]:
    """The tables that a benchmark fills: results, stages, and accuracy where there is truth.

    Args:
        result: The benchmark.

    Returns:
        Tables in the order of a report. Columns that no row fills are left out, and, but for the
        first table, rows that fill no column.
    """
    found = {
        "Stage times": tuple(_stage_column(stage) for stage in Stage),
        "Depth maps against ground truth": _surface_columns(_depth),
        "Height map against ground truth": _surface_columns(_height),
        _CLOUD_TITLE: _cloud_columns(result),
    }
    rows = tuple(result.results)
    shown = tuple(c for c in _RESULTS if not c.is_number or c in _ALWAYS or _fills(c, rows))
    tables = [Table("Results", shown, rows)]
    for title, columns in found.items():
        filled = tuple(column for column in columns if _fills(column, rows))
        filling = tuple(row for row in rows if any(_fills(column, (row,)) for column in filled))
        if filled:
            tables.append(Table(title, (_NAME, *filled), filling))
    return tables


def _fills(column: Column, rows: Sequence[PathwayResult]) -> bool:
    return any(column.cell(row) != MISSING for row in rows)


def _fixed(digits: int, scale: float = 1.0) -> Callable[[Value], str]:
    def text(value: Value) -> str:
        number = scale * float(value or 0)
        return f"{number:,.{digits}f}"

    return text


def _significant(digits: int, scale: float = 1.0) -> Callable[[Value], str]:
    """Decimals by size, never an exponent: 0.123, 1.23, 12.3, 123, 1,234."""

    def text(value: Value) -> str:
        number = scale * float(value or 0)
        magnitude = math.floor(math.log10(abs(number))) if number else 0
        return f"{number:,.{min(6, max(0, digits - 1 - magnitude))}f}"

    return text


def _text(value: Value) -> str:
    return str(value)


def _depth(row: PathwayResult) -> SurfaceAccuracy | None:
    return row.accuracy.depth if row.accuracy else None


def _height(row: PathwayResult) -> SurfaceAccuracy | None:
    return row.accuracy.height if row.accuracy else None


def _headline(row: PathwayResult) -> SurfaceAccuracy | None:
    """Errors of the depth maps, or of the height map where there are none."""
    return _depth(row) or _height(row)


def _total_s(row: PathwayResult) -> Value:
    return row.timing.total_time_ms / 1000 if row.ok else None


def _stage_column(stage: Stage) -> Column:
    def seconds(row: PathwayResult) -> Value:
        timing = row.timing.stages.get(stage)
        return None if timing is None else timing.wall_time_ms / 1000

    return Column(stage.replace("_", " "), "s", seconds, _significant(3))


def _surface_columns(
    accuracy: Callable[[PathwayResult], SurfaceAccuracy | None],
) -> tuple[Column, ...]:
    def of(name: str) -> Callable[[PathwayResult], Value]:
        def value(row: PathwayResult) -> Value:
            found = accuracy(row)
            return None if found is None else getattr(found, name)

        return value

    return (
        Column("Median", "mm", of("median_abs_m"), _significant(3, 1000)),
        Column("RMS", "mm", of("rms_m"), _significant(3, 1000)),
        Column("Median", "x limit", of("median_over_limit"), _significant(3)),
        Column("RMS", "x limit", of("rms_over_limit"), _significant(3)),
        Column("Coverage", "%", of("coverage"), _fixed(1, 100)),
        Column("1-sigma", "%", of("within_1_sigma"), _fixed(1, 100)),
        Column("2-sigma", "%", of("within_2_sigma"), _fixed(1, 100)),
    )


def _cloud_columns(result: BenchmarkResult) -> tuple[Column, ...]:
    clouds = [row.accuracy.cloud for row in result.results if row.accuracy and row.accuracy.cloud]
    tolerances = sorted({tolerance for cloud in clouds for tolerance in cloud.f_score})

    def of(name: str, tolerance: float) -> Callable[[PathwayResult], Value]:
        def value(row: PathwayResult) -> Value:
            cloud = row.accuracy.cloud if row.accuracy else None
            return None if cloud is None else getattr(cloud, name).get(tolerance)

        return value

    return tuple(
        Column(header, f"{1000 * tolerance:g} mm", of(name, tolerance), _fixed(1, 100))
        for tolerance in tolerances
        for header, name in (
            ("Acc.", "accuracy"),
            ("Comp.", "completeness"),
            ("F", "f_score"),
        )
    )


_NAME = Column("Pathway", "", lambda row: row.pathway_name, _text, is_number=False)
_TIME = Column("Time", "s", _total_s, _significant(3))
_POINTS = Column("Points", "", lambda row: row.point_count, _fixed(0))
_RESULTS = (
    _NAME,
    Column("Status", "", lambda row: str(row.status), _text, is_number=False),
    _TIME,
    Column("Memory", "MB", lambda row: row.peak_memory_mb, _fixed(0)),
    _POINTS,
    Column("Density", "1/m²", lambda row: row.cloud_density, _significant(3)),
    Column("Coverage", "%", lambda row: row.coverage, _fixed(1, 100)),
    Column(
        "Median error",
        "mm",
        lambda row: getattr(_headline(row), "median_abs_m", None),
        _significant(3, 1000),
    ),
    Column(
        "Median error",
        "x limit",
        lambda row: getattr(_headline(row), "median_over_limit", None),
        _significant(3),
    ),
    Column("Weights", "", lambda row: row.weights, _text, is_number=False),
)
_ALWAYS = (_TIME, _POINTS)
_CLOUD_TITLE = (
    "Point cloud against ground truth: ETH3D accuracy, completeness and F-score, percent within "
    "a distance"
)
