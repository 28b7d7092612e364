"""Figures of a benchmark: time, points, stages and accuracy of every pathway."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ..pathways import Stage
from .canvas import (
    BLUE,
    GREY,
    ORANGE,
    PALETTE,
    VERMILION,
    PlotFigure,
    bare,
    message_figure,
)

if TYPE_CHECKING:
    from ..benchmark.results import BenchmarkResult, PathwayResult, SurfaceAccuracy

_ROW_INCHES = 0.36
_MARGIN_INCHES = 1.15
_LOG_SPAN = 30.0
"""Ratio of largest to smallest bar from which a linear axis would hide the small ones."""

_FINE_TICKS_SPAN = 300.0
"""Ratio of a log axis' ends up to which there is room for ticks at 2 and 5."""

_LINEAR_TICKS = 5
"""Intervals of a linear axis: labels such as "250 k" then have room."""

STAGE_COLORS = dict(zip((str(stage) for stage in Stage), PALETTE, strict=True))
"""Colour of every stage, the same in all figures."""


def plot_runtime_and_points(result: BenchmarkResult) -> PlotFigure:
    """Bars of total time and of points, one row per pathway; failed pathways say so.

    Args:
        result: Benchmark of at least one pathway.

    Returns:
        The figure.

    Example:
        >>> from aquamvs.visualization import plot_runtime_and_points
        >>> figure = plot_runtime_and_points(result)
        >>> [panel.get_xlabel() for panel in figure.axes]
        ['Total time (s)', 'Points']
    """
    if not result.results:
        return message_figure("The benchmark holds no pathway.")
    figure = PlotFigure(9.0, _height(result.results))
    left, right = figure.subplots(1, 2, sharey=True)
    times = [row.timing.total_time_ms / 1000 if row.ok else math.nan for row in result.results]
    points = [float(row.point_count) if row.point_count else math.nan for row in result.results]
    _bars(left, result.results, times, BLUE, "Total time", "s")
    _bars(right, result.results, points, ORANGE, "Points", "")
    return figure


def plot_stage_times(result: BenchmarkResult) -> PlotFigure:
    """Stacked bars of the time that every stage took, one row per pathway.

    Args:
        result: Benchmark of at least one pathway.

    Returns:
        The figure; stages in the order in which they run.

    Example:
        >>> from aquamvs.visualization import plot_stage_times
        >>> figure = plot_stage_times(result)
        >>> figure.axes[0].get_xlabel()
        'Wall time (s)'
    """
    rows = result.results
    used = [stage for stage in STAGE_COLORS if any(stage in row.timing.stages for row in rows)]
    if not used:
        return message_figure("No pathway got as far as a timed stage.")
    figure = PlotFigure(9.0, _height(rows) + 0.35)
    axes = figure.subplots()
    starts = [0.0] * len(rows)
    for stage in used:
        widths = [
            row.timing.stages[stage].wall_time_ms / 1000 if stage in row.timing.stages else 0.0
            for row in rows
        ]
        axes.barh(
            range(len(rows)),
            widths,
            left=starts,
            height=0.62,
            color=STAGE_COLORS[stage],
            edgecolor="white",
            linewidth=0.6,
            label=stage.replace("_", " "),
        )
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    longest = max(starts)
    for index, (row, end) in enumerate(zip(rows, starts, strict=True)):
        text = (
            f" {end:.3g} s" if row.ok else " failed" if end == 0 else f" failed after {end:.3g} s"
        )
        axes.text(end, index, text, va="center", fontsize=8, color="black" if row.ok else VERMILION)
    axes.set_xlim(0, longest * 1.16 if longest > 0 else 1)
    axes.set_xlabel("Wall time (s)")
    _name_rows(axes, rows)
    figure.legend(loc="outside upper center", ncols=min(len(used), 5), frameon=False, fontsize=8)
    return figure


def plot_accuracy(result: BenchmarkResult) -> PlotFigure:
    """Median and RMS error of every pathway in units of the rig's limit, on a log axis.

    Args:
        result: Benchmark; pathways without ground truth stay empty.

    Returns:
        The figure: depth maps and height maps in separate panels, where there are any.

    Example:
        >>> from aquamvs.visualization import plot_accuracy
        >>> figure = plot_accuracy(result)
        >>> [panel.get_title() for panel in figure.axes]
        ['Depth maps', 'Height map']
    """
    panels = [
        (title, errors)
        for title, errors in (
            ("Depth maps", [_surface(row, "depth") for row in result.results]),
            ("Height map", [_surface(row, "height") for row in result.results]),
        )
        if any(error is not None and error.median_over_limit is not None for error in errors)
    ]
    if not panels:
        return message_figure("No pathway was compared with ground truth.")
    figure = PlotFigure(9.0, _height(result.results) + 0.6)
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, errors) in zip(grid, panels, strict=True):
        _over_limit(axes, result.results, errors)
        axes.set_title(title, fontsize=10)
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return figure


def _height(rows: Sequence[PathwayResult]) -> float:
    return _MARGIN_INCHES + _ROW_INCHES * len(rows)


def _surface(row: PathwayResult, kind: str) -> SurfaceAccuracy | None:
    if row.accuracy is None:
        return None
    return row.accuracy.depth if kind == "depth" else row.accuracy.height


def _name_rows(axes: Axes, rows: Sequence[PathwayResult]) -> None:
    axes.set_yticks(range(len(rows)), [row.title for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    bare(axes)


def _bars(
    axes: Axes,
    rows: Sequence[PathwayResult],
    values: Sequence[float],
    color: str,
    name: str,
    unit: str,
) -> None:
    known = [value for value in values if value > 0]
    log = bool(known) and max(known) > _LOG_SPAN * min(known)
    left = 10 ** math.floor(math.log10(min(known)) - 0.15) if log else 0.0
    for index, (row, value) in enumerate(zip(rows, values, strict=True)):
        if value > 0:
            axes.barh(index, value - left, left=left, height=0.62, color=color)
            axes.text(value, index, f" {_count_label(value)} {unit}", va="center", fontsize=8)
        else:
            text, ink = ("none", GREY) if row.ok else ("failed", VERMILION)
            axes.text(left, index, f" {text}", va="center", fontsize=8, color=ink)
    if log:
        _log_axis(axes, left, max(known) * (max(known) / left) ** 0.22)
    else:
        axes.set_xlim(0, 1.22 * max(known, default=1.0))
        axes.xaxis.set_major_locator(MaxNLocator(_LINEAR_TICKS))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _count_label(value)))
    if not known:
        axes.set_xticks([])
    remarks = [remark for remark in (unit, "log scale" if log else "") if remark]
    axes.set_xlabel(f"{name} ({', '.join(remarks)})" if remarks else name)
    _name_rows(axes, rows)


def _log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic X axis whose ticks are plain numbers, at 2 and 5 too where there is room."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    fine = high / low < _FINE_TICKS_SPAN
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if fine else (1.0,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _count_label(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _over_limit(
    axes: Axes, rows: Sequence[PathwayResult], errors: Sequence[SurfaceAccuracy | None]
) -> None:
    """Median and RMS over the limit as two markers per row, joined by a line."""
    found: list[float] = []
    for index, (row, error) in enumerate(zip(rows, errors, strict=True)):
        median = error.median_over_limit if error is not None else None
        rms = error.rms_over_limit if error is not None else None
        if median is None or rms is None or not (median > 0 and rms > 0):
            ink = GREY if row.ok else VERMILION
            text = "no data" if row.ok else "failed"
            axes.annotate(
                text,
                (0.02, index),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color=ink,
            )
            continue
        axes.plot([median, rms], [index, index], color=GREY, linewidth=1.2, zorder=1)
        first = not found
        axes.scatter(median, index, color=BLUE, s=36, label="median" if first else None)
        axes.scatter(rms, index, color=ORANGE, marker="s", s=36, label="RMS" if first else None)
        found += [median, rms]
    axes.axvline(1, color=VERMILION, linestyle="--", linewidth=1, label="rig's limit")
    _log_axis(axes, min([0.5, *(0.7 * value for value in found)]), 1.6 * max([2.0, *found]))
    axes.set_xlabel("Error over the rig's limit (log scale)")
    axes.grid(axis="x", color="#E5E5E5", linewidth=0.8)
    axes.set_axisbelow(True)
    _name_rows(axes, rows)


def _count_label(value: float) -> str:
    """Three digits, with thousands and millions as letters."""
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    if value >= 1e4:
        return f"{value / 1e3:.3g} k"
    return f"{value:,.0f}" if value >= 1e3 else f"{value:.3g}"
