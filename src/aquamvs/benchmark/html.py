"""The benchmark report as one HTML file: no script, no link to anything outside."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from .results import BenchmarkResult
from .table import LEGEND, Column, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG, _PNG = "image/svg+xml", "image/png"


def format_html_report(
    result: BenchmarkResult, tables: Sequence[Table], figures: Mapping[str, Figure]
) -> str:
    """The report as a self-contained HTML document, readable in light and dark.

    Args:
        result: The benchmark.
        tables: What to tabulate (:func:`aquamvs.benchmark.table.benchmark_tables`).
        figures: Figures by caption, added after those of the benchmark itself.

    Returns:
        The document; every text of the benchmark is escaped.
    """
    from ..visualization import (
        figure_png,
        figure_svg,
        plot_accuracy,
        plot_runtime_and_points,
        plot_stage_times,
    )

    charts = {
        "Total time and points": plot_runtime_and_points(result),
        "Time of every stage": plot_stage_times(result),
    }
    if any(row.accuracy is not None for row in result.results):
        charts["Errors over the rig's limit"] = plot_accuracy(result)
    images = [_figure(name, figure_svg(chart), _SVG) for name, chart in charts.items()]
    images += [_figure(name, figure_png(figure), _PNG) for name, figure in figures.items()]
    template = files(__package__).joinpath("report_template.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        title=escape(f"AquaMVS benchmark of frame {result.frame}"),
        facts=_facts(result),
        failures=_failures(result),
        tables="\n".join(_table(table) for table in tables),
        figures="\n".join(images),
        legend=escape(LEGEND),
    )


def _facts(result: BenchmarkResult) -> str:
    facts = {
        "Configuration": str(result.config_path),
        "Output": str(result.output_dir),
        **result.machine,
        **result.versions,
    }
    rows = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return "\n".join(rows)


def _failures(result: BenchmarkResult) -> str:
    if not result.failed:
        return ""
    items = "\n".join(
        f"<li><strong>{escape(row.pathway_name)}</strong>: {escape(str(row.error))}</li>"
        for row in result.failed
    )
    count = f"{len(result.failed)} of {len(result.results)} pathways failed"
    return f'<section class="failed" role="alert"><h2>{count}</h2><ul>{items}</ul></section>'


def _table(table: Table) -> str:
    heads = "".join(_head(column) for column in table.columns)
    rows = []
    for row in table.rows:
        first, *others = table.columns
        cells = f'<th scope="row">{escape(first.cell(row))}</th>'
        cells += "".join(
            f"<td{_align(column)}>{escape(column.cell(row))}</td>" for column in others
        )
        rows.append(f'<tr class="{row.status}">{cells}</tr>')
    return (
        f'<section><h2>{escape(table.title)}</h2><div class="scroll"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _head(column: Column) -> str:
    unit = f'<span class="unit">{escape(column.unit)}</span>' if column.unit else ""
    return f'<th scope="col"{_align(column)}>{escape(column.header)}{unit}</th>'


def _align(column: Column) -> str:
    return ' class="number"' if column.is_number else ""


def _figure(caption: str, content: bytes, kind: str) -> str:
    # As an image of its own, an SVG cannot share ids with the next one on the page.
    data = base64.b64encode(content).decode("ascii")
    text = escape(caption)
    chart = ' class="chart"' if kind == _SVG else ""  # sharp at any width
    return (
        f"<figure><figcaption>{text}</figcaption>"
        f'<img{chart} alt="{text}" src="data:{kind};base64,{data}"></figure>'
    )
