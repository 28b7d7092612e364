"""The matching stage: every view is prepared once, every pair is matched as it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..types import Matches, UndistortedViews, Warp
from .base import DenseMatcher, Features, SparseMatcher
from .pairs import Pair, unordered_pairs


def match_sparse(
    matcher: SparseMatcher, views: UndistortedViews, pairs: Iterable[Pair]
) -> Iterator[Matches]:
    """Match each unordered pair once.

    Args:
        matcher: Any sparse matcher.
        views: Views that the pairs name.
        pairs: In either or both directions.

    Yields:
        Matches of ``unordered_pairs(pairs)``, in that order. A view's features are extracted when
        it is first needed and kept until the last pair.

    Example:
        >>> from aquamvs.matching import Pair, create_matcher, match_sparse
        >>> pairs = [Pair("cam0", "cam1"), Pair("cam1", "cam0")]
        >>> [matches.source for matches in match_sparse(create_matcher("sift"), views, pairs)]
        ['cam1']
    """
    features: dict[str, Features] = {}
    for pair in unordered_pairs(pairs):
        for name in (pair.reference, pair.source):
            if name not in features:
                features[name] = matcher.extract(views[name])
        yield matcher.match_features(
            views[pair.reference],
            views[pair.source],
            features[pair.reference],
            features[pair.source],
        )


def match_dense(
    matcher: DenseMatcher, views: UndistortedViews, pairs: Iterable[Pair]
) -> Iterator[Warp]:
    """Match each pair in its own direction, in the order given.

    Args:
        matcher: Any dense matcher.
        views: Views that the pairs name.
        pairs: Reference and source.

    Yields:
        One warp per pair.

    Example:
        >>> from aquamvs.matching import Pair, create_matcher, match_dense
        >>> warps = match_dense(create_matcher("roma"), views, [Pair("cam0", "cam1")])
        >>> [(warp.reference, warp.source) for warp in warps]
        [('cam0', 'cam1')]
    """
    for pair in pairs:
        yield matcher.match(views[pair.reference], views[pair.source])
