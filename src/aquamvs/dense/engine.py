"""What a dense engine is, and the table of those there are."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from ..errors import ConfigError
from ..types import DepthMap, View
from .patchmatch import PatchMatch, PatchMatchOptions


class DenseEngine(Protocol):
    """Estimates the depth map of one view from others of the same instant.

    Example:
        >>> from aquamvs.dense import DenseEngine, create_engine
        >>> engine: DenseEngine = create_engine("patchmatch")
        >>> type(engine).__name__
        'PatchMatch'
    """

    def estimate(
        self,
        reference: View,
        sources: Sequence[View],
        depth_range: tuple[float, float],
        seeds: Tensor | None = None,
    ) -> DepthMap:
        """Depth map of ``reference``.

        Args:
            reference: View that gets the depth map.
            sources: Views that it is matched with.
            depth_range: Least and greatest ray depth of the scene in this view, metres.
            seeds: Points near the surface, world frame, shape (M, 3), metres.
        """


def _patchmatch(options: Mapping[str, Any]) -> DenseEngine:
    return PatchMatch(PatchMatchOptions(**options))


_ENGINES: dict[str, Callable[[Mapping[str, Any]], DenseEngine]] = {
    "patchmatch": _patchmatch,
}


def engine_names() -> tuple[str, ...]:
    """Names that :func:`create_engine` knows.

    Example:
        >>> from aquamvs.dense import engine_names
        >>> engine_names()
        ('patchmatch',)
    """
    return tuple(_ENGINES)


def create_engine(
    name: str = "patchmatch", options: Mapping[str, Any] | None = None
) -> DenseEngine:
    """An engine by name.

    Args:
        name: One of :func:`engine_names`.
        options: Fields of the engine's options; the others keep their defaults.

    Raises:
        ConfigError: No such engine, or options that it does not have.

    Example:
        >>> from aquamvs.dense import create_engine
        >>> type(create_engine("patchmatch", {"window_radius": 4})).__name__
        'PatchMatch'
    """
    if name not in _ENGINES:
        raise ConfigError(f"no dense engine is called {name!r}; known are {', '.join(_ENGINES)}")
    try:
        return _ENGINES[name](options or {})
    except TypeError as error:
        raise ConfigError(f"options of the dense engine {name}: {error}") from None
