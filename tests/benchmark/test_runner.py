"""The benchmark end to end on a tiny frame."""

import json
import math
import socket
from pathlib import Path

import pytest

from aquamvs.benchmark import BenchmarkResult, format_console_table, run_benchmark
from aquamvs.errors import ConfigError, DataError
from aquamvs.pathways import PATHWAYS


@pytest.fixture(scope="module")
def result(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> BenchmarkResult:
    config = tiny_dataset / "official.yaml"
    text = (tiny_dataset / "config.yaml").read_text()
    config.write_text(text + "dense_matching: {weights: official}\n")  # needs an absent package
    return run_benchmark(
        config,
        pathways=["SIFT + sparse", "SIFT + full", "surface sweep", "RoMa + full"],
        output_dir=tmp_path_factory.mktemp("out"),
    )


def test_rows_come_in_the_tables_order_whatever_was_asked(result: BenchmarkResult) -> None:
    names = [row.pathway_name for row in result.results]
    assert names == ["RoMa + full", "SIFT + sparse", "SIFT + full", "Surface sweep"]


def test_finished_rows_hold_time_points_density_and_accuracy(result: BenchmarkResult) -> None:
    stages = {pathway.name: pathway.stages for pathway in PATHWAYS}
    for row in result.results:
        if not row.ok:
            continue
        assert row.error is None
        assert list(row.timing.stages) == list(stages[row.pathway_name])
        assert row.timing.total_time_ms > 0
        assert row.point_count is not None
        assert row.point_count > 100
        assert row.cloud_density > 0
        assert row.accuracy is not None
        assert row.accuracy.cloud is not None
        assert row.accuracy.cloud.f_score[0.01] > 0.2
        if row.pathway_name != "SIFT + sparse":
            assert row.accuracy.depth is not None
            assert row.accuracy.depth.median_abs_m < 0.005
            assert row.accuracy.depth.median_over_limit is not None
            assert 0.3 < (row.coverage or 0) <= 1


def test_a_pathway_that_cannot_run_is_a_failed_row_with_its_reason(
    result: BenchmarkResult,
) -> None:
    (row,) = result.failed
    assert row.pathway_name == "RoMa + full"
    assert row.error is not None
    assert "romav2" in row.error
    assert row.point_count is None
    assert math.isnan(row.cloud_density)
    assert row.accuracy is None
    assert row.error.split(",")[0] in " ".join(format_console_table(result).split())
    assert row.weights == "RoMa v2 (official)"


def test_reports_and_results_lie_where_the_contract_says(result: BenchmarkResult) -> None:
    for name in ("benchmark.md", "benchmark.json", "benchmark.html"):
        assert (result.output_dir / name).is_file()
    again = BenchmarkResult.from_json((result.output_dir / "benchmark.json").read_text())
    assert [row.point_count for row in again.results] == [row.point_count for row in result.results]
    sweep = result.output_dir / "surface_sweep"
    assert (sweep / "surface" / "height_map.npz").is_file()
    assert json.loads((sweep / "report.json").read_text())["pathway"] == "Surface sweep"
    html = (result.output_dir / "benchmark.html").read_text()
    assert "<script" not in html
    assert "Surface sweep" in html
    assert result.machine["processor"] in html


def test_the_four_matcher_pathways_finish_without_a_network(
    tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("AQUAMVS_CACHE", str(tmp_path / "empty"))
    config = tiny_dataset / "few_pairs.yaml"
    text = (tiny_dataset / "config.yaml").read_text()
    config.write_text(text + "sparse_matching: {num_neighbors: 1, include_center: false}\n")
    names = ["LightGlue + sparse", "LightGlue + full", "RoMa + sparse", "RoMa + full"]
    result = run_benchmark(config, pathways=names, output_dir=tmp_path)
    assert [(row.pathway_name, row.error) for row in result.results] == [
        (name, None) for name in names
    ]
    labels = [row.weights for row in result.results]
    assert labels == ["LightGlue (bundled)"] * 2 + ["RoMa-style (bundled)"] * 2
    for text in (format_console_table(result), (result.output_dir / "benchmark.html").read_text()):
        assert all(label in text for label in labels)
    for row in result.results:
        assert row.output_dir is not None
        report = json.loads((row.output_dir / "report.json").read_text())
        assert report["weights"] == row.weights


def test_unknown_pathways_and_frames_are_refused_before_work(
    tiny_dataset: Path, tmp_path: Path
) -> None:
    config = tiny_dataset / "config.yaml"
    with pytest.raises(ConfigError, match="no pathway is called 'ORB"):
        run_benchmark(config, pathways=["ORB + full"], output_dir=tmp_path)
    with pytest.raises(DataError, match="frame 7 does not exist"):
        run_benchmark(config, frame=7, output_dir=tmp_path)
    assert not any(tmp_path.iterdir())
