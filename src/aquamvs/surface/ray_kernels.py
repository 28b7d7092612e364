"""Rays over a height field and colours on it, compiled for the CPU (numba).

The arithmetic is that of :mod:`~.visibility`, :mod:`~.depth_maps` and :mod:`~.orthophoto`, which
stay the reference (and what runs on other devices); tests compare the two.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

import numpy as np

from ..numerics.compiler import compiled
from ..projection.kernels import cast_row
from .projection_kernels import lean_row, project_row

_F = np.float32
_ZERO, _ONE, _HALF = _F(0), _F(1), _F(0.5)
_NAN = _F(np.nan)
_LEAST_LEAN, _LEAST_DESCENT = _F(1e-3), _F(1e-6)
_TINY = _F(1e-20)
_FIRST = np.int32(0)
_FEW = 4
"""Of the rays side by side one in so many: fewer are followed one by one."""
_HALVINGS = 8
"""Of the last step of a ray; a straight line through its ends finds the rest."""
BLOCK = 8
"""Cells along a block of the map of highest points, which lets a ray skip empty water."""
_BLOCK = np.uint32(BLOCK)


@compiled
def _height_at(z, column, row):  # type: ignore[no-untyped-def]
    """Bilinear height at a fractional cell; the edge continues outwards."""
    rows, columns = z.shape
    column = min(max(column, _ZERO), _F(columns - 1))
    row = min(max(row, _ZERO), _F(rows - 1))
    j = min(np.int32(column), np.int32(max(columns - 2, 0)))
    i = min(np.int32(row), np.int32(max(rows - 2, 0)))
    fx, fy = column - _F(j), row - _F(i)
    # Signed indices would be asked whether they count from the end.
    left, up = np.uintp(np.uint32(j)), np.uintp(np.uint32(i))
    right, down = left + np.uintp(min(columns - 1, 1)), up + np.uintp(min(rows - 1, 1))
    top = z[up, left] + fx * (z[up, right] - z[up, left])
    base = z[down, left] + fx * (z[down, right] - z[down, left])
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
def _begin(usable, x0, y0, spacing, top, bottom, rays):  # type: ignore[no-untyped-def]
    """Divide a row's rays into steps of less than a cell.

    Args:
        usable: Whether a ray counts, shape (N,), bool.
        x0: X of the first column, metres.
        y0: Y of the first row, metres.
        spacing: Cell size, metres.
        top: Least of the heights.
        bottom: Greatest of the heights.
        rays: shape (11, N). Origin and direction, metres; NaN where no ray begins. Output: the
            same in cells along X and Y; where the first step begins, metres along the ray, and its
            height; a step's length, and the steps per metre that it sinks; how many there are.
    """
    column, row, oz, dx, dy, dz, start, begin, step, rate, most = rays
    per_metre = _ONE / spacing
    for n in range(usable.shape[0]):
        column[n], row[n] = (column[n] - x0) * per_metre, (row[n] - y0) * per_metre
        dx[n], dy[n], dz[n] = dx[n] * per_metre, dy[n] * per_metre, max(dz[n], _LEAST_DESCENT)
        per_sunk = _ONE / dz[n]
        start[n] = max((top - spacing - oz[n]) * per_sunk, _ZERO)
        begin[n] = oz[n] + start[n] * dz[n]
        length = (bottom + spacing - oz[n]) * per_sunk - start[n]
        count = np.floor(length * np.sqrt(dx[n] * dx[n] + dy[n] * dy[n])) + _F(3)
        step[n] = length / count
        rate[n] = per_sunk / step[n]
        most[n] = count if usable[n] and length > _ZERO else _ZERO


@compiled
def _skip(highest, shape, column, row, begin, rate, s, most):  # type: ignore[no-untyped-def]
    """The step up to which a ray stays above the blocks around its step ``s``, at a cell."""
    j = min(max(np.int32(column), _FIRST), np.int32(shape[1] - 1))
    i = min(max(np.int32(row), _FIRST), np.int32(shape[0] - 1))
    near = highest[np.uint32(i) // _BLOCK, np.uint32(j) // _BLOCK]
    # A block further, less the cell between which and the next a height lies, nothing is known.
    last = min(s + _F(BLOCK - 1), most)
    return max(min(np.floor((near - begin) * rate), last), s)


@compiled
def _bracket(z, highest, rays, steps):  # type: ignore[no-untyped-def]
    """Find the steps within which a row's rays meet the surface, and return how many do.

    Args:
        z: Heights without gaps, shape (rows, columns).
        highest: See :func:`draw`.
        rays: From :func:`_begin`. Output: those that meet the surface come first.
        steps: Output, shape (3, N): their numbers, and the step's ends, metres along the ray.
    """
    column, row, oz, dx, dy, dz, start, begin, step, rate, most = rays
    number, low, high = steps
    free, count, moved = high, 0, high.shape[0]
    free[:] = _ZERO
    # Side by side, as long as it takes many of the rays further.
    while moved > free.shape[0] // _FEW:
        moved = 0
        for n in range(free.shape[0]):
            here = start[n] + free[n] * step[n]
            x, y = column[n] + here * dx[n], row[n] + here * dy[n]
            further = _skip(highest, z.shape, x, y, begin[n], rate[n], free[n], most[n])
            moved += further > free[n]
            free[n] = further
    for n in range(free.shape[0]):
        if not most[n] > _ZERO:
            continue
        s, met, above = free[n], False, _ONE
        if not start[n] + s > _ZERO:
            above = _height_at(z, column[n], row[n]) - begin[n]
        while s < most[n] and not met:
            last = min(s + _F(BLOCK), most[n])
            while s < last and not met:
                s += _ONE
                here = start[n] + s * step[n]
                x, y = column[n] + here * dx[n], row[n] + here * dy[n]
                clearance = _height_at(z, x, y) - (oz[n] + here * dz[n])
                met = bool(clearance <= _ZERO and above > _ZERO)
                above = clearance
            if not met:
                further = _skip(highest, z.shape, x, y, begin[n], rate[n], s, most[n])
                s, above = further, _ONE if further > s else above
        if met:
            number[count], low[count], high[count] = n, here - step[n], here
            column[count], row[count], oz[count] = column[n], row[n], oz[n]
            dx[count], dy[count], dz[count] = dx[n], dy[n], dz[n]
            count += 1
    return count


@compiled
def draw(  # type: ignore[no-untyped-def]
    camera, usable, z, highest, x0, y0, spacing, top, bottom, known, confidence, sigma, maps
):
    """Draw a height field as a camera sees it: the first meeting of every pixel's ray with it.

    Args:
        camera: Ray coefficients of its model, shape (17,).
        usable: Its mask, shape (h, w), bool.
        z: Heights without gaps, shape (rows, columns).
        highest: Least height of every block of ``BLOCK`` x ``BLOCK`` cells and its neighbours.
        x0: X of the first column, metres.
        y0: Y of the first row, metres.
        spacing: Cell size, metres.
        top: Least of the heights.
        bottom: Greatest of the heights.
        known: False where ``z`` bridges a gap, which shows nothing; same shape, bool.
        confidence: Of the heights, same shape.
        sigma: Of the heights, same shape, metres.
        maps: Output, shape (3, h, w): depth along the ray, confidence, and sigma along the ray;
            NaN, 0 and NaN where a ray meets nothing known.
    """
    rows, columns = z.shape
    maps[0], maps[1], maps[2] = _NAN, _ZERO, _NAN
    rays = np.empty((11, usable.shape[1]), np.float32)
    steps = np.empty((3, usable.shape[1]), np.float32)
    column, row, oz, dx, dy, dz = rays[:6]
    number, low, high = steps
    for v in range(usable.shape[0]):
        cast_row(camera, v, rays[:6])
        _begin(usable[v], x0, y0, spacing, top, bottom, rays)
        count = _bracket(z, highest, rays, steps)
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
            depth = near + (far - near) * over / max(over - under, _TINY)
            j = int(np.rint(column[n] + depth * dx[n]))
            i = int(np.rint(row[n] + depth * dy[n]))
            if 0 <= j < columns and 0 <= i < rows and known[i, j]:
                u = int(number[n])
                maps[0, v, u], maps[1, v, u] = depth, confidence[i, j]
                maps[2, v, u] = sigma[i, j] / dz[n]


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
        project_row(camera, x0, spacing, column, y, z[r], False, u, v, du, dv)
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
