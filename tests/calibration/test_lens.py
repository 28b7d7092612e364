"""Lens models against OpenCV, and round trips."""

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from aquamvs.calibration import (
    CameraData,
    compute_undistortion_maps,
    distort_pixels,
    undistort_image,
    undistort_pixels,
)
from aquamvs.errors import DataError, ShapeError
from aquamvs.pixels import pixel_grid

COEFFICIENTS = {
    "five": [-0.28, 0.09, 3e-4, -2e-4, -0.011],
    "eight": [0.31, -0.12, 3e-4, -2e-4, 0.004, 0.52, -0.06, 0.01],
    "none": [0.0] * 5,
    "fisheye": [-0.021, 0.0043, -0.0016, 0.0002],
}


def lens(kind: str) -> CameraData:
    focal = 450.0 if kind == "fisheye" else 1100.0
    K = torch.tensor([[focal, 0, 655.5], [0, focal + 1, 470.25], [0, 0, 1]], dtype=torch.float64)
    return CameraData(
        name="cam",
        K=K,
        dist_coeffs=torch.tensor(COEFFICIENTS[kind], dtype=torch.float64),
        R=torch.eye(3, dtype=torch.float64),
        t=torch.zeros(3, dtype=torch.float64),
        image_size=(1280, 960),
        is_fisheye=kind == "fisheye",
    )


def raw_pixels(camera: CameraData, count: int = 500) -> Tensor:
    """Random pixels; for the fisheye those less than 80 degrees off the axis."""
    unit = torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    pixels = unit * torch.tensor(camera.image_size)
    off_axis = (pixels - camera.K[:2, 2]).norm(dim=-1) / camera.K[0, 0]
    return pixels[off_axis < 1.39] if camera.is_fisheye else pixels


@pytest.mark.parametrize("kind", COEFFICIENTS)
def test_removing_distortion_agrees_with_opencv(kind: str) -> None:
    camera = lens(kind)
    raw = raw_pixels(camera)
    K, coefficients = camera.K.numpy(), camera.dist_coeffs.numpy()
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 1000, 1e-14)
    if camera.is_fisheye:
        expected = cv2.fisheye.undistortPoints(
            raw.numpy()[:, None], K, coefficients, P=K, criteria=stop
        )
    else:
        expected = cv2.undistortPointsIter(raw.numpy()[:, None], K, coefficients, None, K, stop)
    ideal = undistort_pixels(camera, raw)
    assert np.abs(ideal.numpy() - expected[:, 0]).max() < 1e-6


@pytest.mark.parametrize("kind", COEFFICIENTS)
def test_distortion_round_trip(kind: str) -> None:
    camera = lens(kind)
    raw = raw_pixels(camera)
    assert (distort_pixels(camera, undistort_pixels(camera, raw)) - raw).abs().max() < 1e-9
    single = undistort_pixels(camera, raw.float())
    assert single.dtype == torch.float32
    assert (single - undistort_pixels(camera, raw)).abs().max() < 0.05


@pytest.mark.parametrize("kind", COEFFICIENTS)
def test_distortion_is_differentiable(kind: str) -> None:
    camera = lens(kind)
    ideal = undistort_pixels(camera, raw_pixels(camera, 10)).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: distort_pixels(camera, p), (ideal,))


def test_the_optical_axis_is_no_special_point() -> None:
    for kind in COEFFICIENTS:
        camera = lens(kind)
        centre = camera.K[:2, 2].clone().requires_grad_()
        assert torch.allclose(distort_pixels(camera, centre), centre, atol=1e-9)
        assert torch.allclose(undistort_pixels(camera, centre.detach()), centre, atol=1e-9)


def test_fisheye_pixels_beyond_ninety_degrees_have_no_pinhole_pixel() -> None:
    camera = lens("fisheye")
    beyond = camera.K[:2, 2] + torch.tensor([450.0 * 1.7, 0.0], dtype=torch.float64)
    assert torch.isnan(undistort_pixels(camera, beyond)).all()


@pytest.mark.parametrize("kind", COEFFICIENTS)
def test_maps_point_where_the_lens_model_says(kind: str) -> None:
    camera = lens(kind)
    maps = compute_undistortion_maps(camera)
    ideal = pixel_grid(camera.image_size, dtype=torch.float64)
    rays = (ideal - maps.K_new[:2, 2]) / maps.K_new.diagonal()[:2]
    raw = distort_pixels(camera, rays * camera.K.diagonal()[:2] + camera.K[:2, 2])
    expected = np.stack([maps.map_x, maps.map_y], -1)
    assert np.abs(raw.numpy() - expected).max() < 2e-3
    assert maps.inside.float().mean() > 0.99  # alpha = 0 keeps inside of the raw image


def test_undistortion_of_an_undistorted_image_changes_nothing() -> None:
    camera = lens("none")
    image = np.random.default_rng(0).integers(0, 255, (960, 1280, 3), dtype=np.uint8)
    maps = compute_undistortion_maps(camera)
    difference = undistort_image(image, maps).astype(int) - image
    assert np.abs(difference[5:-5, 5:-5]).max() <= 1


def test_wrong_sizes_are_refused() -> None:
    camera = lens("five")
    with pytest.raises(DataError, match="640 x 480; the calibration is for 1280 x 960"):
        undistort_image(np.zeros((480, 640, 3), np.uint8), compute_undistortion_maps(camera))
    with pytest.raises(ShapeError, match=r"\(\.\.\., 2\)"):
        distort_pixels(camera, torch.zeros(3))
    with pytest.raises(ShapeError, match=r"\(\.\.\., 2\)"):
        undistort_pixels(camera, torch.zeros(3))
