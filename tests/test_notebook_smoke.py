"""Every code cell of every tutorial parses, and every name that it imports exists.

Standard library and pytest only, so that it runs where the notebook tools are not installed.
"""

import ast
import importlib
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    [
        *(
            p
            for p in (ROOT / "docs").rglob("*.ipynb")
            if not {"_build", ".ipynb_checkpoints"} & {*p.parts}
        ),
        *(ROOT / "notebooks_src").glob("*.py"),
    ]
)
HOSTED_ONLY = frozenset({"google.colab"})
"""Modules that exist only where a notebook is hosted."""

_CELL_MARK = re.compile(r"^# %%(?P<title>.*)$", re.MULTILINE)
_MAGIC_LINE = re.compile(r"^(?P<indent>\s*)(?:[!%]|\?)")


@dataclass(frozen=True, slots=True)
class CodeCell:
    """A code cell with the number that a reader counts, from 1 and over cells of all kinds."""

    number: int
    source: str


def read_code_cells(path: Path) -> list[CodeCell]:
    """Code cells of a notebook or of a percent script."""
    text = path.read_text(encoding="utf-8")
    cells = _notebook_cells(text) if path.suffix == ".ipynb" else _script_cells(text)
    return [
        CodeCell(number, source) for number, (kind, source) in enumerate(cells, 1) if kind == "code"
    ]


def _notebook_cells(text: str) -> Iterator[tuple[str, str]]:
    for cell in json.loads(text)["cells"]:
        yield cell["cell_type"], "".join(cell["source"])


def _script_cells(text: str) -> Iterator[tuple[str, str]]:
    marks = [*_CELL_MARK.finditer(text)]
    if head := text[: marks[0].start() if marks else None].strip():
        yield "code", head
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        kind = "markdown" if "[markdown]" in mark["title"] else "code"
        yield kind, text[mark.end() : following.start() if following else None].strip("\n")


def python_of(source: str) -> str:
    """A cell's Python: shell and magic lines become ``pass``, cells of another language nothing."""
    lines = source.splitlines()
    if lines and lines[0].startswith("%%") and not lines[0].startswith(("%%time", "%%capture")):
        return ""
    return "\n".join(
        f"{magic['indent']}pass" if (magic := _MAGIC_LINE.match(line)) else line for line in lines
    )


def syntax_faults(cells: list[CodeCell]) -> list[str]:
    """One line for each cell that does not parse."""
    faults = []
    for cell in cells:
        try:
            ast.parse(python_of(cell.source))
        except SyntaxError as error:
            faults.append(f"cell {cell.number}, line {error.lineno}: {error.msg}")
    return faults


def import_faults(cells: list[CodeCell]) -> list[str]:
    """One line for each import that does not resolve and each name that its module lacks."""
    faults = []
    for cell in cells:
        for node in ast.walk(ast.parse(python_of(cell.source))):
            faults += [f"cell {cell.number}: {fault}" for fault in _node_faults(node)]
    return faults


def _node_faults(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if not _is_allowed(alias.name) and not _module_exists(alias.name):
                yield f"no module {alias.name}"
    elif isinstance(node, ast.ImportFrom) and node.module and not _is_allowed(node.module):
        if not _module_exists(node.module):
            yield f"no module {node.module}"
            return
        module = importlib.import_module(node.module)
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            if not hasattr(module, alias.name) and not _module_exists(submodule):
                yield f"{node.module} has no {alias.name}"


def _is_allowed(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in HOSTED_ONLY)


def _module_exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing, or is a plain module
        return False


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_are_tutorials():
    assert {path.suffix for path in FILES} == {".ipynb", ".py"}


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_notebook_syntax(path):
    faults = syntax_faults(read_code_cells(path))
    assert not faults, f"{_name(path)}: " + "; ".join(faults)


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_notebook_imports(path):
    faults = import_faults(read_code_cells(path))
    assert not faults, f"{_name(path)}: " + "; ".join(faults)


BROKEN = [
    ("for x in:\n    pass", "cell 2, line 1: invalid syntax"),
    ("import no_such_module_here", "cell 2: no module no_such_module_here"),
    ("import json.no_such_part", "cell 2: no module json.no_such_part"),
    ("from pathlib import NoSuchPath", "cell 2: pathlib has no NoSuchPath"),
    ("def f():\n    from no_such_module_here import x", "cell 2: no module no_such_module_here"),
    ("!pip install x\nfrom pathlib import Pth", "cell 2: pathlib has no Pth"),
]
SOUND = """\
import sys
%matplotlib inline
if "google.colab" in sys.modules:
    from google.colab import drive
    !pip install something
import os.path
from xml import etree
from collections.abc import Callable
"""


def _write(path: Path, code: str) -> Path:
    """The same two cells as a notebook or as a script: prose, then ``code``."""
    if path.suffix == ".py":
        path.write_text(f"# %% [markdown]\n# Title\n\n# %%\n{code}\n")
        return path
    cells = [
        {"cell_type": "markdown", "source": ["Title"]},
        {"cell_type": "code", "source": code.splitlines(keepends=True)},
    ]
    path.write_text(json.dumps({"cells": cells}))
    return path


def _faults(path: Path) -> list[str]:
    cells = read_code_cells(path)
    return syntax_faults(cells) or import_faults(cells)


@pytest.mark.parametrize("file", ["broken.ipynb", "broken.py"])
@pytest.mark.parametrize(("code", "fault"), BROKEN)
def test_broken_cell_is_reported_with_its_number(tmp_path, file, code, fault):
    assert _faults(_write(tmp_path / file, code)) == [fault]


@pytest.mark.parametrize("file", ["sound.ipynb", "sound.py"])
def test_magics_and_hosted_modules_are_no_fault(tmp_path, file):
    assert _faults(_write(tmp_path / file, SOUND)) == []


def test_cell_in_another_language_is_skipped(tmp_path):
    assert _faults(_write(tmp_path / "shell.ipynb", "%%bash\nls *.png | wc -l")) == []
