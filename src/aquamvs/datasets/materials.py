"""What beds and stones are made of: albedo patterns with detail from the pixel to the decimetre.

Each maker is a different process (grains of several minerals, rounded stones, folded noise, patches
of algae, an exact repetition), so that no method can be tuned to one noise spectrum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from .noise import Floats, band, blur, cells, fractal

_PERIOD = 22.4e-3
"""Repetition of the periodic material, metres: 64 of the finest texels."""

_Palette = tuple[tuple[float, float, float], ...]


class TextureKind(StrEnum):
    """What the bed is made of.

    Example:
        >>> from aquamvs.datasets import TextureKind
        >>> [kind.value for kind in TextureKind]
        ['sand', 'gravel', 'rock', 'mottled', 'periodic']
    """

    SAND = "sand"
    GRAVEL = "gravel"
    ROCK = "rock"
    MOTTLED = "mottled"
    PERIODIC = "periodic"


@dataclass(frozen=True, slots=True)
class Canvas:
    """A periodic square tile to paint on, measured in metres.

    Attributes:
        rng: Source of randomness.
        size: Side in texels.
        texel: Size of a texel, metres.
    """

    rng: np.random.Generator
    size: int
    texel: float

    def band(self, scale: float) -> Floats:
        """Noise of one scale, metres (see :func:`~.noise.band`)."""
        return band(self.rng, self.size, max(scale / self.texel, 0.5))

    def fractal(
        self, smallest: float, largest: float, *, gain: float = 0.6, ridged: bool = False
    ) -> Floats:
        """Noise of all scales between two, metres (see :func:`~.noise.fractal`)."""
        low = max(smallest / self.texel, 0.5)
        high = min(largest / self.texel, self.size / 8)
        return fractal(self.rng, self.size, (low, max(low, high)), gain=gain, ridged=ridged)

    def cells(self, diameter: float) -> tuple[np.ndarray, Floats, int]:
        """Voronoi cells of a mean diameter, metres; distances come in metres too."""
        number, distance, count = cells(self.rng, self.size, max(diameter / self.texel, 1.0))
        return number, distance * np.float32(self.texel), count

    def mineral_albedo(
        self, count: int, palette: _Palette, shares: tuple[float, ...], spread: float
    ) -> Floats:
        """Albedo of grains, shape (count, 3): a mineral each, times a log-normal brightness."""
        chosen = self.rng.choice(len(palette), size=count, p=np.array(shares) / sum(shares))
        brightness = np.exp(spread * self.rng.standard_normal(count, dtype=np.float32))
        return np.asarray(_rgb(*palette)[chosen] * brightness[:, None])

    def grains(
        self, diameter: float, palette: _Palette, shares: tuple[float, ...], spread: float
    ) -> Floats:
        """Touching grains of a mean diameter, metres; shape (size, size, 3)."""
        number, _, count = self.cells(diameter)
        return blur(self.mineral_albedo(count, palette, shares, spread)[number], 0.7)


def _rgb(*colours: tuple[float, float, float]) -> Floats:
    return np.array(colours, dtype=np.float32)


def _modulate(albedo: Floats, factor: Floats) -> Floats:
    return np.asarray(albedo * factor[..., None])


def _mix(first: Floats, second: Floats, share: Floats) -> Floats:
    """``share`` of the second; by channel, because a full-size tile has 200 MB."""
    mixed = np.empty_like(first)
    for c in range(3):
        mixed[..., c] = first[..., c] + share * (second[..., c] - first[..., c])
    return mixed


def _step(x: Floats, sharpness: float) -> Floats:
    """Logistic step from 0 to 1 at 0."""
    return np.asarray(1 / (1 + np.exp(-np.clip(sharpness * x, -30, 30))))


def _sand(canvas: Canvas) -> Floats:
    """Quartz, feldspar and dark minerals in grains of 1 mm and 2.4 mm, sorted in patches."""
    palette = (
        (0.52, 0.43, 0.31), (0.44, 0.35, 0.24), (0.70, 0.64, 0.53), (0.14, 0.12, 0.10),
        (0.48, 0.30, 0.20),
    )  # fmt: skip
    fine = canvas.grains(1.0e-3, palette, (46, 34, 10, 6, 4), 0.16)
    coarse = canvas.grains(2.4e-3, palette, (40, 30, 14, 12, 4), 0.22)
    share = _step(canvas.fractal(4e-3, 60e-3) - 0.4, 3.0)
    return _modulate(_mix(fine, coarse, share), 1 + 0.05 * canvas.fractal(2e-3, 70e-3, gain=0.8))


def _gravel(canvas: Canvas) -> Floats:
    """Rounded stones of 8 mm between grit of 2 mm, with dark joints."""
    palette = (
        (0.36, 0.34, 0.31), (0.24, 0.22, 0.20), (0.55, 0.50, 0.43), (0.42, 0.30, 0.21),
        (0.66, 0.64, 0.60),
    )  # fmt: skip
    number, distance, count = canvas.cells(8e-3)
    stones = canvas.mineral_albedo(count, palette, (34, 26, 20, 13, 7), 0.18)[number]
    stones = _modulate(stones, 1 + 0.10 * canvas.fractal(0.35e-3, 2e-3, gain=0.9))
    radius = canvas.rng.uniform(2.8e-3, 5e-3, count).astype(np.float32)[number]
    outline = distance + np.float32(0.5e-3) * canvas.fractal(1e-3, 4e-3)
    dome = np.clip(1.15 - (outline / radius) ** 4, 0.0, 1.0)
    grit = 0.6 * canvas.grains(2e-3, palette, (34, 30, 18, 12, 6), 0.25)
    return _mix(grit, _modulate(stones, 0.55 + 0.45 * dome), np.clip(1.6 * dome, 0.0, 1.0))


def _rock(canvas: Canvas) -> Floats:
    """Weathered stone: folded noise over all scales, speckles, cracks, and pale lichen."""
    relief = canvas.fractal(0.35e-3, 20e-3, gain=0.95, ridged=True)
    seam = canvas.band(6e-3) + 0.35 * canvas.band(1e-3)
    cracks = np.exp(-(seam**2) / 0.004)
    tone = np.clip(1 + 0.30 * relief, 0.25, 2.0) * (1 - 0.55 * cracks)
    warm = canvas.fractal(8e-3, 70e-3)[..., None]
    stone = _modulate(_rgb((0.34, 0.32, 0.29)) * (1 + warm * _rgb((0.10, 0.04, -0.03))), tone)
    lichen = _modulate(np.broadcast_to(_rgb((0.55, 0.56, 0.45)), stone.shape), 1 + 0.1 * relief)
    return _mix(stone, lichen, _step(canvas.fractal(1e-3, 16e-3, gain=0.7) - 1.5, 8.0))


def _mottled(canvas: Canvas) -> Floats:
    """Fine sand under a patchy film of algae, with bare spots and flecks of detritus."""
    palette = ((0.50, 0.44, 0.33), (0.40, 0.34, 0.25), (0.18, 0.16, 0.14))
    sand = canvas.grains(1e-3, palette, (60, 34, 6), 0.12)
    fronds = 1 + 0.22 * canvas.fractal(0.35e-3, 4e-3)
    algae = _modulate(np.broadcast_to(_rgb((0.17, 0.20, 0.09)), sand.shape), fronds)
    film = 0.75 * _step(canvas.fractal(0.9e-3, 50e-3, gain=0.75) - 0.1, 5.0)
    flecks = _step(canvas.band(0.8e-3) - 2.1, 14.0)
    return _modulate(_mix(sand, algae, film), 1 - 0.7 * flecks)


def _periodic(canvas: Canvas) -> Floats:
    """A motif of 22 mm that repeats exactly, under faint grains that do not."""
    # A power of two that divides every tile's side: the repetition has no seam.
    side = max(8, round(_PERIOD / canvas.texel))
    motif_canvas = Canvas(canvas.rng, side, canvas.texel)
    palette = ((0.46, 0.40, 0.30), (0.24, 0.22, 0.18), (0.36, 0.24, 0.16))
    number, _, count = motif_canvas.cells(3.2e-3)
    motif = blur(motif_canvas.mineral_albedo(count, palette, (5, 4, 2), 0.2)[number], 0.7)
    motif = _modulate(motif, 1 + 0.15 * motif_canvas.fractal(0.4e-3, 2e-3, gain=0.9))
    pattern = np.tile(motif, (canvas.size // side, canvas.size // side, 1))
    return _modulate(pattern, 1 + 0.08 * canvas.fractal(0.35e-3, 8e-3, gain=0.9))


MAKERS: dict[TextureKind, Callable[[Canvas], Floats]] = {
    TextureKind.SAND: _sand,
    TextureKind.GRAVEL: _gravel,
    TextureKind.ROCK: _rock,
    TextureKind.MOTTLED: _mottled,
    TextureKind.PERIODIC: _periodic,
}
"""Kind -> painter of linear albedo, shape (size, size, 3)."""
