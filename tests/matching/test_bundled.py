"""The bundled LightGlue: offline, on a bed that its training never saw."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from aquamvs.errors import ConfigError, WeightsError
from aquamvs.io import CACHE_VARIABLE
from aquamvs.matching import (
    DetectionOptions,
    Guidance,
    LightGlueMatcher,
    LightGlueOptions,
    bundled_card,
    create_matcher,
    match_sparse,
    select_pairs,
)
from aquamvs.matching.bundled import BUNDLED_MODELS, bundled_file
from aquamvs.matching.checkpoints import read_tensors
from aquamvs.matching.lightglue import pair_input
from aquamvs.matching.lightglue_network import BUNDLED_DESIGN, load_lightglue, log_assignment

DETECTION = DetectionOptions(max_keypoints=400)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def matcher():
    return LightGlueMatcher.create(LightGlueOptions(detection=DETECTION, download=False))


@pytest.fixture(scope="module")
def unguided():
    options = LightGlueOptions(detection=DETECTION, guidance=None, download=False)
    return LightGlueMatcher.create(options)


def right(bed, first, second, matches, within_px=2.0):
    """Which matches are true."""
    truth = bed.transfer(first, second, matches.reference_pixels)
    return (truth - matches.source_pixels).norm(dim=-1) < within_px


def test_it_is_the_default_and_says_so():
    matcher = create_matcher("lightglue")
    assert matcher.label == "LightGlue (bundled)"
    assert LightGlueOptions().is_bundled


def test_guided_matches_of_an_unseen_bed_are_nearly_all_true(matcher, bed, rendered):
    west, east = rendered["west"], rendered["east"]
    matches = matcher.match(west, east)
    assert len(matches) > 80
    assert right(bed, west, east, matches).float().mean() > 0.98


def test_unguided_matches_of_an_unseen_bed_are_mostly_true(unguided, bed, rendered):
    west, north = rendered["west"], rendered["north"]
    matches = unguided.match(west, north)
    assert len(matches) > 60
    assert right(bed, west, north, matches).float().mean() > 0.9


@pytest.mark.parametrize("name", ["matcher", "unguided"])
def test_a_view_matches_itself_keypoint_by_keypoint(name, request, rendered):
    either = request.getfixturevalue(name)
    west = rendered["west"]
    features = either.extract(west)
    # With guidance, every epipolar curve is a point.
    matches = either.match_features(west, west, features, features)
    # Without it the network must be sure of each: look-alikes within the view cost it some.
    assert len(matches) > 0.9 * len(features.unique_places()[0])
    same = (matches.reference_pixels == matches.source_pixels).all(-1)
    assert same.float().mean() > 0.99


@pytest.mark.parametrize("name", ["matcher", "unguided"])
def test_swapping_the_views_swaps_the_matches(name, request, rendered):
    either = request.getfixturevalue(name)
    forth = either.match(rendered["west"], rendered["east"])
    back = either.match(rendered["east"], rendered["west"])
    assert torch.equal(forth.reference_pixels, back.source_pixels)
    assert torch.equal(forth.source_pixels, back.reference_pixels)
    assert torch.equal(forth.scores, back.scores)


@pytest.mark.parametrize("name", ["matcher", "unguided"])
def test_masks_are_honoured(name, request, rendered):
    either = request.getfixturevalue(name)
    west, east = rendered["west"], rendered["east"]
    mask = torch.zeros_like(east.mask)
    mask[30:150, 20:120] = True
    matches = either.match(west, dataclasses.replace(east, mask=mask))
    u, v = matches.source_pixels.round().long().unbind(-1)
    assert len(matches) > 0
    assert bool(mask[v, u].all())
    hidden = dataclasses.replace(east, mask=torch.zeros_like(mask))
    assert len(either.match(west, hidden)) == 0
    assert len(either.match(hidden, west)) == 0


@pytest.mark.parametrize("name", ["matcher", "unguided"])
def test_black_images_give_no_matches(name, request, rendered):
    either = request.getfixturevalue(name)
    west, east = rendered["west"], rendered["east"]
    black = dataclasses.replace(east, image=torch.zeros_like(east.image))
    assert len(either.match(west, black)) == 0
    assert len(either.match(black, dataclasses.replace(black, name="also"))) == 0


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_keypoints_or_none_are_enough_to_run(count, matcher, unguided, rendered):
    west, east = rendered["west"], rendered["east"]
    first, second = matcher.extract(west), matcher.extract(east)
    few, other_few = (each.select(torch.arange(count)) for each in (first, second))
    for either in (matcher, unguided):
        for pair in ((few, second), (first, other_few), (few, other_few)):
            matches = either.match_features(west, east, *pair)
            assert len(matches) <= count
            assert bool(torch.isfinite(matches.scores).all())


def test_half_precision_input_and_weights_agree_with_single(rendered):
    """bfloat16, the half precision that processors multiply in, moves probabilities by little."""
    west, east = rendered["west"], rendered["east"]
    matcher = LightGlueMatcher.create(LightGlueOptions(detection=DETECTION))
    network = load_lightglue(bundled_file("lightglue"), BUNDLED_DESIGN)
    inputs = pair_input(
        BUNDLED_DESIGN,
        (matcher.extract(west), matcher.extract(east)),
        (west.size, east.size),
        "cpu",
    )
    with torch.inference_mode():
        exact = log_assignment(network, *inputs)[:-1, :-1].exp()
        half = network.to(torch.bfloat16)
        for side in inputs:
            side["descriptors"] = side["descriptors"].bfloat16()
        rough = log_assignment(half, *inputs)[:-1, :-1].float().exp()
    sure = exact.amax(1) > 0.5
    assert int(sure.sum()) > 50
    assert (exact.argmax(1) == rough.argmax(1))[sure].float().mean() > 0.97


def test_half_precision_images_match_too(matcher, rendered):
    west, east = (
        dataclasses.replace(rendered[name], image=rendered[name].image.half())
        for name in ("west", "east")
    )
    assert len(matcher.match(west, east)) > 80


def test_the_network_is_small_and_stored_in_half_precision():
    tensors = read_tensors(bundled_file("lightglue"))
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    assert sum(tensor.numel() for tensor in tensors.values()) < 1.7e6
    assert bundled_file("lightglue").stat().st_size < 3.5e6


@pytest.mark.parametrize("model", BUNDLED_MODELS)
def test_every_bundled_model_has_a_card(model):
    card = bundled_card(model)
    for part in ("## Data", "## Training", "## Evaluation", "## Limits", "prefer official weights"):
        assert part in card


def test_learned_features_contradict_the_bundled_weights():
    with pytest.raises(ConfigError, match=r"extractor_type is 'aliked'.*weights to `official`"):
        LightGlueOptions(extractor="aliked")


def test_thresholds_follow_weights():
    assert LightGlueOptions(weights="official").threshold == 0.1
    # Without the images to ask, the network must be surer.
    assert LightGlueOptions(guidance=None).threshold > LightGlueOptions().threshold > 0.1
    assert LightGlueOptions(filter_threshold=0.4).threshold == 0.4


def test_another_models_file_and_a_truncated_one_are_refused(tmp_path):
    truncated = tmp_path / "short.safetensors"
    truncated.write_bytes(bundled_file("lightglue").read_bytes()[:-100])
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        load_lightglue(truncated, BUNDLED_DESIGN)
    other = dataclasses.replace(BUNDLED_DESIGN, layers=6)
    copied = shutil.copy(bundled_file("lightglue"), tmp_path / "five_layers.safetensors")
    with pytest.raises(WeightsError, match=r"not a checkpoint of LightGlue .*6 layers"):
        load_lightglue(Path(copied), other)


def test_large_views_are_shrunk_for_detection_and_keypoints_return_to_their_grid(rendered, bed):
    """Keypoints of an image shrunk to half lie where the true warp puts those of the other."""
    west, east = rendered["west"], rendered["east"]
    options = LightGlueOptions(
        detection=DetectionOptions(max_keypoints=200, max_image_side=160),
        guidance=Guidance(max_distance_px=3.0),
    )
    matches = LightGlueMatcher.create(options).match(west, east)
    assert len(matches) > 20
    error = bed.transfer(west, east, matches.reference_pixels) - matches.source_pixels
    assert error.mean(0).abs().max() < 0.2


def test_pairs_that_look_the_same_match_whatever_the_network_says(matcher, unguided, bed, rendered):
    """Of every other keypoint the detector has got the orientation wrong."""
    west, east = rendered["west"], rendered["east"]
    first, second = matcher.extract(west), matcher.extract(east)
    spoiled = torch.arange(len(second)) % 2 == 1
    features = dataclasses.replace(
        second,
        descriptors=torch.where(
            spoiled[:, None], second.descriptors.roll(64, 1), second.descriptors
        ),
        orientations=torch.where(spoiled, second.orientations + torch.pi / 2, second.orientations),
    )
    places = {tuple(pixel) for pixel in second.pixels[spoiled].tolist()}
    counts = []
    for each in (matcher, unguided):
        matches = each.match_features(west, east, first, features)
        true = right(bed, west, east, matches)
        assert true.float().mean() > 0.95
        found = matches.source_pixels[true].tolist()
        counts.append(sum(tuple(pixel) in places for pixel in found))
    assert counts[0] > 1.5 * counts[1]


def test_the_number_of_threads_changes_nothing(rendered):
    matcher = LightGlueMatcher.create(LightGlueOptions(detection=DETECTION))
    alone = list(match_sparse(matcher, rendered, select_pairs(rendered)))
    torch.set_num_threads(3)
    shared = list(match_sparse(matcher, rendered, select_pairs(rendered)))
    assert len(shared) > 1
    for one, other in zip(alone, shared, strict=True):
        assert torch.equal(one.reference_pixels, other.reference_pixels)
        assert torch.equal(one.source_pixels, other.source_pixels)
        assert torch.equal(one.scores, other.scores)
