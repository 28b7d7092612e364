"""The local correlation, compiled for the CPU (numba): no product of two maps is ever stored."""

import numpy as np

from ...numerics.compiler import compiled


@compiled
def correlate(own, padded, radius, out):  # type: ignore[no-untyped-def]
    """Dot products of every cell with the cells around it in another map.

    Args:
        own: shape (C, h, w), float32.
        padded: The other map with a border of ``radius`` cells, shape (C, h + 2r, w + 2r).
        radius: Largest offset, cells.
        out: Output, shape ((2r + 1)^2, h, w).
    """
    channels, rows, columns = own.shape
    side = 2 * radius + 1
    for y in range(rows):
        for i in range(side):
            for j in range(side):
                total = out[i * side + j, y]
                total[:] = np.float32(0)
                for c in range(channels):
                    a, b = own[c, y], padded[c, y + i]
                    for x in range(columns):
                        total[x] += a[x] * b[x + j]
