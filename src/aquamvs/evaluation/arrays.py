"""Tensors to NumPy at the boundary of the metrics, and metrics to JSON."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ShapeError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def as_float64(
    name: str, values: Tensor | NDArray[Any], shape: tuple[int | None, ...]
) -> FloatArray:
    """Values as a float64 NumPy array of the wanted shape.

    Args:
        name: Of the argument, for the message.
        values: Tensor of any device and dtype, or array.
        shape: Wanted; None stands for any size.

    Returns:
        A float64 array; it may share memory with ``values``.

    Raises:
        ShapeError: ``values`` has another shape.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    array = np.asarray(values, dtype=np.float64)
    same = array.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(array.shape, shape, strict=True)
    )
    if not same:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ShapeError(name, array.shape, f"({wanted})")
    return array


def as_bool(name: str, values: Tensor | NDArray[Any], shape: tuple[int, ...]) -> BoolArray:
    """A mask as a NumPy array of the wanted shape; raises ShapeError where it has another."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.shape != shape:
        raise ShapeError(name, array.shape, str(shape))
    return array.astype(bool)
