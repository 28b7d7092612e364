"""What a script and its notebook share: where they lie, their cells, ids, hash and badge."""

import hashlib
import json
import tomllib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import jupytext
from nbformat import NotebookNode

MEASURED = "measured"
"""Tag of the cells whose outputs show times or memory and so change from run to run."""

METADATA_KEY = "aquamvs"
"""Where a notebook's metadata keep what the build recorded."""

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
"""Fixed, so that the environment in which a notebook was built does not show in it."""

LANGUAGE = {"name": "python"}
"""Without the version, for the same reason."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The part of a cell that a script can hold.

    Attributes:
        kind: ``"code"`` or ``"markdown"``.
        source: Its text.
        tags: Jupyter tags, in order.
    """

    kind: str
    source: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Project:
    """Where the tutorials of one repository lie, and where it is published.

    Attributes:
        root: Folder that holds ``pyproject.toml``.
        repository: ``owner/name`` on GitHub, from ``project.urls.Repository``.
        branch: The published branch, from ``tool.aquamvs.branch``.
    """

    root: Path
    repository: str
    branch: str

    @classmethod
    def read(cls, root: Path) -> Self:
        """Read slug and branch from ``pyproject.toml``, the one place that names them."""
        table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        url = urlsplit(table["project"]["urls"]["Repository"])
        return cls(root, url.path.strip("/"), table["tool"]["aquamvs"]["branch"])

    @property
    def script_folder(self) -> Path:
        """Folder of the percent scripts."""
        return self.root / "notebooks_src"

    @property
    def notebook_folder(self) -> Path:
        """Folder of the built notebooks."""
        return self.root / "docs" / "tutorial"

    def names(self) -> list[str]:
        """Stems of all scripts and notebooks, whether or not each has its partner."""
        files = [*self.script_folder.glob("*.py"), *self.notebook_folder.glob("*.ipynb")]
        return sorted({path.stem for path in files})

    def script(self, name: str) -> Path:
        """Path of a tutorial's script."""
        return self.script_folder / f"{name}.py"

    def notebook(self, name: str) -> Path:
        """Path of a tutorial's notebook."""
        return self.notebook_folder / f"{name}.ipynb"

    @property
    def install_url(self) -> str:
        """What pip installs on Colab: the published branch."""
        return f"git+https://github.com/{self.repository}@{self.branch}"

    def colab_url(self, name: str) -> str:
        """Address that opens a tutorial's published notebook on Colab."""
        path = self.notebook(name).relative_to(self.root).as_posix()
        return (
            f"https://colab.research.google.com/github/{self.repository}/blob/{self.branch}/{path}"
        )


def read_script(path: Path) -> list[Cell]:
    """Cells of a percent script."""
    return notebook_cells(jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent"))


def notebook_cells(notebook: NotebookNode) -> list[Cell]:
    """The cells of a notebook, without ids and outputs."""
    return [
        Cell(cell.cell_type, cell.source, tuple(cell.metadata.get("tags", ())))
        for cell in notebook.cells
    ]


def cell_ids(cells: Iterable[Cell]) -> list[str]:
    """Ids that depend on nothing but the content, so that a rebuild changes no id.

    Equal cells are told apart by their order.
    """
    seen: Counter[str] = Counter()
    ids = []
    for cell in cells:
        digest = hashlib.sha256(f"{cell.kind}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] += 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids


def code_hash(cells: Iterable[Cell]) -> str:
    """SHA-256 of the code cells, in order, as the build records it."""
    code = [cell.source for cell in cells if cell.kind == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def without_measured_outputs(notebook: dict[str, Any]) -> dict[str, Any]:
    """A notebook less the outputs that may differ between two builds."""
    cells = [
        cell | {"outputs": []} if MEASURED in cell["metadata"].get("tags", ()) else cell
        for cell in notebook["cells"]
    ]
    return notebook | {"cells": cells}
