"""The tutorials of this repository: notebooks that agree with scripts, scripts that run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from notebook_tools.check import find_faults
from notebook_tools.source import Project

PROJECT = Project.read(Path(__file__).resolve().parents[2])
SCRIPTS = sorted(PROJECT.script_folder.glob("*.py"))


def test_notebooks_agree_with_their_scripts():
    assert find_faults(PROJECT) == []


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_runs_as_a_plain_program(script, tmp_path):
    """In an empty folder, on the tiny example, saying nothing on standard error."""
    code, count = re.subn(
        '^SCALE = "small"$',
        'SCALE = "tiny"',
        script.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert count == 1, "the scale is a switch at the top of every tutorial"
    program = tmp_path / script.name
    program.write_text(code, encoding="utf-8")
    programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
    finished = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=os.environ | {"PATH": os.pathsep.join(programs), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
