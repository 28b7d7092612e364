"""Solids with closed-form ray intersections: rocks, fish, boxes, the calibration board, the tank.

Arrays are structure-of-arrays, shape (3, N), float64, and every ray is treated alone. The
arithmetic is written out instead of handed to BLAS, whose rounding depends on the block's length.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Part(IntEnum):
    """What a ray hits.

    Example:
        >>> from aquamvs.datasets import Part
        >>> Part(0).name, Part.FISH.value
        ('BED', 5)
    """

    NONE = -1
    BED = 0
    WALL = 1
    ROCK = 2
    BOX = 3
    BOARD = 4
    FISH = 5


class Solid(Protocol):
    """A body that rays can hit."""

    @property
    def part(self) -> Part:
        """What it is."""

    @property
    def centre(self) -> Array:
        """Centre of a sphere that holds the body, shape (3,), metres."""

    @property
    def radius(self) -> float:
        """Radius of that sphere, metres."""

    @property
    def tint(self) -> tuple[float, float, float]:
        """Linear RGB that multiplies its texture."""

    def intersect(self, origins: Array, directions: Array) -> Array:
        """Distances to the first hit, shape (N,), metres; infinite where there is none."""

    def normals(self, points: Array) -> Array:
        """Outward unit normals at points of its surface, shape (3, N)."""

    def chart(self, points: Array, normals: Array) -> tuple[Array, Array]:
        """Texture coordinates of surface points, each of shape (N,), metres."""


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """Ellipsoid of any orientation: pebbles, rocks, and the bodies and fins of fish.

    Attributes:
        centre: shape (3,), metres.
        axes: Half lengths, shape (3,), metres.
        world_from_body: Rotation, shape (3, 3).
        part: What it stands for.
        tint: Linear RGB that multiplies its texture.
        offset: Shift of its texture, metres, so that no two look alike.
    """

    centre: Array
    axes: Array
    world_from_body: Array
    part: Part
    tint: tuple[float, float, float]
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def radius(self) -> float:
        """Largest half length."""
        return float(self.axes.max())

    def intersect(self, origins: Array, directions: Array) -> Array:
        """As :class:`Solid`; from the inside, the distance to the way out."""
        # In the space where the ellipsoid is the unit sphere: |p + s e|² = 1.
        scale = self.world_from_body / self.axes
        p = _project(scale, origins, self.centre)
        e = _project(scale, directions)
        a = e[0] * e[0] + e[1] * e[1] + e[2] * e[2]
        b = p[0] * e[0] + p[1] * e[1] + p[2] * e[2]
        # Distance of the line from the centre by its foot point: no difference of large squares.
        foot = b / a
        q = [pi - foot * ei for pi, ei in zip(p, e, strict=True)]
        inside = 1 - (q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
        half = np.sqrt(np.maximum(inside, 0.0) / a)
        near, far = -foot - half, -foot + half
        s = np.where(near > 0, near, far)
        return np.where((inside > 0) & (s > 0), s, np.inf)

    def normals(self, points: Array) -> Array:
        """As :class:`Solid`."""
        local = _project(self.world_from_body / self.axes**2, points, self.centre)
        return _unit(_combine(self.world_from_body, local))

    def chart(self, points: Array, normals: Array) -> tuple[Array, Array]:
        """Box mapping: the two body axes that the surface faces least."""
        local = _project(self.world_from_body, points, self.centre)
        facing = np.abs(np.stack(_project(self.world_from_body, normals)))
        u, v = _box_chart(local, facing.argmax(axis=0))
        return u + self.offset[0], v + self.offset[1]

    def body_coordinates(self, points: Array) -> list[Array]:
        """Points along the body's axes from its centre, three arrays of shape (N,), metres."""
        return _project(self.world_from_body, points, self.centre)


@dataclass(frozen=True, slots=True)
class Box:
    """Rectangular box of any orientation.

    Attributes:
        centre: shape (3,), metres.
        axes: Half lengths, shape (3,), metres.
        world_from_body: Rotation, shape (3, 3).
        part: What it stands for.
        tint: Linear RGB that multiplies its texture.
        offset: Shift of its texture, metres.
    """

    centre: Array
    axes: Array
    world_from_body: Array
    part: Part
    tint: tuple[float, float, float]
    offset: tuple[float, float] = (0.0, 0.0)

    @property
    def radius(self) -> float:
        """Half diagonal."""
        return float(np.linalg.norm(self.axes))

    def intersect(self, origins: Array, directions: Array) -> Array:
        """As :class:`Solid`; from the inside, the distance to the way out."""
        p = _project(self.world_from_body, origins, self.centre)
        e = _project(self.world_from_body, directions)
        near = np.full(origins.shape[1], -np.inf)
        far = np.full(origins.shape[1], np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            for pi, ei, half in zip(p, e, self.axes, strict=True):
                one, other = (-half - pi) / ei, (half - pi) / ei
                # A ray along the slab is within it everywhere or nowhere.
                everywhere = np.where(np.abs(pi) <= half, np.inf, -np.inf)
                along = ei == 0
                near = np.maximum(near, np.where(along, -everywhere, np.minimum(one, other)))
                far = np.minimum(far, np.where(along, everywhere, np.maximum(one, other)))
        s = np.where(near > 0, near, far)
        return np.where((near <= far) & (s > 0), s, np.inf)

    def normals(self, points: Array) -> Array:
        """As :class:`Solid`."""
        face, local = self._face(points)
        sign = np.sign(np.take_along_axis(local, face[None], axis=0)[0])
        return np.ascontiguousarray((self.world_from_body[:, face]) * sign)

    def chart(self, points: Array, normals: Array) -> tuple[Array, Array]:  # noqa: ARG002
        """The two body axes along the face, so that walls show their texture unstretched."""
        face, local = self._face(points)
        u, v = _box_chart(list(local), face)
        # Faces show different parts of the texture.
        shift = 0.173 * face
        return u + self.offset[0] + shift, v + self.offset[1] + shift

    def body_coordinates(self, points: Array) -> list[Array]:
        """Points along the body's axes from its centre, three arrays of shape (N,), metres."""
        return _project(self.world_from_body, points, self.centre)

    def _face(self, points: Array) -> tuple[NDArray[np.intp], Array]:
        local = np.stack(_project(self.world_from_body, points, self.centre))
        return (np.abs(local) - self.axes[:, None]).argmax(axis=0), local


@dataclass(frozen=True, slots=True)
class TankWalls:
    """The four vertical walls of a rectangular tank, seen from the inside.

    Attributes:
        x0: Smallest X, metres.
        x1: Largest X, metres.
        y0: Smallest Y, metres.
        y1: Largest Y, metres.
    """

    x0: float
    x1: float
    y0: float
    y1: float

    def contains(self, x: Array, y: Array) -> NDArray[np.bool_]:
        """Whether points lie inside of the walls."""
        return (x >= self.x0) & (x <= self.x1) & (y >= self.y0) & (y <= self.y1)

    def exit(self, origins: Array, directions: Array) -> Array:
        """Distance at which rays leave the tank, shape (N,); negative for rays outside of it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            to_x = np.where(directions[0] > 0, self.x1 - origins[0], self.x0 - origins[0])
            to_y = np.where(directions[1] > 0, self.y1 - origins[1], self.y0 - origins[1])
            s = np.minimum(
                np.where(directions[0] != 0, to_x / directions[0], np.inf),
                np.where(directions[1] != 0, to_y / directions[1], np.inf),
            )
        return np.where(self.contains(origins[0], origins[1]), s, -1.0)

    def normals(self, points: Array) -> Array:
        """Unit normals into the tank at points on the walls, shape (3, N)."""
        gaps = np.stack(
            [points[0] - self.x0, self.x1 - points[0], points[1] - self.y0, self.y1 - points[1]]
        )
        inward = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
        return np.ascontiguousarray(inward[np.abs(gaps).argmin(axis=0)].T)


@dataclass(frozen=True, slots=True)
class SolidSet:
    """Solids with the bounds that keep a block of rays from asking every one of them."""

    solids: tuple[Solid, ...]
    centres: Array
    radii: Array

    @classmethod
    def of(cls, solids: tuple[Solid, ...]) -> "SolidSet":
        """Index solids."""
        centres = np.array([solid.centre for solid in solids]).reshape(-1, 3)
        return cls(solids, centres, np.array([solid.radius for solid in solids]))

    def nearest(self, origins: Array, directions: Array) -> tuple[Array, NDArray[np.int32]]:
        """First hit of each ray.

        Returns:
            Distances, shape (N,), infinite where there is none, and the solid's index, shape (N,),
            -1 where there is none.
        """
        distance = np.full(origins.shape[1], np.inf)
        index = np.full(origins.shape[1], -1, dtype=np.int32)
        for k in self._candidates(origins, directions):
            s = self.solids[k].intersect(origins, directions)
            closer = np.flatnonzero(s < distance)
            distance[closer] = s[closer]
            index[closer] = k
        return distance, index

    def _candidates(self, origins: Array, directions: Array) -> NDArray[np.intp]:
        """Solids near the part of space that downward rays sweep; all, if a ray is not downward."""
        if not len(self.solids) or not origins.shape[1]:
            return np.zeros(0, dtype=np.intp)
        if not (directions[2] > 0).all():
            return np.arange(len(self.solids))
        levels = (self.centres[:, 2] - self.radii).min(), (self.centres[:, 2] + self.radii).max()
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for z in levels:
            s = (z - origins[2]) / directions[2]
            for axis in range(2):
                along = origins[axis] + s * directions[axis]
                low[axis] = min(low[axis], along.min())
                high[axis] = max(high[axis], along.max())
        reach = self.radii[:, None]
        near = (self.centres[:, :2] + reach >= low) & (self.centres[:, :2] - reach <= high)
        return np.flatnonzero(near.all(axis=1))


def _project(axes: Array, vectors: Array, centre: Array | None = None) -> list[Array]:
    """Components of ``vectors - centre`` along the columns of ``axes``."""
    if centre is not None:
        x, y, z = (vectors[i] - centre[i] for i in range(3))
    else:
        x, y, z = vectors
    return [axes[0, k] * x + axes[1, k] * y + axes[2, k] * z for k in range(3)]


def _combine(axes: Array, components: list[Array]) -> Array:
    """Vectors with the given components along the columns of ``axes``, shape (3, N)."""
    return np.stack(
        [
            sum((axes[i, k] * components[k] for k in range(1, 3)), axes[i, 0] * components[0])
            for i in range(3)
        ]
    )


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.sqrt((vectors * vectors).sum(axis=0)))


def _box_chart(local: list[Array], face: NDArray[np.intp]) -> tuple[Array, Array]:
    return np.where(face == 0, local[1], local[0]), np.where(face == 2, local[1], local[2])
