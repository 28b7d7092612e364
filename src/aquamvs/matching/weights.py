"""Official network weights: where they come from, where they lie, and that they are what they say.

A name resolves to a file in this order: an explicit path, the cache folder (``AQUAMVS_CACHE``, else
the user's cache folder), a download into the cache. A file from the cache or the network is used
only if its SHA-256 is the one in :data:`WEIGHTS`. The projects publish no checksums; those in the
table are of the release files, each agreed on by several independent public records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ..errors import WeightsError
from ..io import CACHE_VARIABLE, cache_folder
from ..io.cache import failure_reason
from .bundled import BUNDLED_MODELS, bundled_file

_TIMEOUT_S = 30
"""Longest wait for a connection or for the next bytes; a slow download may take longer."""

_HASH_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """One published checkpoint.

    Attributes:
        name: As used by :func:`resolve_weights`.
        filename: Of the published file, and in the cache.
        url: Where it is published; None where its licence leaves the download to the user.
        sha256: Of the published file, hexadecimal.
        size_mb: Size, 10^6 bytes; for messages and listings.
        licence: Of the weights.

    Example:
        >>> from aquamvs.matching import WEIGHTS
        >>> [file.name for file in WEIGHTS.values() if file.url is None]
        ['superpoint-v1']
    """

    name: str
    filename: str
    url: str | None
    sha256: str
    size_mb: float
    licence: str


@dataclass(frozen=True, slots=True)
class WeightsStatus:
    """Whether a checkpoint is at hand.

    Attributes:
        file: The checkpoint.
        path: Its place in the cache.
        present: A file of that name is there (its checksum is tested when it is used).

    Example:
        >>> from aquamvs.matching import list_weights
        >>> [status.file.name for status in list_weights() if status.file.url is None]
        ['superpoint-v1']
    """

    file: WeightsFile
    path: Path
    present: bool


_LIGHTGLUE_RELEASE = "https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv"

_FILES = (
    WeightsFile(
        name="aliked-n16",
        filename="aliked-n16.pth",
        url="https://github.com/Shiaoming/ALIKED/raw/683d7c65197395c0b3f01ebe76e1084a27e73a65"
        "/models/aliked-n16.pth",
        sha256="5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2",
        size_mb=2.7,
        licence="BSD-3-Clause",
    ),
    WeightsFile(
        name="disk-depth",
        filename="depth-save.pth",
        url="https://raw.githubusercontent.com/cvlab-epfl/disk/master/depth-save.pth",
        sha256="9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe",
        size_mb=4.4,
        licence="Apache-2.0",
    ),
    WeightsFile(
        name="superpoint-v1",
        filename="superpoint_v1.pth",
        url=None,
        sha256="52b6708629640ca883673b5d5c097c4ddad37d8048b33f09c8ca0d69db12c40e",
        size_mb=5.2,
        licence="Magic Leap, non-commercial research only",
    ),
    WeightsFile(
        name="lightglue-aliked",
        filename="aliked_lightglue.pth",
        url=f"{_LIGHTGLUE_RELEASE}/aliked_lightglue.pth",
        sha256="d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503",
        size_mb=47.6,
        licence="Apache-2.0",
    ),
    WeightsFile(
        name="lightglue-disk",
        filename="disk_lightglue.pth",
        url=f"{_LIGHTGLUE_RELEASE}/disk_lightglue.pth",
        sha256="b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335",
        size_mb=47.6,
        licence="Apache-2.0",
    ),
    WeightsFile(
        name="lightglue-sift",
        filename="sift_lightglue.pth",
        url=f"{_LIGHTGLUE_RELEASE}/sift_lightglue.pth",
        sha256="5b52b8d9982d43532dc042606b346bb9594c9f5a4bd6f64362c63866287b4ac0",
        size_mb=47.6,
        licence="Apache-2.0",
    ),
    WeightsFile(
        name="lightglue-superpoint",
        filename="superpoint_lightglue.pth",
        url=f"{_LIGHTGLUE_RELEASE}/superpoint_lightglue.pth",
        sha256="6ff7040d0a497fc6639337946d7538dae07428c18f77a067a0b5a960e7cc551a",
        size_mb=47.5,
        licence="Apache-2.0",
    ),
    WeightsFile(
        name="romav2",
        filename="romav2.0.1.pt",
        url="https://github.com/Parskatt/RoMaV2/releases/download/v2.0.1/romav2.0.1.pt",
        sha256="1557dec0d21b62366465f7ff4d5fdf228cc695d0582e196ad2b80e05230828b7",
        size_mb=1095.9,
        licence="MIT; its DINOv3 part under Meta's DINOv3 licence",
    ),
)

WEIGHTS: Final[Mapping[str, WeightsFile]] = MappingProxyType({file.name: file for file in _FILES})
"""Every checkpoint that AquaMVS can load, by name."""


def weights_folder() -> Path:
    """Folder of downloaded weights, inside of the cache folder."""
    return cache_folder() / "weights"


def list_weights() -> tuple[WeightsStatus, ...]:
    """Every checkpoint and whether it lies in the cache, in the order of the table.

    Example:
        >>> from aquamvs.matching import list_weights
        >>> [(status.file.name, status.file.size_mb) for status in list_weights()][:2]
        [('aliked-n16', 2.7), ('disk-depth', 4.4)]
    """
    folder = weights_folder()
    return tuple(
        WeightsStatus(file, folder / file.filename, (folder / file.filename).is_file())
        for file in WEIGHTS.values()
    )


def weights_table() -> str:
    """What is present, as text for a terminal: bundled weights first, then the official ones."""
    rows = [("weights", "MB", "state", "licence")]
    rows += [
        (label, f"{bundled_file(model).stat().st_size / 1e6:.1f}", "present", "MIT")
        for model, label in BUNDLED_MODELS.items()
    ]
    rows += [
        (s.file.name, f"{s.file.size_mb:.1f}", _state(s), s.file.licence) for s in list_weights()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{name:{widths[0]}s}  {size:>{widths[1]}s}  {state:{widths[2]}s}  {licence}"
        for name, size, state, licence in rows
    ]
    return "\n".join(
        [*lines, f"official weights are looked for in {weights_folder()}; --fetch NAME downloads"]
    )


def _state(status: WeightsStatus) -> str:
    if status.present:
        return "present"
    return "missing" if status.file.url else "missing, get it from its authors"


def fetch_weights(names: Iterable[str] = (), *, progress: bool = False) -> tuple[Path, ...]:
    """Download official weights into the cache.

    Args:
        names: Of :data:`WEIGHTS`; none stands for all that are missing and may be downloaded.
        progress: Show each download's progress on the terminal.

    Returns:
        Their files, each with the right checksum.

    Raises:
        WeightsError: See :func:`resolve_weights`.

    Example:
        >>> from aquamvs.matching import fetch_weights
        >>> fetch_weights(["unheard-of"])
        Traceback (most recent call last):
            ...
        aquamvs.errors.WeightsError: weights 'unheard-of' are unknown; expected one of ...
    """
    wanted = list(names) or [
        status.file.name for status in list_weights() if not status.present and status.file.url
    ]
    return tuple(resolve_weights(name, progress=progress) for name in wanted)


def resolve_weights(
    name: str | WeightsFile,
    *,
    path: str | Path | None = None,
    sha256: str | None = None,
    download: bool = True,
    progress: bool = False,
) -> Path:
    """Find a checkpoint, downloading it where it is missing.

    Args:
        name: Name in :data:`WEIGHTS`, or a description of another published file.
        path: The file itself, or a folder that holds it under its published name. Such a file may
            be the user's own training, so its checksum is tested only against ``sha256``; its
            layout is tested on loading, like any other's.
        sha256: Checksum that the file at ``path`` must have, hexadecimal.
        download: Whether the network may be used.
        progress: Show the download's progress on the terminal.

    Returns:
        An existing file.

    Raises:
        WeightsError: The name is unknown, the file is missing and cannot be downloaded, or its
            checksum is wrong.

    Example:
        >>> from aquamvs.matching import resolve_weights
        >>> resolve_weights("unheard-of", download=False)
        Traceback (most recent call last):
            ...
        aquamvs.errors.WeightsError: weights 'unheard-of' are unknown; expected one of ...
    """
    file = _lookup(name) if isinstance(name, str) else name
    if path is not None:
        return _explicit(file, Path(path).expanduser(), sha256)
    cached = weights_folder() / file.filename
    if cached.is_file():
        _check_sha256(cached, file.sha256, f"delete it, and weights {file.name!r} are fetched anew")
        return cached
    if file.url is None:
        raise WeightsError(
            f"weights {file.name!r}: {file.filename} is not at {cached} and is not downloaded "
            f"automatically (licence: {file.licence}); obtain it from its authors and put it "
            "there, or set `weights: bundled`"
        )
    if not download:
        raise WeightsError(_missing(file, cached, "downloading is switched off"))
    _download(file, cached, progress=progress)
    return cached


def _lookup(name: str) -> WeightsFile:
    if name not in WEIGHTS:
        raise WeightsError(f"weights {name!r} are unknown; expected one of {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def _explicit(file: WeightsFile, path: Path, sha256: str | None) -> Path:
    if path.is_dir():
        path = path / file.filename
    if not path.is_file():
        raise WeightsError(
            f"weights {file.name!r}: no file at {path}; expected the checkpoint {file.filename}"
        )
    if sha256 is not None:
        _check_sha256(path, sha256.lower(), "the checksum that was asked for does not fit it")
    return path


def _download(file: WeightsFile, target: Path, *, progress: bool) -> None:
    """Fetch into the cache; nothing appears there unless the checksum is right."""
    import pooch

    try:
        pooch.retrieve(
            url=file.url,
            known_hash=f"sha256:{file.sha256}",
            fname=target.name,
            path=target.parent,
            downloader=pooch.HTTPDownloader(progressbar=progress, timeout=_TIMEOUT_S),
        )
    except ValueError as error:  # pooch's word for a wrong checksum
        raise WeightsError(
            f"weights {file.name!r}: what {file.url} delivers is not the published file "
            f"{file.filename} ({' '.join(str(error).split())}); nothing was kept"
        ) from None
    except OSError as error:  # no network, no such page, no room, a cache that is not writable
        reason = f"the download failed: {failure_reason(error)}"
        raise WeightsError(_missing(file, target, reason)) from None


def _missing(file: WeightsFile, target: Path, reason: str) -> str:
    return (
        f"weights {file.name!r}: {file.filename} ({file.size_mb:.0f} MB) is not at {target}, "
        f"and {reason}. Put the file from {file.url} there (the folder is set by "
        f"{CACHE_VARIABLE}), or set `weights: bundled`, which needs no download"
    )


def _check_sha256(path: Path, expected: str, remedy: str) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise WeightsError(
            f"{path} ({path.stat().st_size} bytes) has SHA-256 {digest.hexdigest()}; expected "
            f"{expected}: it is truncated, altered or another file ({remedy})"
        )
