"""What is checked of every file from outside before a byte of it is read."""

import json
import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from .errors import AquaMVSError, DataError


def check_file(
    path: Path, what: str, *, max_bytes: int, error: type[AquaMVSError] = DataError
) -> None:
    """Make sure that a path is a plain file of a size that its kind may have.

    A pipe would let the reader wait for ever, a device give it bytes for ever, and a file with
    holes may be larger than the memory although it takes no room on the disk.

    Args:
        path: File.
        what: Kind of file, for messages.
        max_bytes: Largest size.
        error: Class of the error.

    Raises:
        AquaMVSError: Of the class ``error``: it is missing, not accessible, no plain file, or
            larger.

    Example:
        >>> from aquamvs.files import check_file
        >>> check_file(folder / "config.yaml", "configuration", max_bytes=1_000_000)
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"{what} {path} does not exist") from None
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise error(f"cannot read {what} {shortened(path)}: {reason}") from None
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{what} {path} is no plain file; expected neither folder nor pipe nor device")
    if found.st_size > max_bytes:
        raise error(
            f"{what} {path} has {found.st_size} bytes; at most {max_bytes} are read of such a file"
        )


def check_folder(path: Path, what: str) -> None:
    """Make sure that a path is a folder whose files can be listed and opened.

    Args:
        path: Folder.
        what: Kind of folder, for messages.

    Raises:
        DataError: It is no folder, or may not be read.

    Example:
        >>> from aquamvs.files import check_folder
        >>> check_folder(folder, "output folder")
    """
    if not path.is_dir():
        raise DataError(f"{what} {path} is not a folder")
    if not os.access(path, os.R_OK | os.X_OK):
        raise DataError(f"cannot read the folder {path} ({what}): permission denied")


def shortened(value: object, limit: int = 80) -> str:
    """A value from outside as a message shows it: its first characters.

    Example:
        >>> from aquamvs.files import shortened
        >>> shortened("x" * 100, 8)
        'xxxxxxxx…'
    """
    text = str(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def load_json(
    path: Path, what: str, *, max_bytes: int, error: type[AquaMVSError] = DataError
) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        AquaMVSError: Of the class ``error``: see :func:`check_file`; or the file is no JSON object,
            or has a key twice, of which JSON would take the last and say nothing.

    Example:
        >>> from aquamvs.files import load_json
        >>> load_json(folder / "calibration.json", "calibration", max_bytes=1_000_000)["version"]
        '1.0'
    """
    check_file(path, what, max_bytes=max_bytes, error=error)
    try:
        # Windows' editors put a mark before the text.
        data = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_twins)
    except (OSError, ValueError, RecursionError) as fault:
        raise error(f"{what} {path} is not readable as JSON: {shortened(fault)}") from None
    if not isinstance(data, dict):
        raise error(f"{what} {path} holds a {type(data).__name__}; expected a JSON object")
    return data


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {shortened(repr(name))} stands twice in one object")
        found[name] = value
    return found


@contextmanager
def open_zip(path: Path, *, max_directory_bytes: int) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive whose table of contents is not larger than expected.

    Each entry of the table becomes an object of about ten times its size before the caller can
    count them.

    Args:
        path: Zip file.
        max_directory_bytes: Largest size of the table of contents; at least 128 KiB.

    Yields:
        The archive, for reading.

    Raises:
        zipfile.BadZipFile: No zip archive, or its table is larger. All that zipfile raises in the
            block on damaged archives is turned into this error.
        OSError: The file cannot be read.

    Example:
        >>> from aquamvs.files import open_zip
        >>> path = folder / "ground_truth/frame_000000/surface.npz"
        >>> with open_zip(path, max_directory_bytes=200_000) as archive:
        ...     "z.npy" in archive.namelist()
        True
    """
    try:
        with _LimitedReader(FileIO(path)) as file:
            file.limit = max_directory_bytes
            with zipfile.ZipFile(file) as archive:
                file.limit = None
                yield archive
    except _ZIP_FAULTS as fault:
        raise zipfile.BadZipFile(str(fault)) from None


_ZIP_FAULTS = (
    *(NotImplementedError, RuntimeError, EOFError, UnicodeDecodeError),
    *(struct.error, zlib.error, lzma.LZMAError),
)
"""What zipfile raises on damaged archives beside its own error."""


class _LimitedReader(BufferedReader):
    """A file that refuses to read more at once than it may."""

    limit: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self.limit is not None:
            left = os.fstat(self.fileno()).st_size - self.tell()
            wanted = left if size is None or size < 0 else min(size, left)
            if wanted > self.limit:
                raise zipfile.BadZipFile(
                    f"the table of contents has {wanted} bytes; at most {self.limit} are read"
                )
        return super().read(size)
