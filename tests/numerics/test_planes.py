"""Heights settle on planes where there is no relief, and stay where there is."""

import pytest
import torch
from torch import Tensor

from aquamvs.numerics.planes import settle

SPACING, NOISE = 1e-3, 2e-4


def slope(rows: int = 101, columns: int = 131) -> Tensor:
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return 1.0 + 8e-4 * x - 5e-4 * y


def noise(like: Tensor) -> Tensor:
    """Noise of unit variance that neighbours share, as overlapping windows make it."""
    drawn = torch.randn(1, 1, *like.shape, generator=torch.Generator().manual_seed(1))
    shared = torch.nn.functional.avg_pool2d(drawn, 7, stride=1, padding=3)[0, 0]
    return NOISE * shared / shared.std()


def settled(z: Tensor) -> tuple[Tensor, Tensor]:
    found = settle(z, torch.full_like(z, NOISE**2), SPACING)
    return found.height, found.own + found.fit + found.missed


def rms(error: Tensor) -> float:
    return float(error.square().mean().sqrt())


def test_noise_on_a_slope_is_averaged_out() -> None:
    truth = slope()
    z, variance = settled(truth + noise(truth))
    assert rms(z - truth) < 0.85 * NOISE
    assert float(variance.sqrt().median()) < NOISE


def test_a_slope_without_noise_stays_as_it_is() -> None:
    truth = slope()
    assert rms(settled(truth)[0] - truth) < 2e-6


def test_relief_above_the_noise_stays() -> None:
    truth = slope()
    y, x = torch.meshgrid(*(torch.arange(n) for n in truth.shape), indexing="ij")
    truth = truth + 3e-3 * torch.sin(x / 4.0) * torch.sin(y / 5.0)
    z, _ = settled(truth + noise(truth))
    assert rms(z - truth) < 1.1 * NOISE


def test_a_wall_is_not_smeared() -> None:
    truth = slope()
    truth[:, 60:] += 0.05
    z, _ = settled(truth + noise(truth))
    assert float((z - truth)[:, 52:68].abs().max()) < 5 * NOISE


def test_a_gap_is_bridged_by_the_slope_and_is_less_certain() -> None:
    truth = slope()
    z = truth + noise(truth)
    gap = torch.zeros_like(z, dtype=torch.bool)
    gap[40:60, 50:75] = True
    bridged, variance = settled(torch.where(gap, torch.nan, z))
    assert float((bridged - truth)[gap].abs().max()) < 3 * NOISE
    assert variance[gap].mean() > variance[~gap].mean()


def test_cells_of_large_variance_follow_the_others() -> None:
    truth = slope()
    z, variance = truth + noise(truth), torch.full_like(truth, NOISE**2)
    z[30:50, 30:50] += 5e-3
    variance[30:50, 30:50] = 1e-4
    assert float((settle(z, variance, SPACING).height - truth).abs().max()) < 1e-3


def test_a_strip_too_thin_to_show_a_slope_takes_that_of_the_bed() -> None:
    truth = slope()
    y, x = torch.meshgrid(*(torch.arange(n) for n in truth.shape), indexing="ij")
    z = truth + 3e-3 * torch.sin(x / 4.0) * torch.sin(y / 5.0) + noise(truth)
    z[30:70, 30:100] = torch.nan
    z[30:70, 64:66] = truth[30:70, 64:66]
    error = (settled(z)[0] - truth)[42:58]
    rise = error[:, 69:72].mean() - error[:, 59:62].mean()
    assert abs(float(rise)) < 0.05 * 10 * 8e-4


def test_nothing_known_stays_unknown() -> None:
    z, variance = settled(torch.full((9, 7), torch.nan))
    assert torch.isnan(z).all()
    assert torch.isinf(variance).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (65, 33)])
def test_maps_of_any_size_settle(shape: tuple[int, int]) -> None:
    truth = slope(*shape)
    # The prior on slopes pulls a map of a few cells by a fraction of the noise.
    assert rms(settled(truth)[0] - truth) < 0.2 * NOISE
