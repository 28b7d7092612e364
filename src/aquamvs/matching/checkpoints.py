"""Reading network weights: safely (nothing in the file is executed) and strictly (every tensor)."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import WeightsError
from ..files import check_file, open_zip

_MAX_FILE_BYTES = 8 << 30
_MAX_DIRECTORY_BYTES = 1 << 24
_MAX_PICKLE_BYTES = 1 << 24

_UNREADABLE = (
    OSError,
    MemoryError,
    AssertionError,
    NotImplementedError,
    zipfile.BadZipFile,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    struct.error,
    pickle.UnpicklingError,
)
"""What PyTorch's restricted unpickler raises on files that are truncated or no checkpoints."""

_NAMED = 3
"""Tensors named in a message before it says "and so many more"."""


def read_tensors(path: Path) -> dict[str, object]:
    """Read a checkpoint without executing anything in it.

    Args:
        path: ``.safetensors``, or a PyTorch file (``torch.save``) of tensors and plain containers.

    Returns:
        The file's top-level dictionary.

    Raises:
        WeightsError: The file is missing, truncated, holds objects other than tensors and plain
            containers, or is no dictionary.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_file(path, "checkpoint", max_bytes=_MAX_FILE_BYTES, error=WeightsError)
    try:
        if path.suffix == ".safetensors":
            content: object = dict(load_file(path))
        else:
            _check_archive(path)
            with warnings.catch_warnings():
                # Of a protocol that torch might not know: whether it does, loading tells.
                warnings.filterwarnings("ignore", message="Detected pickle protocol")
                content = torch.load(path, map_location="cpu", weights_only=True)
    except (*_UNREADABLE, SafetensorError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"{path}: not a readable checkpoint ({reason}); expected a complete PyTorch or "
            "safetensors file of tensors"
        ) from None
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path}: holds a {type(content).__name__}; expected a dictionary of tensors"
        )
    return {str(key): value for key, value in content.items()}


def _check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is; PyTorch never compresses.

    Raises:
        zipfile.BadZipFile: It holds compressed or overlapping members, or a structure so large that
            it is no checkpoint's.
    """
    if not zipfile.is_zipfile(path):  # PyTorch's older format
        return
    with open_zip(path, max_directory_bytes=_MAX_DIRECTORY_BYTES) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise zipfile.BadZipFile("it has compressed members, which PyTorch never writes")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise zipfile.BadZipFile("its members declare more bytes than the file has")
    if any(m.filename.endswith(".pkl") and m.file_size > _MAX_PICKLE_BYTES for m in members):
        raise zipfile.BadZipFile(f"its structure takes more than {_MAX_PICKLE_BYTES} bytes")


def load_strictly(
    module: nn.Module,
    state: Mapping[str, object],
    *,
    path: Path,
    model: str,
    derived: Iterable[str] = (),
    unused: Iterable[str] = (),
) -> None:
    """Copy a checkpoint into a module if, and only if, every tensor fits.

    Args:
        module: The network; left as it is where the checkpoint is refused.
        state: Name to tensor.
        path: Of the file, for messages.
        model: Name of the network, for messages.
        derived: Buffers that the module computes itself; the checkpoint may omit them.
        unused: Tensors of old releases that the checkpoint may hold and the module has no use for.

    Raises:
        WeightsError: A tensor is missing, superfluous, of another shape, or not finite.
    """
    derived, unused = set(derived), set(unused)
    expected = module.state_dict()
    tensors = {k: v for k, v in state.items() if k not in unused}
    faults = [f"no {name}" for name in expected if name not in tensors and name not in derived]
    faults += [f"unknown {name}" for name in tensors if name not in expected]
    for name, value in tensors.items():
        if name in expected:
            faults += _fault(name, value, expected[name])
    if faults:
        more = f" and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        raise WeightsError(
            f"{path}: not a checkpoint of {model} ({', '.join(faults[:_NAMED])}{more}); expected "
            "the published file or one with the same layout"
        )
    module.load_state_dict({**expected, **tensors})


def _fault(name: str, value: object, expected: Tensor) -> list[str]:
    if not isinstance(value, Tensor):
        return [f"{name} is a {type(value).__name__}"]
    if value.shape != expected.shape:
        return [f"{name} of shape {tuple(value.shape)} instead of {tuple(expected.shape)}"]
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        return [f"{name} with infinite or undefined numbers"]
    return []
