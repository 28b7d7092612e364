"""Heights settle on planes where there is no relief, and stay where there is."""

import pytest
import torch
from torch import Tensor

from aquamvs.numerics.planes import Settled, settle, settled_heights

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


def rough(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """A slope with a step, relief on one side, a gap, and cells of any variance."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    z = slope(rows, columns) + torch.where(x > columns // 2, 0.05, 0.0)
    z = z + torch.where(y > rows // 2, 3e-3 * torch.sin(x / 4.0), 0.0)
    z = z + noise(z)
    z[rows // 4 : rows // 3, columns // 4 : columns // 3] = torch.nan
    drawn = torch.rand(rows, columns, generator=torch.Generator().manual_seed(3))
    variance = NOISE**2 * (0.2 + 2 * drawn)
    variance[drawn > 0.95] = torch.inf
    return z, variance


@pytest.mark.parametrize("shape", [(101, 131), (64, 64), (9, 90), (12, 7)])
def test_compiled_planes_agree_with_tensor_operations(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    z, variance = rough(*shape)
    compiled = settle(z, variance, SPACING)
    assert torch.equal(settled_heights(z, variance, SPACING), compiled.height)
    monkeypatch.setattr("aquamvs.numerics.planes.has_kernels", lambda _: False)
    reference = settle(z, variance, SPACING)
    assert float((compiled.height - reference.height).abs().max()) < 1e-2 * NOISE
    for name in Settled._fields[1:]:
        one, other = getattr(compiled, name), getattr(reference, name)
        assert torch.allclose(one, other, rtol=1e-2, atol=1e-4 * NOISE**2), name


def test_compiled_planes_do_not_depend_on_the_number_of_threads() -> None:
    z, variance = rough(101, 131)
    threads = torch.get_num_threads()
    found = settle(z, variance, SPACING)
    try:
        torch.set_num_threads(1 if threads > 1 else 3)
        again = settle(z, variance, SPACING)
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(found, again, strict=True):
        assert torch.equal(one, other)
