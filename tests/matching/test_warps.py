import dataclasses

import pytest
import torch

from aquamvs.errors import ConfigError
from aquamvs.matching import mask_warp, warp_to_matches
from aquamvs.pixels import cell_centres
from aquamvs.types import Warp

SIZE = (240, 180)


def shifted_warp(columns=60, rows=45, shift=(7.0, -3.0), seed=0):
    """Every cell lies ``shift`` further in the source; certainty is random."""
    centres = cell_centres((columns, rows), SIZE)
    certainty = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed))
    return Warp("a", "b", centres + torch.tensor(shift), certainty, SIZE)


def test_matches_are_the_certain_cells_at_their_centres():
    warp = shifted_warp()
    matches = warp_to_matches(warp, certainty_threshold=0.7)
    assert len(matches) == int((warp.certainty >= 0.7).sum())
    assert matches.scores.min() >= 0.7
    shift = matches.source_pixels - matches.reference_pixels
    torch.testing.assert_close(shift, torch.tensor([7.0, -3.0]).expand_as(shift))
    # 60 cells over 240 px: centres at 1.5, 5.5, ... in pixels whose first centre is 0.
    cell = (matches.reference_pixels - 1.5) / 4
    torch.testing.assert_close(cell, cell.round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("limit", [1, 10, 500])
def test_sampling_is_limited_spread_over_the_image_and_repeatable(limit):
    warp = shifted_warp()
    matches = warp_to_matches(warp, certainty_threshold=0.1, max_correspondences=limit)
    assert len(matches) == limit
    again = warp_to_matches(warp, certainty_threshold=0.1, max_correspondences=limit)
    assert torch.equal(matches.reference_pixels, again.reference_pixels)
    if limit == 500:
        quadrants = (matches.reference_pixels > torch.tensor([119.5, 89.5])).long()
        counts = torch.bincount(quadrants[:, 0] + 2 * quadrants[:, 1], minlength=4)
        assert counts.min() > 110


def test_uncertain_or_undefined_cells_are_never_matches():
    warp = shifted_warp()
    undefined = warp.source_pixels.clone()
    undefined[10:20] = torch.nan
    nowhere = dataclasses.replace(warp, source_pixels=undefined)
    rows = warp_to_matches(nowhere, certainty_threshold=0.0).reference_pixels[:, 1]
    assert not bool(((rows > 40) & (rows < 80)).any())
    blind = dataclasses.replace(warp, certainty=torch.zeros_like(warp.certainty))
    assert len(warp_to_matches(blind, certainty_threshold=0.0)) == 0


def test_masks_of_both_views_and_the_image_border_remove_certainty(model_at, blank_view):
    reference, source = (blank_view(n, model_at(0.0, 0.0)) for n in "ab")
    left = torch.zeros_like(reference.mask)
    left[:, :120] = True
    low = torch.zeros_like(source.mask)
    low[90:] = True
    warp = shifted_warp()
    warp = dataclasses.replace(warp, certainty=torch.ones_like(warp.certainty))
    masked = mask_warp(
        warp, dataclasses.replace(reference, mask=left), dataclasses.replace(source, mask=low)
    )
    cells = warp.reference_pixels().round()
    targets = warp.source_pixels.round()
    expected = (cells[..., 0] < 120) & (targets[..., 1] >= 90) & (targets[..., 0] < 240)
    torch.testing.assert_close(masked.certainty > 0, expected)
    assert torch.equal(masked.source_pixels, warp.source_pixels)


def test_at_least_one_correspondence_must_be_asked_for():
    with pytest.raises(ConfigError, match="max_correspondences"):
        warp_to_matches(shifted_warp(), max_correspondences=0)
