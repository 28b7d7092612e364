"""Triangle surfaces as references: exact distances to them and even samples on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, ShapeError
from ..types import Mesh
from .arrays import BoolArray, FloatArray, as_float64

IndexArray = NDArray[np.int64]

_FIRST_CANDIDATES = 24
"""Triangles tried per point before any doubt about the nearest one."""

_MORE_CANDIDATES = 4
"""Factor by which the list of candidates grows while doubt remains."""

_SORT_CELLS = 16
"""Side, in triangle sizes, of the square columns in which points are visited."""

_PAIRS = 1 << 18
"""Point-triangle pairs per block: some 100 MB of temporaries."""

_LARGE = 4.0
"""Triangles this many times larger than the median are divided for the search."""

_MAX_PIECES = 200_000
"""Pieces, about, into which large triangles may be divided."""

_MAX_SAMPLES = 1 << 24
"""Points on a surface, some gigabytes: a spacing that wants more is a mistake."""

_FAR = 100.0
"""Triangle sizes from which a point is far: thousands of triangles are about equally near."""

_FAR_TOLERANCE = 0.01
"""Relative error allowed to far points, whose candidates would cost minutes."""

_PLASTIC = 1.32471795724474602596
"""Root of x³ = x + 1: the steps 1/x and 1/x² fill the square evenly (Roberts' R2 sequence)."""


@dataclass(frozen=True, slots=True)
class Triangles:
    """A surface of triangles in the world frame.

    Attributes:
        vertices: shape (V, 3), float64, metres.
        faces: Vertex indices, shape (F, 3), int64.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import Triangles
        >>> square = torch.tensor([[0.0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
        >>> surface = Triangles(square, torch.tensor([[0, 2, 1], [0, 3, 2]]))
        >>> surface.area, surface.distance(torch.tensor([[0.5, 0.5, 0.9]])).round(3).tolist()
        (1.0, [0.1])
    """

    vertices: Tensor
    faces: Tensor

    def __post_init__(self) -> None:
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3:
            raise ShapeError("vertices", tuple(self.vertices.shape), "(any, 3)")
        if self.faces.ndim != 2 or self.faces.shape[1] != 3:
            raise ShapeError("faces", tuple(self.faces.shape), "(any, 3)")
        if len(self.faces) == 0:
            raise DataError("a surface without triangles was given; expected at least one")

    @classmethod
    def of_mesh(cls, mesh: Mesh) -> Triangles:
        """The surface of a mesh."""
        return cls(mesh.vertices.double(), mesh.faces)

    @property
    def corners(self) -> FloatArray:
        """Corners of every triangle, shape (F, 3, 3), float64."""
        vertices = as_float64("vertices", self.vertices, (None, 3))
        return np.asarray(vertices[self.faces.cpu().numpy()])

    @property
    def area(self) -> float:
        """Total area, square metres."""
        return float(_areas(self.corners).sum())

    def sample(self, spacing: float) -> Tensor:
        """Points spread evenly by area: the same ones every time.

        Systematic sampling along the cumulated area chooses the triangles and a low-discrepancy
        sequence the place within them, so that density varies less than with random numbers.

        Args:
            spacing: Mean distance of neighbours, metres: one point per ``spacing²``.

        Returns:
            shape (N, 3), float64, at least one point.

        Raises:
            DataError: The spacing is not positive, or so small for the surface's area that there
                would be more than 17 million points.
        """
        if not spacing > 0:
            raise DataError(f"spacing is {spacing} m; expected a positive length")
        corners = self.corners
        cumulated = np.cumsum(_areas(corners))
        wanted = float(cumulated[-1]) / spacing / spacing
        if not wanted <= _MAX_SAMPLES:
            raise DataError(
                f"a surface of {cumulated[-1]:.4g} m² sampled every {spacing:.4g} m gives "
                f"{wanted:.4g} points; at most {_MAX_SAMPLES} are made, so choose a larger spacing"
            )
        count = max(1, round(wanted))
        step = np.arange(count) + 0.5
        chosen = np.searchsorted(cumulated, step * (cumulated[-1] / count), side="right")
        chosen = np.minimum(chosen, len(corners) - 1)
        a, b = np.mod(step / _PLASTIC, 1), np.mod(step / _PLASTIC**2, 1)
        root = np.sqrt(a)  # uniform in the triangle: Osada et al. 2002, eq. 1
        weights = np.stack([1 - root, root * (1 - b), root * b], axis=-1)
        return torch.from_numpy(np.einsum("nk,nkc->nc", weights, corners[chosen]))

    def distance(self, points: Tensor | NDArray[Any]) -> FloatArray:
        """Distance of points to the nearest point of the surface.

        A k-d tree of the triangles' centres proposes candidates, more of them until no other
        triangle can be nearer. Exact, but for points further away than a hundred triangle sizes,
        whose distance is good to 1 %.

        Args:
            points: World frame, shape (N, 3), metres, finite.

        Returns:
            shape (N,), metres.
        """
        queries = as_float64("points", points, (None, 3))
        search = _Search(_divide(self.corners))
        distance = np.full(len(queries), np.inf)
        order = np.lexsort(np.floor(queries[:, :2].T / (_SORT_CELLS * (search.largest or 1.0))))
        todo, candidates = order, min(_FIRST_CANDIDATES, search.count)
        while len(todo):  # neighbours in space follow each other: the tree stays in the cache
            doubtful = []
            for block in _blocks(todo, candidates):
                distance[block], certain = search.nearest(queries[block], candidates)
                doubtful.append(block[~certain])
            todo = np.concatenate(doubtful)
            candidates = min(candidates * _MORE_CANDIDATES, search.count)
        return distance


class _Search:
    """Nearest triangles by the distance of their centres."""

    def __init__(self, corners: FloatArray) -> None:
        from scipy.spatial import cKDTree

        centres = corners.mean(axis=1)
        self.count = len(corners)
        self.radius = np.linalg.norm(corners - centres[:, None], axis=-1).max(axis=1)
        self.largest = float(self.radius.max())
        self._tree = cKDTree(centres)
        self._corners = np.ascontiguousarray(corners.transpose(1, 2, 0))

    def nearest(self, points: FloatArray, candidates: int) -> tuple[FloatArray, BoolArray]:
        """Least distance to the triangles with the nearest centres, and where no other is nearer.

        Both of shape (N,).
        """
        gap, index = self._tree.query(points, k=candidates, workers=-1)
        gap, index = (x.reshape(len(points), candidates) for x in (gap, index))
        found = _point_triangle(points.T, self._corners[:, :, index[:, 0]])
        # No point of a triangle is nearer than its centre less its radius.
        row, column = np.nonzero(gap - self.radius[index] < found[:, None])
        other = _point_triangle(points[row].T, self._corners[:, :, index[row, column]])
        np.minimum.at(found, row, other)
        slack = np.where(found > _FAR * self.largest, _FAR_TOLERANCE * found, 0)
        certain = gap[:, -1] - self.largest >= found - slack
        return found, certain | (candidates == self.count)


def grid_triangles(x: FloatArray, y: FloatArray, z: FloatArray) -> Triangles:
    """Two triangles per cell of a height grid, facing up (to smaller Z).

    Args:
        x: World X of the nodes, shape (rows, columns), metres.
        y: World Y of the nodes, same shape.
        z: World Z of the nodes, same shape; cells that touch a NaN are left out.

    Returns:
        The surface.

    Raises:
        DataError: No cell has four known corners.
    """
    index = np.arange(z.size).reshape(z.shape)
    a, b, c, d = (
        part.reshape(-1)
        for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:])
    )
    faces = np.concatenate([np.stack([a, c, b], axis=-1), np.stack([b, c, d], axis=-1)])
    known = np.isfinite(z).reshape(-1)
    whole = known[a] & known[b] & known[c] & known[d]
    faces = faces[np.concatenate([whole, whole])]
    if not len(faces):
        raise DataError("the height grid has no cell with four known corners")
    vertices = np.stack([x, y, np.nan_to_num(z)], axis=-1).reshape(-1, 3)
    return Triangles(torch.from_numpy(vertices), torch.from_numpy(faces))


def _areas(corners: FloatArray) -> FloatArray:
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.asarray(np.linalg.norm(cross, axis=-1) / 2)


def _blocks(indices: IndexArray, candidates: int) -> list[IndexArray]:
    size = max(1, _PAIRS // candidates)
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _divide(corners: FloatArray) -> FloatArray:
    """The same surface with large triangles halved at their longest edge until none is large."""
    size = _longest_edge(corners)[1]
    largest = max(
        _LARGE * float(np.median(size)), float(np.sqrt(np.square(size).sum() / _MAX_PIECES))
    )
    done = []
    while len(corners):
        edge, size = _longest_edge(corners)
        large = size > largest
        done.append(corners[~large])
        corners, edge = corners[large], edge[large]
        row = np.arange(len(corners))
        a, b, c = (corners[row, (edge + i) % 3] for i in range(3))
        middle = (a + b) / 2
        corners = np.concatenate(
            [np.stack([a, middle, c], axis=1), np.stack([middle, b, c], axis=1)]
        )
    return np.concatenate(done)


def _longest_edge(corners: FloatArray) -> tuple[IndexArray, FloatArray]:
    """First corner of each triangle's longest edge, and its length, shape (F,) each."""
    lengths = np.linalg.norm(np.roll(corners, -1, axis=1) - corners, axis=-1)
    return lengths.argmax(axis=1), lengths.max(axis=1)


def _point_triangle(points: FloatArray, corners: FloatArray) -> FloatArray:
    """Distance of points, shape (3, ...), to triangles, shape (3 corners, 3, ...).

    Over the triangle's inside it is the distance to the plane, elsewhere to the nearest edge.
    Components lead, because NumPy is several times faster on whole arrays than on triples.
    """
    a, b, c = corners
    normal = _cross(b - a, c - a)
    square = _dot(normal, normal)
    inside = square > 0
    nearest: FloatArray = np.full(square.shape, np.inf)
    for start, end in ((a, b), (b, c), (c, a)):
        edge, offset = end - start, points - start
        inside &= _dot(_cross(edge, offset), normal) >= 0
        length = _dot(edge, edge)
        along = np.clip(_dot(offset, edge) / np.where(length > 0, length, 1), 0, 1)
        gap = offset - along * edge
        np.minimum(nearest, _dot(gap, gap), out=nearest)
    height = _dot(points - a, normal) ** 2 / np.where(square > 0, square, 1)
    return np.asarray(np.sqrt(np.where(inside, height, nearest)))


def _dot(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.asarray(a[0] * b[0] + a[1] * b[1] + a[2] * b[2])


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.stack(
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    )
