"""Maps with unknown pixels: sampling, resizing, sums, normals."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from aquamvs.maps import box_sum, grid_normals, sample_map
from aquamvs.pixels import pixel_grid


def ramp(width: int, height: int) -> torch.Tensor:
    grid = pixel_grid((width, height), dtype=torch.float64)
    return 3 + 0.5 * grid[..., 0] - 0.25 * grid[..., 1]


@given(st.floats(0, 6), st.floats(0, 4))
@settings(max_examples=50, deadline=None)
def test_sampling_a_linear_map_is_exact_up_to_its_edges(u: float, v: float) -> None:
    value = sample_map(ramp(7, 5), torch.tensor([u, v], dtype=torch.float64))
    assert value.item() == pytest.approx(3 + 0.5 * u - 0.25 * v, abs=1e-9)


@pytest.mark.parametrize("pixel", [(-0.01, 2), (6.01, 2), (3, -0.01), (3, 4.01), (1e9, 1e9)])
def test_outside_of_the_map_is_unknown_not_black(pixel: tuple[float, float]) -> None:
    assert sample_map(ramp(7, 5), torch.tensor(pixel, dtype=torch.float64)).isnan()


def test_pixel_without_position_is_unknown() -> None:
    assert sample_map(ramp(7, 5), torch.full((2, 2), torch.nan, dtype=torch.float64)).isnan().all()


def test_unknown_pixel_spoils_only_samples_that_touch_it() -> None:
    values = ramp(7, 5)
    values[2, 3] = torch.nan
    pixels = torch.tensor([[2.5, 2.0], [3.2, 1.1], [1.9, 2.0], [3.0, 0.9], [4.1, 3.5]]).double()
    known = sample_map(values, pixels).isfinite()
    assert known.tolist() == [False, False, True, True, True]


def test_channels_are_sampled_alike() -> None:
    values = torch.stack([ramp(7, 5), -2 * ramp(7, 5)])
    pixels = torch.rand(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sampled = sample_map(values, 3 * pixels)
    assert sampled.shape == (2, 3, 4)
    torch.testing.assert_close(sampled[1], -2 * sampled[0])


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_box_sums_equal_scipys(height: int, width: int, radius: int, seed: int) -> None:
    values = torch.rand(2, height, width, dtype=torch.float64)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1))
    expected = [ndimage.convolve(v.numpy(), kernel, mode="constant") for v in values]
    np.testing.assert_allclose(box_sum(values, radius).numpy(), expected, rtol=1e-12)


UP = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)


@given(st.floats(-2, 2), st.floats(-2, 2), st.booleans())
@settings(max_examples=30, deadline=None)
def test_normals_of_a_plane_are_exact_and_face_the_observer(a: float, b: float, flip) -> None:
    xy = pixel_grid((9, 7), dtype=torch.float64) * 1e-3
    points = torch.cat([xy, (a * xy[..., :1] + b * xy[..., 1:])], dim=-1)
    if flip:  # neither the direction of rows nor of columns decides the side
        points = points.flip(1)
    expected = torch.tensor([a, b, -1.0], dtype=torch.float64)
    expected = (expected / expected.norm()).expand(7, 9, 3)
    torch.testing.assert_close(grid_normals(points, UP, radius=2), expected)


def test_normals_do_not_reach_across_a_jump_or_a_hole() -> None:
    xy = pixel_grid((12, 8), dtype=torch.float64) * 1e-3
    step = torch.where(xy[..., 0] > 5.5e-3, 0.1, 0.0)  # a wall of 10 cm between two columns
    points = torch.cat([xy, step[..., None]], dim=-1)
    points[4, 3] = torch.nan
    normals = grid_normals(points, UP, radius=2)
    assert normals[4, 3].isnan().all()
    known = points.isfinite().all(-1)
    torch.testing.assert_close(normals[known], UP.expand(int(known.sum()), 3))


def test_lonely_point_faces_the_observer() -> None:
    points = torch.full((5, 5, 3), torch.nan, dtype=torch.float64)
    points[2, 2] = torch.tensor([0.1, 0.2, 1.0])
    assert torch.equal(grid_normals(points, UP, radius=2)[2, 2], UP)
