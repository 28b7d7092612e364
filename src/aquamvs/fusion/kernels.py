"""Looking points up in depth maps, compiled for the CPU (numba).

The arithmetic is that of :func:`~.lookup.look_up_with_tensors`, in float32.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

import numpy as np

from ..numerics.compiler import compiled
from ..projection.kernels import DOWN, HEIGHT, INDEX, NORMAL, REFRACTIVE, ROWS, bend

_F = np.float32
_ZERO, _ONE = _F(0), _F(1)
_NAN = _F(np.nan)
_EPS = _F(np.finfo(np.float32).eps)


@compiled
def look_up(  # type: ignore[no-untyped-def]
    points, camera, slope, depth, sigma, confidence, pixels, gap, their_sigma, their_confidence,
    direction,
):  # fmt: skip
    """What a view's depth map says along the rays to points.

    Args:
        points: World frame, shape (N, 3), metres.
        camera: Coefficients of the view's model, shape (21,).
        slope: Depth difference of neighbouring pixels, per metre of distance, that is a jump.
        depth: Ray depth, shape (H, W), metres; NaN where unknown.
        sigma: Same shape.
        confidence: Same shape.
        pixels: Output, shape (N, 2): where the view sees the points; NaN where it does not.
        gap: Output, shape (N,): depth of the map less that of the point; NaN where unknown.
        their_sigma: Output, shape (N,).
        their_confidence: Output, shape (N,).
        direction: Output, shape (N, 3): of the ray under water.
    """
    height, width = depth.shape
    camera_height, ratio = camera[HEIGHT], camera[INDEX]
    refractive = camera[REFRACTIVE] > _ZERO
    for n in range(points.shape[0]):
        pixels[n], gap[n] = _NAN, _NAN
        their_sigma[n], their_confidence[n], direction[n] = _NAN, _NAN, _NAN
        dx, dy, dz = points[n, 0] - camera[0], points[n, 1] - camera[1], points[n, 2] - camera[2]
        au = camera[ROWS] * dx + camera[ROWS + 1] * dy + camera[ROWS + 2] * dz
        av = camera[ROWS + 3] * dx + camera[ROWS + 4] * dy + camera[ROWS + 5] * dz
        aw = camera[ROWS + 6] * dx + camera[ROWS + 7] * dy + camera[ROWS + 8] * dz
        level = camera[DOWN] * dx + camera[DOWN + 1] * dy + camera[DOWN + 2] * dz
        below = level - camera_height
        distance = np.sqrt(dx * dx + dy * dy + dz * dz)
        across, down = below / level, _ZERO
        if refractive:
            if not below >= _ZERO:
                continue
            square = (_ONE - ratio * ratio) * (distance * distance - level * level)
            w = bend(square, ratio * below, camera_height)
            lift = w * level - _ONE
            au = w * au + lift * camera[NORMAL]
            av = w * av + lift * camera[NORMAL + 1]
            aw = w * aw + lift * camera[NORMAL + 2]
            # From the surface on, the path runs this share of the offset, and all the depth.
            across = _ONE - w * camera_height
            down = below - across * level
        if not aw > _EPS:
            continue
        u, v = au / aw, av / aw
        if not (u >= _ZERO and u <= _F(width - 1) and v >= _ZERO and v <= _F(height - 1)):
            continue
        px = across * dx + down * camera[DOWN]
        py = across * dy + down * camera[DOWN + 1]
        pz = across * dz + down * camera[DOWN + 2]
        length = np.sqrt(px * px + py * py + pz * pz)
        ray = length if across >= _ZERO else -length
        pixels[n, 0], pixels[n, 1] = u, v
        direction[n, 0], direction[n, 1], direction[n, 2] = px / ray, py / ray, pz / ray
        j, i = min(int(u), width - 2), min(int(v), height - 2)
        least, most, nearest, row, column = _NAN, _NAN, _NAN, i, j
        for r in range(i, i + 2):
            for c in range(j, j + 2):
                value = depth[r, c]
                if np.isnan(value):
                    continue
                if not value >= least:
                    least = value
                if not value <= most:
                    most = value
                if not abs(value - ray) >= abs(nearest - ray):
                    nearest, row, column = value, r, c
        if np.isnan(nearest):
            continue
        their_sigma[n], their_confidence[n] = sigma[row, column], confidence[row, column]
        gap[n] = nearest - ray
        if most - least <= slope * distance:
            fx, fy = u - _F(j), v - _F(i)
            top = depth[i, j] + fx * (depth[i, j + 1] - depth[i, j])
            base = depth[i + 1, j] + fx * (depth[i + 1, j + 1] - depth[i + 1, j])
            mean = top + fy * (base - top)
            if not np.isnan(mean):
                gap[n] = mean - ray
