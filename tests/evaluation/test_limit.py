"""The rig's limit against Monte-Carlo triangulation and closed forms."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from aquamvs.errors import DataError, ShapeError
from aquamvs.evaluation import depth_limit, gsd, rig_limit, visible_in_depth_maps
from aquamvs.evaluation.limit import depth_points
from aquamvs.projection import RefractiveProjectionModel

SIZE = (400, 300)
WATER_Z = 1.0


def _camera(x: float, *, n_water: float = 1.333, R: Tensor | None = None, normal_x: float = 0.0):
    K = torch.tensor([[500.0, 0, 199.5], [0, 500, 149.5], [0, 0, 1]], dtype=torch.float64)
    R = torch.eye(3, dtype=torch.float64) if R is None else R
    normal = torch.tensor([normal_x, 0.0, -1.0], dtype=torch.float64)
    centre = torch.tensor([x, 0.0, 0.0], dtype=torch.float64)
    return RefractiveProjectionModel(
        K, R, -R @ centre, WATER_Z, normal / normal.norm(), 1.0, n_water
    )


def _triangulate(rig: list[RefractiveProjectionModel], seen: Tensor, start: Tensor) -> Tensor:
    """Least squares of the reprojection error for every trial; seen (C, T, 2) -> (T, 3)."""
    points = start.expand(seen.shape[1], 3)
    for _ in range(6):
        normal, right = 0, 0
        for model, pixels in zip(rig, seen, strict=True):
            projected, jacobian, _ = model.project_with_jacobian(points)
            normal = normal + jacobian.mT @ jacobian
            right = right + (jacobian.mT @ (pixels - projected)[..., None])[..., 0]
        points = points + torch.linalg.solve(normal, right)
    return points


def test_limit_is_the_covariance_of_monte_carlo_triangulation(
    rig: list[RefractiveProjectionModel],
) -> None:
    point = torch.tensor([0.05, -0.02, 1.4], dtype=torch.float64)
    noise_px, trials = 0.1, 20_000
    limit = rig_limit(rig, point, noise_px=noise_px)
    truth = torch.stack([model.project(point)[0] for model in rig])
    noise = torch.randn(4, trials, 2, generator=torch.Generator().manual_seed(0)).double()
    solutions = _triangulate(rig, truth[:, None] + noise_px * noise, point)
    sampled = torch.cov(solutions.T)
    # A variance of n samples is good to sqrt(2 / n), 1 %, and so are correlations.
    sigma = limit.covariance.diagonal().sqrt()
    assert float(((sampled - limit.covariance) / torch.outer(sigma, sigma)).abs().max()) < 0.04
    assert torch.allclose(sampled.diagonal().sqrt(), sigma, rtol=0.02)
    assert float((solutions.mean(0) - point).abs().max()) < 5 * float(sigma.max()) / trials**0.5
    ray = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    assert float((solutions @ ray).std()) == pytest.approx(float(limit.along(ray)), rel=0.02)
    assert int(limit.view_count) == 4


def test_limit_of_a_stereo_pair_in_air_has_its_closed_form() -> None:
    baseline, distance, focal, noise_px = 0.3, 2.0, 500.0, 0.1
    pair = [_camera(x, n_water=1.0) for x in (-baseline / 2, baseline / 2)]
    limit = rig_limit(pair, torch.tensor([[0.0, 0.0, distance]]).double(), noise_px=noise_px)
    # Z = f b / disparity, and a disparity of two views has sqrt(2) times the noise. The estimate
    # of Y is the mean of two, hence 1 / sqrt(2).
    assert float(limit.height) == pytest.approx(
        distance**2 / (focal * baseline) * 2**0.5 * noise_px, rel=1e-9
    )
    y = torch.tensor([0.0, 1.0, 0.0])
    assert float(limit.along(y)) == pytest.approx(distance / focal * noise_px / 2**0.5, rel=1e-9)


def test_limit_follows_a_turn_of_the_whole_world() -> None:
    angle = torch.tensor(0.4, dtype=torch.float64)
    turn = torch.eye(3, dtype=torch.float64)
    turn[:2, :2] = torch.stack(
        [torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])]
    )
    still = [_camera(x) for x in (-0.2, 0.0, 0.3)]
    turned = [replace(m, R=m.R @ turn.T) for m in still]
    point = torch.tensor([0.1, 0.2, 1.5], dtype=torch.float64)
    expected = turn @ rig_limit(still, point).covariance @ turn.T
    assert torch.allclose(rig_limit(turned, turn @ point).covariance, expected, rtol=1e-9)


def test_limit_scales_with_noise_and_shrinks_with_every_view(
    rig: list[RefractiveProjectionModel],
) -> None:
    point = torch.tensor([[0.0, 0.0, 1.4]]).double()
    assert torch.allclose(
        rig_limit(rig, point, noise_px=0.3).height, 3 * rig_limit(rig, point, noise_px=0.1).height
    )
    heights = [float(rig_limit(rig[:count], point).height) for count in (2, 3, 4)]
    assert heights == sorted(heights, reverse=True)
    twice = rig_limit([*rig, *rig], point)
    assert float(twice.height) == pytest.approx(heights[2] / 2**0.5, rel=1e-9)


def test_points_that_fewer_than_two_views_see_have_no_limit(
    rig: list[RefractiveProjectionModel],
) -> None:
    points = torch.tensor([[0.0, 0, 1.4], [0.0, 0, 1.4], [torch.nan, 0, 1.4], [9.0, 9.0, 1.4]])
    visible = torch.ones(4, 4, dtype=torch.bool)
    visible[1:, 1] = False
    limit = rig_limit(rig, points, visible, sizes=[SIZE] * 4)
    assert limit.view_count.tolist() == [4, 1, 0, 0]
    assert torch.isfinite(limit.height).tolist() == [True, False, False, False]
    assert limit.as_dict()["covariance"][1][0][0] is None


def test_one_camera_twice_is_no_baseline() -> None:
    camera = _camera(0.0)
    limit = rig_limit([camera, camera], torch.tensor([[0.1, 0.0, 1.5]]))
    assert torch.isnan(limit.height).all()


def test_blocks_do_not_show(rig: list[RefractiveProjectionModel]) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(40_000, 3, generator=generator) * torch.tensor([0.3, 0.3, 0.5])
    points = points + torch.tensor([0.0, 0.0, 1.1])
    whole = rig_limit(rig, points)
    for index in (0, 32_767, 32_768, 39_999):
        alone = rig_limit(rig, points[index])
        assert torch.allclose(whole.covariance[index], alone.covariance, rtol=1e-9)


def test_depth_limit_is_the_limit_along_the_rays(rig: list[RefractiveProjectionModel]) -> None:
    depth = torch.full((300, 400), 0.4)
    depth[:, 0] = torch.nan
    result = depth_limit(rig, rig[0], depth, sizes=[SIZE] * 4)
    assert torch.isnan(result.sigma[:, 0]).all()
    origin, direction = rig[0].cast_ray(torch.tensor([300.0, 150.0], dtype=torch.float64))
    one = rig_limit(rig, origin + 0.4 * direction, sizes=[SIZE] * 4)
    assert float(result.sigma[150, 300]) == pytest.approx(float(one.along(direction)), rel=1e-6)
    assert int(result.view_count[150, 300]) == int(one.view_count)


def test_a_coarser_limit_is_the_fine_one_within_a_percent(
    rig: list[RefractiveProjectionModel],
) -> None:
    v, u = torch.meshgrid(torch.arange(300.0), torch.arange(400.0), indexing="ij")
    depth = 0.4 + 1e-4 * u - 1e-4 * v
    depth[7, 9] = torch.nan
    fine, coarse = (depth_limit(rig, rig[0], depth, step=step) for step in (1, 7))
    assert torch.equal(torch.isnan(fine.sigma), torch.isnan(coarse.sigma))
    known = torch.isfinite(fine.sigma)
    assert float((coarse.sigma / fine.sigma - 1)[known].abs().max()) < 0.01
    with pytest.raises(DataError, match="step is 0"):
        depth_limit(rig, rig[0], depth, step=0)


def test_a_box_hides_the_floor_behind_it() -> None:
    left, right = _camera(-0.3), _camera(0.3)
    # A plate at z = 1.2 over x in [-0.05, 0.05], over a floor at z = 1.5.
    depths = []
    for camera in (left, right):
        points, direction = depth_points(camera, torch.zeros(300, 400))
        to_plate, to_floor = ((z - points[..., 2]) / direction[..., 2] for z in (1.2, 1.5))
        x = points[..., 0] + to_plate * direction[..., 0]
        depths.append(torch.where(x.abs() < 0.05, to_plate, to_floor))
    # The plate's shadow falls to the far side of each camera.
    points = torch.tensor([[0.06, 0, 1.5], [-0.06, 0, 1.5], [0.2, 0, 1.5], [0.0, 0, 1.2]])
    visible = visible_in_depth_maps([left, right], depths, points, tolerance=0.005)
    assert visible.tolist() == [[False, True, True, True], [True, False, True, True]]
    limit = rig_limit([left, right], points, visible)
    assert torch.isnan(limit.height).tolist() == [True, True, False, False]
    # The depth map's limit knows the same: the left camera's floor beside the plate is unseen.
    pixel = left.project(torch.tensor([-0.06, 0, 1.5]))[0].round().long().tolist()
    open_view = depth_limit([left, right], left, depths[0])
    hidden = depth_limit([left, right], left, depths[0], depths=depths)
    assert int(open_view.view_count[pixel[1], pixel[0]]) == 2
    assert int(hidden.view_count[pixel[1], pixel[0]]) == 1


def test_gsd_below_the_camera_is_the_paraxial_one_and_in_air_the_pinholes() -> None:
    point = torch.tensor([[0.0, 0.0, 1.5]]).double()
    assert float(gsd(_camera(0.0), point)) == pytest.approx((1 + 0.5 / 1.333) / 500, rel=1e-12)
    assert float(gsd(_camera(0.0, n_water=1.0), point)) == pytest.approx(1.5 / 500, rel=1e-12)


def test_wrong_shapes_and_noise_are_refused(rig: list[RefractiveProjectionModel]) -> None:
    points = torch.zeros(5, 3)
    with pytest.raises(ShapeError, match="visible"):
        rig_limit(rig, points, torch.ones(4, 6, dtype=torch.bool))
    with pytest.raises(ShapeError, match="points"):
        rig_limit(rig, torch.zeros(5, 2))
    with pytest.raises(DataError, match="noise_px is 0"):
        rig_limit(rig, points, noise_px=0)
    with pytest.raises(DataError, match="1 image sizes for 4 cameras"):
        rig_limit(rig, points, sizes=[SIZE])
