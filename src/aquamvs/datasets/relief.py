"""Relief of a bed of sand: ripples, hollows, and the bowers that male cichlids build.

Lake Malawi cichlids dig pits with a raised rim or heap up castles, cones with a dish on top (York
et al., Proc. R. Soc. B 2015). Sand holds slopes up to its angle of repose, about 34 degrees, and so
does everything here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .heightfield import Array, SplineSurface
from .noise import enlarge, fractal

SPACING = 3e-3
"""Distance of the spline's coefficients, metres: ripples and rims need about a centimetre."""

_REPOSE = math.tan(math.radians(34.0))


@dataclass(frozen=True, slots=True)
class Bower:
    """A pit or a castle.

    Attributes:
        x: Centre, metres.
        y: Centre, metres.
        radius: Of the pit's rim or the castle's foot, metres.
        relief: Depth of the pit or height of the castle, metres.
        is_castle: Castle or pit.
    """

    x: float
    y: float
    radius: float
    relief: float
    is_castle: bool

    def elevation(self, r: Array) -> Array:
        """Height above the bed at a distance from the centre, metres."""
        q = r / self.radius
        if self.is_castle:
            # A cone with a rounded foot and a dish in its top.
            cone = _smooth_step(1.15 - q, 0.85)
            dish = np.exp(-((q / 0.36) ** 2))
            return self.relief * (1.12 * cone - 0.42 * dish)
        pit = -np.exp(-((q / 0.72) ** 4))
        rim = 0.38 * np.exp(-(((q - 1.0) / 0.24) ** 2))
        return self.relief * (pit + rim)


def _smooth_step(x: Array, width: float) -> Array:
    t = np.clip(x / width, 0.0, 1.0)
    return t * t * (3 - 2 * t)


def make_bed(
    rng: np.random.Generator,
    bounds: tuple[float, float, float, float],
    level: Callable[[Array, Array], Array],
    bowers: tuple[Bower, ...],
    *,
    roughness: float = 1.0,
) -> SplineSurface:
    """A bed of sand.

    Args:
        rng: Source of randomness.
        bounds: x0, x1, y0, y1 of the bed, metres.
        level: Mean Z of the bed as a function of X and Y, metres.
        bowers: Pits and castles.
        roughness: Factor on ripples, hollows and grain of the relief; 0 leaves the mean level,
            which a spline represents exactly where it is a plane.

    Returns:
        The surface, which extends a little beyond the bounds.
    """
    x0, x1, y0, y1 = bounds
    columns, rows = (math.ceil((b - a) / SPACING) + 4 for a, b in ((x0, x1), (y0, y1)))
    x, y = np.meshgrid(
        x0 + SPACING * (np.arange(columns) - 1.5), y0 + SPACING * (np.arange(rows) - 1.5)
    )
    elevation = np.zeros_like(x)
    if roughness > 0 or bowers:
        size = 64 * math.ceil(max(rows, columns) / 64)
        ragged = _crop(fractal(rng, size, (6.0, 24.0)), rows, columns)
        calm = np.ones_like(x)
        for bower in bowers:
            # Its builder works by mouthfuls: outlines are ragged, and ripples end at the foot.
            r = np.hypot(x - bower.x, y - bower.y) * (1 + 0.06 * ragged)
            elevation += bower.elevation(r)
            calm *= 1 - np.exp(-((r / (1.25 * bower.radius)) ** 6))
        elevation += roughness * _ripples(rng, x, y, size) * calm
        elevation += roughness * 8e-3 * _crop(fractal(rng, size, (40.0, 160.0)), rows, columns)
        elevation += roughness * 0.6e-3 * _crop(fractal(rng, size, (1.6, 6.4)), rows, columns)
    return SplineSurface(x0 - 1.5 * SPACING, y0 - 1.5 * SPACING, SPACING, level(x, y) - elevation)


def _crop(noise: np.ndarray, rows: int, columns: int) -> Array:
    return np.ascontiguousarray(noise[:rows, :columns], dtype=np.float64)


def _ripples(rng: np.random.Generator, x: Array, y: Array, size: int) -> Array:
    """Wave ripples: crests sharper than troughs, wandering, with forks and calm patches."""
    angle, wavelength = rng.uniform(0, math.pi), rng.uniform(0.05, 0.08)
    rows, columns = x.shape
    wander = _crop(fractal(rng, size, (24.0, 64.0)), rows, columns)
    strength = _crop(enlarge(fractal(rng, max(size // 4, 64), (12.0, 24.0)), 4), rows, columns)
    phase = 2 * math.pi * (x * math.cos(angle) + y * math.sin(angle)) / wavelength + 1.6 * wander
    crest = np.exp(0.9 * (np.cos(phase) - 1)) - 0.5
    return 0.075 * wavelength * crest * np.clip(0.7 + 0.35 * strength, 0.2, 1.0)


def relief_limit(radius: float, *, is_castle: bool) -> float:
    """Largest relief of a bower of a radius that sand can hold, metres."""
    q = np.linspace(0, 2, 801)
    unit = Bower(0.0, 0.0, 1.0, 1.0, is_castle).elevation(q)
    # 15 % of slope are left to the raggedness and the ripples.
    return 0.85 * _REPOSE * radius / float(np.abs(np.gradient(unit, q)).max())
