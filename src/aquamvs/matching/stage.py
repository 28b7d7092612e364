"""The matching stage: every view is prepared once, every pair is matched as it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..numerics.acceleration import in_parallel, operation_workers
from ..types import Matches, UndistortedViews, Warp
from .base import DenseMatcher, SparseMatcher
from .pairs import Pair, unordered_pairs

_VIEWS_AT_ONCE, _PAIRS_AT_ONCE = 2, 4
"""More would take memory that :mod:`~aquamvs.pipeline.memory` does not expect."""


def match_sparse(
    matcher: SparseMatcher, views: UndistortedViews, pairs: Iterable[Pair]
) -> Iterator[Matches]:
    """Match each unordered pair once.

    Args:
        matcher: Any sparse matcher.
        views: Views that the pairs name.
        pairs: In either or both directions.

    Yields:
        Matches of ``unordered_pairs(pairs)``, in that order, on the CPU several at a time. The
        features of all views are extracted before the first and kept until the last pair.

    Example:
        >>> from aquamvs.matching import Pair, create_matcher, match_sparse
        >>> pairs = [Pair("cam0", "cam1"), Pair("cam1", "cam0")]
        >>> [matches.source for matches in match_sparse(create_matcher("sift"), views, pairs)]
        ['cam1']
    """
    pairs = unordered_pairs(pairs)
    names = sorted({name for pair in pairs for name in (pair.reference, pair.source)})
    device = views.views[0].image.device
    workers = operation_workers(device, _VIEWS_AT_ONCE)
    found = in_parallel(lambda name: matcher.extract(views[name]), names, workers)
    features = dict(zip(names, found, strict=True))

    def match(pair: Pair) -> Matches:
        first, second = pair.reference, pair.source
        return matcher.match_features(
            views[first], views[second], features[first], features[second]
        )

    yield from in_parallel(match, pairs, operation_workers(device, _PAIRS_AT_ONCE))


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
