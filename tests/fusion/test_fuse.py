"""Analytic depth maps fuse into exact points: each surface patch once, wrong pixels out."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from aquamvs.errors import ConfigError, DataError, StageError
from aquamvs.evaluation import depth_points
from aquamvs.fusion import FusionOptions, consistency_maps, filter_depth_maps, fuse
from aquamvs.numerics.filters import extreme
from aquamvs.projection.depth import ray_depth
from aquamvs.types import DepthMap, View

PAIR = [(0.0, 0.0), (0.12, 0.02)]
RING = [(0.0, 0.0), (0.12, 0.02), (-0.1, 0.04), (0.03, -0.1), (0.0, 0.11)]
FOOTPRINT = 0.0065
STRICT = FusionOptions(relative_floor=0.0)


def seen_by(rig, number: int) -> torch.Tensor:
    """Views whose image holds each point of a view's map, its own included, shape (H, W)."""
    points = depth_points(rig.views[number].model, rig.maps[number].depth)[0]
    count = torch.ones(points.shape[:2], dtype=torch.int)
    for other in rig.views:
        if other is not rig.views[number]:
            pixels, _, valid = ray_depth(other.model, points)
            limit = torch.tensor(other.size) - 1
            count += valid & ((pixels >= 0) & (pixels <= limit)).all(-1)
    return count


def changed(depth_map: DepthMap, where, metres: float) -> DepthMap:
    depth = depth_map.depth.clone()
    depth[where] += metres
    return dataclasses.replace(depth_map, depth=depth)


@pytest.mark.parametrize("slope", [(0.0, 0.0), (0.5, -0.3)])
def test_points_normals_and_counts_of_a_plane_are_exact(make_plane, make_rig, slope) -> None:
    plane = make_plane(0.95, slope)
    rig = make_rig(plane, RING)
    cloud = fuse(rig.views, rig.maps)
    # Bilinear interpolation of another view's depth errs by some micrometres: depth along rays
    # of a plane is not linear in pixels.
    assert plane.distance(cloud.points).abs().max() < 2e-5
    torch.testing.assert_close(
        cloud.normals.double(), plane.normal.expand(len(cloud), 3), atol=2e-3, rtol=0
    )
    assert cloud.view_count.min() == 2
    assert cloud.view_count.max() == len(RING)
    torch.testing.assert_close(cloud.confidence, torch.full_like(cloud.confidence, 0.8))


def test_surface_seen_twice_is_there_once(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), PAIR)
    cloud = fuse(rig.views, rig.maps)
    first, second = (seen_by(rig, number) == 2 for number in (0, 1))
    # Where both look, the first view's pixels and nothing else, up to its rim.
    assert first.sum() <= len(cloud) <= first.sum() + 0.05 * second.sum()
    distance, _ = cKDTree(cloud.points).query(cloud.points, k=2)
    assert np.quantile(distance[:, 1], 0.02) > 0.6 * FOOTPRINT


def test_points_lie_on_pixel_rays_not_on_a_world_grid(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), PAIR)
    cloud = fuse(rig.views, rig.maps)
    pixels, _, _ = ray_depth(rig.views[0].model, cloud.points[:500].double())
    assert (pixels - pixels.round()).abs().max() < 0.01


def test_what_only_two_of_many_cameras_see_is_kept(make_plane, make_rig) -> None:
    """The rig's edge is judged by those that see it, not by the number of cameras."""
    rig = make_rig(make_plane(0.95), RING)
    kept = filter_depth_maps(rig.views, rig.maps)
    for number, depth_map in enumerate(kept):
        count = seen_by(rig, number)
        twice = count == 2  # up to where the other's image ends, which is no rim of the surface
        assert twice.sum() > 20
        assert depth_map.valid[twice].all()
        assert not depth_map.valid[count == 1].any()


def test_a_surface_that_all_views_take_for_wider_than_it_is_loses_its_rim(
    make_plane, make_rig
) -> None:
    """Windows across a border claim the near surface beyond it, in all views alike."""
    far, near = make_rig(make_plane(0.95), RING), make_rig(make_plane(0.85), RING)
    edge, margin = 0.02, FOOTPRINT  # the near surface ends at x = 0.02 and is seen wider
    places = [
        depth_points(view.model, before.depth)[0][..., 0]
        for view, before in zip(far.views, near.maps, strict=True)
    ]
    maps = [
        dataclasses.replace(
            behind, depth=torch.where(x < edge + margin, before.depth, behind.depth)
        )
        for x, behind, before in zip(places, far.maps, near.maps, strict=True)
    ]
    x = torch.stack(places)
    kept = torch.stack([m.valid for m in filter_depth_maps(far.views, maps)])
    claimed = (x > edge + margin / 2) & (x < edge + margin)
    assert claimed.any()
    assert not kept[claimed].any()
    assert kept[x < edge - 2 * FOOTPRINT].float().mean() > 0.7


def test_a_hole_in_one_map_tears_none_into_the_map_that_lacks_its_word(
    make_plane, make_rig
) -> None:
    """What only the missing depths could confirm goes, but has no rim that would go with it."""
    rig = make_rig(make_plane(0.95), PAIR)
    hole = torch.zeros_like(rig.maps[0].valid)
    hole[30:36, 50:56] = True
    holed = rig.maps[0].depth.masked_fill(hole, torch.nan)
    maps = (dataclasses.replace(rig.maps[0], depth=holed), rig.maps[1])
    agreeing = [counts.agreeing for counts in consistency_maps(rig.views, maps)]
    kept = [depth_map.valid for depth_map in filter_depth_maps(rig.views, maps)]
    assert (rig.maps[1].valid & (agreeing[1] == 1) & (seen_by(rig, 1) == 2)).any()
    assert torch.equal(kept[1], agreeing[1] == 2)
    rim = ~hole & (extreme(hole.float(), 2) > 0)
    assert not kept[0][rim].any()


def test_consistency_counts_equal_geometry(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95, (0.2, 0.1)), RING)
    for number, counted in enumerate(consistency_maps(rig.views, rig.maps)):
        assert counted.camera == f"cam{number}"
        expected = seen_by(rig, number)
        assert torch.equal(counted.agreeing.int(), expected)
        assert torch.equal(counted.seeing.int(), expected)


def test_outlier_pixel_is_removed(make_plane, make_rig) -> None:
    plane = make_plane(0.95)
    rig = make_rig(plane, RING)
    wrong = changed(rig.maps[0], (30, 40), -0.05)  # floats 5 cm above the bed
    maps = (wrong, *rig.maps[1:])
    kept = filter_depth_maps(rig.views, maps)
    assert kept[0].depth[30, 40].isnan()
    assert kept[0].confidence[30, 40] == 0
    assert kept[0].valid[30, 38]
    cloud = fuse(rig.views, maps)
    assert plane.distance(cloud.points).abs().max() < 2e-5
    # Another view fills in for the pixel.
    patch = depth_points(rig.views[0].model, rig.maps[0].depth)[0][30, 40]
    assert (cloud.points - patch).norm(dim=-1).min() < FOOTPRINT


def test_false_depth_shared_by_two_views_is_outvoted(make_plane, make_rig) -> None:
    """Two views agree on a false point that three others look through."""
    plane, false = make_plane(0.95), make_plane(0.85)
    rig = make_rig(plane, RING)
    lie = make_rig(false, RING)
    area = (slice(25, 35), slice(35, 45))
    maps = list(rig.maps)
    for number in (0, 1):
        depth = maps[number].depth.clone()
        depth[area] = lie.maps[number].depth[area]
        maps[number] = dataclasses.replace(maps[number], depth=depth)
    cloud = fuse(rig.views, maps)
    assert plane.distance(cloud.points).abs().max() < 0.01


def test_nearer_surface_hides_and_does_not_contradict(make_plane, make_rig) -> None:
    """A block in front of one view does not cost the bed behind it that view's vote."""
    rig = make_rig(make_plane(0.95), RING)
    near = changed(rig.maps[1], ..., -0.2)
    counted = consistency_maps(rig.views, (rig.maps[0], near, *rig.maps[2:]))[0]
    without = consistency_maps(rig.views, (rig.maps[0], *rig.maps[2:]))[0]
    assert torch.equal(counted.seeing, without.seeing)
    assert torch.equal(counted.agreeing, without.agreeing)


def test_surface_behind_a_point_contradicts_it(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), RING)
    far = changed(rig.maps[1], ..., 0.2)
    counted = consistency_maps(rig.views, (rig.maps[0], far, *rig.maps[2:]))[0]
    expected = seen_by(rig, 0)
    assert (counted.agreeing < expected).any()
    assert torch.equal(counted.seeing.int(), expected)


def test_unknown_depth_has_no_say(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), RING)
    blind = changed(rig.maps[1], ..., torch.nan)
    kept = filter_depth_maps(rig.views, (rig.maps[0], blind, *rig.maps[2:]))
    assert not kept[1].valid.any()
    assert kept[0].valid.sum() > 0.8 * kept[0].depth.numel()


def test_fusion_keeps_what_was_confirmed_before_filtering(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), PAIR)
    counted = consistency_maps(rig.views, rig.maps, STRICT)
    blind = changed(rig.maps[1], ..., torch.nan)
    with pytest.raises(StageError, match="left no point"):
        fuse(rig.views, (rig.maps[0], blind), STRICT)
    cloud = fuse(rig.views, (rig.maps[0], blind), STRICT, consistency=counted)
    assert len(cloud) == int(STRICT.accept(counted[0].agreeing, counted[0].seeing).sum())
    assert (cloud.view_count == 2).all()


@pytest.mark.parametrize(("sigmas", "expected"), [((1e-3, 1e-3), 0.0), ((1e-3, 2e-3), 3e-4)])
def test_depths_are_averaged_by_inverse_variance(make_plane, make_rig, sigmas, expected) -> None:
    """One map lies 0.5 mm high, one 0.5 mm low: the mean sits where the weights say."""
    plane = make_plane(0.95)
    rig = make_rig(plane, PAIR, offsets=[-5e-4, 5e-4], sigmas=list(sigmas))
    cloud = fuse(rig.views, rig.maps, STRICT)
    both = cloud.view_count == 2
    # Offsets are along the rays, up to 17 degrees from the vertical.
    assert plane.distance(cloud.points)[both].median().item() == pytest.approx(expected, abs=3e-5)
    assert (cloud.sigma <= sigmas[0] + 1e-9).all()
    assert (cloud.sigma >= sigmas[0] / 2**0.5 - 1e-9).all()


def test_agreement_is_measured_in_combined_sigma(make_plane, make_rig) -> None:
    plane = make_plane(0.95)
    for offset, agrees in ((2.5e-3, True), (5e-3, False)):  # 3 sigma of two maps: 4.2 mm
        rig = make_rig(plane, PAIR, offsets=[0.0, offset], sigmas=[1e-3, 1e-3])
        counted = consistency_maps(rig.views, rig.maps, STRICT)[0]
        assert (counted.agreeing == 2).any() == agrees


def test_floor_grants_what_calibration_leaves(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), PAIR, offsets=[0.0, 5e-3], sigmas=[1e-6, 1e-6])
    with pytest.raises(StageError, match="left no point"):
        fuse(rig.views, rig.maps, STRICT)
    lenient = FusionOptions(relative_floor=6e-3)  # 0.95 m from the camera: 5.7 mm
    assert len(fuse(rig.views, rig.maps, lenient)) > 0


def test_colour_is_that_of_the_squarest_view(make_plane, make_rig) -> None:
    """Two cameras look at the same patch, one from straight above, one leaning over."""
    rig = make_rig(make_plane(0.95), [(0.35, 0.0, 0.35), (0.0, 0.0)])
    cloud = fuse(rig.views, rig.maps)
    assert (cloud.view_count == 2).all()
    below = cloud.points[:, :2].norm(dim=-1) < 0.1  # under the second camera, whose grey is 0.1
    assert below.sum() > 50
    torch.testing.assert_close(
        cloud.colors[below], torch.full((int(below.sum()), 3), 0.1), atol=1e-6, rtol=0
    )


def test_masked_pixels_give_no_points(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), PAIR)
    mask = torch.zeros_like(rig.views[0].mask)
    mask[20:30, 30:50] = True
    views = (dataclasses.replace(rig.views[0], mask=mask), rig.views[1])
    cloud = fuse(views, rig.maps[:1] + rig.maps[1:])
    alone = fuse(rig.views, rig.maps)
    pixels, _, _ = ray_depth(rig.views[0].model, cloud.points.double())
    on_first = ((pixels - pixels.round()).abs() < 1e-3).all(-1)
    assert on_first.sum() <= 1.2 * mask.sum()
    assert len(cloud) > 0.7 * len(alone)  # the second view gives the rest


def test_moving_the_rig_moves_the_cloud(make_plane, make_rig) -> None:
    """Nothing is anchored in the world: 0.123456 m to the side, everything follows."""
    shift = 0.123456
    here = make_rig(make_plane(0.95), PAIR)
    # The interface is tilted: its level changes under a rig that moves sideways.
    moved = []
    for view in here.views:
        m = view.model
        t = m.t - m.R @ torch.tensor([shift, 0.0, 0.0], dtype=torch.float64)
        water_z = m.water_z + shift * float(m.normal[0] / m.normal[2])
        moved.append(
            dataclasses.replace(
                view, model=type(m)(m.K, m.R, t, water_z, m.normal, m.n_air, m.n_water)
            )
        )
    one, other = fuse(here.views, here.maps), fuse(moved, here.maps)
    assert len(one) == len(other)
    expected = one.points + torch.tensor([shift, 0.0, 0.0])
    torch.testing.assert_close(other.points, expected, atol=2e-6, rtol=0)


def test_same_input_gives_the_same_bytes(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), RING)
    one, other = fuse(rig.views, rig.maps), fuse(rig.views, rig.maps)
    for field in dataclasses.fields(one):
        a, b = (getattr(each, field.name).numpy().tobytes() for each in (one, other))
        assert a == b


def test_order_of_views_changes_owners_not_the_surface(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), RING)
    one, other = fuse(rig.views, rig.maps), fuse(rig.views[::-1], rig.maps[::-1])
    assert len(other) == pytest.approx(len(one), rel=0.03)
    distance, _ = cKDTree(one.points).query(other.points)
    assert np.quantile(distance, 0.99) < FOOTPRINT


def test_views_without_depth_map_are_ignored(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), RING)
    few = fuse(rig.views, rig.maps[:2])
    assert few.view_count.max() == 2
    assert torch.equal(few.points, fuse(rig.views[:2], rig.maps[:2]).points)


def test_single_map_is_not_confirmed_by_anything(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), PAIR)
    with pytest.raises(StageError, match="1 depth maps left no point that at least 2 views"):
        fuse(rig.views, rig.maps[:1])
    alone = fuse(rig.views, rig.maps[:1], FusionOptions(min_consistent_views=1))
    assert len(alone) == rig.maps[0].depth.numel()


def test_nothing_to_fuse_is_a_stage_error(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), PAIR)
    empty = [changed(depth_map, ..., torch.nan) for depth_map in rig.maps]
    with pytest.raises(StageError, match="2 depth maps left no point"):
        fuse(rig.views, empty)
    with pytest.raises(StageError, match="0 depth maps left no point"):
        fuse(rig.views, [])


def test_maps_must_belong_to_views(make_plane, make_rig) -> None:
    rig = make_rig(make_plane(0.95), PAIR)
    with pytest.raises(DataError, match="'cam1' has no view"):
        fuse(rig.views[:1], rig.maps)
    with pytest.raises(DataError, match="two depth maps of camera cam0"):
        fuse(rig.views, (rig.maps[0], rig.maps[0]))
    view = rig.views[0]
    small = View("cam0", view.image[:-1], view.mask[:-1], view.model)
    with pytest.raises(DataError, match="80 x 60; its view is 80 x 59"):
        consistency_maps([small], rig.maps[:1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_consistent_views", 0),
        ("min_agreement", 1.1),
        ("sigma_factor", -1.0),
        ("relative_floor", -1e-3),
        ("rim_views", 0),
        ("normal_radius", 0),
    ],
)
def test_impossible_options_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"fusion: {name} is"):
        FusionOptions(**{name: value})
