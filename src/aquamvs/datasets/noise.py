"""Periodic random patterns, the raw material of textures and relief.

All patterns wrap around at their borders. Random numbers come from generators that are derived from
a seed and a purpose, so that one part of a scene can change without changing the others.
"""

import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def random_stream(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Generator that depends on a seed, a purpose and optional indices, and on nothing else."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *indices])


def blur(image: Floats, sigma: float) -> Floats:
    """Gaussian blur of a periodic image, shape (n, m) or (n, m, 3); sigma in texels."""
    if sigma <= 0:
        return image
    pad = int(np.ceil(4 * sigma))
    padded = wrap(image, pad)
    blurred = cv2.GaussianBlur(padded, (2 * pad + 1, 2 * pad + 1), sigma)
    return np.ascontiguousarray(blurred[pad:-pad, pad:-pad])


def wrap(image: NDArray[Any], pad: int) -> NDArray[Any]:
    """A periodic image with ``pad`` texels of its neighbours on every side."""
    return np.asarray(cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_WRAP))


def enlarge(image: Floats, factor: int) -> Floats:
    """A periodic image at ``factor`` times the resolution (bicubic)."""
    if factor == 1:
        return image
    pad = 4
    rows, columns = image.shape[0] + 2 * pad, image.shape[1] + 2 * pad
    big = cv2.resize(
        wrap(image, pad), (columns * factor, rows * factor), interpolation=cv2.INTER_CUBIC
    )
    crop = pad * factor
    return np.ascontiguousarray(big[crop:-crop, crop:-crop])


def band(rng: np.random.Generator, size: int, scale: float) -> Floats:
    """Noise with features of about ``scale`` texels, mean 0 and variance 1, shape (size, size).

    Args:
        rng: Source of randomness.
        size: Side in texels, a multiple of 64.
        scale: Standard deviation of the smoothing kernel, texels.
    """
    # A smooth pattern is made on a coarser lattice, where its kernel is about two texels.
    factor = 1
    while factor < 64 and scale / (2 * factor) >= 2 and size % (2 * factor) == 0:
        factor *= 2
    coarse = rng.standard_normal((size // factor, size // factor), dtype=np.float32)
    smooth = blur(coarse, scale / factor)
    smooth -= smooth.mean()
    smooth /= smooth.std()
    return enlarge(smooth, factor)


def fractal(
    rng: np.random.Generator,
    size: int,
    scales: tuple[float, float],
    *,
    gain: float = 0.6,
    ridged: bool = False,
) -> Floats:
    """Sum of octaves of :func:`band` from the largest scale to the smallest, variance 1.

    Args:
        rng: Source of randomness.
        size: Side in texels, a multiple of 64.
        scales: (smallest, largest) scale, texels.
        gain: Amplitude of an octave over that of the next larger one.
        ridged: Fold every octave into sharp crests, as in weathered rock.
    """
    smallest, scale = scales
    total = np.zeros((size, size), dtype=np.float32)
    amplitude = 1.0
    while scale >= smallest:
        octave = band(rng, size, scale)
        if ridged:
            octave = np.float32(0.8) - np.abs(octave)
        total += np.float32(amplitude) * octave
        amplitude *= gain
        scale /= 2
    total -= total.mean()
    total /= total.std()
    return total


def cells(
    rng: np.random.Generator, size: int, diameter: float
) -> tuple[NDArray[np.int32], Floats, int]:
    """Voronoi cells of random points: grains seen from above.

    Args:
        rng: Source of randomness.
        size: Side in texels.
        diameter: Mean distance of the points, texels.

    Returns:
        Cell number of every texel, shape (size, size), distance to the cell's point in texels, same
        shape, and the number of cells.
    """
    count = max(4, round((size / diameter) ** 2))
    places = rng.integers(0, size * size, count)
    number = np.zeros((size, size), dtype=np.int32)
    number.reshape(-1)[places] = np.arange(1, len(places) + 1)
    pad = min(size, int(6 * diameter) + 4)
    padded = wrap(number, pad)
    distance, labels = cv2.distanceTransformWithLabels(
        (padded == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # OpenCV numbers the points in its own way; look up which cell each of its labels stands for.
    table = np.zeros(int(labels.max()) + 1, dtype=np.int32)
    at_point = padded > 0
    table[labels[at_point]] = padded[at_point] - 1
    inner = (slice(pad, -pad), slice(pad, -pad))
    return table[labels[inner]], np.ascontiguousarray(distance[inner]), len(places)
