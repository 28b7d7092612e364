"""A file appears whole or not at all."""

import os
from pathlib import Path

import pytest

from aquamvs.errors import DataError
from aquamvs.io import atomic_path
from aquamvs.io.storage import new_folder


def test_file_appears_only_when_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "depth.npz"
    with atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        assert not target.exists()
        assert temporary.parent == target.parent  # same file system: the rename is atomic
        assert temporary.suffix == ".npz"
    assert target.read_bytes() == b"half"
    assert list(target.parent.iterdir()) == [target]


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What is brought to the disk and what is renamed from now on, in order, by name."""
    told: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def tell_fsync(handle: int) -> None:
        told.append(("sync", Path(f"/proc/self/fd/{handle}").readlink().name))
        fsync(handle)

    def tell_replace(source: Path, target: Path) -> None:
        told.append(("rename", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", tell_fsync)
    monkeypatch.setattr(os, "replace", tell_replace)
    return told


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux for open files")
def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = recorded(monkeypatch)
    with atomic_path(tmp_path / "depth.npz") as temporary:
        temporary.write_bytes(b"whole")
    assert told == [("sync", temporary.name), ("rename", "depth.npz"), ("sync", tmp_path.name)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux for open files")
def test_a_folder_is_on_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = recorded(monkeypatch)
    with new_folder(tmp_path / "store") as temporary:
        (temporary / "part").mkdir()
        (temporary / "part" / "0").write_bytes(b"chunk")
    renamed = told.index(("rename", "store"))
    assert {*told[:renamed]} == {("sync", name) for name in ("0", "part", temporary.name)}
    assert told[renamed + 1 :] == [("sync", tmp_path.name)]


def fail_half_way(path: Path) -> None:
    path.write_bytes(b"new but incomplete")
    raise RuntimeError("matcher failed")


def write_to_full_disk(path: Path) -> None:
    path.symlink_to("/dev/full")
    path.write_bytes(b"x" * 4096)


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "cloud.ply"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="matcher"), atomic_path(target) as temporary:
        fail_half_way(temporary)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_folder_that_is_a_file_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with (
        pytest.raises(DataError, match=r"cannot write .*cloud.ply"),
        atomic_path(tmp_path / "out" / "cloud.ply"),
    ):
        pytest.fail("the block must not run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder_is_a_data_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="writable"), atomic_path(tmp_path / "a.png") as temporary:
        temporary.write_bytes(b"x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk to write to")
def test_full_disk_is_a_data_error_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    with pytest.raises(DataError, match="disk has space"), atomic_path(target) as temporary:
        write_to_full_disk(temporary)
    assert list(tmp_path.iterdir()) == []


def test_block_that_writes_nothing_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.png"), atomic_path(tmp_path / "a.png"):
        pass
