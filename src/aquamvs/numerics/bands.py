"""Maps computed some rows at a time: what lies between then stays in a processor's cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .acceleration import at_once, in_parallel, operation_workers

_BAND_CELLS = 1 << 18
"""Cells of a band on a processor: larger maps in between are taken from the system every time."""
_MARGINS = 8
"""A band has as many times the rows of its margin, so that little is computed twice."""
_MOST_WORKERS = 8
"""Bands that are worked on at a time: bounds memory."""


def in_bands(
    function: Callable[[slice], Sequence[Tensor]],
    like: Tensor,
    cell_bytes: int,
    *,
    margin: int = 0,
) -> tuple[Tensor, ...]:
    """Maps of a function that finds some rows of them at a time.

    Args:
        function: Called with rows (with the margin, within the map); returns maps of these rows, or
            of pairs of them (see :func:`~.filters.halve`).
        like: Map of shape (rows, columns).
        cell_bytes: Memory that the function needs for each cell.
        margin: Rows beyond those wanted that the function needs to know.

    Returns:
        The function's maps of all rows.
    """
    margin += margin % 2  # bands begin with whole pairs
    count = at_once(like.device, _BAND_CELLS, cell_bytes) // max(1, like.shape[1])
    count = max(2, _MARGINS * margin, count - count % 2)
    bands = [slice(row, min(row + count, len(like))) for row in range(0, len(like), count)]

    def find(rows: slice) -> list[Tensor]:
        around = slice(max(rows.start - margin, 0), min(rows.stop + margin, len(like)))
        wanted = slice(rows.start - around.start, rows.stop - around.start)
        size = around.stop - around.start
        return [
            found[wanted if len(found) == size else halved(wanted)] for found in function(around)
        ]

    workers = operation_workers(like.device, min(_MOST_WORKERS, len(bands)))
    maps: list[Tensor] = []
    for rows, parts in zip(bands, in_parallel(find, bands, workers), strict=True):
        size = rows.stop - rows.start
        places = [rows if len(part) == size else halved(rows) for part in parts]
        if not maps:
            ends = (len(like) if place is rows else -(-len(like) // 2) for place in places)
            maps = [x.new_empty(end, *x.shape[1:]) for x, end in zip(parts, ends, strict=True)]
        for whole, place, part in zip(maps, places, parts, strict=True):
            whole[place] = part
    return tuple(maps)


def halved(rows: slice) -> slice:
    """Of a halved map, those of some rows."""
    return slice(rows.start // 2, -(-rows.stop // 2))
