"""The hot loops of the surface sweep, compiled for the CPU (numba).

One call does for one tile what :class:`~.evaluator.TensorEvaluator` does with tensors, with
everything in the processor's cache: project the cells, sample each view once per hypothesis,
normalise, weigh the views, add up their spread, and smooth it. The arithmetic is that of
:mod:`~.consistency` and :mod:`~.evaluator`, which stay the reference (and what runs on other
devices); tests compare the two.
All arrays are contiguous; all values are float32.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

import numpy as np

from ..numerics.compiler import compiled
from ..numerics.filter_kernels import smooth
from ..numerics.sampling_kernels import PADDING, sample_map
from .projection_kernels import may_see, project_row

_F = np.float32
_ZERO, _ONE, _HALF, _QUARTER = _F(0), _F(1), _F(0.5), _F(0.25)
_NAN, _INF = _F(np.nan), _F(np.inf)
_TINY = _F(1e-20)
_LEAST_WEIGHT = _F(1e-6)
_LARGEST_SHARE = _F(0.9)
BOX = 9
"""Side of the normalisation window, cells; :func:`_box` is written out for it."""
_BOX_CELLS = _F(BOX * BOX)
WHOLE = 2
"""Of a mask: the pixel, and those to the right, below and below to the right, may all be used."""


@compiled
def _box(source, scratch, out):  # type: ignore[no-untyped-def]
    """Mean over 9 x 9 cells; smaller by 8 each way."""
    rows, columns = out.shape
    for r in range(rows + BOX - 1):
        a, t = source[r], scratch[r]
        for c in range(columns):
            t[c] = (
                a[c] + a[c + 1] + a[c + 2] + a[c + 3] + a[c + 4]
                + a[c + 5] + a[c + 6] + a[c + 7] + a[c + 8]
            )  # fmt: skip
    for r in range(rows):
        t = out[r]
        a0, a1, a2, a3 = scratch[r], scratch[r + 1], scratch[r + 2], scratch[r + 3]
        a4, a5, a6, a7 = scratch[r + 4], scratch[r + 5], scratch[r + 6], scratch[r + 7]
        a8 = scratch[r + 8]
        for c in range(columns):
            t[c] = (
                a0[c] + a1[c] + a2[c] + a3[c] + a4[c] + a5[c] + a6[c] + a7[c] + a8[c]
            ) / _BOX_CELLS  # fmt: skip


@compiled
def _smooth9(source, taps, scratch, out):  # type: ignore[no-untyped-def]
    """:func:`_smooth` with nine taps: written out it takes a fifth of the time."""
    rows, columns = out.shape
    t0, t1, t2, t3, t4 = taps[0], taps[1], taps[2], taps[3], taps[4]
    for r in range(rows + 8):
        a, t = source[r], scratch[r]
        for c in range(columns):
            t[c] = (
                t0 * (a[c] + a[c + 8]) + t4 * a[c + 4] + t1 * (a[c + 1] + a[c + 7])
                + t2 * (a[c + 2] + a[c + 6]) + t3 * (a[c + 3] + a[c + 5])
            )  # fmt: skip
    for r in range(rows):
        t = out[r]
        a0, a1, a2, a3, a4 = (
            scratch[r],
            scratch[r + 1],
            scratch[r + 2],
            scratch[r + 3],
            scratch[r + 4],
        )
        a5, a6, a7, a8 = scratch[r + 5], scratch[r + 6], scratch[r + 7], scratch[r + 8]
        for c in range(columns):
            t[c] = (
                t0 * (a0[c] + a8[c]) + t4 * a4[c] + t1 * (a1[c] + a7[c])
                + t2 * (a2[c] + a6[c]) + t3 * (a3[c] + a5[c])
            )  # fmt: skip


@compiled
def _smooth(source, taps, scratch, out):  # type: ignore[no-untyped-def]
    """Separable symmetric filter; smaller by ``len(taps) - 1`` each way."""
    if taps.shape[0] == 9:
        _smooth9(source, taps, scratch, out)
    else:
        smooth(source, taps, out)


@compiled
def _pixels_per_cell(  # type: ignore[no-untyped-def]
    u, v, u_above, v_above, u_below, v_below, right, bottom, area
):
    """Pixels that each cell of a row covers, from its neighbours; 0 off the image."""
    last = area.shape[0] - 1
    for c in range(1, last):
        across_u, across_v = u[c + 1] - u[c - 1], v[c + 1] - v[c - 1]
        down_u, down_v = u_below[c] - u_above[c], v_below[c] - v_above[c]
        area[c] = abs(across_u * down_v - across_v * down_u) * _QUARTER
    for edge, beside in ((0, 1), (last, last - 1)):
        across_u, across_v = u[beside + 1] - u[beside - 1], v[beside + 1] - v[beside - 1]
        down_u, down_v = u_below[edge] - u_above[edge], v_below[edge] - v_above[edge]
        area[edge] = abs(across_u * down_v - across_v * down_u) * _QUARTER
    for c in range(last + 1):
        inside = (u[c] >= _ZERO) & (u[c] <= right) & (v[c] >= _ZERO) & (v[c] <= bottom)
        area[c] = area[c] if inside else _ZERO


@compiled
def _leave_out(usable, width, height, usable_level, u, v, area):  # type: ignore[no-untyped-def]
    """Clear the cells of a row for which a bilinear sample touches a pixel that is not usable."""
    stride = width + PADDING
    for c in range(area.shape[0]):
        if area[c] == _ZERO:
            continue
        x, y = u[c], v[c]
        j, i = min(int(x), width - 2), min(int(y), height - 2)
        at = (i + 1) * stride + j + 1
        if usable[at] == WHOLE:
            continue
        below = at + stride
        a, b, d, e = usable[at] > 0, usable[at + 1] > 0, usable[below] > 0, usable[below + 1] > 0
        fx, fy = x - _F(j), y - _F(i)
        lost = (
            (_ONE - fx) * (_ONE - fy) * (not a)
            + fx * (_ONE - fy) * (not b)
            + (_ONE - fx) * fy * (not d)
            + fx * fy * (not e)
        )
        if not _ONE - lost > usable_level:
            area[c] = _ZERO


@compiled
def _see(  # type: ignore[no-untyped-def]
    camera, width, height, usable, all_usable, blocked, factor, usable_level,
    z, row, column, grid_rows, grid_columns, x0, y0, spacing, moving, u, v, du, dv, area,
):  # fmt: skip
    """Where a view sees the cells of a tile, and on how many pixels each; True if any.

    If they are ``moving``, their motion is found too. That area is 0 where the view does not see a
    cell, and negative where only the surface hides it.
    """
    rows, columns = z.shape
    for r in range(rows):
        y = y0 + spacing * (row + r)
        project_row(camera, x0, spacing, column, y, z[r], moving, u[r], v[r], du[r], dv[r])
    right, bottom = _F(width - 1), _F(height - 1)
    coarse = np.empty(columns, np.int64)
    for c in range(columns):
        coarse[c] = min(max(column + c, 0), grid_columns - 1) // factor
    any_seen = 0
    for r in range(rows):
        middle = min(max(r, 1), rows - 2)
        a, before, after = area[r], middle - 1, middle + 1
        _pixels_per_cell(u[r], v[r], u[before], v[before], u[after], v[after], right, bottom, a)
        if not all_usable:
            _leave_out(usable, width, height, usable_level, u[r], v[r], a)
        if blocked.shape[0] > 0:
            hidden = blocked[min(max(row + r, 0), grid_rows - 1) // factor]
            for c in range(columns):
                a[c] = -a[c] if hidden[coarse[c]] else a[c]
        for c in range(columns):
            any_seen += a[c] > _ZERO
    for r in range(rows):
        a, b, s, t = u[r], v[r], du[r], dv[r]
        for c in range(columns):
            known = a[c] == a[c]
            a[c], b[c] = a[c] if known else _ZERO, b[c] if known else _ZERO
            s[c], t[c] = s[c] if known & moving else _ZERO, t[c] if known & moving else _ZERO
    return any_seen > 0


@compiled
def _keep_sharp(count, least, active, u, v, du, dv, seen, best):  # type: ignore[no-untyped-def]
    """Turn pixels per cell into what is sharp enough; number of views that see any.

    1 where a view sees a cell, 0 where its image does not hold it, -1 where it is no use else.
    """
    rows, columns = best.shape
    best[:] = _ZERO
    for i in range(count):
        for r in range(rows):
            a, b = seen[i, r], best[r]
            for c in range(columns):
                b[c] = max(b[c], abs(a[c]))
    kept = 0
    for i in range(count):
        any_seen = 0
        for r in range(rows):
            a, b = seen[i, r], best[r]
            for c in range(columns):
                if a[c] > least * min(b[c], _ONE):
                    a[c] = _ONE
                    any_seen += 1
                elif a[c] != _ZERO:
                    a[c] = -_ONE
        if any_seen > 0:
            if kept < i:
                active[kept] = active[i]
                for maps in (u, v, du, dv, seen):
                    maps[kept] = maps[i]
            kept += 1
    return kept


@compiled
def _keep_whole(count, enough, level, seen, inside, scratch, share, whole):  # type: ignore[no-untyped-def]
    """Leave out views whose window is cut where enough others see all of theirs; 1 or 0 stays."""
    half = BOX // 2
    rows, columns = share.shape
    whole[:] = _ZERO
    for i in range(count):
        outside = 0
        for r in range(inside.shape[0]):
            s, t = seen[i, r], inside[r]
            for c in range(inside.shape[1]):
                t[c] = _ONE if s[c] != _ZERO else _ZERO
                outside += s[c] == _ZERO
                s[c] = max(s[c], _ZERO)
        if outside > 0:
            _box(inside, scratch, share)
        for r in range(rows):
            s, b, t = seen[i, r + half], share[r], whole[r]
            for c in range(columns):
                if s[c + half] > _ZERO:
                    if outside > 0 and b[c] < level:
                        s[c + half] = _HALF
                    else:
                        t[c] += _ONE
    for i in range(count):
        for r in range(rows):
            s, t = seen[i, r + half], whole[r]
            for c in range(columns):
                if s[c + half] == _HALF:
                    s[c + half] = _ZERO if t[c] >= enough else _ONE


@compiled
def _normalise(  # type: ignore[no-untyped-def]
    image,
    width,
    height,
    cubic,
    u,
    v,
    du,
    dv,
    seen,
    floor,
    samples,
    squares,
    scratch,
    mean,
    normal,
    deviation,
    textured,
    texture,
):
    """Locally normalised intensities of a view on the surface, and their local contrast.

    If ``textured``, its squared gradients are added to ``texture``.
    """
    rows, columns = u.shape
    sample_map(image, width, height, cubic, u, v, du, dv, 0, _ZERO, samples)
    for r in range(rows):
        a, b = samples[r], squares[r]
        for c in range(columns):
            b[c] = a[c] * a[c]
    _box(samples, scratch, mean)
    _box(squares, scratch, deviation)
    half = BOX // 2
    for r in range(rows - BOX + 1):
        a, m, d, t = samples[r + half], mean[r], deviation[r], normal[r]
        for c in range(columns - BOX + 1):
            d[c] = np.sqrt(max(d[c] - m[c] * m[c], _ZERO) + floor * floor)
            t[c] = (a[c + half] - m[c]) / d[c]
    if not textured:
        return
    for r in range(1, rows - 1):
        a, b, d, t = samples[r - 1], samples[r], samples[r + 1], texture[r]
        above, here, below = seen[r - 1], seen[r], seen[r + 1]
        for c in range(1, columns - 1):
            shown = above[c] * below[c] * here[c - 1] * here[c + 1]
            right, down = b[c + 1] - b[c - 1], d[c] - a[c]
            t[c] += shown * (right * right + down * down)


@compiled
def _share(texture, taps, scratch, boxed, around, own):  # type: ignore[no-untyped-def]
    """Texture of a cell over that of all cells that its match depends on."""
    _box(texture, scratch, boxed)
    _smooth(boxed, taps, scratch, around)
    inner = (around.shape[0] - own.shape[0]) // 2
    outer = inner + BOX // 2 + taps.shape[0] // 2
    for r in range(own.shape[0]):
        a, b, d = texture[r + outer - 1], texture[r + outer], texture[r + outer + 1]
        for c in range(own.shape[1]):
            m = c + outer
            corners = a[m - 1] + a[m + 1] + d[m - 1] + d[m + 1]
            sides = a[m] + d[m] + b[m - 1] + b[m + 1]
            local = (_QUARTER * corners + _HALF * sides + b[m]) * _QUARTER
            own[r, c] = local / max(around[r + inner, c + inner], _TINY)


@compiled
def _weigh(  # type: ignore[no-untyped-def]
    count, seen, normal, taps, tolerated, total, mean, residual, scratch, smooth_seen, weight
):
    """Weights that leave out views which disagree with the others; see ``robust_weight``."""
    half = BOX // 2
    _, rows, columns = normal.shape
    total[:], mean[:] = _ZERO, _ZERO
    for i in range(count):
        for r in range(rows):
            s, n, t, m = seen[i, r + half], normal[i, r], total[r], mean[r]
            for c in range(columns):
                t[c] += s[c + half]
                m[c] += s[c + half] * n[c]
    for r in range(rows):
        t, m = total[r], mean[r]
        for c in range(columns):
            m[c] /= max(t[c], _LEAST_WEIGHT)
    for i in range(count):
        for r in range(rows):
            s, n, t, m, e = seen[i, r + half], normal[i, r], total[r], mean[r], residual[r]
            for c in range(columns):
                share = min(s[c + half] / max(t[c], _LEAST_WEIGHT), _LARGEST_SHARE)
                deviation = (n[c] - m[c]) / (_ONE - share)
                e[c] = s[c + half] * deviation * deviation
        _smooth(residual, taps, scratch, weight[i])
        for r in range(rows):
            s, e = seen[i, r + half], residual[r]
            for c in range(columns):
                e[c] = s[c + half]
        _smooth(residual, taps, scratch, smooth_seen)
        for r in range(weight.shape[1]):
            w, s = weight[i, r], smooth_seen[r]
            for c in range(weight.shape[2]):
                w[c] /= max(s[c], _LEAST_WEIGHT)
    margin = half + taps.shape[0] // 2
    for r in range(weight.shape[1]):
        best = scratch[0]
        for c in range(weight.shape[2]):
            best[c] = _INF
        for i in range(count):
            w, s = weight[i, r], seen[i, r + margin]
            for c in range(weight.shape[2]):
                if s[c + margin] > _ZERO:
                    best[c] = min(best[c], w[c])
        for i in range(count):
            w, s = weight[i, r], seen[i, r + margin]
            for c in range(weight.shape[2]):
                inner = s[c + margin]
                excess = (w[c] - best[c]) / tolerated if inner > _ZERO else _ZERO
                w[c] = inner / (_ONE + excess * excess)


@compiled
def _spread(  # type: ignore[no-untyped-def]
    count, active, image, starts, sizes, cubic, u, v, du, dv, offsets, margin, normal, deviation,
    weight, samples, scratch, mean, sums, squares, total, contrast,
):  # fmt: skip
    """Weighted sums of the normalised views for every hypothesis; the middle one is known."""
    half = BOX // 2
    rows, columns = total.shape
    middle = offsets.shape[0] // 2
    sums[:], squares[:], total[:], contrast[:] = _ZERO, _ZERO, _ZERO, _ZERO
    for i in range(count):
        view = active[i]
        width, height = sizes[view, 0], sizes[view, 1]
        pixels = image[starts[view] : starts[view] + (width + PADDING) * (height + PADDING)]
        for k in range(offsets.shape[0]):
            if k != middle:
                sample_map(
                    pixels, width, height, cubic, u[i], v[i], du[i], dv[i], margin, offsets[k],
                    samples,
                )  # fmt: skip
                _box(samples, scratch, mean)
            for r in range(rows):
                w, n = weight[i, r + half], normal[i, r + margin]
                d, m, s = deviation[i, r + margin], mean[r], samples[r + half]
                a, b = sums[k, r], squares[k, r]
                if k == middle:
                    t, e = total[r], contrast[r]
                    for c in range(columns):
                        share, value = w[c + half], n[c + margin]
                        t[c] += share
                        e[c] += share * d[c + margin]
                        a[c] += share * value
                        b[c] += share * value * value
                else:
                    for c in range(columns):
                        share = w[c + half]
                        value = (s[c + half] - m[c]) / d[c + margin]
                        a[c] += share * value
                        b[c] += share * value * value


@compiled
def _window(  # type: ignore[no-untyped-def]
    sums, squares, total, energy, taps, shift, product, scratch, below, above, averaged
):
    """Spread of every hypothesis, averaged over the window by texture energy; inf where none."""
    hypotheses, rows, columns = sums.shape
    for r in range(rows):
        t, e = total[r], energy[r]
        for c in range(columns):
            contrast = e[c] / max(t[c], _LEAST_WEIGHT)
            e[c] = contrast * contrast if t[c] > _ONE else _ZERO
    _smooth(energy, taps, scratch, below)
    for k in range(hypotheses):
        for r in range(rows):
            t, e, a, b, p = total[r], energy[r], sums[k, r], squares[k, r], product[r]
            for c in range(columns):
                several = t[c] > _ONE
                freedom = t[c] - _ONE if several else _ONE
                spread = (b[c] - a[c] * a[c] / max(t[c], _LEAST_WEIGHT)) / freedom
                p[c] = max(spread, _ZERO) * e[c] if several else _ZERO
        _smooth(product, taps, scratch, above)
        for r in range(above.shape[0]):
            a, b = above[r], below[r]
            for c in range(above.shape[1]):
                a[c] = a[c] / max(b[c], _TINY) if b[c] > _ZERO else _INF
        for r in range(averaged.shape[1]):
            out = averaged[k, r]
            out[:] = _INF
            for i in range(2 * shift + 1):
                a = above[r + i]
                for j in range(2 * shift + 1):
                    for c in range(averaged.shape[2]):
                        out[c] = min(out[c], a[c + j])


@compiled
def _copy_inner(source, margin, out):  # type: ignore[no-untyped-def]
    """Cut a margin off a map."""
    for r in range(out.shape[0]):
        a, t = source[r + margin], out[r]
        for c in range(out.shape[1]):
            t[c] = a[c + margin]


@compiled
def evaluate_tile(  # type: ignore[no-untyped-def]
    image, starts, sizes, cubic, cameras, usable, all_usable, blocked, factor, constants,
    z, row, column, grid_rows, grid_columns, x0, y0, spacing,
    offsets, taps, shift, residual_taps, robust, buffer,
    averaged, weights, rates, views_seen, own,
):  # fmt: skip
    """Spread of the views on a tile of surface for every hypothesis.

    Args:
        image: The level's images (or their spline coefficients) with their padding, one after the
            other.
        starts: Where each begins, shape (M,).
        sizes: Width and height of each, shape (M, 2).
        cubic: Whether ``image`` holds coefficients of cubic splines; else it is sampled bilinearly.
        cameras: Coefficients of their models, shape (M, 21).
        usable: Masks, laid out like the images, uint8: 0 for what may not be used, 1, or ``WHOLE``.
        all_usable: Views whose mask leaves nothing out, shape (M,).
        blocked: Cells that each view cannot see, shape (M, rows, columns) of a grid coarser by
            ``factor``; shape (M, 0, 0) for none.
        factor: See ``blocked``.
        constants: Noise floor, least area of a cell (px², or of the sharpest view's), level of a
            usable sample, tolerated residual, whole windows that are enough.
        z: Heights of the tile and its margin, shape (H, W).
        row: Grid row of the first of them; may be negative.
        column: Grid column of the first of them.
        grid_rows: Of the whole grid.
        grid_columns: Of the whole grid.
        x0: X of the grid's first column, metres.
        y0: Y of the grid's first row, metres.
        spacing: Cell size, metres.
        offsets: Hypotheses, the middle one 0, shape (K,), metres.
        taps: Matching window.
        shift: Cells by which a window may lie off its cell.
        residual_taps: Window over which a view's disagreement is judged.
        robust: Leave out views that disagree.
        buffer: Scratch memory, see :func:`~.evaluator.scratch_size`.
        averaged: Output, shape (K, h, w): spread averaged over the window.
        weights: Output, shape (M, h, w): weight of each seen view.
        rates: Output, shape (M, 2, h, w): its pixel motion per metre, if hypotheses compete.
        views_seen: Output, shape (M, h, w): 1 where it sees the cell.
        own: Output, shape (h, w): texture of the cell over that of its windows, likewise.

    Returns:
        Number of views in the first rows of the outputs; below 2 they are not filled.
    """
    total_views = starts.shape[0]
    rows, columns = z.shape
    hypotheses = averaged.shape[0]
    moving = hypotheses > 1
    x_first, y_first = x0 + spacing * column, y0 + spacing * row
    low, high = z[0, 0], z[0, 0]
    for r in range(rows):
        for c in range(columns):
            low, high = min(low, z[r, c]), max(high, z[r, c])
    half = BOX // 2
    robust_margin = half + residual_taps.shape[0] // 2
    box_rows, box_columns = rows - 2 * half, columns - 2 * half
    fit_rows, fit_columns = rows - 2 * robust_margin, columns - 2 * robust_margin
    sum_rows, sum_columns = fit_rows - 2 * half, fit_columns - 2 * half
    used = 0
    cells = rows * columns
    maps = buffer[: 5 * total_views * cells].reshape(5, total_views, rows, columns)
    used += maps.size
    u, v, du, dv, seen = maps[0], maps[1], maps[2], maps[3], maps[4]
    box_size = total_views * box_rows * box_columns
    normal = buffer[used : used + box_size].reshape(total_views, box_rows, box_columns)
    used += box_size
    deviation = buffer[used : used + box_size].reshape(total_views, box_rows, box_columns)
    used += box_size
    fit_size = total_views * fit_rows * fit_columns
    weight = buffer[used : used + fit_size].reshape(total_views, fit_rows, fit_columns)
    used += fit_size
    samples = buffer[used : used + cells].reshape(rows, columns)
    used += cells
    squares = buffer[used : used + cells].reshape(rows, columns)
    used += cells
    scratch = buffer[used : used + cells].reshape(rows, columns)
    used += cells
    mean = buffer[used : used + box_rows * box_columns].reshape(box_rows, box_columns)
    used += mean.size
    total = buffer[used : used + box_rows * box_columns].reshape(box_rows, box_columns)
    used += total.size
    texture = buffer[used : used + cells].reshape(rows, columns)
    used += cells
    texture[:] = _ZERO

    active = np.empty(total_views, np.int64)
    count = 0
    for view in range(total_views):
        width, height = sizes[view, 0], sizes[view, 1]
        if not may_see(
            cameras[view], width, height, x_first, y_first, spacing, rows, columns, low, high
        ):
            continue
        begin = starts[view]
        end = begin + (width + PADDING) * (height + PADDING)
        if _see(
            cameras[view], width, height, usable[begin:end] if not all_usable[view] else usable,
            all_usable[view], blocked[view], factor, constants[2],
            z, row, column, grid_rows, grid_columns, x0, y0, spacing, moving,
            u[count], v[count], du[count], dv[count], seen[count],
        ):  # fmt: skip
            active[count] = view
            count += 1
    count = _keep_sharp(count, constants[1], active, u, v, du, dv, seen, samples)
    _keep_whole(count, constants[4], constants[2], seen, samples, scratch, mean, total)
    if count < 2:
        return count
    for i in range(count):
        view = active[i]
        width, height = sizes[view, 0], sizes[view, 1]
        _normalise(
            image[starts[view] : starts[view] + (width + PADDING) * (height + PADDING)],
            width, height, cubic,
            u[i], v[i], du[i], dv[i], seen[i], constants[0],
            samples, squares, scratch, mean, normal[i], deviation[i], moving, texture,
        )  # fmt: skip
    window = taps.shape[0] - 1
    if moving:
        size = box_rows - window, box_columns - window
        around = total.reshape(-1)[: size[0] * size[1]].reshape(size)
        _share(texture, taps, scratch, mean, around, own)
    if robust:
        smooth_seen = squares.reshape(-1)[: fit_rows * fit_columns].reshape(fit_rows, fit_columns)
        residual = samples.reshape(-1)[: box_rows * box_columns].reshape(box_rows, box_columns)
        _weigh(
            count, seen, normal, residual_taps, constants[3],
            total, mean, residual, scratch, smooth_seen, weight,
        )  # fmt: skip
    else:
        for i in range(count):
            _copy_inner(seen[i], robust_margin, weight[i])
    sum_size = hypotheses * sum_rows * sum_columns
    sums = buffer[used : used + sum_size].reshape(hypotheses, sum_rows, sum_columns)
    used += sum_size
    square_sums = buffer[used : used + sum_size].reshape(hypotheses, sum_rows, sum_columns)
    used += sum_size
    plane = sum_rows * sum_columns
    weight_sum = total.reshape(-1)[:plane].reshape(sum_rows, sum_columns)
    energy = squares.reshape(-1)[:plane].reshape(sum_rows, sum_columns)
    local_mean = mean.reshape(-1)[:plane].reshape(sum_rows, sum_columns)
    fit_samples = samples.reshape(-1)[: fit_rows * fit_columns].reshape(fit_rows, fit_columns)
    fit_scratch = scratch.reshape(-1)[: fit_rows * fit_columns].reshape(fit_rows, fit_columns)
    _spread(
        count, active, image, starts, sizes, cubic, u, v, du, dv, offsets, robust_margin,
        normal, deviation, weight, fit_samples, fit_scratch, local_mean,
        sums, square_sums, weight_sum, energy,
    )  # fmt: skip
    wide_rows, wide_columns = sum_rows - window, sum_columns - window
    wide = wide_rows * wide_columns
    below = buffer[used : used + wide].reshape(wide_rows, wide_columns)
    used += wide
    above = buffer[used : used + wide].reshape(wide_rows, wide_columns)
    product = mean.reshape(-1)[:plane].reshape(sum_rows, sum_columns)
    _window(
        sums, square_sums, weight_sum, energy, taps, shift, product, fit_scratch,
        below, above, averaged,
    )  # fmt: skip
    inner = half + window // 2 + shift
    outer = inner + robust_margin
    for i in range(count):
        _copy_inner(weight[i], inner, weights[i])
        _copy_inner(seen[i], outer, views_seen[i])
        if moving:
            _copy_inner(du[i], outer, rates[i, 0])
            _copy_inner(dv[i], outer, rates[i, 1])
    return count


@compiled
def fit_tile(averaged, weights, rates, views_seen, own, count, step, z, out):  # type: ignore[no-untyped-def]
    """Minimum of every cell's hypotheses, and what is known of its quality.

    Args:
        averaged: shape (K, h, w), K odd.
        weights: shape (M, h, w).
        rates: shape (M, 2, h, w).
        views_seen: shape (M, h, w).
        own: shape (h, w).
        count: Views in the first rows.
        step: Distance of the hypotheses, metres.
        z: Heights of the tile, shape (h, w).
        out: Output, shape (7, h, w): see :class:`~.refine.Estimate`.
    """
    hypotheses, rows, columns = averaged.shape
    best, lowest = np.empty(columns, np.int32), np.empty(columns, np.float32)
    sums = np.empty((6, columns), np.float32)
    total, square, mean_u, mean_v, lever, seen = sums
    for r in range(rows):
        best[:], lowest[:] = 0, averaged[0, r]
        for k in range(1, hypotheses):
            a = averaged[k, r]
            for c in range(columns):
                lower = a[c] < lowest[c]
                best[c], lowest[c] = k if lower else best[c], a[c] if lower else lowest[c]
        half_count = out[5, r]
        sums[:], half_count[:] = _ZERO, _ZERO
        for i in range(count):
            w, s, a, b = weights[i, r], views_seen[i, r], rates[i, 0, r], rates[i, 1, r]
            for c in range(columns):
                total[c] += w[c]
                square[c] += w[c] * w[c]
                mean_u[c] += w[c] * a[c]
                mean_v[c] += w[c] * b[c]
                half_count[c] += _ONE if w[c] >= _HALF else _ZERO
                seen[c] += _ONE if s[c] > _ZERO else _ZERO
        for c in range(columns):
            mean_u[c] /= max(total[c], _LEAST_WEIGHT)
            mean_v[c] /= max(total[c], _LEAST_WEIGHT)
        for i in range(count):
            w, a, b = weights[i, r], rates[i, 0, r], rates[i, 1, r]
            for c in range(columns):
                off_u, off_v = a[c] - mean_u[c], b[c] - mean_v[c]
                lever[c] += w[c] * (off_u * off_u + off_v * off_v)
        for c in range(columns):
            k = min(max(best[c], 1), hypotheses - 2)
            before, here, after = averaged[k - 1, r, c], averaged[k, r, c], averaged[k + 1, r, c]
            bend = before - _F(2) * here + after
            convex = np.isfinite(bend) and bend > _ZERO
            move, least = _NAN, _INF
            if convex:
                fraction = min(max((before - after) / (_F(2) * bend), -_ONE), _ONE)
                least = max(here - _QUARTER * (before - after) * fraction, _ZERO)
                move = (_F(k - hypotheses // 2) + fraction) * step
            several = total[c] > _ONE and seen[c] >= _F(2)
            out[0, r, c] = z[r, c] + move if several else _NAN
            out[1, r, c] = least
            out[2, r, c] = bend / (step * step) if convex else _ZERO
            out[3, r, c] = np.sqrt(lever[c])
            out[4, r, c] = total[c] * total[c] / max(square[c], _LEAST_WEIGHT)
            out[6, r, c] = own[r, c]
