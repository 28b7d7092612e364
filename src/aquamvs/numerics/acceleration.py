"""Whether the compiled kernels serve a tensor, and the threads that share their work."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def has_kernels(values: Tensor) -> bool:
    """True for float32 values on a CPU, if numba is installed; else tensor operations do it."""
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and importlib.util.find_spec("numba") is not None
    )


def worker_count(values: Tensor, most: int | None = None) -> int:
    """Threads that may work on a tensor: tensor operations use all cores themselves.

    Args:
        values: The tensor.
        most: No more than these.
    """
    threads = torch.get_num_threads() if has_kernels(values) else 1
    return threads if most is None else min(threads, most)


def in_parallel(
    function: Callable[[_In], _Out], items: Iterable[_In], workers: int
) -> Iterator[_Out]:
    """Results in the order of the items, computed by threads if there are several workers."""
    if workers == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(function, items)
