"""Depth maps and height maps survive a round trip, and damaged archives are refused."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquamvs.errors import DataError
from aquamvs.io import load_depth_map, load_height_map, save_depth_map, save_height_map
from aquamvs.types import DepthMap, HeightMap


def depth_map(height: int, width: int, seed: int) -> DepthMap:
    generator = torch.Generator().manual_seed(seed)
    depth, confidence, sigma = torch.rand(3, height, width, generator=generator)
    depth[confidence < 0.3] = torch.nan
    K = torch.rand(3, 3, generator=generator, dtype=torch.float64)
    return DepthMap("cam 1.b", depth, confidence, sigma, K)


def height_map(rows: int, columns: int, seed: int) -> HeightMap:
    generator = torch.Generator().manual_seed(seed)
    z, sigma, confidence = torch.rand(3, rows, columns, generator=generator)
    z[confidence < 0.3] = torch.nan
    count = torch.randint(0, 13, (rows, columns), generator=generator, dtype=torch.int32)
    color = torch.rand(rows, columns, 3, generator=generator)
    return HeightMap(-0.1 / 3, 7.25, 1e-3, z, sigma, confidence, count, color)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(-1.0), b.nan_to_num(-1.0))


@given(st.integers(0, 7), st.integers(0, 7), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_depth_map_round_trip(tmp_path_factory, height: int, width: int, seed: int) -> None:
    original = depth_map(height, width, seed)
    path = tmp_path_factory.mktemp("depth") / "cam 1.b.npz"
    save_depth_map(path, original)
    loaded = load_depth_map(path)
    assert loaded.camera == "cam 1.b"
    for name in ("depth", "confidence", "sigma", "K"):
        assert same(getattr(loaded, name), getattr(original, name)), name


@given(st.integers(2, 7), st.integers(2, 7), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_height_map_round_trip(tmp_path_factory, rows: int, columns: int, seed: int) -> None:
    original = height_map(rows, columns, seed)
    path = tmp_path_factory.mktemp("height") / "height_map.npz"
    save_height_map(path, original)
    loaded = load_height_map(path)
    assert (loaded.x0, loaded.y0, loaded.spacing) == (original.x0, original.y0, original.spacing)
    for name in ("z", "sigma", "confidence", "view_count", "color"):
        assert same(getattr(loaded, name), getattr(original, name)), name


def test_numpy_reads_the_archives_and_their_georeference(tmp_path: Path) -> None:
    save_height_map(tmp_path / "h.npz", height_map(3, 4, 0))
    with np.load(tmp_path / "h.npz", allow_pickle=False) as archive:
        assert archive["z"].shape == (3, 4)
        assert "Z down" in str(archive["georeference"])
        assert '"columns": 4' in str(archive["georeference"])


def test_same_map_gives_same_bytes(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        save_depth_map(tmp_path / name, depth_map(9, 8, 4))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def replace(path: Path, key: str, member: bytes | None) -> None:
    """Rewrite an archive with one member replaced, or left out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    del members[f"{key}.npy"]
    if member is not None:
        members[f"{key}.npy"] = member
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("a pickle was executed",)


def test_pickle_is_refused_unexecuted(tmp_path: Path) -> None:
    path = tmp_path / "cam.npz"
    save_depth_map(path, depth_map(2, 3, 0))
    replace(path, "sigma", npy(np.array([[Bomb()]], dtype=object), allow_pickle=True))
    with pytest.raises(DataError, match="'sigma' is object"):
        load_depth_map(path)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (None, "no array 'confidence'"),
        (npy(np.zeros((2, 3))), "float64.*expected float32"),
        (npy(np.zeros((2, 3, 1), np.float32)), r"expected float32 of shape \(2, 3\)"),
        (
            npy(np.zeros((3, 2), np.float32)),
            r"of shape \(3, 2\); expected float32 of shape \(2, 3\)",
        ),
        (npy(np.zeros((2, 3), np.float32))[:-1], "holds 23 bytes; its header declares 24"),
        (npy(np.zeros((2, 3), np.float32)) + b"x", "holds 25 bytes"),
        (npy(np.zeros((2, 3), np.float32)).replace(b"(2, 3), ", b"(9**9,),"), "damaged"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "damaged"),
        (b"", "damaged"),
    ],
)
def test_contradictory_member_is_refused(
    tmp_path: Path, member: bytes | None, message: str
) -> None:
    path = tmp_path / "cam.npz"
    save_depth_map(path, depth_map(2, 3, 0))
    replace(path, "confidence", member)
    with pytest.raises(DataError, match=message):
        load_depth_map(path)


def test_declared_size_is_checked_before_allocation(tmp_path: Path) -> None:
    path = tmp_path / "cam.npz"
    save_depth_map(path, depth_map(2, 3, 0))
    header = io.BytesIO()
    huge = {"descr": "<f4", "fortran_order": False, "shape": (1 << 30, 1 << 30)}
    np.lib.format.write_array_header_1_0(header, huge)
    replace(path, "depth", header.getvalue())
    with pytest.raises(DataError, match=r"declares \(1073741824, 1073741824\) elements"):
        load_depth_map(path)


@pytest.mark.parametrize("kept", [0.2, 0.7, 0.99])
def test_truncated_archive_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "cam.npz"
    save_depth_map(path, depth_map(20, 30, 0))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(DataError, match=r"cam.npz"):
        load_depth_map(path)


def test_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cam.npz"
    save_depth_map(path, depth_map(20, 30, 0))
    data = bytearray(path.read_bytes())
    data[200] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        load_depth_map(path)


def test_height_map_with_impossible_grid_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "h.npz"
    save_height_map(path, height_map(2, 3, 0))
    replace(path, "spacing", npy(np.array(0.0)))
    with pytest.raises(DataError, match="positive spacing"):
        load_height_map(path)


def test_missing_file_and_wrong_suffix_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        load_depth_map(tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"ends in .npz"):
        save_depth_map(tmp_path / "cam.npy", depth_map(2, 3, 0))
