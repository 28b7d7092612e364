"""Height maps: bilinear truth, steps, volumes of known bodies."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aquamvs.errors import DataError
from aquamvs.evaluation import HeightGrid, height_difference, height_errors
from aquamvs.types import HeightMap


def height_map(z: Tensor, *, x0: float = 0.0, y0: float = 0.0, spacing: float = 0.01, sigma=0.001):
    known = torch.isfinite(z)
    return HeightMap(
        x0,
        y0,
        spacing,
        z,
        torch.where(known, sigma, torch.nan),
        known.float(),
        known.int(),
        torch.zeros(*z.shape, 3),
    )


def _plane(grid: HeightMap | HeightGrid, a: float, b: float) -> Tensor:
    rows, columns = grid.z.shape
    x = grid.x0 + grid.spacing * torch.arange(columns, dtype=torch.float64)
    y = grid.y0 + grid.spacing * torch.arange(rows, dtype=torch.float64)
    return 1.5 + a * x[None, :] + b * y[:, None]


@given(a=st.floats(-1, 1), b=st.floats(-1, 1), x0=st.floats(0.0, 0.05), y0=st.floats(0.0, 0.05))
def test_a_plane_is_interpolated_exactly_between_nodes(
    a: float, b: float, x0: float, y0: float
) -> None:
    truth = HeightGrid(-0.1, -0.1, 0.037, torch.zeros(12, 14))
    truth = HeightGrid(-0.1, -0.1, 0.037, _plane(truth, a, b))
    blank = height_map(torch.zeros(20, 20).double(), x0=x0, y0=y0)
    exact = height_map(_plane(blank, a, b), x0=x0, y0=y0)
    errors = height_errors(exact, truth)
    assert errors.count == 400
    assert errors.max_abs < 1e-12


def test_the_truth_ends_at_its_grid_and_at_unknown_nodes() -> None:
    z = torch.zeros(5, 5)
    z[2, 2] = torch.nan
    grid = HeightGrid(0.0, 0.0, 1.0, z)
    x = torch.tensor([0.0, 4.0, 4.01, -0.01, 2.0, 1.5, 1.0, 2.0])
    y = torch.tensor([0.0, 4.0, 0.0, 0.0, 2.0, 1.5, 2.0, 1.0])
    known = [True, True, False, False, False, False, True, True]
    assert (~torch.isnan(torch.from_numpy(grid.at(x, y)))).tolist() == known


def test_errors_near_a_wall_are_told_apart() -> None:
    truth_z = torch.full((40, 40), 1.5)
    truth_z[:, 20:] = 1.4  # a wall of 0.1 m
    truth = HeightGrid(0.0, 0.0, 0.01, truth_z)
    z = truth_z.clone()
    z[:, 19:21] += 0.03  # smeared edge
    z[:, :5] += 0.002
    errors = height_errors(height_map(z), truth, step_radius=0.02)
    assert errors.near_steps.count == 40 * 6  # two cells of the wall and two on either side
    assert errors.near_steps.max_abs == pytest.approx(0.03, rel=1e-4)
    assert errors.away_from_steps.max_abs == pytest.approx(0.002, rel=1e-3)
    assert errors.near_steps.count + errors.away_from_steps.count == errors.count == 1600
    smooth = height_errors(
        height_map(torch.full((40, 40), 1.5)), HeightGrid(0, 0, 0.01, truth_z * 0)
    )
    assert smooth.near_steps.count == 0


def test_steepness_decides_what_a_step_is() -> None:
    blank = HeightGrid(0.0, 0.0, 0.01, torch.zeros(10, 10))
    slope = HeightGrid(0.0, 0.0, 0.01, _plane(blank, math.tan(math.radians(50)), 0.0))
    at = torch.tensor([0.05]), torch.tensor([0.05])
    assert slope.distance_to_step(*at, steep_deg=60)[0] == math.inf
    assert slope.distance_to_step(*at, steep_deg=45)[0] == 0


def test_volume_of_a_cone_that_was_heaped_up() -> None:
    spacing, radius, height = 0.005, 0.2, 0.06
    flat = height_map(torch.full((101, 101), 1.5), x0=-0.25, y0=-0.25, spacing=spacing)
    x, y = flat.grid_xy()
    cone = (height * (1 - torch.hypot(x, y) / radius)).clamp(min=0)
    heaped = height_map((1.5 - cone).float(), x0=-0.25, y0=-0.25, spacing=spacing)
    change = height_difference(flat, heaped)
    volume = math.pi * radius**2 * height / 3
    assert change.volume_up == pytest.approx(volume, rel=1e-3)
    assert change.volume_down == 0
    assert change.net_volume == change.volume_up
    assert change.area == pytest.approx(0.505**2)
    back = height_difference(heaped, flat)
    assert back.volume_down == pytest.approx(change.volume_up, rel=1e-12)
    assert torch.equal(back.rise, -change.rise)


def test_volume_uncertainty_of_independent_and_of_correlated_cells() -> None:
    sigma, spacing, count = 0.002, 0.01, 400
    before = height_map(torch.full((20, 20), 1.5), sigma=sigma)
    after = height_map(torch.full((20, 20), 1.4), sigma=sigma)
    per_cell = 2**0.5 * sigma * spacing**2
    independent = height_difference(before, after)
    assert independent.volume_up_sigma == pytest.approx(per_cell * count**0.5, rel=1e-6)
    assert float(independent.significance[0, 0]) == pytest.approx(0.1 / (2**0.5 * sigma), rel=1e-5)
    length = 0.03
    patch = math.pi * length**2 / spacing**2
    correlated = height_difference(before, after, correlation_length=length)
    assert correlated.volume_up_sigma == pytest.approx(per_cell * (count * patch) ** 0.5, rel=1e-6)
    shared = height_difference(before, after, correlation_length=10.0)
    assert shared.volume_up_sigma == pytest.approx(per_cell * count, rel=1e-6)


def test_noise_alone_moves_no_significant_volume() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [height_map(1.5 + 0.001 * torch.randn(60, 60, generator=generator)) for _ in "ab"]
    change = height_difference(*maps)
    # Half-normal: every cell adds sigma / sqrt(2 pi) to either sum, where nothing moved.
    assert change.volume_up == pytest.approx(
        3600 * 1e-4 * 2**0.5 * 0.001 / math.sqrt(2 * math.pi), rel=0.06
    )
    detected = height_difference(*maps, min_significance=4)
    assert detected.volume_up < 0.01 * change.volume_up
    assert abs(change.net_volume) < 3 * change.net_volume_sigma


def test_maps_on_shifted_grids_are_compared_where_they_overlap() -> None:
    blank = height_map(torch.zeros(20, 20).double())
    before = height_map(_plane(blank, 0.3, -0.2))
    other = height_map(torch.zeros(30, 30).double(), x0=0.053, y0=-0.021, spacing=0.007)
    after = height_map(_plane(other, 0.3, -0.2) - 0.01, x0=0.053, y0=-0.021, spacing=0.007)
    change = height_difference(before, after)
    known = torch.isfinite(change.rise)
    assert known.any()
    assert not known.all()
    assert torch.allclose(change.rise[known], torch.tensor(0.01).double(), atol=1e-12)
    assert change.volume_up == pytest.approx(0.01 * change.area, rel=1e-9)
    assert set(change.as_dict()) >= {"volume_up", "net_volume_sigma", "area"}


def test_maps_apart_have_nothing_to_compare() -> None:
    here, there = height_map(torch.zeros(5, 5)), height_map(torch.zeros(5, 5), x0=10.0)
    with pytest.raises(DataError, match="no known cell in common"):
        height_difference(here, there)
