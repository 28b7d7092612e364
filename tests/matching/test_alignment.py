"""Working grids, the map through a level plane, and the plane's depth from two images."""

import dataclasses

import pytest
import torch

from aquamvs.matching.alignment import (
    HomographyAlignment,
    PlaneAlignment,
    WorkingGrid,
    find_plane_depth,
    plane_transfer,
    resample,
)
from aquamvs.matching.guidance import epipolar_distance
from aquamvs.pixels import cell_centres, pixel_grid

SIZE = (240, 180)
TILTED = (0.08, -0.05, -1.0)


def some_pixels(count=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, generator=generator, dtype=torch.float64) * torch.tensor(SIZE)


def test_a_grid_without_margin_has_the_cell_centres_of_an_even_division():
    grid = WorkingGrid.over(SIZE, (48, 32))
    torch.testing.assert_close(grid.all_pixels(), cell_centres((48, 32), SIZE))


def test_a_margin_adds_cells_beyond_the_view_and_moves_nothing():
    inner, grid = WorkingGrid.over(SIZE, (48, 32)), WorkingGrid.over(SIZE, (48, 32), 4)
    assert grid.size == (56, 40)
    torch.testing.assert_close(grid.all_pixels()[4:-4, 4:-4], inner.all_pixels())
    cells = some_pixels()
    torch.testing.assert_close(grid.cells(grid.pixels(cells)), cells)


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), TILTED])
@pytest.mark.parametrize("n_water", [1.0, 1.333])
def test_the_way_through_the_plane_and_back_is_none(model_at, normal, n_water):
    first = model_at(-0.2, 0.1, tilt_deg=5, normal=normal, n_water=n_water)
    second = model_at(0.25, 0.0, tilt_deg=10, normal=normal, n_water=n_water)
    pixels = some_pixels()
    there = plane_transfer(first, second, pixels, 0.7)
    torch.testing.assert_close(plane_transfer(second, first, there, 0.7), pixels)
    assert epipolar_distance(first, second, pixels, there).max() < 1e-6


def test_the_ray_depth_of_the_alignment_leads_to_its_plane(model_at):
    alignment = PlaneAlignment(model_at(-0.2, 0.1, tilt_deg=5), model_at(0.25, 0.0), 0.7)
    pixels = some_pixels()
    origin, direction = alignment.reference_model.cast_ray(pixels)
    points = origin + alignment.ray_depth(pixels)[:, None] * direction
    torch.testing.assert_close(points[:, 2], torch.full((300,), 1.7, dtype=torch.float64))


def test_aligned_counterparts_move_along_the_curve_direction(model_at):
    first, second = model_at(-0.2, 0.1, tilt_deg=5), model_at(0.25, 0.0, tilt_deg=10)
    alignment = PlaneAlignment(first, second, 0.7)
    pixels = some_pixels()
    direction = alignment.curve_direction(pixels)
    shallow = plane_transfer(first, second, pixels, 0.6)
    motion = plane_transfer(second, first, shallow, 0.7) - pixels
    across = motion[:, 0] * direction[:, 1] - motion[:, 1] * direction[:, 0]
    assert motion.norm(dim=-1).min() > 3
    assert (across.abs() / motion.norm(dim=-1)).max() < 0.02


def test_a_view_resampled_at_its_own_pixels_is_itself(rendered):
    view = rendered["west"]
    image, mask = resample(view, pixel_grid(view.size))
    torch.testing.assert_close(image, view.image, atol=1e-5, rtol=0)
    assert bool(mask.all())


def test_what_lies_outside_or_is_masked_is_black_and_unusable(rendered):
    view = rendered["west"]
    mask = torch.ones_like(view.mask)
    mask[:, :100] = False
    pixels = pixel_grid(view.size) + torch.tensor([50.0, 0.0])
    image, usable = resample(dataclasses.replace(view, mask=mask), pixels)
    assert not usable[:, :50].any()
    assert bool(usable[:, 50:190].all())
    assert not usable[:, 190:].any()
    assert image[~usable].max() == 0


def test_a_coarse_map_averages_what_it_skips(rendered):
    """One pixel in four of a noisy image would keep all of its noise."""
    view = rendered["west"]
    noise = torch.rand(180, 240, 3, generator=torch.Generator().manual_seed(0))
    grid = WorkingGrid.over(SIZE, (60, 45))
    image, _ = resample(dataclasses.replace(view, image=noise), grid.all_pixels())
    assert image.std() < 0.5 * noise.std()


@pytest.mark.parametrize("source", ["east", "north"])
def test_the_plane_lies_at_the_depth_of_the_bed(rendered, bed, source):
    """Waves of 4 cm under the water's 80 cm: their mean is level."""
    depth = find_plane_depth(rendered["west"], rendered[source])
    assert abs(depth - bed.depth) < 0.02


def test_the_depth_range_is_kept(rendered):
    depth = find_plane_depth(rendered["west"], rendered["east"], (0.2, 0.5))
    assert 0.2 <= depth <= 0.5


def test_black_images_have_some_plane(rendered):
    west, east = (
        dataclasses.replace(rendered[name], image=torch.zeros(180, 240, 3))
        for name in ("west", "east")
    )
    assert find_plane_depth(west, east) > 0


def test_the_whole_homography_maps_edges_to_edges_and_zooms_about_the_centre():
    whole = HomographyAlignment.whole((240, 180), (480, 180))
    corners = torch.tensor([[-0.5, -0.5], [239.5, 179.5]])
    expected = torch.tensor([[-0.5, -0.5], [479.5, 179.5]])
    torch.testing.assert_close(whole.into_source(corners), expected)
    zoomed = HomographyAlignment.whole((240, 180), (240, 180), zoom=2.0)
    expected = torch.tensor([[59.5, 44.5], [179.5, 134.5]])
    torch.testing.assert_close(zoomed.into_source(corners), expected)
