"""The compiled patch matcher agrees with tensor operations, and both with the projection itself."""

import pytest
import torch

from aquamvs.dense.patches import PlaneMap, TensorPatchMatcher, Trials, Window
from aquamvs.numerics.pyramid import build_pyramid
from aquamvs.types import View

pytest.importorskip("numba")
from aquamvs.dense.fused import FusedPatchMatcher

TOLERANCE = 2e-3
"""Of a cost: sums in another order, and projections that differ by 0.002 px."""


def matchers(views: list[View]) -> tuple[TensorPatchMatcher, FusedPatchMatcher]:
    reference, *sources = [build_pyramid(view, 1)[0] for view in views]
    window = Window.gaussian(3)
    return (
        TensorPatchMatcher(reference, sources, window),
        FusedPatchMatcher(reference, sources, window),
    )


def hypotheses(scene, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Planes around the truth: (K, P) depths and (K, P, 3) normals."""
    generator = torch.Generator().manual_seed(1)
    truth = scene.truth.reshape(-1)
    depth = truth + 0.01 * torch.randn(count, len(truth), generator=generator)
    normal = torch.tensor([0.0, 0.0, -1.0]) + 0.3 * torch.randn(
        count, len(truth), 3, generator=generator
    )
    return depth.float(), torch.nn.functional.normalize(normal, dim=-1)


@pytest.mark.parametrize("n_water", [1.333, 1.0], ids=["water", "air"])
def test_costs_agree_with_tensors(make_scene, make_plane, n_water: float) -> None:
    scene = make_scene(make_plane(slope=(0.3, -0.2)), n_water=n_water)
    views = list(scene.views)
    views[1].mask[:40] = False  # windows at a mask are partial
    views[0].mask[50:60, 50:60] = False
    reference, fused = matchers(views)
    depth, normal = hypotheses(scene, 3)
    pixels = reference.rays.pixels()[::7]
    depth, normal = depth[:, pixels], normal[:, pixels]
    asked = torch.rand(len(pixels), 4, generator=torch.Generator().manual_seed(2)) > 0.2
    expected, found = (m.costs(pixels, depth, normal, asked) for m in (reference, fused))
    seen, both = torch.isfinite(expected), torch.isfinite(expected) & torch.isfinite(found)
    assert (seen != torch.isfinite(found)).float().mean() < 1e-3  # at the very border of an image
    assert both.float().mean() > 0.4
    assert (expected - found)[both].abs().quantile(0.999) < TOLERANCE


def test_true_plane_costs_nothing(make_scene, make_plane) -> None:
    slope = (0.3, -0.2)
    scene = make_scene(make_plane(slope=slope))
    normal = torch.tensor([*slope, -1.0])
    for matcher in matchers(list(scene.views)):
        pixels = matcher.rays.pixels()[::11]
        depth = scene.truth.reshape(-1)[pixels].float()[None]
        asked = torch.ones(len(pixels), 4, dtype=torch.bool)
        planes = (normal / normal.norm()).expand(1, len(pixels), 3)
        costs = matcher.costs(pixels, depth, planes, asked)
        assert costs[torch.isfinite(costs)].median() < 0.05


def test_a_gaussian_window_averages_less_than_its_square() -> None:
    square, gaussian = Window.square(3), Window.gaussian(3)
    assert square.radius == gaussian.radius == 3
    assert square.size == 49
    assert 30 < gaussian.size < 40
    assert gaussian.weights.max() == gaussian.weights[24] == 1


def test_improvement_agrees_with_tensors(make_scene, make_plane) -> None:
    scene = make_scene(make_plane(slope=(0.3, -0.2)))
    depth, normal = hypotheses(scene, 2)
    results = []
    for matcher in matchers(list(scene.views)):
        pixels = matcher.rays.pixels()
        asked = torch.ones(len(pixels), 4, dtype=torch.bool)
        costs = matcher.costs(pixels, depth[:1], normal[:1], asked)[..., 0].nan_to_num(1.0)
        planes = PlaneMap(depth[0].clone(), normal[0].clone(), costs.mean(1))
        before = planes.cost.clone()
        colour = pixels[(pixels // matcher.rays.size[0] + pixels) % 2 == 0]
        generator = torch.Generator().manual_seed(3)
        trials = Trials(
            depth[1:],
            normal[1:],
            0.005 * torch.randn(2, len(colour), generator=generator),
            0.1 * torch.randn(2, len(colour), 3, generator=generator),
        )
        matcher.improve(planes, colour, asked.float(), trials, (0.1, 0.8))
        assert (planes.cost <= before).all()
        untouched = torch.ones(len(pixels), dtype=torch.bool)
        untouched[colour] = False
        assert torch.equal(planes.depth[untouched], depth[0][untouched])
        results.append(planes)
    expected, found = results
    # Planes whose costs are all but equal may swap.
    same = (expected.depth - found.depth).abs() < 1e-5
    assert same.float().mean() > 0.99
    assert (expected.cost - found.cost).abs().quantile(0.999) < TOLERANCE
