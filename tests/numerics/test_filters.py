"""Filters of the surface sweep: what they must keep, and what they must take away."""

import pytest
import torch

from aquamvs.maps import grid_normals, height_normals
from aquamvs.numerics.filters import (
    extreme,
    fill_gaps,
    halve,
    isolated,
    local_rms,
    smooth_pairs,
    specks,
    upsample,
)
from tests.simulated_device import simulated_device


def slope(rows: int = 40, columns: int = 50) -> torch.Tensor:
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return 1.0 + 0.02 * row - 0.01 * column


@pytest.mark.usefixtures("engine")
def test_smoothing_keeps_slopes_walls_and_gaps() -> None:
    z = slope()
    z[:, 25:] -= 0.5  # a wall
    z[3, 4] = torch.nan
    smoothed = smooth_pairs(z, torch.full_like(z, 0.01), 1.5)
    assert torch.equal(torch.isnan(smoothed), torch.isnan(z))
    assert (smoothed - z).abs().nan_to_num(0.0).max() < 1e-5


@pytest.mark.usefixtures("engine")
def test_smoothing_takes_noise_away_and_its_amount_tells_how_much_is_left() -> None:
    noise = 0.001 * torch.randn(80, 90, generator=torch.Generator().manual_seed(0))
    z = slope(80, 90) + noise
    smoothed = smooth_pairs(z, torch.full_like(z, 0.01), 1.5)
    left = (smoothed - slope(80, 90)).std()
    assert left < 0.3 * noise.std()
    scatter = local_rms(z - smoothed, torch.ones_like(z, dtype=torch.bool), 3.0)
    assert abs(float(scatter.median() / noise.std()) - 1) < 0.1


def test_a_local_mean_needs_something_known() -> None:
    known = torch.zeros(60, 60, dtype=torch.bool)
    known[:5, :5] = True
    found = local_rms(torch.full((60, 60), 2.0), known, 3.0)
    assert torch.allclose(found[2, 2], torch.tensor(2.0))
    assert torch.isnan(found[40, 40])


@pytest.mark.parametrize("radius", [1, 2, 5, 8])
def test_extremes_are_those_of_the_square(radius: int) -> None:
    z = torch.randn(30, 34, generator=torch.Generator().manual_seed(1))
    side = 2 * radius + 1
    expected = torch.nn.functional.max_pool2d(z[None, None], side, 1, radius)[0, 0]
    assert torch.equal(extreme(z, radius), expected)


@pytest.mark.parametrize("radius", [1, 5])
@pytest.mark.parametrize("shape", [(60, 80), (1, 9), (9, 1)])
def test_compiled_normals_are_those_of_tensor_operations(shape, radius: int) -> None:
    torch.set_num_threads(2)
    generator = torch.Generator().manual_seed(1)
    row, column = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
    z = 6e-3 * torch.rand(shape, generator=generator)
    points = torch.stack([1e-3 * column, 1e-3 * row, z], dim=-1)
    points[torch.rand(shape, generator=generator) < 0.05] = torch.nan
    tilt = 0.2 * torch.randn(*shape, 3, generator=generator)
    towards = torch.nn.functional.normalize(tilt + torch.tensor([0.0, 0.0, -1.0]), dim=-1)
    expected = grid_normals(points.double(), towards.double(), radius=radius)
    found = grid_normals(points, towards, radius=radius)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0, equal_nan=True)


def test_height_normals_are_those_of_the_points() -> None:
    spacing = 0.002
    row, column = torch.meshgrid(torch.arange(300), torch.arange(40), indexing="ij")
    z = 1.2 + 0.004 * torch.sin(row / 7.0) + 0.003 * torch.cos(column / 5.0)
    z[100:120, 10:20] -= 0.05
    z[50, 5:9] = torch.nan
    points = torch.stack([spacing * column, spacing * row, z], dim=-1).double()
    expected = grid_normals(points, points.new_tensor([0.0, 0.0, -1.0]), radius=1)
    found = height_normals(z, spacing)
    assert torch.equal(torch.isnan(found), torch.isnan(expected))
    assert (found - expected).abs().nan_to_num(0.0).max() < 1e-3


def test_filling_keeps_what_is_known_and_continues_a_plane() -> None:
    grid_y, grid_x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    plane = 1 + 0.01 * grid_x - 0.02 * grid_y
    gappy = plane.clone()
    gappy[10:14, 20:24] = torch.nan
    filled = fill_gaps(gappy)
    known = torch.isfinite(gappy)
    assert torch.equal(filled[known], plane[known])
    assert (filled - plane).abs().max() < 0.03


def test_upsampling_undoes_halving_of_a_plane() -> None:
    grid_y, grid_x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    plane = grid_x + 2 * grid_y
    again = upsample(halve(plane), (20, 30))
    assert torch.allclose(again[2:-2, 2:-2], plane[2:-2, 2:-2], atol=1e-4)


def test_strays_and_specks_are_found_and_slopes_are_not() -> None:
    grid_x = torch.arange(60.0).expand(60, 60)
    slope = 0.5 * grid_x
    assert not isolated(slope, 3.0).any()
    assert not specks(slope, 3.0, 50).any()
    stray = slope.clone()
    stray[30, 30] += 10
    assert isolated(stray, 3.0).nonzero().tolist() == [[30, 30]]
    island = slope.clone()
    island[20:24, 20:24] += 20
    found = specks(island, 3.0, 50)
    assert found[21:23, 21:23].all()
    assert not found[:15].any()
    plateau = slope.clone()
    plateau[20:40, 20:40] += 20
    assert not specks(plateau, 3.0, 50)[22:38, 22:38].any()
    few = torch.zeros_like(plateau, dtype=torch.bool)
    few[22:24] = True
    few[:, :19] = True
    assert specks(plateau, 3.0, 50, few)[22:38, 22:38].all()
    assert not specks(plateau, 3.0, 20, few)[22:38, 22:38].any()


def winding(side: int = 61) -> torch.Tensor:
    """One island: rows joined at their ends in turn."""
    z = torch.full((side, side), torch.nan)
    z[::2] = 1.0
    z[1::4, -1] = z[3::4, 0] = 1.0
    return z


@pytest.mark.parametrize("share", [0.3, 0.55, 0.6, 0.9])
def test_a_device_finds_the_specks_that_the_processor_finds(monkeypatch, share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.rand(70, 90, generator=generator)
    z[torch.rand(70, 90, generator=generator) > share] = torch.nan
    counted = torch.rand(70, 90, generator=generator) < 0.5
    cases = [(z, 2.0, 20, None), (z, 0.8, 20, None), (z, 0.8, 9, counted), (z[:1], 2.0, 3, None)]
    cases += [(winding(), 2.0, cells, None) for cells in (1921, 1922)]
    expected = [specks(*case) for case in cases]
    assert not expected[-2].any()
    assert expected[-1].any()
    with simulated_device(monkeypatch) as device:
        for (maps, tolerance, least, some), wanted in zip(cases, expected, strict=True):
            there = None if some is None else some.to(device)
            found = specks(maps.to(device), tolerance, least, there)
            assert found.device.type == device
            assert torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("shape", [(70, 45), (1, 9), (33, 2)])
def test_compiled_rms_agrees_with_tensor_operations(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    known = drawn > -0.5
    known[: shape[0] // 2, : shape[1] // 2] = False  # too few to tell
    values = torch.where(known, drawn, torch.nan)
    compiled = local_rms(values, known, 3.0)
    monkeypatch.setattr("aquamvs.numerics.filters.has_kernels", lambda _: False)
    assert torch.allclose(compiled, local_rms(values, known, 3.0), rtol=1e-5, equal_nan=True)
