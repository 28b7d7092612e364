import stat
import zipfile
from pathlib import Path

import pytest

from aquamvs.datasets.archive import extract_zip
from aquamvs.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def archive_of(path: Path, *members: str | zipfile.ZipInfo, content: bytes = b"evil") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("good.txt", b"good")
        for member in members:
            file.writestr(member, content)
    return path


def test_files_and_folders_are_extracted(tmp_path: Path, folder: Path) -> None:
    path = archive_of(tmp_path / "a.zip", "sub/", "sub/deep/file.txt", content=b"")
    extract_zip(path, folder)
    assert (folder / "good.txt").read_bytes() == b"good"
    assert (folder / "sub" / "deep" / "file.txt").is_file()


@pytest.mark.parametrize(
    "name",
    [
        "../outside.txt",
        "sub/../../outside.txt",
        "/outside.txt",
        "//outside.txt",
        "C:/outside.txt",
        "C:outside.txt",
        "..\\outside.txt",
        "sub\\..\\..\\outside.txt",
        "file.txt:stream",
        "./",
    ],
)
def test_paths_that_leave_the_folder_are_refused_before_anything_is_written(
    name: str, tmp_path: Path, folder: Path
) -> None:
    path = archive_of(tmp_path / "evil.zip", name)
    with pytest.raises(DataError, match="no path inside"):
        extract_zip(path, folder)
    assert list(folder.iterdir()) == []
    assert not (tmp_path / "outside.txt").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_are_refused(kind: int, tmp_path: Path, folder: Path) -> None:
    member = zipfile.ZipInfo("link")
    member.create_system = 3
    member.external_attr = (kind | 0o777) << 16
    path = archive_of(tmp_path / "evil.zip", member, content=b"/etc/passwd")
    with pytest.raises(DataError, match="link or a device"):
        extract_zip(path, folder)
    assert list(folder.iterdir()) == []


def test_a_name_that_stands_twice_is_refused(tmp_path: Path, folder: Path) -> None:
    path = archive_of(tmp_path / "evil.zip", "GOOD.txt")
    with pytest.raises(DataError, match="twice"):
        extract_zip(path, folder)
    assert list(folder.iterdir()) == []


def test_size_and_count_are_limited_before_extraction(tmp_path: Path, folder: Path) -> None:
    bomb = archive_of(tmp_path / "bomb.zip", "zeros", content=bytes(10_000_000))
    assert bomb.stat().st_size < 20_000
    with pytest.raises(DataError, match="10000004 bytes"):
        extract_zip(bomb, folder, max_bytes=1_000_000)
    with pytest.raises(DataError, match="2 members"):
        extract_zip(bomb, folder, max_files=1)
    assert list(folder.iterdir()) == []


def test_a_member_that_is_longer_than_declared_is_refused(tmp_path: Path, folder: Path) -> None:
    path = archive_of(tmp_path / "liar.zip", "zeros", content=bytes(100_000))
    data = bytearray(path.read_bytes())
    # Declare 10 bytes in the central directory and in the local header.
    true = (100_000).to_bytes(4, "little")
    for _ in range(2):
        data[data.index(true) : data.index(true) + 4] = (10).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="cannot unzip"):
        extract_zip(path, folder)
    assert sum(file.stat().st_size for file in folder.rglob("*")) < 100


def test_encrypted_members_are_refused(tmp_path: Path, folder: Path) -> None:
    path = archive_of(tmp_path / "locked.zip")
    data = bytearray(path.read_bytes())
    data[6] |= 1  # general purpose flag in the local header
    directory = data.index(b"PK\x01\x02")
    data[directory + 8] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="encrypted"):
        extract_zip(path, folder)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(DataError, match="cannot unzip"):
        extract_zip(tmp_path / "text.zip", folder)


def test_a_damaged_member_is_refused(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("data", b"x" * 1000)
    data = bytearray(path.read_bytes())
    data[data.index(b"xxxx") + 500] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="CRC"):
        extract_zip(path, folder)
