"""What narrower windows add to a map: relief that it lacks, and no noise."""

import dataclasses

import pytest
import torch
from torch import Tensor

from aquamvs.numerics.filters import gaussian_taps, halve, pad_edges, smooth
from aquamvs.surface.relief import recover
from aquamvs.surface.sweep import RELIEF_PASS

from .conftest import estimate_of

NOISE, SHAPE = 1e-4, (80, 80)
CURVATURE = 4e5
"""Of the agreement: fixes heights to about NOISE in windows of RELIEF_PASS."""
INNER = (slice(10, -10), slice(10, -10))
NOTHING = torch.zeros(40, 40)
"""Was levelled."""


def smoothed(maps: Tensor, sigma: float) -> Tensor:
    taps = gaussian_taps(sigma)
    return smooth(pad_edges(maps, len(taps) // 2), taps)


def noise() -> Tensor:
    """Of NOISE, shared by neighbours as narrow windows make it."""
    shared = smoothed(torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)), 1.0)
    return NOISE * shared / shared.std()


def stones() -> Tensor:
    """A bed at 1 m with rounded stones, 16 cells apart and 4 mm high."""
    row, column = torch.meshgrid(*(torch.arange(size) for size in SHAPE), indexing="ij")
    wave = torch.pi / 16
    return 1.0 - 4e-3 * (torch.sin(wave * row) * torch.sin(wave * column)) ** 2


def rms(maps: Tensor) -> float:
    return float(maps[INNER].square().mean().sqrt())


def test_noise_of_narrow_windows_stays_out() -> None:
    flat = torch.ones(SHAPE)
    found = recover(flat, NOTHING, estimate_of(flat + noise(), CURVATURE), RELIEF_PASS)
    assert rms(found.z - flat) < 0.1 * NOISE
    assert not bool(found.moving[INNER].any())


def test_relief_that_wide_windows_levelled_comes_back() -> None:
    true = stones()
    base = smoothed(true, 3.0)
    found = recover(base, NOTHING, estimate_of(true + noise(), CURVATURE), RELIEF_PASS)
    assert rms(found.z - true) < 0.25 * rms(base - true)
    assert bool(found.moving[INNER].all())


def test_sigma_takes_in_the_relief_that_may_still_be_missing() -> None:
    """Windows find half of it, of which smoothing left nothing."""
    true = stones()
    base = smoothed(true, 3.0)
    seen = (base + true) / 2
    found = recover(
        base, halve((seen - base).square()), estimate_of(seen + noise(), CURVATURE), RELIEF_PASS
    )
    within = ((found.z - true).abs() < found.variance.sqrt())[INNER].double().mean()
    assert 0.5 < float(within) < 0.99


def test_relief_that_smoothing_levelled_widens_sigma_only_where_there_is_relief() -> None:
    """What smoothing took away may be noise that residuals did not show."""
    true, flat = stones(), torch.ones(SHAPE)
    levelled = 5 * noise()

    def widened(base: Tensor, found: Tensor) -> float:
        """By how much what was levelled raises the variance."""
        estimate = estimate_of(found + noise(), CURVATURE)
        more, less = (
            recover(base, halve(away.square()), estimate, RELIEF_PASS).variance[INNER].mean()
            for away in (levelled, torch.zeros(SHAPE))
        )
        return float(more - less)

    assert widened(smoothed(true, 3.0), true) > 2 * rms(levelled) ** 2
    assert widened(flat, flat) < 0.2 * rms(levelled) ** 2


def test_noise_is_what_heights_scatter_by_if_residuals_say_more() -> None:
    flat = torch.ones(SHAPE)

    def scale(found: Tensor) -> float:
        return recover(flat, NOTHING, estimate_of(found, CURVATURE), RELIEF_PASS).noise_scale

    less = 4 ** (4 / 3)
    assert scale(flat + 0.5 * noise()) == pytest.approx(scale(flat + noise()) / less, rel=0.01)
    assert scale(flat + 0.5 * noise()) < 0.3
    assert scale(stones() + noise()) == 1.0


def test_a_flat_board_keeps_no_relief_of_its_edges() -> None:
    """Narrow windows slide along edges: wide ones, which average that, saw a plane."""
    flat = torch.ones(SHAPE)
    edges = 10 * noise()
    found = recover(flat, NOTHING, estimate_of(flat + edges, CURVATURE), RELIEF_PASS)
    assert rms(found.z - flat) < 0.1 * rms(edges)


def test_cells_without_texture_of_their_own_add_nothing() -> None:
    true = stones()
    base = smoothed(true, 3.0)
    estimate = estimate_of(true + noise(), CURVATURE)
    plain = (slice(30, 50), slice(30, 50))
    wrong = dataclasses.replace(estimate, z=estimate.z.clone())
    wrong.z[plain] += 5e-3
    wrong.own_texture[plain] = 0.0
    found = recover(base, NOTHING, wrong, RELIEF_PASS)
    assert float((found.z - base)[plain].abs().mean()) < 5e-4


@pytest.mark.parametrize("shape", [(80, 80), (71, 45), (1, 30)])
def test_compiled_relief_agrees_with_tensor_operations(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Odd sizes have a last pair of one row or column."""
    rows, columns = shape
    true = stones()[:rows, :columns]
    base = smoothed(true, 3.0)
    estimate = estimate_of(true + noise()[:rows, :columns], CURVATURE)
    estimate.z[10:20, 5:15] = torch.nan
    estimate.curvature[30:34] = 0.0
    levelled = true + 3 * noise()[:rows, :columns] - base
    levelled[20:24] = 0.0
    given = base, halve(levelled.square()), estimate, RELIEF_PASS
    compiled = recover(*given)
    monkeypatch.setattr("aquamvs.surface.relief.has_kernels", lambda _: False)
    reference = recover(*given)
    assert float((compiled.z - reference.z).abs().max()) < 1e-2 * NOISE
    assert torch.allclose(compiled.variance, reference.variance, rtol=1e-3, atol=1e-4 * NOISE**2)
    assert (compiled.moving == reference.moving).double().mean() > 0.999
    assert compiled.noise_scale == pytest.approx(reference.noise_scale, rel=1e-3)
