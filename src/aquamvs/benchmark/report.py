"""Reports of a benchmark: console, Markdown, JSON and HTML, all from the same tables."""

import textwrap
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..io import atomic_path
from .html import format_html_report
from .results import BenchmarkResult, PathwayResult
from .table import LEGEND, Column, Table, benchmark_tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONSOLE_WIDTH = 110
"""Columns that a report may take on a console."""

_NAME_WIDTH = 22
"""Characters of a text column on a console: longer names are cut."""

_ASCII = {
    "\N{SUPERSCRIPT TWO}": "2",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{HORIZONTAL ELLIPSIS}": "...",
}
"""Characters whose plain form Unicode does not know."""


def format_console_table(result: BenchmarkResult) -> str:
    """The report as plain text in ASCII, at most 110 columns wide.

    Args:
        result: The benchmark.

    Returns:
        Lines that end with a newline: one block per table, then why pathways failed.

    Example:
        >>> from aquamvs.benchmark import format_console_table
        >>> text = format_console_table(result)
        >>> text.isascii(), max(len(line) for line in text.splitlines()[1:]) <= 110
        (True, True)
    """
    blocks = [f"Benchmark of frame {result.frame} ({_ascii(str(result.config_path))})"]
    for table in benchmark_tables(result):
        blocks += [_console(part) for part in _parts(table)]
    if result.failed:
        lines = ["Failed"]
        for row in result.failed:
            reason = " ".join(_ascii(f"{row.pathway_name}: {row.error}").split())
            lines += textwrap.wrap(
                reason, CONSOLE_WIDTH, initial_indent="  ", subsequent_indent="    "
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def format_markdown_report(result: BenchmarkResult) -> str:
    """The report as Markdown.

    Args:
        result: The benchmark.

    Returns:
        The document, with every text of the benchmark escaped.

    Example:
        >>> from aquamvs.benchmark import format_markdown_report
        >>> print(format_markdown_report(result).splitlines()[0])
        # Benchmark of frame 0
    """
    lines = [
        f"# Benchmark of frame {result.frame}",
        "",
        f"- Configuration: {_markdown(str(result.config_path))}",
    ]
    facts = {**result.machine, **result.versions}
    lines += [f"- {_markdown(name)}: {_markdown(value)}" for name, value in facts.items()]
    for table in benchmark_tables(result):
        headers = [_markdown(_header(column)) for column in table.columns]
        rules = ["---:" if column.is_number else "---" for column in table.columns]
        lines += ["", f"## {table.title}", "", _row(headers), _row(rules)]
        for row in table.rows:
            lines.append(_row([_markdown(column.cell(row)) for column in table.columns]))
    if result.failed:
        lines += ["", "## Failed", ""]
        lines += [
            f"- **{_markdown(row.pathway_name)}**: {_markdown(str(row.error))}"
            for row in result.failed
        ]
    lines += ["", LEGEND]
    return "\n".join(lines) + "\n"


def save_markdown_report(result: BenchmarkResult, output_dir: str | Path) -> Path:
    """Write ``benchmark.md``.

    Args:
        result: The benchmark.
        output_dir: Folder, created where it does not exist.

    Returns:
        The file.

    Raises:
        DataError: The folder is not writable.

    Example:
        >>> from aquamvs.benchmark import save_markdown_report
        >>> save_markdown_report(result, "report").name
        'benchmark.md'
    """
    return _write(Path(output_dir) / "benchmark.md", format_markdown_report(result))


def save_json_report(result: BenchmarkResult, output_dir: str | Path) -> Path:
    """Write ``benchmark.json``, which ``BenchmarkResult.from_json`` reads; see above.

    Example:
        >>> from aquamvs.benchmark import BenchmarkResult, save_json_report
        >>> BenchmarkResult.from_json(save_json_report(result, "report").read_text()).frame
        0
    """
    return _write(Path(output_dir) / "benchmark.json", result.to_json())


def save_html_report(
    result: BenchmarkResult,
    output_dir: str | Path,
    figures: "Mapping[str, Figure] | None" = None,
) -> Path:
    """Write ``benchmark.html``, one file that needs no other.

    Args:
        result: The benchmark.
        output_dir: Folder, created where it does not exist.
        figures: More figures by caption, such as depth maps side by side.

    Returns:
        The file.

    Raises:
        DataError: The folder is not writable.

    Example:
        >>> from aquamvs.benchmark import save_html_report
        >>> save_html_report(result, "report").name
        'benchmark.html'
    """
    text = format_html_report(result, benchmark_tables(result), figures or {})
    return _write(Path(output_dir) / "benchmark.html", text)


def _write(path: Path, text: str) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def _header(column: Column) -> str:
    return f"{column.header} ({column.unit})" if column.unit else column.header


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    escaped = " ".join(text.split())
    for character in "\\`*_[]<>|#":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped


def _ascii(text: str) -> str:
    """Text for consoles of any encoding."""
    known = "".join(_ASCII.get(character, character) for character in text)
    plain = unicodedata.normalize("NFKD", known)
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    return plain.encode("ascii", "replace").decode("ascii")


def _widths(table: Table) -> list[int]:
    return [
        max(len(cell) for cell in (*_head(column), *(_cell(column, row) for row in table.rows)))
        for column in table.columns
    ]


def _head(column: Column) -> list[str]:
    """Lines above a column: the words of its name, then the unit."""
    return [*_ascii(column.header).split(), _ascii(column.unit)]


def _cell(column: Column, row: PathwayResult) -> str:
    text = " ".join(_ascii(column.cell(row)).split())
    if column.is_number or len(text) <= _NAME_WIDTH:
        return text
    return text[: _NAME_WIDTH - 3] + "..."


def _parts(table: Table) -> list[Table]:
    """The table, cut into several that repeat the first column where it is too wide."""
    first, *others = table.columns
    widths = dict(zip(table.columns, _widths(table), strict=True))
    parts: list[list[Column]] = [[first]]
    for column in others:
        wide = sum(widths[used] + 2 for used in parts[-1]) + widths[column] > CONSOLE_WIDTH
        if wide and len(parts[-1]) > 1:
            parts.append([first])
        parts[-1].append(column)
    return [replace(table, columns=tuple(part)) for part in parts]


def _console(table: Table) -> str:
    widths = _widths(table)

    def line(cells: list[str]) -> str:
        aligned = [
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for cell, width, column in zip(cells, widths, table.columns, strict=True)
        ]
        return "  ".join(aligned).rstrip()

    heads = [_head(column) for column in table.columns]
    depth = max(len(head) for head in heads)
    heads = [[""] * (depth - len(head)) + head for head in heads]  # units on one line
    lines = [_ascii(table.title)]
    lines += [line(list(words)) for words in zip(*heads, strict=True) if any(words)]
    lines.append("  ".join("-" * width for width in widths))
    lines += [line([_cell(column, row) for column in table.columns]) for row in table.rows]
    return "\n".join(lines)
