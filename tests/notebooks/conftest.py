"""A small repository with one tutorial, built where a test may break it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from notebook_tools.build import build_notebook
from notebook_tools.source import Project

PYPROJECT = """
[project.urls]
Repository = "https://github.com/someone/Tank"
[tool.aquamvs]
branch = "trunk"
"""
TINY = """\
# %% [markdown]
# [![Open In Colab](https://example.org/badge.svg)]({badge})
# # Tiny
#
# See [this page](tiny.ipynb#top) and [the script](../../notebooks_src/tiny.py).

# %%
from pathlib import Path

from aquamvs.pixels import to_normalized

note = Path("note.txt")
note.write_text("wet")
print("written to", note.resolve())

# %%
print(note.read_text())
note.stat().st_size

# %% [markdown]
# What follows differs from run to run.

# %% tags=["measured"]
import time

print(time.perf_counter_ns())

# %%
print(note.read_text())
"""

Edit = Callable[[Callable[[dict[str, Any]], None]], None]


@pytest.fixture
def write_project(tmp_path: Path) -> Callable[[str], Project]:
    """Makes a repository whose one script ``tiny`` holds the given text."""

    def write(script: str) -> Project:
        (tmp_path / "pyproject.toml").write_text(PYPROJECT)
        project = Project.read(tmp_path)
        project.script_folder.mkdir(exist_ok=True)
        badge = project.colab_url("tiny")
        project.script("tiny").write_text(script.replace("{badge}", badge))
        return project

    return write


@pytest.fixture(scope="session")
def built_notebook(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Text of the notebook built from ``TINY``: building takes seconds, so it is done once."""
    root = tmp_path_factory.mktemp("built")
    (root / "pyproject.toml").write_text(PYPROJECT)
    project = Project.read(root)
    project.script_folder.mkdir()
    project.script("tiny").write_text(TINY.replace("{badge}", project.colab_url("tiny")))
    return build_notebook(project, "tiny").read_text()


@pytest.fixture
def project(write_project: Callable[[str], Project], built_notebook: str) -> Project:
    """A repository whose script and notebook agree."""
    project = write_project(TINY)
    project.notebook_folder.mkdir(parents=True)
    project.notebook("tiny").write_text(built_notebook)
    return project


@pytest.fixture
def edit_notebook(project: Project) -> Edit:
    """Changes the built notebook in place through a function on its JSON."""

    def edit(change: Callable[[dict[str, Any]], None]) -> None:
        path = project.notebook("tiny")
        notebook = json.loads(path.read_text())
        change(notebook)
        path.write_text(json.dumps(notebook))

    return edit
