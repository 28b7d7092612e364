"""A scene: what rays hit, exactly, and what it looks like there."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, ShapeError
from .fish import Fish
from .heightfield import SplineSurface
from .lighting import Lighting
from .materials import TextureKind
from .placement import Placement
from .solids import Array, Box, Part, SolidSet, TankWalls
from .textures import Texture

_BLOCK = 1 << 14
"""Rays per block: a dozen float64 temporaries of this length stay in a core's cache."""


class SceneKind(StrEnum):
    """What stands in the tank.

    Example:
        >>> from aquamvs.datasets import SceneKind
        >>> [kind.value for kind in SceneKind]
        ['bower', 'low_texture', 'boxes', 'board', 'plane']
    """

    BOWER = "bower"
    LOW_TEXTURE = "low_texture"
    BOXES = "boxes"
    BOARD = "board"
    PLANE = "plane"


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneOptions:
    """What the seed does not decide.

    Attributes:
        texture: Material of the bed; chosen by the seed when absent.
        depth: Mean depth below the water surface under the rig's centre of the bed (of the board's
            centre in a ``board`` scene), metres; chosen by the seed when absent.
        slope: dz/dx and dz/dy of the bed.
        tilt_deg: Tilt of the board from level.
        azimuth_deg: Heading of the board's x axis, from X towards Y; a positive tilt lowers that
            side.
        offset: Shift of the board's centre in X and Y from the rig's centre, metres.
        contrast: Factor on the deviations of the bed's albedo from its mean.
        n_fish: Fish that swim over the bed.
        bower_relief: Factor on the depth of pits and the height of castles in a ``bower`` scene;
            a smaller one is an earlier day of the same dig.

    Example:
        >>> from aquamvs.datasets import SceneOptions, TextureKind, make_scene
        >>> options = SceneOptions(texture=TextureKind.GRAVEL, depth=0.3, slope=(0.1, 0.0))
        >>> make_scene("plane", seed=0, rig=rig, options=options).options.depth
        0.3
    """

    texture: TextureKind | None = None
    depth: float | None = None
    slope: tuple[float, float] = (0.0, 0.0)
    tilt_deg: float = 0.0
    azimuth_deg: float = 0.0
    offset: tuple[float, float] = (0.0, 0.0)
    contrast: float = 1.0
    n_fish: int = 0
    bower_relief: float = 1.0

    def __post_init__(self) -> None:
        if self.depth is not None and not 0 < self.depth < 100:
            raise DataError(f"scene option depth is {self.depth}; expected metres, above 0")
        if not all(abs(slope) <= 1 for slope in self.slope) or len(self.slope) != 2:
            raise DataError(f"scene option slope is {self.slope}; expected two numbers in [-1, 1]")
        if not -80 <= self.tilt_deg <= 80:
            raise DataError(f"scene option tilt_deg is {self.tilt_deg}; expected -80 to 80")
        if len(self.offset) != 2 or not all(abs(shift) <= 10 for shift in self.offset):
            raise DataError(f"scene option offset is {self.offset}; expected X and Y in metres")
        if not 0 < self.contrast <= 2:
            raise DataError(f"scene option contrast is {self.contrast}; expected 0 to 2")
        if not 0 <= self.n_fish <= 100:
            raise DataError(f"scene option n_fish is {self.n_fish}; expected 0 to 100")
        if not 0 <= self.bower_relief <= 1:
            raise DataError(f"scene option bower_relief is {self.bower_relief}; expected 0 to 1")


@dataclass(frozen=True, slots=True)
class Materials:
    """Albedo textures of a scene.

    Attributes:
        bed: Of the bed.
        stone: Of rocks, pebbles, boxes and walls.
        board: Of the calibration board's front, where there is one.
    """

    bed: Texture
    stone: Texture
    board: Texture | None = None


@dataclass(frozen=True, slots=True)
class Hits:
    """Where rays meet a scene.

    Attributes:
        points: World frame, shape (..., 3), float64, metres; NaN where a ray hits nothing.
        normals: Outward unit normals, same shape.
        part: What is hit, shape (...,), int64: values of :class:`~.solids.Part`.

    Example:
        >>> import torch
        >>> down = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
        >>> distance, hits = scene.intersect(torch.zeros_like(down), down)
        >>> bool(distance > rig.water_z), tuple(hits.normals.shape)
        (True, (1, 3))
    """

    points: Tensor
    normals: Tensor
    part: Tensor


@dataclass(frozen=True, slots=True)
class Trace:
    """First hits of a block of rays (structure-of-arrays form of :class:`Hits`).

    Attributes:
        distance: shape (N,), metres; infinite where a ray hits nothing.
        part: Values of :class:`~.solids.Part`, shape (N,), int8.
        solid: Index of the solid that is hit, shape (N,), int32; -1 elsewhere.
    """

    distance: Array
    part: NDArray[np.int8]
    solid: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Scene:
    """A bed in a tank with solids on it; the truth and the images come from the same surfaces.

    Attributes:
        kind: What stands in the tank.
        seed: Of everything random.
        options: What the seed does not decide, as resolved (texture and depth are set).
        place: Where the scene lies under its rig.
        bed: Height field.
        walls: Tank.
        solids: Solids that do not move.
        fish: Solids that do.
        materials: Albedo textures.
        lighting: Light and the visibility of the sky.
        board: The calibration board, where there is one (see :mod:`~.board`).

    Example:
        >>> scene.kind.value, scene.options.n_fish, scene.board is None
        ('bower', 0, True)
    """

    kind: SceneKind
    seed: int
    options: SceneOptions
    place: Placement
    bed: SplineSurface
    walls: TankWalls
    solids: SolidSet
    fish: tuple[Fish, ...]
    materials: Materials
    lighting: Lighting
    board: Box | None = field(default=None)

    def at_frame(self, frame: int) -> "Scene":
        """The scene of one instant: the fish stand still among the solids."""
        bodies = tuple(body for fish in self.fish for body in fish.bodies(frame))
        solids = SolidSet.of(self.solids.solids + bodies) if bodies else self.solids
        return replace(self, solids=solids, fish=())

    def intersect(
        self, origins: Tensor, directions: Tensor, *, frame: int = 0
    ) -> tuple[Tensor, Hits]:
        """First points of the scene along rays.

        Args:
            origins: World frame, shape (..., 3), metres.
            directions: Unit vectors, same shape; NaN rays hit nothing.
            frame: Instant, which moves the fish.

        Returns:
            Distances along the rays, shape (...,), float64, metres, NaN where a ray hits nothing,
            and what they hit.

        Raises:
            ShapeError: The shapes differ or do not end in 3.
        """
        if origins.shape[-1:] != (3,) or origins.shape != directions.shape:
            raise ShapeError("directions", tuple(directions.shape), f"{tuple(origins.shape)}")
        batch = origins.shape[:-1]
        o, d = (
            np.ascontiguousarray(t.detach().cpu().double().reshape(-1, 3).numpy().T)
            for t in (origins, directions)
        )
        still = self.at_frame(frame)
        distance = np.full(o.shape[1], np.nan)
        points, normals = np.full_like(o, np.nan), np.full_like(o, np.nan)
        part = np.full(o.shape[1], int(Part.NONE), dtype=np.int64)
        for start in range(0, o.shape[1], _BLOCK):
            block = slice(start, start + _BLOCK)
            ob, db = (np.ascontiguousarray(a[:, block]) for a in (o, d))
            trace = still.trace(ob, db)
            hit = np.isfinite(trace.distance)
            s = np.where(hit, trace.distance, np.nan)
            distance[block], part[block] = s, trace.part
            points[:, block] = ob + s * db
            normals[:, block] = still.normals(points[:, block], trace)
        return torch.from_numpy(distance).reshape(batch), Hits(
            torch.from_numpy(np.ascontiguousarray(points.T)).reshape(*batch, 3),
            torch.from_numpy(np.ascontiguousarray(normals.T)).reshape(*batch, 3),
            torch.from_numpy(part).reshape(batch),
        )

    def height(self, x: Tensor, y: Tensor) -> Tensor:
        """World Z of the topmost static surface.

        Args:
            x: World X, any shape, metres.
            y: World Y, same shape, metres.

        Returns:
            Z, same shape, float64, metres; NaN outside of the tank.

        Raises:
            ShapeError: x and y differ in shape.
        """
        if x.shape != y.shape:
            raise ShapeError("y", tuple(y.shape), f"{tuple(x.shape)}, the shape of x")
        start = self.top - 1.0
        places = [t.detach().cpu().double().reshape(-1).numpy() for t in (x, y)]
        z = np.full(x.numel(), np.nan)
        for first in range(0, len(z), _BLOCK):
            block = slice(first, first + _BLOCK)
            origins = np.full((3, len(z[block])), start)
            origins[:2] = places[0][block], places[1][block]
            down = np.zeros_like(origins)
            down[2] = 1.0
            trace = self.trace(origins, down)
            z[block] = np.where(trace.part == Part.NONE, np.nan, start + trace.distance)
        return torch.from_numpy(z).reshape(x.shape)

    @property
    def top(self) -> float:
        """A Z above everything that does not move, metres."""
        highest = (self.solids.centres[:, 2] - self.solids.radii).min(initial=np.inf)
        return min(self.bed.z_range[0], float(highest))

    def trace(self, origins: Array, directions: Array) -> Trace:
        """First hits of rays, each treated alone; fish are not seen (see :meth:`at_frame`).

        Args:
            origins: shape (3, N), metres.
            directions: Unit vectors, shape (3, N); NaN rays hit nothing.

        Returns:
            Hits, N of them.
        """
        count = origins.shape[1]
        distance = np.full(count, np.inf)
        part = np.full(count, int(Part.NONE), dtype=np.int8)
        solid = np.full(count, -1, dtype=np.int32)
        limit = self.walls.exit(origins, directions)
        finite = np.isfinite(origins).all(axis=0) & np.isfinite(directions).all(axis=0)
        known = np.flatnonzero(finite & (limit > 0))
        if len(known) < count:
            if len(known):
                inner = self.trace(
                    np.ascontiguousarray(origins[:, known]),
                    np.ascontiguousarray(directions[:, known]),
                )
                distance[known], part[known], solid[known] = inner.distance, inner.part, inner.solid
            return Trace(distance, part, solid)
        bed = self.bed.intersect(origins, directions, limit)
        on_solid, solid = self.solids.nearest(origins, directions)
        # Downward rays that miss the bed meet a wall; others leave through the open top.
        wall = np.where((bed == np.inf) & (directions[2] >= 0), limit, np.inf)
        distance = np.minimum(bed, wall)
        part = np.where(np.isinf(bed), Part.WALL, Part.BED).astype(np.int8)
        part[np.isinf(distance)] = Part.NONE
        front = on_solid < distance
        distance = np.where(front, on_solid, distance)
        solid = np.where(front, solid, -1)
        if front.any():
            codes = np.array([int(s.part) for s in self.solids.solids], dtype=np.int8)
            part[front] = codes[solid[front]]
        return Trace(distance, part, solid)

    def normals(self, points: Array, trace: Trace) -> Array:
        """Outward unit normals at hit points, shape (3, N); NaN where nothing is hit."""
        result = np.full_like(points, np.nan)
        bed = np.flatnonzero(trace.part == Part.BED)
        if len(bed):
            _, z_x, z_y = self.bed.evaluate(points[0, bed], points[1, bed])
            length = np.sqrt(1 + z_x * z_x + z_y * z_y)
            result[:, bed] = np.stack([z_x, z_y, -np.ones_like(z_x)]) / length
        wall = np.flatnonzero(trace.part == Part.WALL)
        if len(wall):
            result[:, wall] = self.walls.normals(points[:, wall])
        for k in np.unique(trace.solid[trace.solid >= 0]):
            index = np.flatnonzero(trace.solid == k)
            result[:, index] = self.solids.solids[k].normals(points[:, index])
        return result

    def provenance(self) -> dict[str, Any]:
        """What makes this scene again: kind, seed and options, ready for JSON."""
        options = {name: getattr(self.options, name) for name in SceneOptions.__dataclass_fields__}
        return {
            "scene": str(self.kind),
            "seed": self.seed,
            "texture": str(self.options.texture),
            "options": {
                key: str(value) if isinstance(value, StrEnum) else value
                for key, value in options.items()
            },
        }
