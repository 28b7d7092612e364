"""Choosing sources and hypotheses, and the surface for the next level."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquamvs.dense.prior import binomial3, fill_holes, median3, smooth_surface
from aquamvs.dense.selection import best_half_mean, select


@given(st.integers(1, 7), st.integers(0, 999))
@settings(max_examples=40, deadline=None)
def test_better_half_of_those_that_see_counts(sources: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.rand(sources, 4, 5, generator=generator) - 1
    scores[torch.rand(scores.shape, generator=generator) < 0.3] = torch.nan
    result = best_half_mean(scores).numpy()
    for i, j in np.ndindex(4, 5):
        seen = np.sort(scores[:, i, j].numpy())[::-1]
        seen = seen[np.isfinite(seen)]
        kept = seen[: (len(seen) + 1) // 2]
        assert result[i, j] == pytest.approx(kept.mean() if len(kept) else -1.0, abs=1e-6)


def parabola(peak: torch.Tensor, height: float, count: int = 9) -> torch.Tensor:
    number = torch.arange(count, dtype=torch.float64)[:, None, None]
    return height - 0.02 * (number - peak) ** 2


@given(st.floats(1.01, 6.99), st.floats(0.2, 0.9))
@settings(max_examples=40, deadline=None)
def test_optimum_of_a_parabola_is_found_exactly(peak: float, height: float) -> None:
    scores = parabola(torch.tensor([[peak]], dtype=torch.float64), height)[None]
    winners = select(scores)
    assert winners.bracketed.all()
    assert winners.index.item() == pytest.approx(peak, abs=1e-9)
    assert winners.curvature.item() == pytest.approx(0.04, abs=1e-9)
    assert winners.sources.item() == pytest.approx(1)


def test_optimum_at_an_end_is_not_bracketed() -> None:
    for peak, end in ((-0.8, 0), (8.7, 8)):
        winners = select(parabola(torch.tensor([[peak]], dtype=torch.float64), 0.8)[None])
        assert not winners.bracketed.any()
        assert winners.index.item() == end


def test_source_that_does_not_see_the_surface_stays_out() -> None:
    """Two sources agree on hypothesis 3.3; two occluded ones vote for others, more weakly."""
    peaks = torch.tensor([3.3, 3.3, 6.0, 7.0], dtype=torch.float64)
    scores = torch.stack(
        [parabola(p.reshape(1, 1), h) for p, h in zip(peaks, (0.9, 0.88, 0.4, 0.3), strict=True)]
    )
    winners = select(scores)
    # What correlates at 0.2 there still has some weight: an eighth of a hypothesis at most.
    assert winners.index.item() == pytest.approx(3.3, abs=0.13)
    assert 2 <= winners.sources.item() < 2.5


def test_rival_outside_of_the_peak_is_reported() -> None:
    scores = parabola(torch.tensor([[2.0]], dtype=torch.float64), 0.9)
    scores[7] = 0.85
    winners = select(scores[None])
    assert winners.index.item() == pytest.approx(2.0)
    assert winners.rival.item() == pytest.approx(0.85)


def test_pixel_that_no_source_sees_is_unknown() -> None:
    scores = torch.full((3, 5, 2, 2), torch.nan)
    scores[:, :, 0] = 0.5 + 0.1 * torch.rand(3, 5, 2, generator=torch.Generator().manual_seed(0))
    winners = select(scores)
    assert winners.index[1].isnan().all()
    assert (winners.sources[1] == 0).all()
    assert winners.index[0].isfinite().all()


def test_order_of_sources_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(4, 6, 5, 5, generator=generator, dtype=torch.float64)
    one, other = select(scores), select(scores.flip(0))
    torch.testing.assert_close(one.index, other.index)
    torch.testing.assert_close(one.score, other.score)


def test_filling_keeps_what_is_trusted_and_continues_constants() -> None:
    values = torch.full((23, 17), 0.4)
    weight = torch.zeros(23, 17)
    weight[3:6, 2:5] = 1
    filled = fill_holes(torch.where(weight > 0, values, 99.0), weight)
    torch.testing.assert_close(filled, values)


@given(st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_filled_values_stay_within_the_known_ones(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values, chance = torch.rand(2, 13, 21, generator=generator)
    weight = (chance < 0.2).float()
    weight[0, 0] = 1
    filled = fill_holes(values, weight)
    known = weight == 1
    assert torch.equal(filled[known], values[known])
    assert filled.min() >= values[known].min() - 1e-6
    assert filled.max() <= values[known].max() + 1e-6


def test_median_and_binomial_leave_planes_alone() -> None:
    v, u = torch.meshgrid(torch.arange(8.0), torch.arange(9.0), indexing="ij")
    plane = 2 + 0.5 * u - 0.25 * v
    for smooth in (median3, binomial3):
        torch.testing.assert_close(smooth(plane)[1:-1, 1:-1], plane[1:-1, 1:-1])


def test_single_outlier_does_not_bend_the_surface() -> None:
    depth = torch.full((11, 11), 0.3)
    depth[5, 5] = 0.9
    depth[2, 8] = torch.nan
    torch.testing.assert_close(smooth_surface(depth, torch.ones(11, 11)), torch.full((11, 11), 0.3))
