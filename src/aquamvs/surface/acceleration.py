"""Whether the compiled kernels serve a tensor."""

import importlib.util

import torch
from torch import Tensor


def has_kernels(values: Tensor) -> bool:
    """True for float32 values on a CPU, if numba is installed; else tensor operations do it."""
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and importlib.util.find_spec("numba") is not None
    )
