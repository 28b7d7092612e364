"""The pairing in jupytext.toml carries edits across without losing tags or outputs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from notebook_tools.build import unexecuted
from notebook_tools.check import find_faults
from notebook_tools.source import read_script

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sync(project):
    """Runs ``jupytext --sync`` on one side of the pair, as if that side had just been saved."""
    shutil.copy(ROOT / "jupytext.toml", project.root)

    def run(path):
        for other in (project.script("tiny"), project.notebook("tiny")):
            os.utime(other, (1, 1))
        os.utime(path)
        subprocess.run(
            [sys.executable, "-m", "jupytext", "--quiet", "--sync", str(path)],
            check=True,
            cwd=project.root,
            timeout=60,
        )

    return run


def test_sync_of_a_built_pair_changes_nothing_in_the_script(project, sync):
    before = project.script("tiny").read_text()
    sync(project.notebook("tiny"))
    assert project.script("tiny").read_text() == before


def test_edit_of_the_notebook_reaches_the_script(project, sync, edit_notebook):
    edit_notebook(lambda nb: nb["cells"][3].update(source=["New prose."]))
    sync(project.notebook("tiny"))
    assert "# New prose." in project.script("tiny").read_text()
    assert '# %% tags=["measured"]' in project.script("tiny").read_text()


def test_edit_of_the_script_reaches_the_notebook_whose_outputs_are_then_stale(project, sync):
    script = project.script("tiny")
    script.write_text(script.read_text().replace('"wet"', '"dry"'))
    sync(script)
    source = json.loads(project.notebook("tiny").read_text())["cells"][1]["source"]
    assert 'note.write_text("dry")\n' in source
    assert any("recorded hash is stale" in fault for fault in find_faults(project))


def test_sync_of_an_unchanged_script_leaves_the_notebook_without_fault(project, sync):
    sync(project.script("tiny"))
    assert find_faults(project) == []


@pytest.mark.parametrize(
    "tutorial", sorted((ROOT / "notebooks_src").glob("*.py")), ids=lambda path: path.stem
)
def test_sync_of_a_tutorial_changes_neither_side(project, sync, tutorial):
    """Cells that begin or end with a function would: ruff and jupytext space these differently."""
    script, notebook = project.script("tiny"), project.notebook("tiny")
    script.write_text(tutorial.read_text())
    notebook.write_text(nbformat.writes(unexecuted(read_script(script))) + "\n")
    before = script.read_text(), notebook.read_text()
    sync(notebook)
    sync(script)
    assert (script.read_text(), notebook.read_text()) == before
