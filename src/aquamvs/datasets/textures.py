"""Albedo of beds and stones: periodic tiles with detail from the pixel to the decimetre.

A texture is linear reflectance in RGB on a square periodic tile. Its finest texel is well under
half of a pixel's footprint in the full-size rig, and each camera samples the level of a
pyramid whose texel is no larger than its own sample spacing: the area integral over a sample is
then already in the level, and supersampling does the rest.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .materials import MAKERS, Canvas, TextureKind
from .noise import Floats, blur, wrap
from .sampling import sample_points

FINEST_GSD = 0.75e-3
"""Footprint of the full-size rig's pixels, metres."""
TEXEL = 0.35e-3
"""Texel of the finest level for that footprint, metres: under half of it."""

_LARGEST_TILE = 4096
"""Side of the largest tile in texels, 1.4 m: more than one camera of the full-size rig sees."""

_MARGIN = 4
"""Texels of wrapped border around a level, for the interpolation kernel."""
_FULL_SCALE = np.float32(65535)


@dataclass(frozen=True, slots=True)
class Texture:
    """Pyramid of a periodic albedo tile.

    Attributes:
        levels: Linear reflectance times 65535, each of shape (n + 2 m, n + 2 m, 3), uint16, where m
            is a wrapped margin and n halves from level to level.
        texel: Texel of the first level, metres.
    """

    levels: tuple[NDArray[np.uint16], ...]
    texel: float

    @property
    def size(self) -> int:
        """Side of the tile in texels of the first level."""
        return int(self.levels[0].shape[0]) - 2 * _MARGIN

    def level_for(self, spacing: float) -> int:
        """The coarsest level with texels no larger than ``spacing`` metres (at least the first)."""
        level = int(np.floor(np.log2(max(spacing / self.texel, 1.0)) + 1e-9))
        return min(level, len(self.levels) - 1)

    def sample(self, u: NDArray[np.float64], v: NDArray[np.float64], level: int) -> Floats:
        """Albedo at texture coordinates.

        Args:
            u: shape (N,), metres.
            v: shape (N,), metres.
            level: Of the pyramid.

        Returns:
            Linear RGB, shape (N, 3), float32. The bicubic interpolation belongs to the texture: it
            is the same function of position for every camera.
        """
        image = self.levels[level]
        size = image.shape[0] - 2 * _MARGIN
        texel = self.texel * 2**level
        # The centre of texel i is at (i + 0.5) texels, on every level.
        column = np.mod(u / texel - 0.5, size) + _MARGIN
        row = np.mod(v / texel - 0.5, size) + _MARGIN
        sampled = sample_points(
            image, column.astype(np.float32), row.astype(np.float32), cv2.INTER_CUBIC
        )
        return np.asarray(sampled / _FULL_SCALE, dtype=np.float32)


def make_texture(
    kind: TextureKind,
    rng: np.random.Generator,
    extent: float,
    *,
    gsd: float = FINEST_GSD,
    contrast: float = 1.0,
) -> Texture:
    """A texture of a kind.

    Args:
        kind: Material.
        rng: Source of randomness.
        extent: Size of the surface to cover, metres; the tile is as large, up to 4096 texels.
        gsd: Footprint of a pixel of the finest camera, metres; coarser cameras need no finer texel.
        contrast: Factor on the deviations from the mean albedo.

    Returns:
        The texture.
    """
    texel = TEXEL * 2.0 ** max(0, int(np.floor(np.log2(gsd / FINEST_GSD))))
    size = int(np.clip(64 * np.ceil(extent / texel / 64), 256, _LARGEST_TILE))
    albedo = MAKERS[kind](Canvas(rng, size, texel))
    if contrast != 1:
        mean = albedo.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
        albedo = mean + np.float32(contrast) * (albedo - mean)
    return from_albedo(albedo, texel)


def from_albedo(albedo: Floats, texel: float) -> Texture:
    """Pyramid of a periodic albedo image, shape (n, n, 3), linear, n a multiple of 64."""
    levels = []
    while True:
        scaled = np.rint(_FULL_SCALE * np.clip(albedo, 0.01, 0.98)).astype(np.uint16)
        levels.append(np.asarray(wrap(scaled, _MARGIN), dtype=np.uint16))
        if albedo.shape[0] % 2 or albedo.shape[0] <= 32:
            return Texture(tuple(levels), texel)
        # 2 x 2 means keep texel centres; the slight blur first keeps coarse levels free of aliases.
        half = albedo.shape[0] // 2
        smooth = blur(albedo, 0.6)
        albedo = np.asarray(cv2.resize(smooth, (half, half), interpolation=cv2.INTER_AREA))
