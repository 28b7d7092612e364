"""Change of height maps: volumes of known bodies, noise that moves nothing, unmoved ground."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from aquamvs.errors import DataError, ShapeError
from aquamvs.evaluation import HeightDifference, height_difference, save_height_difference
from aquamvs.types import HeightMap

SPACING, SIGMA, RADIUS = 0.002, 0.0004, 5
"""Cell size and sigma in metres, and cells over which errors are correlated, as the sweep has."""


def flat_bed(z: float = 1.5, *, side: int = 200) -> Tensor:
    return torch.full((side, side), z, dtype=torch.float64)


def height_map(z: Tensor, *, sigma: float = SIGMA, x0: float = 0.0) -> HeightMap:
    known = torch.isfinite(z)
    sigmas = torch.where(known, sigma, torch.nan)
    colour = torch.zeros(*z.shape, 3)
    return HeightMap(x0, 0.0, SPACING, z, sigmas, known.float(), known.int(), colour)


def noisy(z: Tensor, seed: int) -> HeightMap:
    """Errors of standard deviation ``SIGMA``, correlated as those of a matching window are."""
    white = np.random.default_rng(seed).standard_normal(tuple(z.shape))
    smooth = gaussian_filter(white, RADIUS / 2)  # its correlation has RADIUS / sqrt(2)
    return height_map(z + SIGMA * torch.from_numpy(smooth / smooth.std()))


def cone(height: float, radius: float, *, side: int = 200) -> Tensor:
    """A heap in the middle of the bed: what it rises above it."""
    place = SPACING * (torch.arange(side, dtype=torch.float64) - side / 2)
    distance = torch.hypot(place[:, None], place[None, :])
    return (height * (1 - distance / radius)).clamp(min=0)


def change(before: HeightMap, after: HeightMap, **options: object) -> HeightDifference:
    arguments = {"min_significance": 2.0, "correlation_length": RADIUS * SPACING} | options
    return height_difference(before, after, **arguments)  # type: ignore[arg-type]


def test_a_noisy_heap_has_the_volume_of_its_cone_within_the_stated_uncertainty() -> None:
    height, radius = 0.02, 0.15
    volume = math.pi * radius**2 * height / 3
    ratios = []
    for seed in range(16):
        bed = flat_bed()
        heaped = bed - cone(height, radius)
        found = change(noisy(bed, 2 * seed), noisy(heaped, 2 * seed + 1))
        assert found.volume_up == pytest.approx(volume, rel=0.04)
        assert found.volume_down < 0.01 * volume
        assert found.area_up > 0.95 * math.pi * radius**2
        ratios.append((found.volume_up - volume) / found.volume_up_sigma)
    assert 0.6 < np.sqrt(np.mean(np.square(ratios))) < 1.4


def test_the_edge_of_a_region_adds_the_noise_of_a_rim_one_correlation_radius_wide() -> None:
    bed = flat_bed()
    found = change(height_map(bed), height_map(bed - cone(0.02, 0.1)))
    region = math.sqrt(found.area_up / math.pi) / SPACING  # radius of the disk, cells
    together = math.pi * RADIUS**2 * 2 * SIGMA**2
    cells = math.pi * (region + RADIUS) ** 2  # the region's own and the rim's
    expected = SPACING**2 * math.sqrt(together * cells)
    assert found.volume_up_sigma == pytest.approx(expected, rel=0.02)
    alone = change(height_map(bed), height_map(bed - cone(0.02, 0.1)), correlation_length=None)
    inside = SPACING**2 * SIGMA * math.sqrt(2 * alone.area_up / SPACING**2)
    assert alone.volume_up_sigma == pytest.approx(inside, rel=1e-6)


def test_the_sum_over_single_significant_cells_would_lose_the_foot_of_the_heap() -> None:
    """Why regions grow: the flat foot of a heap is below the noise, cell by cell."""
    height, radius = 0.0025, 0.15
    bed = flat_bed()
    before, after = noisy(bed, 4), noisy(bed - cone(height, radius), 5)
    found = change(before, after)
    volume = math.pi * radius**2 * height / 3
    cells = found.significance >= 2
    single = float(found.rise[cells].sum()) * SPACING**2
    assert single < 0.9 * volume
    assert abs(found.volume_up - volume) < 0.5 * abs(single - volume)


def test_correlated_noise_moves_next_to_nothing() -> None:
    bed = flat_bed()
    found = [change(noisy(bed, seed), noisy(bed, seed + 100)) for seed in range(8)]
    moved = np.mean([float((each.moved != 0).double().mean()) for each in found])
    by_cell = np.mean([float((each.significance.abs() >= 2).double().mean()) for each in found])
    assert by_cell == pytest.approx(0.0455, abs=0.01)
    assert moved < 0.03
    biggest = max(abs(each.net_volume) for each in found)
    noise = [float(each.rise.sum()) * SPACING**2 for each in found]
    assert biggest < 0.05 * math.pi * 0.15**2 * 0.02 / 3  # against the heap of the first test
    whole = SPACING**2 * math.sqrt(math.pi) * RADIUS * 2**0.5 * SIGMA * 200
    assert np.std(noise) == pytest.approx(whole, rel=0.6)


def test_pit_and_heap_are_told_apart_and_swap_with_the_maps() -> None:
    bed = flat_bed()
    shape = cone(0.02, 0.08)
    dug = bed - torch.roll(shape, 45, 1) + torch.roll(shape, -45, 1)
    there, back = change(height_map(bed), height_map(dug)), change(height_map(dug), height_map(bed))
    assert there.volume_up == pytest.approx(there.volume_down, rel=1e-6)
    assert there.volume_up == pytest.approx(math.pi * 0.08**2 * 0.02 / 3, rel=1e-2)
    assert torch.equal(there.moved, -back.moved)
    assert (there.volume_up, there.volume_down) == (back.volume_down, back.volume_up)
    assert there.net_volume == pytest.approx(0, abs=1e-12)


def test_stable_ground_takes_a_shift_of_the_water_level_off() -> None:
    bed, heap, shift = flat_bed(), cone(0.02, 0.1), 0.0015
    stable = heap == 0
    before, after = noisy(bed, 0), noisy(bed - heap - shift, 1)
    lifted = change(before, after)
    levelled = change(before, after, stable=stable)
    volume = math.pi * 0.1**2 * 0.02 / 3
    assert lifted.volume_up > 1.5 * volume
    assert levelled.volume_up == pytest.approx(volume, abs=3 * levelled.volume_up_sigma)
    assert levelled.offset == pytest.approx(shift, abs=4 * levelled.offset_sigma)
    assert levelled.stable_scatter == pytest.approx(1.0, abs=0.15)
    assert levelled.volume_up_sigma > lifted.volume_up_sigma * math.sqrt(
        levelled.area_up / lifted.area_up
    )  # the ground's own uncertainty is in it
    assert (lifted.offset, lifted.offset_sigma, lifted.stable_scatter) == (0.0, 0.0, None)


def test_stable_ground_must_be_on_both_maps() -> None:
    z = flat_bed(side=20)
    z[:5] = torch.nan
    stable = torch.zeros(20, 20, dtype=torch.bool)
    stable[:5] = True
    with pytest.raises(DataError, match="stable ground has no cell"):
        change(height_map(z), height_map(z), stable=stable)
    with pytest.raises(ShapeError, match="stable"):
        change(height_map(z), height_map(z), stable=stable[:3])


def test_unknown_cells_stay_out_and_do_not_spread() -> None:
    bed, heap = flat_bed(), cone(0.02, 0.1)
    holes = bed - heap
    holes[::7, ::7] = torch.nan
    found = change(height_map(bed), height_map(holes))
    assert not bool(found.moved[torch.isnan(found.rise)].any())
    known = torch.isfinite(found.rise)
    assert found.volume_up == pytest.approx(float(heap[known].sum()) * SPACING**2, rel=1e-3)


def test_maps_without_any_noise_are_compared_exactly() -> None:
    bed, heap = flat_bed(), cone(0.02, 0.1)
    found = change(height_map(bed, sigma=0.0), height_map(bed - heap, sigma=0.0))
    assert found.volume_up == pytest.approx(float(heap.sum()) * SPACING**2, rel=1e-3)
    assert found.volume_up_sigma == 0
    same = change(height_map(bed, sigma=0.0), height_map(bed, sigma=0.0))
    assert same.volume_up == same.volume_down == 0


def test_the_maps_are_written_with_their_place(tmp_path: Path) -> None:
    bed = flat_bed(side=80)
    after = height_map(bed - cone(0.02, 0.02, side=80))
    found = change(height_map(bed, x0=0.25), HeightMap(0.25, *_without_x0(after)))
    save_height_difference(tmp_path / "a.npz", found)
    save_height_difference(tmp_path / "b.npz", found)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        assert float(archive["x0"]) == 0.25
        assert np.allclose(archive["rise"], found.rise, equal_nan=True)
        assert set(archive["moved"].ravel()) == {0, 1}
        assert archive["sigma"].dtype == archive["significance"].dtype == np.float32
    assert set(found.as_dict()) >= {"volume_up", "offset", "area_down"}
    assert "rise" not in found.as_dict()


def _without_x0(height: HeightMap) -> tuple[object, ...]:
    names = ("y0", "spacing", "z", "sigma", "confidence", "view_count", "color")
    return tuple(getattr(height, name) for name in names)
