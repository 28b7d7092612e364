"""Height maps as points with normals and as triangles, compiled for the CPU (numba).

The arithmetic is that of :mod:`aquamvs.cells` and :mod:`aquamvs.meshing.height_field`, whose tensor
operations stay the reference (and what runs on other devices); tests compare the two.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

import numpy as np

from .compiler import compiled

_F = np.float32
_ZERO, _ONE, _NAN = _F(0), _F(1), _F(np.nan)


@compiled
def describe_cells(  # type: ignore[no-untyped-def]
    z, wanted, starts, x, y, spacing, max_step, first, last, numbers, points, normals
):
    """Numbers, points and normals of some known cells, see :class:`aquamvs.cells.Cells`.

    Args:
        z: Heights, shape (rows, columns), metres; NaN where unknown.
        wanted: Same shape, bool; False where the cell is unknown.
        starts: How many wanted cells come before each row.
        x: Of every column, metres.
        y: Of every row.
        spacing: Cell size, metres.
        max_step: Neighbours that differ by more belong to different surfaces, metres.
        first: Row to begin with.
        last: Row to end before.
        numbers: Output, shape (N,).
        points: Output, shape (N, 3).
        normals: Output, shape (N, 3).
    """
    columns = z.shape[1]
    nothing = np.full(columns, _NAN)  # beyond the border
    steps = np.zeros((2, columns + 1), np.float32)  # with one before the row and one behind it
    shared = np.zeros((4, columns + 2), np.float32)
    sums = np.zeros((3, 4, columns), np.float32)  # along rows that the next ones need, in turn
    unit = np.empty((3, columns), np.float32)
    for r in range(first - 1, last + 1):
        before = _line(z, r - 1, nothing)
        line = _line(z, r, nothing)
        after = _line(z, r + 1, nothing)
        _sum_steps(before, line, after, max_step, steps, shared, sums[r % 3])
        out = r - 1
        if out < first:
            continue
        _unit_normals(sums[(out - 1) % 3], sums[out % 3], sums[r % 3], spacing, unit)
        n = starts[out]
        for c in range(columns):
            if wanted[out, c]:
                numbers[n] = out * columns + c
                points[n, 0], points[n, 1], points[n, 2] = x[c], y[out], z[out, c]
                normals[n, 0], normals[n, 1], normals[n, 2] = unit[0, c], unit[1, c], unit[2, c]
                n += 1


@compiled
def _line(z, r, nothing):  # type: ignore[no-untyped-def]
    return z[r] if 0 <= r < z.shape[0] else nothing


@compiled
def _sum_steps(before, line, after, max_step, steps, shared, sums):  # type: ignore[no-untyped-def]
    """Sums over three cells of a row of steps along x, their number, steps along y, their number.

    Steps to an unknown cell or across a jump stay out. Each lies between two cells and is shared by
    both. ``steps`` and ``shared`` are room to work in; their ends are 0.
    """
    columns = line.shape[0]
    for c in range(columns - 1):
        step = line[c + 1] - line[c]
        usable = abs(step) <= max_step  # False for NaN
        steps[0, c + 1], steps[1, c + 1] = step if usable else _ZERO, _ONE if usable else _ZERO
    for c in range(columns):
        up, down = line[c] - before[c], after[c] - line[c]
        above, below = abs(up) <= max_step, abs(down) <= max_step
        shared[0, c + 1] = steps[0, c] + steps[0, c + 1]
        shared[1, c + 1] = steps[1, c] + steps[1, c + 1]
        shared[2, c + 1] = (up if above else _ZERO) + (down if below else _ZERO)
        shared[3, c + 1] = (_ONE if above else _ZERO) + (_ONE if below else _ZERO)
    for k in range(4):
        for c in range(columns):
            sums[k, c] = shared[k, c] + (shared[k, c + 1] + shared[k, c + 2])


@compiled
def _unit_normals(above, here, below, spacing, unit):  # type: ignore[no-untyped-def]
    """Normals of a row, shape (3, columns), from the sums of three rows."""
    total = np.empty_like(here)
    for k in range(4):
        for c in range(total.shape[1]):
            total[k, c] = above[k, c] + (here[k, c] + below[k, c])
    for c in range(total.shape[1]):
        x = total[0, c] / max(total[1, c], _ONE) / spacing
        y = total[2, c] / max(total[3, c], _ONE) / spacing
        length = np.sqrt(x * x + y * y + _ONE)
        unit[0, c], unit[1, c], unit[2, c] = x / length, y / length, -_ONE / length


@compiled
def choose_triangles(z, max_rise, first, last, chosen):  # type: ignore[no-untyped-def]
    """Which triangles of every quad of cells a mesh has, one bit for each.

    A quad has the corners 0 1 above 2 3; the bits 1, 2, 4 and 8 stand for the triangles (0, 2, 3),
    (0, 3, 1), (0, 2, 1) and (1, 2, 3).

    Args:
        z: Heights, shape (rows, columns), metres; NaN where unknown.
        max_rise: Highest edge, metres.
        first: Row of quads to begin with.
        last: Row of quads to end before.
        chosen: Output, shape (rows + 1, columns + 1), uint8; the quad below and right of cell
            (r, c) stands at (r + 1, c + 1), so that every cell has four.
    """
    for r in range(first, last):
        upper, lower, into = z[r], z[r + 1], chosen[r + 1]
        for c in range(z.shape[1] - 1):
            # The difference of the highest and the lowest corner is the largest of the three.
            top, base = abs(upper[c] - upper[c + 1]), abs(lower[c] - lower[c + 1])
            left, right = abs(upper[c] - lower[c]), abs(upper[c + 1] - lower[c + 1])
            falling, rising = abs(upper[c] - lower[c + 1]), abs(upper[c + 1] - lower[c])
            fit0 = (falling <= max_rise) & (left <= max_rise) & (base <= max_rise)
            fit1 = (falling <= max_rise) & (right <= max_rise) & (top <= max_rise)
            fit2 = (rising <= max_rise) & (left <= max_rise) & (top <= max_rise)
            fit3 = (rising <= max_rise) & (right <= max_rise) & (base <= max_rise)
            by_rising = fit2 & fit3
            by_falling = fit0 & fit1 & ((falling <= rising) | ~by_rising)
            bits = 1 if fit0 else 2 if fit1 else 4 if fit2 else 8 if fit3 else 0
            into[c + 1] = 3 if by_falling else 12 if by_rising else bits


@compiled
def _put(a, b, c, n, faces):  # type: ignore[no-untyped-def]
    faces[n, 0], faces[n, 1], faces[n, 2] = a, b, c
    return n + 1


@compiled
def write_faces(chosen, used, vertices, starts, first, last, faces):  # type: ignore[no-untyped-def]
    """Triangles over the numbers of the used cells, in row-major order of their quads.

    Args:
        chosen: From :func:`choose_triangles`.
        used: Cells that a triangle has for a corner, shape (rows, columns), bool.
        vertices: How many used cells come before each row.
        starts: How many faces come before each row of quads.
        first: Row of quads to begin with.
        last: Row of quads to end before.
        faces: Output, shape (F, 3), int32.
    """
    for r in range(first, last):
        n, upper, lower = starts[r], vertices[r], vertices[r + 1]
        for c in range(used.shape[1] - 1):
            corner0, corner2 = upper, lower
            upper += used[r, c]
            lower += used[r + 1, c]
            bits = chosen[r + 1, c + 1]
            if bits & 1:
                n = _put(corner0, corner2, lower, n, faces)
            if bits & 2:
                n = _put(corner0, lower, upper, n, faces)
            if bits & 4:
                n = _put(corner0, corner2, upper, n, faces)
            if bits & 8:
                n = _put(upper, corner2, lower, n, faces)
