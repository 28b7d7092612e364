"""Scenes by name and seed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..calibration import CalibrationData
from ..errors import DataError
from .board import board_texture, drop_of, place_board
from .furnishing import place_bowers, place_boxes, place_fish, place_stones
from .heightfield import Array, SplineSurface
from .lighting import bake_lighting
from .materials import TextureKind
from .noise import random_stream
from .placement import Placement, place_under
from .relief import make_bed
from .rigs import make_rig
from .scene import Materials, Scene, SceneKind, SceneOptions
from .solids import Box, Ellipsoid, Solid, SolidSet, TankWalls
from .textures import make_texture

_DEPTHS = (0.28, 0.45)
"""Range of depths that the seed chooses from, metres."""
_LOW_CONTRAST = 0.2
_BOARD_CLEARANCE = 0.05
"""Water between the board's lowest point and the bed, metres."""
_STONE_EXTENT = 0.3
"""Size of the stones' texture, metres: larger than a stone."""

_Level = Callable[[Array, Array], Array]


def make_scene(
    kind: SceneKind | str,
    *,
    seed: int,
    rig: CalibrationData | str | Path = "ring13",
    options: SceneOptions | None = None,
) -> Scene:
    """A scene under a rig.

    Args:
        kind: ``bower`` (sand with a cichlid's pit and castle, ripples, pebbles and rocks),
            ``low_texture`` (the same with a fifth of the contrast), ``boxes`` (sand and boxes with
            vertical walls), ``board`` (a ChArUco board of 12 x 9 squares of 60 mm over sand) or
            ``plane`` (a textured plane).
        seed: Of everything random; the same seed gives the same scene.
        rig: Rig to place the scene under, or a name or path for :func:`~.rigs.make_rig`.
        options: What the seed shall not decide.

    Returns:
        The scene.

    Raises:
        DataError: Unknown kind, negative seed, or the scene would stand out of the water or out of
            sight.

    Example:
        >>> from aquamvs.datasets import make_scene
        >>> scene = make_scene("bower", seed=0, rig="small5")
        >>> scene.kind.value, scene.options.depth is not None
        ('bower', True)
    """
    try:
        kind = SceneKind(kind)
    except ValueError:
        raise DataError(
            f"there is no scene named {str(kind)!r}; expected one of {', '.join(SceneKind)}"
        ) from None
    if seed < 0:
        raise DataError(f"seed is {seed}; expected a whole number, at least 0")
    calibration = rig if isinstance(rig, CalibrationData) else make_rig(rig)
    options = options or SceneOptions()
    texture, depth = _choose(kind, seed, options)
    options = replace(options, texture=texture, depth=depth)
    hangs_over = drop_of(options.tilt_deg) + _BOARD_CLEARANCE if kind is SceneKind.BOARD else 0.0
    place = place_under(calibration, depth + hangs_over)
    bed, solids, board = _furnish(kind, seed, options, place, depth, depth + hangs_over)
    _require_under_water(bed, solids, calibration)
    x0, x1, y0, y1 = place.tank
    contrast = options.contrast * (_LOW_CONTRAST if kind is SceneKind.LOW_TEXTURE else 1.0)
    solid_set = SolidSet.of(solids)
    return Scene(
        kind=kind,
        seed=seed,
        options=options,
        place=place,
        bed=bed,
        walls=TankWalls(x0, x1, y0, y1),
        solids=solid_set,
        fish=place_fish(seed, options.n_fish, bed, place),
        materials=Materials(
            bed=make_texture(
                texture,
                random_stream(seed, "bed"),
                max(x1 - x0, y1 - y0),
                gsd=place.gsd,
                contrast=contrast,
            ),
            stone=make_texture(
                TextureKind.ROCK,
                random_stream(seed, "stone"),
                _STONE_EXTENT,
                gsd=place.gsd,
                contrast=contrast,
            ),
            board=None if board is None else board_texture(),
        ),
        lighting=bake_lighting(random_stream(seed, "light"), bed, solid_set, place.tank),
        board=board,
    )


def _choose(kind: SceneKind, seed: int, options: SceneOptions) -> tuple[TextureKind, float]:
    """Texture and depth: the options', else the seed's."""
    depth = options.depth
    if depth is None:
        depth = round(float(random_stream(seed, "depth").uniform(*_DEPTHS)), 3)
    if options.texture is not None:
        return TextureKind(options.texture), depth
    kinds = tuple(TextureKind)
    return (TextureKind.SAND if kind is SceneKind.BOARD else kinds[seed % len(kinds)]), depth


def _furnish(
    kind: SceneKind,
    seed: int,
    options: SceneOptions,
    place: Placement,
    depth: float,
    bed_depth: float,
) -> tuple[SplineSurface, tuple[Solid, ...], Box | None]:
    """Bed, solids and board of a scene."""
    rng = random_stream(seed, "relief")
    level = _plane(options.slope, place, bed_depth)
    if kind is SceneKind.PLANE:
        return make_bed(rng, place.tank, level, (), roughness=0.0), (), None
    if kind is SceneKind.BOARD:
        x, y = place.x + options.offset[0], place.y + options.offset[1]
        face_centre = np.array([x, y, place.surface_z + depth])
        board = place_board(face_centre, options.tilt_deg, options.azimuth_deg)
        return make_bed(rng, place.tank, level, (), roughness=0.5), (board,), board
    if kind is SceneKind.BOXES:
        bed = make_bed(rng, place.tank, level, (), roughness=0.6)
        return bed, place_boxes(random_stream(seed, "boxes"), bed, place), None
    bowers = tuple(
        replace(bower, relief=options.bower_relief * bower.relief)
        for bower in place_bowers(random_stream(seed, "bowers"), place)
    )
    bed = make_bed(rng, place.tank, level, bowers)
    return bed, place_stones(random_stream(seed, "stones"), bed, place), None


def _plane(slope: tuple[float, float], place: Placement, bed_depth: float) -> _Level:
    """Mean Z of the bed."""

    def level(x: Array, y: Array) -> Array:
        rise = slope[0] * (x - place.x) + slope[1] * (y - place.y)
        return np.asarray(place.surface_z + bed_depth + rise)

    return level


def _require_under_water(
    bed: SplineSurface, solids: tuple[Solid, ...], rig: CalibrationData
) -> None:
    """Rays start on the water surface, so that nothing may stand out of it."""
    normal = rig.interface_normal.numpy()
    rows, columns = bed.coefficients.shape
    x, y = np.meshgrid(
        bed.x0 + bed.spacing * np.arange(columns), bed.y0 + bed.spacing * np.arange(rows)
    )
    points = np.stack([x, y, bed.coefficients - rig.water_z])
    clearances = [float((-normal[:, None, None] * points).sum(axis=0).min())]
    for solid in solids:
        centre = solid.centre - np.array([0.0, 0.0, rig.water_z])
        clearances.append(float(-normal @ centre) - _reach(solid, normal))
    if min(clearances) <= 0:
        raise DataError(
            f"the scene stands {-min(clearances):.3f} m out of the water; expected everything "
            "under water: choose a larger depth or a smaller slope or tilt"
        )


def _reach(solid: Solid, direction: Array) -> float:
    """Half extent of a solid along a unit direction, metres."""
    if isinstance(solid, Ellipsoid):
        return float(np.linalg.norm((direction @ solid.world_from_body) * solid.axes))
    if isinstance(solid, Box):
        return float(np.abs(direction @ solid.world_from_body) @ solid.axes)
    return solid.radius
