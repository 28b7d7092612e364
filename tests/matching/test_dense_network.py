"""The parts of the dense network that need no training."""

import pytest
import torch

from aquamvs.matching.dense_network import (
    DenseNetwork,
    ScaleWarp,
    coarse_warp,
    upsample,
    with_neighbours,
)
from aquamvs.matching.dense_network.layers import network_input, rotary_angles, rotate
from aquamvs.matching.dense_network.network import local_correlation
from aquamvs.pixels import pixel_grid


def textured(count=2, seed=0, size=(96, 64)):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, size[1], size[0], generator=generator)


def test_the_network_sees_no_difference_in_gain_and_shading_is_weak():
    images, masks = textured(1), torch.ones(1, 64, 96, dtype=torch.bool)
    plain = network_input(0.6 * images, masks)
    bright = network_input(images, masks)
    assert (plain - bright).abs().mean() < 0.1
    assert bright[:, :4].mean().abs() < 0.1


def test_masked_pixels_are_zero_and_do_not_change_the_rest():
    images, masks = textured(1), torch.ones(1, 64, 96, dtype=torch.bool)
    masks[:, :, 48:] = False
    other = images.clone()
    other[..., 48:] = 1.0
    seen, same = network_input(images, masks), network_input(other, masks)
    torch.testing.assert_close(seen, same)
    assert seen[..., 48:].abs().max() == 0


def test_rotary_attention_depends_on_distance_only():
    """Products of turned vectors are equal for cells that are equally far apart."""
    angles = rotary_angles(4, 6, 16)
    query, key = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(0))
    products = rotate(query.expand(24, 16), angles) @ rotate(key.expand(24, 16), angles).T
    # Cell 0 to cell 7 is one right and one down, as is cell 8 to cell 15.
    torch.testing.assert_close(products[0, 7], products[8, 15])
    assert abs(products[0, 7] - products[0, 14]) > 1e-3


def test_the_correlation_is_largest_at_the_true_offset():
    features = torch.randn(1, 8, 12, 16, generator=torch.Generator().manual_seed(1))
    moved = torch.roll(features, (1, -2), (2, 3))  # one cell down, two to the left
    correlation = local_correlation(features, moved, 2)
    best = correlation[:, :, 3:-3, 3:-3].argmax(1)
    row, column = best // 5 - 2, best % 5 - 2
    assert bool((row == 1).all())
    assert bool((column == -2).all())
    assert correlation.amax() <= 1 + 1e-5


def test_the_compiled_correlation_agrees_with_tensors():
    generator = torch.Generator().manual_seed(3)
    own, other = torch.randn(2, 2, 8, 11, 17, generator=generator)
    other = other.to(memory_format=torch.channels_last)
    expected = local_correlation(own, other, 3)
    with torch.no_grad():
        compiled = local_correlation(own, other, 3)
    torch.testing.assert_close(compiled, expected, atol=1e-6, rtol=0)


def test_coarse_matches_are_the_likeliest_cells_refined_by_their_neighbours():
    columns, rows = 5, 4
    logits = torch.full((1, 20, 21), -10.0)
    logits[0, :, 7] = 5.0  # row 1, column 2
    logits[0, :, 8] = 5.0  # and half of it to the right
    logits[0, 3:, 20] = 20.0  # not visible
    at = coarse_warp(logits, (columns, rows))
    torch.testing.assert_close(at.warp[0, 0, 0], torch.tensor([2.5, 1.0]), atol=1e-3, rtol=0)
    certain = torch.sigmoid(at.logit).flatten()
    assert certain[:3].min() > 0.99
    assert certain[3:].max() < 0.01


@pytest.mark.parametrize("size", [(12, 8), (24, 16)])
def test_a_finer_warp_points_to_the_same_places(size):
    """An affine warp stays what it is: half-pixel slips would shift it."""
    grid = pixel_grid((6, 4))
    at = ScaleWarp(8, (grid + torch.tensor([0.7, -0.4]))[None], torch.zeros(1, 4, 6))
    fine = upsample(at, size)
    factor = size[0] / 6
    assert fine.stride == 8 / factor
    expected = pixel_grid(size) + factor * torch.tensor([0.7, -0.4])
    torch.testing.assert_close(fine.warp[0], expected)


def test_uncertain_cells_take_the_motion_around_them():
    grid = pixel_grid((20, 10))
    motion = torch.full((10, 20, 2), 2.0)
    motion[:, 12:] = 50.0  # nonsense where nothing is seen
    logit = torch.full((10, 20), 8.0)
    logit[:, 12:] = -8.0
    filled = with_neighbours(ScaleWarp(8, (grid + motion)[None], logit[None]))
    torch.testing.assert_close(
        (filled.warp[0] - grid)[:, :15], torch.full((10, 15, 2), 2.0), atol=0.1, rtol=0
    )
    assert torch.equal(filled.logit[0], logit)


def test_an_untrained_network_runs_in_both_directions_alike():
    torch.manual_seed(0)
    network = DenseNetwork().eval()
    images, masks = textured(2), torch.ones(2, 64, 96, dtype=torch.bool)
    with torch.no_grad():
        features = network.encoder(images, masks)
        swapped = network.encoder(images.flip(0), masks)
        forth, back = network.coarse(*features.maps[2].chunk(2))
        forth_swapped, back_swapped = network.coarse(*swapped.maps[2].chunk(2))
        torch.testing.assert_close(forth, back_swapped, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(back, forth_swapped, atol=1e-4, rtol=1e-4)
        warps = network.refine(
            features, features.swapped(), coarse_warp(torch.cat([forth, back]), (12, 8))
        )
    assert [warp.stride for warp in warps] == [8, 4, 2]
    assert warps[-1].warp.shape == (2, 32, 48, 2)


def test_the_network_has_less_than_four_million_parameters():
    assert sum(parameter.numel() for parameter in DenseNetwork().parameters()) < 4e6
