"""What pairs of keypoints tell by geometry alone."""

import pytest
import torch

from aquamvs.matching import epipolar_distance
from aquamvs.matching.guidance import Candidates
from aquamvs.matching.transfer import transfers
from aquamvs.types import View

COUNT = 50


def view(name, model):
    return View(name, torch.zeros(180, 240, 3), torch.ones(180, 240, dtype=torch.bool), model)


@pytest.fixture
def pair(model_at):
    """Two views of a tilted interface, points below it, and their pixels."""
    normal = (0.05, -0.03, -1.0)
    first = model_at(-0.2, 0.1, tilt_deg=5, normal=normal)
    second = model_at(0.25, 0.0, tilt_deg=10, normal=normal)
    generator = torch.Generator().manual_seed(3)
    pixels = torch.rand(COUNT, 2, generator=generator, dtype=torch.float64)
    pixels = pixels * torch.tensor([239.0, 179.0], dtype=torch.float64)
    depth = 0.5 + 0.5 * torch.rand(COUNT, 1, generator=generator, dtype=torch.float64)
    origin, direction = first.cast_ray(pixels)
    points = origin + depth * direction
    return (view("a", first), view("b", second)), points, (pixels, second.project(points)[0])


def both_ways(views, pixels):
    each = torch.arange(COUNT)
    ((_, ways),) = transfers(Candidates(each, each), views, pixels)
    return ways


def test_the_level_is_the_depth_below_the_interface(pair):
    views, points, pixels = pair
    model = views[0].model
    surface = torch.tensor([0.0, 0.0, model.water_z], dtype=torch.float64)
    forth, back = both_ways(views, pixels)
    expected = -(points - surface) @ model.normal
    torch.testing.assert_close(forth.level, expected, rtol=0, atol=1e-9)
    assert torch.equal(forth.level, back.level)


def test_the_distance_is_that_from_the_curve(pair):
    views, _, (pixels, target) = pair
    generator = torch.Generator().manual_seed(5)
    moved = target + torch.randn(COUNT, 2, generator=generator, dtype=torch.float64)
    forth, back = both_ways(views, (pixels, moved))
    first, second = (v.model for v in views)
    for way, expected in (
        (forth, epipolar_distance(first, second, pixels, moved)),
        (back, epipolar_distance(second, first, moved, pixels)),
    ):
        torch.testing.assert_close(way.distance, expected, rtol=0.02, atol=0.02)


def test_the_rate_is_that_of_the_partner_along_the_ray(pair):
    views, points, pixels = pair
    step = 1e-5
    _, direction = views[0].model.cast_ray(pixels[0])
    moved, _ = views[1].model.project(points + step * direction)
    forth, _ = both_ways(views, pixels)
    torch.testing.assert_close(
        forth.rate, (moved - pixels[1]).norm(dim=-1) / step, rtol=1e-3, atol=0
    )
