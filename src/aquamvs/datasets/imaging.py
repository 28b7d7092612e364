"""From radiance to a camera's 8-bit file: water, optics, sensor.

The order is that of nature: water dims and veils the light on its way, the optics blur it, pixels
integrate it over their area, the sensor adds shot and read noise, and the camera applies its gain,
its white balance and the sRGB transfer curve (IEC 61966-2-1) before rounding to 8 bits.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .noise import Floats, random_stream

MARGIN = 3
"""Pixels that are rendered around an image for the tails of the point spread function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imaging:
    """Options of the camera and the water.

    Attributes:
        supersampling: Samples per pixel along each axis.
        psf_sigma_px: Standard deviation of the optical blur, pixels.
        exposure: Factor from radiance (1 is a white level surface) to full scale.
        attenuation: Beam attenuation of the water in R, G, B, per metre.
        veil: Colour of infinitely deep water, linear RGB, before exposure.
        gain_spread: Standard deviation of the cameras' gains (of their logarithm).
        balance_spread: Standard deviation of each camera's red and blue gains (of the logarithm).
        full_well_e: Electrons at full scale; None switches shot and read noise off.
        read_noise_e: Standard deviation of the read noise, electrons.

    Example:
        >>> from aquamvs.datasets import Imaging
        >>> quiet = Imaging(full_well_e=None, gain_spread=0.0, balance_spread=0.0)
        >>> quiet.supersampling
        2
    """

    supersampling: int = 2
    psf_sigma_px: float = 0.5
    exposure: float = 0.85
    attenuation: tuple[float, float, float] = (0.42, 0.10, 0.12)
    veil: tuple[float, float, float] = (0.03, 0.11, 0.13)
    gain_spread: float = 0.05
    balance_spread: float = 0.03
    full_well_e: float | None = 9000.0
    read_noise_e: float = 4.0

    def __post_init__(self) -> None:
        if not 1 <= self.supersampling <= 8:
            raise DataError(f"supersampling is {self.supersampling}; expected 1 to 8")
        if not 0 <= self.psf_sigma_px <= 0.75 * MARGIN:
            raise DataError(
                f"psf_sigma_px is {self.psf_sigma_px}; expected 0 to {0.75 * MARGIN} pixels"
            )


def through_water(radiance: Floats, path: NDArray[np.float64], imaging: Imaging) -> Floats:
    """Light of surfaces after its way through the water.

    Args:
        radiance: shape (N, 3), linear.
        path: Length of the way under water, shape (N,), metres.
        imaging: Options.

    Returns:
        shape (N, 3).
    """
    length = path.astype(np.float32)[:, None]
    attenuation = np.array(imaging.attenuation, dtype=np.float32)
    kept = np.exp(-attenuation * length)
    return np.asarray(radiance * kept + np.array(imaging.veil, dtype=np.float32) * (1 - kept))


def fresnel_transmittance(
    cos_air: NDArray[np.float64], cos_water: NDArray[np.float64], n_air: float, n_water: float
) -> Floats:
    """Transmittance of the water surface for unpolarised light, shape (N,)."""
    s = (n_air * cos_air - n_water * cos_water) / (n_air * cos_air + n_water * cos_water)
    p = (n_air * cos_water - n_water * cos_air) / (n_air * cos_water + n_water * cos_air)
    return np.asarray(1 - 0.5 * (s * s + p * p), dtype=np.float32)


def integrate(samples: Floats, size: tuple[int, int], imaging: Imaging) -> Floats:
    """Blur by the optics and integrate over pixels.

    Args:
        samples: Radiance on the regular sample grid of the image and :data:`MARGIN` pixels around
            it, shape ((H + 2 m) s, (W + 2 m) s, 3).
        size: (width, height) of the image.
        imaging: Options.

    Returns:
        shape (H, W, 3).
    """
    s = imaging.supersampling
    width, height = size
    kernel = _pixel_kernel(s, imaging.psf_sigma_px)
    half = len(kernel) // 2
    # Filtered at every sample, then read at pixel centres; an even kernel straddles the centre.
    filtered = cv2.sepFilter2D(
        samples, -1, kernel, kernel, anchor=(half, half), borderType=cv2.BORDER_REFLECT_101
    )
    first = MARGIN * s + (s // 2 if len(kernel) % 2 == 0 else (s - 1) // 2)
    rows = slice(first, first + height * s, s)
    columns = slice(first, first + width * s, s)
    return np.ascontiguousarray(filtered[rows, columns])


def _pixel_kernel(s: int, sigma_px: float) -> Floats:
    """Pixel box convolved with the Gaussian, on the sample grid; symmetric about pixel centres.

    Its length has the parity of ``s``, so that the samples lie symmetrically about the centre.
    """
    reach = math.ceil((0.5 + 4 * sigma_px) * s)
    count = 2 * reach + (s % 2)
    centre = (count - 1) / 2
    x = (np.arange(count) - centre) / s
    if sigma_px == 0:
        weights = (np.abs(x) < 0.5).astype(np.float64)
    else:
        root = sigma_px * math.sqrt(2)
        weights = np.array([math.erf((xi + 0.5) / root) - math.erf((xi - 0.5) / root) for xi in x])
    return np.asarray(weights / weights.sum(), dtype=np.float32)


def camera_gains(seed: int, camera_index: int, imaging: Imaging) -> Floats:
    """Gain of a camera per channel, shape (3,): overall gain and white balance."""
    rng = random_stream(seed, "gain", camera_index)
    gain = math.exp(imaging.gain_spread * rng.standard_normal())
    red, blue = np.exp(imaging.balance_spread * rng.standard_normal(2))
    return np.array([gain * red, gain, gain * blue], dtype=np.float32)


def expose(
    radiance: Floats, imaging: Imaging, seed: int, camera_index: int, frame: int
) -> NDArray[np.uint8]:
    """Sensor and file: noise, gains, transfer curve, 8 bits.

    Args:
        radiance: Integrated over pixels, shape (H, W, 3), linear.
        imaging: Options.
        seed: Of gains and noise.
        camera_index: Place of the camera in the calibration.
        frame: Instant; every frame has its own noise.

    Returns:
        RGB, shape (H, W, 3).
    """
    signal = np.maximum(radiance, 0) * np.float32(imaging.exposure)
    if imaging.full_well_e is not None:
        # Photon noise is Poisson; at these counts its normal approximation serves.
        rng = random_stream(seed, "noise", camera_index, frame)
        electrons = signal * np.float32(imaging.full_well_e)
        sigma = np.sqrt(electrons + np.float32(imaging.read_noise_e**2))
        noise = rng.standard_normal(signal.shape, dtype=np.float32)
        signal = (electrons + sigma * noise) / np.float32(imaging.full_well_e)
    signal = signal * camera_gains(seed, camera_index, imaging)
    return np.rint(255 * encode_srgb(signal)).astype(np.uint8)


def encode_srgb(linear: Floats) -> Floats:
    """SRGB transfer curve (IEC 61966-2-1) of linear values, clipped to [0, 1]."""
    x = np.clip(linear, 0, 1)
    high = np.float32(1.055) * np.power(x, np.float32(1 / 2.4)) - np.float32(0.055)
    return np.where(x <= np.float32(0.0031308), np.float32(12.92) * x, high)
