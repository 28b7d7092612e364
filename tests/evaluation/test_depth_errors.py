"""Depth statistics against values that follow from the construction of the errors."""

import json
import math

import pytest
import torch
from torch import Tensor

from aquamvs.errors import DataError, ShapeError
from aquamvs.evaluation import depth_errors, pooled_depth_errors
from aquamvs.types import DepthMap


def depth_map(depth: Tensor, sigma: float = 0.001) -> DepthMap:
    known = torch.isfinite(depth)
    return DepthMap(
        "cam0",
        depth,
        known.float(),
        torch.where(known, sigma, torch.nan),
        torch.eye(3, dtype=torch.float64),
    )


def test_a_constant_offset_is_bias_and_nothing_else() -> None:
    truth = torch.full((20, 30), 0.5)
    errors = depth_errors(depth_map(truth + 0.004), truth)
    for value in (errors.median_abs, errors.mean_abs, errors.rms, errors.p90, errors.max_abs):
        assert value == pytest.approx(0.004, rel=1e-4)
    assert errors.bias == pytest.approx(0.004, rel=1e-4)
    assert depth_errors(depth_map(truth - 0.004), truth).bias == pytest.approx(-0.004, rel=1e-4)
    assert errors.beyond[0.002] == 1
    assert errors.beyond[0.005] == 0


def test_one_gross_error_moves_the_rms_as_it_must() -> None:
    truth = torch.full((10, 10), 0.5)
    estimate = truth.clone()
    estimate[0, 0] += 1.0
    errors = depth_errors(depth_map(estimate), truth)
    assert errors.rms == pytest.approx(0.1, rel=1e-6)  # sqrt(1 / 100): nothing is trimmed
    assert errors.max_abs == pytest.approx(1.0, rel=1e-6)
    assert errors.median_abs == 0


def test_normal_errors_at_the_limit_measure_one() -> None:
    generator = torch.Generator().manual_seed(0)
    limit = torch.rand(300, 400, generator=generator) * 0.003 + 0.001
    truth = torch.full((300, 400), 0.5, dtype=torch.float64)
    noise = torch.randn(300, 400, generator=generator)
    estimate = DepthMap(
        "cam0", truth + noise * limit, torch.ones(300, 400), 2 * limit, torch.eye(3)
    )
    errors = depth_errors(estimate, truth, limit)
    assert errors.median_over_limit == pytest.approx(1, abs=0.015)
    assert errors.rms_over_limit == pytest.approx(1, abs=0.015)
    # Its sigma is twice too large: fractions within 2 and 4 standard deviations.
    assert errors.within_1_sigma == pytest.approx(0.9545, abs=0.005)
    assert errors.within_2_sigma == pytest.approx(0.99994, abs=0.001)


def test_coverage_counts_the_truth_and_the_mask() -> None:
    truth = torch.full((10, 10), 0.5)
    truth[9] = torch.nan  # 90 pixels with truth
    estimate = torch.full((10, 10), 0.5)
    estimate[:, :4] = torch.nan
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[:, 3:] = True
    errors = depth_errors(depth_map(estimate), truth, mask=mask)
    assert errors.truth_count == 90
    assert errors.count == 54
    assert errors.coverage == pytest.approx(0.6)
    assert errors.mask_coverage == pytest.approx(6 / 7)
    assert depth_errors(depth_map(estimate), truth).mask_coverage is None


def test_an_empty_map_has_no_errors_rather_than_perfect_ones() -> None:
    truth = torch.full((4, 4), 0.5)
    errors = depth_errors(depth_map(torch.full((4, 4), torch.nan)), truth, truth)
    assert (errors.count, errors.coverage) == (0, 0)
    assert math.isnan(errors.rms)
    assert math.isnan(errors.median_over_limit or 0)
    text = json.dumps(errors.as_dict(), allow_nan=False)
    assert json.loads(text)["rms"] is None


def test_pixels_without_a_limit_count_for_errors_but_not_for_ratios() -> None:
    truth = torch.full((1, 4), 0.5, dtype=torch.float64)
    limit = torch.tensor([[0.001, 0.001, torch.nan, torch.nan]])
    estimate = truth + torch.tensor([[0.002, -0.002, 0.01, 0.01]])
    errors = depth_errors(depth_map(estimate), truth, limit)
    assert errors.rms_over_limit == pytest.approx(2, rel=1e-6)
    assert errors.max_abs == pytest.approx(0.01)


def test_pooling_equals_one_large_map() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(20, 10, generator=generator) + 0.5
    estimate = truth + 0.01 * torch.randn(20, 10, generator=generator)
    estimate[3:5, 2] = torch.nan
    halves = [slice(0, 7), slice(7, 20)]
    pooled = pooled_depth_errors(
        [depth_map(estimate[h]) for h in halves], [truth[h] for h in halves]
    )
    assert pooled == depth_errors(depth_map(estimate), truth)
    assert pooled_depth_errors([], []).count == 0


def test_maps_of_other_shapes_are_refused() -> None:
    truth = torch.zeros(4, 4)
    with pytest.raises(ShapeError, match="truth has shape"):
        depth_errors(depth_map(truth), torch.zeros(4, 5))
    with pytest.raises(DataError, match="0 truth maps for 1 depth maps"):
        pooled_depth_errors([depth_map(truth)], [])
