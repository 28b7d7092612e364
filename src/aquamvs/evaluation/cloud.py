"""Point clouds against a true surface: ETH3D's accuracy, completeness and F-score, and density."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import DataError
from ..plain import plain
from .arrays import FloatArray, as_bool, as_float64
from .statistics import DistanceStatistics, distance_statistics
from .triangles import Triangles

ETH3D_VOXEL_SIZE = 0.01
"""Side of the voxels over which ETH3D averages, metres."""

CLOUD_TOLERANCES = (0.001, 0.002, 0.005, 0.01)
"""Tolerances reported by default, metres: from the rig's limit to what a glance would notice."""

_CELLS_PER_NEIGHBOUR = 5
"""Cells this many point distances wide hold a random point with 99.6 % certainty: with a median
nearest distance of 0.47 / sqrt(density), a cell expects 5.5 points."""

_GRID_PHASES = 4
"""Shifts of the grid over which the covered area is averaged."""

_SPACING_SAMPLES = 20_000
"""Points at which the cloud's own spacing is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudScores:
    """ETH3D's scores of a cloud.

    Attributes:
        point_count: Points judged.
        truth_count: Samples of the true surface.
        accuracy: Tolerance in metres to the fraction of points that close to the truth; NaN for an
            empty cloud.
        completeness: Tolerance to the fraction of the truth that close to a point.
        f_score: Tolerance to the harmonic mean of both; 0 for an empty cloud.
        distance: Statistics of the points' distances to the true surface (every point alike, none
            trimmed).
        voxel_size: Side of the voxels that were averaged, metres; None where points count alike.

    Example:
        >>> from aquamvs.evaluation import Triangles, cloud_scores
        >>> surface = Triangles.of_mesh(made.mesh)
        >>> scores = cloud_scores(made.cloud.points, surface, sample_spacing=0.02)
        >>> scores.accuracy[0.01] > 0.9, scores.point_count == len(made.cloud)
        (True, True)
    """

    point_count: int
    truth_count: int
    accuracy: dict[float, float]
    completeness: dict[float, float]
    f_score: dict[float, float]
    distance: DistanceStatistics
    voxel_size: float | None

    def as_dict(self) -> dict[str, Any]:
        """The scores as plain Python for JSON; tolerances become strings, NaN None."""
        result: dict[str, Any] = plain(self)
        return result


@dataclass(frozen=True, slots=True)
class SurfaceDensity:
    """How densely points lie on the surface that they cover.

    Attributes:
        density: Points per square metre of surface covered; NaN where nothing is covered.
        covered_area: Area of that surface, slopes included, square metres.
        cell_size: Horizontal resolution at which a gap counts as a gap, metres.

    Example:
        >>> from aquamvs.evaluation import surface_density
        >>> density = surface_density(made.cloud.points, spacing=0.02)
        >>> density.covered_area > 0.3, density.density > 1000
        (True, True)
    """

    density: float
    covered_area: float
    cell_size: float

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain Python for JSON; NaN becomes None."""
        result: dict[str, Any] = plain(self)
        return result


def cloud_scores(
    points: Tensor,
    truth: Triangles,
    *,
    tolerances: Sequence[float] = CLOUD_TOLERANCES,
    sample_spacing: float,
    voxel_size: float | None = ETH3D_VOXEL_SIZE,
    judged: Tensor | None = None,
    accuracy_stride: int = 1,
) -> CloudScores:
    """Accuracy, completeness and F-score after Schöps et al., CVPR 2017, section 5.

    As there, both fractions are averages over voxels, so that densely sampled places do not count
    for more. Two things differ, for the truth here is a whole surface and not a laser scan:
    accuracy measures the distance to the surface itself instead of the nearest scan point, and
    which points lie where the truth is unknown (ETH3D asks the scanner's free space) is said by
    ``judged``.

    Args:
        points: World frame, shape (N, 3), metres, finite.
        truth: True surface.
        tolerances: Distances, metres.
        sample_spacing: Spacing of the samples of the truth for completeness, metres; a few samples
            per voxel do.
        voxel_size: Side of the voxels, metres; None counts every point alike.
        judged: shape (N,), bool: False for points where the truth is unknown, which are ignored.
        accuracy_stride: Take only every so-manieth point for accuracy, the slower half;
            completeness always uses all.

    Returns:
        The scores.

    Raises:
        ShapeError: ``points`` or ``judged`` has another shape.

    Example:
        >>> from aquamvs.evaluation import Triangles, cloud_scores
        >>> surface = Triangles.of_mesh(made.mesh)
        >>> round(cloud_scores(made.mesh.vertices, surface, sample_spacing=0.02).accuracy[0.001], 6)
        1.0
    """
    from scipy.spatial import cKDTree

    cloud = as_float64("points", points, (None, 3))
    if judged is not None:
        cloud = cloud[as_bool("judged", judged, (len(cloud),))]
    samples = as_float64("samples", truth.sample(sample_spacing), (None, 3))
    probes = cloud[::accuracy_stride]
    to_truth = truth.distance(probes)
    to_cloud = np.full(len(samples), np.inf)
    if len(cloud):
        to_cloud = cKDTree(cloud).query(samples, workers=-1)[0]
    cloud_voxel, sample_voxel = _voxels(probes, voxel_size), _voxels(samples, voxel_size)
    accuracy = {float(t): _voxel_mean(to_truth <= t, cloud_voxel) for t in tolerances}
    completeness = {float(t): _voxel_mean(to_cloud <= t, sample_voxel) for t in tolerances}
    return CloudScores(
        point_count=len(cloud),
        truth_count=len(samples),
        accuracy=accuracy,
        completeness=completeness,
        f_score={t: _harmonic_mean(accuracy[t], completeness[t]) for t in accuracy},
        distance=distance_statistics(to_truth, thresholds=tolerances),
        voxel_size=voxel_size,
    )


def cloud_to_mesh(points: Tensor, truth: Triangles) -> FloatArray:
    """Distance of every point to the nearest point of a triangle surface.

    Args:
        points: World frame, shape (N, 3), metres, finite.
        truth: The surface (``Triangles.of_mesh(mesh)`` for a mesh).

    Returns:
        shape (N,), float64, metres.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import Triangles, cloud_to_mesh
        >>> above = made.mesh.vertices[:3] - torch.tensor([0.0, 0.0, 0.001])
        >>> bool((cloud_to_mesh(above, Triangles.of_mesh(made.mesh)) < 0.0011).all())
        True
    """
    return truth.distance(points)


def surface_density(points: Tensor, *, spacing: float) -> SurfaceDensity:
    """Points per square metre of the surface that they cover.

    Area is summed over the cells of a horizontal grid of median heights: two triangles wherever
    four neighbouring cells hold points. For a convex region of any orientation that is unbiased
    (the count of full 2 x 2 blocks is the digital Steiner formula), and slopes count with their
    true area. A cell is ``spacing`` wide, or five times the cloud's median point distance if that
    is more, so that a sparse cloud covers what it surrounds and not isolated specks.

    Args:
        points: World frame, shape (N, 3), metres, finite; a surface seen from above (walls enter as
            steep triangles).
        spacing: Smallest gap that counts as a gap, metres.

    Returns:
        Density, area and the width of the cells used.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import surface_density
        >>> x, y = torch.meshgrid(torch.arange(50) / 100, torch.arange(50) / 100, indexing="ij")
        >>> plane = torch.stack([x, y, torch.ones_like(x)], -1).reshape(-1, 3)
        >>> round(surface_density(plane, spacing=0.01).covered_area, 2)
        0.25
    """
    if not spacing > 0:
        raise DataError(f"spacing is {spacing} m; expected a positive length")
    cloud = as_float64("points", points, (None, 3))
    cell = max(spacing, _CELLS_PER_NEIGHBOUR * _median_spacing(cloud))
    area = _covered_area(cloud, cell)
    density = len(cloud) / area if area > 0 else float("nan")
    return SurfaceDensity(density, area, cell)


def _median_spacing(cloud: FloatArray) -> float:
    """Median distance of points to their nearest neighbour, metres; 0 for fewer than two."""
    from scipy.spatial import cKDTree

    if len(cloud) < 2:
        return 0.0
    some = cloud[:: max(1, len(cloud) // _SPACING_SAMPLES)]
    return float(np.median(cKDTree(cloud).query(some, k=2)[0][:, 1]))


def _covered_area(cloud: FloatArray, cell: float) -> float:
    """Mean over grids of several phases: how borders fall on one grid would show in small areas."""
    if not len(cloud):
        return 0.0
    steps = np.arange(_GRID_PHASES) / _GRID_PHASES
    return float(np.mean([_grid_area(cloud, cell, (a, -a)) for a in steps]))


def _grid_area(cloud: FloatArray, cell: float, phase: tuple[float, float]) -> float:
    index = np.floor(cloud[:, :2] / cell + phase).astype(np.int64)
    index -= index.min(axis=0)
    columns = int(index[:, 0].max()) + 2  # a spare column: no neighbour across the border
    key = index[:, 1] * columns + index[:, 0]
    order = np.lexsort((cloud[:, 2], key))
    occupied, start, count = np.unique(key[order], return_index=True, return_counts=True)
    height = cloud[order, 2][start + count // 2]  # the median ignores what floats above a cell
    corners = []
    whole = np.ones(len(occupied), dtype=bool)
    for offset in (0, 1, columns, columns + 1):
        place = np.minimum(np.searchsorted(occupied, occupied + offset), len(occupied) - 1)
        whole &= occupied[place] == occupied + offset
        corners.append(height[place])
    a, b, c, d = (corner[whole] for corner in corners)
    blocks = len(a)
    if not blocks:
        return 0.0
    halves = (np.hypot(b - a, c - a), np.hypot(d - c, d - b))
    area = sum(float((cell / 2 * np.hypot(cell, half)).sum()) for half in halves)
    # Points stand for the ground around them, so the covered region reaches half a point distance
    # beyond them; cells without a full block measure its border.
    distance = np.sqrt(blocks / len(cloud))  # in cells
    return area * float(1 + distance * (len(occupied) - blocks) / blocks)


def _voxels(points: FloatArray, size: float | None) -> FloatArray:
    """Weight of each point that lets every occupied voxel count alike, shape (N,)."""
    if size is None or not len(points):
        return np.full(len(points), 1 / max(1, len(points)))
    if not size > 0:
        raise DataError(f"voxel_size is {size} m; expected a positive length or None")
    index = np.floor(points / size).astype(np.int64)
    _, voxel, count = np.unique(index, axis=0, return_inverse=True, return_counts=True)
    return np.asarray(1 / (count[voxel.reshape(-1)] * len(count)))


def _voxel_mean(hits: Any, weight: FloatArray) -> float:
    return float(weight[hits].sum()) if len(weight) else float("nan")


def _harmonic_mean(accuracy: float, completeness: float) -> float:
    total = accuracy + completeness
    return 2 * accuracy * completeness / total if total > 0 else 0.0
