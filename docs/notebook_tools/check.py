"""The read-only check that scripts and notebooks agree: one line for each fault."""

import json
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from .api import api_faults, api_hash
from .links import link_faults, links
from .source import (
    KERNELSPEC,
    LANGUAGE,
    METADATA_KEY,
    Cell,
    Project,
    cell_ids,
    code_hash,
    notebook_cells,
    read_script,
)

MAX_NOTEBOOK_BYTES = 3_000_000
"""Larger pages load slowly and bloat the repository's history."""

_COLAB_URL = re.compile(r"https?://colab\.research\.google\.com/(?!assets/)[^\s)\"'>]+")
_INSTALL_URL = re.compile(r"git\+https?://[^\s\"']+")
# An absolute POSIX path of two components or more, or a Windows drive; not a URL, a closing HTML
# tag, a ratio such as points/m2/s or a relative path.
_ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/<~\\-])/[\w.+-]+/[\w.+/-]+|(?<!\w)[A-Za-z]:\\[\w.+-]+|file:///\S+"
)
_ENCODED = re.compile(r"[A-Za-z0-9+/]{200,}={0,2}")
"""Pictures and arrays within HTML, as base64: nobody reads them, and they hold slashes."""
_MEMORY_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_BUILT = frozenset({"_build", "jupyter_execute", ".ipynb_checkpoints"})
"""Folders of what programs leave."""
_REBUILD = "run `tox run -e notebooks`"


def find_faults(project: Project) -> list[str]:
    """All faults of all tutorials of a project, each one line; empty when all is well."""
    names = project.names()
    if not names:
        return [f"{project.script_folder.name}: holds no script"]
    faults = [fault for name in names for fault in _pair_faults(project, name)]
    return [*faults, *_stray_faults(project)]


def _stray_faults(project: Project) -> Iterator[str]:
    """Tutorials where nobody builds them or looks for their partner."""
    scripts, notebooks = project.script_folder, project.notebook_folder
    found = [(path, scripts) for path in scripts.rglob("*.py")]
    for folder in (scripts, notebooks.parent):
        found += [(path, notebooks) for path in folder.rglob("*.ipynb")]
    for path, place in sorted(found):
        shown = path.relative_to(project.root)
        if path.parent != place and not _BUILT & {*shown.parts}:
            wanted = place.relative_to(project.root).as_posix()
            yield f"{shown.as_posix()}: lies outside of {wanted}, so it has no partner"


def _pair_faults(project: Project, name: str) -> Iterator[str]:
    script, path = project.script(name), project.notebook(name)
    shown = path.relative_to(project.root).as_posix()
    if not script.is_file():
        yield f"{shown}: has no script {script.relative_to(project.root).as_posix()}"
        return
    if not path.is_file():
        source = script.relative_to(project.root).as_posix()
        yield f"{source}: has no notebook {shown}; {_REBUILD}"
        return
    try:
        notebook = nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        yield f"{shown}: is no valid notebook ({str(error).splitlines()[0]}); {_REBUILD}"
        return
    for fault in _notebook_faults(project, name, notebook, path):
        yield f"{shown}: {fault}"


def _notebook_faults(
    project: Project, name: str, notebook: NotebookNode, path: Path
) -> Iterator[str]:
    cells = notebook_cells(notebook)
    yield from _cell_faults(read_script(project.script(name)), cells)
    recorded = notebook.metadata.get(METADATA_KEY, {})
    if recorded.get("code_sha256") != code_hash(cells):
        yield f"its outputs belong to other code (the recorded hash is stale); {_REBUILD}"
    if recorded.get("api_sha256") != api_hash(cells):
        yield f"its outputs belong to another library (the API it uses has changed); {_REBUILD}"
    yield from api_faults(cells)
    yield from link_faults(project, name, cells)
    yield from _count_faults(notebook)
    yield from _badge_faults(project.colab_url(name), cells)
    yield from _install_faults(project.install_url, cells)
    yield from _metadata_faults(notebook, cells)
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", ()):
            yield from (f"cell {number} {fault}" for fault in _output_faults(output))
    if path.stat().st_size > MAX_NOTEBOOK_BYTES:
        yield f"has {path.stat().st_size / 1e6:.1f} MB; at most {MAX_NOTEBOOK_BYTES / 1e6:.0f} MB"


def _cell_faults(script: list[Cell], notebook: list[Cell]) -> Iterator[str]:
    """The first cell that differs says it all: those behind it may only have moved."""
    for number, (wanted, found) in enumerate(zip_longest(script, notebook), start=1):
        if wanted == found:
            continue
        if wanted is None:
            yield f"cell {number} is not in the script; {_REBUILD}"
        elif found is None:
            yield f"lacks cell {number} of the script; {_REBUILD}"
        elif wanted.source == found.source and wanted.kind == found.kind:
            yield f"cell {number} has tags {found.tags}, in the script {wanted.tags}; {_REBUILD}"
        else:
            yield f"cell {number} ({found.kind}) differs from the script's; {_REBUILD}"
        return


def _count_faults(notebook: NotebookNode) -> Iterator[str]:
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        yield f"was not executed once from top to bottom (execution counts {counts}); {_REBUILD}"


def _badge_faults(url: str, cells: list[Cell]) -> Iterator[str]:
    if not cells or url not in links(cells[0].source):
        yield f"its first cell lacks the Colab badge that points at {url}"
    for number, cell in enumerate(cells, start=1):
        for found in _COLAB_URL.findall(cell.source):
            if found != url:
                yield f"cell {number} has a Colab link to {found}, not to {url}"


def _install_faults(url: str, cells: list[Cell]) -> Iterator[str]:
    for number, cell in enumerate(cells, start=1):
        for found in _INSTALL_URL.findall(cell.source):
            if found != url:
                yield f"cell {number} installs from {found}, not from {url}"


def _metadata_faults(notebook: NotebookNode, cells: list[Cell]) -> Iterator[str]:
    if notebook.metadata.get("kernelspec") != KERNELSPEC:
        yield f"its kernelspec is not {KERNELSPEC['name']!r} as built; {_REBUILD}"
    more = sorted(set(notebook.metadata) - {"kernelspec", "language_info", METADATA_KEY})
    if more:
        yield f"has metadata that no build writes ({', '.join(more)}); {_REBUILD}"
    if notebook.metadata.get("language_info") != LANGUAGE:
        yield f"its language_info is not {LANGUAGE} as built; {_REBUILD}"
    if [cell.get("id") for cell in notebook.cells] != cell_ids(cells):
        yield f"its cell ids are not the built ones; {_REBUILD}"
    for number, cell in enumerate(notebook.cells, start=1):
        extra = sorted(set(cell.metadata) - {"tags"})
        if extra:
            yield f"cell {number} has metadata that no build writes ({', '.join(extra)})"


def _output_faults(output: NotebookNode) -> Iterator[str]:
    if output.output_type == "error":
        yield f"shows an error ({output.ename}: {output.evalue})"
        return
    if output.output_type == "stream" and output.name == "stderr":
        yield f"shows standard error ({output.text.strip().splitlines()[0]})"
    for text in _texts(output):
        if "Traceback (most recent call last)" in text:
            yield "shows a traceback"
        if path := _ABSOLUTE_PATH.search(text):
            yield f"shows an absolute path ({path[0]})"
        if address := _MEMORY_ADDRESS.search(text):
            yield f"shows a memory address ({address[0]}), which changes from run to run"


def _texts(output: NotebookNode) -> Iterator[str]:
    """All that a reader reads; pictures are left out."""
    if output.output_type == "stream":
        yield output.text
    for kind, value in output.get("data", {}).items():
        if not kind.startswith("image/") or kind == "image/svg+xml":
            yield _ENCODED.sub("", _as_text(value))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
