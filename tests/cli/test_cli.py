"""The command line as a user meets it: one message, the right exit code, no traceback."""

import json
import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from aquamvs import PipelineConfig
from aquamvs.cli import build_parser, main
from aquamvs.cli.progress import RunBars
from aquamvs.pathways import PipelineMode, Stage
from aquamvs.pipeline import FrameStatus


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert all(command in text for command in ("run", "benchmark", "example"))


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run"], ["benchmark", "c", "--frame", "x"]])
def test_wrong_usage_exits_with_two(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_a_missing_config_is_one_line_and_exit_code_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(tmp_path / "none.yaml")]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("aquamvs: error: ")
    assert shown.err.count("\n") == 1


def test_run_reconstructs_resumes_and_reports_failures(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = yaml.safe_load((tiny_dataset / "config.yaml").read_text())
    data["output_dir"] = str(tmp_path / "output")
    data["pipeline_mode"] = "sparse"
    for key in ("calibration_path", "camera_input_map"):
        value = data[key]
        data[key] = (
            str(tiny_dataset / value)
            if isinstance(value, str)
            else {name: str(tiny_dataset / place) for name, place in value.items()}
        )
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(data))
    assert main(["run", str(config), "-q"]) == 0
    assert "done" in capsys.readouterr().out
    assert main(["run", str(config), "-q"]) == 0
    assert "skipped" in capsys.readouterr().out
    off = {"reconstruction": {"region_of_interest": [50.0, 50.0, 51.0, 51.0]}}
    config.write_text(yaml.safe_dump(data | {"pipeline_mode": "surface"} | off))
    assert main(["run", str(config), "-q"]) == 1
    shown = capsys.readouterr()
    assert "match nowhere" in shown.out
    assert "1 of 1 frames failed" in shown.err
    data |= {"matcher_type": "roma", "dense_matching": {"weights": "official"}}
    config.write_text(yaml.safe_dump(data))
    assert main(["run", str(config), "-q"]) == 2
    assert "romav2" in capsys.readouterr().err
    assert main(["run", str(config), "--device", "abacus"]) == 2
    assert "expected cpu, cuda" in capsys.readouterr().err


def test_a_fault_of_the_program_shows_in_log_and_exit_code(
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise TypeError("a fault")

    monkeypatch.setattr("aquamvs.pipeline.runner.reconstruct", broken)
    config = PipelineConfig.from_yaml(tiny_dataset / "config.yaml")
    config.model_copy(update={"output_dir": tmp_path / "output"}).to_yaml(tmp_path / "c.yaml")
    assert main(["run", str(tmp_path / "c.yaml"), "--json"]) == 3
    shown = capsys.readouterr()
    frame = json.loads(shown.out)["frames"][0]
    assert frame["error"] == "TypeError: a fault"
    assert "in broken" in frame["traceback"]
    assert "in broken" in caplog.text
    assert "not foreseen" in shown.err


def test_benchmark_prints_the_table_and_the_reports_places(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["benchmark", str(tiny_dataset / "config.yaml"), "-q", "--output-dir", str(tmp_path)]
    assert main([*base, "--pathways", "SIFT + sparse"]) == 0
    shown = capsys.readouterr().out
    assert "SIFT + sparse" in shown
    assert Path(shown.strip().splitlines()[-1]).is_file()
    assert main([*base, "--pathways", "RoMa + nothing"]) == 2


def test_example_refuses_a_folder_that_holds_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious.txt").write_text("data")
    assert main(["example", str(tmp_path), "-q"]) == 2
    assert str(tmp_path) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    assert main(["example", str(tmp_path / "new"), "--frames", "0"]) == 2


def test_the_parser_and_the_package_import_nothing_heavy() -> None:
    code = (
        "import sys, aquamvs, aquamvs.cli; aquamvs.cli.build_parser();"
        "heavy = {'torch', 'cv2', 'numpy', 'matplotlib', 'kornia', 'scipy'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_commands_of_the_parser_all_run_something() -> None:
    parser = build_parser()
    assert parser.parse_args(["example", "out"]).command == "example"


def test_the_published_dataset_is_fetched_by_its_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fetch(cache_dir: Path, *, progress: bool) -> Path:
        assert not progress
        return cache_dir / "dataset"

    monkeypatch.setattr("aquamvs.datasets.fetch_published", fetch)
    assert main(["example", str(tmp_path), "--published", "-q"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "dataset")


def test_verbose_tells_what_this_package_does_and_not_what_others_do(
    tiny_dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("aquamvs")
    try:
        arguments = ["export-refs", str(tiny_dataset / "config.yaml"), "-v"]
        assert main([*arguments, "--output-dir", str(tmp_path)]) == 0
    finally:
        logger.setLevel(logging.NOTSET)
    assert f"wrote {tmp_path / 'cam0.png'}" in caplog.messages
    assert {record.name.split(".")[0] for record in caplog.records} == {"aquamvs"}


def test_weights_lists_what_is_present_and_says_how_to_do_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AQUAMVS_CACHE", str(tmp_path))
    assert main(["weights"]) == 0
    shown = capsys.readouterr().out
    lines = {line.split("  ")[0]: line for line in shown.splitlines()}
    assert "present" in lines["LightGlue (bundled)"]
    assert "present" in lines["RoMa-style (bundled)"]
    assert "missing" in lines["lightglue-aliked"]
    assert str(tmp_path) in shown
    assert main(["weights", "--fetch", "superpoint-v1"]) == 2
    assert "weights: bundled" in capsys.readouterr().err
    assert main(["weights", "--fetch", "superglue"]) == 2
    assert "expected one of" in capsys.readouterr().err


def test_run_prints_one_object_for_machines(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = PipelineConfig.from_yaml(tiny_dataset / "config.yaml")
    path = tmp_path / "config.yaml"
    config.model_copy(
        update={"output_dir": tmp_path / "output", "pipeline_mode": PipelineMode.SPARSE}
    ).to_yaml(path)
    assert main(["run", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["done"], found["failed"], found["frames"][0]["status"]) == (1, 0, "done")
    assert found["predicted_peak_memory_mb"] > 0
    assert main(["run", str(path), "--json", "--workers", "0"]) == 2
    assert "number of workers is 0" in json.loads(capsys.readouterr().out)["error"]


def test_a_run_that_cannot_fit_is_refused_before_it_starts(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = yaml.safe_load((tiny_dataset / "config.yaml").read_text())
    data |= {"pipeline_mode": "surface", "output_dir": str(tmp_path / "output")}
    data["calibration_path"] = str(tiny_dataset / "calibration.json")
    data["camera_input_map"] = {
        name: str(tiny_dataset / place) for name, place in data["camera_input_map"].items()
    }
    data["reconstruction"] = {"grid_resolution": 1e-5}
    data["runtime"] = {"max_memory_gb": 8}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(data))
    assert main(["run", str(tmp_path / "config.yaml")]) == 2
    assert "more than runtime.max_memory_gb = 8" in capsys.readouterr().err
    data["reconstruction"] = {}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(data))
    assert main(["run", str(tmp_path / "config.yaml"), "--workers", "100000"]) == 2
    assert "100000 at a time; this machine has" in capsys.readouterr().err
    assert not (tmp_path / "output").exists()


def test_a_bar_of_all_frames_tells_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bars = RunBars(4)
    bars.told(FrameStatus(1, "skipped", Path("x")), 1, 4)
    for ended in (2, 3):
        bars(Stage.FUSION, 0, 2)
        time.sleep(1.0)
        bars.told(FrameStatus(ended, "done", Path("x")), ended, 4)
    bars.close()
    shown = capsys.readouterr().err
    assert re.search(r"frames:  50%.* 2/4 \[\d\d:\d\d<(?!00:00)\d\d:\d\d, ", shown)
    assert "frames:  75%" in shown


def test_verbs_over_many_files_tell_the_time_that_is_left(
    tiny_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["temporal-filter", str(tiny_dataset / "images"), "--window", "1"]
    arguments += ["--output-dir", str(tmp_path)]
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    assert main(arguments) == 0
    shown = capsys.readouterr().err
    assert "cam4: frame 0: 100%" in shown
    assert re.search(r"cam0: frame 0:  20%.* 1/5 \[\d\d:\d\d<\d\d:\d\d", shown)
    assert main([*arguments, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_misspelt_option_is_answered_by_its_own_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "config.yaml", "--wrokers", "2"])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert told.startswith("usage: aquamvs run")
    assert "unrecognized arguments: --wrokers 2; did you mean --workers?" in told


@pytest.mark.parametrize(
    "line",
    [
        "init --input-dir v --pattern ^([a-z]+)- --calibration c --output-dir o --preset fast",
        "init --video-dir v --pattern (.*) --calibration c --output-dir o --config c.yaml",
        "run config.yaml -v --device cuda",
        "run config.yaml --quiet",
        "export-refs config.yaml --frame 3",
        "benchmark config.yaml --frame 0",
        "temporal-filter v.mp4 --output-dir o --window 90 --framestep 5 --window-step 3",
        "temporal-filter v --format mp4 --output-fps 25 --exact-seek",
        "export-mesh surface.ply --format gltf --simplify 10000",
        "export-mesh --input-dir output --format obj --output-dir meshes",
    ],
)
def test_the_command_lines_of_1x_are_understood(line: str) -> None:
    assert build_parser().parse_args(line.split()).command == line.split()[0]


def test_a_folder_that_may_not_be_entered_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "closed/height_map.npz")

    monkeypatch.setattr("aquamvs.comparison.compare_files", denied)
    assert main(["evaluate", "closed/height_map.npz", "truth.npz"]) == 2
    told = capsys.readouterr().err
    assert told == "aquamvs: error: closed/height_map.npz cannot be used: Permission denied\n"
