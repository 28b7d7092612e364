"""Light that surfaces send towards the cameras: albedo times shading."""

import numpy as np

from .noise import Floats
from .scene import Scene, Trace
from .solids import Array, Box, Ellipsoid, Part

_WALL_ALBEDO = np.array([0.16, 0.20, 0.22], dtype=np.float32)
"""Painted tank walls, linear RGB."""
_CONTACT = 0.55
"""Share of the sky that the ground hides from the foot of a solid."""


def surface_radiance(scene: Scene, points: Array, trace: Trace, spacing: float) -> Floats:
    """Linear RGB of hit points before the water dims it, 1 for a white level surface.

    Args:
        scene: Scene of one instant (see :meth:`~.scene.Scene.at_frame`).
        points: Hit points, shape (3, N), metres.
        trace: What was hit.
        spacing: Distance of neighbouring samples on the surface, metres; selects the level of the
            textures.

    Returns:
        shape (N, 3), float32; zero where nothing is hit.
    """
    radiance = np.zeros((points.shape[1], 3), dtype=np.float32)
    normals = scene.normals(points, trace)
    bed = np.flatnonzero(trace.part == Part.BED)
    if len(bed):
        x, y = points[0, bed], points[1, bed]
        texture = scene.materials.bed
        albedo = texture.sample(x, y, texture.level_for(spacing))
        shade = scene.lighting.shade(normals[:, bed], *scene.lighting.on_bed(x, y))
        radiance[bed] = albedo * shade[:, None]
    wall = np.flatnonzero(trace.part == Part.WALL)
    if len(wall):
        shade = scene.lighting.shade(normals[:, wall], *_open(len(wall)))
        radiance[wall] = _WALL_ALBEDO * shade[:, None]
    for k in np.unique(trace.solid[trace.solid >= 0]):
        index = np.flatnonzero(trace.solid == k)
        radiance[index] = _solid_radiance(
            scene, int(k), points[:, index], normals[:, index], spacing
        )
    return radiance


def _open(count: int) -> tuple[Floats, Floats]:
    ones = np.ones(count, dtype=np.float32)
    return ones, ones


def _solid_radiance(scene: Scene, k: int, points: Array, normals: Array, spacing: float) -> Floats:
    solid = scene.solids.solids[k]
    key, sky = _open(points.shape[1])
    if isinstance(solid, Ellipsoid) and solid.part is Part.FISH:
        albedo = _fish_albedo(solid, points)
    elif isinstance(solid, Box) and solid.part is Part.BOARD:
        albedo = _board_albedo(scene, solid, points, spacing)
    else:
        texture = scene.materials.stone
        u, v = solid.chart(points, normals)
        albedo = texture.sample(u, v, texture.level_for(spacing)) * np.array(
            solid.tint, dtype=np.float32
        )
        ground = scene.bed.evaluate(points[0], points[1])[0]
        above = np.maximum(ground - points[2], 0.0) / (0.5 * solid.radius)
        sky = (1 - _CONTACT * np.exp(-above)).astype(np.float32)
    return np.asarray(albedo * scene.lighting.shade(normals, key, sky)[:, None])


def _fish_albedo(fish: Ellipsoid, points: Array) -> Floats:
    """Dark bars across the flanks, a dark back, a pale belly."""
    along, _, up = (
        x / half for x, half in zip(fish.body_coordinates(points), fish.axes, strict=True)
    )
    bars = 1 / (1 + np.exp(-7 * np.cos(3.5 * np.pi * along + 0.6)))
    back = np.clip(0.75 + 0.35 * up, 0.3, 1.2)
    scales = 1 + 0.12 * np.sin(70 * along) * np.sin(40 * up)
    tone = (0.35 + 0.65 * bars) * back * scales
    return np.asarray(tone[:, None] * np.array(fish.tint), dtype=np.float32)


def _board_albedo(scene: Scene, board: Box, points: Array, spacing: float) -> Floats:
    """The printed pattern on the front, bare plastic elsewhere."""
    texture = scene.materials.board
    x, y, z = board.body_coordinates(points)
    albedo = np.full((points.shape[1], 3), 0.5, dtype=np.float32)
    front = np.flatnonzero(z < -0.999 * board.axes[2])
    if texture is not None and len(front):
        middle = 0.5 * texture.size * texture.texel
        u, v = x[front] + middle, y[front] + middle
        albedo[front] = texture.sample(u, v, texture.level_for(spacing))
    return albedo
