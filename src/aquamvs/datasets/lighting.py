"""Light under water: a soft key light and the sky in Snell's window, with baked shadows.

The sky above flat water shows in a cone of 48.6 degrees (Snell's window), so ambient light comes
from that cone and stones leave soft shadows at their feet. Shadows of static solids on the bed are
computed once per scene on a horizontal grid; they are part of the surface's look and the same for
every camera. Fish throw no shadow.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .heightfield import SplineSurface
from .noise import Floats
from .sampling import sample_points
from .solids import Array, Solid, SolidSet

_SHADOW_SPACING = 2.5e-3
"""Grid of the baked shadows, metres: finer than a soft shadow's edge."""
_KEY_SHARE = 0.68
"""Share of the key light in the light on level ground."""
_KEY_RADIUS = math.radians(5.0)
"""Angular radius of the key light, a softbox."""
_WINDOW = math.radians(48.6)


@dataclass(frozen=True, slots=True)
class Lighting:
    """Light of a scene, normalised to 1 on open level ground.

    Attributes:
        key: Unit direction to the key light, shape (3,), under water.
        x0: X of the shadow grid's first node, metres.
        y0: Y of the shadow grid's first node, metres.
        key_visible: Visible share of the key light on the bed, shape (rows, columns), float32.
        sky_visible: Visible share of the sky on the bed, same shape.
    """

    key: Array
    x0: float
    y0: float
    key_visible: Floats
    sky_visible: Floats

    def shade(self, normals: Array, key_visible: Floats, sky_visible: Floats) -> Floats:
        """Irradiance over that on open level ground (Lambert), shape (N,), float32.

        Args:
            normals: Outward unit normals, shape (3, N).
            key_visible: Visible share of the key light, shape (N,).
            sky_visible: Visible share of the sky, shape (N,).
        """
        facing = sum(self.key[i] * normals[i] for i in range(3))
        key = np.maximum(facing, 0.0) / -self.key[2] * key_visible
        sky = (0.5 - 0.5 * normals[2]) * sky_visible
        return np.asarray(_KEY_SHARE * key + (1 - _KEY_SHARE) * sky, dtype=np.float32)

    def on_bed(self, x: Array, y: Array) -> tuple[Floats, Floats]:
        """Visible shares of key light and sky at points of the bed, each of shape (N,)."""
        column = ((x - self.x0) / _SHADOW_SPACING).astype(np.float32)
        row = ((y - self.y0) / _SHADOW_SPACING).astype(np.float32)
        return (
            sample_points(self.key_visible, column, row, cv2.INTER_LINEAR),
            sample_points(self.sky_visible, column, row, cv2.INTER_LINEAR),
        )


def bake_lighting(
    rng: np.random.Generator,
    bed: SplineSurface,
    solids: SolidSet,
    bounds: tuple[float, float, float, float],
) -> Lighting:
    """Choose a key light and compute the solids' shadows on the bed.

    Args:
        rng: Source of randomness.
        bed: Height field that receives the shadows.
        solids: Solids that throw them.
        bounds: x0, x1, y0, y1 of the bed, metres.

    Returns:
        The lighting.
    """
    x0, x1, y0, y1 = bounds
    zenith, azimuth = rng.uniform(math.radians(30), math.radians(44)), rng.uniform(0, 2 * math.pi)
    key = _direction(zenith, azimuth)
    x = x0 + _SHADOW_SPACING * np.arange(int((x1 - x0) / _SHADOW_SPACING) + 2)
    y = y0 + _SHADOW_SPACING * np.arange(int((y1 - y0) / _SHADOW_SPACING) + 2)
    grid_x, grid_y = np.meshgrid(x, y)
    z = bed.evaluate(grid_x.reshape(-1), grid_y.reshape(-1))[0].reshape(grid_x.shape)
    key_rays = [_offset(key, _KEY_RADIUS, a) for a in np.arange(6) * math.pi / 3] + [key]
    # Equal shares of the cosine-weighted window: rings of equal sin².
    sky_rays = [
        _direction(math.asin(math.sin(_WINDOW) * math.sqrt((ring + 0.5) / 3)), 2.4 * k + ring)
        for ring in range(3)
        for k in range(6)
    ]
    points = np.stack([grid_x, grid_y, z])
    return Lighting(
        key,
        x0,
        y0,
        _visible_share(points, (x0, y0), solids, key_rays),
        _visible_share(points, (x0, y0), solids, sky_rays),
    )


def _visible_share(
    points: Array, origin: tuple[float, float], solids: SolidSet, rays: list[Array]
) -> Floats:
    rows, columns = points.shape[1:]
    lowest = float(points[2].max())
    share = np.zeros((rows, columns), dtype=np.float32)
    for ray in rays:
        blocked = np.zeros((rows, columns), dtype=bool)
        for solid in solids.solids:
            window = _shadow_window(solid, ray, origin, (rows, columns), lowest)
            here = points[:, window[0], window[1]]
            if not here.size:
                continue
            start = here.reshape(3, -1)
            towards = np.broadcast_to(ray[:, None], start.shape)
            hit = np.isfinite(solid.intersect(start, towards))
            blocked[window] |= hit.reshape(here.shape[1:])
        share += ~blocked
    return share / np.float32(len(rays))


def _shadow_window(
    solid: Solid,
    ray: Array,
    origin: tuple[float, float],
    shape: tuple[int, int],
    lowest: float,
) -> tuple[slice, slice]:
    """Rows and columns of the grid that a solid's shadow can reach on ground above ``lowest``."""
    centre, radius = solid.centre, solid.radius
    # The shadow is displaced by the drop to the ground, which lies between these two.
    drops = max(lowest - centre[2] + radius, 0.0), -radius
    reach = radius / -ray[2]
    slices = []
    for axis, count in ((1, shape[0]), (0, shape[1])):
        shifts = [centre[axis] + drop * ray[axis] / ray[2] for drop in drops]
        low = (min(shifts) - reach - origin[axis]) / _SHADOW_SPACING
        high = (max(shifts) + reach - origin[axis]) / _SHADOW_SPACING
        slices.append(slice(max(int(low), 0), min(max(int(high) + 2, 0), count)))
    return slices[0], slices[1]


def _direction(zenith: float, azimuth: float) -> Array:
    """Unit vector upwards (negative z) at an angle from the vertical."""
    return np.array(
        [
            math.sin(zenith) * math.cos(azimuth),
            math.sin(zenith) * math.sin(azimuth),
            -math.cos(zenith),
        ]
    )


def _offset(direction: Array, angle: float, azimuth: float) -> Array:
    """A unit vector at ``angle`` from ``direction``."""
    side = np.cross(direction, [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    other = np.cross(direction, side)
    tilted = direction + math.tan(angle) * (math.cos(azimuth) * side + math.sin(azimuth) * other)
    return np.asarray(tilted / np.linalg.norm(tilted))
