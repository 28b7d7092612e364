import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aquamvs.errors import ConfigError, DataError, StageError
from aquamvs.triangulation import TriangulationOptions, build_tracks, triangulate
from aquamvs.triangulation.solver import cast_rays, intersect, solve_tracks
from aquamvs.triangulation.triangulate import ray_angles_deg, robust_pixel_sigma
from aquamvs.types import Matches, UndistortedViews, Warp


def nearest_errors(cloud, points):
    """Distance of each cloud point from its nearest true point, metres, and that point's index."""
    gap = (cloud.points[:, None] - points[None]).norm(dim=-1)
    return gap.min(1)


@pytest.mark.parametrize("n_water", [1.0, 1.333])
@pytest.mark.parametrize("tilt_deg", [0.0, 6.0])
@pytest.mark.parametrize("cameras", [2, 5])
def test_noise_free_matches_give_the_points_themselves(
    make_rig, make_points, n_water, tilt_deg, cameras
):
    rig = make_rig(cameras, n_water=n_water, water_tilt_deg=tilt_deg)
    points = make_points(300)
    cloud = triangulate(rig.views, rig.matches(points))
    errors, index = nearest_errors(cloud, points)
    assert len(cloud) > 80
    assert len(index.unique()) == len(cloud)
    assert errors.max() < 1e-9
    assert cloud.reprojection_error_px.max() < 1e-6


def test_the_midpoint_is_exact_where_rays_meet_and_bounded_where_they_are_parallel(
    make_rig, make_points
):
    rig = make_rig(4)
    tracks = build_tracks(rig.matches(make_points(50)))
    models = [rig.views[name].model for name in tracks.cameras]
    start = intersect(cast_rays(models, tracks), tracks)
    solution = solve_tracks(models, tracks)
    torch.testing.assert_close(start, solution.points, atol=1e-9, rtol=0)
    twin = dataclasses.replace(rig.views.views[0], name="twin")
    views = UndistortedViews(0, (rig.views.views[0], twin))
    pixels = torch.tensor([[400.0, 300.0]])
    same = build_tracks([Matches("cam0", "twin", pixels, pixels, torch.ones(1))])
    assert torch.isfinite(intersect(cast_rays([v.model for v in views], same), same)).all()


def test_the_solution_minimises_the_reprojection_error(make_rig, make_points):
    """Against a generic optimiser on the same cost, with numerical derivatives."""
    from scipy.optimize import least_squares

    rig = make_rig(5, water_tilt_deg=4.0)
    tracks = build_tracks(rig.matches(make_points(6, seed=2), noise_px=1.0))
    models = [rig.views[name].model for name in tracks.cameras]
    solution = solve_tracks(models, tracks)
    for t in range(len(tracks)):
        rows = (tracks.track == t).nonzero()[:, 0].tolist()

        def residual(x, rows=rows):
            point = torch.from_numpy(x)[None]
            return torch.cat(
                [models[tracks.camera[k]].project(point)[0][0] - tracks.pixels[k] for k in rows]
            ).numpy()

        reference = least_squares(residual, solution.points[t].numpy() + 0.01, xtol=1e-14)
        assert abs(reference.x - solution.points[t].numpy()).max() < 1e-6
        assert solution.residual[rows].square().sum() <= 2 * reference.cost + 1e-9


def test_predicted_covariance_is_the_scatter_of_repeated_measurements(make_rig):
    rig = make_rig(4, water_tilt_deg=3.0)
    point = torch.tensor([[0.05, -0.04, 1.62]], dtype=torch.float64)
    sigma = 0.4
    trials = 3000
    one = rig.matches(point.expand(trials, 3), noise_px=sigma, seed=5)
    cloud = triangulate(
        rig.views, one, TriangulationOptions(max_reprojection_error_px=20.0, pixel_sigma=sigma)
    )
    assert len(cloud) == trials
    assert bool((cloud.view_count == 4).all())
    scatter = torch.cov(cloud.points.T)
    predicted = cloud.covariance.mean(0)
    # The standard error of a variance from 3000 trials is 2.6 %.
    torch.testing.assert_close(scatter.diagonal(), predicted.diagonal(), rtol=0.1, atol=0)
    correlation = scatter / scatter.diagonal().sqrt().outer(scatter.diagonal().sqrt())
    expected = predicted / predicted.diagonal().sqrt().outer(predicted.diagonal().sqrt())
    torch.testing.assert_close(correlation, expected, atol=0.05, rtol=0)
    along = (cloud.points - point) @ cloud.viewing_direction.double().mean(0)
    assert float(along.std()) == pytest.approx(float(cloud.sigma.mean()), rel=0.1)
    # Bias is a small part of the scatter.
    assert (cloud.points.mean(0) - point[0]).norm() < 0.1 * scatter.trace().sqrt()


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_pixel_noise_is_estimated_from_the_residuals(make_rig, make_points, sigma):
    rig = make_rig(5)
    points = make_points(1500)
    cloud = triangulate(
        rig.views,
        rig.matches(points, noise_px=sigma),
        TriangulationOptions(max_reprojection_error_px=5.0),
    )
    assert cloud.pixel_sigma == pytest.approx(sigma, rel=0.06)
    errors = (cloud.points - points[nearest_errors(cloud, points)[1]])[:, :, None]
    normalised = (errors.mT @ torch.linalg.inv(cloud.covariance) @ errors)[:, 0, 0]
    assert float(normalised.mean()) == pytest.approx(3.0, rel=0.12)


def test_wrong_matches_do_not_inflate_the_noise_estimate():
    generator = torch.Generator().manual_seed(0)
    count = torch.randint(2, 7, (4000,), generator=generator)
    squared = torch.stack(
        [(0.3 * torch.randn(2 * int(c) - 3, generator=generator)).square().sum() for c in count]
    )
    assert robust_pixel_sigma(squared, count) == pytest.approx(0.3, rel=0.04)
    squared[:400] = 4.0
    assert robust_pixel_sigma(squared, count) == pytest.approx(0.3, rel=0.15)
    assert float((squared.sum() / (2 * count - 3).sum()).sqrt()) > 0.4  # what a mean would say
    assert robust_pixel_sigma(torch.zeros(5), torch.full((5,), 2)) == pytest.approx(1e-3)


@settings(max_examples=10, deadline=None)
@given(angle=st.floats(-180, 180), x=st.floats(-5, 5), y=st.floats(-5, 5), z=st.floats(-2, 2))
def test_moving_the_world_moves_the_cloud(make_rig, make_points, rotate, angle, x, y, z):
    turn = rotate((0.0, 0.0, 1.0), angle)
    shift = torch.tensor([x, y, z], dtype=torch.float64)
    points = make_points(60)
    here = make_rig(4, water_tilt_deg=5.0)
    there = make_rig(4, water_tilt_deg=5.0, world=turn, shift=shift)
    matches = here.matches(points, noise_px=0.3)
    first, second = triangulate(here.views, matches), triangulate(there.views, matches)
    torch.testing.assert_close(second.points, first.points @ turn.T + shift, atol=1e-7, rtol=0)
    turned = turn @ first.covariance @ turn.T
    torch.testing.assert_close(second.covariance, turned, atol=1e-12, rtol=1e-4)
    torch.testing.assert_close(second.sigma, first.sigma)


def test_the_cloud_does_not_depend_on_the_order_of_cameras_and_matches(make_rig, make_points):
    rig = make_rig(5)
    matches = rig.matches(make_points(100), noise_px=0.5)
    turned = UndistortedViews(0, tuple(reversed(rig.views.views)))
    first = triangulate(rig.views, matches)
    second = triangulate(turned, list(reversed(matches)))
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name


def test_more_views_make_a_point_more_certain(make_rig):
    points = torch.tensor([[0.0, 0.0, 1.6]], dtype=torch.float64).expand(20, 3)
    rig = make_rig(6)
    options = TriangulationOptions(pixel_sigma=0.3, max_reprojection_error_px=10.0)
    every = triangulate(rig.views, rig.matches(points, noise_px=0.3), options)
    two = triangulate(
        rig.views, rig.matches(points, noise_px=0.3, pairs=[("cam0", "cam1")]), options
    )
    assert every.view_count.tolist() == [6] * 20
    assert two.view_count.tolist() == [2] * 20
    assert every.sigma.max() < 0.6 * two.sigma.min()
    assert every.ray_angle_deg.min() > two.ray_angle_deg.max()


def test_ray_angles_are_those_of_the_refracted_rays(make_rig, make_points):
    rig = make_rig(5)
    tracks = build_tracks(rig.matches(make_points(40)))
    rays = cast_rays([rig.views[name].model for name in tracks.cameras], tracks)
    angles = ray_angles_deg(rays, tracks)
    for t in range(len(tracks)):
        own = rays.direction[tracks.track == t]
        cosine = (own @ own.T).clamp(-1, 1)
        assert float(angles[t]) == pytest.approx(float(torch.rad2deg(cosine.acos().max())))


def corrupted(rig, points, camera, *, shift=40.0, share=4):
    """Matches where every ``share``-th keypoint of one camera lies elsewhere."""
    result = []
    wrong = rig.views[camera].model.project(points[::share])[0]
    for m in rig.matches(points):
        ends = {m.reference: m.reference_pixels.clone(), m.source: m.source_pixels.clone()}
        if camera in ends:
            gap = (ends[camera][:, None] - wrong[None]).norm(dim=-1)
            ends[camera][gap.amin(1) < 1e-6] += torch.tensor([shift, 0.7 * shift]).double()
        result.append(Matches(m.reference, m.source, ends[m.reference], ends[m.source], m.scores))
    return result


def test_a_wrong_observation_is_dropped_and_the_rest_kept(make_rig, make_points):
    rig = make_rig(6, radius=0.25)
    points = make_points(120)
    clean = triangulate(rig.views, rig.matches(points))
    cloud = triangulate(rig.views, corrupted(rig, points, "cam2"))
    full = (clean.view_count >= 4).sum()
    errors, _ = nearest_errors(cloud, points)
    assert errors.max() < 1e-9
    assert len(cloud) >= int(full)
    bad = cloud.view_count.sum() - clean.view_count.sum()
    assert int(bad) <= -20  # the wrong observations are gone
    position = cloud.cameras.index("cam2")
    assert cloud.observed[:, position].any()  # and only those


def test_two_wrong_observations_of_one_track_are_both_dropped(make_rig):
    rig = make_rig(7, radius=0.25)
    points = torch.tensor([[0.01, 0.02, 1.6]], dtype=torch.float64)
    matches = corrupted(rig, points, "cam1", share=1)
    pixel = rig.views["cam4"].model.project(points)[0][0]
    moved = []
    for m in matches:
        ends = {m.reference: m.reference_pixels.clone(), m.source: m.source_pixels.clone()}
        if "cam4" in ends:
            ends["cam4"][(ends["cam4"] - pixel).norm(dim=-1) < 1e-6] -= 33.0
        moved.append(Matches(m.reference, m.source, ends[m.reference], ends[m.source], m.scores))
    cloud = triangulate(rig.views, moved)
    assert cloud.view_count.tolist() == [5]
    assert (cloud.points - points).norm() < 1e-9
    seen = [name for name, k in zip(cloud.cameras, cloud.observed[0], strict=True) if k]
    assert seen == ["cam0", "cam2", "cam3", "cam5", "cam6"]


def test_two_views_that_disagree_are_gated(make_rig, make_points):
    rig = make_rig(2)
    matches = rig.matches(make_points(50))[0]
    # Across the epipolar curve; along it, two views cannot tell.
    across = torch.tensor([0.0, 25.0]).double()
    wrong = matches.source_pixels.clone()
    wrong[::2] += across
    bad = Matches("cam0", "cam1", matches.reference_pixels, wrong, matches.scores)
    cloud = triangulate(rig.views, [bad])
    assert cloud.reprojection_error_px.max() <= 2.0
    assert len(cloud) < 0.8 * len(matches)
    tight = triangulate(rig.views, [matches], TriangulationOptions(max_reprojection_error_px=0.01))
    assert len(tight) == len(matches)


def test_gates_remove_exactly_the_points_beyond_them(make_rig, make_points):
    rig = make_rig(5)
    points = make_points(200)
    matches = rig.matches(points)
    every = triangulate(rig.views, matches)
    depth = every.points[:, 2] - 1.0

    def kept(**options):
        return triangulate(rig.views, matches, TriangulationOptions(**options)).points

    torch.testing.assert_close(kept(min_views=4), every.points[every.view_count >= 4])
    torch.testing.assert_close(kept(min_depth=0.6), every.points[depth >= 0.6])
    torch.testing.assert_close(kept(max_depth=0.6), every.points[depth <= 0.6])
    angles = every.ray_angle_deg.sort().values
    half = len(angles) // 2
    limit = float(angles[half] + angles[half + 1]) / 2
    torch.testing.assert_close(
        kept(min_ray_angle_deg=limit), every.points[every.ray_angle_deg >= limit]
    )


def test_points_above_the_water_are_gated_but_not_in_air(make_rig):
    above = torch.tensor([[0.0, 0.0, 0.8], [0.05, 0.0, 0.8]], dtype=torch.float64)
    air = make_rig(4, n_water=1.0)
    matches = air.matches(above)
    cloud = triangulate(air.views, matches)
    torch.testing.assert_close(cloud.points, above, atol=1e-9, rtol=0)
    with pytest.raises(StageError, match="kept none of 2 tracks"):
        triangulate(make_rig(4).views, matches)


def test_points_just_below_the_surface_are_found_despite_noise(make_rig):
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(200, 3, generator=generator, dtype=torch.float64)
    points = (points - 0.5) * torch.tensor([0.3, 0.3, 0.0]).double() + torch.tensor([0, 0, 1.002])
    rig = make_rig(4)
    cloud = triangulate(rig.views, rig.matches(points, noise_px=0.3))
    assert len(cloud) > 150
    assert bool((cloud.points[:, 2] >= 1.0).all())


def test_colours_are_the_mean_of_the_observing_views(make_rig, make_points):
    rig = make_rig(5)  # camera k is uniformly 0.1 (k + 1)
    cloud = triangulate(rig.views, rig.matches(make_points(50)))
    level = 0.1 * torch.arange(1, 6)
    expected = (cloud.observed * level).sum(1) / cloud.observed.sum(1)
    torch.testing.assert_close(cloud.colors, expected[:, None].expand(-1, 3))
    assert torch.equal(cloud.observed.sum(1).int(), cloud.view_count)


def test_confidence_follows_match_score_and_fit(make_rig, make_points):
    rig = make_rig(4)
    points = make_points(60)
    weak = [dataclasses.replace(m, scores=0.5 * m.scores) for m in rig.matches(points)]
    cloud = triangulate(rig.views, weak)
    torch.testing.assert_close(cloud.confidence, torch.full((len(cloud),), 0.5))
    noisy = triangulate(rig.views, rig.matches(points, noise_px=0.5))
    order = noisy.reprojection_error_px.argsort()
    third = len(order) // 3
    assert noisy.confidence[order[:third]].mean() > noisy.confidence[order[-third:]].mean() + 0.05
    assert 0 <= noisy.confidence.min() <= noisy.confidence.max() <= 1


def test_normals_of_a_plane_are_the_planes_and_face_the_cameras(make_rig, rotate):
    slope = rotate((1.0, 0.5, 0.0), 25.0)
    generator = torch.Generator().manual_seed(1)
    flat = torch.rand(400, 3, generator=generator, dtype=torch.float64) - 0.5
    flat = flat * torch.tensor([0.4, 0.4, 0.0]).double()
    points = flat @ slope.T + torch.tensor([0.0, 0.0, 1.7]).double()
    rig = make_rig(6)
    cloud = triangulate(rig.views, rig.matches(points)).to_point_cloud()
    expected = -slope[:, 2].float()
    torch.testing.assert_close(cloud.normals, expected.expand(len(cloud), 3), atol=1e-4, rtol=0)


def test_a_cloud_of_one_or_two_points_has_normals_too(make_rig):
    rig = make_rig(4)
    cloud = triangulate(rig.views, rig.matches(torch.tensor([[0.0, 0.0, 1.6]]).double()))
    normals = cloud.to_point_cloud().normals
    torch.testing.assert_close(normals, torch.tensor([[0.0, 0.0, -1.0]]), atol=0.1, rtol=0)


def test_samples_of_dense_warps_go_the_same_road(make_rig):
    """A warp between two views of a plane, from the rig itself."""
    rig = make_rig(2)
    first, second = rig.views
    warp = Warp("cam0", "cam1", torch.zeros(30, 40, 2), torch.ones(30, 40), first.size)
    origin, direction = first.model.cast_ray(warp.reference_pixels().double())
    points = origin + ((1.7 - origin[..., 2:]) / direction[..., 2:]) * direction
    pixels, _ = second.model.project(points)
    from aquamvs.matching import mask_warp, warp_to_matches

    warp = mask_warp(dataclasses.replace(warp, source_pixels=pixels.float()), first, second)
    cloud = triangulate(rig.views, [warp_to_matches(warp)])
    assert len(cloud) == int((warp.certainty > 0).sum())
    assert (cloud.points[:, 2] - 1.7).abs().max() < 1e-4


def test_nothing_to_triangulate_is_an_error_that_says_why(make_rig, make_points):
    rig = make_rig(3)
    with pytest.raises(StageError, match="no correspondences"):
        triangulate(rig.views, [])
    with pytest.raises(StageError, match=r"kept none of \d+ tracks .*too small a ray angle"):
        triangulate(
            rig.views, rig.matches(make_points(20)), TriangulationOptions(min_ray_angle_deg=89.0)
        )


def test_a_camera_that_is_not_among_the_views_is_named(make_rig, make_points):
    rig = make_rig(3)
    matches = rig.matches(make_points(5))
    fewer = UndistortedViews(0, rig.views.views[:2])
    with pytest.raises(DataError, match="cam2"):
        triangulate(fewer, matches)


@pytest.mark.parametrize(
    "options",
    [
        {"max_reprojection_error_px": 0.0},
        {"min_views": 1},
        {"pixel_sigma": -1.0},
        {"min_depth": 2.0, "max_depth": 1.0},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        TriangulationOptions(**options)
