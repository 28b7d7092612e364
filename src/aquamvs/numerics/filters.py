"""Separable filters on stacks of maps, as sums of shifted slices.

At window sizes of a few cells this is several times faster on a CPU than a general convolution.
Single maps are filtered by compiled code there. Elsewhere boxes, of which there are most, are
pooled.
"""

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from .acceleration import at_once, by_rows, has_kernels
from .bands import in_bands
from .islands import island_labels

_LEAST_SHARE = 0.1
"""Of a window that must be known for a local mean."""
_SCATTER_SIGMA = 3.0
"""Window over which scatter is measured, cells."""
_MEDIAN_ROWS = 64
"""Rows whose neighbourhoods are gathered at once: bounds memory."""
_CELL_BYTES, _NEIGHBOUR_BYTES = 48, 16
"""Memory that a root mean square takes for each cell, and a median for each cell that it is of."""


def gaussian_taps(sigma: float) -> list[float]:
    """Weights of a truncated Gaussian (2.5 sigma), odd count, sum 1."""
    radius = max(1, math.ceil(2.5 * sigma))
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(-radius, radius + 1)]
    total = sum(weights)
    return [w / total for w in weights]


def box_taps(size: int) -> list[float]:
    """Weights of a box of an odd size, sum 1."""
    return [1.0 / size] * size


def smooth(maps: Tensor, taps: list[float]) -> Tensor:
    """Filter the last two axes; the result is smaller by ``len(taps) - 1`` in each.

    Args:
        maps: shape (..., H, W).
        taps: Symmetric weights, odd count.

    Returns:
        shape (..., H - n + 1, W - n + 1).
    """
    if maps.device.type != "cpu" and len(set(taps)) == 1:
        # Every operation is a pass over a GPU's memory, and one that it has to begin.
        count, stack = len(taps), maps.reshape(1, -1, *maps.shape[-2:])
        for window in ((1, count), (count, 1)):
            stack = torch.nn.functional.avg_pool2d(stack, window, stride=1)
        return stack.reshape(*maps.shape[:-2], *stack.shape[-2:])
    if maps.dim() == 2 and has_kernels(maps):
        from .filter_kernels import smooth as compiled_smooth

        rows, columns = (size - len(taps) + 1 for size in maps.shape)
        smoothed = maps.new_empty(rows, columns)
        compiled_smooth(maps.contiguous().numpy(), np.array(taps, np.float32), smoothed.numpy())
        return smoothed
    return _along(_along(maps, taps, -1), taps, -2)


def _along(maps: Tensor, taps: list[float], axis: int) -> Tensor:
    count = len(taps)
    length = maps.shape[axis] - count + 1
    radius = count // 2
    total = maps.narrow(axis, radius, length) * taps[radius]
    for i in range(radius):
        pair = maps.narrow(axis, i, length) + maps.narrow(axis, count - 1 - i, length)
        total.add_(pair, alpha=taps[i])
    return total


def shrink(maps: Tensor, margin: int) -> Tensor:
    """Cut a margin off the last two axes."""
    if margin == 0:
        return maps
    return maps[..., margin:-margin, margin:-margin]


def pad_edges(maps: Tensor, margin: int) -> Tensor:
    """Repeat the outermost cells, shape (H, W) -> (H + 2m, W + 2m)."""
    if margin == 0:
        return maps
    padded = torch.nn.functional.pad(maps[None, None], (margin,) * 4, mode="replicate")
    return padded[0, 0]


def pad_linear(maps: Tensor, margin: int) -> Tensor:
    """Continue a map past its edges by point reflection, which keeps its slope there.

    Args:
        maps: shape (H, W).
        margin: Cells to add on each side.

    Returns:
        shape (H + 2m, W + 2m).
    """
    rows = _continued(maps, margin, 0)
    return _continued(rows, margin, 1)


def _continued(maps: Tensor, margin: int, axis: int) -> Tensor:
    length = maps.shape[axis]
    reach = torch.arange(1, margin + 1, device=maps.device).clamp(max=max(length - 1, 0))
    first, last = maps.narrow(axis, 0, 1), maps.narrow(axis, length - 1, 1)
    before = 2 * first - maps.index_select(axis, reach.flip(0))
    after = 2 * last - maps.index_select(axis, length - 1 - reach)
    return torch.cat([before, maps, after], dim=axis)


def smooth_pairs(maps: Tensor, limit: Tensor, sigma: float) -> Tensor:
    """Gaussian mean of every cell and the opposite pairs of neighbours that fit it.

    A pair fits if its mean differs from the cell by less than ``limit``. So slopes stay exactly as
    they are, and so do edges and any curvature that exceeds the limit.

    Args:
        maps: shape (H, W); NaN where unknown.
        limit: Same shape.
        sigma: Of the Gaussian, cells; it ends at twice that.

    Returns:
        shape (H, W); NaN where unknown.
    """
    reach = math.ceil(2 * sigma)
    weights = torch.zeros(reach + 1, 2 * reach + 1)
    for i in range(reach + 1):
        for j in range(-reach, reach + 1):
            if i > 0 or j > 0:  # each pair once
                weights[i, j + reach] = 2 * math.exp(-0.5 * (i * i + j * j) / sigma**2)
    padded = pad_linear(maps, reach)
    if has_kernels(maps):
        from .filter_kernels import smooth_pairs as compiled_smooth_pairs

        smoothed = torch.empty_like(maps)
        arrays = (padded.contiguous(), limit.contiguous(), weights, smoothed)
        values, bound, taps, out = (each.numpy() for each in arrays)

        def filtered(part: range) -> None:
            here = slice(part.start, part.stop)
            around = values[part.start : part.stop + 2 * reach]
            compiled_smooth_pairs(around, bound[here], taps, out[here])

        by_rows(maps, filtered)
        return smoothed
    rows, columns = maps.shape
    total, weight = torch.zeros_like(maps), torch.ones_like(maps)
    for i, j in weights.nonzero().tolist():
        below = padded[reach + i : reach + i + rows, j : j + columns]
        above = padded[reach - i : reach - i + rows, 2 * reach - j : 2 * reach - j + columns]
        away = (below + above) / 2 - maps
        share = torch.where(away.abs() < limit, float(weights[i, j]), 0.0)
        total += torch.where(share > 0, share * away, 0.0)
        weight += share
    return maps + total / weight


def local_rms(maps: Tensor, known: Tensor, sigma: float) -> Tensor:
    """Root mean square of the known cells under a Gaussian window; NaN where there are few.

    Args:
        maps: shape (H, W).
        known: Same shape, bool.
        sigma: Of the window, cells.

    Returns:
        shape (H, W).
    """
    taps = gaussian_taps(sigma)
    if has_kernels(maps):
        from .filter_kernels import local_rms as compiled_rms

        rms = torch.empty_like(maps)
        values, there, out = maps.contiguous().numpy(), known.contiguous().numpy(), rms.numpy()
        window, least = np.array(taps, np.float32), np.float32(_LEAST_SHARE)
        by_rows(maps, lambda r: compiled_rms(values, there, window, least, r.start, r.stop, out))
        return rms
    margin = len(taps) // 2

    def some(rows: slice) -> tuple[Tensor]:
        there = known[rows]
        square = torch.where(there, maps[rows].square(), 0.0)
        above, share = (smooth(pad_edges(x, margin), taps) for x in (square, there.to(maps)))
        mean = above / share.clamp(min=1e-6)
        return (torch.where(share > _LEAST_SHARE, mean.sqrt(), torch.nan),)

    return in_bands(some, maps, _CELL_BYTES, margin=margin)[0]


def scatter(roughness: Tensor) -> Tensor:
    """How far neighbours stand off their smoothed map, from what smoothing took away.

    Args:
        roughness: The map less its smoothed form, shape (H, W); NaN where unknown, and 0 where
            nothing was averaged.

    Returns:
        Root mean square around every cell, shape (H, W); NaN where there are few.
    """
    return local_rms(roughness, roughness.abs() > 0, _SCATTER_SIGMA)


def extreme(maps: Tensor, radius: int) -> Tensor:
    """Greatest value of every square neighbourhood, shape (H, W); no value may be NaN."""
    side = 2 * radius + 1
    if maps.device.type != "cpu":
        pool = torch.nn.functional.max_pool2d
        across = pool(maps[None, None], (1, side), 1, (0, radius))
        return pool(across, (side, 1), 1, (radius, 0))[0, 0]
    square = np.ones((side, side), np.uint8)
    found = cv2.dilate(maps.numpy(), square, borderType=cv2.BORDER_REPLICATE)
    return torch.from_numpy(np.asarray(found))


def median3(maps: Tensor) -> Tensor:
    """Median of the known cells of each 3 x 3 neighbourhood, shape (H, W).

    A gap is not closed: what was NaN stays NaN.
    """
    if has_kernels(maps):
        from .filter_kernels import median3 as compiled_median3

        median = torch.empty_like(maps)
        values, out = maps.contiguous().numpy(), median.numpy()
        by_rows(maps, lambda part: compiled_median3(values, part.start, part.stop, out))
        return median
    return torch.where(torch.isfinite(maps), _neighbourhood_median(maps, 1), torch.nan)


def isolated(maps: Tensor, tolerance: float) -> Tensor:
    """Known cells that do not belong to a surface, shape (H, W), bool.

    They are further than ``tolerance`` from the median of the known cells of their 5 x 5
    neighbourhood, or fewer than a third of it is known.
    """
    if has_kernels(maps):
        from .filter_kernels import isolated as compiled_isolated

        found = torch.empty(maps.shape, dtype=torch.bool)
        values, limit, out = maps.contiguous().numpy(), np.float32(tolerance), found.numpy()
        by_rows(maps, lambda part: compiled_isolated(values, 2, limit, part.start, part.stop, out))
        return found
    known = pad_edges(torch.isfinite(maps).to(maps), 2)
    share = smooth(known, box_taps(5))
    far = (maps - _neighbourhood_median(maps, 2)).abs() > tolerance
    return torch.isfinite(maps) & (far | (share < 1 / 3))


def specks(
    maps: Tensor, tolerance: float, least_cells: int, counted: Tensor | None = None
) -> Tensor:
    """Known cells of small islands: parts that jumps or gaps cut off, shape (H, W), bool.

    Args:
        maps: shape (H, W); NaN where unknown.
        tolerance: A step between neighbours that exceeds this is a jump.
        least_cells: Islands of fewer cells are specks.
        counted: Cells that count towards the size of their island, shape (H, W), bool; all if
            absent.
    """
    if maps.device.type != "cpu":
        return _specks_there(maps, tolerance, least_cells, counted)
    values = maps.numpy()
    known = np.isfinite(values)
    joined = known.copy()
    with np.errstate(invalid="ignore"):
        across = np.abs(np.diff(values, axis=1)) > tolerance
        down = np.abs(np.diff(values, axis=0)) > tolerance
    for jump, first, second in (
        (across, np.s_[:, :-1], np.s_[:, 1:]),
        (down, np.s_[:-1], np.s_[1:]),
    ):
        joined[first] &= ~jump
        joined[second] &= ~jump
    count, labels = cv2.connectedComponents(joined.astype(np.uint8), connectivity=4)
    counted_labels = labels if counted is None else labels[counted.numpy()]
    sizes = np.bincount(counted_labels.ravel(), minlength=count)
    sizes[0] = 0
    large = (sizes >= least_cells)[labels]
    # The rim along a jump belongs to whichever large part it touches.
    near_large = cv2.dilate(large.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return torch.from_numpy(known & ~near_large)


def _specks_there(
    maps: Tensor, tolerance: float, least_cells: int, counted: Tensor | None
) -> Tensor:
    """:func:`specks` where the map is: the processor takes longer than a GPU for all of a view."""
    known = torch.isfinite(maps)
    joined = known.clone()
    for axis, size in enumerate(maps.shape):
        jump = maps.diff(dim=axis).abs() > tolerance
        for first in (0, 1):
            joined.narrow(axis, first, size - 1).logical_and_(~jump)
    labels = island_labels(joined).flatten()
    cells = joined if counted is None else joined & counted
    sizes = torch.zeros(labels.numel() + 1, dtype=torch.int64, device=maps.device)
    sizes.index_add_(0, labels, cells.flatten().long())
    large = (sizes[labels] >= least_cells).reshape(maps.shape) & joined
    near_large = extreme(large.to(maps), 1) > 0
    return known & ~near_large


def _neighbourhood_median(maps: Tensor, radius: int) -> Tensor:
    side = 2 * radius + 1
    rows, columns = maps.shape
    median = torch.empty_like(maps)
    padded = pad_edges(maps, radius)
    band = at_once(maps.device, _MEDIAN_ROWS, _NEIGHBOUR_BYTES * side**2 * columns)
    for start in range(0, rows, band):
        count = min(band, rows - start)
        around = [
            padded[start + i : start + i + count, j : j + columns]
            for i in range(side)
            for j in range(side)
        ]
        median[start : start + count] = torch.stack(around, -1).nanmedian(-1).values
    return median


def halve(maps: Tensor) -> Tensor:
    """Mean of 2 x 2 cells, shape (H, W) -> (ceil H/2, ceil W/2); an odd last row stands alone."""
    return torch.nn.functional.avg_pool2d(
        maps[None, None], 2, ceil_mode=True, count_include_pad=False
    )[0, 0]


def upsample(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    """Bilinear map of twice the resolution, cut to ``shape``; cells keep their place."""
    finer = torch.nn.functional.interpolate(
        maps[None, None], scale_factor=2, mode="bilinear", align_corners=False
    )
    return finer[0, 0, : shape[0], : shape[1]].contiguous()


def fill_gaps(maps: Tensor) -> Tensor:
    """Fill NaN smoothly from what surrounds it (pull and push through a pyramid), shape (H, W)."""
    unknown = torch.isnan(maps)
    if not bool(unknown.any()):
        return maps
    return _pull_push(torch.where(unknown, 0.0, maps), (~unknown).to(maps))


def _pull_push(values: Tensor, weight: Tensor) -> Tensor:
    """Values where the weight is positive, a smooth continuation elsewhere."""
    if values.numel() <= 4 or bool((weight > 0).all()):
        mean = (values * weight).sum() / weight.sum().clamp(min=1e-12)
        return torch.where(weight > 0, values, mean)
    below = halve(weight)
    coarse = torch.where(below > 0, halve(values * weight) / below.clamp(min=1e-12), 0.0)
    push = upsample(_pull_push(coarse, below), (values.shape[0], values.shape[1]))
    return torch.where(weight > 0, values, push)
