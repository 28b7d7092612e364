"""Whether a keypoint that shows another point than its partner is put where it belongs."""

import dataclasses

import pytest
import torch

from aquamvs.matching.placement import placed
from aquamvs.matching.transfer import GreyPair


@pytest.fixture
def views(rendered):
    return rendered["west"], rendered["east"]


def test_exact_keypoints_stay_where_they_are(views, true_places):
    pixels, target, _ = true_places
    (first, second), kept = placed(GreyPair.of(views), (pixels, target))
    assert torch.equal(first, pixels)
    assert (second == target).all(-1).float().mean() > 0.95
    assert kept.float().mean() > 0.95


@pytest.mark.parametrize("shift", [-5.0, -3.0, 3.0, 5.0])
def test_keypoints_of_other_points_are_moved_along_the_curve(views, true_places, shift):
    pixels, target, along = true_places
    (first, second), kept = placed(GreyPair.of(views), (pixels, target + shift * along))
    error = (second - target).norm(dim=-1)[kept]
    assert torch.equal(first, pixels)
    assert kept.float().mean() > 0.8
    assert error.median() < 0.3
    assert (error < 1.0).float().mean() > 0.9


def test_an_error_across_the_curve_is_no_reason_to_move(views, true_places):
    pixels, target, along = true_places
    across = torch.stack([-along[:, 1], along[:, 0]], -1)
    (_, second), kept = placed(GreyPair.of(views), (pixels, target + 1.5 * across))
    assert kept.float().mean() > 0.9
    assert (second == target + 1.5 * across).all(-1).float().mean() > 0.9


def test_a_coarser_view_is_told_from_the_finer_one(bed, views, true_places):
    """East seen at a third of its resolution: west's windows are blurred to its pixels."""
    west, east = views
    factor = 3
    size = (east.size[0] // factor, east.size[1] // factor)
    K = east.model.K.clone()
    K[:2] /= factor
    K[:2, 2] += 0.5 / factor - 0.5
    image = torch.nn.functional.avg_pool2d(east.image.permute(2, 0, 1)[None], factor)[0]
    small = dataclasses.replace(
        east,
        image=image.permute(1, 2, 0).contiguous(),
        mask=torch.ones(size[1], size[0], dtype=torch.bool),
        model=east.model.with_intrinsics(K),
    )
    pixels, _, along = true_places
    target = bed.transfer(west, small, pixels.double()).float()
    shifted = target + 1.5 * along  # 4.5 px of the finer view
    (_, second), kept = placed(GreyPair.of((west, small)), (pixels, shifted))
    error = (second - target).norm(dim=-1)[kept]
    assert kept.float().mean() > 0.7
    assert error.median() < 0.25


def test_views_that_disagree_on_the_place_lose_the_match(views, true_places):
    """Other noise in each view: each asks for a shift of its own."""
    generator = torch.Generator().manual_seed(1)
    noisy = tuple(
        dataclasses.replace(view, image=torch.rand(view.image.shape, generator=generator))
        for view in views
    )
    pixels, target, _ = true_places
    _, kept = placed(GreyPair.of(noisy), (pixels, target))
    assert kept.float().mean() < 0.7


def test_without_texture_nothing_moves(views, true_places):
    flat = tuple(
        dataclasses.replace(view, image=torch.full_like(view.image, 0.5)) for view in views
    )
    pixels, target, _ = true_places
    (_, second), kept = placed(GreyPair.of(flat), (pixels, target))
    assert kept.all()
    assert torch.equal(second, target)


def test_a_view_agrees_with_itself(views, true_places):
    pixels = true_places[0]
    (_, second), kept = placed(GreyPair.of((views[0], views[0])), (pixels, pixels))
    assert kept.all()
    assert torch.equal(second, pixels)


def test_a_place_outside_of_the_mask_is_no_match(views, true_places):
    west, east = views
    pixels, target, along = true_places
    mask = torch.ones_like(east.mask)
    for u, v in target.round().long().tolist():
        mask[max(v - 1, 0) : v + 2, max(u - 1, 0) : u + 2] = False
    masked = dataclasses.replace(east, mask=mask)
    (_, second), kept = placed(GreyPair.of((west, masked)), (pixels, target + 4 * along))
    u, v = second[kept].round().long().unbind(-1)
    assert mask[v, u].all()
    assert kept.float().mean() < 0.5


def test_no_matches_stay_none(views):
    none = torch.zeros(0, 2)
    (first, second), kept = placed(GreyPair.of(views), (none, none))
    assert len(first) == len(second) == len(kept) == 0


def test_noise_widens_the_window(views, true_places):
    """In it the views agree on one match in four more than in a pebble's window."""
    generator = torch.Generator().manual_seed(2)
    noisy = tuple(
        dataclasses.replace(
            view, image=view.image + 0.3 * torch.randn(view.image.shape, generator=generator)
        )
        for view in views
    )
    pixels, target, _ = true_places
    (_, second), kept = placed(GreyPair.of(noisy), (pixels, target))
    error = (second - target).norm(dim=-1)[kept]
    assert kept.float().mean() > 0.9
    assert (error < 2.0).float().mean() > 0.9
