"""Least-squares matching and growth on a rendered scene with true depth."""

import dataclasses

import pytest
import torch

from aquamvs import Pipeline, PipelineConfig
from aquamvs.datasets import load_ground_truth
from aquamvs.errors import ConfigError
from aquamvs.evaluation import HeightGrid
from aquamvs.matching import SiftMatcher, SiftOptions, match_sparse, select_pairs
from aquamvs.triangulation import (
    GrowthOptions,
    RefinementOptions,
    Tracks,
    TriangulationOptions,
    grow_tracks,
    refine_tracks,
    triangulate,
)
from aquamvs.types import UndistortedViews


@pytest.fixture(scope="module")
def views(tiny_dataset):
    return Pipeline(PipelineConfig.from_yaml(tiny_dataset / "config.yaml")).inputs.read_views(0)


@pytest.fixture(scope="module")
def surface(tiny_dataset):
    truth = load_ground_truth(tiny_dataset).surface
    return HeightGrid(truth.x0, truth.y0, truth.spacing, truth.z.double())


@pytest.fixture(scope="module")
def points(views, tiny_dataset):
    """True points of the first view's central pixels, and those pixels."""
    first = views.views[0]
    width, height = first.size
    generator = torch.Generator().manual_seed(1)
    unit = torch.rand(150, 2, generator=generator, dtype=torch.float64)
    pixels = ((0.25 + 0.5 * unit) * torch.tensor([width, height])).round()
    depth = load_ground_truth(tiny_dataset).depth(first.name).double()
    u, v = pixels.long().unbind(-1)
    origin, direction = first.model.cast_ray(pixels)
    return pixels, origin + depth[v, u, None] * direction


def single(views, pixels):
    """Tracks of one observation each, in the first view."""
    names = tuple(sorted(views.names))
    index = torch.arange(len(pixels))
    camera = torch.full_like(index, names.index(views.views[0].name))
    return Tracks(names, index, camera, pixels, torch.ones(len(pixels)))


def residuals(views, tracks, points):
    """Distance of every observation from its true point's projection, px."""
    gaps = []
    for camera, name in enumerate(tracks.cameras):
        rows = tracks.rows(camera)
        expected, _ = views[name].model.project(points[tracks.track[rows]])
        gaps.append((tracks.pixels[rows] - expected).norm(dim=-1))
    return torch.cat(gaps)


def changed(views, **changes):
    return UndistortedViews(
        0, tuple(dataclasses.replace(view, **changes.get(view.name, {})) for view in views)
    )


def test_patches_are_found_to_a_tenth_of_a_pixel_from_a_wrong_start(views, points):
    pixels, places = points
    # 8 mm too deep: half a pixel to two pixels off in the other views.
    _, direction = views.views[0].model.cast_ray(pixels)
    refined = refine_tracks(views, single(views, pixels), places + 0.008 * direction)
    found = refined.tracks.view_count > 1
    assert found.float().mean() > 0.6
    kept = refined.tracks.select(found)
    gaps = residuals(views, kept, places[found])
    assert gaps[gaps > 0].median() < 0.15


def test_brightness_and_contrast_of_a_view_do_not_matter(views, points):
    pixels, places = points
    other = views.views[1]
    dimmed = changed(views, **{other.name: {"image": 0.5 * other.image + 0.1}})
    refined, again = (refine_tracks(v, single(v, pixels), places) for v in (views, dimmed))
    assert torch.equal(refined.tracks.camera, again.tracks.camera)
    torch.testing.assert_close(refined.tracks.pixels, again.tracks.pixels, atol=1e-3, rtol=0)


def test_the_reference_observation_stays_and_each_view_sees_a_point_once(views, points):
    pixels, places = points
    refined = refine_tracks(views, single(views, pixels), places)
    tracks = refined.tracks
    own = tracks.rows(tracks.cameras.index(views.views[0].name))
    assert torch.equal(tracks.pixels[own], pixels)
    key = tracks.track * len(tracks.cameras) + tracks.camera
    assert len(key.unique()) == len(key)
    assert bool((tracks.view_count <= refined.expected).all())


def test_masks_and_flat_images_give_no_observations(views, points):
    pixels, places = points
    masked, blank = views.views[1], views.views[2]
    poor = changed(
        views,
        **{
            masked.name: {"mask": torch.zeros_like(masked.mask)},
            blank.name: {"image": torch.full_like(blank.image, 0.5)},
        },
    )
    tracks = refine_tracks(poor, single(poor, pixels), places).tracks
    for name in (masked.name, blank.name):
        assert len(tracks.rows(tracks.cameras.index(name))) == 0


@pytest.fixture(scope="module")
def matches(views):
    matcher = SiftMatcher(SiftOptions(max_keypoints=400))
    return list(match_sparse(matcher, views, select_pairs(views)))


def errors(cloud, surface):
    z = torch.from_numpy(surface.at(cloud.points[:, 0], cloud.points[:, 1]))
    gap = (cloud.points[:, 2] - z).abs()
    return gap[torch.isfinite(gap)]


def test_refinement_makes_points_better_and_growth_makes_more_of_them(views, matches, surface):
    plain = triangulate(views, matches)
    refined = triangulate(views, matches, TriangulationOptions(refinement=RefinementOptions()))
    grown = triangulate(
        views,
        matches,
        TriangulationOptions(refinement=RefinementOptions(), growth=GrowthOptions()),
    )
    assert errors(refined, surface).median() < 0.8 * errors(plain, surface).median()
    assert refined.view_count.float().mean() > plain.view_count.float().mean()
    assert len(grown) > 1.5 * len(refined)
    assert errors(grown, surface).median() < errors(plain, surface).median()
    outliers = [float((errors(c, surface) > 5e-3).float().mean()) for c in (plain, grown)]
    assert outliers[1] < max(outliers[0], 0.005)


def test_grown_points_repeat_none(views, matches):
    cloud = triangulate(
        views,
        matches,
        TriangulationOptions(refinement=RefinementOptions(), growth=GrowthOptions()),
    )
    for view in views.references:
        pixels, valid = view.model.project(cloud.points)
        seen = cloud.observed[:, cloud.cameras.index(view.name)] & valid
        gap = torch.cdist(pixels[seen], pixels[seen]).fill_diagonal_(torch.inf).amin(1)
        assert (gap > 1.0).float().mean() > 0.97


def test_nothing_grows_far_from_known_points(views, points):
    pixels, places = points
    refined = refine_tracks(views, single(views, pixels), places)
    options = GrowthOptions(max_gap_px=1.0)
    grown = grow_tracks(views, refined.tracks, places, options)
    # Corners within 4 px of a known observation are that observation.
    assert len(grown.tracks) == 0


def test_refinement_repeats_itself_to_the_byte(views, points):
    pixels, places = points
    first, second = (refine_tracks(views, single(views, pixels), places) for _ in range(2))
    assert torch.equal(first.tracks.pixels, second.tracks.pixels)


@pytest.mark.parametrize("bad", [{"radius_px": 0}, {"min_correlation": -1.0}, {"max_drift_px": 0}])
def test_impossible_options_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        RefinementOptions(**bad)


def test_growth_needs_corners():
    with pytest.raises(ConfigError, match="max_corners"):
        GrowthOptions(max_corners=0)
