"""The scripts in benchmarks/ import what exists: nothing else runs most of them."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_can_be_loaded(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(script.parent)
    assert runpy.run_path(str(script), run_name="loaded")["__doc__"]


@pytest.mark.slow
def test_the_check_of_gpus_can_be_tried_on_the_processor(tmp_path: Path) -> None:
    """On a GPU, which is lent for minutes, nothing of the script itself may fail."""
    script = next(path for path in SCRIPTS if path.stem == "gpu")
    command = [sys.executable, script, "--device", "cpu", "--scale", "tiny", "--data", tmp_path]
    parts = ["projection", "surface", "surface_times"]
    run = subprocess.run(
        [*command, "--repeats", "1", "--parts", *parts], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "surface_sweep" in run.stdout
