"""Unzipping of an archive from outside: everything is checked before anything is written."""

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..files import check_file, open_zip

MAX_FILES = 200_000
"""Most members of an archive that is extracted."""
MAX_BYTES = 64 << 30
"""Largest total size of an archive's content, bytes."""
_MAX_DIRECTORY_BYTES = 1 << 26
_MAX_RATIO = 100
_SMALL = 1 << 24
_CHUNK = 1 << 20


def extract_zip(
    archive: str | Path,
    folder: str | Path,
    *,
    max_files: int = MAX_FILES,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Extract a zip archive whose content nobody has looked at.

    Args:
        archive: Zip file.
        folder: Folder to extract into; it must exist.
        max_files: Most members that are accepted.
        max_bytes: Largest total size that is accepted, declared or real.

    Raises:
        DataError: The archive is damaged; has a member with an absolute path, a path that leaves
            the folder, or a name that stands twice; holds anything but plain files and folders; or
            is larger than allowed. All but damage inside of a member is found before anything is
            written.
    """
    archive, folder = Path(archive), Path(folder)
    check_file(archive, "archive", max_bytes=max_bytes)
    try:
        with open_zip(archive, max_directory_bytes=_MAX_DIRECTORY_BYTES) as file:
            members = file.infolist()
            _check(archive, members, max_files, max_bytes)
            _check_room(archive, members, folder)
            for member in members:
                _extract(file, member, folder / member.filename)
    except zipfile.BadZipFile as error:
        raise DataError(f"cannot unzip {archive}: {error}; delete it and fetch it again") from None
    except OSError as error:
        raise DataError(f"cannot unzip {archive} into {folder}: {error}") from None


def _check(archive: Path, members: list[zipfile.ZipInfo], max_files: int, max_bytes: int) -> None:
    if len(members) > max_files:
        raise DataError(f"{archive} has {len(members)} members; at most {max_files} are extracted")
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise DataError(f"{archive} declares {total} bytes; at most {max_bytes} are extracted")
    seen = set()
    for member in members:
        name = member.filename
        path = PurePosixPath(name)
        # A colon is a drive or a stream on Windows, a backslash its separator.
        unsafe = path.is_absolute() or ".." in path.parts or not path.parts
        if unsafe or any(character in name for character in "\\:\0"):
            raise DataError(f"{archive} has a member {name!r}, which is no path inside of it")
        mode = stat.S_IFMT(member.external_attr >> 16)
        if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(
                f"{archive} has a member {name!r} that is a link or a device; expected plain files"
            )
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(f"{archive} has a member {name!r} in an unusual compression")
        if member.flag_bits & 1:
            raise DataError(f"{archive} has an encrypted member {name!r}")
        key = path.as_posix().casefold()
        if key in seen:
            raise DataError(f"{archive} has the member {name!r} twice")
        seen.add(key)


def _check_room(archive: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    """Images hardly shrink: what unpacks to a hundred times its size is made to fill a disk."""
    total = sum(member.file_size for member in members)
    packed = archive.stat().st_size
    if total > max(_MAX_RATIO * packed, _SMALL):
        raise DataError(f"{archive} has {packed} bytes and unpacks to {total}; no dataset does")
    free = shutil.disk_usage(folder).free
    if total > free:
        raise DataError(f"{archive} unpacks to {total} bytes; {folder} has room for {free}")


def _extract(file: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Members are read to their declared size and checked against their checksum by zipfile.
    with file.open(member) as source, target.open("xb") as out:
        shutil.copyfileobj(source, out, _CHUNK)
