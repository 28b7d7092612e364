"""Reports: one table in four forms, failed rows that say why, nothing that breaks the page."""

import base64
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from aquamvs.benchmark.report import (
    CONSOLE_WIDTH,
    format_console_table,
    format_markdown_report,
    save_html_report,
    save_json_report,
    save_markdown_report,
)
from aquamvs.benchmark.results import (
    Accuracy,
    BenchmarkResult,
    CloudAccuracy,
    PathwayResult,
    StageTiming,
    Status,
    SurfaceAccuracy,
    Timing,
)
from aquamvs.benchmark.table import benchmark_tables
from aquamvs.errors import DataError
from aquamvs.evaluation import depth_errors
from aquamvs.pathways import PATHWAYS, Stage
from aquamvs.types import DepthMap
from aquamvs.visualization import plot_depth_map

EVIL = "<script>alert('&')</script> | `x` *y*\nsecond line"


def timing(**seconds: float) -> Timing:
    return Timing(
        {Stage(name): StageTiming(1000 * s, 1700.0 * s, 900.5) for name, s in seconds.items()}
    )


def surface(median: float, over_limit: float | None) -> SurfaceAccuracy:
    return SurfaceAccuracy(
        median_abs_m=median,
        rms_m=3 * median,
        coverage=0.875,
        median_over_limit=over_limit,
        rms_over_limit=None if over_limit is None else 4 * over_limit,
        within_1_sigma=0.6,
        within_2_sigma=0.93,
    )


def full_row() -> PathwayResult:
    scores = {0.001: 0.5, 0.01: 0.975}
    return PathwayResult(
        pathway_name="LightGlue + full",
        status=Status.OK,
        timing=timing(undistortion=2.0, sparse_matching=4.5, depth_estimation=120.0, fusion=3.25),
        point_count=1_812_333,
        cloud_density=713_000.0,
        coverage=0.83,
        accuracy=Accuracy(
            depth=surface(0.0009, 2.4),
            height=surface(0.0006, 1.5),
            cloud=CloudAccuracy(accuracy=scores, completeness=scores, f_score=scores),
        ),
        output_dir=Path("out/benchmark/lightglue_full"),
        peak_memory_mb=3012.0,
        weights="LightGlue (bundled)",
    )


def failed_row(error: str = "no weights") -> PathwayResult:
    return PathwayResult(
        pathway_name="RoMa + full",
        status=Status.FAILED,
        error=error,
        timing=timing(undistortion=2.0),
    )


def benchmark(*rows: PathwayResult) -> BenchmarkResult:
    return BenchmarkResult(
        results=list(rows),
        frame=3,
        config_path=Path("demo/config.yaml"),
        output_dir=Path("demo/output"),
        machine={"CPU": "one of two"},
        versions={"torch": "2.13"},
    )


class _Page(HTMLParser):
    """Tags, texts of cells by row, image sources."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.sources: list[str] = []
        self.text = ""
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_cell:
            self.rows[-1][-1] += data


def page(result: BenchmarkResult, folder: Path, **kwargs: object) -> _Page:
    path = save_html_report(result, folder, **kwargs)  # type: ignore[arg-type]
    return _Page(path.read_text(encoding="utf-8"))


def test_total_time_is_the_sum_of_the_stages_and_unknown_without_any() -> None:
    assert full_row().timing.total_time_ms == pytest.approx(129_750)
    assert math.isnan(Timing({}).total_time_ms)


def test_json_gives_the_same_benchmark_back() -> None:
    result = benchmark(full_row(), failed_row(EVIL))
    text = result.to_json()
    again = BenchmarkResult.from_json(text)
    assert again.to_json() == text
    assert again.results[0] == full_row()
    assert again.config_path == Path("demo/config.yaml")
    assert math.isnan(again.results[1].cloud_density)
    assert again.results[1].point_count is None
    assert again.results[1].error == EVIL
    assert json.loads(text)["results"][1]["cloud_density"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("frame"), "lacks the key 'frame'"),
        (lambda d: d.update(format=0), "format 0; expected 1"),
        (lambda d: d["results"][0].update(status="fine"), "expected 'ok' or 'failed'"),
        (lambda d: d["results"][0].update(point_count="many"), "point_count is 'many'"),
        (lambda d: d["results"][0]["timing"].pop("stages"), "lacks the key 'stages'"),
        (lambda d: d["results"][0].update(cloud_density="thick"), "cloud_density is 'thick'"),
        (lambda d: d["results"][0]["accuracy"].pop("cloud"), "lacks the key 'cloud'"),
        (lambda d: d["results"][0].update(coverage=10**400), "expected a number"),
        (
            lambda d: d["results"][0]["accuracy"]["cloud"].update(f_score={"near": 1}),
            "f_score is near; expected a number",
        ),
    ],
)
def test_a_changed_json_is_refused_by_key(change: object, message: str) -> None:
    data = json.loads(benchmark(full_row()).to_json())
    change(data)  # type: ignore[operator]
    with pytest.raises(DataError, match=re.escape(message)):
        BenchmarkResult.from_json(json.dumps(data))
    with pytest.raises(DataError, match="not JSON"):
        BenchmarkResult.from_json("{")


def test_errors_of_the_evaluation_become_the_reports_figures() -> None:
    truth = torch.full((4, 5), 0.5, dtype=torch.float64)
    estimate = DepthMap("a", truth + 0.002, truth, truth * 0 + 0.004, torch.eye(3))
    row = SurfaceAccuracy.of_errors(depth_errors(estimate, truth, truth * 0 + 0.001))
    assert row.median_abs_m == pytest.approx(0.002)
    assert row.rms_over_limit == pytest.approx(2)
    assert row.within_1_sigma == 1
    assert row.coverage == 1


def test_every_form_shows_the_same_cells(tmp_path: Path) -> None:
    result = benchmark(full_row(), failed_row())
    console, markdown = format_console_table(result), format_markdown_report(result)
    html_rows = [cells for cells in page(result, tmp_path).rows if cells]
    for table in benchmark_tables(result):
        for row in table.rows:
            cells = [column.cell(row) for column in table.columns]
            assert f"| {' | '.join(cells)} |" in markdown
            assert cells in html_rows
            assert any(line.split() == " ".join(cells).split() for line in console.splitlines())


def test_values_are_shown_in_the_units_of_their_columns() -> None:
    markdown = format_markdown_report(benchmark(full_row()))
    header, _, row = [line for line in markdown.splitlines() if line.startswith("|")][:3]
    shown = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    assert shown["Time (s)"] == "130"
    assert shown["Points"] == "1,812,333"
    assert shown["Coverage (%)"] == "83.0"
    assert shown["Median error (mm)"] == "0.900"
    assert shown["Median error (x limit)"] == "2.40"


def test_a_failed_row_says_why_and_holds_no_zeros(tmp_path: Path) -> None:
    result = benchmark(failed_row("weights are missing"))
    for text in (
        format_console_table(result),
        format_markdown_report(result),
        page(result, tmp_path).text,
    ):
        assert "weights are missing" in text
    row = next(r for r in page(result, tmp_path).rows if r and r[0] == "RoMa + full")
    assert row[1] == "failed"
    assert set(row[2:]) == {"-"}


def test_without_ground_truth_there_are_no_accuracy_tables() -> None:
    titles = [t.title for t in benchmark_tables(benchmark(replace(full_row(), accuracy=None)))]
    assert titles == ["Results", "Stage times"]


def test_only_the_first_table_names_pathways_of_which_nothing_is_known() -> None:
    silent = replace(failed_row(), timing=Timing({}))
    first, *others = benchmark_tables(benchmark(full_row(), silent))
    assert [row.pathway_name for row in first.rows] == ["LightGlue + full", "RoMa + full"]
    assert others
    assert all([row.pathway_name for row in t.rows] == ["LightGlue + full"] for t in others)


def test_stages_stand_in_the_order_in_which_they_run() -> None:
    every = Timing({stage: StageTiming(1.0, 1.0, 1.0) for stage in reversed(Stage)})
    table = benchmark_tables(benchmark(replace(full_row(), timing=every)))[1]
    names = [column.header.replace(" ", "_") for column in table.columns[1:]]
    assert names == [str(stage) for stage in Stage]


def test_the_console_report_is_ascii_and_fits_its_width() -> None:
    every = Timing({stage: StageTiming(123_456.0, 1.0, 1.0) for stage in Stage})
    scores = dict.fromkeys((0.001, 0.002, 0.005, 0.01), 1.0)
    cloud = CloudAccuracy(accuracy=scores, completeness=scores, f_score=scores)
    rows = [
        replace(
            full_row(),
            pathway_name=pathway.name,
            timing=every,
            accuracy=Accuracy(depth=surface(0.01, 10.0), height=surface(0.01, 10.0), cloud=cloud),
        )
        for pathway in PATHWAYS
    ]
    odd = replace(full_row(), pathway_name="A pathway née\u00d7² with a much too long name 深度")
    text = format_console_table(benchmark(*rows, odd, failed_row("déjà vu: 深度 " * 40)))
    assert text.isascii()
    assert max(len(line) for line in text.splitlines()) <= CONSOLE_WIDTH
    assert text.count("\nStage times\n") == 1  # all stages of all pathways in one block


def test_a_table_too_wide_for_the_console_goes_on_below_with_its_names() -> None:
    scores = {t / 1000: 1.0 for t in range(1, 15)}
    cloud = CloudAccuracy(accuracy=scores, completeness=scores, f_score=scores)
    text = format_console_table(benchmark(replace(full_row(), accuracy=Accuracy(cloud=cloud))))
    assert max(len(line) for line in text.splitlines()) <= CONSOLE_WIDTH
    blocks = [block for block in text.split("\n\n") if block.startswith("Point cloud")]
    assert len(blocks) > 1
    assert all("LightGlue + full" in block for block in blocks)
    assert sum(block.count("100.0") for block in blocks) == 3 * 14


def test_texts_cannot_break_out_of_markdown_or_html(tmp_path: Path) -> None:
    evil = replace(failed_row(EVIL), pathway_name=EVIL)
    result = replace(benchmark(evil), machine={EVIL: EVIL}, config_path=Path(EVIL))
    markdown = format_markdown_report(result)
    assert "<script" not in markdown.replace("\\<script", "")
    for line in markdown.splitlines():
        if line.startswith("| "):
            cells = re.split(r"(?<!\\)\|", line)
            assert len(cells) - 2 in {len(t.columns) for t in benchmark_tables(result)}
    shown = page(result, tmp_path)
    assert "script" not in shown.tags
    assert "alert('&')" in shown.text


def test_html_needs_nothing_but_itself(tmp_path: Path) -> None:
    depth = torch.full((30, 40), 0.5)
    figure = plot_depth_map(DepthMap("cam0", depth, depth, depth, torch.eye(3)))
    shown = page(benchmark(full_row(), failed_row()), tmp_path, figures={"Depth <1>": figure})
    assert len(shown.sources) == 4  # time and points, stages, accuracy, the given one
    assert "Depth <1>" in shown.text
    for source in shown.sources:
        kind, data = source.split(";base64,")
        content = base64.b64decode(data, validate=True)
        if kind == "data:image/svg+xml":
            assert ET.fromstring(content).tag.endswith("svg")  # noqa: S314
        else:
            assert kind == "data:image/png"
            assert content.startswith(b"\x89PNG")
    text = (tmp_path / "benchmark.html").read_text(encoding="utf-8")
    assert "script" not in shown.tags
    assert "link" not in shown.tags
    assert not re.search(r"url\(|@import|https?:", text)
    assert "prefers-color-scheme: dark" in text


def test_html_repeats_itself_byte_for_byte(tmp_path: Path) -> None:
    first, second = (
        save_html_report(benchmark(full_row()), tmp_path / name).read_bytes() for name in "ab"
    )
    assert first == second


def test_reports_are_files_in_the_folder(tmp_path: Path) -> None:
    result = benchmark(full_row())
    folder = tmp_path / "new" / "folder"
    markdown, data = save_markdown_report(result, folder), save_json_report(result, folder)
    assert markdown.read_text(encoding="utf-8") == format_markdown_report(result)
    assert BenchmarkResult.from_json(data.read_text(encoding="utf-8")) == result
    assert sorted(p.name for p in folder.iterdir()) == ["benchmark.json", "benchmark.md"]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DataError, match="cannot write"):
        save_markdown_report(benchmark(full_row()), blocked / "sub")
