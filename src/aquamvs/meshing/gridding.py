"""A cloud as a height map: robust means per cell, small gaps bridged, everything else left open."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, StageError
from ..types import HeightMap, PointCloud

_MAX_CELLS = 1 << 26
_MIN_NORMAL_Z = 0.25
"""Surfaces steeper than 76 degrees have no height to move to a cell's centre along."""
_OUTLIER_SIGMAS = 3.0
_LEAST_SIGMA = 1e-6
"""A micrometre: no point weighs more, not even one that claims to be exact."""
_MAX_BRIDGE_SLOPE = 1.0
"""A gap whose ends differ by more than its length hides an edge, not a patch without texture."""
_WORST_SIGN = (1.0, -1.0, -1.0)
"""Of sigma, confidence and view count the largest, smallest and smallest are the worst."""
_NEIGHBOURS = 4
"""The fourth neighbour lies one cell away on a square grid, and as far on average in a random
cloud of the same density (1.1 cells)."""
_SPACING_SAMPLES = 20_000
_CHANNELS = 7
_POINTS_AT_ONCE = 1 << 17
"""Points whose cells are made together, and cells that are bridged together: bounds memory."""
_ROWS_AT_ONCE = 128


def point_spacing(cloud: PointCloud) -> float:
    """Typical horizontal distance between neighbouring points, metres.

    Args:
        cloud: At least two points at different places.

    Raises:
        StageError: The cloud is too small to tell.
    """
    from scipy.spatial import cKDTree

    xy = cloud.points[:, :2].detach().cpu().double().numpy()
    neighbours = min(_NEIGHBOURS, len(xy) - 1)
    distance = 0.0
    if neighbours >= 1:
        step = max(1, len(xy) // _SPACING_SAMPLES)
        distances, _ = cKDTree(xy).query(xy[::step], k=[neighbours + 1])
        distance = float(np.median(distances))
    if distance == 0:
        raise StageError(
            f"a cloud of {len(xy)} points is too small to derive a grid spacing from; give one"
        )
    return distance


def grid_cloud(cloud: PointCloud, spacing: float | None = None, *, max_gap: int = 3) -> HeightMap:
    """Grid a cloud of a surface without overhangs.

    Each point is moved to its cell's centre along its own tangent plane, so that slopes leave no
    steps; a cell holds the mean, weighted by inverse variance, of those points that agree with
    their median. Points of a vertical wall fall into one cell, of which the median is kept.

    Args:
        cloud: World frame.
        spacing: Cell size, metres; the cloud's own point spacing if absent.
        max_gap: Runs of at most so many unknown cells between two known ones of a row or column are
            interpolated linearly, unless the surface jumps there. 0 fills nothing.

    Returns:
        The height map. ``sigma`` is the mean of the points' in a cell, not less: points of one cell
        come from overlapping windows. Bridged cells take the larger sigma and smaller confidence of
        their ends.

    Raises:
        ConfigError: A spacing that is not positive or makes a grid of over 67 million cells, or a
            negative ``max_gap``.
        StageError: An empty cloud.

    Example:
        >>> from aquamvs.meshing import grid_cloud
        >>> height_map = grid_cloud(made.cloud, spacing=0.02)
        >>> height_map.spacing, bool(height_map.z.isfinite().any())
        (0.02, True)
    """
    if len(cloud) == 0:
        raise StageError("the cloud is empty; there is nothing to grid")
    if max_gap < 0:
        raise ConfigError(f"max_gap is {max_gap}; expected 0 or more cells")
    spacing = point_spacing(cloud) if spacing is None else spacing
    if not 0 < spacing < float("inf"):
        raise ConfigError(f"grid spacing is {spacing} m; expected a positive length")
    xy = cloud.points[:, :2].detach().cpu().numpy()
    low, high = xy.min(0).astype(np.float64), xy.max(0).astype(np.float64)
    columns, rows = (int(n) + 1 for n in np.round((high - low) / spacing))
    if rows * columns > _MAX_CELLS:
        raise ConfigError(
            f"a grid of {spacing} m over {high[0] - low[0]:.3g} m x {high[1] - low[1]:.3g} m has "
            f"{rows} x {columns} cells; choose a larger spacing, or remove the cloud's outliers"
        )
    filled = _channels(cloud, low, spacing, rows, columns)
    fill_small_gaps(filled, max_gap, spacing)
    z, sigma, confidence, views = filled[:4]
    known = torch.isfinite(z)
    return HeightMap(
        x0=float(low[0]),
        y0=float(low[1]),
        spacing=float(spacing),
        z=z,
        sigma=sigma,
        confidence=torch.where(known, confidence, 0.0),
        view_count=torch.where(known, views, 0.0).int(),
        color=torch.where(known[..., None], filled[4:].movedim(0, -1), 0.0),
    )


def _channels(
    cloud: PointCloud, low: NDArray[np.float64], spacing: float, rows: int, columns: int
) -> Tensor:
    """z, sigma, confidence, view count and colours of every cell, NaN in those without points.

    Shape (7, rows, columns), float32. The cells are made in parts that share none.
    """
    number = _cell_numbers(cloud, low, spacing, columns)
    order = np.argsort(number, kind="stable")
    number = number[order]
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    del number
    wanted = np.arange(0, len(order), _POINTS_AT_ONCE)
    ends = np.unique(starts[np.searchsorted(starts, wanted, side="right") - 1])
    grid = np.full((_CHANNELS, rows * columns), np.nan, dtype=np.float32)
    for some in np.split(order, ends[1:]):
        cells, values = _cell_values(cloud, torch.from_numpy(some), low, spacing, columns)
        grid[:, cells] = values
    return torch.from_numpy(grid.reshape(-1, rows, columns))


def _cell_numbers(
    cloud: PointCloud, low: NDArray[np.float64], spacing: float, columns: int
) -> NDArray[np.int32]:
    """Flat number of each point's cell, shape (N,); a grid has fewer than 2^31 cells."""
    number = np.empty(len(cloud), dtype=np.int32)
    for start in range(0, len(cloud), _POINTS_AT_ONCE):
        part = slice(start, start + _POINTS_AT_ONCE)
        place = np.round((cloud.points[part, :2].detach().cpu().numpy() - low) / spacing)
        number[part] = place[:, 1] * columns + place[:, 0]
    return number


def _cell_values(
    cloud: PointCloud, some: Tensor, low: NDArray[np.float64], spacing: float, columns: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Flat numbers of the cells of some points, ascending, shape (M,), and their values (7, M)."""
    points, normals, sigma, color, confidence, views = (
        each.detach().cpu()[some].double().numpy()
        for each in (
            cloud.points,
            cloud.normals,
            cloud.sigma,
            cloud.colors,
            cloud.confidence,
            cloud.view_count,
        )
    )
    place = np.round((points[:, :2] - low) / spacing)
    number = (place[:, 1] * columns + place[:, 0]).astype(np.int64)
    z = points[:, 2] + _rise_to(low + place * spacing - points[:, :2], normals)
    order = np.lexsort((z, number))
    number, z, sigma, confidence = number[order], z[order], sigma[order], confidence[order]
    others = np.vstack([views[order], color[order].T])
    first = np.flatnonzero(np.diff(number, prepend=-1))
    cell = np.repeat(np.arange(len(first)), np.diff(first, append=len(number)))
    median = first + (np.bincount(cell) - 1) // 2
    # A point whose uncertainty nobody knows is known to a cell's size.
    spread = np.where(np.isfinite(sigma), sigma, spacing).clip(_LEAST_SIGMA)
    reach = _OUTLIER_SIGMAS * np.hypot(spread, spread[median][cell])
    inlier = np.abs(z - z[median][cell]) <= reach
    weight = inlier / spread**2
    weight /= np.bincount(cell, weight)[cell]
    rows = np.vstack([z, sigma, confidence, others])
    rows[:, ~inlier] = 0.0
    means = [np.bincount(cell, weight * row) for row in rows]
    return number[first], np.stack(means).astype(np.float32)


def _rise_to(offset: NDArray[np.float64], normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Change of z along tangent planes over horizontal offsets, shape (N, 2) to (N,)."""
    downward = normals[:, 2]
    level = np.abs(downward) >= _MIN_NORMAL_Z  # False for NaN
    slope = -normals[:, :2] / np.where(level, downward, 1.0)[:, None]
    return np.where(level, (slope * offset).sum(1), 0.0)


def fill_small_gaps(channels: Tensor, max_gap: int, spacing: float) -> None:
    """Bridge, in place, short runs of unknown cells between known ones of a row or a column.

    Args:
        channels: z, sigma, confidence, view count and colours, shape (7, rows, columns); a cell is
            unknown where its z is NaN.
        max_gap: Longest run that is bridged, cells.
        spacing: Cell size, metres.

    z and colours become linear between the ends of a run, and the mean of both directions where
    both bridge the cell, weighted by the inverse length of the run; sigma the largest of the ends',
    confidence and view count the smallest.
    """
    if max_gap == 0:
        return
    across = _Runs.of(channels[0], max_gap, spacing)
    down = _Runs.of(channels[0].T, max_gap, spacing).transposed()
    unknown = torch.nonzero(across.near | down.near)
    for some in torch.split(unknown, _POINTS_AT_ONCE):  # the ends of runs are known: none changes
        cells = some.unbind(-1)
        bridges = [_bridge(channels, runs, cells) for runs in (across, down)]
        (linear, worst, weight), (linear_down, worst_down, weight_down) = bridges
        mean = (weight * linear + weight_down * linear_down) / (weight + weight_down)
        sign = channels.new_tensor(_WORST_SIGN)[:, None]
        mean[1:4] = torch.maximum(worst, worst_down) * sign
        channels[:, cells[0], cells[1]] = mean


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs of unknown cells along one direction of a grid, all of shape (rows, columns).

    Attributes:
        near: Cells of runs that are bridged, bool.
        before: Cells from the run's known cell before to this one, int32.
        length: Cells from one known end to the other, int32.
        along: 1 along rows, 0 along columns.
    """

    near: Tensor
    before: Tensor
    length: Tensor
    along: int = 1

    @staticmethod
    def of(z: Tensor, max_gap: int, spacing: float) -> "_Runs":
        """Runs along the rows, found in bands of rows."""
        bands = [_Runs._of_band(band, max_gap, spacing) for band in torch.split(z, _ROWS_AT_ONCE)]
        return _Runs(
            torch.cat([band.near for band in bands]),
            torch.cat([band.before for band in bands]),
            torch.cat([band.length for band in bands]),
        )

    @staticmethod
    def _of_band(z: Tensor, max_gap: int, spacing: float) -> "_Runs":
        known = torch.isfinite(z)
        columns = z.shape[1]
        place = torch.arange(columns, device=z.device, dtype=torch.int32).expand(known.shape)
        left = torch.where(known, place, -1).cummax(-1).values
        right = torch.where(known, place, columns).flip(-1).cummin(-1).values.flip(-1)
        run = right - left
        near = ~known & (left >= 0) & (right < columns) & (run <= max_gap + 1)
        first, last = (z.gather(-1, end.clamp(0, columns - 1).long()) for end in (left, right))
        near &= (last - first).abs() <= _MAX_BRIDGE_SLOPE * spacing * run
        return _Runs(near, place - left, run)

    def transposed(self) -> "_Runs":
        """The same of the transposed grid."""
        return _Runs(self.near.T, self.before.T, self.length.T, 1 - self.along)


def _bridge(
    channels: Tensor, runs: _Runs, cells: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Linear values (7, M), the worse of both ends' qualities (3, M) and weights (M,) of cells.

    Cells that no run of this direction bridges have no weight.
    """
    near, before, length = runs.near[cells], runs.before[cells].long(), runs.length[cells].long()
    ends = []
    for step in (-before, length - before):
        place = list(cells)
        place[runs.along] = torch.where(near, place[runs.along] + step, place[runs.along])
        ends.append(channels[:, place[0], place[1]])
    t = before / length.clamp(min=1)
    linear = torch.where(near, ends[0] + t * (ends[1] - ends[0]), 0.0)
    sign = channels.new_tensor(_WORST_SIGN)[:, None]
    worst = torch.maximum(*(end[1:4] * sign for end in ends))
    return linear, torch.where(near, worst, -torch.inf), near / length.clamp(min=1)
