"""Build a notebook: execute the script's cells and keep what they show, and nothing else."""

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from PIL import Image

from .api import api_hash
from .source import (
    KERNELSPEC,
    LANGUAGE,
    METADATA_KEY,
    Cell,
    Project,
    cell_ids,
    code_hash,
    read_script,
)

CELL_TIMEOUT_S = 900
"""A tutorial takes minutes as a whole; a cell that needs longer than this hangs."""

JPEG_QUALITY = 92
"""Without colour subsampling, text and thin lines stay sharp."""

_ANSI_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class BuildError(Exception):
    """A script that does not run clean from top to bottom."""


def build_notebook(project: Project, name: str) -> Path:
    """Execute ``notebooks_src/<name>.py`` and write ``docs/tutorial/<name>.ipynb``.

    Two builds give the same bytes but for the outputs of cells tagged ``measured``.

    Returns:
        Path of the notebook.

    Raises:
        BuildError: a cell raises, hangs or writes to standard error (a warning, say).
    """
    script = project.script(name)
    if not script.is_file():
        raise BuildError(f"{script} does not exist")
    cells = read_script(script)
    notebook = unexecuted(cells)
    # Cells write their files into a folder that nobody keeps; its name must not show in outputs.
    with tempfile.TemporaryDirectory(prefix="tutorial-") as folder:
        _execute(notebook, name, Path(folder))
        _finish(notebook, name, Path(folder))
    # Set last: the kernel adds its version.
    notebook.metadata = {
        "kernelspec": KERNELSPEC,
        "language_info": LANGUAGE,
        METADATA_KEY: {"api_sha256": api_hash(cells), "code_sha256": code_hash(cells)},
    }
    target = project.notebook(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")
    partial.replace(target)
    return target


def unexecuted(cells: list[Cell]) -> NotebookNode:
    """A notebook of these cells, without outputs."""
    notebook: NotebookNode = nbformat.v4.new_notebook()
    for cell, identifier in zip(cells, cell_ids(cells), strict=True):
        metadata = {"tags": list(cell.tags)} if cell.tags else {}
        if cell.kind == "code":
            made = nbformat.v4.new_code_cell(cell.source, id=identifier, metadata=metadata)
        else:
            made = nbformat.v4.new_markdown_cell(cell.source, id=identifier, metadata=metadata)
        notebook.cells.append(made)
    return notebook


def _execute(notebook: NotebookNode, name: str, folder: Path) -> None:
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name=KERNELSPEC["name"],
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,  # how a stream is cut into messages depends on the machine's load
    )
    try:
        client.execute(env=_environment())
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise BuildError(f"{name}: {_ANSI_COLOUR.sub('', str(error))}") from error


def _environment() -> dict[str, str]:
    """The kernel's environment: this interpreter's programs first, and nothing random."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    inherited = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}
    return inherited | {"PATH": path, "PYTHONHASHSEED": "0", "COLUMNS": "100"}


def _finish(notebook: NotebookNode, name: str, folder: Path) -> None:
    for number, cell in enumerate(notebook.cells, start=1):
        for output in cell.get("outputs", ()):
            if output.output_type == "stream" and output.name == "stderr":
                raise BuildError(f"{name}: cell {number} writes to standard error:\n{output.text}")
            if "image/png" in output.get("data", {}):
                output.data = _smaller_picture(output.data)
        if cell.cell_type == "code":
            cell.outputs = _relative(cell.outputs, folder)


def _smaller_picture(data: dict[str, Any]) -> dict[str, Any]:
    """Noise compresses badly as PNG: such a figure becomes a JPEG that looks the same."""
    png = base64.b64decode(data["image/png"])
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    jpeg = buffer.getvalue()
    if 2 * len(jpeg) > len(png):
        return data
    others = {kind: value for kind, value in data.items() if kind != "image/png"}
    return type(data)({**others, "image/jpeg": base64.b64encode(jpeg).decode("ascii")})


def _relative(value: Any, folder: Path) -> Any:
    """``value`` with every path under the working folder made relative to it."""
    if isinstance(value, str):
        for spelled in sorted({str(folder.resolve()), str(folder)}, key=len, reverse=True):
            value = value.replace(spelled + os.sep, "").replace(spelled, ".")
        return value
    if isinstance(value, list):
        return [_relative(item, folder) for item in value]
    if isinstance(value, dict):
        return type(value)({key: _relative(item, folder) for key, item in value.items()})
    return value
