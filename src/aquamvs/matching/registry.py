"""The one table of matchers: a new matcher is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import torch

from ..errors import ConfigError
from ..pathways import MatcherType
from .base import DenseMatcher, SparseMatcher
from .lightglue import LightGlueMatcher, LightGlueOptions
from .roma import RomaOptions, create_roma
from .sift import SiftMatcher, SiftOptions

MatcherOptions = SiftOptions | LightGlueOptions | RomaOptions
"""Options of any matcher."""


@dataclass(frozen=True, slots=True)
class MatcherEntry:
    """One matcher.

    Attributes:
        kind: ``sparse`` (:class:`SparseMatcher`) or ``dense`` (:class:`DenseMatcher`).
        options: Class of its options.
        create: Builds it from options and a device.

    Example:
        >>> from aquamvs.matching import MATCHERS
        >>> MATCHERS["roma"].kind, MATCHERS["sift"].options.__name__
        ('dense', 'SiftOptions')
    """

    kind: Literal["sparse", "dense"]
    options: type[MatcherOptions]
    create: Callable[[Any, str | torch.device], SparseMatcher | DenseMatcher]


MATCHERS: Final[Mapping[str, MatcherEntry]] = MappingProxyType(
    {
        MatcherType.LIGHTGLUE: MatcherEntry("sparse", LightGlueOptions, LightGlueMatcher.create),
        MatcherType.ROMA: MatcherEntry("dense", RomaOptions, create_roma),
        MatcherType.SIFT: MatcherEntry("sparse", SiftOptions, SiftMatcher),
    }
)
"""Name to matcher."""


def create_matcher(
    matcher_type: str,
    options: MatcherOptions | None = None,
    device: str | torch.device = "cpu",
) -> SparseMatcher | DenseMatcher:
    """Build a matcher by name.

    Args:
        matcher_type: Name in :data:`MATCHERS`.
        options: Of that matcher; None for its defaults.
        device: Where it runs.

    Returns:
        A sparse or a dense matcher, as ``MATCHERS[matcher_type].kind`` says.

    Raises:
        ConfigError: The name is unknown, the options are another matcher's, or a package that the
            matcher needs is not installed.
        WeightsError: Its weights are missing or do not fit.

    Example:
        >>> from aquamvs.matching import SiftOptions, create_matcher
        >>> create_matcher("sift", SiftOptions(max_keypoints=500)).label
        'SIFT'
    """
    entry = MATCHERS.get(matcher_type)
    if entry is None:
        raise ConfigError(
            f"matcher_type is {str(matcher_type)!r}; expected one of {', '.join(sorted(MATCHERS))}"
        )
    if options is None:
        options = entry.options()
    if not isinstance(options, entry.options):
        raise ConfigError(
            f"matcher {str(matcher_type)!r} was given {type(options).__name__}; expected "
            f"{entry.options.__name__}"
        )
    return entry.create(options, device)
