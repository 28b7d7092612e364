"""Ray depth: metres along the refracted ray from the water surface."""

import pytest
import torch

from aquamvs.errors import ShapeError
from aquamvs.evaluation import depth_points
from aquamvs.pixels import pixel_grid
from aquamvs.projection import RefractiveProjectionModel
from aquamvs.projection.depth import ray_depth


def test_depth_and_pixels_come_back(models) -> None:
    generator = torch.Generator().manual_seed(0)
    depth = 0.05 + torch.rand(120, 160, generator=generator, dtype=torch.float64)
    for model in models:
        points, _ = depth_points(model, depth)
        pixels, found, valid = ray_depth(model, points)
        assert valid.all()
        torch.testing.assert_close(found, depth, atol=1e-9, rtol=0)
        grid = pixel_grid((160, 120), dtype=torch.float64)
        torch.testing.assert_close(pixels, grid, atol=1e-7, rtol=0)


def test_depth_straight_below_the_camera_is_the_distance_below_the_water() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    K = torch.tensor([[100.0, 0, 5], [0, 100, 5], [0, 0, 1]], dtype=torch.float64)
    normal = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
    model = RefractiveProjectionModel(K, eye, torch.zeros(3).double(), 1.0, normal, 1.0, 1.333)
    pixel, depth, valid = ray_depth(model, torch.tensor([0.0, 0.0, 1.25], dtype=torch.float64))
    assert valid
    assert pixel.tolist() == pytest.approx([5, 5])
    assert depth.item() == pytest.approx(0.25)


def test_depth_is_measured_along_the_bent_ray(models) -> None:
    pixel = torch.tensor([3.0, 110.0], dtype=torch.float64)
    origin, direction = models[0].cast_ray(pixel)
    for metres in (0.0, 0.3, 2.0):
        _, depth, _ = ray_depth(models[0], origin + metres * direction)
        assert depth.item() == pytest.approx(metres, abs=1e-9)


def test_points_above_the_water_have_no_depth(models) -> None:
    points = torch.tensor([[0.0, 0.0, 0.3], [torch.nan, 0.0, 1.0]], dtype=torch.float64)
    pixels, depth, valid = ray_depth(models[0], points)
    assert not valid.any()
    assert pixels.isnan().all()
    assert depth.isnan().all()


def test_unknown_depth_gives_no_point(models) -> None:
    depth = torch.full((120, 160), 0.3)
    depth[5, 6] = torch.nan
    points, _ = depth_points(models[0], depth)
    assert points.isnan().any(-1).sum() == 1
    assert points[5, 6].isnan().all()


def test_depth_must_be_a_map(models) -> None:
    with pytest.raises(ShapeError, match="depth"):
        depth_points(models[0], torch.zeros(3))
