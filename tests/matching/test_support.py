"""Whether the depths of the matches around bear a match out."""

import math

import pytest
import torch

from aquamvs.matching.guidance import Candidates
from aquamvs.matching.support import support

SIDE = 6
RATE = 1000.0
"""Pixels per metre: a millimetre of depth is a pixel."""


@pytest.fixture
def grid():
    """Sure matches on a grid, all equally deep but one, and their keypoints in both views."""
    v, u = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    pixels = 20.0 * torch.stack([u, v], -1).reshape(-1, 2).float()
    each = torch.arange(len(pixels))
    level = torch.full((len(pixels),), 0.5)
    level[14] += 0.05
    return Candidates(each, each), (pixels, pixels + 30), level


def added(candidates, pixels, level, logit=5.0):
    count = len(candidates)
    logits = torch.full((count,), logit, dtype=torch.float64)
    return support(logits, candidates, pixels, level, torch.full((count,), RATE))


def test_agreement_speaks_for_a_match_and_a_depth_of_its_own_against_it(grid):
    result = added(*grid)
    others = torch.arange(len(result)) != 14
    torch.testing.assert_close(result[others], torch.full_like(result[others], 5 * math.log(4)))
    assert float(result[14]) == pytest.approx(5 * (math.log(4) - math.log(51)), rel=1e-4)


def test_beside_a_step_each_side_bears_itself_out(grid):
    candidates, pixels, _ = grid
    level = torch.where(pixels[0][:, 0] > 50, 0.6, 0.4)
    assert (added(candidates, pixels, level) > 0).all()


def test_a_single_wrong_neighbour_bears_nothing_out(grid):
    candidates, pixels, level = grid
    level[15] = level[14]  # the two agree with each other and with nobody else
    assert (added(candidates, pixels, level)[14:16] < 0).all()


def test_rivals_are_judged_by_others_than_themselves(grid):
    """A second partner of keypoint 0, at another depth; neither counts as the other's neighbour."""
    candidates, pixels, level = grid
    rival = Candidates(
        torch.cat([candidates.reference, torch.tensor([0])]),
        torch.cat([candidates.source, torch.tensor([35])]),
    )
    result = added(rival, pixels, torch.cat([level, torch.tensor([0.52])]))
    assert result[0] > 0
    assert result[-1] < 0


def test_unsure_matches_bear_nothing_out(grid):
    assert (added(*grid, logit=2.0) == 0).all()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_sure_matches_say_nothing(grid, count):
    candidates, pixels, level = grid
    few = candidates.select(torch.arange(count))
    assert (added(few, pixels, level[:count]) == 0).all()


def test_points_of_unknown_depth_find_no_support_and_give_none(grid):
    candidates, pixels, level = grid
    level[20] = torch.nan
    result = added(candidates, pixels, level)
    assert result.isfinite().all()
    assert result[20] < 0
    assert result[21] > 0
