"""Results as data that strict JSON takes."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """A result as plain Python that strict JSON takes: numbers, strings, lists, dicts and None.

    Dataclasses become dicts, tensors and arrays lists, paths and keys strings, and numbers that are
    not finite None, for JSON has no NaN.

    Example:
        >>> import torch
        >>> from aquamvs.plain import plain
        >>> plain({"depth": torch.tensor([1.0, float("nan")])})
        {'depth': [1.0, None]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {
            f"{key:g}" if isinstance(key, float) else str(key): plain(item)
            for key, item in value.items()
        }
    if hasattr(value, "tolist"):  # tensors and arrays, whose packages need not be loaded for this
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
