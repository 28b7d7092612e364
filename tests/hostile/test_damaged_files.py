"""Whatever bytes a reader is given, the result is a value or an AquaMVSError."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import damaged
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from readers import READERS

from aquamvs.errors import AquaMVSError

_EDIT = st.tuples(
    st.floats(0, 1),
    st.integers(0, 8),
    st.one_of(st.binary(max_size=8), st.sampled_from([b"\xff" * 8, b"\x00" * 8, b"[[", b"-1"])),
)
"""Where (as a share of the file), how many bytes go, what comes in their place."""

_RELAXED = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def read(name: str, content: bytes, folder: Path) -> Any:
    """What the reader makes of the bytes: a value, or its error. Any other error fails the test."""
    path = folder / f"input{READERS[name].suffix}"
    path.write_bytes(content)
    try:
        return READERS[name].read(path)
    except AquaMVSError as error:
        return error


def is_refused(found: Any) -> bool:
    """An error with a message, or a report that does not count."""
    return found is False or (isinstance(found, AquaMVSError) and len(str(found)) > 10)


@pytest.mark.parametrize("name", READERS)
def test_files_without_damage_are_read(name: str, place: Path) -> None:
    for content in READERS[name].seeds(place):
        found = read(name, content, place)
        assert found is not None
        assert not is_refused(found), found


@pytest.mark.parametrize("name", READERS)
@_RELAXED
@given(edits=st.lists(_EDIT, min_size=1, max_size=4), kept=st.floats(0, 1))
def test_edited_files_give_a_value_or_our_error(
    name: str, place: Path, edits: list[tuple[float, int, bytes]], kept: float
) -> None:
    whole = READERS[name].seeds(place)[0]
    data = bytearray(whole)
    for share, length, replacement in edits:
        at = int(share * len(data))
        data[at : at + length] = replacement
    length = len(data) if kept > 0.5 else int(kept * len(data))
    found = read(name, bytes(data[:length]), place)
    assert is_refused(found) or type(found) is type(read(name, whole, place))


@pytest.mark.parametrize("name", READERS)
@_RELAXED
@given(content=st.binary(max_size=300))
@example(content=b"\x80\x00")  # torch warns of the pickle protocol 0
def test_bytes_of_no_format_are_refused(name: str, place: Path, content: bytes) -> None:
    assert is_refused(read(name, content, place))


@pytest.mark.parametrize(
    ("name", "index"),
    # Inputs that once got through: a whole number of 400 digits, a compressed chunk of 2 GiB, an
    # archive of another zip version, a report nested 3000 deep.
    [
        *(("calibration", 358), ("png", 275), ("depth_map", 1127), ("true_surface", 119)),
        *(("pytorch", 60), ("dataset_zip", 172), ("report", 389)),
    ],
)
def test_inputs_that_once_crashed_are_refused(name: str, index: int, tmp_path: Path) -> None:
    rng = np.random.default_rng([0, zlib.crc32(name.encode()), index])
    assert is_refused(read(name, damaged(READERS[name].seeds(tmp_path), rng), tmp_path))
