import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from aquamvs.calibration import CalibrationData, undistort_pixels
from aquamvs.datasets import Part, Scene, SceneKind, SceneOptions, TextureKind, make_rig, make_scene
from aquamvs.errors import DataError, ShapeError
from aquamvs.pixels import pixel_grid


def camera_rays(rig: CalibrationData, name: str, step: int = 1) -> tuple[Tensor, Tensor]:
    pixels = pixel_grid(rig.cameras[name].image_size, dtype=torch.float64)[::step, ::step]
    return rig.projection_model(name).cast_ray(pixels)


def test_a_plane_is_met_where_the_closed_form_says(tiny_rig: CalibrationData) -> None:
    slope = (0.10, -0.05)
    scene = make_scene("plane", seed=0, rig=tiny_rig, options=SceneOptions(depth=0.4, slope=slope))
    origins, directions = camera_rays(tiny_rig, "cam2")
    distance, hits = scene.intersect(origins, directions)
    # n·(o + s d) = n·p with n = (-slope, 1) and p below the rig's centre.
    centres = torch.stack([c.camera_center for c in tiny_rig.cameras.values()])
    middle = torch.tensor([*centres[:, :2].mean(0), tiny_rig.water_z + 0.4], dtype=torch.float64)
    normal = torch.tensor([-slope[0], -slope[1], 1.0], dtype=torch.float64)
    expected = ((middle - origins) @ normal) / (directions @ normal)
    torch.testing.assert_close(distance, expected, atol=1e-12, rtol=0)
    assert (hits.part == int(Part.BED)).all()
    upward = -normal / normal.norm()
    torch.testing.assert_close(hits.normals, upward.expand_as(hits.normals), atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", list(SceneKind))
def test_height_is_the_top_of_what_vertical_rays_meet(
    kind: SceneKind, tiny_rig: CalibrationData
) -> None:
    scene = make_scene(kind, seed=1, rig=tiny_rig, options=SceneOptions(n_fish=2))
    x0, x1, y0, y1 = scene.place.seen
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 4000, generator=generator, dtype=torch.float64)
    x, y = x0 + (x1 - x0) * x, y0 + (y1 - y0) * y
    z = scene.height(x, y)
    bed = torch.from_numpy(scene.bed.evaluate(x.numpy(), y.numpy())[0])
    assert (z <= bed + 1e-12).all()
    higher = (bed - z) > 1e-9
    assert bool(higher.any()) == (kind in (SceneKind.BOWER, SceneKind.LOW_TEXTURE,
                                           SceneKind.BOXES, SceneKind.BOARD))  # fmt: skip
    torch.testing.assert_close(z[~higher], bed[~higher], atol=1e-10, rtol=0)


def test_height_ignores_fish_and_is_unknown_outside_of_the_tank(tiny_rig: CalibrationData) -> None:
    options = SceneOptions(n_fish=3, depth=0.4)
    scene = make_scene("plane", seed=0, rig=tiny_rig, options=options)
    body = scene.fish[0].bodies(0)[0].centre
    x, y = torch.tensor([body[0], 50.0]), torch.tensor([body[1], 0.0])
    z = scene.height(x.double(), y.double())
    assert float(z[0]) == pytest.approx(tiny_rig.water_z + 0.4)
    assert math.isnan(z[1])


def test_blocks_of_rays_do_not_change_the_result(bower: Scene, small_rig: CalibrationData) -> None:
    origins, directions = camera_rays(small_rig, "cam1", step=3)
    together, hits = bower.intersect(origins, directions)
    for row in range(0, len(origins), 9):
        alone, part = bower.intersect(origins[row], directions[row])
        assert torch.equal(alone, together[row])
        assert torch.equal(part.part, hits.part[row])


def test_hit_points_lie_on_their_rays_and_normals_face_the_camera(
    boxes: Scene, small_rig: CalibrationData
) -> None:
    origins, directions = camera_rays(small_rig, "cam3", step=2)
    distance, hits = boxes.intersect(origins, directions)
    torch.testing.assert_close(hits.points, origins + distance[..., None] * directions)
    assert ((hits.normals * directions).sum(-1) < 0).all()
    assert {int(Part.BED), int(Part.BOX)} == set(hits.part.unique().tolist())
    on_bed = hits.part == int(Part.BED)
    x, y, z = hits.points[on_bed].unbind(-1)
    height = torch.from_numpy(boxes.bed.evaluate(x.numpy(), y.numpy())[0])
    torch.testing.assert_close(z, height, atol=1e-12, rtol=0)


def test_boxes_have_vertical_walls_that_cameras_see(
    boxes: Scene, small_rig: CalibrationData
) -> None:
    walls = 0
    for name in small_rig.cameras:
        _, hits = boxes.intersect(*camera_rays(small_rig, name))
        on_box = hits.part == int(Part.BOX)
        walls += int((on_box & (hits.normals[..., 2].abs() < 1e-9)).sum())
    assert walls > 200


def test_rays_outside_of_the_tank_and_unknown_rays_hit_nothing(bower: Scene) -> None:
    down = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    origins = torch.tensor([[50.0, 0, 0.7], [0, 0, 0.7], [0, 0, torch.nan]], dtype=torch.float64)
    distance, hits = bower.intersect(origins, down.expand_as(origins))
    assert torch.isfinite(distance).tolist() == [False, True, False]
    assert hits.part.tolist()[::2] == [int(Part.NONE)] * 2
    assert torch.isnan(hits.points[0]).all()


def test_the_fisheye_sees_walls_and_beyond_them_nothing() -> None:
    rig = make_rig("ring13", image_size=(40, 30))
    scene = make_scene("plane", seed=0, rig=rig)
    _, hits = scene.intersect(*camera_rays(rig, "cam0"))
    assert (hits.part == int(Part.BED)).all()
    raw = pixel_grid((40, 30), dtype=torch.float64)
    ideal = undistort_pixels(rig.cameras["cam12"], raw)
    distance, hits = scene.intersect(*rig.projection_model("cam12").cast_ray(ideal))
    assert set(hits.part.unique().tolist()) == {int(Part.NONE), int(Part.BED), int(Part.WALL)}
    assert torch.equal(torch.isnan(distance), hits.part == int(Part.NONE))
    wall = hits.part == int(Part.WALL)
    x0, x1, y0, y1 = scene.place.tank
    x, y, _ = hits.points[wall].unbind(-1)
    gap = torch.stack([x - x0, x1 - x, y - y0, y1 - y]).abs().amin(0)
    assert float(gap.max()) < 1e-12


def test_fish_move_between_frames_and_swim_forwards(tiny_rig: CalibrationData) -> None:
    scene = make_scene("plane", seed=5, rig=tiny_rig, options=SceneOptions(n_fish=2))
    for fish in scene.fish:
        here, there = fish.bodies(0)[0], fish.bodies(1)[0]
        moved = there.centre - here.centre
        assert 0.005 < float((moved**2).sum() ** 0.5) < 0.06
        heading = here.world_from_body[:, 0]
        assert float(moved @ heading) > 0.95 * float((moved**2).sum() ** 0.5)
        # A ray from above finds it where it is at that frame, and only then.
        origin = torch.tensor([*here.centre[:2], tiny_rig.water_z], dtype=torch.float64)
        down = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
        assert scene.intersect(origin, down, frame=0)[1].part == int(Part.FISH)
        assert scene.intersect(origin, down, frame=9)[1].part == int(Part.BED)


def test_the_seed_decides_everything_and_options_overrule_it(tiny_rig: CalibrationData) -> None:
    def fingerprint(scene: Scene) -> tuple[object, ...]:
        return (
            scene.options,
            scene.bed.coefficients.tobytes(),
            scene.solids.centres.tobytes(),
            scene.materials.bed.levels[0].tobytes(),
            scene.lighting.key_visible.tobytes(),
        )

    first = fingerprint(make_scene("bower", seed=7, rig=tiny_rig))
    assert fingerprint(make_scene("bower", seed=7, rig=tiny_rig)) == first
    other = fingerprint(make_scene("bower", seed=8, rig=tiny_rig))
    assert all(a != b for a, b in zip(first, other, strict=True))
    options = SceneOptions(texture=TextureKind.GRAVEL, depth=0.3)
    scene = make_scene("bower", seed=7, rig=tiny_rig, options=options)
    assert scene.options == options
    assert scene.materials.bed.levels[0].tobytes() != first[3]


def test_default_textures_vary_with_the_seed(tiny_rig: CalibrationData) -> None:
    found = {
        make_scene("plane", seed=seed, rig=tiny_rig).options.texture
        for seed in range(len(TextureKind))
    }
    assert found == set(TextureKind)


def test_low_texture_is_the_same_bed_with_a_fifth_of_the_contrast(
    tiny_rig: CalibrationData,
) -> None:
    plain, low = (make_scene(kind, seed=0, rig=tiny_rig) for kind in ("bower", "low_texture"))
    assert (plain.bed.coefficients == low.bed.coefficients).all()
    strong, weak = (scene.materials.bed.levels[0].std(axis=(0, 1)) for scene in (plain, low))
    assert (weak / strong).tolist() == pytest.approx([0.2] * 3, abs=0.002)


def test_bower_relief_is_what_sand_can_hold(bower: Scene) -> None:
    low, high = bower.bed.z_range
    assert 0.02 < high - low < 0.15
    x0, x1, y0, y1 = bower.place.seen
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 20_000, generator=generator, dtype=torch.float64).numpy()
    _, z_x, z_y = bower.bed.evaluate(x0 + (x1 - x0) * x, y0 + (y1 - y0) * y)
    slope = torch.from_numpy((z_x**2 + z_y**2) ** 0.5)
    assert float(slope.quantile(0.999)) < math.tan(math.radians(42))


def test_a_tilted_surface_is_followed_by_the_rays_not_by_the_bed(
    tiny_rig: CalibrationData,
) -> None:
    normal = torch.tensor([math.sin(0.08), 0.0, -math.cos(0.08)], dtype=torch.float64)
    rig = replace(tiny_rig, interface_normal=normal)
    scene = make_scene("plane", seed=0, rig=rig, options=SceneOptions(depth=0.4))
    origins, directions = camera_rays(rig, "cam0")
    on_surface = (origins - torch.tensor([0.0, 0.0, rig.water_z], dtype=torch.float64)) @ normal
    assert float(on_surface.abs().max()) < 1e-12
    distance, hits = scene.intersect(origins, directions)
    assert torch.isfinite(distance).all()
    bed = hits.points[..., 2]
    assert float(bed.max() - bed.min()) < 1e-12
    assert float(bed.mean()) == pytest.approx(rig.water_z + 0.4, abs=1e-3)


@pytest.mark.parametrize(
    "options",
    [SceneOptions(depth=0.03), SceneOptions(depth=0.3, slope=(0.9, 0.0))],
    ids=["shallow", "steep"],
)
def test_a_scene_that_stands_out_of_the_water_is_refused(
    options: SceneOptions, tiny_rig: CalibrationData
) -> None:
    with pytest.raises(DataError, match="out of the water"):
        make_scene("bower", seed=0, rig=tiny_rig, options=options)


def test_an_earlier_day_of_a_dig_differs_in_the_bowers_alone(tiny_rig: CalibrationData) -> None:
    days = [
        make_scene("bower", seed=0, rig=tiny_rig, options=SceneOptions(bower_relief=part))
        for part in (0.0, 0.5, 1.0)
    ]
    none, half, whole = (day.bed.coefficients for day in days)
    assert float(abs(whole - none).max()) > 0.02
    assert abs((half - none) - 0.5 * (whole - none)).max() < 1e-12
    far = abs(whole - none) < 1e-6
    assert far.mean() > 0.2  # ground that nobody touched


def test_unknown_kinds_and_seeds_are_refused(tiny_rig: CalibrationData) -> None:
    with pytest.raises(DataError, match=r"'reef'.*bower"):
        make_scene("reef", seed=0, rig=tiny_rig)
    with pytest.raises(DataError, match="seed is -1"):
        make_scene("bower", seed=-1, rig=tiny_rig)


@pytest.mark.parametrize(
    "bad",
    [{"depth": -1.0}, {"slope": (3.0, 0.0)}, {"tilt_deg": 90.0}, {"contrast": 0.0},
     {"n_fish": -1}, {"offset": (99.0, 0.0)}, {"bower_relief": -0.5}],
)  # fmt: skip
def test_impossible_options_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(DataError, match=next(iter(bad))):
        SceneOptions(**bad)  # type: ignore[arg-type]


def test_rays_of_unequal_shapes_are_refused(bower: Scene) -> None:
    with pytest.raises(ShapeError):
        bower.intersect(torch.zeros(5, 3), torch.zeros(4, 3))
