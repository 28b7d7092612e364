"""Operations on maps whose unknown pixels are NaN: sampling, box sums, normals."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .numerics.acceleration import by_rows, has_kernels
from .pixels import to_normalized

_BAND_ROWS = 64
MAX_SLOPE = 4.0
"""Neighbours that differ more steeply (76 degrees) belong to different surfaces."""


def sample_map(values: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values between pixels; unknown is never black.

    Args:
        values: shape (H, W) or (C, H, W); NaN where unknown.
        pixels: (u, v), shape (..., 2), in the dtype of ``values``; NaN where there is none.

    Returns:
        shape (...) or (C, ...); NaN outside of the map and wherever an unknown pixel would
        contribute.

    Example:
        >>> import torch
        >>> from aquamvs.maps import sample_map
        >>> ramp = torch.arange(4.0).expand(3, 4)
        >>> sample_map(ramp, torch.tensor([[1.5, 1.0], [3.2, 1.0]])).tolist()
        [1.5, nan]
    """
    height, width = values.shape[-2:]
    grid = to_normalized(pixels, (width, height))
    sampled = functional.grid_sample(
        values.reshape(1, -1, height, width),
        grid.nan_to_num(0.0).reshape(1, 1, -1, 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    inside = ((pixels >= 0) & (pixels <= pixels.new_tensor([width - 1, height - 1]))).all(-1)
    sampled = sampled.reshape(values.shape[:-2] + pixels.shape[:-1])
    return sampled.masked_fill(~inside, torch.nan)


def box_sum(values: Tensor, radius: int) -> Tensor:
    """Sums over square windows, zero beyond the border.

    Args:
        values: shape (..., H, W), finite.
        radius: Windows have 2 radius + 1 pixels a side.

    Returns:
        Same shape. Additions only: no running sum whose rounding grows along a row.

    Example:
        >>> import torch
        >>> from aquamvs.maps import box_sum
        >>> box_sum(torch.ones(3, 3), 1)[0].tolist()
        [4.0, 6.0, 4.0]
    """
    for dim in (-1, -2):
        pad = (radius, radius) if dim == -1 else (0, 0, radius, radius)
        values = _sliding_sum(functional.pad(values, pad), 2 * radius + 1, dim)
    return values


def _sliding_sum(values: Tensor, length: int, dim: int) -> Tensor:
    """Sums of ``length`` neighbours, from sums of 1, 2, 4, … (binary expansion of the length)."""
    count = values.shape[dim] - length + 1
    total = torch.zeros_like(values.narrow(dim, 0, count))
    power, span, offset = values, 1, 0
    while True:
        if length & span:
            total += power.narrow(dim, offset, count)
            offset += span
        if 2 * span > length:
            return total
        size = power.shape[dim] - span
        power = power.narrow(dim, 0, size) + power.narrow(dim, span, size)
        span *= 2


def grid_normals(points: Tensor, towards: Tensor, *, radius: int) -> Tensor:
    """Surface normals of points on a pixel grid.

    The two tangents are means of the differences of neighbours over a window; differences across an
    unknown pixel or a jump, steeper than 76 degrees against the viewing direction, stay out.

    Args:
        points: World frame, shape (H, W, 3), metres; NaN where unknown.
        towards: Unit vectors to the observer, shape (H, W, 3) or (3,).
        radius: Windows have 2 radius + 1 pixels a side.

    Returns:
        Unit normals on the observer's side, shape (H, W, 3); ``towards`` itself where a known point
        has no usable neighbours; NaN where the point is unknown.

    Example:
        >>> import torch
        >>> from aquamvs.maps import grid_normals
        >>> y, x = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
        >>> level = torch.stack([x, y, torch.ones_like(x)], dim=-1)
        >>> up = torch.tensor([0.0, 0.0, -1.0])
        >>> bool((grid_normals(level, up, radius=1) == up).all())
        True
    """
    towards = towards.expand(points.shape)
    if has_kernels(points):
        return _fused_grid_normals(points, towards, radius)
    along_u = _mean_difference(points, towards, 1, radius)
    along_v = _mean_difference(points, towards, 0, radius)
    normal = torch.linalg.cross(along_u, along_v)
    length = normal.norm(dim=-1, keepdim=True)
    side = torch.where((normal * towards).sum(-1, keepdim=True) < 0, -1.0, 1.0).to(points)
    flat = length <= torch.finfo(points.dtype).tiny
    unit = torch.where(flat, towards, side * normal / length)
    return torch.where(torch.isfinite(points).all(-1, keepdim=True), unit, torch.nan)


def _fused_grid_normals(points: Tensor, towards: Tensor, radius: int) -> Tensor:
    """:func:`grid_normals` by compiled code, parts of the rows shared out among threads."""
    from .numerics.filter_kernels import grid_normals as compiled_grid_normals

    normals = torch.empty_like(points)
    places, sides = points.contiguous().numpy(), towards.contiguous().numpy()
    slope, out = np.float32(MAX_SLOPE), normals.numpy()

    def find(rows: range) -> None:
        compiled_grid_normals(places, sides, slope, radius, rows.start, rows.stop, out)

    by_rows(points, find)
    return normals


def height_normals(z: Tensor, spacing: float) -> Tensor:
    """Surface normals of a height map, by mean differences of neighbours over 3 x 3 cells.

    Differences across an unknown cell or a jump steeper than 76 degrees stay out.

    Args:
        z: World Z (down), shape (rows, columns), metres; NaN where unknown.
        spacing: Cell size, metres.

    Returns:
        Unit normals, shape (rows, columns, 3), towards negative Z (up); NaN where ``z`` is.

    Example:
        >>> import torch
        >>> from aquamvs.maps import height_normals
        >>> slope = torch.arange(5.0).expand(5, 5)  # sinks by 1 m for 1 m along X
        >>> [round(float(v), 3) for v in height_normals(slope, 1.0)[2, 2]]
        [0.707, 0.0, -0.707]
    """
    return torch.cat(list(height_normal_bands(z, spacing)))


def height_normal_bands(z: Tensor, spacing: float) -> Iterator[Tensor]:
    """:func:`height_normals` a few rows at a time, which bounds memory.

    Example:
        >>> import torch
        >>> from aquamvs.maps import height_normal_bands
        >>> sum(len(band) for band in height_normal_bands(torch.ones(300, 5), 0.01))
        300
    """
    for start in range(0, len(z), _BAND_ROWS):
        first, stop = max(start - 2, 0), start + _BAND_ROWS  # two rows of neighbours matter
        yield _band_normals(z[first : stop + 2], spacing)[start - first : stop - first]


def _band_normals(z: Tensor, spacing: float) -> Tensor:
    slopes = []
    for dim in (1, 0):
        step = z.diff(dim=dim)
        usable = step.abs() <= MAX_SLOPE * spacing  # False for NaN
        pad = (1, 1) if dim == 1 else (0, 0, 1, 1)
        count = z.shape[dim]
        # Each difference lies between two cells; it is shared by both, so the mean is centred.
        shared = [
            x.narrow(dim, 0, count) + x.narrow(dim, 1, count)
            for x in (
                functional.pad(torch.where(usable, step, 0.0), pad),
                functional.pad(usable.to(z), pad),
            )
        ]
        total, number = (box_sum(x, 1) for x in shared)
        slopes.append(total / number.clamp(min=1) / spacing)
    up = torch.stack([*slopes, torch.full_like(z, -1.0)], dim=-1)
    unit = up / up.norm(dim=-1, keepdim=True)
    return torch.where(torch.isfinite(z)[..., None], unit, torch.nan)


def _mean_difference(points: Tensor, towards: Tensor, dim: int, radius: int) -> Tensor:
    """Mean difference of neighbours along a dimension; 0 where there is none, (H, W, 3)."""
    count = points.shape[dim] - 1
    step = points.narrow(dim, 1, count) - points.narrow(dim, 0, count)
    rise = (step * towards.narrow(dim, 0, count)).sum(-1)
    run2 = (step * step).sum(-1) - rise * rise
    usable = rise * rise <= MAX_SLOPE**2 * run2  # False for NaN
    step = torch.where(usable[..., None], step, 0.0)
    # Each difference lies between two pixels; it is shared by both, so the mean is centred.
    pad = (0, 0, 1, 1) if dim == 0 else (1, 1)
    step = functional.pad(step.movedim(-1, 0), pad)
    weight = functional.pad(usable.to(points.dtype), pad)
    shared = [
        x.narrow(dim - 2, 0, count + 1) + x.narrow(dim - 2, 1, count + 1) for x in (step, weight)
    ]
    total, number = (box_sum(x, radius) for x in shared)
    return (total / number.clamp(min=1)).movedim(0, -1)
