"""Projection of the cells of a height map, compiled for the CPU (numba).

The arithmetic is that of :class:`~aquamvs.projection.RefractiveProjectionModel`, in float32.
"""

# Literals are wrapped, because a bare one would turn the arithmetic into float64.

import numpy as np

from ..numerics.compiler import compiled
from ..projection.kernels import CENTRE, HEIGHT, INDEX, NORMAL, REFRACTIVE, ROWS, bend, bend_row

_F = np.float32
_ZERO, _ONE = _F(0), _F(1)
_NAN, _INF = _F(np.nan), _F(np.inf)
_EPS = _F(np.finfo(np.float32).eps)
_PROBES = 9


@compiled
def project_row(camera, x0, spacing, column, y, z, moving, u, v, du, dv):  # type: ignore[no-untyped-def]
    """Pixels of a row of cells and their motion per metre of Z; NaN where there is no path.

    Cells lie at x0 + spacing * (column + 0, 1, ...): counted from the grid's first column, so that
    every tile gives a cell the same place to the last bit. Unless they are ``moving``, ``du`` and
    ``dv`` mean nothing.
    """
    cx, cy, cz = camera[CENTRE], camera[CENTRE + 1], camera[CENTRE + 2]
    ux, uy, uz = camera[ROWS], camera[ROWS + 1], camera[ROWS + 2]
    vx, vy, vz = camera[ROWS + 3], camera[ROWS + 4], camera[ROWS + 5]
    wx, wy, wz = camera[ROWS + 6], camera[ROWS + 7], camera[ROWS + 8]
    lx, ly, lz = camera[ROWS + 9], camera[ROWS + 10], camera[ROWS + 11]
    nu, nv, nw = camera[NORMAL], camera[NORMAL + 1], camera[NORMAL + 2]
    height, k = camera[HEIGHT], camera[INDEX]
    squash = _ONE - k * k
    down_u, down_v, down_w, down_level = uz, vz, wz, lz  # what a metre of Z changes
    refractive = camera[REFRACTIVE] > _ZERO
    dy = _F(y) - cy
    square, sunk, bent, beside = u, v, du, dv  # until the results take their places
    for c in range(z.shape[0]):
        beside[c] = _F(x0 + spacing * (column + c)) - cx
    if refractive:
        for c in range(z.shape[0]):
            dx, dz = beside[c], z[c] - cz
            level = lx * dx + ly * dy + lz * dz
            square[c] = squash * (dx * dx + dy * dy + dz * dz - level * level)
            sunk[c] = k * max(level - height, _ZERO)
        bend_row(square, sunk, height, bent)
    for c in range(z.shape[0]):
        dx, dz = beside[c], z[c] - cz
        along_u = ux * dx + uy * dy + uz * dz
        along_v = vx * dx + vy * dy + vz * dz
        along_w = wx * dx + wy * dy + wz * dz
        w, lift, level, visible = _ONE, _ZERO, _ZERO, True
        if refractive:
            level = lx * dx + ly * dy + lz * dz
            visible = level >= height
            w = bent[c]
            lift = w * level - _ONE
        bent_w = w * along_w + lift * nw
        visible = visible and bent_w > _EPS
        scale = _ONE / bent_w if visible else _NAN
        pixel_u = (w * along_u + lift * nu) * scale
        pixel_v = (w * along_v + lift * nv) * scale
        if moving:
            d_u, d_v, d_w = down_u, down_v, down_w
            if refractive:
                s = _ONE / np.sqrt(_ONE + square[c] * w * w)
                t = sunk[c] * s * s * s
                half_q = dz - level * down_level
                rate_w = w * (squash * w * w * t * half_q - k * s * down_level) / (t + height)
                d_u = w * (down_u + nu * down_level) + rate_w * (along_u + level * nu)
                d_v = w * (down_v + nv * down_level) + rate_w * (along_v + level * nv)
                d_w = w * (down_w + nw * down_level) + rate_w * (along_w + level * nw)
            du[c] = (d_u - pixel_u * d_w) * scale
            dv[c] = (d_v - pixel_v * d_w) * scale
        u[c], v[c] = pixel_u, pixel_v


@compiled
def lean_row(camera, x0, spacing, y, z, lean):  # type: ignore[no-untyped-def]
    """Horizontal motion of the rays from a row of cells to a camera, per metre that they rise.

    Args:
        camera: Coefficients of its model, shape (21,).
        x0: X of the first cell, metres.
        spacing: Cell size, metres.
        y: Y of the cells, metres.
        z: Their heights, shape (n,).
        lean: Output, shape (2, n); NaN where no ray enters the camera.
    """
    cx, cy, cz = camera[CENTRE], camera[CENTRE + 1], camera[CENTRE + 2]
    wx, wy, wz = camera[ROWS + 6], camera[ROWS + 7], camera[ROWS + 8]
    lx, ly, lz = camera[ROWS + 9], camera[ROWS + 10], camera[ROWS + 11]
    height, k = camera[HEIGHT], camera[INDEX]
    squash = _ONE - k * k
    refractive = camera[REFRACTIVE] > _ZERO
    dy = _F(y) - cy
    for c in range(z.shape[0]):
        dx, dz = _F(x0 + spacing * c) - cx, z[c] - cz
        front = wx * dx + wy * dy + wz * dz
        rise_x, rise_y, rise_z, visible = dx, dy, dz, True
        if refractive:
            level = lx * dx + ly * dy + lz * dz
            depth = level - height
            q = squash * (dx * dx + dy * dy + dz * dz - level * level)
            w = bend(q, k * max(depth, _ZERO), height)
            visible = depth >= _ZERO
            front = w * front + (w * level - _ONE) * camera[NORMAL + 2]
            # The ray enters the water h below the camera and w h beside it for each metre that the
            # point lies beside it: what is left is its way under water.
            beside, down = _ONE - w * height, height * (w * level - _ONE)
            rise_x, rise_y = beside * dx + down * lx, beside * dy + down * ly
            rise_z = beside * dz + down * lz
        visible = visible and front > _EPS
        lean[0, c] = -rise_x / rise_z if visible else _NAN
        lean[1, c] = -rise_y / rise_z if visible else _NAN


@compiled
def may_see(camera, width, height, x_first, y_first, spacing, rows, columns, low, high):  # type: ignore[no-untyped-def]
    """Whether a view's image may contain any cell of a tile between two heights."""
    u, v = np.empty(_PROBES, np.float32), np.empty(_PROBES, np.float32)
    du, dv = np.empty(_PROBES, np.float32), np.empty(_PROBES, np.float32)
    z = np.empty(_PROBES, np.float32)
    u_low, u_high, v_low, v_high = _INF, -_INF, _INF, -_INF
    step_x = spacing * (columns - 1) / (_PROBES - 1)
    for level in (low, high):
        z[:] = level
        for i in range(_PROBES):
            y = y_first + spacing * (rows - 1) * i / (_PROBES - 1)
            project_row(camera, x_first, step_x, 0, y, z, False, u, v, du, dv)
            for c in range(_PROBES):
                if not np.isnan(u[c]):
                    u_low, u_high = min(u_low, u[c]), max(u_high, u[c])
                    v_low, v_high = min(v_low, v[c]), max(v_high, v[c])
    if u_low > u_high:
        return False
    # One probe distance of slack: between probes the outline may bulge.
    slack_u, slack_v = (u_high - u_low) / (_PROBES - 1), (v_high - v_low) / (_PROBES - 1)
    return (
        u_high + slack_u >= _ZERO
        and v_high + slack_v >= _ZERO
        and u_low - slack_u <= width - 1
        and v_low - slack_v <= height - 1
    )
