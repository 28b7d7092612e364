import numpy as np
import pytest

from aquamvs.datasets import Imaging
from aquamvs.datasets.imaging import (
    MARGIN,
    camera_gains,
    encode_srgb,
    expose,
    fresnel_transmittance,
    integrate,
    through_water,
)
from aquamvs.errors import DataError


def sample_grid(size: tuple[int, int], s: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates of every sample of an image with its margin."""
    width, height = size
    u = (np.arange((width + 2 * MARGIN) * s) + 0.5) / s - 0.5 - MARGIN
    v = (np.arange((height + 2 * MARGIN) * s) + 0.5) / s - 0.5 - MARGIN
    return u, v


@pytest.mark.parametrize("s", [1, 2, 3, 4])
@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_integration_keeps_a_linear_ramp_in_place(s: int, sigma: float) -> None:
    """Blur and pixel area are symmetric: a ramp comes out as its value at pixel centres."""
    imaging = Imaging(supersampling=s, psf_sigma_px=sigma)
    u, v = sample_grid((20, 12), s)
    ramp = (0.3 + 0.01 * u[None, :] - 0.02 * v[:, None])[..., None].repeat(3, axis=2)
    found = integrate(ramp.astype(np.float32), (20, 12), imaging)
    expected = 0.3 + 0.01 * np.arange(20)[None, :] - 0.02 * np.arange(12)[:, None]
    assert found.shape == (12, 20, 3)
    np.testing.assert_allclose(found[..., 1], expected, atol=2e-6)


@pytest.mark.parametrize("s", [2, 3])
def test_a_wave_is_damped_by_pixel_area_and_blur_as_theory_says(s: int) -> None:
    """Transfer function: sinc of the pixel times the Gaussian's."""
    frequency, sigma = 0.15, 0.5
    u, v = sample_grid((64, 4), s)
    wave = np.cos(2 * np.pi * frequency * u)[None, :, None] * np.ones((len(v), 1, 3))
    found = integrate(
        wave.astype(np.float32), (64, 4), Imaging(supersampling=s, psf_sigma_px=sigma)
    )
    transfer = np.sinc(frequency) * np.exp(-2 * (np.pi * frequency * sigma) ** 2)
    expected = transfer * np.cos(2 * np.pi * frequency * np.arange(64))
    np.testing.assert_allclose(found[2, :, 0], expected, atol=2e-3)


def test_water_follows_beer_lambert_and_ends_in_its_own_colour() -> None:
    imaging = Imaging()
    light = np.full((3, 3), 0.5, dtype=np.float32)
    found = through_water(light, np.array([0.0, 0.5, 1e3]), imaging)
    np.testing.assert_allclose(found[0], 0.5)
    kept = np.exp(-0.5 * np.array(imaging.attenuation))
    np.testing.assert_allclose(
        found[1], 0.5 * kept + (1 - kept) * np.array(imaging.veil), rtol=1e-6
    )
    np.testing.assert_allclose(found[2], imaging.veil, rtol=1e-6)


def test_fresnel_loses_two_percent_at_normal_incidence_and_all_at_grazing() -> None:
    found = fresnel_transmittance(
        np.array([1.0, 0.0]), np.array([1.0, np.sqrt(1 - 1 / 1.333**2)]), 1.0, 1.333
    )
    assert float(found[0]) == pytest.approx(1 - (0.333 / 2.333) ** 2, rel=1e-6)
    assert float(found[1]) == pytest.approx(0.0, abs=1e-6)


def test_noise_has_the_variance_of_photons_and_electronics() -> None:
    level, wells, read = 0.25, 9000.0, 4.0
    imaging = Imaging(
        exposure=1.0, gain_spread=0.0, balance_spread=0.0, full_well_e=wells, read_noise_e=read
    )
    image = expose(np.full((400, 400, 3), level, dtype=np.float32), imaging, 1, 0, 0)
    encoded = image.astype(float) / 255
    linear = ((encoded + 0.055) / 1.055) ** 2.4
    electrons = linear * wells
    expected = level * wells + read**2
    # Rounding to 8 bits adds the variance of a uniform step (slope of the transfer curve).
    slope = 2.4 / 1.055 * ((float(encode_srgb(np.float32(level))) + 0.055) / 1.055) ** 1.4
    rounding = (slope * wells / 255) ** 2 / 12
    assert electrons.mean() == pytest.approx(level * wells, rel=1e-3)
    assert electrons.var() == pytest.approx(expected + rounding, rel=0.03)


def test_noise_and_gains_repeat_for_a_seed_and_differ_otherwise() -> None:
    light = np.full((8, 8, 3), 0.4, dtype=np.float32)
    imaging = Imaging()
    first = expose(light, imaging, 1, 2, 3)
    assert np.array_equal(first, expose(light, imaging, 1, 2, 3))
    for other in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not np.array_equal(first, expose(light, imaging, *other))
    assert np.array_equal(camera_gains(1, 0, imaging), camera_gains(1, 0, imaging))
    assert not np.array_equal(camera_gains(1, 0, imaging), camera_gains(1, 1, imaging))


def test_transfer_is_the_srgb_curve() -> None:
    linear = np.array([-0.1, 0.0, 0.0031308, 0.18, 1.0, 2.0], dtype=np.float32)
    expected = [0, 0, 0.040449907, 0.46135613, 1, 1]
    np.testing.assert_allclose(encode_srgb(linear), expected, atol=1e-6)


@pytest.mark.parametrize("bad", [{"supersampling": 0}, {"psf_sigma_px": 5.0}])
def test_impossible_imaging_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(DataError, match=next(iter(bad))):
        Imaging(**bad)  # type: ignore[arg-type]
