"""Rays over a height field and colours on it, compiled for the CPU (numba).

The arithmetic is that of :mod:`~.visibility` and :mod:`~.orthophoto`, which stay the reference (and
what runs on other devices); tests compare the two.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

import numpy as np

from ..numerics.compiler import compiled
from .projection_kernels import lean_row, project_row

_F = np.float32
_ZERO, _ONE, _HALF = _F(0), _F(1), _F(0.5)
_NAN = _F(np.nan)
_LEAST_LEAN, _LEAST_DESCENT = _F(1e-3), _F(1e-6)
_TINY = _F(1e-20)
_HALVINGS = 8
"""Of the last step of a ray; a straight line through its ends finds the rest."""
_RAYS = 256
"""That are followed side by side."""
BLOCK = 8
"""Cells along a block of the map of highest points, which lets a ray skip empty water."""


@compiled
def _height_at(z, column, row):  # type: ignore[no-untyped-def]
    """Bilinear height at a fractional cell; the edge continues outwards."""
    rows, columns = z.shape
    column = min(max(column, _ZERO), _F(columns - 1))
    row = min(max(row, _ZERO), _F(rows - 1))
    j, i = min(int(column), max(columns - 2, 0)), min(int(row), max(rows - 2, 0))
    j1, i1 = min(j + 1, columns - 1), min(i + 1, rows - 1)
    fx, fy = column - _F(j), row - _F(i)
    top = z[i, j] + fx * (z[i, j1] - z[i, j])
    base = z[i1, j] + fx * (z[i1, j1] - z[i1, j])
    return top + fy * (base - top)


@compiled
def hide(camera, z, highest, x0, y0, cell, top, clearance, hidden):  # type: ignore[no-untyped-def]
    """Mark the cells whose way to the camera rises through the surface.

    Args:
        camera: Coefficients of its model, shape (21,).
        z: Heights without gaps, shape (rows, columns).
        highest: Least height of every block of ``BLOCK`` x ``BLOCK`` cells and its neighbours.
        x0: X of the first column, metres.
        y0: Y of the first row, metres.
        cell: Cell size, metres.
        top: Least of the heights.
        clearance: Metres by which the surface must rise above a ray.
        hidden: Output, shape (rows, columns), bool.
    """
    rows, columns = z.shape
    lean, spacing = np.empty((2, columns), np.float32), _F(cell)
    for r in range(rows):
        lean_row(camera, x0, cell, y0 + cell * r, z[r], lean)
        for c in range(columns):
            hidden[r, c] = False
            lean_x, lean_y = lean[0, c], lean[1, c]
            if lean_x != lean_x:
                continue
            slant = max(np.sqrt(lean_x * lean_x + lean_y * lean_y), _LEAST_LEAN)
            rise_step = spacing / slant
            step = 1
            while True:  # the same horizontal distance each time, so that no cell is skipped
                rise = _F(step) * rise_step
                ray_z = z[r, c] - rise
                if not ray_z >= top:
                    break
                x, y = _F(c) + lean_x * rise / spacing, _F(r) + lean_y * rise / spacing
                j = min(max(int(x), 0), columns - 1) // BLOCK
                i = min(max(int(y), 0), rows - 1) // BLOCK
                if highest[i, j] >= ray_z - clearance:  # and the ray goes on rising
                    step += BLOCK
                    continue
                if _height_at(z, x, y) < ray_z - clearance:
                    hidden[r, c] = True
                    break
                step += 1


@compiled
def _bracket(z, x0, y0, spacing, origin, direction, highest, top, bottom, rays):  # type: ignore[no-untyped-def]
    """Find the steps within which rays meet the surface, and return how many do.

    Of these ``rays`` gets the number, the step's ends (depths along the ray), and origin and
    direction in cells along X and Y and in metres along Z, shape (9, N).
    """
    rows, columns = z.shape
    count = 0
    for n in range(origin.shape[0]):
        oz, dz = origin[n, 2], max(direction[n, 2], _LEAST_DESCENT)
        if np.isnan(oz) or np.isnan(dz):
            continue
        column, row = (origin[n, 0] - x0) / spacing, (origin[n, 1] - y0) / spacing
        dx, dy = direction[n, 0] / spacing, direction[n, 1] / spacing
        start = max((top - spacing - oz) / dz, _ZERO)
        end = (bottom + spacing - oz) / dz
        travel = (end - start) * np.sqrt(dx * dx + dy * dy)
        steps = max(2, int(travel) + 3)
        step = (end - start) / _F(steps)
        met = False
        above = _height_at(z, column + start * dx, row + start * dy) - (oz + start * dz)
        s = 0
        while s < steps and not met:
            here = start + _F(s) * step
            last = min(s + BLOCK, steps)
            j = min(max(int(column + here * dx), 0), columns - 1) // BLOCK
            i = min(max(int(row + here * dy), 0), rows - 1) // BLOCK
            if oz + (start + _F(last) * step) * dz < highest[i, j]:
                s, above = last, _ONE
                continue
            while s < last:
                s += 1
                here = start + _F(s) * step
                clearance = _height_at(z, column + here * dx, row + here * dy) - (oz + here * dz)
                if clearance <= _ZERO and above > _ZERO:
                    met = True
                    break
                above = clearance
        if met:
            ray = rays[:, count]
            ray[0], ray[1], ray[2] = n, here - step, here
            ray[3], ray[4], ray[5] = column, row, oz
            ray[6], ray[7], ray[8] = dx, dy, dz
            count += 1
    return count


@compiled
def meet(  # type: ignore[no-untyped-def]
    z, highest, x0, y0, spacing, top, bottom, origin, direction, depth, cell
):
    """First meeting of rays with a height field.

    Args:
        z: Heights, shape (rows, columns), NaN where unknown.
        highest: Least height of every block of ``BLOCK`` x ``BLOCK`` cells and its neighbours.
        x0: X of the first column, metres.
        y0: Y of the first row, metres.
        spacing: Cell size, metres.
        top: Least known height.
        bottom: Greatest known height.
        origin: Start of the rays, shape (N, 3).
        direction: Unit vectors, shape (N, 3).
        depth: Output, shape (N,): metres along the ray; NaN where it meets nothing known.
        cell: Output, shape (N,): number of the cell that it meets, or -1.
    """
    rows, columns = z.shape
    depth[:], cell[:] = _NAN, -1
    rays = np.empty((9, _RAYS), np.float32)
    number, low, high, column, row, oz, dx, dy, dz = rays
    for first in range(0, origin.shape[0], _RAYS):
        part = slice(first, first + _RAYS)
        lines = origin[part], direction[part]
        count = _bracket(z, x0, y0, spacing, *lines, highest, top, bottom, rays)
        # Ray by ray, every halving would wait for the one before it, and be a branch to guess.
        for _ in range(_HALVINGS):
            for n in range(count):
                middle = _HALF * (low[n] + high[n])
                height = _height_at(z, column[n] + middle * dx[n], row[n] + middle * dy[n])
                above = height - (oz[n] + middle * dz[n]) > _ZERO
                low[n], high[n] = middle if above else low[n], high[n] if above else middle
        for n in range(count):
            near, far = low[n], high[n]
            over = _height_at(z, column[n] + near * dx[n], row[n] + near * dy[n])
            over -= oz[n] + near * dz[n]
            under = _height_at(z, column[n] + far * dx[n], row[n] + far * dy[n])
            under -= oz[n] + far * dz[n]
            found = near + (far - near) * over / max(over - under, _TINY)
            at_column = int(np.rint(column[n] + found * dx[n]))
            at_row = int(np.rint(row[n] + found * dy[n]))
            if 0 <= at_column < columns and 0 <= at_row < rows:
                at = first + int(number[n])
                depth[at], cell[at] = found, at_row * columns + at_column


@compiled
def paint(  # type: ignore[no-untyped-def]
    camera, image, usable, width, height, blocked, factor, fade, focal2,
    z, row, column, x0, y0, spacing, total, weights,
):  # fmt: skip
    """Add a view's colours to a tile, weighted by distance from the border and by sharpness.

    Args:
        camera: Coefficients of its model, shape (21,).
        image: RGB, shape (height * width, 3).
        usable: Its mask, shape (height * width,), bool.
        width: Of the image.
        height: Of the image.
        blocked: Cells that it cannot see, on a grid coarser by ``factor``; shape (0, 0) for none.
        factor: See ``blocked``.
        fade: Distance from the border up to which the weight grows, px.
        focal2: Square of the focal length, px².
        z: Heights of the tile, shape (h, w), NaN where unknown.
        row: First grid row.
        column: First grid column.
        x0: X of the grid's first column, metres.
        y0: Y of the grid's first row, metres.
        spacing: Cell size, metres.
        total: In and out: weighted colours, shape (h, w, 3).
        weights: In and out: shape (h, w).
    """
    rows, columns = z.shape
    u, v = np.empty(columns, np.float32), np.empty(columns, np.float32)
    du, dv = np.empty(columns, np.float32), np.empty(columns, np.float32)
    right, bottom = _F(width - 1), _F(height - 1)
    for r in range(rows):
        y = y0 + spacing * (row + r)
        project_row(camera, x0, spacing, column, y, z[r], u, v, du, dv)
        for c in range(columns):
            border = min(min(u[c], right - u[c]), min(v[c], bottom - v[c]))
            if not border > _ZERO:  # also where the projection or the height is unknown
                continue
            if blocked.shape[0] > 0 and blocked[(row + r) // factor, (column + c) // factor]:
                continue
            j, i = min(int(u[c]), width - 2), min(int(v[c]), height - 2)
            at = i * width + j
            below = at + width
            if not (usable[at] and usable[at + 1] and usable[below] and usable[below + 1]):
                continue
            dx = _F(x0 + spacing * (column + c)) - camera[0]
            dy, dz = _F(y) - camera[1], z[r, c] - camera[2]
            weight = min(border, fade) * focal2 / (dx * dx + dy * dy + dz * dz)
            fx, fy = u[c] - _F(j), v[c] - _F(i)
            a, b = (_ONE - fx) * (_ONE - fy), fx * (_ONE - fy)
            d, e = (_ONE - fx) * fy, fx * fy
            for k in range(3):
                total[r, c, k] += weight * (
                    a * image[at, k] + b * image[at + 1, k]
                    + d * image[below, k] + e * image[below + 1, k]
                )  # fmt: skip
            weights[r, c] += weight
