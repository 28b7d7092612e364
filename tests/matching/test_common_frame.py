"""Keypoints of two views in one frame: an affine map from what appearance alone is sure of."""

import dataclasses
import math

import pytest
import torch

from aquamvs.matching.base import Features
from aquamvs.matching.common_frame import fit_affine, in_common_frame
from aquamvs.matching.lightglue_network import BUNDLED_DESIGN, HINTS, PLACE_FEATURES
from aquamvs.matching.sift import detect_sift

SIZE = (240, 180)
TURN, ZOOM = 2.0, 1.5
MATRIX = torch.tensor(
    [
        [ZOOM * math.cos(TURN), -ZOOM * math.sin(TURN), 30.0],
        [ZOOM * math.sin(TURN), ZOOM * math.cos(TURN), -10.0],
    ]
)


def scattered(count, seed=0):
    """Keypoints anywhere, each with a descriptor of its own."""
    generator = torch.Generator().manual_seed(seed)
    descriptors = torch.randn(count, 32, generator=generator)
    return Features(
        torch.rand(count, 2, generator=generator) * torch.tensor(SIZE),
        torch.nn.functional.normalize(descriptors, dim=1),
        torch.ones(count),
        torch.full((count,), 4.0),
        2 * math.pi * torch.rand(count, generator=generator),
    )


def turned(features):
    """The same keypoints as a view sees them that is turned, nearer and shifted."""
    return dataclasses.replace(
        features,
        pixels=features.pixels @ MATRIX[:, :2].T + MATRIX[:, 2],
        scales=ZOOM * features.scales,
        orientations=torch.remainder(features.orientations + TURN, 2 * math.pi),
    )


def angle_between(first, second):
    return torch.remainder(first - second + math.pi, 2 * math.pi) - math.pi


def test_a_turned_and_magnified_view_coincides_in_the_common_frame():
    features = scattered(80)
    first, second, size = in_common_frame(features, turned(features), SIZE)
    torch.testing.assert_close(first.pixels, second.pixels, atol=1e-2, rtol=0)
    torch.testing.assert_close(first.scales, second.scales, atol=1e-3, rtol=0)
    assert angle_between(first.orientations, second.orientations).abs().max() < 1e-3
    assert torch.equal(first.descriptors, features.descriptors)
    places = torch.cat([first.pixels, second.pixels])
    assert places.min() >= 0
    assert (places <= torch.tensor(size) + 1e-3).all()


def test_wrong_matches_do_not_move_the_map():
    features, other = scattered(80), turned(scattered(80))
    moved = other.pixels.clone()
    moved[:30] = scattered(30, seed=9).pixels
    matrix = fit_affine(features, dataclasses.replace(other, pixels=moved), 5.0)
    torch.testing.assert_close(matrix[:, :2].float(), MATRIX[:, :2], atol=0.02, rtol=0)


@pytest.mark.parametrize("count", [0, 1, 2, 11])
def test_too_few_keypoints_have_no_common_frame(count):
    features = scattered(80)
    few = features.select(torch.arange(count))
    assert in_common_frame(few, turned(features), SIZE) is None
    assert in_common_frame(turned(features), few, SIZE) is None


def test_views_of_different_things_have_no_common_frame():
    assert in_common_frame(scattered(200), scattered(200, seed=1), SIZE) is None


@pytest.mark.parametrize(
    "linear",
    [[[-1.0, 0.0], [0.0, 1.0]], [[9.0, 0.0], [0.0, 9.0]], [[3.0, 0.0], [0.0, 1.0]]],
    ids=["mirror", "zoom", "stretch"],
)
def test_maps_that_no_rig_has_are_refused(linear):
    features = scattered(80)
    other = dataclasses.replace(features, pixels=features.pixels @ torch.tensor(linear).T)
    assert fit_affine(features, other, 5.0) is None


def test_keypoints_that_all_lie_on_a_line_are_refused():
    features = scattered(40)
    line = dataclasses.replace(features, pixels=features.pixels * torch.tensor([1.0, 0.0]))
    assert fit_affine(line, line, 5.0) is None


def test_rendered_views_come_together_without_their_calibration(bed, rendered):
    west, north = rendered["west"], rendered["north"]
    first, second = (
        detect_sift(view, max_keypoints=400, contrast_threshold=0.01) for view in (west, north)
    )
    moved, other, _ = in_common_frame(first, second, north.size)
    true = bed.transfer(west, north, first.pixels)
    # The frame is the second view's, shifted.
    frame = true + (other.pixels - second.pixels)[0]
    before = (first.pixels - true).norm(dim=-1).nanmedian()
    after = (moved.pixels - frame).norm(dim=-1).nanmedian()
    assert after < 0.25 * before


def bundled_input(features, other, **options):
    return BUNDLED_DESIGN.pair_input((features, other), (SIZE, SIZE), "cpu", **options)


def test_the_network_reads_equal_places_as_equal_and_withheld_ones_as_nothing():
    wide = dataclasses.replace(scattered(20), descriptors=torch.rand(20, 128))
    placed = bundled_input(wide, wide, is_common=True)[0]["descriptors"][0]
    apart = bundled_input(wide, wide)[0]["descriptors"][0]
    place = placed[:, 128 : 128 + PLACE_FEATURES]
    assert place.shape == (20, PLACE_FEATURES)
    assert torch.equal((place @ place.T).argmax(1), torch.arange(20))
    turn = dataclasses.replace(wide, orientations=wide.orientations + 2 * math.pi)
    again = bundled_input(turn, wide, is_common=True)[0]["descriptors"][0]
    torch.testing.assert_close(again, placed, atol=1e-3, rtol=0)
    assert not apart[:, 128 : 128 + PLACE_FEATURES].any()


@pytest.mark.parametrize("is_common", [True, False])
def test_a_keypoint_without_its_partner_is_told_apart_by_the_hints(is_common):
    wide = dataclasses.replace(scattered(40), descriptors=torch.rand(40, 128))
    fewer = wide.select(torch.arange(30))
    first, second = (
        side["descriptors"][0, :, -HINTS:]
        for side in bundled_input(wide, fewer, is_common=is_common)
    )
    assert first[:30].amin(0).gt(first[30:].amax(0)).all()
    torch.testing.assert_close(second[:, 0], first[:30, 0])
