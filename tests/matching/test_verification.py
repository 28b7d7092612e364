"""Whether the images know a neighbour along the epipolar curve from the true place."""

import dataclasses
import math

import torch

from aquamvs.matching import DetectionOptions
from aquamvs.matching.guidance import Candidates
from aquamvs.matching.transfer import GreyPair
from aquamvs.matching.verification import (
    look_alikes,
    match_evidence,
    verified_probability,
)

COUNT = 64
EXACT = (1.0, 1.0)
"""Keypoints are detected in the views' own pixels."""


def lead(views, first, second):
    each = torch.arange(len(first))
    pair = GreyPair.of(views)
    return match_evidence(Candidates(each, each), pair, (first, second), EXACT).lead


def test_true_places_lead_and_neighbours_along_the_curve_trail(rendered, true_places):
    views = rendered["west"], rendered["east"]
    pixels, target, along = true_places
    assert (lead(views, pixels, target) > 0).float().mean() > 0.97
    for shift in (-5.0, 4.0, 6.0):
        assert (lead(views, pixels, target + shift * along) < 0).float().mean() > 0.97


def test_an_error_across_the_curve_does_little(rendered, true_places):
    views = rendered["west"], rendered["east"]
    pixels, target, along = true_places
    across = torch.stack([-along[:, 1], along[:, 0]], -1)
    assert (lead(views, pixels, target + across) > 0).float().mean() > 0.95


def test_the_lead_knows_no_direction_and_no_exposure(rendered, true_places):
    west, east = rendered["west"], rendered["east"]
    pixels, target, _ = true_places
    expected = lead((west, east), pixels, target)
    torch.testing.assert_close(lead((east, west), target, pixels), expected, atol=1e-4, rtol=0)
    darker = dataclasses.replace(east, image=0.5 * east.image + 0.1)
    torch.testing.assert_close(lead((west, darker), pixels, target), expected, atol=5e-3, rtol=0)


def test_without_texture_the_network_alone_decides(rendered, true_places):
    west, east = (
        dataclasses.replace(rendered[name], image=torch.full_like(rendered[name].image, 0.5))
        for name in ("west", "east")
    )
    pixels, target, _ = true_places
    each = torch.arange(COUNT)
    before = torch.linspace(0.01, 0.99, COUNT)
    after = verified_probability(
        before, Candidates(each, each), GreyPair.of((west, east)), (pixels, target), EXACT
    )
    # The two views see the bed almost equally large.
    torch.testing.assert_close(after, before.double(), atol=0.03, rtol=0)


def test_rays_that_meet_above_the_water_match_nothing(rendered):
    one = Candidates(torch.tensor([0]), torch.tensor([0]))
    pair = GreyPair.of((rendered["west"], rendered["east"]))
    # The west pixel looks west and the east one east: the rays "meet" above the surface.
    pixels = torch.tensor([[20.0, 90.0]]), torch.tensor([[220.0, 90.0]])
    assert verified_probability(torch.tensor([0.99]), one, pair, pixels, EXACT).tolist() == [0.0]


def test_no_candidates_have_no_lead(rendered):
    none = torch.zeros(0, dtype=torch.int64)
    pair = GreyPair.of((rendered["west"], rendered["east"]))
    pixels = torch.zeros(3, 2), torch.zeros(2, 2)
    assert match_evidence(Candidates(none, none), pair, pixels, EXACT).lead.shape == (0,)
    assert look_alikes(Candidates(none, none), pair, pixels).shape == (0,)


def test_matches_of_coarser_keypoints_need_more_evidence(bed, rendered, true_places, model_at):
    """A pixel of the wide view spans four of west's, and a shrunk image's so many of its view's."""
    west, wide = rendered["west"], bed.render("wide", model_at(0.02, 0.01, focal=60.0))
    pixels = true_places[0]
    target = bed.transfer(west, wide, pixels).float()
    each = torch.arange(COUNT)

    def octaves(*detection_px):
        pair = GreyPair.of((west, wide))
        found = match_evidence(Candidates(each, each), pair, (pixels, target), detection_px).octaves
        return found.median()

    free = math.log2(1.6)
    assert abs(octaves(1.0, 1.0) - (2.0 - free)) < 0.1
    assert abs(octaves(1.0, 2.0) - (3.0 - free)) < 0.1
    assert abs(octaves(2.0, 1.0) - (2.0 - free)) < 0.1  # still finer than the wide view's
    assert octaves(1.0, 0.3) == 0.0
    assert DetectionOptions(max_image_side=800).pixel_side((1600, 1200)) == 2.0
    assert DetectionOptions(max_image_side=800).pixel_side((640, 480)) == 1.0


def test_true_places_look_alike_and_others_do_not(rendered, true_places):
    pair = GreyPair.of((rendered["west"], rendered["east"]))
    pixels, target, along = true_places
    each = torch.arange(COUNT)
    assert look_alikes(Candidates(each, each), pair, (pixels, target)).float().mean() > 0.8
    elsewhere = target + 4 * along
    assert not look_alikes(Candidates(each, each), pair, (pixels, elsewhere)).any()


def test_the_network_s_doubts_have_a_floor(rendered, true_places):
    """Of what it calls impossible, the images confirm the true pairs and no others."""
    pair = GreyPair.of((rendered["west"], rendered["east"]))
    pixels, target, along = true_places
    each = torch.arange(COUNT)
    doubted = torch.full((COUNT,), 1e-12)
    for shift, expected in ((0.0, 1.0), (5.0, 0.0)):
        places = pixels, target + shift * along
        after = verified_probability(doubted, Candidates(each, each), pair, places, EXACT)
        assert abs(float((after > 0.5).float().mean()) - expected) < 0.2
