"""Costs along paths over a map, compiled for the CPU (numba).

The arithmetic is that of :mod:`~.search`, which stays the reference (and what runs on other
devices); tests compare the two.
"""

import numpy as np

from ..numerics.compiler import compiled

_INF = np.float32(np.inf)


@compiled
def along_paths(cost, step_cost, jump_cost, total):  # type: ignore[no-untyped-def]
    """Costs plus those of the best paths to each cell from its four sides.

    Args:
        cost: shape (rows, columns, K), finite.
        step_cost: Of a change to the next plane from cell to cell.
        jump_cost: Of a change to any other.
        total: Output, shape (rows, columns, K).
    """
    total[:] = np.float32(0)
    path = np.empty(cost.shape[2], np.float32)
    for column in range(cost.shape[1]):
        _along_line(cost[:, column], step_cost, jump_cost, path, total[:, column])
    for row in range(cost.shape[0]):
        _along_line(cost[row], step_cost, jump_cost, path, total[row])


@compiled
def _along_line(cost, step_cost, jump_cost, path, total):  # type: ignore[no-untyped-def]
    """Add the costs of paths along a line of cells, forth and back; shape (n, K)."""
    count, planes = cost.shape
    for back in range(2):
        path[:] = np.float32(0)
        for i in range(count):
            at = count - 1 - i if back else i
            here, out = cost[at], total[at]
            least = path[0]
            for k in range(1, planes):
                least = min(least, path[k])
            before = _INF  # of the plane before, as it was at the cell before
            for k in range(planes):
                old = path[k]
                after = path[k + 1] if k + 1 < planes else _INF
                reached = min(min(old, least + jump_cost), min(before, after) + step_cost)
                path[k] = here[k] + (reached - least)
                out[k] += path[k]
                before = old
