"""Whether the compiled kernels serve a tensor, and the threads that share their work."""

import importlib.util
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_SHARE_OF_FREE = 0.25
"""Of an accelerator's free memory: what a step needs is estimated, and results need some too."""
_UNKNOWN_ROOM = 2 << 30
"""Bytes, where an accelerator does not tell."""


def has_kernels(values: Tensor) -> bool:
    """True for float32 values on a CPU, if numba is installed; else tensor operations do it."""
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and importlib.util.find_spec("numba") is not None
    )


def has_cuda_kernels(values: Tensor) -> bool:
    """True for float32 values on an NVIDIA GPU, if numba-cuda and its compiler are installed."""
    if (
        values.device.type != "cuda"
        or values.dtype != torch.float32
        or importlib.util.find_spec("numba_cuda") is None
    ):
        return False
    from numba import cuda

    return bool(cuda.is_available())


def worker_count(values: Tensor, most: int | None = None) -> int:
    """Threads that may work on a tensor: tensor operations use all cores themselves.

    Args:
        values: The tensor.
        most: No more than these.
    """
    threads = torch.get_num_threads() if has_kernels(values) else 1
    return threads if most is None else min(threads, most)


def at_once(device: torch.device, on_processor: int, each_bytes: int) -> int:
    """How much to work on at a time.

    An accelerator takes longer to begin an operation than to work on what fits a processor's cache:
    it takes what fits its memory.

    Args:
        device: Of the tensors.
        on_processor: The number for processors.
        each_bytes: Memory that tensor operations need for each.
    """
    if device.type == "cpu":
        return on_processor
    room = _UNKNOWN_ROOM
    if device.type == "cuda":
        room = int(_SHARE_OF_FREE * torch.cuda.mem_get_info(device)[0])
    return max(1, room // each_bytes)


def operation_workers(device: torch.device, most: int) -> int:
    """Threads among which independent tensor operations on a device are best shared out.

    Small operations do not fill several cores, and each one that tries makes all of them wait.

    Args:
        device: Of the tensors.
        most: No more than these, for the sake of memory.
    """
    return min(torch.get_num_threads(), most) if device.type == "cpu" else 1


def in_parallel(
    function: Callable[[_In], _Out], items: Iterable[_In], workers: int
) -> Iterator[_Out]:
    """Results in the order of the items, computed by threads if there are several workers.

    PyTorch's threads are shared out among the workers: if each worker's operations used them all,
    most would wait for one another, and keep a core busy while they wait.
    """
    if workers == 1:
        yield from map(function, items)
        return
    share = max(1, torch.get_num_threads() // workers)
    with (
        operation_threads(share),
        ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool,
    ):
        yield from pool.map(function, items)


def by_rows(maps: Tensor, kernel: Callable[[range], None], *, multiple: int = 1) -> None:
    """Run compiled code on parts of a map's rows, one per thread.

    Args:
        maps: Whose rows are shared out.
        kernel: Called with the rows of a part.
        multiple: Of which a part has so many rows, but for the last.
    """
    workers = worker_count(maps)
    ends = [len(maps) * i // (workers * multiple) * multiple for i in range(workers)]
    ends.append(len(maps))
    list(in_parallel(kernel, itertools.starmap(range, itertools.pairwise(ends)), workers))


def by_cells(
    kernel: Callable[..., None],
    maps: Sequence[Tensor],
    settings: Sequence[Any],
    out: Sequence[Tensor],
) -> None:
    """Run compiled code that treats every cell by itself on maps of equal shape.

    Args:
        kernel: Called with flat arrays: parts of the maps, the settings, and parts of the outputs.
        maps: shape (rows, columns) each.
        settings: That it needs besides.
        out: What it fills, shape (rows, columns) each.
    """
    count = len(maps)
    arrays = [each.contiguous().numpy() for each in (*maps, *out)]

    def run(rows: range) -> None:
        parts = [each[rows.start : rows.stop].reshape(-1) for each in arrays]
        kernel(*parts[:count], *settings, *parts[count:])

    by_rows(maps[0], run)


@contextmanager
def operation_threads(most: int) -> Iterator[None]:
    """Tensor operations use no more threads than these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, most))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
