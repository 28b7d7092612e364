"""The compiled kernels against the tensor operations that they stand for."""

import dataclasses

import pytest
import torch
from torch import Tensor

from aquamvs.numerics.filters import isolated, median3
from aquamvs.numerics.pyramid import LevelView, build_pyramid
from aquamvs.surface import (
    SurfaceSweepOptions,
    depth_maps_from_surface,
    orthophoto,
    sweep_surface,
)
from aquamvs.surface.consistency import ROBUST_MARGIN
from aquamvs.surface.evaluator import COST_MARGIN, Pass, TensorEvaluator
from aquamvs.surface.fused import FusedEvaluator
from aquamvs.surface.grid import Grid, grid_over
from aquamvs.surface.tiles import Tile
from aquamvs.surface.visibility import Occlusion, hidden_cells
from aquamvs.types import HeightMap, UndistortedViews

from .conftest import Rendered

SPACING = 0.002
TILE = Tile(20, 30, 48, 40)


def masked(views: UndistortedViews) -> UndistortedViews:
    """The views with a hole in every mask but the first."""
    changed = [views.views[0]]
    for view in views.views[1:]:
        mask = view.mask.clone()
        mask[100:180, 150:260] = False
        changed.append(dataclasses.replace(view, mask=mask))
    return UndistortedViews(views.frame, tuple(changed))


def level_of(rendered: Rendered) -> tuple[list[LevelView], Grid, float]:
    """Views of the finest level, a grid, and the height of the plane in its middle."""
    views, scene, region = rendered
    grid = grid_over(region, SPACING)
    centre = [torch.tensor([[(region[i] + region[i + 2]) / 2]]).double() for i in (0, 1)]
    return [build_pyramid(v, 1)[0] for v in masked(views)], grid, float(scene.height(*centre))


def wavy(shape: tuple[int, int], middle: float) -> Tensor:
    row, column = torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")
    return middle + 0.003 * (torch.sin(row / 9.0) + torch.cos(column / 7.0))


def height_map_of(grid: Grid, z: Tensor, confidence: Tensor, sigma: Tensor) -> HeightMap:
    count = torch.full(z.shape, 5, dtype=torch.int32)
    color = torch.zeros(*z.shape, 3)
    return HeightMap(grid.x0, grid.y0, grid.spacing, z, sigma, confidence, count, color)


def plane(height: float) -> Tensor:
    return torch.full((TILE.rows + 2 * COST_MARGIN, TILE.columns + 2 * COST_MARGIN), height)


@pytest.mark.parametrize("scene", ["slanted_plane", "plane_in_air", "plane_under_tilted_water"])
@pytest.mark.parametrize(
    "plan",
    [
        Pass(hypotheses=5, step_px=0.6, window_sigma=1.8, shift=1),
        Pass(hypotheses=3, step_px=0.4, window_sigma=1.2),
        Pass(hypotheses=3, step_px=0.4, window_sigma=1.5, cubic=True),
    ],
)
def test_estimates_of_a_tile_agree(scene: str, plan: Pass, request: pytest.FixtureRequest) -> None:
    views, grid, middle = level_of(request.getfixturevalue(scene))
    outer = plan.margin + ROBUST_MARGIN
    z = wavy((TILE.rows + 2 * outer, TILE.columns + 2 * outer), middle)
    blocked = torch.zeros(len(views), -(-grid.rows // 4), -(-grid.columns // 4), dtype=torch.bool)
    blocked[0, 6:10] = True
    step = 0.002
    found, expected = (
        evaluator.estimate(grid, TILE, z, Occlusion(blocked, 4), plan, step)
        for evaluator in (
            FusedEvaluator(views, cubic=plan.cubic),
            TensorEvaluator(views, cubic=plan.cubic),
        )
    )
    assert found is not None
    assert expected is not None
    names = ("z", "spread", "curvature", "lever", "effective_views", "view_count", "own")
    tolerances = (1e-2 * step, 1e-3, 1e-3 / step**2, 1.0, 1e-2, 0.0, 1e-3)
    for name, tolerance, a, b in zip(names, tolerances, found, expected, strict=True):
        assert (torch.isfinite(a) == torch.isfinite(b)).double().mean() > 0.999, name
        difference = (a - b).abs()[torch.isfinite(a) & torch.isfinite(b)]
        # Rounding decides here and there which of two equal hypotheses is the better.
        assert (difference <= tolerance).double().mean() > 0.995, name


@pytest.mark.parametrize("robust", [True, False])
@pytest.mark.parametrize(("blurred", "most"), [([], 4), ([1], 3), ([0, 1, 2, 3, 4], 5)])
def test_costs_of_planes_agree(
    slanted_plane: Rendered, robust: bool, blurred: list[int], most: int
) -> None:
    views, grid, middle = level_of(slanted_plane)
    for i in blurred:  # a cell of 2 mm is half a pixel of these
        view = dataclasses.replace(slanted_plane[0].views[i], mask=torch.ones(300, 400) > 0)
        views[i] = build_pyramid(view, 3)[2]
    surfaces = [plane(middle + offset) for offset in (-0.01, 0.0, 0.005)]
    (found, count), (expected, expected_count) = (
        evaluator.costs(grid, TILE, surfaces, robust=robust)
        for evaluator in (FusedEvaluator(views), TensorEvaluator(views))
    )
    assert found.shape == (3, TILE.rows, TILE.columns)
    assert torch.equal(count, expected_count)
    assert count.amax() == most
    assert torch.equal(torch.isinf(found), torch.isinf(expected))
    known = torch.isfinite(found)
    assert (found - expected).abs()[known].max() < 1e-3


def test_a_tile_that_nobody_sees_is_left_out(slanted_plane: Rendered) -> None:
    views, grid, middle = level_of(slanted_plane)
    away = dataclasses.replace(grid, x0=grid.x0 + 50)
    plan = Pass(hypotheses=3, step_px=0.4, window_sigma=1.2)
    outer = plan.margin + ROBUST_MARGIN
    z = torch.full((TILE.rows + 2 * outer, TILE.columns + 2 * outer), middle)
    for evaluator in (FusedEvaluator(views), TensorEvaluator(views)):
        assert evaluator.estimate(away, TILE, z, None, plan, 0.001) is None
        costs, counts = evaluator.costs(away, TILE, [plane(middle)], robust=True)
        assert torch.isinf(costs).all()
        assert (counts == 0).all()


@pytest.mark.parametrize("scene", ["slanted_plane", "plane_in_air", "plane_under_tilted_water"])
def test_depth_maps_agree(scene: str, request: pytest.FixtureRequest) -> None:
    _, grid, middle = level_of(request.getfixturevalue(scene))
    z = wavy(grid.shape, middle)
    z[40:60, 50:70] -= 0.03  # a block, whose walls hide something
    z[10:20, 10:30] = torch.nan
    values = torch.rand(2, *grid.shape, generator=torch.Generator().manual_seed(0))
    whole = request.getfixturevalue(scene)[0]
    height_map = height_map_of(grid, z, *values)
    found = depth_maps_from_surface(height_map, masked(whole))
    alone = depth_maps_from_surface(height_map, masked(whole), workers=1)
    request.getfixturevalue("without_kernels")
    expected = depth_maps_from_surface(height_map, masked(whole))
    assert torch.isnan(found[1].depth[100:180, 150:260]).all()
    for a, b, c in zip(found, expected, alone, strict=True):
        for name in ("depth", "confidence", "sigma"):  # the same bytes for any number of threads
            first, second = getattr(a, name), getattr(c, name)
            assert torch.equal(first.nan_to_num(), second.nan_to_num())
        assert torch.equal(a.sigma.isnan(), a.depth.isnan())
        assert (a.confidence[~a.valid] == 0).all()
        both, few = a.valid & b.valid, 3e-3 * b.valid.sum()
        assert both.sum() > 3000
        # Only rays that graze an edge, or end between two cells, may be found elsewhere.
        assert (a.valid != b.valid).sum() < few
        assert ((a.depth - b.depth).abs()[both] > 1e-5).sum() < few
        assert (a.confidence != b.confidence).sum() < few
        same = both & (a.confidence == b.confidence)
        assert (a.sigma / b.sigma - 1)[same].abs().max() < 1e-5


def test_an_unknown_surface_shows_nothing(slanted_plane: Rendered) -> None:
    _, grid, _ = level_of(slanted_plane)
    z = torch.full(grid.shape, torch.nan)
    (first, *_) = depth_maps_from_surface(height_map_of(grid, z, z, z), slanted_plane[0])
    assert not first.valid.any()


def test_medians_colours_and_what_is_hidden_agree(
    slanted_plane: Rendered, request: pytest.FixtureRequest
) -> None:
    views, _, _ = slanted_plane
    _, grid, middle = level_of(slanted_plane)
    z = wavy(grid.shape, middle)
    z[40:60, 50:70] -= 0.03  # a block, whose walls hide something
    gaps = z.clone()
    gaps[10:20, 10:30] = torch.nan
    gaps[80, 80] += 0.05

    def results() -> tuple[Tensor, ...]:
        hidden = hidden_cells(z, grid, [view.model for view in views])
        color = orthophoto.orthophoto(masked(views), grid, gaps, Occlusion(hidden, 1))
        return hidden, color, median3(gaps), isolated(gaps, 0.01)

    found = results()
    request.getfixturevalue("without_kernels")
    hidden, color, median, stray = results()
    assert hidden.any()
    assert (found[0] == hidden).double().mean() > 0.9999
    assert ((found[1] - color).abs() < 1e-3).double().mean() > 0.999
    assert torch.equal(found[2].nan_to_num(), median.nan_to_num())
    assert stray.any()
    assert torch.equal(found[3], stray)


@pytest.mark.usefixtures("without_kernels")
def test_the_sweep_does_without_kernels(
    slanted_plane: Rendered, monkeypatch: pytest.MonkeyPatch
) -> None:
    views, _, region = slanted_plane
    options = SurfaceSweepOptions(region_of_interest=region)
    reference = sweep_surface(views, options)
    monkeypatch.undo()
    compiled = sweep_surface(views, options)
    both = torch.isfinite(reference.z) & torch.isfinite(compiled.z)
    assert both.double().mean() > 0.95
    difference = (reference.z - compiled.z)[both].abs() / reference.spacing
    assert (difference < 0.02).double().mean() > 0.99
