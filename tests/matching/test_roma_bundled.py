"""The bundled dense matcher: offline, on a bed that its training never saw."""

import dataclasses

import pytest
import torch

from aquamvs.errors import ConfigError, WeightsError
from aquamvs.matching import (
    BundledRomaMatcher,
    Guidance,
    RomaOptions,
    create_matcher,
    epipolar_distance,
    warp_to_matches,
)
from aquamvs.matching.base import DenseMatcher
from aquamvs.matching.bundled import bundled_file
from aquamvs.matching.checkpoints import read_tensors
from aquamvs.matching.roma_bundled import fit_homography, load_bundled_roma
from aquamvs.matching.warps import guide_warp
from aquamvs.types import View

CONFIDENT = 0.5


@pytest.fixture(scope="module")
def network():
    return load_bundled_roma(bundled_file("roma"))


@pytest.fixture(scope="module", params=["guided", "unguided"])
def matcher(request, network):
    return BundledRomaMatcher(network, guidance=Guidance() if request.param == "guided" else None)


def error_px(bed, first, second, warp):
    """Distance from the true place of every cell, source px."""
    truth = bed.transfer(first, second, warp.reference_pixels())
    return (warp.source_pixels - truth).norm(dim=-1)


def inside(view, pixels, margin=0.0):
    width, height = view.size
    u, v = pixels.unbind(-1)
    return (u > margin) & (u < width - 1 - margin) & (v > margin) & (v < height - 1 - margin)


def test_it_is_the_offline_default_and_is_never_called_roma_v2(monkeypatch, tmp_path):
    monkeypatch.setenv("AQUAMVS_CACHE", str(tmp_path))
    matcher = create_matcher("roma")
    assert isinstance(matcher, DenseMatcher)
    assert matcher.label == "RoMa-style (bundled)"
    assert matcher.guidance is not None
    assert list(tmp_path.iterdir()) == []


def test_an_unseen_bed_is_matched_to_a_fraction_of_a_pixel(matcher, bed, rendered):
    west, east = rendered["west"], rendered["east"]
    warp = matcher.match(west, east)
    error = error_px(bed, west, east, warp)
    truth = bed.transfer(west, east, warp.reference_pixels())
    seen = inside(east, truth, margin=2.0)
    confident = warp.certainty >= CONFIDENT
    assert confident[seen].float().mean() > 0.8
    assert error[seen].median() < 0.3
    assert (error[confident] < 2.0).float().mean() > 0.97


def test_guided_targets_lie_on_their_epipolar_curves(network, rendered):
    west, north = rendered["west"], rendered["north"]
    warp = BundledRomaMatcher(network, guidance=Guidance()).match(west, north)
    confident = warp.certainty >= CONFIDENT
    distance = epipolar_distance(
        west.model,
        north.model,
        warp.reference_pixels()[confident].double(),
        warp.source_pixels[confident].double(),
    )
    assert distance.max() < 1e-2


def test_a_view_matches_itself_at_every_pixel(matcher, rendered):
    west = rendered["west"]
    warp = matcher.match(west, west)
    error = (warp.source_pixels - warp.reference_pixels()).norm(dim=-1)
    # Without the calibration the fitted homography is off by a fraction of a pixel.
    assert (error < (0.1 if matcher.guidance else 0.5)).float().mean() > 0.99
    assert (warp.certainty >= CONFIDENT).float().mean() > 0.97


def test_there_and_back_is_where_one_started(matcher, rendered):
    west, east = rendered["west"], rendered["east"]
    forth, back = matcher.match(west, east), matcher.match(east, west)
    matches = warp_to_matches(forth, max_correspondences=2000)
    cell = back.reference_pixels()
    step = cell[1, 1] - cell[0, 0]
    column, row = ((matches.source_pixels - cell[0, 0]) / step).round().long().unbind(-1)
    rows, columns = back.certainty.shape
    column, row = column.clamp(0, columns - 1), row.clamp(0, rows - 1)
    sure = back.certainty[row, column] >= CONFIDENT
    off_centre = matches.source_pixels - cell[row, column]
    returned = back.source_pixels[row, column] + off_centre  # the views are rolled by nothing
    gap = (returned - matches.reference_pixels).norm(dim=-1)[sure]
    assert int(sure.sum()) > 1000
    assert (gap < 1.0).float().mean() > 0.98


def test_the_same_input_gives_the_same_bytes(matcher, rendered):
    first = matcher.match(rendered["west"], rendered["east"])
    second = matcher.match(rendered["west"], rendered["east"])
    assert torch.equal(first.source_pixels, second.source_pixels)
    assert torch.equal(first.certainty, second.certainty)


def test_masks_of_both_views_are_honoured(matcher, rendered):
    west, east = rendered["west"], rendered["east"]
    mask = torch.zeros_like(west.mask)
    mask[:90] = True
    warp = matcher.match(dataclasses.replace(west, mask=mask), east)
    outside = warp.reference_pixels()[..., 1].round() >= 90
    assert warp.certainty[outside].max() == 0
    assert (warp.certainty[~outside] >= CONFIDENT).float().mean() > 0.5
    warp = matcher.match(west, dataclasses.replace(east, mask=mask))
    hidden = warp.source_pixels[..., 1].round() >= 90
    assert warp.certainty[hidden].max() == 0
    assert (warp.certainty >= CONFIDENT).any()


def test_a_view_without_a_usable_pixel_has_no_matches(matcher, rendered):
    west, east = rendered["west"], rendered["east"]
    hidden = dataclasses.replace(east, mask=torch.zeros_like(east.mask))
    for pair in ((west, hidden), (hidden, west)):
        warp = matcher.match(*pair)
        assert warp.certainty.max() == 0
        assert len(warp_to_matches(warp)) == 0


def test_black_images_have_no_confident_matches(matcher, rendered):
    west, east = rendered["west"], rendered["east"]
    black = dataclasses.replace(east, image=torch.zeros_like(east.image))
    for first, second in ((west, black), (black, west), (black, black)):
        warp = matcher.match(first, second)
        assert (warp.certainty >= CONFIDENT).float().mean() < 0.01
        assert bool(torch.isfinite(warp.certainty).all())


def test_views_of_different_things_have_hardly_any_confident_matches(matcher, bed, rendered):
    west, east = rendered["west"], rendered["east"]
    other = dataclasses.replace(bed, seed=5).render("east", east.model)
    assert (matcher.match(west, other).certainty >= CONFIDENT).float().mean() < 0.05


def test_half_precision_images_give_nearly_the_same(matcher, rendered):
    west, east = rendered["west"], rendered["east"]
    exact = matcher.match(west, east)
    half = matcher.match(
        *(dataclasses.replace(view, image=view.image.half()) for view in (west, east))
    )
    both = (exact.certainty >= CONFIDENT) & (half.certainty >= CONFIDENT)
    assert both.float().mean() > 0.4
    gap = (exact.source_pixels - half.source_pixels).norm(dim=-1)[both]
    assert gap.median() < 0.05


def test_the_weights_are_stored_in_half_precision_and_used_in_single(network):
    tensors = read_tensors(bundled_file("roma"))
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    assert bundled_file("roma").stat().st_size < 8e6


def test_a_view_that_sees_two_and_a_half_times_as_much_is_found_without_calibration(
    network, bed, model_at
):
    near = bed.render("near", model_at(0.02, 0.01, focal=600.0))
    wide = bed.render("wide", model_at(-0.05, 0.0, focal=240.0))
    warp = BundledRomaMatcher(network, guidance=None).match(near, wide)
    confident = warp.certainty >= CONFIDENT
    assert confident.float().mean() > 0.3
    assert error_px(bed, near, wide, warp)[confident].median() < 0.5


def test_a_calibration_that_is_off_by_a_pixel_still_guides(network, bed, rendered):
    west, east = rendered["west"], rendered["east"]
    K = east.model.K.clone()
    K[0, 2] += 0.7
    K[1, 2] -= 0.7
    disturbed = dataclasses.replace(east, model=east.model.with_intrinsics(K))
    warp = BundledRomaMatcher(network, guidance=Guidance()).match(west, disturbed)
    confident = warp.certainty >= CONFIDENT
    assert confident.float().mean() > 0.4
    assert error_px(bed, west, east, warp)[confident].median() < 1.1


def test_views_of_other_sizes_and_shapes_are_matched(matcher, bed, rendered):
    """Wide and flat, and smaller than the network's own resolution."""
    west, east = (
        View(
            name,
            rendered[name].image[40:140, 20:220],
            rendered[name].mask[40:140, 20:220],
            rendered[name].model.with_intrinsics(
                rendered[name].model.K - torch.tensor([[0.0, 0, 20], [0, 0, 40], [0, 0, 0]])
            ),
        )
        for name in ("west", "east")
    )
    warp = matcher.match(west, east)
    confident = warp.certainty >= CONFIDENT
    assert confident.float().mean() > 0.3
    assert error_px(bed, west, east, warp)[confident].median() < 0.4


def test_guidance_moves_targets_onto_curves_and_drops_the_far_ones(bed, rendered, network):
    west, east = rendered["west"], rendered["east"]
    warp = BundledRomaMatcher(network, guidance=None).match(west, east)
    certain = dataclasses.replace(warp, certainty=torch.ones_like(warp.certainty))
    away = torch.tensor([0.0, 5.0])
    moved = dataclasses.replace(certain, source_pixels=warp.source_pixels + away)
    assert guide_warp(moved, west, east, Guidance()).certainty.mean() < 0.2
    assert guide_warp(moved, west, east, Guidance(max_distance_px=9.0)).certainty.mean() > 0.8
    guided = guide_warp(certain, west, east, Guidance())
    confident = warp.certainty >= CONFIDENT
    before = error_px(bed, west, east, certain)[confident]
    after = error_px(bed, west, east, guided)[confident]
    assert after.mean() < before.mean()


def test_a_homography_needs_matches_that_agree():
    generator = torch.Generator().manual_seed(0)
    pixels = 200 * torch.rand(200, 2, generator=generator)
    moved = 1.1 * pixels + torch.tensor([4.0, -7.0])
    found, agree = fit_homography(pixels, moved, (240, 180))
    torch.testing.assert_close(found.into_source(pixels), moved, atol=1e-2, rtol=0)
    assert agree == 200
    scattered = 200 * torch.rand(200, 2, generator=generator)
    assert fit_homography(pixels, scattered, (240, 180)) is None
    assert fit_homography(pixels[:10], moved[:10], (240, 180)) is None


def test_truncated_and_foreign_weights_are_refused(tmp_path):
    path = tmp_path / "roma-bundled.safetensors"
    path.write_bytes(bundled_file("roma").read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        load_bundled_roma(path)
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="not a checkpoint of the bundled RoMa-style"):
        load_bundled_roma(tmp_path / "other.pt")


def test_a_setting_of_roma_v2_does_not_fit_the_bundled_network():
    with pytest.raises(ConfigError, match="bundled network has one resolution"):
        RomaOptions(setting="fast")
