"""Comparing the pathways on one frame: running, judging, reporting."""

from .report import (
    format_console_table,
    format_markdown_report,
    save_html_report,
    save_json_report,
    save_markdown_report,
)
from .results import (
    Accuracy,
    BenchmarkResult,
    CloudAccuracy,
    PathwayResult,
    Status,
    SurfaceAccuracy,
)
from .runner import describe_machine, run_benchmark, select_pathways

__all__ = [
    "Accuracy",
    "BenchmarkResult",
    "CloudAccuracy",
    "PathwayResult",
    "Status",
    "SurfaceAccuracy",
    "describe_machine",
    "format_console_table",
    "format_markdown_report",
    "run_benchmark",
    "save_html_report",
    "save_json_report",
    "save_markdown_report",
    "select_pathways",
]
