import dataclasses

import cv2
import numpy as np
import pytest
import torch

from aquamvs.errors import ConfigError
from aquamvs.matching import (
    Guidance,
    Pair,
    SiftMatcher,
    SiftOptions,
    create_matcher,
    match_sparse,
    select_pairs,
    unordered_pairs,
)
from aquamvs.matching.base import SparseMatcher
from aquamvs.matching.sift import detect_sift, root_sift
from aquamvs.types import UndistortedViews


def errors(bed, views, matches):
    """Distance of each match from the truth, px."""
    reference, source = views[matches.reference], views[matches.source]
    true = bed.transfer(reference, source, matches.reference_pixels)
    return (true - matches.source_pixels).norm(dim=-1)


def repeatable(bed, reference, source, first, second):
    """Distinct keypoints of the reference that the source shows and detects within a pixel."""
    places = first.pixels.unique(dim=0)
    true = bed.transfer(reference, source, places)
    return int((torch.cdist(true.float(), second.pixels).amin(1) < 1).sum())


def as_set(matches, swap=False):
    ends = (matches.reference_pixels, matches.source_pixels)
    a, b = reversed(ends) if swap else ends
    return {(*p, *q) for p, q in zip(a.tolist(), b.tolist(), strict=True)}


def test_guided_matches_are_precise_and_find_most_of_what_is_repeatable(bed, rendered):
    matcher = SiftMatcher()
    west, east = rendered["west"], rendered["east"]
    first, second = matcher.extract(west), matcher.extract(east)
    matches = matcher.match_features(west, east, first, second)
    error = errors(bed, rendered, matches)
    correct = int((error < 1.5).sum())
    assert correct / len(matches) > 0.98
    assert correct / repeatable(bed, west, east, first, second) > 0.85
    assert error[error < 1.5].median() < 0.1  # px


def test_guidance_saves_matches_on_a_repetitive_bed(bed, rendered):
    """Everything twice in the image: the ratio test alone then rejects nearly all."""

    def doubled(view):
        half = view.image[:90]
        return dataclasses.replace(view, image=torch.cat([half, half]))

    west, east = doubled(rendered["west"]), doubled(rendered["east"])
    guided = SiftMatcher().match(west, east)
    unguided = SiftMatcher(SiftOptions(guidance=None)).match(west, east)
    assert len(guided) > 3 * len(unguided)


def test_keypoints_are_not_shifted_by_the_detector():
    """A blob's keypoint lies at its centre; OpenCV's default is off by a quarter of a pixel."""
    rng = np.random.default_rng(0)
    offsets = []
    for _ in range(20):
        centre = 60 + 8 * rng.random(2)
        v, u = np.mgrid[:128, :128]
        blob = np.exp(-((u - centre[0]) ** 2 + (v - centre[1]) ** 2) / (2 * 4.0**2))
        image = torch.from_numpy(0.15 + 0.7 * blob).float()[..., None].expand(-1, -1, 3)
        features = detect_sift(_view(image), max_keypoints=50, contrast_threshold=0.005)
        best = features.pixels[features.scores.argmax()].numpy()
        offsets.append(best - centre)
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.05


def _view(image, mask=None):
    from aquamvs.projection import RefractiveProjectionModel
    from aquamvs.types import View

    eye = torch.eye(3, dtype=torch.float64)
    model = RefractiveProjectionModel(
        eye, eye, torch.zeros(3).double(), 1.0, torch.tensor([0.0, 0, -1]).double(), 1.0, 1.333
    )
    mask = torch.ones(image.shape[:2], dtype=torch.bool) if mask is None else mask
    return View("view", image, mask, model)


def test_descriptors_are_the_square_root_of_unit_histograms():
    histogram = torch.randint(0, 255, (7, 128), generator=torch.Generator().manual_seed(0))
    roots = root_sift(histogram)
    torch.testing.assert_close(roots.norm(dim=1), torch.ones(7))
    torch.testing.assert_close(roots**2, histogram / histogram.sum(1, keepdim=True))
    assert torch.equal(root_sift(torch.zeros(1, 128)), torch.zeros(1, 128))


def test_a_view_matched_with_itself_is_the_identity(rendered):
    west = rendered["west"]
    twin = dataclasses.replace(west, name="twin")
    matcher = SiftMatcher()
    matches = matcher.match(west, twin)
    places = len(matcher.extract(west).unique_places()[0])
    assert torch.equal(matches.reference_pixels, matches.source_pixels)
    assert len(matches) > 0.9 * places
    assert matches.scores.min() > 0.99


def test_swapping_the_views_swaps_the_matches(rendered):
    matcher = SiftMatcher()
    forth = matcher.match(rendered["west"], rendered["east"])
    back = matcher.match(rendered["east"], rendered["west"])
    assert (back.reference, back.source) == ("east", "west")
    assert as_set(forth) == as_set(back, swap=True)


def test_each_image_point_is_matched_once(rendered):
    matches = SiftMatcher().match(rendered["west"], rendered["east"])
    for pixels in (matches.reference_pixels, matches.source_pixels):
        assert len(pixels.unique(dim=0)) == len(pixels)


def test_matching_repeats_to_the_byte(rendered):
    first = SiftMatcher().match(rendered["west"], rendered["east"])
    second = SiftMatcher().match(rendered["west"], rendered["east"])
    assert torch.equal(first.reference_pixels, second.reference_pixels)
    assert torch.equal(first.source_pixels, second.source_pixels)
    assert torch.equal(first.scores, second.scores)


def test_scores_lie_between_0_and_1_and_tell_good_from_bad(bed, rendered):
    options = SiftOptions(max_descriptor_distance=1.0, ratio=1.0, max_rotation_deg=180.0)
    matches = SiftMatcher(options).match(rendered["west"], rendered["east"])
    error = errors(bed, rendered, matches)
    assert 0 <= matches.scores.min() <= matches.scores.max() <= 1
    assert matches.scores[error < 1.5].mean() > matches.scores[error > 5].mean() + 0.1


def test_masked_pixels_have_no_keypoints(rendered):
    west = rendered["west"]
    mask = torch.zeros_like(west.mask)
    mask[40:120, 60:200] = True
    features = SiftMatcher().extract(dataclasses.replace(west, mask=mask))
    u, v = features.pixels.round().long().unbind(-1)
    assert len(features) > 20
    assert bool(mask[v, u].all())


@pytest.mark.parametrize("guidance", [Guidance(), None])
def test_views_without_keypoints_give_no_matches(rendered, guidance):
    matcher = SiftMatcher(SiftOptions(guidance=guidance))
    west = rendered["west"]
    black = dataclasses.replace(rendered["east"], image=torch.zeros_like(west.image))
    hidden = dataclasses.replace(rendered["east"], mask=torch.zeros_like(west.mask))
    for blind in (black, hidden):
        for pair in ((west, blind), (blind, west), (blind, blind)):
            matches = matcher.match(*pair)
            assert len(matches) == 0
            assert (matches.reference, matches.source) == (pair[0].name, pair[1].name)


@pytest.mark.parametrize("guidance", [Guidance(), None])
def test_a_single_keypoint_is_no_special_case(rendered, guidance):
    west, east = rendered["west"], rendered["east"]
    mask = torch.zeros_like(west.mask)
    mask[90:96, 118:126] = True
    one = dataclasses.replace(west, mask=mask)
    matcher = SiftMatcher(SiftOptions(guidance=guidance, max_keypoints=1))
    assert len(matcher.extract(one)) == 1
    assert len(matcher.match(one, east)) <= 1


def test_the_number_of_keypoints_is_limited(rendered):
    assert len(SiftMatcher(SiftOptions(max_keypoints=100)).extract(rendered["west"])) == 100


def test_clahe_finds_keypoints_where_contrast_has_nearly_gone(rendered):
    west = rendered["west"]
    dim = dataclasses.replace(west, image=0.4 + 0.05 * west.image)
    plain = SiftMatcher(SiftOptions()).extract(dim)
    equalised = SiftMatcher(SiftOptions(clahe_clip_limit=4.0)).extract(dim)
    assert len(equalised) > 2 * len(plain)


def test_the_wrong_depth_range_removes_the_matches(rendered):
    right = SiftMatcher(SiftOptions(guidance=Guidance(depth_range=(0.6, 1.1))))
    wrong = SiftMatcher(SiftOptions(guidance=Guidance(depth_range=(2.0, 3.0))))
    kept, lost = (len(m.match(rendered["west"], rendered["east"])) for m in (right, wrong))
    assert lost < 0.05 * kept


def test_the_stage_extracts_each_view_once_and_matches_each_pair_once(rendered):
    class Counting(SiftMatcher):
        def __init__(self):
            super().__init__(SiftOptions(max_keypoints=200))
            self.extracted = []

        def extract(self, view):
            self.extracted.append(view.name)
            return super().extract(view)

    matcher = Counting()
    pairs = select_pairs(rendered)
    matches = list(match_sparse(matcher, rendered, pairs))
    assert sorted(matcher.extracted) == ["east", "north", "west"]
    assert [Pair(m.reference, m.source) for m in matches] == list(unordered_pairs(pairs))
    assert all(len(m) > 20 for m in matches)


def test_matches_do_not_depend_on_the_order_of_the_cameras(rendered):
    matcher = SiftMatcher(SiftOptions(max_keypoints=300))
    turned = UndistortedViews(0, tuple(reversed(rendered.views)))
    first = list(match_sparse(matcher, rendered, select_pairs(rendered)))
    second = list(match_sparse(matcher, turned, select_pairs(turned)))
    assert [as_set(m) for m in first] == [as_set(m) for m in second]


def test_sift_is_registered_and_satisfies_the_protocol():
    matcher = create_matcher("sift")
    assert isinstance(matcher, SparseMatcher)
    assert matcher.label == "SIFT"


@pytest.mark.parametrize(
    "options", [{"max_keypoints": 0}, {"ratio": 0.0}, {"clahe_clip_limit": -1.0}]
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        SiftOptions(**options)


def test_opencv_reports_the_orientation_clockwise_in_pixel_axes():
    """The prediction of orientations rests on it: a turned image turns the keypoint's angle."""
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.random((161, 161)).astype(np.float32), (0, 0), 2.0)
    image = (image - image.min()) / (image.max() - image.min())
    centre, turn_deg = (80.0, 80.0), 30.0
    # OpenCV's positive angle is anticlockwise on screen: negative in pixel axes with v down.
    matrix = cv2.getRotationMatrix2D(centre, -turn_deg, 1.0)
    turned = cv2.warpAffine(image, matrix, (161, 161), flags=cv2.INTER_CUBIC)
    matcher = SiftMatcher(SiftOptions(guidance=None))
    views = [_view(torch.from_numpy(i).clamp(0, 1)[..., None].expand(-1, -1, 3).contiguous())
             for i in (image, turned)]  # fmt: skip
    first, second = (matcher.extract(view) for view in views)
    true = (
        torch.from_numpy(matrix).float() @ torch.cat([first.pixels, torch.ones(len(first), 1)], 1).T
    )
    near = torch.cdist(true.T, second.pixels)
    best = near.argmin(1)
    close = near.amin(1) < 0.5
    change = torch.rad2deg(second.orientations[best] - first.orientations)[close]
    change = torch.remainder(change + 180, 360) - 180
    assert change.median() == pytest.approx(turn_deg, abs=2.0)
