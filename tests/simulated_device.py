"""An accelerator that is not there: its tensors are held by the processor, and say otherwise.

What mixes devices, or reads a device's memory as the processor's, fails as it would on CUDA. The
device is made with PyTorch's hooks for backends that are written in Python. It tells nothing about
CUDA's own arithmetic, and of its speed only how many operations it would have to begin.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "simulated"
_COPIES = {"aten::_to_copy", "aten::copy_"}
_INDEXING = {"aten::index", "aten::index_put_", "aten::index_put", "aten::_unsafe_index"}
_TENSOR, _AS_TENSOR = torch.tensor, torch.as_tensor
_began = 0


class _Backend(_DummyBackendModule):  # type: ignore[misc]
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16]


class _There(torch.Tensor):
    """A tensor on the device; ``held`` is its content."""

    held: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> _There:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    # PyTorch makes these without asking the dispatcher.
    def new_tensor(self, data: Any, dtype: torch.dtype | None = None) -> _There:
        return _There(self.held.new_tensor(data, dtype=dtype))

    def tolist(self) -> Any:
        return self.held.tolist()

    def __getitem__(self, key: Any) -> Any:
        def there(part: Any) -> Any:
            return _There(_TENSOR(part)) if isinstance(part, list) else part

        return super().__getitem__(tuple(map(there, key)) if isinstance(key, tuple) else there(key))

    def numpy(self, *_args: Any, **_kwargs: Any) -> np.ndarray[Any, Any]:
        raise TypeError(f"can't convert a tensor on {NAME} to numpy; use Tensor.cpu() first")

    __array__ = numpy


class _Factories(TorchDispatchMode):
    """Sees what makes tensors from nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    name = func.overloadpacket._qualified_op_name
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    there = [x for x in tensors if isinstance(x, _There)]
    elsewhere = [x for x in tensors if not isinstance(x, _There) and x.dim() > 0]
    indexed_there = name in _INDEXING and isinstance(args[0], _There)
    if there and elsewhere and name not in _COPIES and not indexed_there:
        shapes = [(tuple(x.shape), str(x.device)) for x in tensors]
        raise RuntimeError(f"{name}: expected all tensors on one device, found {shapes}")
    stays = isinstance(args[0], _There) if name == "aten::copy_" else bool(there)
    target = kwargs.get("device")
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    on_device = stays if target is None else torch.device(target).type == NAME
    if on_device:
        global _began
        _began += 1
    made = func(*tree_map(_content, args), **tree_map(_content, kwargs))
    if not on_device:
        return made
    known = {id(x.held): x for x in there}  # what works in place gives back what it was given
    return tree_map(lambda x: _wrapped(x, known), made)


def _content(value: Any) -> Any:
    return value.held if isinstance(value, _There) else value


def _wrapped(value: Any, known: dict[int, _There]) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return known[id(value)] if id(value) in known else _There(value)


def _tensor(data: Any, *, device: Any = None, **kwargs: Any) -> torch.Tensor:
    return _TENSOR(data, **kwargs).to(device or "cpu")


def _as_tensor(data: Any, dtype: torch.dtype | None = None, device: Any = None) -> torch.Tensor:
    if isinstance(data, torch.Tensor):
        return data.to(device=device or data.device, dtype=dtype or data.dtype)
    return _AS_TENSOR(data, dtype=dtype).to(device or "cpu")


_setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
_fallback = torch.library.Library("_", "IMPL")
_fallback.fallback(lambda func, *args, **kwargs: _run(func, args, kwargs), "PrivateUse1")


def operations_begun() -> int:
    """On the device, views of tensors included, since the process began."""
    return _began


@contextmanager
def simulated_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The device's name, while it is there."""
    monkeypatch.setattr(torch, "tensor", _tensor)
    monkeypatch.setattr(torch, "as_tensor", _as_tensor)
    # Wrapped tensors know no inference mode, which is no gradients and less book-keeping.
    monkeypatch.setattr(torch._C, "_InferenceMode", lambda on: torch.set_grad_enabled(not on))
    with _Factories():
        yield NAME
