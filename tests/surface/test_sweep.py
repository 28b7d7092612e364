"""What the surface sweep must do on scenes whose answer is known exactly."""

import dataclasses

import pytest
import torch
from torch import Tensor

from aquamvs.errors import ConfigError, StageError
from aquamvs.projection import RefractiveProjectionModel
from aquamvs.surface import SurfaceSweepOptions, depth_maps_from_surface, sweep_surface
from aquamvs.surface.search import HeightRange
from aquamvs.types import HeightMap, UndistortedViews

from .conftest import Rendered, render_plane


def sweep(rendered: Rendered) -> HeightMap:
    views, _, region = rendered
    return sweep_surface(views, SurfaceSweepOptions(region_of_interest=region))


def errors(height_map: HeightMap, rendered: Rendered) -> Tensor:
    x, y = height_map.grid_xy()
    truth = torch.as_tensor(rendered[1].height(x, y))
    return (height_map.z.double() - truth).abs()


@pytest.mark.parametrize(
    ("scene", "tolerance_gsd"),
    [
        ("level_plane", 0.1),
        ("slanted_plane", 0.1),
        ("plane_in_air", 0.1),
        ("plane_under_tilted_water", 0.1),
    ],
)
def test_a_plane_is_recovered_to_a_fraction_of_the_gsd(
    scene: str, tolerance_gsd: float, request: pytest.FixtureRequest
) -> None:
    rendered = request.getfixturevalue(scene)
    height_map = sweep(rendered)
    error = errors(height_map, rendered)
    known = torch.isfinite(error)
    assert known.double().mean() > 0.97
    assert error[known].median() < tolerance_gsd * height_map.spacing
    assert error[known].square().mean().sqrt() < 3 * tolerance_gsd * height_map.spacing


def test_a_bed_deeper_than_the_cameras_are_high_is_found() -> None:
    rendered = render_plane(depth=1.4)
    height_map = sweep(rendered)
    error = errors(height_map, rendered)
    known = torch.isfinite(error)
    assert known.double().mean() > 0.97
    assert error[known].median() < 0.2 * height_map.spacing


def test_cells_may_be_finer_than_pixels(level_plane: Rendered) -> None:
    views, _, region = level_plane
    usual = sweep(level_plane)
    middle = tuple(bound / 4 for bound in region)
    options = SurfaceSweepOptions(region_of_interest=middle, spacing=usual.spacing / 2)
    error = errors(sweep_surface(views, options), level_plane)
    known = torch.isfinite(error)
    assert known.double().mean() > 0.97
    assert error[known].median() < 0.1 * usual.spacing


def test_results_carry_their_quality(level_plane: Rendered) -> None:
    height_map = sweep(level_plane)
    known = torch.isfinite(height_map.z)
    assert (height_map.sigma[known] > 0).all()
    assert torch.isnan(height_map.sigma[~known]).all()
    assert (height_map.confidence[~known] == 0).all()
    assert height_map.confidence[known].median() > 0.8
    assert (height_map.view_count[known] >= 1).all()
    assert (height_map.color[known].sum(-1) > 0).all()


def test_the_same_input_gives_the_same_bytes(level_plane: Rendered) -> None:
    first, second = sweep(level_plane), sweep(level_plane)
    for field in ("z", "sigma", "confidence", "color"):
        a, b = getattr(first, field), getattr(second, field)
        assert torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


@pytest.mark.parametrize("tile_side", [23, 80])
@pytest.mark.parametrize("scene", ["level_plane", "slanted_plane"])
def test_the_size_of_tiles_changes_nothing(
    scene: str, tile_side: int, request: pytest.FixtureRequest
) -> None:
    views, _, (x_min, y_min, x_max, y_max) = request.getfixturevalue(scene)
    # As far as one view or none sees: tiles of every kind.
    region = (x_min - 0.15, y_min - 0.15, x_max + 0.15, y_max + 0.15)
    whole = sweep_surface(views, SurfaceSweepOptions(region_of_interest=region))
    steps: list[tuple[int, int]] = []
    tiled = sweep_surface(
        views,
        SurfaceSweepOptions(region_of_interest=region, tile_side=tile_side),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps[-1][0] == steps[-1][1]  # every tile was counted
    for field in ("z", "sigma", "confidence", "view_count", "color"):
        a, b = getattr(whole, field), getattr(tiled, field)
        assert torch.equal(torch.nan_to_num(a), torch.nan_to_num(b)), field


def test_the_number_of_workers_changes_nothing(level_plane: Rendered) -> None:
    views, _, region = level_plane
    options = SurfaceSweepOptions(region_of_interest=region, tile_side=80)
    alone, several = (
        sweep_surface(views, dataclasses.replace(options, workers=workers)) for workers in (1, None)
    )
    for field in ("z", "sigma", "confidence", "view_count", "color"):
        a, b = getattr(alone, field), getattr(several, field)
        assert torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    for a, b in zip(
        *(depth_maps_from_surface(alone, views, workers=workers) for workers in (1, None)),
        strict=True,
    ):
        assert torch.equal(torch.nan_to_num(a.depth), torch.nan_to_num(b.depth))


@pytest.mark.parametrize("wrong", [{"tile_side": 8}, {"workers": 0}])
def test_impossible_tiles_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SurfaceSweepOptions(**wrong)  # type: ignore[arg-type]


def test_the_order_of_cameras_changes_nothing_but_rounding(level_plane: Rendered) -> None:
    views, scene, region = level_plane
    turned = UndistortedViews(views.frame, views.views[::-1])
    difference = (sweep(level_plane).z - sweep((turned, scene, region)).z).abs()
    known = torch.isfinite(difference)
    assert known.double().mean() > 0.97
    assert difference[known].quantile(0.99) < 1e-5


def test_moving_the_world_moves_the_map(level_plane: Rendered) -> None:
    views, scene, region = level_plane
    shift = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)

    def moved(model: RefractiveProjectionModel) -> RefractiveProjectionModel:
        t = model.t - model.R @ shift
        return dataclasses.replace(model, t=t, water_z=model.water_z + 0.5)

    elsewhere = UndistortedViews(
        0, tuple(dataclasses.replace(view, model=moved(view.model)) for view in views)
    )
    there = (region[0] + 3, region[1] - 2, region[2] + 3, region[3] - 2)
    difference = (sweep((elsewhere, scene, there)).z - 0.5 - sweep(level_plane).z).abs()
    known = torch.isfinite(difference)
    assert known.double().mean() > 0.97
    assert difference[known].median() < 2e-5


def test_two_cameras_are_enough(level_plane: Rendered) -> None:
    views, scene, region = level_plane
    pair = UndistortedViews(0, views.references[:2])
    x_min, y_min, x_max, y_max = region
    height_map = sweep((pair, scene, (x_min, y_min, x_max, y_max)))
    error = errors(height_map, level_plane)
    known = torch.isfinite(error)
    assert known.any()
    assert error[known].median() < 0.5 * height_map.spacing


def test_a_view_that_shows_something_else_leaves_the_mean(level_plane: Rendered) -> None:
    views, scene, region = level_plane
    blind = views.views[0]
    noise = torch.rand(blind.image.shape, generator=torch.Generator().manual_seed(0))
    spoilt = UndistortedViews(0, (dataclasses.replace(blind, image=noise), *views.views[1:]))
    height_map = sweep((spoilt, scene, region))
    error = errors(height_map, level_plane)
    known = torch.isfinite(error)
    assert known.double().mean() > 0.8
    assert error[known].median() < 0.2 * height_map.spacing


def test_masked_pixels_are_not_used(level_plane: Rendered) -> None:
    views, scene, region = level_plane
    blind = tuple(dataclasses.replace(v, mask=torch.zeros_like(v.mask)) for v in views.views[2:])
    two = sweep((UndistortedViews(0, views.views[:2] + blind), scene, region))
    assert int(two.view_count.max()) <= 2


def test_images_without_texture_are_an_error_and_not_a_surface(level_plane: Rendered) -> None:
    views, scene, region = level_plane
    black = UndistortedViews(
        0, tuple(dataclasses.replace(v, image=torch.zeros_like(v.image)) for v in views)
    )
    with pytest.raises(StageError, match="match nowhere in the region of interest"):
        sweep((black, scene, region))


def test_a_given_height_range_is_kept_to_however_narrow(level_plane: Rendered) -> None:
    views, scene, region = level_plane
    x, y = (region[0] + region[2]) / 2, (region[1] + region[3]) / 2
    z = float(scene.height(torch.tensor([x]).double(), torch.tensor([y]).double())[0])
    options = SurfaceSweepOptions(region_of_interest=region, height_range=(z - 0.002, z + 0.002))
    error = errors(sweep_surface(views, options), level_plane)
    assert error[torch.isfinite(error)].median() < 0.0005


def test_what_stands_outside_the_range_that_was_found_is_found(
    level_plane: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where all the patches that look for the range miss what stands high above the rest.
    _, scene, region = level_plane
    x, y = (region[0] + region[2]) / 2, (region[1] + region[3]) / 2
    true_z = float(scene.height(torch.tensor([x]).double(), torch.tensor([y]).double())[0])
    found = HeightRange(true_z + 0.15, true_z + 0.3, true_z + 0.2)
    monkeypatch.setattr("aquamvs.surface.sweep.find_height_range", lambda *_: found)
    error = errors(sweep(level_plane), level_plane)
    assert torch.isfinite(error).double().mean() > 0.8
    assert error[torch.isfinite(error)].median() < 0.001


def test_one_view_is_refused(level_plane: Rendered) -> None:
    views = level_plane[0]
    with pytest.raises(ConfigError, match="two views"):
        sweep_surface(UndistortedViews(0, views.views[:1]))


def test_depth_maps_meet_the_surface(slanted_plane: Rendered) -> None:
    height_map = sweep(slanted_plane)
    views, scene, _ = slanted_plane
    for depth_map in depth_maps_from_surface(height_map, views):
        model = views[depth_map.camera].model
        rows, columns = torch.nonzero(depth_map.valid, as_tuple=True)
        pixels = torch.stack([columns, rows], -1).double()
        origin, direction = model.cast_ray(pixels)
        points = origin + depth_map.depth[rows, columns].double()[:, None] * direction
        truth = torch.as_tensor(scene.height(points[:, 0], points[:, 1]))
        assert len(points) > 0
        assert (points[:, 2] - truth).abs().median() < 0.2 * height_map.spacing
        assert torch.isnan(depth_map.sigma[~depth_map.valid]).all()
