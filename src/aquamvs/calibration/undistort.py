"""Whole-image undistortion through OpenCV's maps."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CalibrationError, DataError
from ..numerics.splines import resample
from .aquacal import CameraData


@dataclass(frozen=True, slots=True)
class UndistortionData:
    """Where each pixel of the undistorted grid lies in the raw image.

    Attributes:
        K_new: Intrinsics of the undistorted grid, shape (3, 3), float64: OpenCV's optimal new
            camera matrix with ``alpha=0`` (no pixel looks outside of the raw image).
        map_x: Raw u, shape (H, W), float32.
        map_y: Raw v, shape (H, W), float32.

    Example:
        >>> from aquamvs.calibration import compute_undistortion_maps
        >>> from aquamvs.datasets import make_rig
        >>> data = compute_undistortion_maps(make_rig("small5").cameras["cam0"])
        >>> data.map_x.shape, tuple(data.K_new.shape)
        ((300, 400), (3, 3))
    """

    K_new: Tensor
    map_x: NDArray[np.float32]
    map_y: NDArray[np.float32]

    @property
    def inside(self) -> Tensor:
        """Pixels whose source lies within the raw image, shape (H, W), bool."""
        height, width = self.map_x.shape
        return torch.from_numpy(
            (self.map_x >= 0)
            & (self.map_x <= width - 1)
            & (self.map_y >= 0)
            & (self.map_y <= height - 1)
        )


def compute_undistortion_maps(camera: CameraData) -> UndistortionData:
    """Maps that remove the lens distortion of a camera.

    Args:
        camera: Calibrated camera.

    Returns:
        Maps and intrinsics of the undistorted grid, which has the raw image's size.

    Raises:
        CalibrationError: The lens parameters are so far off that no undistorted image exists.

    Example:
        >>> from aquamvs.calibration import compute_undistortion_maps
        >>> from aquamvs.datasets import make_rig
        >>> maps = compute_undistortion_maps(make_rig("small5").cameras["cam0"])
        >>> tuple(maps.map_x.shape)
        (300, 400)
    """
    try:
        K_new, map_x, map_y = _maps(camera)
    except cv2.error as error:
        raise CalibrationError(
            f"camera {camera.name}: OpenCV finds no undistorted image ({error.err}); check K and "
            "dist_coeffs"
        ) from None
    undistortion = UndistortionData(
        torch.from_numpy(np.asarray(K_new, dtype=np.float64)),
        np.asarray(map_x, dtype=np.float32),
        np.asarray(map_y, dtype=np.float32),
    )
    if not (np.isfinite(K_new).all() and bool(undistortion.inside.any())):
        raise CalibrationError(
            f"camera {camera.name}: no pixel of an undistorted image with the intrinsics "
            f"{np.asarray(K_new).tolist()} lies in the raw image; check K and dist_coeffs"
        )
    return undistortion


def _maps(camera: CameraData) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    K, coefficients = camera.K.numpy(), camera.dist_coeffs.numpy()
    if camera.is_fisheye:
        K_new = cv2.fisheye.estimateNewCameraMatrixForUndistortRectify(
            K, coefficients, camera.image_size, np.eye(3), balance=0.0
        )
        map_x, map_y = cv2.fisheye.initUndistortRectifyMap(
            K, coefficients, np.eye(3), K_new, camera.image_size, cv2.CV_32FC1
        )
    else:
        K_new, _ = cv2.getOptimalNewCameraMatrix(K, coefficients, camera.image_size, alpha=0)
        map_x, map_y = cv2.initUndistortRectifyMap(
            K, coefficients, None, K_new, camera.image_size, cv2.CV_32FC1
        )
    return K_new, map_x, map_y


def undistort_image(image: NDArray[Any], undistortion: UndistortionData) -> NDArray[Any]:
    """Remove lens distortion from an image.

    Args:
        image: shape (H, W) or (H, W, C), uint8, uint16 or float32.
        undistortion: From :func:`compute_undistortion_maps`.

    Returns:
        Same shape and dtype, sampled from the image's cubic spline: OpenCV's bicubic samples lie
        up to 0.05 px beside their place, depending on the sub-pixel phase, and its bilinear ones
        are blurred likewise, which both later show as a bias of the matching.

    Raises:
        DataError: The image has another size than the calibration.

    Example:
        >>> import numpy as np
        >>> from aquamvs.calibration import compute_undistortion_maps, undistort_image
        >>> from aquamvs.datasets import make_rig
        >>> maps = compute_undistortion_maps(make_rig("small5").cameras["cam0"])
        >>> undistort_image(np.full((300, 400, 3), 0.5, dtype=np.float32), maps).shape
        (300, 400, 3)
    """
    height, width = undistortion.map_x.shape
    if image.shape[:2] != (height, width):
        raise DataError(
            f"image is {image.shape[1]} x {image.shape[0]}; the calibration is for "
            f"{width} x {height}"
        )
    values = image.reshape(height, width, -1).astype(np.float32, copy=False)
    undistorted = resample(values, undistortion.map_x, undistortion.map_y).reshape(image.shape)
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        undistorted = np.rint(undistorted).clip(limits.min, limits.max)
    return undistorted.astype(image.dtype, copy=False)
