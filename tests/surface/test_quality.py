"""Which heights a map ends with, and how far they are trusted."""

import dataclasses

import pytest
import torch
from torch import Tensor

from aquamvs.numerics.filters import halve
from aquamvs.surface.quality import (
    Heights,
    carried,
    final_heights,
    levelled,
    overhanging,
    overshot,
    usual_curvature,
)
from aquamvs.surface.refine import Estimate
from aquamvs.surface.sweep import LAST_PASSES

from .conftest import estimate_of

SPACING, NOISE = 1e-3, 1e-4
CURVATURE = 2.5e5
"""Of the agreement: fixes heights to about NOISE in windows of the last pass."""
SHAPE = (60, 60)


def noise() -> Tensor:
    """Of NOISE, shared by neighbours as matching windows make it."""
    drawn = torch.randn(1, 1, *SHAPE, generator=torch.Generator().manual_seed(2))
    shared = torch.nn.functional.avg_pool2d(drawn, 5, stride=1, padding=2)[0, 0]
    return NOISE * shared / shared.std()


def sigma_of(found: Heights) -> Tensor:
    """If residuals say what noise there is."""
    return (found.own + found.taken).sqrt()


def test_cells_that_scatter_by_nothing_do_not_pull_the_others() -> None:
    """A scrap at the border, on a slope of its own and smooth to the last bit by chance."""
    z = 1.0 + noise()
    z[:12, 40:] = torch.nan
    column = torch.arange(12)
    z[:8, 48:] = 1.0 + 4e-4 * column + 1e-6 * (column % 2)
    height = final_heights(estimate_of(z, CURVATURE), LAST_PASSES[-1], SPACING).z
    bed = height[14:]
    assert torch.isfinite(bed).all()
    assert float((bed - 1.0).abs().max()) < 2 * NOISE


def test_plain_cells_beside_an_edge_follow_those_that_have_texture() -> None:
    """Their windows end at the edge: they repeat its height, on whatever slope they came with."""
    estimate = estimate_of(1.0 + noise(), CURVATURE)
    plain = (slice(20, 40), slice(26, 34))
    estimate.z[plain] += 20 * NOISE
    biased = final_heights(estimate, LAST_PASSES[-1], SPACING).z
    estimate.own_texture[plain] = 0.0
    height = final_heights(estimate, LAST_PASSES[-1], SPACING).z
    core = (slice(24, 36), slice(28, 32))
    assert float((height - 1.0)[core].mean()) < 0.5 * float((biased - 1.0)[core].mean())


def test_edges_along_the_motion_give_way_to_those_across_it_on_a_slope() -> None:
    """Blur, which differs between views there, shifts their match; neighbours share the shift."""
    edge, core = (slice(20, 40), slice(26, 34)), (slice(24, 36), slice(28, 32))

    def kept(slope: float) -> float:
        """Share of a shift that cells of an edge along the motion keep, over that of others."""
        plane = 1.0 + slope * SPACING * torch.arange(SHAPE[1]).expand(SHAPE)
        estimate = estimate_of(plane + noise(), CURVATURE)
        estimate.z[edge] += 6 * NOISE
        shifts = []
        for falloff in (1, 3):
            estimate.curvature[edge] /= falloff
            estimate.spread[edge] /= falloff  # residuals say the same of both
            height = final_heights(estimate, LAST_PASSES[-1], SPACING).z
            shifts.append(float((height - plane)[core].mean()))
        return shifts[1] / shifts[0]

    assert kept(0.9) < kept(0.45) < kept(0.0)
    assert kept(0.9) < 0.1
    assert kept(0.0) > 0.5


def test_heights_that_are_less_certain_than_the_images_resolve_are_left_out() -> None:
    estimate = estimate_of(1.0 + noise(), CURVATURE)
    estimate.lever[:, 30:] *= 100
    found = final_heights(estimate, LAST_PASSES[-1], SPACING)
    height, sigma = found.z, sigma_of(found)
    assert torch.isfinite(height[:, :30]).all()
    known = torch.isfinite(height)
    assert float(known[:, 30:].double().mean()) < 0.5
    each_view = estimate.lever / estimate.effective_views.sqrt()
    assert float((sigma * each_view)[known].max()) < 0.25


def test_views_that_agree_do_not_make_a_height_less_certain_by_their_number() -> None:
    """Relief that windows do not resolve is as uncertain in five views as in twenty."""
    estimate = estimate_of(1.0 + 12 * noise(), CURVATURE)
    few = final_heights(estimate, LAST_PASSES[-1], SPACING).z
    many = dataclasses.replace(
        estimate, lever=2 * estimate.lever, effective_views=4 * estimate.effective_views
    )
    more = final_heights(many, LAST_PASSES[-1], SPACING).z
    assert torch.isfinite(few).double().mean() > 0.9
    assert torch.isfinite(more).double().mean() > 0.9


def test_relief_beyond_the_noise_of_the_residuals_does_not_settle() -> None:
    """Neighbours scatter alike by noise and by gravel: only the residuals tell these apart."""
    x = torch.arange(SHAPE[1]) * SPACING
    gravel = (1.0 + 4 * NOISE * torch.sin(2 * torch.pi * x / (12 * SPACING))).expand(SHAPE)
    sure = dataclasses.replace(estimate_of(gravel, CURVATURE), spread=torch.full(SHAPE, 1e-3))
    noisy = dataclasses.replace(estimate_of(gravel, CURVATURE), spread=torch.full(SHAPE, 0.35))
    inner = slice(10, -10)
    kept, flat = (
        float(final_heights(each, LAST_PASSES[-1], SPACING).z[inner, inner].std())
        for each in (sure, noisy)
    )
    assert kept > 0.9 * float(gravel[inner, inner].std())
    assert flat < 0.6 * float(gravel[inner, inner].std())


def test_sigma_covers_what_neighbours_scatter_by_beyond_the_residuals() -> None:
    rough = estimate_of(1.0 + 8 * noise(), CURVATURE)
    found = final_heights(rough, LAST_PASSES[-1], SPACING)
    within = float(((found.z - 1.0).abs() < sigma_of(found)).double().mean())
    assert within > 0.5


def test_sigma_says_what_noise_is_left() -> None:
    found = final_heights(estimate_of(1.0 + noise(), CURVATURE), LAST_PASSES[-1], SPACING)
    within = float(((found.z - 1.0).abs() < sigma_of(found)).double().mean())
    assert 0.5 < within < 0.95
    assert float(found.confidence.min()) > 0.5


def test_planes_average_no_error_that_neighbours_share() -> None:
    """Views that agree to the last bit are still 0.005 px off, each, wherever the bed is plain."""
    sure = estimate_of(torch.ones(SHAPE), CURVATURE)
    found = final_heights(
        dataclasses.replace(sure, spread=torch.full(SHAPE, 1e-9)), LAST_PASSES[-1], SPACING
    )
    assert float((sigma_of(found) * sure.lever).min()) == pytest.approx(0.005, rel=0.2)


def test_sigma_beside_a_wall_tells_level_ground_from_a_steep_slope() -> None:
    """Edges along the motion slide on a steep slope; a wall is none."""

    def sigma(slope: float) -> float:
        """Beside a wall, where edges run along the motion."""
        z = 1.0 + noise().repeat(2, 2) + slope * SPACING * torch.arange(120)
        z[:, 60:] -= 20 * SPACING
        estimate = estimate_of(z, CURVATURE)
        estimate.curvature[40:80] /= 4
        found = final_heights(estimate, LAST_PASSES[-1], SPACING)
        return float(sigma_of(found)[45:75, 48:56].median())

    assert sigma(0.8) > 1.3 * sigma(0.0)


def test_an_island_that_one_chance_match_explains_is_left_out() -> None:
    z = 1.0 + noise()
    z[20:34, 20:34] -= 3 * SPACING
    found = final_heights(estimate_of(z, CURVATURE), LAST_PASSES[-1], SPACING)
    island = (slice(22, 32), slice(22, 32))
    assert torch.isnan(found.z[island]).all()
    assert (found.confidence[island] == 0).all()
    assert torch.isfinite(found.z[:16]).all()


def test_a_box_that_many_windows_see_stays() -> None:
    z = 1.0 + noise()
    z[15:40, 15:40] -= 20 * SPACING
    height = final_heights(estimate_of(z, CURVATURE), LAST_PASSES[-1], SPACING).z
    assert torch.isfinite(height[18:37, 18:37]).all()


def test_the_last_cells_before_a_jump_down_are_told() -> None:
    """Z points down: a box of 10 x 10 cells, 20 cells high, on a slope of 0.5."""
    z = (1.0 + 0.5 * SPACING * torch.arange(SHAPE[1])).repeat(SHAPE[0], 1)
    z[20:30, 20:30] -= 20 * SPACING
    rim = torch.zeros(SHAPE, dtype=torch.bool)
    rim[20:30, 20:30], rim[22:28, 22:28] = True, False
    assert torch.equal(overhanging(z, z, SPACING), rim)


def test_a_stray_match_is_no_relief_that_was_levelled() -> None:
    estimate = estimate_of(1.0 + noise(), CURVATURE)
    estimate.z[30, 30] += 10 * SPACING
    settled = torch.ones(SHAPE)
    settled[:5] = torch.nan
    shows = torch.isfinite(settled)
    shows[30, 30] = False
    expected = halve(torch.where(shows, (estimate.z - settled).square(), 0.0))
    assert torch.equal(levelled(estimate, settled, torch.ones(SHAPE), SPACING), expected)


def test_what_happens_at_a_jump_is_no_relief_that_was_levelled() -> None:
    """Its five cells of either side; those of half the jump that counts are none."""
    estimate = estimate_of(1.0 + noise(), CURVATURE)
    settled = torch.ones(SHAPE)
    for height, cells in ((7, 10), (3, 0)):
        bridged = settled.clone()
        bridged[:, 30:] -= height * SPACING
        kept = torch.ones(SHAPE, dtype=torch.bool)
        kept[:, 30 - cells // 2 : 30 + cells // 2] = False
        expected = halve(torch.where(kept, (estimate.z - settled).square(), 0.0))
        assert torch.equal(levelled(estimate, settled, bridged, SPACING), expected)


def test_a_steep_slope_is_no_jump() -> None:
    z = (1.0 + 2.5 * SPACING * torch.arange(SHAPE[1])).expand(SHAPE)
    assert not overhanging(z, z, SPACING).any()


@pytest.mark.parametrize("count", [2, 8])
def test_texture_counts_the_same_in_few_views_and_in_many(count: int) -> None:
    """Agreement is a mean over one degree of freedom less than there are views; levers add up."""

    def seen_by(views: int) -> Estimate:
        estimate = estimate_of(torch.ones(SHAPE), CURVATURE)
        lever2 = estimate.lever.square() * views
        return dataclasses.replace(
            estimate,
            lever=lever2.sqrt(),
            effective_views=torch.full(SHAPE, float(views)),
            curvature=lever2 / (views - 1),
        )

    assert usual_curvature(seen_by(count)) == pytest.approx(usual_curvature(seen_by(4)))


def test_windows_ride_on_beyond_relief_that_they_smoothed() -> None:
    """Half of the ripples of the map's right side is found from a level surface."""
    column = torch.arange(SHAPE[1]).expand(SHAPE)
    ripples = torch.where(column < 30, 0.0, 20 * NOISE * torch.sin(column * 2 * torch.pi / 12))
    level = torch.ones(SHAPE)
    estimate = estimate_of(1.0 + 0.5 * ripples + 0.1 * noise(), CURVATURE)
    ride = overshot(estimate, LAST_PASSES[-1], SPACING, level)
    known = overshot(estimate, LAST_PASSES[-1], SPACING, estimate.z)
    rough, plain = (slice(10, 50), slice(40, 60)), (slice(10, 50), slice(0, 20))
    left = (1.0 + ripples - ride)[rough].abs().mean()
    assert left < 0.8 * (1.0 + ripples - known)[rough].abs().mean()
    assert torch.equal(ride[plain], known[plain])


def test_windows_ride_no_further_where_they_found_what_was_known() -> None:
    estimate = estimate_of(1.0 + noise(), CURVATURE)
    known = overshot(estimate, LAST_PASSES[-1], SPACING, estimate.z)
    assert torch.equal(overshot(estimate, LAST_PASSES[-1], SPACING, known), known)


def varied() -> Estimate:
    """A bed with a box, a gap, plain cells, edges along the motion, and views that disagree."""
    z = 1.0 + 3 * noise()
    z[15:40, 15:40] -= 20 * SPACING
    z[45:50, 5:25] = torch.nan
    estimate = estimate_of(z, CURVATURE)
    drawn = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(4))
    estimate.spread[:] = 0.4 * drawn[0]
    estimate.curvature.mul_(10 ** (1 - 2 * drawn[1]))
    estimate.own_texture[:] = drawn[2]
    estimate.effective_views.mul_(0.3 + drawn[3])
    estimate.curvature[drawn[4] > 0.97] = 0.0
    unseen = drawn[5] > 0.97
    estimate.z[unseen], estimate.spread[unseen] = torch.nan, torch.inf
    return estimate


def test_compiled_judgement_agrees_with_tensor_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, level = LAST_PASSES[-1], torch.ones(SHAPE)

    def results() -> list[Tensor]:
        found = final_heights(varied(), plan, SPACING)
        assert torch.isfinite(found.z).any()
        assert torch.isnan(found.z).any()
        ahead = overshot(varied(), plan, SPACING, level)
        known = torch.isfinite(found.z)
        variances = [variance[known] for variance in (found.own, found.taken)]
        return [found.z, carried(varied(), plan, SPACING), ahead, found.confidence, *variances]

    compiled = results()
    monkeypatch.setattr("aquamvs.surface.quality.has_kernels", lambda _: False)
    reference = results()
    for one, other in zip(compiled[:4], reference[:4], strict=True):
        assert torch.equal(torch.isnan(one), torch.isnan(other))
        assert float((one - other).nan_to_num().abs().max()) < 1e-2 * NOISE
    for one, other in zip(compiled[4:], reference[4:], strict=True):
        assert torch.allclose(one, other, rtol=2e-3, atol=1e-4 * NOISE**2)
