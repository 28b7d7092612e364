"""Files that appear whole or not at all."""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError

_LOGGER = logging.getLogger(__name__)
_MARK = ".tmp"
_LEFTOVER = re.compile(rf"\..*\.\d+{re.escape(_MARK)}(\.\w+)?")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name beside its own and rename it when it is complete.

    The file's content is on the disk before it gets its name, and the name before the function
    returns, so that neither a killed process nor a power failure leaves a part of a file.

    The temporary file has the same suffix (libraries choose a format by it) and, being a sibling,
    lies on the same file system, so that the rename is atomic. An error inside of the block leaves
    neither the temporary file nor a changed target.

    Args:
        path: File to write; its folder is created.

    Yields:
        The temporary path.

    Raises:
        DataError: The folder or the file cannot be written (rights, full disk), or the block wrote
            nothing.

    Example:
        >>> from pathlib import Path
        >>> from aquamvs.io import atomic_path
        >>> with atomic_path("note.txt") as temporary:
        ...     written = temporary.write_text("whole")
        >>> Path("note.txt").read_text()
        'whole'
    """
    path = Path(path)
    # The process id keeps two runs that write into one folder out of each other's way.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{_MARK}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
            _LOGGER.debug("wrote %s", path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; check that the folder is writable "
            "and the disk has space"
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder and those below it.

    Raises:
        DataError: One of them cannot be removed.

    Example:
        >>> from aquamvs.io import remove_leftovers
        >>> remove_leftovers(config.output_dir)
    """
    try:
        for path in folder.rglob(f".*{_MARK}*"):
            if _LEFTOVER.fullmatch(path.name):
                path.unlink()
    except OSError as error:
        raise DataError(f"cannot clear {folder}: {error.strerror or error}") from None


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk.

    Raises:
        OSError: The disk is full or broken.
    """
    is_folder = path.is_dir()
    if is_folder and os.name != "posix":  # where folders cannot be opened, and need not be
        return
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
