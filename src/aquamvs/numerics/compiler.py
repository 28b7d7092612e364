"""How the kernels are compiled."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Any:
    """Compile on the first call and keep the result on disk.

    Kernels release the interpreter's lock, so that threads may share the tiles. Multiplications and
    additions may be fused (as BLAS does); nothing else is reordered, so that NaN stays NaN and the
    same machine gives the same bytes.
    """
    compiler = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
    return compiler(function)


def compiled_sums(function: Callable[..., Any]) -> Any:
    """:func:`compiled` with sums reordered for vector instructions.

    The order is fixed when the code is compiled, so the same machine still gives the same bytes.
    """
    compiler = numba.njit(
        cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc"}
    )
    return compiler(function)
