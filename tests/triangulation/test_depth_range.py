import dataclasses

import pytest
import torch

from aquamvs.errors import StageError
from aquamvs.triangulation import depth_range_per_view, triangulate, visible_depths
from aquamvs.types import UndistortedViews


@pytest.fixture
def scene(make_rig, make_points):
    rig = make_rig(5)
    return rig.views, triangulate(rig.views, rig.matches(make_points(1000)))


def test_the_range_holds_all_but_the_outermost_hundredth(scene):
    views, cloud = scene
    ranges = depth_range_per_view(cloud, views, margin=0.0)
    assert list(ranges) == list(views.names)
    for view in views:
        depths = visible_depths(view, cloud.points)
        low, high = ranges[view.name]
        inside = ((depths >= low) & (depths <= high)).double().mean()
        assert 0.975 <= float(inside) <= 0.985


def test_the_margin_is_added_at_both_ends_but_not_above_the_water(scene):
    views, cloud = scene
    tight = depth_range_per_view(cloud, views, margin=0.0)
    wide = depth_range_per_view(cloud, views, margin=0.1)
    huge = depth_range_per_view(cloud, views, margin=5.0)
    for name, (low, high) in tight.items():
        assert wide[name] == pytest.approx((low - 0.1, high + 0.1))
        assert huge[name] == pytest.approx((0.0, high + 5.0))


def test_depth_is_the_distance_from_the_surface_along_the_refracted_ray(scene):
    view = scene[0].views[0]
    pixels = torch.tensor([[400.0, 300.0], [123.0, 456.0]], dtype=torch.float64)
    origin, direction = view.model.cast_ray(pixels)
    points = origin + torch.tensor([[0.3], [0.9]]).double() * direction
    torch.testing.assert_close(
        visible_depths(view, points), torch.tensor([0.3, 0.9]).double(), atol=1e-9, rtol=0
    )


def test_points_that_a_view_does_not_see_do_not_widen_its_range(scene):
    views, cloud = scene
    far = cloud.points.clone()
    far[::2] += torch.tensor([8.0, 0.0, 3.0], dtype=torch.float64)  # outside of every image
    widened = dataclasses.replace(cloud, points=far)
    half = dataclasses.replace(cloud, points=torch.where(far != cloud.points, torch.nan, far))
    assert depth_range_per_view(widened, views) == depth_range_per_view(half, views)


def test_masked_points_do_not_count(scene):
    views, cloud = scene
    view = views.views[0]
    mask = view.mask.clone()
    mask[:, :400] = False
    masked = dataclasses.replace(view, mask=mask)
    assert 0 < len(visible_depths(masked, cloud.points)) < len(visible_depths(view, cloud.points))


def test_a_view_with_too_few_points_gets_the_whole_rigs_range(scene):
    views, cloud = scene
    blind = dataclasses.replace(views.views[0], mask=torch.zeros_like(views.views[0].mask))
    ranges = depth_range_per_view(cloud, UndistortedViews(0, (blind, *views.views[1:])))
    others = [ranges[view.name] for view in views.views[1:]]
    assert ranges["cam0"] == (min(low for low, _ in others), max(high for _, high in others))


def test_a_handful_of_points_still_gives_a_range(scene):
    views, cloud = scene
    few = dataclasses.replace(cloud, points=cloud.points.clone())
    few.points[5:] = torch.nan
    low, high = depth_range_per_view(few, views)["cam0"]
    depths = torch.cat([visible_depths(view, few.points) for view in views])
    assert low <= float(depths.min())
    assert high >= float(depths.max())


def test_no_visible_point_at_all_is_an_error(scene):
    views, cloud = scene
    nowhere = dataclasses.replace(cloud, points=torch.full_like(cloud.points, torch.nan))
    with pytest.raises(StageError, match="inside the image and mask of any view"):
        depth_range_per_view(nowhere, views)
