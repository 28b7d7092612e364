import pytest
import torch

from aquamvs.calibration import CalibrationData, compute_undistortion_maps
from aquamvs.datasets import Part, Scene, SceneOptions, make_scene, true_correspondences
from aquamvs.errors import ShapeError
from aquamvs.pixels import pixel_grid


def grid(rig: CalibrationData, name: str, step: int = 2) -> torch.Tensor:
    return pixel_grid(rig.cameras[name].image_size, dtype=torch.float64)[::step, ::step]


def test_going_there_and_back_returns_the_pixel(bower: Scene, small_rig: CalibrationData) -> None:
    pixels = grid(small_rig, "cam1")
    there, visible = true_correspondences(bower, small_rig, "cam1", "cam3", pixels)
    back, seen = true_correspondences(bower, small_rig, "cam3", "cam1", there[visible])
    assert int(visible.sum()) > 1000
    assert seen.double().mean() > 0.999  # a point on an outline may be lost to rounding
    torch.testing.assert_close(back[seen], pixels[visible][seen], atol=1e-6, rtol=0)


def test_both_views_see_the_same_point(boxes: Scene, small_rig: CalibrationData) -> None:
    pixels = grid(small_rig, "cam2")
    target, visible = true_correspondences(boxes, small_rig, "cam2", "cam4", pixels)
    points = []
    for name, where in (("cam2", pixels[visible]), ("cam4", target[visible])):
        K = compute_undistortion_maps(small_rig.cameras[name]).K_new
        points.append(boxes.intersect(*small_rig.projection_model(name, K).cast_ray(where))[1])
    torch.testing.assert_close(points[0].points, points[1].points, atol=2e-5, rtol=0)
    assert (points[0].part == points[1].part).all()


def test_points_behind_a_box_are_hidden(boxes: Scene, small_rig: CalibrationData) -> None:
    """Brute force: walk from the point to the source's water surface and look for solids."""
    pixels = grid(small_rig, "cam1")
    target, visible = true_correspondences(boxes, small_rig, "cam1", "cam3", pixels)
    models = [
        small_rig.projection_model(name, compute_undistortion_maps(small_rig.cameras[name]).K_new)
        for name in ("cam1", "cam3")
    ]
    _, hits = boxes.intersect(*models[0].cast_ray(pixels))
    width, height = small_rig.cameras["cam3"].image_size
    extent = torch.tensor([width, height]) - 0.5
    inside = ((target >= -0.5) & (target <= extent)).all(-1)
    hidden = inside & ~visible
    assert int(hidden.sum()) > 50
    start, _ = models[1].cast_ray(target)
    t = torch.linspace(0.0, 0.98, 300, dtype=torch.float64)[:, None, None]
    blocked = torch.zeros_like(hidden)
    path = start[inside] + t * (hits.points[inside] - start[inside])
    for solid in boxes.solids.solids:
        local = (path - torch.from_numpy(solid.centre)) @ torch.from_numpy(solid.world_from_body)
        blocked[inside] |= (local.abs() < torch.from_numpy(solid.axes)).all(-1).any(0)
    agree = blocked[inside] == hidden[inside]
    assert float(agree.double().mean()) > 0.99


def test_a_fish_hides_what_is_below_it_at_its_frame_only(tiny_rig: CalibrationData) -> None:
    scene = make_scene("plane", seed=2, rig=tiny_rig, options=SceneOptions(n_fish=3))
    pixels = grid(tiny_rig, "cam0", step=1)
    K = compute_undistortion_maps(tiny_rig.cameras["cam0"]).K_new
    rays = tiny_rig.projection_model("cam0", K).cast_ray(pixels)
    on_fish = [scene.intersect(*rays, frame=f)[1].part == int(Part.FISH) for f in (0, 8)]
    assert on_fish[0].any()
    assert not torch.equal(on_fish[0], on_fish[1])
    first, _ = true_correspondences(scene, tiny_rig, "cam0", "cam1", pixels, frame=0)
    later, _ = true_correspondences(scene, tiny_rig, "cam0", "cam1", pixels, frame=8)
    same = (first == later).all(-1)
    assert torch.equal(~same, on_fish[0] | on_fish[1])


def test_pixels_of_another_shape_are_refused(bower: Scene, small_rig: CalibrationData) -> None:
    with pytest.raises(ShapeError, match="reference_pixels"):
        true_correspondences(bower, small_rig, "cam0", "cam1", torch.zeros(4, 3))
