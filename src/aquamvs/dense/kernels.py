"""The hot loop of PatchMatch, compiled for the CPU (numba).

The arithmetic is that of :class:`~.patches.TensorPatchMatcher`, which stays the reference and runs
on other devices; tests compare the two. All values are float32.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

from math import sqrt

import numpy as np

from ..numerics.compiler import compiled_sums as compiled
from ..projection.kernels import CENTRE, HEIGHT, INDEX, NORMAL, REFRACTIVE, ROWS, bend

_F = np.float32
_ZERO, _ONE = _F(0), _F(1)
_NAN, _INF = _F(np.nan), _F(np.inf)
_EPS = _F(np.finfo(np.float32).eps)
_SAMPLES = 6
"""Numbers of each sample of a window: how far it lies beyond a pixel, across and down, and the four
pixels around it."""


@compiled
def snell_paths(camera, points, path):  # type: ignore[no-untyped-def]
    """Solve Snell's law for points, shape (9, K), as ``RefractiveProjectionModel`` does."""
    cx, cy, cz = camera[CENTRE], camera[CENTRE + 1], camera[CENTRE + 2]
    lx, ly, lz = camera[ROWS + 9], camera[ROWS + 10], camera[ROWS + 11]
    height, ratio = camera[HEIGHT], camera[INDEX]
    squash = _ONE - ratio * ratio
    xs, ys, zs = points[0], points[1], points[2]
    for k in range(path.shape[0]):
        dx, dy, dz = xs[k] - cx, ys[k] - cy, zs[k] - cz
        level = lx * dx + ly * dy + lz * dz
        square = squash * (dx * dx + dy * dy + dz * dz - level * level)
        path[k] = bend(square, ratio * max(level - height, _ZERO), height)


@compiled
def project_patch(camera, patches, k, w):  # type: ignore[no-untyped-def]
    """Pixel of a point and its motion as the point moves along two tangents.

    Args:
        camera: Coefficients, shape (21,).
        patches: X, Y, Z of each point, of its first and of its second tangent, shape (9, K).
        k: Which point.
        w: Its path, from :func:`snell_paths`.

    Returns:
        u, v, du/dp, du/dq, dv/dp, dv/dq; NaN where there is no path.
    """
    ux, uy, uz = camera[ROWS], camera[ROWS + 1], camera[ROWS + 2]
    vx, vy, vz = camera[ROWS + 3], camera[ROWS + 4], camera[ROWS + 5]
    wx, wy, wz = camera[ROWS + 6], camera[ROWS + 7], camera[ROWS + 8]
    lx, ly, lz = camera[ROWS + 9], camera[ROWS + 10], camera[ROWS + 11]
    nu, nv, nw = camera[NORMAL], camera[NORMAL + 1], camera[NORMAL + 2]
    height, ratio = camera[HEIGHT], camera[INDEX]
    dx = patches[0, k] - camera[CENTRE]
    dy = patches[1, k] - camera[CENTRE + 1]
    dz = patches[2, k] - camera[CENTRE + 2]
    px, py, pz = patches[3, k], patches[4, k], patches[5, k]
    qx, qy, qz = patches[6, k], patches[7, k], patches[8, k]
    au = ux * dx + uy * dy + uz * dz
    av = vx * dx + vy * dy + vz * dz
    aw = wx * dx + wy * dy + wz * dz
    pu, qu = ux * px + uy * py + uz * pz, ux * qx + uy * qy + uz * qz
    pv, qv = vx * px + vy * py + vz * pz, vx * qx + vy * qy + vz * qz
    pw, qw = wx * px + wy * py + wz * pz, wx * qx + wy * qy + wz * qz
    visible = True
    if camera[REFRACTIVE] > _ZERO:
        squash = _ONE - ratio * ratio
        level = lx * dx + ly * dy + lz * dz
        visible = level >= height
        square = squash * (dx * dx + dy * dy + dz * dz - level * level)
        s = _ONE / sqrt(_ONE + square * w * w)
        t = ratio * max(level - height, _ZERO) * s * s * s
        lift = w * level - _ONE
        # How w changes along each tangent, by the implicit function theorem.
        slope = w / (t + height)
        p_level = lx * px + ly * py + lz * pz
        q_level = lx * qx + ly * qy + lz * qz
        p_half = dx * px + dy * py + dz * pz - level * p_level
        q_half = dx * qx + dy * qy + dz * qz - level * q_level
        p_w = slope * (squash * w * w * t * p_half - ratio * s * p_level)
        q_w = slope * (squash * w * w * t * q_half - ratio * s * q_level)
        p_lift, q_lift = w * p_level + p_w * level, w * q_level + q_w * level
        pu, qu = w * pu + p_w * au + p_lift * nu, w * qu + q_w * au + q_lift * nu
        pv, qv = w * pv + p_w * av + p_lift * nv, w * qv + q_w * av + q_lift * nv
        pw, qw = w * pw + p_w * aw + p_lift * nw, w * qw + q_w * aw + q_lift * nw
        au, av, aw = w * au + lift * nu, w * av + lift * nv, w * aw + lift * nw
    scale = _ONE / aw if visible and aw > _EPS else _NAN
    u, v = au * scale, av * scale
    return (
        u, v, (pu - u * pw) * scale, (qu - u * qw) * scale,
        (pv - v * pw) * scale, (qv - v * qw) * scale,
    )  # fmt: skip


@compiled
def weigh_window(  # type: ignore[no-untyped-def]
    gray, row, column, offsets, falloff, color_scale, floor, weight, lever
):
    """Weights of a reference window, sum 1, and times its deviations from the mean.

    Returns:
        Variance of the window and the noise floor; NaN where the window has no usable pixel.
    """
    rows, columns = gray.shape
    centre = gray[row, column]
    for i in range(offsets.shape[0]):
        r, c = row + offsets[i, 1], column + offsets[i, 0]
        inside = r >= 0 and r < rows and c >= 0 and c < columns
        lever[i] = gray[r, c] if inside else _NAN
    # In a loop of its own, this becomes vector instructions.
    total, mean = _ZERO, _ZERO
    for i in range(offsets.shape[0]):
        x = lever[i]
        away = x - centre
        w = falloff[i] / (_ONE + color_scale * away * away)
        known = w == w
        w, x = w if known else _ZERO, x if known else _ZERO
        weight[i], lever[i] = w, x
        total += w
        mean += w * x
    if not total > _ZERO:
        return _NAN
    mean /= total
    variance = _ZERO
    for i in range(offsets.shape[0]):
        w = weight[i] / total
        away = lever[i] - mean
        weight[i], lever[i] = w, w * away
        variance += w * away * away
    return variance + floor


@compiled
def plane_costs(  # type: ignore[no-untyped-def]
    gray, rays, images, starts, sizes, cameras, offsets, falloff, color_scale, floor,
    pixels, depth, normal, active, out,
):  # fmt: skip
    """Cost of plane hypotheses against every source: 1 minus the bilaterally weighted NCC.

    Args:
        gray: Reference image, shape (H, W); NaN where it must not be used.
        rays: Origin, direction and their derivatives by u and v, shape (H * W, 6, 3).
        images: Source images, one after the other; NaN where they must not be used.
        starts: Where each begins, shape (S,).
        sizes: Width and height of each, shape (S, 2).
        cameras: Coefficients of their models, shape (S, 21).
        offsets: Of the window's samples from its centre, (column, row), shape (T, 2), int64.
        falloff: Their weights, shape (T,).
        color_scale: 1 over the square of the intensity difference that halves a weight.
        floor: Variance that is noise.
        pixels: Flat indices of the pixels to judge, shape (N,), int64.
        depth: Ray depth of their hypotheses, shape (K, N).
        normal: Unit normals, shape (K, N, 3).
        active: Sources to ask, shape (N, S), bool.
        out: Output, shape (N, S, K); NaN where a source does not see the patch or is not asked.
    """
    columns = gray.shape[1]
    hypotheses, count = depth.shape
    taps = offsets.shape[0]
    across, down, reach = _offsets(offsets)
    weight, lever = np.empty(taps, np.float32), np.empty(taps, np.float32)
    first, samples = np.empty(taps, np.int32), np.empty((_SAMPLES, taps), np.float32)
    patches = np.empty((9, hypotheses), np.float32)
    path = np.empty(hypotheses, np.float32)
    for n in range(count):
        at = pixels[n]
        own = weigh_window(
            gray, at // columns, at % columns, offsets, falloff, color_scale, floor, weight, lever
        )
        if np.isnan(own):
            out[n] = _NAN
            continue
        for k in range(hypotheses):
            plane_patch(rays[at], depth[k, n], normal[k, n], patches[:, k])
        for s in range(starts.shape[0]):
            if not active[n, s]:
                out[n, s] = _NAN
                continue
            snell_paths(cameras[s], patches, path)
            correlate(
                images[starts[s] :], sizes[s, 0], sizes[s, 1], cameras[s], patches, path,
                across, down, reach, weight, lever, own, floor, first, samples, out[n, s],
            )  # fmt: skip


@compiled
def _offsets(offsets):  # type: ignore[no-untyped-def]
    """Columns and rows of a window as float32, and the largest of either."""
    across = np.empty(offsets.shape[0], np.float32)
    down = np.empty(offsets.shape[0], np.float32)
    reach = _ZERO
    for i in range(offsets.shape[0]):
        across[i], down[i] = offsets[i, 0], offsets[i, 1]
        reach = max(reach, abs(across[i]), abs(down[i]))
    return across, down, reach


@compiled
def improve(  # type: ignore[no-untyped-def]
    gray, rays, images, starts, sizes, cameras, offsets, falloff, color_scale, floor,
    pixels, weights, neighbours, proposed_depth, proposed_normal, steps, tilts,
    nearest, farthest, least_weight, least_facing, depth, normal, cost,
):  # fmt: skip
    """One half of a checkerboard iteration: every pixel tries its neighbours' planes and more.

    Args:
        gray: As for :func:`plane_costs`.
        rays: Likewise.
        images: Likewise.
        starts: Likewise.
        sizes: Likewise.
        cameras: Likewise.
        offsets: Likewise.
        falloff: Likewise.
        color_scale: Likewise.
        floor: Likewise.
        pixels: Flat indices of the pixels of one colour, shape (N,), int64.
        weights: Weight of each source for each pixel of the image, shape (H * W, S).
        neighbours: (row, column) offsets to pixels of the other colour, in D groups of which the
            best gives its plane, shape (D, M, 2), int64.
        proposed_depth: Planes to try at every pixel of the image, shape (Q, H * W).
        proposed_normal: Their normals, shape (Q, H * W, 3).
        steps: Random changes of the depth to try, shape (R, N), metres.
        tilts: Random changes of the normal, shape (R, N, 3).
        nearest: Least ray depth.
        farthest: Greatest ray depth.
        least_weight: Sources with less are not asked.
        least_facing: Least cosine between the ray and the plane's normal.
        depth: Ray depth of the image's pixels, shape (H * W,); changed in place.
        normal: Their unit normals, shape (H * W, 3); changed in place.
        cost: Their cost, shape (H * W,); changed in place.
    """
    columns = gray.shape[1]
    taps, sources = offsets.shape[0], starts.shape[0]
    most = neighbours.shape[0] + proposed_depth.shape[0] + steps.shape[0]
    across, down, reach = _offsets(offsets)
    weight, lever = np.empty(taps, np.float32), np.empty(taps, np.float32)
    first, samples = np.empty(taps, np.int32), np.empty((_SAMPLES, taps), np.float32)
    patches = np.empty((9, most), np.float32)
    path, costs = np.empty(most, np.float32), np.empty(most, np.float32)
    sums = np.empty(most, np.float32)
    depths, normals = np.empty(most, np.float32), np.empty((most, 3), np.float32)
    for n in range(pixels.shape[0]):
        at = pixels[n]
        row, column = at // columns, at % columns
        own = weigh_window(gray, row, column, offsets, falloff, color_scale, floor, weight, lever)
        if np.isnan(own):
            continue
        ray = rays[at]
        count = planes_to_try(
            gray, rays, n, at, neighbours, proposed_depth, proposed_normal, steps, tilts,
            nearest, farthest, least_facing, depth, normal, cost, depths, normals,
        )  # fmt: skip
        if count == 0:
            continue
        for k in range(count):
            plane_patch(ray, depths[k], normals[k], patches[:, k])
        total = _ZERO
        sums[:] = _ZERO
        for s in range(sources):
            share = weights[at, s]
            if share < least_weight:
                continue
            total += share
            snell_paths(cameras[s], patches, path[:count])
            correlate(
                images[starts[s] :], sizes[s, 0], sizes[s, 1], cameras[s], patches, path[:count],
                across, down, reach, weight, lever, own, floor, first, samples, costs[:count],
            )  # fmt: skip
            for k in range(count):
                # A source that loses sight of the patch tells nothing in favour of it.
                sums[k] += share * (_ONE if np.isnan(costs[k]) else costs[k])
        best = 0
        for k in range(1, count):
            if sums[k] < sums[best]:
                best = k
        if total > _ZERO and sums[best] / total < cost[at]:
            cost[at], depth[at] = sums[best] / total, depths[best]
            normal[at] = normals[best]


@compiled
def planes_to_try(  # type: ignore[no-untyped-def]
    gray, rays, n, at, neighbours, proposed_depth, proposed_normal, steps, tilts,
    nearest, farthest, least_facing, depth, normal, cost, depths, normals,
):  # fmt: skip
    """Planes that a pixel tries in :func:`improve`, where they are within the range and faced.

    Args:
        gray: As for :func:`plane_costs`.
        rays: Likewise.
        n: Which of the pixels.
        at: Its flat index.
        neighbours: As for :func:`improve`.
        proposed_depth: Likewise.
        proposed_normal: Likewise.
        steps: Likewise.
        tilts: Likewise.
        nearest: Likewise.
        farthest: Likewise.
        least_facing: Likewise.
        depth: Likewise.
        normal: Likewise.
        cost: Likewise.
        depths: Output, shape (D + Q + R,).
        normals: Output, shape (D + Q + R, 3).

    Returns:
        How many of the outputs are filled.
    """
    rows, columns = gray.shape
    row, column = at // columns, at % columns
    ray = rays[at]
    groups, proposals, trials = neighbours.shape[0], proposed_depth.shape[0], steps.shape[0]
    for g in range(groups):
        best, least = at, _INF
        for m in range(neighbours.shape[1]):
            r, c = row + neighbours[g, m, 0], column + neighbours[g, m, 1]
            if r >= 0 and r < rows and c >= 0 and c < columns:
                other = r * columns + c
                if cost[other] < least:
                    best, least = other, cost[other]
        above, below = _ZERO, _ZERO
        for i in range(3):
            normals[g, i] = normal[best, i]
            point = rays[best, 0, i] + depth[best] * rays[best, 1, i]
            above += normal[best, i] * (point - ray[0, i])
            below += normal[best, i] * ray[1, i]
        depths[g] = above / below
    for q in range(proposals):
        depths[groups + q] = proposed_depth[q, at]
        for i in range(3):
            normals[groups + q, i] = proposed_normal[q, at, i]
    for t in range(trials):
        k = groups + proposals + t
        depths[k] = depth[at] + steps[t, n]
        length = _ZERO
        for i in range(3):
            normals[k, i] = normal[at, i] + tilts[t, n, i]
            length += normals[k, i] * normals[k, i]
        for i in range(3):
            normals[k, i] /= sqrt(length)
    count = 0
    for k in range(groups + proposals + trials):
        facing = _ZERO
        for i in range(3):
            facing -= normals[k, i] * ray[1, i]
        if depths[k] >= nearest and depths[k] <= farthest and facing >= least_facing:
            depths[count] = depths[k]
            for i in range(3):
                normals[count, i] = normals[k, i]
            count += 1
    return count


@compiled
def plane_patch(ray, depth, normal, patch):  # type: ignore[no-untyped-def]
    """A plane's point on a ray, and how it moves along the plane from pixel to pixel."""
    facing = _ZERO
    u_rise, v_rise = _ZERO, _ZERO
    for i in range(3):
        patch[i] = ray[0, i] + depth * ray[1, i]
        patch[3 + i] = ray[2, i] + depth * ray[4, i]
        patch[6 + i] = ray[3, i] + depth * ray[5, i]
        facing += normal[i] * ray[1, i]
        u_rise += normal[i] * patch[3 + i]
        v_rise += normal[i] * patch[6 + i]
    for i in range(3):
        patch[3 + i] -= u_rise / facing * ray[1, i]
        patch[6 + i] -= v_rise / facing * ray[1, i]


@compiled
def correlate(  # type: ignore[no-untyped-def]
    image, width, height, camera, patches, path,
    across, down, reach, weight, lever, own, floor, first, samples, costs,
):  # fmt: skip
    """1 - NCC of warped windows; NaN where the source does not see the centre or half of it.

    Where all of a window's samples lie is found first, and then their neighbours are fetched: what
    comes before and after becomes vector instructions, while pixels come one by one.
    """
    taps = across.shape[0]
    right, bottom = _F(width - 1), _F(height - 1)
    last_column, last_row, stride = np.int32(width - 2), np.int32(height - 2), np.int32(width)
    for k in range(costs.shape[0]):
        u, v, uu, uv, vu, vv = project_patch(camera, patches, k, path[k])
        costs[k] = _NAN
        if not (u >= _ZERO and u <= right and v >= _ZERO and v <= bottom):
            continue
        span_x, span_y = reach * (abs(uu) + abs(uv)), reach * (abs(vu) + abs(vv))
        if u >= span_x and u + span_x <= right and v >= span_y and v + span_y <= bottom:
            for i in range(taps):
                x, y = u + uu * across[i] + uv * down[i], v + vu * across[i] + vv * down[i]
                j, r = min(np.int32(x), last_column), min(np.int32(y), last_row)
                samples[0, i], samples[1, i] = x - _F(j), y - _F(r)
                first[i] = r * stride + j
            fetch(image, width, first, samples)
            mean, square, product = _ZERO, _ZERO, _ZERO
            for i in range(taps):
                fx, fy = samples[0, i], samples[1, i]
                top = samples[2, i] + fx * (samples[3, i] - samples[2, i])
                base = samples[4, i] + fx * (samples[5, i] - samples[4, i])
                value = top + fy * (base - top)
                mean += weight[i] * value
                square += weight[i] * value * value
                product += lever[i] * value
            if not np.isnan(mean):
                variance = max(square - mean * mean, _ZERO) + floor
                costs[k] = _ONE - product / sqrt(own * variance)
                continue
        costs[k] = correlate_in_part(
            image, width, height, u, v, uu, uv, vu, vv, across, down, weight, lever, floor
        )


@compiled
def fetch(image, width, first, samples):  # type: ignore[no-untyped-def]
    """The four pixels around each sample, the first of which is given, into the last four rows."""
    right, below = np.uintp(1), np.uintp(width)
    for i in range(first.shape[0]):
        at = np.uintp(first[i])
        samples[2, i], samples[3, i] = image[at], image[at + right]
        samples[4, i], samples[5, i] = image[at + below], image[at + below + right]


@compiled
def correlate_in_part(  # type: ignore[no-untyped-def]
    image, width, height, u, v, uu, uv, vu, vv, across, down, weight, lever, floor
):
    """:func:`correlate` over those samples of the window that the source has."""
    right, bottom = _F(width - 1), _F(height - 1)
    total, mean, theirs, cross, square, squares = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
    for i in range(across.shape[0]):
        w = weight[i]
        x, y = u + uu * across[i] + uv * down[i], v + vu * across[i] + vv * down[i]
        if not (w > _ZERO and x >= _ZERO and x <= right and y >= _ZERO and y <= bottom):
            continue
        j, r = min(np.int32(x), np.int32(width - 2)), min(np.int32(y), np.int32(height - 2))
        fx, fy = x - _F(j), y - _F(r)
        at = np.uintp(r * np.int32(width) + j)
        below = at + np.uintp(width)
        top = image[at] + fx * (image[at + np.uintp(1)] - image[at])
        base = image[below] + fx * (image[below + np.uintp(1)] - image[below])
        sample = top + fy * (base - top)
        if np.isnan(sample):
            continue
        away = lever[i] / w  # the reference's deviation from its mean
        total += w
        mean += w * away
        theirs += w * sample
        cross += w * away * sample
        square += w * away * away
        squares += w * sample * sample
    if total < _F(0.5):
        return _NAN
    mean /= total
    theirs /= total
    own = max(square / total - mean * mean, _ZERO) + floor
    variance = max(squares / total - theirs * theirs, _ZERO) + floor
    return _ONE - (cross / total - mean * theirs) / sqrt(own * variance)
