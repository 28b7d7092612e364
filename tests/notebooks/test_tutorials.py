"""The tutorials of this repository: notebooks that agree with scripts, scripts that run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from notebook_tools.check import find_faults
from notebook_tools.source import Project

from aquamvs.datasets import make_example
from aquamvs.datasets.published import ARCHIVE
from aquamvs.io import CACHE_VARIABLE

PROJECT = Project.read(Path(__file__).resolve().parents[2])
SCRIPTS = sorted(PROJECT.script_folder.glob("*.py"))


def test_notebooks_agree_with_their_scripts() -> None:
    assert find_faults(PROJECT) == []


def run_script(
    script: Path, folder: Path, switches: dict[str, str], **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a tutorial as a plain program in a folder, with some of its switches changed."""
    code = script.read_text(encoding="utf-8")
    for name, value in switches.items():
        code, count = re.subn(f"^{name} = .*$", f"{name} = {value}", code, flags=re.MULTILINE)
        assert count == 1, f"{name} is a switch at the top of {script.name}"
    program = folder / script.name
    program.write_text(code, encoding="utf-8")
    programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
    settings = {"PATH": os.pathsep.join(programs), "MPLBACKEND": "Agg"} | environment
    return subprocess.run(
        [sys.executable, str(program)],
        cwd=folder,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_runs_as_a_plain_program(script: Path, tmp_path: Path) -> None:
    """In an empty folder, on the tiny example, saying nothing on standard error."""
    finished = run_script(script, tmp_path, {"SCALE": '"tiny"'})
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""


WITH_PUBLISHED = [script for script in SCRIPTS if script.stem in ("benchmark", "notebook")]


@pytest.mark.slow
@pytest.mark.parametrize("script", WITH_PUBLISHED, ids=lambda path: path.stem)
def test_script_runs_on_a_published_dataset_without_truth(script: Path, tmp_path: Path) -> None:
    """A dataset in the cache stands for the download; the benchmark runs its fastest pathways."""
    cached = make_example(tmp_path / "cache" / Path(ARCHIVE).stem, scale="tiny")
    shutil.rmtree(cached / "ground_truth")
    cache = str(tmp_path / "cache")
    switches = {"PUBLISHED": "True"}
    if script.stem == "benchmark":
        pathways = '"--pathways", "SIFT + sparse,Surface sweep"'
        switches["command"] = f'["aquamvs", "benchmark", str(CONFIG), {pathways}]'
    finished = run_script(script, tmp_path, switches, **{CACHE_VARIABLE: cache})
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert not (tmp_path / "demo" / "example-small").exists()


@pytest.mark.parametrize("script", WITH_PUBLISHED, ids=lambda path: path.stem)
def test_published_dataset_without_a_network_ends_with_what_to_do(
    script: Path, tmp_path: Path
) -> None:
    nowhere = "http://127.0.0.1:9"
    finished = run_script(
        script,
        tmp_path,
        {"PUBLISHED": "True"},
        HTTPS_PROXY=nowhere,
        HTTP_PROXY=nowhere,
        ALL_PROXY=nowhere,
        **{CACHE_VARIABLE: str(tmp_path / "cache")},
    )
    assert finished.returncode == 1
    last = finished.stderr.strip().splitlines()[-1]
    assert last.startswith("aquamvs.errors.DataError: cannot fetch")
    assert "connect to the network" in last
    assert "`aquamvs example`" in last
