"""Folders that appear whole or not at all: built under a temporary name, then renamed."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError
from .atomic import sync


@contextmanager
def new_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder that appears under its name only when the block ends without an error.

    All that is in it is on the disk by then, so that a power failure leaves no part of it either.

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
        raise DataError(
            f"{path} is not empty; choose another folder or ask to overwrite it (--overwrite)"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise DataError(f"{path} cannot be created: {error.strerror or error}") from None
    try:
        temporary.chmod(0o755)  # mkdtemp makes folders that only their owner may enter
        yield temporary
        _bring_to_disk(*temporary.rglob("*"), temporary)
        _swap(temporary, path)
        _bring_to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_space(path: str | Path, needed: int, what: str) -> None:
    """Refuse, before any work, to write what the disk has no room for.

    Args:
        path: File or folder to write; it need not exist.
        needed: About how many bytes.
        what: Of which, for the message.

    Raises:
        DataError: The disk has less free.
    """
    place = Path(path).absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DataError(
            f"{what} would take about {needed / 2**30:.1f} GiB; the disk of {path} has "
            f"{free / 2**30:.1f} GiB free"
        )


def _bring_to_disk(*paths: Path) -> None:
    try:
        for path in paths:
            sync(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from None


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
        shutil.rmtree(retired, ignore_errors=True)
