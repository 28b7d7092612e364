"""Files that appear whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DataError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Write a file under a temporary name beside its own and rename it when it is complete.

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
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; check that the folder is writable "
            "and the disk has space"
        ) from error
