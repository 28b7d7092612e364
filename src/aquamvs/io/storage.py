"""Folders that appear whole or not at all: built under a temporary name, then renamed."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

from ..errors import DataError


@contextmanager
def new_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder that appears under its name only when the block ends without an error.

    Args:
        path: Folder to create. An existing empty folder is filled.
        overwrite: Replace a folder that holds something.

    Yields:
        A temporary folder beside ``path`` to write into.

    Raises:
        DataError: ``path`` holds something and ``overwrite`` is False, is a file, or its parent
            cannot be written to.
    """
    path = Path(path).absolute()
    if path.exists() and not path.is_dir():
        raise DataError(f"{path} is a file; expected a folder that does not exist yet")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise DataError(f"{path} is not empty; choose another folder or ask to overwrite it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise DataError(f"{path} cannot be created: {error.strerror or error}") from None
    try:
        temporary.chmod(0o755)  # mkdtemp makes folders that only their owner may enter
        yield temporary
        _swap(temporary, path)
    finally:
        rmtree(temporary, ignore_errors=True)


def _swap(temporary: Path, path: Path) -> None:
    """Put ``temporary`` in the place of ``path``; what stood there goes only afterwards."""
    retired = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    try:
        if path.exists():
            path.replace(retired / "old")
        try:
            temporary.replace(path)
        except OSError as error:
            if (retired / "old").exists():
                (retired / "old").replace(path)
            raise DataError(f"{path} cannot be created: {error.strerror or error}") from None
    finally:
        rmtree(retired, ignore_errors=True)
