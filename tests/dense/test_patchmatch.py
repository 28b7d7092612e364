"""Planes seen through tilted water come out where they are; what cannot be known stays unknown."""

import dataclasses

import pytest
import torch

from aquamvs.dense import (
    DenseEngine,
    PatchMatch,
    PatchMatchOptions,
    create_engine,
    engine_names,
)
from aquamvs.errors import ConfigError, DataError
from aquamvs.evaluation import depth_points
from aquamvs.maps import grid_normals
from aquamvs.numerics.filters import extreme
from aquamvs.projection.depth import ray_depth
from aquamvs.types import DepthMap, View

from .conftest import Plane

RANGE = (0.12, 0.75)


def masked(view: View, mask: torch.Tensor, image: torch.Tensor | None = None) -> View:
    return dataclasses.replace(view, mask=mask, image=view.image if image is None else image)


def errors(depth_map: DepthMap, truth: torch.Tensor) -> torch.Tensor:
    return (depth_map.depth - truth)[depth_map.valid]


def seen_by(scene) -> torch.Tensor:
    """Number of sources that see each true point, from the model alone."""
    points, _ = depth_points(scene.reference.model, scene.truth)
    count = torch.zeros(scene.truth.shape, dtype=torch.int)
    for source in scene.sources:
        pixels, _, valid = ray_depth(source.model, points)
        limit = torch.tensor(source.size) - 1
        count += valid & ((pixels >= 0) & (pixels <= limit)).all(-1)
    return count


@pytest.mark.parametrize("n_water", [1.333, 1.0], ids=["water", "air"])
@pytest.mark.parametrize(
    "slope", [(0.0, 0.0), (0.3, -0.2), (-0.8, 0.3), (0.0, 1.2)], ids=["level", "20°", "40°", "50°"]
)
def test_plane_is_recovered_to_a_fraction_of_a_pixel(
    make_scene, make_plane, footprint, slope: tuple[float, float], n_water: float
) -> None:
    scene = make_scene(make_plane(slope=slope), n_water=n_water)
    found = PatchMatch().estimate(scene.reference, scene.sources, RANGE)
    within = (scene.truth > RANGE[0] + 0.03) & (scene.truth < RANGE[1] - 0.03)
    expected = within & (seen_by(scene) > 0)
    assert (found.valid & expected).sum() > 0.98 * expected.sum()
    error = errors(found, scene.truth)
    # A baseline of 0.13 m at 0.85 m: a tenth of a pixel is two thirds of a footprint of depth.
    assert error.abs().median() < 0.25 * footprint
    assert error.square().mean().sqrt() < 0.6 * footprint
    assert error.median().abs() < 0.07 * footprint  # next to unbiased: 0.01 px


def test_sigma_tells_the_error(make_scene, make_plane) -> None:
    """Over textures from strong to faint, by robust standard deviations."""
    for contrast, noise in ((1.0, 0.004), (0.4, 0.008), (0.15, 0.008)):
        scene = make_scene(make_plane(seed=4, contrast=contrast), noise=noise)
        found = PatchMatch().estimate(scene.reference, scene.sources, RANGE)
        deviation = (errors(found, scene.truth) / found.sigma[found.valid])[::7]
        assert 0.45 < 1.4826 * deviation.abs().median() < 1.6


@dataclasses.dataclass(frozen=True)
class Ripples(Plane):
    """A plane with waves that windows smooth: errors that no independent residual shows."""

    length: float = 0.05
    rise: float = 0.004

    def depth_along(self, origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """Ray depth by fixed-point iteration: the waves are flatter than the rays are steep."""
        depth = super().depth_along(origin, direction)
        for _ in range(30):
            x, y, _ = (origin + depth[..., None] * direction).unbind(-1)
            turn = 2 * torch.pi / self.length
            wave = torch.sin(turn * x) * torch.sin(turn * y)
            depth = (self.height + self.rise * wave - origin[..., 2]) / direction[..., 2]
        return depth


def test_sigma_tells_the_error_of_relief_finer_than_windows(make_scene) -> None:
    scene = make_scene(Ripples(), noise=0.008)
    found = PatchMatch().estimate(scene.reference, scene.sources, RANGE)
    deviation = (errors(found, scene.truth) / found.sigma[found.valid]).abs()
    assert 0.35 < 1.4826 * deviation.median() < 1.8
    assert (deviation < 2).float().mean() > 0.7


def test_relief_that_windows_average_comes_back(make_scene, make_plane) -> None:
    """Waves of 24 footprints: windows and smoothing leave 0.78 of them."""
    scene = make_scene(Ripples(length=0.08, rise=0.008), noise=0.002)
    found = PatchMatch().estimate(scene.reference, scene.sources, RANGE)
    level = make_scene(make_plane()).truth[found.valid]
    true, seen = scene.truth[found.valid] - level, found.depth[found.valid] - level
    assert 0.83 < (true * seen).sum() / true.square().sum() < 1.0


@dataclasses.dataclass(frozen=True)
class Stones(Plane):
    """A plane with square stones, whose sides are as wide as a footprint.

    Attributes:
        pitch: From stone to stone, metres.
        width: Of a stone, metres.
        rise: Of its top, metres.
    """

    pitch: float = 0.08
    width: float = 0.024
    rise: float = 0.03

    def depth_along(self, origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        """Ray depth by bisection: from above, rays meet the stones before the plane."""
        far = super().depth_along(origin, direction)
        near = far - 2 * self.rise
        for _ in range(40):
            depth = (near + far) / 2
            points = origin + depth[..., None] * direction
            below = points[..., 2] > self.height - self.rise * self.top(points)
            near, far = torch.where(below, near, depth), torch.where(below, depth, far)
        return (near + far) / 2

    def top(self, points: torch.Tensor) -> torch.Tensor:
        """1 on stones, 0 between them."""
        away = (points[..., :2] / self.pitch).frac().abs() - 0.5
        inside = 0.5 * self.width - self.pitch * away.abs()
        return torch.sigmoid(inside / 8e-4).prod(-1)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_stones_as_wide_as_a_window_stand_as_high_as_they_are(
    make_scene, footprint, seed: int
) -> None:
    """Windows of seven pixels lower them by a footprint; the ground between them stays flat."""
    stones = Stones(seed=seed)
    scene = make_scene(stones)
    found = PatchMatch().estimate(scene.reference, scene.sources, RANGE)
    top = stones.top(depth_points(scene.reference.model, scene.truth)[0])
    around = extreme(top, 4)
    stone, ground = top > 0.9, found.valid & (around < 0.01)
    assert found.valid[stone].float().mean() > 0.95
    error = found.depth - scene.truth
    assert error[stone & found.valid].median() < 0.7 * footprint
    assert error[ground].abs().median() < 0.15 * footprint


def test_depths_of_faint_ground_settle_on_its_plane(make_scene, make_plane, footprint) -> None:
    """One window alone errs by a quarter of a footprint there."""
    scene = make_scene(make_plane(slope=(0.3, -0.2), seed=4, contrast=0.15), noise=0.008)
    found = PatchMatch().estimate(scene.reference, scene.sources, RANGE)
    assert errors(found, scene.truth).abs().median() < 0.12 * footprint


def test_confidence_falls_with_contrast(make_scene, make_plane) -> None:
    means = []
    for contrast in (1.0, 0.15, 0.05):
        scene = make_scene(make_plane(contrast=contrast), noise=0.01)
        found = PatchMatch().estimate(scene.reference, scene.sources, RANGE)
        means.append(float(found.confidence.mean()))
        assert found.confidence.min() >= 0
        assert found.confidence.max() <= 1
    assert means[0] > means[1] > means[2]


def test_unknown_depth_is_nan_with_zero_confidence(make_scene, make_plane) -> None:
    scene = make_scene(make_plane(contrast=0.1), noise=0.02)
    found = PatchMatch().estimate(scene.reference, scene.sources, RANGE)
    assert 0 < found.valid.sum() < found.depth.numel()
    assert (found.confidence[~found.valid] == 0).all()
    assert found.sigma[~found.valid].isnan().all()
    assert (found.sigma[found.valid] > 0).all()
    assert torch.equal(found.K, scene.reference.model.K)


def test_unrelated_images_yield_next_to_nothing(make_scene, make_plane) -> None:
    scene = make_scene(make_plane(seed=1))
    other = make_scene(make_plane(seed=2))
    found = PatchMatch().estimate(scene.reference, other.sources, RANGE)
    assert found.valid.float().mean() < 0.05


def test_pixels_that_no_source_sees_stay_unknown(make_scene, make_plane) -> None:
    scene = make_scene(make_plane())
    found = PatchMatch().estimate(scene.reference, scene.sources[:1], RANGE)
    unseen = seen_by(dataclasses.replace(scene, views=scene.views[:2])) == 0
    assert unseen.sum() > 500
    assert found.valid[unseen].float().mean() < 0.03


def test_masked_source_pixels_have_no_influence(make_scene, make_plane) -> None:
    """Whatever stands in a masked area (a reflection, a black frame) changes nothing."""
    scene = make_scene(make_plane())
    mask = torch.ones_like(scene.reference.mask)
    mask[:, :70] = False
    results = []
    for fill in (0.0, 1.0):
        sources = []
        for source in scene.sources:
            image = torch.where(mask[..., None], source.image, fill)
            # The mean over the mask is what centres grey values: keep it the same.
            image[:, :70] = torch.where(torch.arange(70)[None, :, None] % 2 == 0, fill, 1 - fill)
            sources.append(masked(source, mask, image))
        results.append(PatchMatch().estimate(scene.reference, sources, RANGE))
    assert results[0].valid.float().mean() > 0.5
    torch.testing.assert_close(
        results[0].depth, results[1].depth, equal_nan=True, atol=1e-5, rtol=0
    )


def test_masked_reference_pixels_stay_unknown(make_scene, make_plane) -> None:
    scene = make_scene(make_plane())
    mask = torch.ones_like(scene.reference.mask)
    mask[40:80, 50:100] = False
    found = PatchMatch().estimate(masked(scene.reference, mask), scene.sources, RANGE)
    assert not found.valid[~mask].any()
    assert found.valid[mask].float().mean() > 0.95


def test_edge_of_a_source_image_does_not_pull_the_depth(make_scene, make_plane, footprint) -> None:
    """Samples from outside of an image are left out, not black: no error grows at its border."""
    scene = make_scene(make_plane())
    found = PatchMatch().estimate(scene.reference, scene.sources[:1], RANGE)
    points, _ = depth_points(scene.reference.model, scene.truth)
    pixels, _, _ = ray_depth(scene.sources[0].model, points)
    distance = torch.minimum(pixels, torch.tensor(scene.reference.size) - 1 - pixels).amin(-1)
    border = found.valid & (distance >= 0) & (distance < 4)
    assert border.sum() > 200
    error = (found.depth - scene.truth)[border]
    assert error.abs().median() < footprint
    assert error.median().abs() < 0.3 * footprint


def test_occluded_source_does_not_spoil_the_others(make_scene, make_plane, footprint) -> None:
    scene = make_scene(make_plane(seed=5))
    blocked = make_scene(make_plane(seed=6)).sources[1]
    sources = [scene.sources[0], blocked, *scene.sources[2:]]
    found = PatchMatch().estimate(scene.reference, sources, RANGE)
    others = dataclasses.replace(scene, views=(*scene.views[:2], *scene.views[3:]))
    seen_twice = seen_by(others) >= 2
    assert found.valid[seen_twice].float().mean() > 0.98
    error = (found.depth - scene.truth)[seen_twice & found.valid]
    assert error.square().mean().sqrt() < 0.6 * footprint


def test_plane_just_below_the_water_is_found(make_scene, make_plane, footprint) -> None:
    """Hypotheses end at the water surface; the surface lies two steps below it."""
    scene = make_scene(make_plane(height=0.63))
    found = PatchMatch().estimate(scene.reference, scene.sources, (0.0, 0.4))
    assert found.valid.float().mean() > 0.95
    assert errors(found, scene.truth).abs().median() < 0.25 * footprint


def test_scene_outside_of_the_range_yields_nothing(make_scene, make_plane) -> None:
    scene = make_scene(make_plane())
    found = PatchMatch().estimate(scene.reference, scene.sources, (0.6, 0.9))
    assert found.valid.float().mean() < 0.03
    assert (found.depth[found.valid] >= 0.6).all()


def test_sources_that_look_elsewhere_yield_an_empty_map(make_scene, make_plane) -> None:
    scene = make_scene(make_plane())
    source = scene.sources[0]
    m = source.model
    t = m.t - m.R @ torch.tensor([30.0, 0, 0], dtype=torch.float64)
    away = type(m)(m.K, m.R, t, m.water_z, m.normal, m.n_air, m.n_water)
    found = PatchMatch().estimate(scene.reference, [dataclasses.replace(source, model=away)], RANGE)
    assert not found.valid.any()
    assert found.depth.shape == scene.truth.shape


def test_same_input_gives_the_same_bytes(make_scene, make_plane) -> None:
    scene = make_scene(make_plane())
    one, other = (PatchMatch().estimate(scene.reference, scene.sources, RANGE) for _ in range(2))
    for name in ("depth", "confidence", "sigma"):
        a, b = (getattr(each, name).numpy().tobytes() for each in (one, other))
        assert a == b


def test_normals_are_those_of_a_slanted_plane(make_scene, make_plane) -> None:
    """The planes of the windows, not only their depths, come out in closed form."""
    slope = (0.3, -0.2)
    scene = make_scene(make_plane(slope=slope))
    found = PatchMatch().estimate(scene.reference, scene.sources, RANGE)
    points = depth_points(scene.reference.model, found.depth)[0].float()
    normal = grid_normals(points, torch.tensor([0.0, 0.0, -1.0]), radius=2)
    expected = torch.tensor([*slope, -1.0])
    cosine = (normal[found.valid] @ expected) / expected.norm()
    assert torch.rad2deg(cosine.clamp(max=1).acos()).median() < 3


def test_bad_seeds_do_not_spoil_the_result(make_scene, make_plane, footprint) -> None:
    scene = make_scene(make_plane(slope=(0.3, -0.2)))
    points = depth_points(scene.reference.model, scene.truth)[0].float()
    points = points[::9, ::9].reshape(-1, 3)
    generator = torch.Generator().manual_seed(3)
    far_off = points + 0.2 * torch.rand(points.shape, generator=generator) - 0.1
    unseeded = PatchMatch().estimate(scene.reference, scene.sources, RANGE)
    for seeds in (points, far_off, points[:1], points + 50):
        found = PatchMatch().estimate(scene.reference, scene.sources, RANGE, seeds)
        assert found.valid.sum() > 0.99 * unseeded.valid.sum()
        assert errors(found, scene.truth).abs().median() < 0.25 * footprint


def test_number_of_depths_can_be_given(make_scene, make_plane, footprint) -> None:
    scene = make_scene(make_plane())
    found = PatchMatch(PatchMatchOptions(num_depths=24)).estimate(
        scene.reference, scene.sources, RANGE
    )
    assert errors(found, scene.truth).abs().median() < 0.25 * footprint


@pytest.mark.parametrize("depth_range", [(0.5, 0.5), (0.6, 0.2), (-0.1, 0.5), (0.1, float("inf"))])
def test_impossible_range_is_refused(make_scene, make_plane, depth_range) -> None:
    scene = make_scene(make_plane())
    with pytest.raises(DataError, match="depth range of cam0"):
        PatchMatch().estimate(scene.reference, scene.sources, depth_range)


def test_reference_without_sources_is_refused(make_scene, make_plane) -> None:
    scene = make_scene(make_plane())
    with pytest.raises(DataError, match="cam0 has no source views"):
        PatchMatch().estimate(scene.reference, [], RANGE)


def test_every_named_engine_can_be_made() -> None:
    for name in engine_names():
        engine: DenseEngine = create_engine(name)
        assert callable(engine.estimate)


def test_engine_takes_its_options_by_name() -> None:
    engine = create_engine("patchmatch", {"window_radius": 5})
    assert isinstance(engine, PatchMatch)
    assert engine.options == PatchMatchOptions(window_radius=5)


def test_unknown_engine_and_option_are_config_errors() -> None:
    with pytest.raises(ConfigError, match="no dense engine is called 'sgm'; known are patchmatch"):
        create_engine("sgm")
    with pytest.raises(ConfigError, match="window_raduis"):
        create_engine("patchmatch", {"window_raduis": 5})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window_radius", 0),
        ("num_depths", 2),
        ("min_confidence", -0.1),
        ("min_confidence", 1.0),
    ],
)
def test_impossible_options_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} is"):
        PatchMatchOptions(**{name: value})
