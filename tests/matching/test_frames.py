import math

import pytest
import torch

from aquamvs.matching import Features
from aquamvs.matching.frames import consistent_frames
from aquamvs.matching.guidance import Candidates
from aquamvs.projection import patch_affine

LEVEL = 1.7


def level_patch(first, second, normal=(0.0, 0.0, -1.0)):
    """Points on a plane parallel to the water at Z = LEVEL below the origin, and their pixels."""
    pixels = torch.tensor([[60.0, 50.0], [120.0, 90.0], [200.0, 140.0]], dtype=torch.float64)
    return on_plane(first, pixels, normal), pixels


def rolled(model, angle_deg):
    """The camera turned about its optical axis."""
    c, s = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    return type(model)(
        model.K, turn @ model.R, turn @ model.t, model.water_z, model.normal, 1.0, model.n_water
    )


def on_plane(model, pixels, normal):
    n = torch.tensor(normal, dtype=torch.float64)
    n = n / n.norm()
    anchor = torch.tensor([0.0, 0.0, LEVEL], dtype=torch.float64)
    origin, direction = model.cast_ray(pixels)
    t = ((anchor - origin) @ n) / (direction @ n)
    return origin + t[:, None] * direction


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.08, -0.05, -1.0)])
def test_the_affine_is_the_derivative_of_the_transfer_by_a_level_plane(model_at, normal):
    first = model_at(-0.2, 0.1, tilt_deg=5, normal=normal)
    second = model_at(0.25, 0.0, tilt_deg=12, normal=normal)
    points, pixels = level_patch(first, second, normal)
    affine = patch_affine(first, second, points)
    step = 1e-4
    for axis in (0, 1):
        shift = torch.zeros(2, dtype=torch.float64)
        shift[axis] = step
        plus = second.project(on_plane(first, pixels + shift, normal))[0]
        minus = second.project(on_plane(first, pixels - shift, normal))[0]
        torch.testing.assert_close(
            affine[:, :, axis], (plus - minus) / (2 * step), atol=1e-6, rtol=1e-6
        )


def features(pixels, scales, orientations):
    count = len(pixels)
    return Features(pixels, torch.zeros(count, 4), torch.ones(count), scales, orientations)


def test_frames_that_turn_and_grow_as_predicted_are_kept_and_others_dropped(model_at):
    first, second = model_at(-0.2, 0.1, tilt_deg=5), rolled(model_at(0.0, 0.9, tilt_deg=20), 50)
    points, pixels = level_patch(first, second)
    affine = patch_affine(first, second, points)
    angle = torch.tensor([0.3, 2.0, -1.0], dtype=torch.float64)
    turned = affine @ torch.stack([torch.cos(angle), torch.sin(angle)], -1)[:, :, None]
    predicted = torch.atan2(turned[:, 1, 0], turned[:, 0, 0])
    growth = torch.linalg.det(affine).sqrt()
    assert (predicted - angle).abs().min() > math.radians(30)  # something to see
    a = features(pixels, torch.full((3,), 4.0).double(), angle)
    candidates = Candidates(torch.arange(3), torch.arange(3))

    def kept(turn_deg, octaves):
        b = features(
            second.project(points)[0],
            4.0 * growth * 2.0**octaves,
            predicted + math.radians(turn_deg) + 2 * math.pi,
        )
        return consistent_frames(
            candidates, (first, second), (a, b), max_rotation_deg=20.0, max_octaves=0.5
        ).tolist()

    assert kept(0.0, 0.0) == [True] * 3
    assert kept(19.0, 0.45) == [True] * 3
    assert kept(-19.0, -0.45) == [True] * 3
    assert kept(21.0, 0.0) == [False] * 3
    assert kept(0.0, 0.55) == [False] * 3
    assert kept(0.0, -0.55) == [False] * 3


def test_rays_that_meet_above_the_water_are_no_candidates(model_at):
    first, second = model_at(-0.2, 0.0), model_at(0.2, 0.0)
    # Diverging rays "meet" above the surface.
    a = features(torch.tensor([[20.0, 90.0]]), torch.ones(1), torch.zeros(1))
    b = features(torch.tensor([[220.0, 90.0]]), torch.ones(1), torch.zeros(1))
    keep = consistent_frames(
        Candidates(torch.tensor([0]), torch.tensor([0])),
        (first, second),
        (a, b),
        max_rotation_deg=180.0,
        max_octaves=10.0,
    )
    assert keep.tolist() == [False]
