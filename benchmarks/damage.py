"""Seeded damage to valid files: what a fuzzer feeds to a reader."""

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]

_INTEGERS = (0, 1, 2, 127, 128, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**63)
_NUMBERS = (
    *(b"0", b"-1", b"1e308", b"-1e308", b"1e-320", b"NaN", b"Infinity", b".inf", b".nan", b"null"),
    *(b"99999999999999999999", b"1000000000000", b"9" * 400, b"true", b"[]", b"{}", b'""', b"0x_"),
    *(b"1:1:1", b"2001-99-99", b"~nobody/x", b'"\\0"', b"../../x", b"/dev/zero"),
)
_WORDS = (
    *(b"*a", b"&a ", b"<<: ", b"!!int ", b"!!python/object/apply:os.system [id] ", b"? ", b"- "),
    *(b"[" * 3000, b"{" * 3000, b'{"a":' * 3000, b"\x00", b"\xff\xfe", b"\n---\n", b"end_header\n"),
    *(b"element vertex 1000000000000\n", b"property list int float x\n", b"\r", b"\\u0000", b"\t"),
)


def damaged(seeds: Sequence[bytes], rng: np.random.Generator) -> bytes:
    """One of the seeds with one to four faults."""
    data = seeds[int(rng.integers(len(seeds)))]
    data = _inside(data, rng) if rng.random() < 0.5 else data
    for _ in range(rng.integers(1, 5)):
        fault = _FAULTS[rng.integers(len(_FAULTS))]
        data = fault(data, rng)
    other = seeds[int(rng.integers(len(seeds)))]
    if rng.random() < 0.05 and data and other:
        data = data[: rng.integers(len(data)) + 1] + other[rng.integers(len(other)) :]
    return _repaired_png(data) if rng.random() < 0.7 else data


def _inside(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a member of a zip archive and pack it again with a valid checksum."""
    if not data.startswith(b"PK"):
        return data
    packed = BytesIO()
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.5 else zipfile.ZIP_STORED
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(packed, "w", method) as new:
        victim = rng.integers(len(old.infolist()))
        for index, member in enumerate(old.infolist()):
            content = old.read(member)
            if index == victim:
                content = _FAULTS[rng.integers(len(_FAULTS))](content, rng)
            new.writestr(member.filename, content)
    return packed.getvalue()


def _bits(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        if changed:
            changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _integer(data: bytes, rng: np.random.Generator) -> bytes:
    """Overwrite a number near the start, where headers are, or anywhere."""
    width = int(2 ** rng.integers(4))
    value = _INTEGERS[rng.integers(len(_INTEGERS))] % (1 << 8 * width)
    end = min(len(data), 256) if rng.random() < 0.7 else len(data)
    if end <= width:
        return data
    at = int(rng.integers(end - width))
    is_little = rng.random() < 0.5
    number = value.to_bytes(width, "little" if is_little else "big")
    return data[:at] + number + data[at + width :]


def _truncation(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(len(data) + 1)]


def _removal(data: bytes, rng: np.random.Generator) -> bytes:
    at, length = rng.integers(len(data) + 1), rng.integers(1, 64)
    return data[:at] + data[at + length :]


def _repetition(data: bytes, rng: np.random.Generator) -> bytes:
    at, length = rng.integers(len(data) + 1), rng.integers(1, 4096)
    return data[:at] + data[at : at + length] * int(rng.integers(2, 20)) + data[at:]


def _number(data: bytes, rng: np.random.Generator) -> bytes:
    """Replace a number of a text."""
    places = list(re.finditer(rb"-?\d[\d.e+-]*", data[:65536]))
    if not places:
        return data
    place = places[rng.integers(len(places))]
    return data[: place.start()] + _NUMBERS[rng.integers(len(_NUMBERS))] + data[place.end() :]


def _word(data: bytes, rng: np.random.Generator) -> bytes:
    """Insert a piece of syntax, at a word's start in a text."""
    places = [place.start() for place in re.finditer(rb"\b\w", data[:65536])] or [0]
    at = places[rng.integers(len(places))]
    return data[:at] + _WORDS[rng.integers(len(_WORDS))] + data[at:]


_FAULTS: tuple[Damage, ...] = (
    *(_bits, _integer, _integer, _truncation, _removal, _repetition, _number, _number, _word),
)


def _repaired_png(data: bytes) -> bytes:
    """Right checksums for the chunks of a PNG file, so that damage reaches what they protect."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    fixed, at = bytearray(data), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(fixed)
