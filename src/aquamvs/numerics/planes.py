"""Heights settled on planes of several sizes: what is smooth is averaged, what is rough is kept.

A plane is fitted around every block of 4 x 4, 8 x 8, ... cells, weighted by the cells' variances.
How far the cells stand off it beyond their noise says how much relief it misses; what a block alone
cannot tell from noise, the blocks around it tell together. From the largest blocks down, every
estimate is then the mean of the plane above it, as uncertain as the relief it misses, and of its
own (a Kalman filter on a quad-tree: Chou, Willsky and Benveniste, IEEE Trans. Automatic Control 39,
1994). On a board or a wall the planes win, on sand the cells do; a cell that the images do not fix
takes the plane of its neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .acceleration import by_rows, has_kernels, in_parallel, operation_workers
from .bands import in_bands
from .filters import gaussian_taps, smooth

_BLOCK = 4
"""Side of the smallest blocks, cells: wider than a matching window is correlated."""
_SIZES = 4
"""Sizes of blocks, each twice the one before."""
_REACH = 1.0
"""Sigma of the Gaussian window of a plane, blocks."""
_CORRELATED_CELLS = 50.0
"""Cells that share one error: the autocorrelation of a height that is averaged over Gaussian
windows of 1.5 cells twice, matching and smoothing, sums to 4 pi (1.5² + 1.5²) = 57."""
_POOLED_REACH = 2.0
"""Sigma of the Gaussian window in which relief below the noise is pooled, blocks: the few
independent cells of one block cannot tell it from none."""
_EVIDENT = 1.0
"""Relief above this many times the noise (squared) shows in one block: walls are not pooled."""
_SLOPE = 0.5
"""How far slopes are from those of wider planes (of the widest: from level), 1 sigma."""
_BAND_ROWS = 256
"""Rows of cells whose moments are found at a time (whole blocks): what lies between is small."""
_CELL_BYTES = 64
"""Memory that a cell takes while it settles."""
_LEAST_WEIGHT = 1e-3
"""Of no information, 1/m²."""


@dataclass(frozen=True, slots=True)
class _Planes:
    """One plane per block; heights hold at the block's centre.

    Attributes:
        side: Of the blocks, cells.
        height: shape (h, w), metres.
        slope_x: Likewise, metres per cell.
        slope_y: Likewise.
        variance: Of the height, m².
        relief: Mean square height of the cells off the plane beyond their noise, m².
    """

    side: int
    height: Tensor
    slope_x: Tensor
    slope_y: Tensor
    variance: Tensor
    relief: Tensor

    def rows(self, some: slice) -> _Planes:
        """Those of some rows of blocks."""
        maps = (self.height, self.slope_x, self.slope_y, self.variance, self.relief)
        return _Planes(self.side, *(values[some] for values in maps))


class Settled(NamedTuple):
    """Heights and the parts of their variance; each of shape (rows, columns).

    Attributes:
        height: Without gaps, metres.
        own: Variance of what each keeps of its own, m².
        fit: Of what it takes from the planes around it: how uncertain these are.
        missed: And how much relief they miss.
    """

    height: Tensor
    own: Tensor
    fit: Tensor
    missed: Tensor


def settle(z: Tensor, variance: Tensor, spacing: float) -> Settled:
    """Combine every height with the planes around it.

    Args:
        z: Heights, shape (rows, columns), metres; NaN where unknown. Any map of which planes are
            planes will do, in its own unit.
        variance: Of each, same shape, m².
        spacing: Cell size, metres: by as much a slope of 1 changes the height from cell to cell.

    Returns:
        Where nothing is known nearby, the height is that of the nearest planes and the variance
        large. ``z`` itself where nothing is known at all.
    """
    if has_kernels(z):
        maps = _compiled_settle(z, variance, spacing, len(Settled._fields))
        return _nothing(z) if maps is None else Settled(*maps)
    known = torch.isfinite(z) & torch.isfinite(variance)
    if not bool(known.any()):
        return _nothing(z)
    middle = z.nanmean()
    bands = [slice(row, row + _BAND_ROWS) for row in range(0, len(z), _BAND_ROWS)]

    def moments_of(rows: slice) -> list[Tensor]:
        return _block_moments(*_weighed(z[rows] - middle, variance[rows]))

    workers = operation_workers(z.device, len(bands))
    blocks = list(in_parallel(moments_of, bands, workers))
    moments = _shifted([torch.cat(parts) for parts in zip(*blocks, strict=True)], _BLOCK, sign=1)
    finer = []
    side = _BLOCK
    for _ in range(_SIZES - 1):
        finer.append((moments, side))
        moments, side = _pooled(moments), 2 * side
    level = torch.zeros_like(moments[0])
    planes = _fitted(moments, side, spacing, level, level)
    for moments, side in reversed(finer):
        planes = _combined(planes, moments, side, spacing)

    def settled(rows: slice) -> tuple[Tensor, ...]:
        height, _, known = _weighed(z[rows] - middle, variance[rows])
        prior, missed, uncertain = _spread_out(planes, 1, height, first_row=rows.start)[:3]
        gain = torch.where(known, missed / (missed + variance[rows]), 0.0)
        own = torch.where(known, gain**2 * variance[rows], 0.0)
        taken = (1 - gain) ** 2
        return prior + gain * (height - prior) + middle, own, taken * uncertain, taken * missed

    return Settled(*in_bands(settled, z, _CELL_BYTES))


def settled_heights(z: Tensor, variance: Tensor, spacing: float) -> Tensor:
    """The heights of :func:`settle` alone, which take less memory."""
    if has_kernels(z):
        maps = _compiled_settle(z, variance, spacing, 1)
        return z if maps is None else maps[0]
    return settle(z, variance, spacing).height


def _nothing(z: Tensor) -> Settled:
    nothing = torch.zeros_like(z)
    return Settled(z, nothing, torch.full_like(z, torch.inf), nothing)


def _compiled_settle(z: Tensor, variance: Tensor, spacing: float, count: int) -> Tensor | None:
    """The first maps of :func:`settle` by compiled code, shape (count, rows, columns).

    None where nothing is known.
    """
    from . import plane_kernels as kernels

    heights, variances = z.contiguous().numpy(), variance.contiguous().numpy()
    middle = kernels.mean_height(heights, variances)
    if math.isnan(middle):
        return None
    cells = heights, variances, middle
    rows, columns = (-(-size // _BLOCK) for size in z.shape)
    moments: NDArray[np.float64] = np.empty((kernels.MOMENTS, rows, columns))

    def sum_blocks(part: range) -> None:
        kernels.block_moments(*cells, _BLOCK, part.start, part.stop, moments)

    by_rows(z[::_BLOCK], sum_blocks)
    finer = []
    side = _BLOCK
    for _ in range(_SIZES - 1):
        finer.append((moments, side))
        pooled = np.empty((kernels.MOMENTS, *(-(-size // 2) for size in moments.shape[1:])))
        kernels.pool(moments, pooled)
        moments, side = pooled, 2 * side
    planes = _compiled_fit(moments, side, spacing, None)
    for moments, side in reversed(finer):
        planes = _compiled_fit(moments, side, spacing, planes)
    maps = kernels.weighed(planes, side)
    found = z.new_empty(count, *z.shape)
    out = found.numpy()
    by_rows(z, lambda part: kernels.settle(maps, side, *cells, part.start, part.stop, out))
    return found


def _compiled_fit(
    moments: NDArray[np.float64], side: int, spacing: float, wide: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Planes of one size, combined with those of twice that size; shape (5, h, w)."""
    from . import plane_kernels as kernels

    planes = np.empty((kernels.PLANE, *moments.shape[1:]))
    prior = np.zeros_like(planes)
    if wide is not None:
        kernels.spread_out(kernels.weighed(wide, 2 * side), 2, side, prior)
    window, wide_window = np.array(_window()), np.array(gaussian_taps(_POOLED_REACH))
    doubt = _ridge(spacing), _CORRELATED_CELLS, _LEAST_WEIGHT
    around = kernels.fit(moments, window, side, *doubt, prior, planes)
    kernels.tell_relief(around, wide_window, _shown(side), _EVIDENT, _LEAST_WEIGHT, planes)
    if wide is not None:
        kernels.combine(prior, planes)
    return planes


def _weighed(height: Tensor, variance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Heights, their weights (both 0 where unknown), and where they are known."""
    known = torch.isfinite(height) & torch.isfinite(variance)
    weight = torch.where(known, 1 / variance.clamp(min=1e-14), 0.0)
    return torch.where(known, height, 0.0), weight, known


def _block_moments(height: Tensor, weight: Tensor, known: Tensor) -> list[Tensor]:
    """Sums over blocks of w·(1, x, y, xx, xy, yy, z, xz, yz, zz) and of cells, (h, w), float64.

    x and y in cells and z in metres, from the blocks' centres.
    """
    rows, columns = (-(-size // _BLOCK) * _BLOCK for size in height.shape)
    pad = (0, columns - height.shape[1], 0, rows - height.shape[0])
    offset = torch.arange(_BLOCK, device=height.device) - (_BLOCK - 1) / 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    one = torch.ones_like(x)
    kernels = torch.stack([one, x, y, x * x, x * y, y * y])[:, None].to(height)

    def sums(values: Tensor, count: int) -> Tensor:
        padded = torch.nn.functional.pad(values, pad)[None, None]
        return torch.nn.functional.conv2d(padded, kernels[:count], stride=_BLOCK)[0].double()

    w, wx, wy, wxx, wxy, wyy = sums(weight, 6)
    number = sums(known.to(height), 1)[0]
    # About the block's own mean, or float32 would lose the squares.
    mean = (sums(height, 1)[0] / number.clamp(min=1)).to(height)
    wide = mean.repeat_interleave(_BLOCK, 0).repeat_interleave(_BLOCK, 1)
    local = height - wide[: height.shape[0], : height.shape[1]]
    wz, wxz, wyz = sums(weight * local, 3)
    wzz = sums(weight * local * local, 1)[0]
    z0 = mean.double()
    wzz, wz, wxz, wyz = wzz + 2 * z0 * wz + z0**2 * w, wz + z0 * w, wxz + z0 * wx, wyz + z0 * wy
    return [w, wx, wy, wxx, wxy, wyy, wz, wxz, wyz, wzz, number]


def _centres(like: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """X and Y of the blocks' centres, cells."""
    rows, columns = like.shape[-2:]
    first = (side - 1) / 2
    x = first + side * torch.arange(columns, dtype=like.dtype, device=like.device)
    y = first + side * torch.arange(rows, dtype=like.dtype, device=like.device)
    return x[None], y[:, None]


def _shifted(moments: list[Tensor], side: int, *, sign: int) -> list[Tensor]:
    """Moments about the map's origin (+1) from those about the blocks' centres, or back (-1)."""
    x, y = (sign * axis for axis in _centres(moments[0], side))
    w, wx, wy, wxx, wxy, wyy, wz, wxz, wyz, wzz, number = moments
    return [
        w,
        wx + x * w,
        wy + y * w,
        wxx + 2 * x * wx + x * x * w,
        wxy + x * wy + y * wx + x * y * w,
        wyy + 2 * y * wy + y * y * w,
        wz,
        wxz + x * wz,
        wyz + y * wz,
        wzz,
        number,
    ]


def _pooled(moments: list[Tensor]) -> list[Tensor]:
    rows, columns = moments[0].shape
    even = (0, columns % 2, 0, rows % 2)
    padded = (torch.nn.functional.pad(each, even)[None] for each in moments)
    return [4 * torch.nn.functional.avg_pool2d(each, 2)[0] for each in padded]


def _fitted(
    moments: list[Tensor], side: int, spacing: float, tilt_x: Tensor, tilt_y: Tensor
) -> _Planes:
    """Weighted least-squares plane around every block; ``tilt`` is the slope expected there."""
    around = [_spread_sum(each, _window()) for each in moments]
    w, wx, wy, wxx, wxy, wyy, wz, wxz, wyz, wzz, number = _shifted(around, side, sign=-1)
    # What is left to find once the expected slope is taken out.
    wzz = wzz - 2 * (tilt_x * wxz + tilt_y * wyz)
    wzz = wzz + tilt_x**2 * wxx + 2 * tilt_x * tilt_y * wxy + tilt_y**2 * wyy
    wz = wz - tilt_x * wx - tilt_y * wy
    wxz = wxz - tilt_x * wxx - tilt_y * wxy
    wyz = wyz - tilt_x * wxy - tilt_y * wyy
    a, d, f = w + _LEAST_WEIGHT, wxx + _ridge(spacing), wyy + _ridge(spacing)
    minor = (d * f - wxy**2, wxy * wy - wx * f, wx * wxy - d * wy)
    determinant = a * minor[0] + wx * minor[1] + wy * minor[2]
    height = (minor[0] * wz + minor[1] * wxz + minor[2] * wyz) / determinant
    cross = wx * wy - a * wxy
    slope_x = (minor[1] * wz + (a * f - wy**2) * wxz + cross * wyz) / determinant
    slope_y = (minor[2] * wz + cross * wxz + (a * d - wx**2) * wyz) / determinant
    residual = (wzz - height * wz - slope_x * wxz - slope_y * wyz).clamp(min=0)
    excess = residual / number.clamp(min=_LEAST_WEIGHT) - _shown(side)
    wide = gaussian_taps(_POOLED_REACH)
    pooled = _spread_sum(number * excess.clamp(max=_EVIDENT), wide)
    pooled = pooled / _spread_sum(number, wide).clamp(min=_LEAST_WEIGHT)
    excess = torch.where(excess > _EVIDENT, excess, pooled).clamp(min=0)
    relief = excess * number / w.clamp(min=_LEAST_WEIGHT)
    variance = _CORRELATED_CELLS * minor[0] / determinant
    return _Planes(side, height, tilt_x + slope_x, tilt_y + slope_y, variance, relief)


def _window() -> list[float]:
    """Weights of the blocks around one in its plane, 1 in the middle."""
    taps = gaussian_taps(_REACH)
    return [tap / max(taps) for tap in taps]


def _ridge(spacing: float) -> float:
    """Weight of the slopes that are expected, of cells that share one error."""
    return _CORRELATED_CELLS / (_SLOPE * spacing) ** 2


def _shown(side: int) -> float:
    """Mean square off the planes of blocks that noise alone leaves, over its variance.

    Errors that neighbours share do not show within a window, nor do three parameters.
    """
    window = 4 * math.pi * (_REACH**2 + 1 / 12) * side**2
    return 1 - 3 * _CORRELATED_CELLS / window if window > 4 * _CORRELATED_CELLS else 0.25


def _spread_sum(blocks: Tensor, taps: list[float]) -> Tensor:
    """Weighted sums over the blocks around each; there is nothing beyond the edge."""
    return smooth(torch.nn.functional.pad(blocks, (len(taps) // 2,) * 4), taps)


def _combined(wide: _Planes, moments: list[Tensor], side: int, spacing: float) -> _Planes:
    """Planes of one size, each the mean of its own fit and of the wider planes there."""
    height, relief, variance, slope_x, slope_y = _spread_out(wide, side, moments[0])
    fine = _fitted(moments, side, spacing, slope_x, slope_y)
    gain = relief / (relief + fine.variance)
    return _Planes(
        side,
        height + gain * (fine.height - height),
        slope_x + gain * (fine.slope_x - slope_x),
        slope_y + gain * (fine.slope_y - slope_y),
        (1 - gain) ** 2 * (variance + relief) + gain**2 * fine.variance,
        fine.relief,
    )


def _spread_out(
    planes: _Planes, side: int, like: Tensor, *, first_row: int = 0
) -> tuple[Tensor, ...]:
    """Planes at the centres of smaller blocks: height, relief, variance and slopes, as ``like``.

    The planes around a place are blended by their certainty, so that one that straddles a wall
    counts little beside one that does not. ``first_row`` is that of ``like`` on the whole map.
    """
    rows, columns = like.shape
    factor = planes.side // side
    above = max(first_row // factor - 1, 0)  # what lies between blocks is between two rows of them
    near = slice(above, (first_row + rows - 1) // factor + 2)
    x, y = _centres(planes.height, planes.side)
    planes, y = planes.rows(near), y[near]
    constant = planes.height - planes.slope_x * x - planes.slope_y * y
    certainty = 1 / (planes.variance + planes.relief + 1e-12)
    cut = first_row - above * factor

    def finer(values: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(
            (certainty * values).to(like)[None, None],
            scale_factor=factor,
            mode="bilinear",
            align_corners=False,
        )[0, 0, cut : cut + rows, :columns]

    total = finer(torch.ones_like(certainty))
    slope_x, slope_y = finer(planes.slope_x) / total, finer(planes.slope_y) / total
    x, y = _centres(like, side)
    height = finer(constant) / total + slope_x * x + slope_y * (y + side * first_row)
    return height, finer(planes.relief) / total, finer(planes.variance) / total, slope_x, slope_y
