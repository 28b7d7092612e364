import numpy as np
import pytest

from aquamvs.datasets import TextureKind
from aquamvs.datasets.noise import band, blur, cells, enlarge, fractal, random_stream, wrap
from aquamvs.datasets.textures import TEXEL, from_albedo, make_texture


@pytest.fixture(scope="module", params=list(TextureKind))
def kind(request: pytest.FixtureRequest) -> TextureKind:
    return TextureKind(request.param)


def test_streams_depend_on_seed_purpose_and_index_only() -> None:
    draws = {
        key: random_stream(*key).standard_normal()
        for key in ((0, "a"), (1, "a"), (0, "b"), (0, "a", 1))
    }
    assert len(set(draws.values())) == 4
    assert random_stream(0, "a").standard_normal() == draws[0, "a"]


@pytest.mark.parametrize("scale", [0.7, 3.0, 20.0])
def test_noise_has_unit_variance_its_own_scale_and_no_seam(scale: float) -> None:
    noise = band(np.random.default_rng(0), 512, scale)
    assert noise.shape == (512, 512)
    assert float(noise.mean()) == pytest.approx(0, abs=0.05)
    assert float(noise.std()) == pytest.approx(1, abs=0.05)
    if scale > 1:
        # Autocorrelation of Gaussian-filtered noise: exp(-d²/4σ²), 0.78 at d = σ.
        step = round(scale)
        correlation = (noise * np.roll(noise, step, axis=1)).mean()
        assert float(correlation) == pytest.approx(np.exp(-(step**2) / (4 * scale**2)), abs=0.08)
    steps = np.abs(np.diff(noise, axis=0)).mean()
    assert np.abs(noise[0] - noise[-1]).mean() < 1.5 * steps


def test_blur_and_enlargement_wrap_around() -> None:
    noise = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    shifted = np.roll(noise, (20, 33), axis=(0, 1))
    np.testing.assert_allclose(
        blur(shifted, 2.0), np.roll(blur(noise, 2.0), (20, 33), axis=(0, 1)), atol=1e-5
    )
    np.testing.assert_allclose(
        enlarge(shifted, 4), np.roll(enlarge(noise, 4), (80, 132), axis=(0, 1)), atol=1e-5
    )
    assert wrap(noise, 3).shape == (70, 70)


def test_fractals_hold_all_scales() -> None:
    noise = fractal(np.random.default_rng(0), 512, (1.0, 32.0), gain=1.0)
    power = np.abs(np.fft.fft2(noise)) ** 2
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.fftfreq(512))
    shares = [
        power[(frequency >= low) & (frequency < 2 * low)].sum() / power.sum()
        for low in (1 / 256, 1 / 64, 1 / 16)
    ]
    assert min(shares) > 0.05


def test_cells_are_the_nearest_points_across_the_border_too() -> None:
    rng = np.random.default_rng(0)
    number, distance, count = cells(rng, 128, 12.0)
    assert number.min() >= 0
    assert number.max() < count
    centres = {}
    for cell in np.unique(number):
        where = np.argwhere(number == cell)
        best = where[distance[number == cell].argmin()]
        assert distance[tuple(best)] == 0
        centres[cell] = best
    places = np.array(list(centres.values()))
    for texel in rng.integers(0, 128, (200, 2)):
        gap = np.abs(places - texel)
        near = np.hypot(*np.minimum(gap, 128 - gap).T).min()
        # OpenCV's 5 x 5 distance is good to about 2 %.
        assert float(distance[tuple(texel)]) == pytest.approx(near, rel=0.03, abs=0.2)


def test_sampling_at_texel_centres_returns_texels_and_wraps() -> None:
    albedo = np.random.default_rng(0).uniform(0.1, 0.9, (64, 64, 3)).astype(np.float32)
    texture = from_albedo(albedo, 1e-3)
    column, row = np.meshgrid(np.arange(64), np.arange(64))
    for shift in (0.0, 0.064, -0.128):
        u, v = ((i.reshape(-1) + 0.5) * 1e-3 + shift for i in (column, row))
        found = texture.sample(u, v, 0).reshape(64, 64, 3)
        np.testing.assert_allclose(found, albedo, atol=2e-5)


def test_levels_of_the_pyramid_show_the_same_place() -> None:
    """A smooth wave keeps its phase and nearly its amplitude on coarser levels."""
    x = np.arange(256) + 0.5
    wave = 0.5 + 0.3 * np.cos(2 * np.pi * x / 64)
    texture = from_albedo(
        np.broadcast_to(wave[None, :, None], (256, 256, 3)).astype(np.float32), 1e-3
    )
    u = np.linspace(0, 0.256, 500)
    for level in (0, 1, 2):
        found = texture.sample(u, np.full_like(u, 0.1), level)[:, 0] - 0.5
        phase = np.angle((found * np.exp(-2j * np.pi * u / 0.064)).sum())
        assert abs(phase) < 2e-3
        assert np.abs(found).max() == pytest.approx(0.3, rel=0.06)


def test_the_level_is_never_coarser_than_the_samples() -> None:
    texture = from_albedo(np.full((512, 512, 3), 0.5, dtype=np.float32), TEXEL)
    for spacing in (0.1e-3, 0.35e-3, 0.5e-3, 0.9e-3, 3e-3):
        level = texture.level_for(spacing)
        assert level == 0 or TEXEL * 2**level <= spacing * (1 + 1e-6)
        assert spacing < TEXEL * 2 ** (level + 1)


def test_materials_are_natural_albedo_with_detail_at_every_scale(kind: TextureKind) -> None:
    texture = make_texture(kind, random_stream(0, "test"), 0.36)
    albedo = texture.levels[0][4:-4, 4:-4].astype(float).mean(axis=-1) / 65535
    assert 0.1 < albedo.mean() < 0.6
    relative = albedo / albedo.mean()
    previous = relative
    # Contrast lost by each halving of the resolution from 0.35 mm to 2.8 mm.
    for _ in range(3):
        side = len(previous) // 2
        halved = previous.reshape(side, 2, side, 2).mean(axis=(1, 3))
        lost = previous.var() - halved.var()
        assert lost > 2e-4
        previous = halved


def test_materials_differ_in_their_spectra() -> None:
    """No two have the same distribution of contrast over scales."""
    shares = []
    for kind in TextureKind:
        texture = make_texture(kind, random_stream(0, "test"), 0.36)
        levels = [level.astype(float).mean(axis=-1).var() for level in texture.levels[:5]]
        shares.append(np.array(levels[1:]) / levels[0])
    for i in range(len(shares)):
        for j in range(i):
            assert np.abs(shares[i] - shares[j]).max() > 0.05


def test_the_periodic_material_repeats_and_the_others_do_not(kind: TextureKind) -> None:
    texture = make_texture(kind, random_stream(0, "test"), 0.36)
    albedo = texture.levels[0][4:-4, 4:-4].astype(float).mean(axis=-1)
    albedo -= albedo.mean()
    correlation = (albedo * np.roll(albedo, 64, axis=1)).mean() / albedo.var()
    assert (correlation > 0.7) == (kind is TextureKind.PERIODIC)


def test_contrast_scales_the_deviations_only() -> None:
    plain, weak = (
        make_texture(TextureKind.SAND, random_stream(0, "test"), 0.1, contrast=c)
        for c in (1.0, 0.2)
    )
    a, b = (t.levels[0].astype(float) for t in (plain, weak))
    np.testing.assert_allclose(b.mean(axis=(0, 1)), a.mean(axis=(0, 1)), rtol=5e-3)
    np.testing.assert_allclose(b.std(axis=(0, 1)), 0.2 * a.std(axis=(0, 1)), rtol=2e-2)


def test_coarse_cameras_get_a_coarser_texel() -> None:
    rng = random_stream(0, "test")
    fine = make_texture(TextureKind.SAND, rng, 0.1, gsd=0.8e-3)
    coarse = make_texture(TextureKind.SAND, rng, 0.4, gsd=3.2e-3)
    assert fine.texel == TEXEL
    assert coarse.texel == 4 * TEXEL
