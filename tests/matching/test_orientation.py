"""Whether matches of a pair tell how its cameras are really turned against each other."""

import pytest
import torch

from aquamvs.matching import LightGlueMatcher, LightGlueOptions, epipolar_distance
from aquamvs.matching.orientation import _turn_rates, with_true_turn
from aquamvs.types import View

COUNT = 120


def view(name, model, size=(240, 180)):
    image = torch.zeros(size[1], size[0], 3)
    return View(name, image, torch.ones(size[1], size[0], dtype=torch.bool), model)


@pytest.fixture
def cameras(model_at):
    return model_at(-0.2, 0.1, tilt_deg=5), model_at(0.25, 0.0, tilt_deg=10)


def matches(first, second, count=COUNT, noise=0.0):
    """Pixels of random points under water, seen by both cameras."""
    generator = torch.Generator().manual_seed(4)
    pixels = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    pixels = pixels * torch.tensor([239.0, 179.0], dtype=torch.float64)
    depth = 0.5 + 0.5 * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    origin, direction = first.cast_ray(pixels)
    other, valid = second.project(origin + depth * direction)
    assert bool(valid.all())
    shift = noise * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    return pixels, other + shift


def angles(model, px):
    """A turn that moves the image by about so much."""
    return torch.tensor([px, -0.7 * px, 2 * px]).double() / model.K[0, 0]


def distances(views, pixels):
    return epipolar_distance(views[0].model, views[1].model, *pixels)


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("px", [0.5, 2.0])
def test_a_turned_camera_is_turned_back(cameras, who, px):
    """Whichever of the two it is: the other one's turn has the same effect on the curves."""
    pixels = matches(*cameras)
    models = list(cameras)
    models[who] = models[who].turned(angles(models[who], px))
    wrong = view("a", models[0]), view("b", models[1])
    right = with_true_turn(wrong, pixels, reach_px=8.0)
    assert distances(wrong, pixels).median() > 0.3 * px
    assert distances(right, pixels).median() < 0.1 * px
    assert right[0] is wrong[0]


def test_wrong_matches_and_noise_do_little(cameras):
    first, second = cameras
    wrong = view("a", first), view("b", second.turned(angles(second, 1.5)))
    pixels, other = matches(first, second, noise=0.3)
    generator = torch.Generator().manual_seed(5)
    other[: COUNT // 4] += 6 * torch.randn(COUNT // 4, 2, generator=generator).double()
    right = with_true_turn(wrong, (pixels, other), reach_px=4.0)
    assert distances(right, matches(first, second)).median() < 0.15


def test_exact_calibrations_stay(cameras):
    views = view("a", cameras[0]), view("b", cameras[1])
    right = with_true_turn(views, matches(*cameras), reach_px=4.0)
    torch.testing.assert_close(right[1].model.R, cameras[1].R, atol=1e-7, rtol=0)
    torch.testing.assert_close(right[1].model.camera_center, cameras[1].camera_center)


def test_rays_that_meet_above_the_water_do_not_count(cameras):
    views = view("a", cameras[0]), view("b", cameras[1])
    pixels, other = matches(*cameras)
    crossed = torch.tensor([[20.0, 90.0]]).double(), torch.tensor([[220.0, 95.0]]).double()
    assert epipolar_distance(*cameras, *crossed) < 200.0
    both = torch.cat([pixels, crossed[0]]), torch.cat([other, crossed[1]])
    right = with_true_turn(views, both, reach_px=200.0)
    torch.testing.assert_close(right[1].model.R, cameras[1].R, atol=1e-6, rtol=0)


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_matches_say_nothing(cameras, count):
    views = view("a", cameras[0]), view("b", cameras[1].turned(angles(cameras[1], 1.0)))
    right = with_true_turn(views, matches(*cameras, count=count), reach_px=4.0)
    assert right[1] is views[1]


def test_a_pixel_of_the_coarser_view_is_the_measure(model_at):
    """Of a wide view's pixel a long lens makes four: its curves may be off by as many."""
    wide, tele = model_at(-0.1, 0.0, focal=75.0), model_at(0.1, 0.0, focal=300.0)
    generator = torch.Generator().manual_seed(6)
    pixels = torch.rand(COUNT, 2, generator=generator, dtype=torch.float64)
    pixels = 100 + 30 * pixels
    origin, direction = wide.cast_ray(pixels)
    other, _ = tele.project(origin + 0.6 * direction)
    turned = wide.turned(torch.tensor([1.5, 0.0, 0.0]) / 75.0)
    wrong = view("a", turned), view("b", tele)
    assert distances(wrong, (pixels, other)).median() > 4.0
    right = with_true_turn(wrong, (pixels, other), reach_px=2.0)
    assert distances(right, (pixels, other)).median() < 0.5


def test_rates_are_those_of_the_turned_camera(cameras):
    model = cameras[1]
    pixels, _ = matches(*cameras)
    origin, direction = model.cast_ray(pixels)
    points = origin + 0.5 * direction
    step = 1e-6
    for axis in range(3):
        turn = step * torch.eye(3, dtype=torch.float64)[axis]
        moved = (model.turned(turn).project(points)[0] - model.turned(-turn).project(points)[0]) / (
            2 * step
        )
        torch.testing.assert_close(
            _turn_rates(model, pixels)[..., axis], moved, rtol=1e-6, atol=1e-4
        )


def test_lightglue_finds_as_much_on_a_rig_that_moved(rendered):
    matcher = LightGlueMatcher.create(LightGlueOptions())
    west, east = rendered["west"], rendered["east"]
    model = east.model.turned(angles(east.model, 2.0))
    moved = View(east.name, east.image, east.mask, model)
    expected, found = matcher.match(west, east), matcher.match(west, moved)
    assert len(expected) > 50
    assert abs(len(found) - len(expected)) <= 0.05 * len(expected)
