import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquamvs.errors import ConfigError, ShapeError
from aquamvs.matching import (
    Guidance,
    epipolar_candidates,
    epipolar_curves,
    epipolar_distance,
    keep_guided,
)
from aquamvs.types import Matches

TILTED = (0.08, -0.05, -1.0)


def scattered_pixels(count, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 2, generator=generator, dtype=dtype) * torch.tensor(
        [239.0, 179.0], dtype=dtype
    )


def true_pairs(first, second, count=200, seed=0, depth=(0.3, 1.5)):
    """Pixels of random points on the rays of ``first``, in both views."""
    pixels = scattered_pixels(count, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    t = depth[0] + (depth[1] - depth[0]) * torch.rand(
        count, generator=generator, dtype=torch.float64
    )
    origin, direction = first.cast_ray(pixels)
    other, valid = second.project(origin + t[:, None] * direction)
    assert bool(valid.all())
    return pixels, other


@pytest.mark.parametrize("n_water", [1.0, 1.333])
@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), TILTED])
def test_true_matches_lie_on_their_curves(model_at, n_water, normal):
    first = model_at(-0.2, 0.1, tilt_deg=5, n_water=n_water, normal=normal)
    second = model_at(0.25, 0.0, tilt_deg=10, n_water=n_water, normal=normal)
    pixels, other = true_pairs(first, second)
    distance = epipolar_distance(first, second, pixels, other)
    assert distance.max() < 1e-8
    assert epipolar_distance(first, second, pixels, other, (0.3, 1.5)).max() < 1e-8


def test_distance_is_that_from_the_curve_by_brute_force(model_at):
    first, second = model_at(-0.2, 0.1, tilt_deg=5), model_at(0.25, 0.0, tilt_deg=10)
    pixels, other = true_pairs(first, second, count=40)
    other = other + 8 * torch.randn(40, 2, generator=torch.Generator().manual_seed(3)).double()
    origin, direction = first.cast_ray(pixels)
    depths = torch.linspace(0.3, 1.5, 20001, dtype=torch.float64)
    curve, _ = second.project(origin[:, None] + depths[:, None] * direction[:, None])
    brute = (curve - other[:, None]).norm(dim=-1).amin(1)
    distance = epipolar_distance(first, second, pixels, other, (0.3, 1.5))
    torch.testing.assert_close(distance, brute, atol=1e-5, rtol=0)


def test_in_air_the_distance_is_that_from_the_epipolar_line(model_at):
    first = model_at(-0.2, 0.1, tilt_deg=5, n_water=1.0)
    second = model_at(0.25, 0.0, tilt_deg=10, n_water=1.0)
    pixels, other = true_pairs(first, second, count=50)
    other = other + torch.tensor([1.0, -2.0], dtype=torch.float64)
    R = second.R @ first.R.T
    t = second.t - R @ first.t
    cross = torch.tensor([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]]).double()
    F = torch.linalg.inv(second.K).T @ cross @ R @ torch.linalg.inv(first.K)
    ones = torch.ones(50, 1, dtype=torch.float64)
    line = torch.cat([pixels, ones], 1) @ F.T
    expected = (torch.cat([other, ones], 1) * line).sum(1).abs() / line[:, :2].norm(dim=1)
    torch.testing.assert_close(epipolar_distance(first, second, pixels, other), expected)


def test_refraction_bends_the_curve_by_pixels(model_at):
    # The test above would pass for straight lines in water too, were they straight.
    first, second = model_at(-0.2, 0.1, tilt_deg=5), model_at(0.25, 0.0, tilt_deg=10)
    curves = epipolar_curves(first, second, torch.tensor([[0.0, 179.0]]).double(), (0.0, 3.0))[0]
    chord = curves[-1] - curves[0]
    offset = curves - curves[0]
    bow = (offset[:, 0] * chord[1] - offset[:, 1] * chord[0]).abs().max() / chord.norm()
    assert bow > 0.5


def test_the_curve_ends_at_the_depth_range(model_at):
    first, second = model_at(-0.2, 0.0), model_at(0.2, 0.0)
    pixels, other = true_pairs(first, second, depth=(1.0, 1.2))
    inside = epipolar_distance(first, second, pixels, other, (0.9, 1.3))
    outside = epipolar_distance(first, second, pixels, other, (0.3, 0.8))
    assert inside.max() < 1e-8
    assert outside.min() > 1.0


def test_a_moved_pixel_is_as_far_away_as_it_was_moved_across(model_at):
    first, second = model_at(-0.2, 0.0), model_at(0.2, 0.0)
    pixels, other = true_pairs(first, second)  # the baseline lies along u: curves run along u
    for shift in (0.5, 3.0):
        moved = other + torch.tensor([0.0, shift], dtype=torch.float64)
        distance = epipolar_distance(first, second, pixels, moved)
        assert distance.max() <= shift + 1e-9
        assert distance.median() > 0.9 * shift


def test_a_ray_that_the_source_cannot_see_is_infinitely_far(model_at):
    first = model_at(0.0, 0.0, n_water=1.0)
    behind = model_at(0.5, 0.0, tilt_deg=-150, n_water=1.0)
    distance = epipolar_distance(
        first, behind, torch.full((1, 2), 90.0).double(), torch.zeros(1, 2).double(), (1.0, 2.0)
    )
    assert torch.isinf(distance).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_candidates_are_all_pairs_within_the_distance_in_both_views(model_at, dtype):
    first, second = model_at(-0.2, 0.1, tilt_deg=5), model_at(0.25, 0.0, tilt_deg=10)
    a, b = scattered_pixels(90, 1, dtype), scattered_pixels(110, 2, dtype)
    guidance = Guidance(max_distance_px=3.0, depth_range=(0.2, 2.0))
    found = epipolar_candidates(first, second, a, b, guidance)
    i, j = (x.flatten() for x in torch.meshgrid(torch.arange(90), torch.arange(110), indexing="ij"))
    forth = epipolar_distance(first, second, a[i].double(), b[j].double(), (0.2, 2.0))
    back = epipolar_distance(second, first, b[j].double(), a[i].double(), (0.2, 2.0))
    worst = torch.maximum(forth, back)
    pairs = set(zip(found.reference.tolist(), found.source.tolist(), strict=True))
    surely = worst < 2.95  # the chain of segments may differ from the curve by hundredths
    maybe = worst < 3.05
    assert set(zip(i[surely].tolist(), j[surely].tolist(), strict=True)) <= pairs
    assert pairs <= set(zip(i[maybe].tolist(), j[maybe].tolist(), strict=True))
    assert 0 < len(pairs) < 0.2 * 90 * 110


def test_candidates_come_in_order_and_without_keypoints_there_are_none(model_at):
    first, second = model_at(-0.2, 0.0), model_at(0.2, 0.0)
    a, none = scattered_pixels(50), torch.zeros(0, 2, dtype=torch.float64)
    found = epipolar_candidates(first, second, a, scattered_pixels(50, 1), Guidance())
    key = found.reference * 50 + found.source
    assert bool((key[1:] > key[:-1]).all())
    assert len(epipolar_candidates(first, second, a, none, Guidance())) == 0
    assert len(epipolar_candidates(first, second, none, a, Guidance())) == 0


def test_the_distance_does_not_change_when_the_world_moves(model_at):
    first, second = model_at(-0.2, 0.1, tilt_deg=5), model_at(0.25, 0.0, tilt_deg=10)
    pixels, other = true_pairs(first, second, count=30)
    other = other + 3.0
    before = epipolar_distance(first, second, pixels, other, (0.3, 1.5))
    turn = torch.tensor([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]]).double()
    shift = torch.tensor([3.0, -2.0, 0.7]).double()

    def moved(model):
        R = model.R @ turn.T
        t = model.t - R @ shift
        return type(model)(model.K, R, t, model.water_z + 0.7, turn @ model.normal, 1.0, 1.333)

    after = epipolar_distance(moved(first), moved(second), pixels, other, (0.3, 1.5))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)


def test_filtering_keeps_true_matches_and_drops_moved_ones(model_at, blank_view):
    first = blank_view("a", model_at(-0.2, 0.0))
    second = blank_view("b", model_at(0.2, 0.0))
    pixels, other = true_pairs(first.model, second.model, count=60)
    other[30:, 1] += 9.0
    matches = Matches("a", "b", pixels, other, torch.linspace(0, 1, 60))
    kept = keep_guided(matches, first, second, Guidance())
    torch.testing.assert_close(kept.scores, matches.scores[:30])


@settings(max_examples=30, deadline=None)
@given(
    x=st.floats(-0.5, 0.5),
    y=st.floats(-0.5, 0.5),
    tilt=st.floats(-15, 15),
    index=st.floats(1.0, 1.6),
    seed=st.integers(0, 1000),
)
def test_true_matches_are_never_gated(model_at, x, y, tilt, index, seed):
    first = model_at(0.0, 0.0, n_water=index)
    second = model_at(x, y, tilt_deg=tilt, n_water=index)
    pixels, other = true_pairs(first, second, count=20, seed=seed)
    found = epipolar_candidates(first, second, pixels, other, Guidance(max_distance_px=0.5))
    pairs = set(zip(found.reference.tolist(), found.source.tolist(), strict=True))
    assert {(k, k) for k in range(20)} <= pairs


def test_bad_input_is_refused(model_at):
    model = model_at(0.0, 0.0)
    with pytest.raises(ConfigError, match="max_distance_px"):
        Guidance(max_distance_px=0.0)
    with pytest.raises(ConfigError, match="depth_range"):
        Guidance(depth_range=(1.0, 1.0))
    with pytest.raises(ShapeError, match="pixels"):
        epipolar_curves(model, model, torch.zeros(3))
    with pytest.raises(ShapeError, match="source_pixels"):
        epipolar_distance(model, model, torch.zeros(3, 2), torch.zeros(4, 2))


def test_a_short_chain_follows_the_curve_to_a_fraction_of_a_pixel(model_at):
    first, second = model_at(-0.2, 0.1, tilt_deg=5), model_at(0.25, 0.0, tilt_deg=10)
    pixels = scattered_pixels(50)
    fine = epipolar_curves(first, second, pixels, samples=16 * 64 + 1)
    coarse = fine[:, ::64]
    segment = np.arange(16 * 64) // 64
    fraction = torch.from_numpy((np.arange(16 * 64) % 64) / 64)[:, None]
    chain = coarse[:, segment] + fraction * (coarse[:, segment + 1] - coarse[:, segment])
    # Chain and curve at the same place: the distance between them is at most this.
    gap = (chain - fine[:, :-1]).norm(dim=-1).max()
    assert gap < 0.5
    assert epipolar_distance(first, second, pixels, fine[:, 500]).max() < 1e-6
