"""The hot loop of PatchMatch, compiled for NVIDIA GPUs (numba-cuda).

A thread has one pixel. What it computes is the code of the CPU (:mod:`~.kernels`), compiled once
more. Written here are the loops over planes and sources, for the little memory of a thread, and the
one over the samples of a window: it takes most of the time, and what suits the vector instructions
of a CPU needs twice as many of a GPU.
"""

from math import sqrt
from types import FunctionType
from typing import Any

import numpy as np
from numba import cuda

from ..projection.kernels import bend
from . import kernels

MOST_TAPS = 81
"""Samples of a window that a thread has memory for: 9 x 9."""
MOST_PLANES = 8
"""Planes that a thread has memory for."""
_F = np.float32
_ZERO, _ONE, _NAN, _INF = _F(0), _F(1), _F(np.nan), _F(np.inf)
_FIRST, _NEXT = np.uint32(0), np.uint32(1)


def _on_device(function: Any, **callees: Any) -> Any:
    """A CPU's function compiled for the GPU.

    numba does it unasked where a kernel calls one, but then reads the CPU's ``fastmath`` (some
    freedoms) as all of them: divisions become approximate, and no value may be NaN.

    Args:
        function: As it was compiled for the CPU.
        **callees: Functions that it calls, compiled for the GPU.
    """
    python = getattr(function, "py_func", function)
    return cuda.jit(device=True)(
        FunctionType(python.__code__, {**python.__globals__, **callees}, python.__name__)
    )


_snell_paths = _on_device(kernels.snell_paths, bend=_on_device(bend))
_weigh_window = _on_device(kernels.weigh_window)
_plane_patch = _on_device(kernels.plane_patch)
_planes_to_try = _on_device(kernels.planes_to_try)
_project_patch = _on_device(kernels.project_patch)
_correlate_in_part = _on_device(kernels.correlate_in_part)


@cuda.jit(device=True)
def _correlate(  # type: ignore[no-untyped-def]
    image, width, height, camera, patch, path,
    across, down, reach, weight, lever, own, floor,
):  # fmt: skip
    """:func:`~.kernels.correlate` of one plane."""
    u, v, uu, uv, vu, vv = _project_patch(camera, patch, 0, path[0])
    right, bottom = _F(width - 1), _F(height - 1)
    if not (u >= _ZERO and u <= right and v >= _ZERO and v <= bottom):
        return _NAN
    span_x, span_y = reach * (abs(uu) + abs(uv)), reach * (abs(vu) + abs(vv))
    if u >= span_x and u + span_x <= right and v >= span_y and v + span_y <= bottom:
        last_column, last_row, stride = np.int32(width - 2), np.int32(height - 2), np.uint32(width)
        mean, square, product = _ZERO, _ZERO, _ZERO
        # Without a sign, no index is taken for one that counts from the end; range would cost more.
        i, taps = _FIRST, np.uint32(across.shape[0])
        while i < taps:
            x, y = u + uu * across[i] + uv * down[i], v + vu * across[i] + vv * down[i]
            j, r = min(np.int32(x), last_column), min(np.int32(y), last_row)
            fx, fy = x - _F(j), y - _F(r)
            at = np.uint32(r) * stride + np.uint32(j)
            below = at + stride
            top = image[at] + fx * (image[at + _NEXT] - image[at])
            base = image[below] + fx * (image[below + _NEXT] - image[below])
            value = top + fy * (base - top)
            weighted = weight[i] * value
            mean += weighted
            square += weighted * value
            product += lever[i] * value
            i += _NEXT
        if not np.isnan(mean):
            variance = max(square - mean * mean, _ZERO) + floor
            return _ONE - product / sqrt(own * variance)
    return _correlate_in_part(
        image, width, height, u, v, uu, uv, vu, vv, across, down, weight, lever, floor
    )


@cuda.jit
def plane_costs(  # type: ignore[no-untyped-def]
    gray, rays, images, starts, sizes, cameras, offsets, falloff, color_scale, floor,
    across, down, reach, pixels, depth, normal, active, out,
):  # fmt: skip
    """:func:`~.kernels.plane_costs`: along x of the grid its pixels, along y the hypotheses.

    Args:
        gray: As for :func:`~.kernels.plane_costs`.
        rays: Likewise.
        images: Likewise.
        starts: Likewise.
        sizes: Likewise.
        cameras: Likewise.
        offsets: Likewise.
        falloff: Likewise.
        color_scale: Likewise.
        floor: Likewise.
        across: Columns of the offsets, shape (T,), float32.
        down: Rows of the offsets, likewise.
        reach: The largest of either.
        pixels: As for :func:`~.kernels.plane_costs`.
        depth: Likewise.
        normal: Likewise.
        active: Likewise.
        out: Likewise.
    """
    n, k = cuda.grid(2)
    if n >= pixels.shape[0]:
        return
    weight, lever = cuda.local.array(MOST_TAPS, np.float32), cuda.local.array(MOST_TAPS, np.float32)
    patch, path = cuda.local.array((9, 1), np.float32), cuda.local.array(1, np.float32)
    at, columns = pixels[n], gray.shape[1]
    own = _weigh_window(
        gray, at // columns, at % columns, offsets, falloff, color_scale, floor, weight, lever
    )
    _plane_patch(rays[at], depth[k, n], normal[k, n], patch[:, 0])
    for s in range(starts.shape[0]):
        found = _NAN
        if active[n, s] and not np.isnan(own):
            _snell_paths(cameras[s], patch, path)
            found = _correlate(
                images[starts[s] :], sizes[s, 0], sizes[s, 1], cameras[s], patch, path,
                across, down, reach, weight, lever, own, floor,
            )  # fmt: skip
        out[n, s, k] = found


@cuda.jit
def improve(  # type: ignore[no-untyped-def]
    gray, rays, images, starts, sizes, cameras, offsets, falloff, color_scale, floor,
    across, down, reach, pixels, weights, neighbours, proposed_depth, proposed_normal,
    steps, tilts, nearest, farthest, least_weight, least_facing, depth, normal, cost,
):  # fmt: skip
    """:func:`~.kernels.improve`, its pixels along the grid.

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
        across: Likewise.
        down: Likewise.
        reach: Likewise.
        pixels: As for :func:`~.kernels.improve`.
        weights: Likewise.
        neighbours: Likewise.
        proposed_depth: Likewise.
        proposed_normal: Likewise.
        steps: Likewise.
        tilts: Likewise.
        nearest: Likewise.
        farthest: Likewise.
        least_weight: Likewise.
        least_facing: Likewise.
        depth: Likewise.
        normal: Likewise.
        cost: Likewise.
    """
    n = cuda.grid(1)
    if n >= pixels.shape[0]:
        return
    weight, lever = cuda.local.array(MOST_TAPS, np.float32), cuda.local.array(MOST_TAPS, np.float32)
    patch, path = cuda.local.array((9, 1), np.float32), cuda.local.array(1, np.float32)
    depths = cuda.local.array(MOST_PLANES, np.float32)
    normals = cuda.local.array((MOST_PLANES, 3), np.float32)
    at, columns = pixels[n], gray.shape[1]
    own = _weigh_window(
        gray, at // columns, at % columns, offsets, falloff, color_scale, floor, weight, lever
    )
    if np.isnan(own):
        return
    count = _planes_to_try(
        gray, rays, n, at, neighbours, proposed_depth, proposed_normal, steps, tilts,
        nearest, farthest, least_facing, depth, normal, cost, depths, normals,
    )  # fmt: skip
    least, best = _INF, 0
    for k in range(count):
        _plane_patch(rays[at], depths[k], normals[k], patch[:, 0])
        total, mean = _ZERO, _ZERO
        for s in range(starts.shape[0]):
            share = weights[at, s]
            if share >= least_weight:
                _snell_paths(cameras[s], patch, path)
                found = _correlate(
                    images[starts[s] :], sizes[s, 0], sizes[s, 1], cameras[s], patch, path,
                    across, down, reach, weight, lever, own, floor,
                )  # fmt: skip
                total += share
                # A source that loses sight of the patch tells nothing in favour of it.
                mean += share * (_ONE if np.isnan(found) else found)
        if total > _ZERO and mean / total < least:
            least, best = mean / total, k
    if least < cost[at]:
        cost[at], depth[at] = least, depths[best]
        for i in range(3):
            normal[at, i] = normals[best, i]
