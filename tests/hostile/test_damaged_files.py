"""Whatever bytes a reader is given, the result is a value or an AquaMVSError."""

import contextlib
import zlib
from pathlib import Path

import numpy as np
import pytest
from damage import damaged
from hypothesis import HealthCheck, given, settings
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


def read(name: str, content: bytes, folder: Path) -> None:
    path = folder / f"input{READERS[name].suffix}"
    path.write_bytes(content)
    with contextlib.suppress(AquaMVSError):
        READERS[name].read(path)


@pytest.mark.parametrize("name", READERS)
@_RELAXED
@given(edits=st.lists(_EDIT, min_size=1, max_size=4), kept=st.floats(0, 1))
def test_edited_files_give_a_value_or_our_error(
    name: str, place: Path, edits: list[tuple[float, int, bytes]], kept: float
) -> None:
    data = bytearray(READERS[name].seeds(place)[0])
    for share, length, replacement in edits:
        at = int(share * len(data))
        data[at : at + length] = replacement
    length = len(data) if kept > 0.5 else int(kept * len(data))
    read(name, bytes(data[:length]), place)


@pytest.mark.parametrize("name", READERS)
@_RELAXED
@given(content=st.binary(max_size=300))
def test_any_bytes_give_a_value_or_our_error(name: str, place: Path, content: bytes) -> None:
    read(name, content, place)


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
    read(name, damaged(READERS[name].seeds(tmp_path), rng), tmp_path)
