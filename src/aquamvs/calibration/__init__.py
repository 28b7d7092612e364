"""AquaCal calibrations: loading, lens models, undistortion."""

from .aquacal import CalibrationData, CameraData, load_calibration_data
from .lens import distort_pixels, undistort_pixels
from .undistort import UndistortionData, compute_undistortion_maps, undistort_image

__all__ = [
    "CalibrationData",
    "CameraData",
    "UndistortionData",
    "compute_undistortion_maps",
    "distort_pixels",
    "load_calibration_data",
    "undistort_image",
    "undistort_pixels",
]
