from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from aquamvs.calibration import (
    CalibrationData,
    compute_undistortion_maps,
    distort_pixels,
    undistort_image,
)
from aquamvs.datasets import (
    Imaging,
    Part,
    Scene,
    SceneOptions,
    TextureKind,
    board_corners,
    charuco_board,
    make_rig,
    make_scene,
    render_radiance,
    render_view,
    true_correspondences,
    true_depth,
)
from aquamvs.pixels import pixel_grid

CLEAR = Imaging(
    attenuation=(0.0, 0.0, 0.0),
    veil=(0.0, 0.0, 0.0),
    gain_spread=0.0,
    balance_spread=0.0,
    full_well_e=None,
)


def test_images_do_not_depend_on_threads_or_tiles(bower: Scene, small_rig: CalibrationData) -> None:
    image = render_view(bower, small_rig, "cam2")
    assert np.array_equal(image, render_view(bower, small_rig, "cam2", workers=3))
    light = render_radiance(bower, small_rig, "cam2")
    for tile in (37, 1000):
        assert np.array_equal(light, render_radiance(bower, small_rig, "cam2", tile=tile))


def test_depth_does_not_depend_on_threads(bower: Scene, small_rig: CalibrationData) -> None:
    one, _, _ = true_depth(bower, small_rig, "cam4")
    two, _, _ = true_depth(bower, small_rig, "cam4", workers=2)
    assert torch.equal(one, two)


def test_images_repeat_for_a_seed_and_differ_between_seeds(tiny_rig: CalibrationData) -> None:
    images = [
        render_view(make_scene("bower", seed=seed, rig=tiny_rig), tiny_rig, "cam0")
        for seed in (4, 4, 9)
    ]
    assert np.array_equal(images[0], images[1])
    assert (images[0] != images[2]).mean() > 0.5


@pytest.mark.parametrize("kind", list(TextureKind))
def test_images_are_well_exposed_and_textured(
    kind: TextureKind, small_rig: CalibrationData
) -> None:
    scene = make_scene("plane", seed=1, rig=small_rig, options=SceneOptions(texture=kind))
    image = render_view(scene, small_rig, "cam0").astype(float)
    assert 80 < image.mean() < 190
    assert (image > 254).mean() < 0.01
    noise_free = render_radiance(scene, small_rig, "cam0", imaging=CLEAR)
    contrast = noise_free.std(axis=(0, 1)) / noise_free.mean(axis=(0, 1))
    assert contrast.min() > 0.03


def test_true_depth_is_where_the_ray_meets_the_scene(
    bower: Scene, small_rig: CalibrationData
) -> None:
    """Point at depth -> project -> pixel, on the undistorted grid."""
    for name in ("cam0", "cam4"):
        depth, _, K = true_depth(bower, small_rig, name)
        assert torch.equal(K, compute_undistortion_maps(small_rig.cameras[name]).K_new)
        model = small_rig.projection_model(name, K)
        pixels = pixel_grid(small_rig.cameras[name].image_size, dtype=torch.float64)
        origins, directions = model.cast_ray(pixels)
        points = origins + depth[..., None] * directions
        found, valid = model.project(points)
        assert valid.all()
        torch.testing.assert_close(found, pixels, atol=1e-8, rtol=0)
        z = bower.height(points[..., 0], points[..., 1])
        # Points on the flank of a stone may lie under its overhang, never above the top surface.
        assert float((z - points[..., 2]).max()) < 1e-9
        assert float(((z - points[..., 2]).abs() < 1e-9).double().mean()) > 0.97


def test_plane_depth_has_its_closed_form(tiny_rig: CalibrationData) -> None:
    scene = make_scene("plane", seed=0, rig=tiny_rig, options=SceneOptions(depth=0.37))
    depth, part, K = true_depth(scene, tiny_rig, "cam0")
    camera = tiny_rig.cameras["cam0"]
    x = (pixel_grid(camera.image_size, dtype=torch.float64) - K[:2, 2]) / K.diagonal()[:2]
    sin_air = x.norm(dim=-1) / torch.sqrt(1 + (x**2).sum(-1))
    cos_water = torch.sqrt(1 - (sin_air / tiny_rig.n_water) ** 2)
    torch.testing.assert_close(depth, 0.37 / cos_water, atol=1e-12, rtol=0)
    assert (part == int(Part.BED)).all()


def test_in_air_the_depth_is_that_of_a_pinhole_camera(tiny_rig: CalibrationData) -> None:
    rig = replace(tiny_rig, n_water=1.0)
    scene = make_scene("plane", seed=0, rig=rig, options=SceneOptions(depth=0.4))
    depth, _, K = true_depth(scene, rig, "cam0")
    x = (pixel_grid(rig.cameras["cam0"].image_size, dtype=torch.float64) - K[:2, 2]) / (
        K.diagonal()[:2]
    )
    expected = 0.4 * torch.sqrt(1 + (x**2).sum(-1))
    torch.testing.assert_close(depth, expected, atol=1e-12, rtol=0)
    # And there is no water in front of it to dim the light.
    default = render_radiance(scene, rig, "cam0")
    assert np.array_equal(default, render_radiance(scene, rig, "cam0", imaging=CLEAR))


def test_views_warped_by_true_correspondences_agree(
    small_rig: CalibrationData,
) -> None:
    """Lambertian scene, clear water, no noise: what differs is only the sampling."""
    scene = make_scene("bower", seed=1, rig=small_rig, options=SceneOptions(contrast=0.7))
    images = {}
    for name in ("cam0", "cam3"):
        light = render_radiance(scene, small_rig, name, imaging=replace(CLEAR, supersampling=4))
        undistortion = compute_undistortion_maps(small_rig.cameras[name])
        images[name] = np.asarray(undistort_image(light, undistortion))
    pixels = pixel_grid(small_rig.cameras["cam0"].image_size, dtype=torch.float64)
    target, visible = true_correspondences(scene, small_rig, "cam0", "cam3", pixels)
    assert 0.5 < float(visible.double().mean()) < 1

    def mismatch(shift_px: float) -> float:
        moved = (target + torch.tensor([shift_px, 0.0])).nan_to_num(-1).float().numpy()
        warped = cv2.remap(images["cam3"], moved, None, cv2.INTER_CUBIC)
        inner = visible.numpy() & (moved > 2).all(-1) & (moved < [197, 147]).all(-1)
        return float(np.sqrt(((warped - images["cam0"])[inner] ** 2).mean()))

    right = mismatch(0.0)
    contrast = float(images["cam0"].std())
    assert right < 0.35 * contrast
    # The best shift is none: a parabola through three shifts has its minimum within 0.02 px.
    left, centre, further = mismatch(-0.25) ** 2, right**2, mismatch(0.25) ** 2
    assert left > 1.02 * centre
    assert further > 1.02 * centre
    offset = 0.25 * 0.5 * (left - further) / (left - 2 * centre + further)
    assert abs(offset) < 0.02


def test_board_corners_appear_where_they_project() -> None:
    """End to end: pattern, pose, refraction, lens and pixel centres, seen by OpenCV's detector."""
    rig = make_rig("small5", image_size=(560, 420))
    rig = replace(rig, cameras={name: rig.cameras[name] for name in ("cam0", "cam4")})
    options = SceneOptions(depth=0.33, tilt_deg=12.0, azimuth_deg=25.0)
    scene = make_scene("board", seed=0, rig=rig, options=options)
    assert scene.board is not None
    corners = torch.from_numpy(board_corners(scene.board))
    for name, camera in rig.cameras.items():
        image = render_view(scene, rig, name, workers=2)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        found, ids, _, _ = cv2.aruco.CharucoDetector(charuco_board()).detectBoard(grey)
        assert ids is not None
        assert len(ids) > 40
        fine = cv2.cornerSubPix(
            grey, found.copy(), (4, 4), (-1, -1), (cv2.TERM_CRITERIA_EPS, 100, 1e-5)
        )
        ideal, valid = rig.projection_model(name).project(corners)
        assert valid.all()
        expected = distort_pixels(camera, ideal).numpy()[ids[:, 0]]
        error = fine[:, 0] - expected
        # The window stays clear of the markers; cornerSubPix itself scatters by 0.035 px.
        assert np.abs(error.mean(axis=0)).max() < 0.012
        assert np.sqrt((error**2).sum(axis=1).mean()) < 0.05


def test_the_default_supersampling_is_free_of_visible_aliasing() -> None:
    """A window of the full-size rig, against sixteen times as many samples."""
    rig = make_rig("ring13")
    camera = rig.cameras["cam0"]
    K = camera.K.clone()
    K[:2, 2] -= torch.tensor([700.0, 500.0])
    camera = replace(camera, K=K, image_size=(120, 90))
    rig = replace(rig, cameras={"cam0": camera})
    scene = make_scene("bower", seed=0, rig=rig)
    default, fine = (
        render_radiance(scene, rig, "cam0", imaging=replace(CLEAR, supersampling=s))
        for s in (CLEAR.supersampling, 8)
    )
    difference = default - fine
    assert float(np.sqrt((difference**2).mean())) < 0.015 * float(fine.std())
    # As a shift of the image (least squares along its gradient), far below what engines can see.
    rows, columns = np.gradient(fine[..., 1])
    slopes = np.stack([columns.ravel(), rows.ravel()], axis=1)
    shift, *_ = np.linalg.lstsq(slopes, difference[..., 1].ravel(), rcond=None)
    assert np.abs(shift).max() < 0.002


def test_the_fisheye_is_black_beyond_its_lens_and_dark_beyond_the_tank() -> None:
    rig = make_rig("ring13", image_size=(160, 120))
    scene = make_scene("plane", seed=0, rig=rig)
    light = render_radiance(scene, rig, "cam12")
    assert (light[0, 0] == 0).all()
    assert light[60, 80].min() > 0.1
    assert 0 < light[60, 3].max() < 0.05


def test_fish_change_only_what_they_cover(tiny_rig: CalibrationData) -> None:
    empty = make_scene("plane", seed=2, rig=tiny_rig)
    scene = make_scene("plane", seed=2, rig=tiny_rig, options=SceneOptions(n_fish=3))
    before, after = (
        render_radiance(s, tiny_rig, "cam0", frame=4, imaging=replace(CLEAR, psf_sigma_px=0.0))
        for s in (empty, scene)
    )
    changed = (before != after).any(axis=-1)
    assert 5 < changed.sum() < 0.2 * changed.size
    other = render_radiance(scene, tiny_rig, "cam0", frame=5, imaging=CLEAR)
    assert (other != after).any()
