"""What stands on a bed: bowers, stones, boxes, and the fish above it."""

import math

import numpy as np

from .fish import Fish
from .heightfield import Array, SplineSurface
from .noise import random_stream
from .placement import Placement
from .relief import Bower, relief_limit
from .solids import Box, Ellipsoid, Part

_PEBBLES_PER_M2 = 55.0
_PEBBLE_HALF = (0.005, 0.014)
"""Half lengths of pebbles, metres."""
_ROCKS_PER_M2 = 5.0
_ROCK_HALF = (0.016, 0.042)
"""Half lengths of rocks, metres."""
_STONE_TINTS = ((1.0, 0.95, 0.86), (0.75, 0.72, 0.69), (1.35, 1.28, 1.15), (1.0, 0.76, 0.58))
_TRIES = 2000
"""Random places that are tried before a crowded bed is left with fewer things."""


def place_bowers(rng: np.random.Generator, place: Placement) -> tuple[Bower, ...]:
    """A castle and a pit near the centre, and more where there is room, without overlap."""
    x0, x1, y0, y1 = place.seen
    width, height = x1 - x0, y1 - y0
    wanted = max(2, round(width * height / 1.3))
    bowers: list[Bower] = []
    for _ in range(_TRIES):
        if len(bowers) == wanted:
            break
        is_castle = len(bowers) % 2 == 0
        radius = _size_factor(place) * rng.uniform(0.16, 0.21)
        relief = min(rng.uniform(0.035, 0.06), relief_limit(radius, is_castle=is_castle))
        reach = 0.22 if len(bowers) < 2 else 0.42
        x = place.x + rng.uniform(-reach, reach) * width
        y = place.y + rng.uniform(-reach, reach) * height
        if all(math.hypot(x - b.x, y - b.y) > 1.15 * (radius + b.radius) for b in bowers):
            bowers.append(Bower(x, y, radius, relief, is_castle))
    return tuple(bowers)


def place_stones(
    rng: np.random.Generator, bed: SplineSurface, place: Placement
) -> tuple[Ellipsoid, ...]:
    """Pebbles in loose clusters, and rocks of two or three fused lobes, partly sunk in."""
    x0, x1, y0, y1 = place.tank
    area = (x1 - x0) * (y1 - y0)
    stones: list[Ellipsoid] = []
    heaps = rng.uniform((x0, y0), (x1, y1), (max(3, round(2.5 * area)), 2))
    for _ in range(round(_PEBBLES_PER_M2 * area)):
        spot = rng.uniform((x0, y0), (x1, y1))
        if rng.random() < 0.6:
            spot = heaps[rng.integers(len(heaps))] + 0.07 * rng.standard_normal(2)
        inside = x0 < spot[0] < x1 and y0 < spot[1] < y1
        half = rng.uniform(*_PEBBLE_HALF)
        stone = _stone(rng, bed, spot, half, _tint(rng))
        if inside:
            stones.append(stone)
    for _ in range(max(2, round(_ROCKS_PER_M2 * area))):
        spot, half, tint = rng.uniform((x0, y0), (x1, y1)), rng.uniform(*_ROCK_HALF), _tint(rng)
        stones.append(_stone(rng, bed, spot, half, tint))
        for _ in range(rng.integers(1, 3)):
            turn = rng.uniform(0, 2 * math.pi)
            shift = 0.55 * half * np.array([math.cos(turn), math.sin(turn)])
            stones.append(_stone(rng, bed, spot + shift, half * rng.uniform(0.55, 0.8), tint))
    return tuple(stones)


def place_boxes(rng: np.random.Generator, bed: SplineSurface, place: Placement) -> tuple[Box, ...]:
    """Boxes with vertical walls on the bed, sunk in a little, at any heading, without overlap."""
    x0, x1, y0, y1 = place.seen
    width, height = x1 - x0, y1 - y0
    wanted = max(4, round(5 * width * height))
    boxes: list[Box] = []
    for _ in range(_TRIES):
        if len(boxes) == wanted:
            break
        axes = _size_factor(place) * rng.uniform([0.05, 0.04, 0.025], [0.12, 0.09, 0.08])
        x = place.x + rng.uniform(-0.45, 0.45) * width
        y = place.y + rng.uniform(-0.45, 0.45) * height
        heading, tone = rng.uniform(0, math.pi), rng.uniform(0.8, 1.4)
        offset = (rng.uniform(0, 1), rng.uniform(0, 1))
        reach = math.hypot(axes[0], axes[1])
        apart = all(
            math.hypot(x - b.centre[0], y - b.centre[1])
            > 1.1 * (reach + math.hypot(b.axes[0], b.axes[1]))
            for b in boxes
        )
        if apart:
            centre = np.array([x, y, _ground(bed, x, y) - 0.8 * axes[2]])
            tint = (tone, 0.97 * tone, 0.92 * tone)
            boxes.append(Box(centre, axes, _rotation(heading, 0.0), Part.BOX, tint, offset))
    return tuple(boxes)


def place_fish(seed: int, count: int, bed: SplineSurface, place: Placement) -> tuple[Fish, ...]:
    """Fish a few centimetres above the bed's highest point; each has its own random stream."""
    x0, x1, y0, y1 = place.seen
    top = bed.z_range[0]
    fish = []
    for index in range(count):
        rng = random_stream(seed, "fish", index)
        length = rng.uniform(0.07, 0.11)
        axes = (rng.uniform(0.12, 0.28) * (x1 - x0), rng.uniform(0.12, 0.28) * (y1 - y0))
        # In shallow water they keep to the middle between bed and surface.
        clearance = min(rng.uniform(0.06, 0.10), 0.5 * (top - place.surface_z))
        centre = np.array(
            [
                place.x + rng.uniform(-0.1, 0.1) * (x1 - x0),
                place.y + rng.uniform(-0.1, 0.1) * (y1 - y0),
                top - clearance,
            ]
        )
        step = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.015, 0.03) / max(axes))
        tint = (rng.uniform(0.25, 0.5), rng.uniform(0.35, 0.5), rng.uniform(0.4, 0.6))
        fish.append(Fish(centre, axes, rng.uniform(0, 2 * math.pi), step, length, tint))
    return tuple(fish)


def _size_factor(place: Placement) -> float:
    """Smaller things where the rig sees little."""
    x0, x1, y0, y1 = place.seen
    return float(np.clip(min(x1 - x0, y1 - y0) / 1.2, 0.5, 1.0))


def _tint(rng: np.random.Generator) -> tuple[float, float, float]:
    red, green, blue = _STONE_TINTS[rng.integers(len(_STONE_TINTS))]
    tone = rng.uniform(0.75, 1.3)
    return tone * red, tone * green, tone * blue


def _stone(
    rng: np.random.Generator,
    bed: SplineSurface,
    spot: Array,
    half: float,
    tint: tuple[float, float, float],
) -> Ellipsoid:
    axes = half * np.array([1.0, rng.uniform(0.55, 0.95), rng.uniform(0.4, 0.75)])
    ground = _ground(bed, spot[0], spot[1])
    centre = np.array([spot[0], spot[1], ground - rng.uniform(0.1, 0.6) * axes[2]])
    rotation = _rotation(rng.uniform(0, 2 * math.pi), rng.uniform(-0.25, 0.25))
    offset = (rng.uniform(0, 1), rng.uniform(0, 1))
    return Ellipsoid(centre, axes, rotation, Part.ROCK, tint, offset)


def _ground(bed: SplineSurface, x: float, y: float) -> float:
    return float(bed.evaluate(np.array([x]), np.array([y]))[0][0])


def _rotation(heading: float, tilt: float) -> Array:
    ch, sh, ct, st = math.cos(heading), math.sin(heading), math.cos(tilt), math.sin(tilt)
    turn = np.array([[ch, -sh, 0.0], [sh, ch, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(turn @ np.array([[ct, 0.0, -st], [0.0, 1.0, 0.0], [st, 0.0, ct]]))
