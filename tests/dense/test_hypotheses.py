"""Hypotheses: geometry of rays and planes, warps against exact projection, spacing."""

import pytest
import torch

from aquamvs.dense.hypotheses import (
    CoarseGrid,
    PlaneHypotheses,
    RayGrid,
    SurfaceHypotheses,
    pixels_per_metre,
    place_planes,
    plane_depth_range,
)
from aquamvs.dense.images import GreyView, grey_view
from aquamvs.pixels import pixel_grid, rescale_intrinsics
from aquamvs.projection import RefractiveProjectionModel as Model
from aquamvs.types import View

SIZE = (160, 120)


def blank(model, size: tuple[int, int] = SIZE) -> GreyView:
    return GreyView(torch.zeros(size[1], size[0]), model)


def full_rays(view: GreyView, dtype: torch.dtype = torch.float64) -> RayGrid:
    return RayGrid.cast(view.model, pixel_grid(view.size, dtype=dtype))


def test_plane_depth_is_the_distance_below_the_water(models) -> None:
    rays = full_rays(blank(models[0]))
    depth = 0.1 + 0.3 * torch.rand(rays.descent.shape, dtype=torch.float64)
    points = rays.points(depth)
    surface = torch.tensor([0.0, 0.0, models[0].water_z], dtype=torch.float64)
    normal = models[0].normal / models[0].normal.norm()
    torch.testing.assert_close(-(points - surface) @ normal, depth)
    torch.testing.assert_close((points - rays.origin).norm(dim=-1), depth / rays.descent)


def test_coarse_grid_interpolates_quadratics_exactly() -> None:
    grid = CoarseGrid.build((37, 22), 8, torch.device("cpu"))

    def quadratic(pixels: torch.Tensor) -> torch.Tensor:
        u, v = (pixels / 10).unbind(-1)
        return 1 + 2 * u - v + 0.5 * u * u + 0.25 * u * v - v * v

    wanted = quadratic(pixel_grid((37, 22), dtype=torch.float64)).float()
    got = grid.interpolate(quadratic(grid.pixels).float(), slice(0, 22))
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-5)
    rows = slice(5, 9)
    torch.testing.assert_close(grid.interpolate(quadratic(grid.pixels).float(), rows), got[rows])


def exact_warp(rays: RayGrid, source: GreyView, plane_depth: torch.Tensor) -> torch.Tensor:
    pixels, _ = source.model.project(rays.points(plane_depth))
    return pixels


@pytest.mark.parametrize("scale", [0.25, 1.0])
def test_interpolated_warp_of_a_plane_errs_by_less_than_a_fiftieth_pixel(models, scale) -> None:
    """Over the whole image, through tilted water, at the resolutions where it is used."""
    size = (int(SIZE[0] * scale), int(SIZE[1] * scale))
    views = [blank(m.with_intrinsics(rescale_intrinsics(m.K, SIZE, size)), size) for m in models]
    grid = CoarseGrid.build(size, 8, torch.device("cpu"))
    planes = torch.tensor([0.05, 0.3, 0.8], dtype=torch.float64)
    rays = RayGrid.cast(views[0].model, grid.pixels)
    hypotheses = PlaneHypotheses(grid, rays, views[1:], planes)
    every = full_rays(views[0])
    for number, source in enumerate(views[1:]):
        warp = hypotheses.warp(number, slice(0, size[1])).double()
        for k, plane in enumerate(planes):
            exact = exact_warp(every, source, plane.expand(size[1], size[0]))
            assert (warp[k] - exact).norm(dim=-1).max() < 0.02


def test_wide_lens_at_full_size_stays_within_a_fiftieth_pixel() -> None:
    """The widest camera of a rig of 1600 x 1200, 104 degrees across, 1 m above the water."""
    eye = torch.eye(3, dtype=torch.float64)
    K = torch.tensor([[620.0, 0, 799.5], [0, 620, 599.5], [0, 0, 1]], dtype=torch.float64)
    normal = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)

    def view(x: float) -> GreyView:
        t = torch.tensor([-x, 0.1 * x, 0.0], dtype=torch.float64)
        return blank(Model(K, eye, t, 1.0, normal, 1.0, 1.333), (1600, 1200))

    reference, source = view(0.0), view(0.4)
    grid = CoarseGrid.build(reference.size, 8, torch.device("cpu"))
    rays = RayGrid.cast(reference.model, grid.pixels)
    planes = torch.tensor([0.2, 0.5], dtype=torch.float64)
    hypotheses = PlaneHypotheses(grid, rays, [source], planes)
    rows = slice(0, 40)  # the image's edge, where refraction bends most
    every = full_rays(reference).rows(rows)
    for k, warp in enumerate(hypotheses.warp(0, rows).double()):
        exact = exact_warp(every, source, planes[k].expand(40, 1600))
        assert (warp - exact).norm(dim=-1).max() < 0.02


@pytest.mark.parametrize("half_count", [1, 4])
@pytest.mark.parametrize("depth", [0.02, 0.35])
def test_warp_of_a_moved_surface_errs_by_less_than_a_hundredth_pixel(
    models, half_count: int, depth: float
) -> None:
    views = [blank(m) for m in models]
    rays = full_rays(views[0])
    u, v = pixel_grid(SIZE, dtype=torch.float64).unbind(-1)
    surface = depth * (1 + 0.1 * torch.sin(u / 9) * torch.cos(v / 7))
    speed = pixels_per_metre(rays, views[1:], surface)
    seen = speed > 0
    hypotheses = SurfaceHypotheses(views[0], rays, views[1:], surface, 1 / speed, half_count)
    everything = slice(0, SIZE[1])
    assert hypotheses.count == 2 * half_count + 1
    for number, source in enumerate(views[1:]):
        warp = hypotheses.warp(number, everything)
        for k in range(hypotheses.count):
            index = torch.full_like(surface, k)
            plane_depth = hypotheses.plane_depth(index, everything)
            error = (warp[k] - exact_warp(rays, source, plane_depth)).norm(dim=-1)
            below = seen & (plane_depth > 0)
            assert (error[below] < 0.01).all()


def test_steps_of_a_moved_surface_are_equal_in_the_image(models) -> None:
    """Unequal steps would bias the parabola: deeper neighbours would score better."""
    views = [blank(m) for m in models]
    rays = full_rays(views[0])
    surface = torch.full(rays.descent.shape, 0.35, dtype=torch.float64)
    step = 1 / pixels_per_metre(rays, views[1:], surface)
    hypotheses = SurfaceHypotheses(views[0], rays, views[1:], surface, step, 2)
    for number in range(len(views) - 1):
        moved = hypotheses.warp(number, slice(0, SIZE[1])).diff(dim=0).norm(dim=-1)
        inner = slice(20, -20)
        ratio = (moved[3] / moved[0])[inner, inner]
        # Equal steps of depth would give 0.93 here.
        assert (ratio - 1).abs().max() < 0.02


def test_index_and_plane_depth_agree_for_planes(models) -> None:
    views = [blank(m) for m in models]
    grid = CoarseGrid.build(SIZE, 8, torch.device("cpu"))
    planes = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)
    rays = RayGrid.cast(views[0].model, grid.pixels)
    hypotheses = PlaneHypotheses(grid, rays, views[1:], planes)
    index = torch.tensor([[0.0, 0.5, 1.0, 1.25, 2.0, torch.nan]])
    depth = hypotheses.plane_depth(index, slice(0, 1))[0]
    assert depth[:5].tolist() == pytest.approx([0.1, 0.15, 0.2, 0.25, 0.4])
    assert depth[5].isnan()


def test_planes_are_at_most_a_step_apart_in_every_image(models) -> None:
    views = [blank(m) for m in models]
    grid = CoarseGrid.build(SIZE, 8, torch.device("cpu"))
    rays = RayGrid.cast(views[0].model, grid.pixels)
    planes = place_planes(rays, views[1:], (0.1, 0.9), step_px=1.5)
    assert planes is not None
    assert planes[0] == pytest.approx(0.1)
    assert planes[-1] == pytest.approx(0.9)
    every = full_rays(views[0])
    largest = torch.zeros(len(planes) - 1, dtype=torch.float64)
    for source in views[1:]:
        warps = torch.stack(
            [exact_warp(every, source, p.expand(every.descent.shape)) for p in planes]
        )
        inside = ((warps >= 0) & (warps <= torch.tensor(SIZE) - 1)).all(-1)
        moved = warps.diff(dim=0).norm(dim=-1)
        moved = torch.where(inside[1:] & inside[:-1], moved, 0.0)
        largest = torch.maximum(largest, moved.flatten(1).amax(1))
    assert largest.max() < 1.5 * 1.02
    assert largest.min() > 0.8 * 1.5  # no hypothesis is wasted


def test_number_of_planes_can_be_given(models) -> None:
    views = [blank(m) for m in models]
    rays = RayGrid.cast(models[0], CoarseGrid.build(SIZE, 8, torch.device("cpu")).pixels)
    planes = place_planes(rays, views[1:], (0.1, 0.9), step_px=1.0, count=17)
    assert planes is not None
    assert len(planes) == 17
    assert (planes.diff() > 0).all()


def test_no_planes_where_no_source_looks(models) -> None:
    far = models[1]
    t = far.t - far.R @ torch.tensor([50.0, 0, 0], dtype=torch.float64)
    away = Model(far.K, far.R, t, far.water_z, far.normal, far.n_air, far.n_water)
    rays = RayGrid.cast(models[0], CoarseGrid.build(SIZE, 8, torch.device("cpu")).pixels)
    assert place_planes(rays, [blank(away)], (0.1, 0.9), step_px=1.0) is None


def test_plane_depth_range_covers_the_ray_depth_range(models) -> None:
    rays = full_rays(blank(models[0]))
    low, high = plane_depth_range(rays, (0.2, 0.6))
    assert low <= 0.2 * rays.descent.min() + 1e-12
    assert high >= 0.6 * rays.descent.max() - 1e-12


def test_image_motion_equals_a_finite_difference(models) -> None:
    views = [blank(m) for m in models]
    rays = full_rays(views[0])
    depth = torch.full(rays.descent.shape, 0.4, dtype=torch.float64)
    fastest = torch.zeros_like(depth)
    for source in views[1:]:
        pair = [exact_warp(rays, source, depth + side * 1e-6) for side in (-1, 1)]
        inside = ((pair[0] >= 0) & (pair[0] <= torch.tensor(SIZE) - 1)).all(-1)
        speed = (pair[1] - pair[0]).norm(dim=-1) / 2e-6
        fastest = torch.maximum(fastest, torch.where(inside, speed, 0.0))
    torch.testing.assert_close(
        pixels_per_metre(rays, views[1:], depth), fastest, rtol=1e-6, atol=1e-6
    )


def test_masked_pixels_are_unknown_at_every_scale(models) -> None:
    mask = torch.ones(SIZE[::-1], dtype=torch.bool)
    mask[:, :40] = False
    image = torch.rand(*SIZE[::-1], 3, generator=torch.Generator().manual_seed(0))
    for factor in (1.0, 0.5, 0.25):
        grey = grey_view(View("a", image, mask, models[0]), factor).grey
        border = round(40 * factor)
        assert grey[:, :border].isnan().all()
        assert grey[:, border + 1 :].isfinite().all()


def test_scaled_view_keeps_looking_the_same_way(models) -> None:
    image = torch.rand(*SIZE[::-1], 3, generator=torch.Generator().manual_seed(0))
    view = View("a", image, torch.ones(SIZE[::-1], dtype=torch.bool), models[0])
    half = grey_view(view, 0.5)
    corner = torch.tensor([-0.5, -0.5], dtype=torch.float64)  # the image's corner, at any scale
    for a, b in zip(models[0].cast_ray(corner), half.model.cast_ray(corner), strict=True):
        torch.testing.assert_close(a, b)
