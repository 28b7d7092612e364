"""Random rigs to train under: what a matcher must cope with, and more than any one rig has."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..calibration import CalibrationData, CameraData
from ..datasets.noise import random_stream

IMAGE_SIZE = (640, 480)
"""Of every training image, (width, height)."""

_CAMERAS = 8
_HEIGHT = (0.6, 1.3)
"""Of the cameras above the water, metres."""
_FOCAL = (0.75, 2.2)
"""Focal length over image width: from a wide lens to a quarter of a full-size frame."""
_WIDE = 0.5
"""Focal length of the last camera over the others': the rig's fisheye sees twice as much."""
_SPREAD = 0.42
"""Radius of the disc of camera positions over the width of the field of view."""
_LEAN_DEG = 7.0
"""Standard deviation of the optical axes' lean from the vertical, about each horizontal axis."""
_SURFACE_TILT = 0.02
"""Standard deviation of the water surface's slope."""


def random_rig(seed: int) -> CalibrationData:
    """A rig of eight cameras without lens distortion, the last one wide and auxiliary.

    Half of the rigs have level cameras that are turned alike, as those of a frame of profiles; in
    the other half every camera leans and is turned about its axis by any angle.

    Args:
        seed: Of everything random.

    Returns:
        The rig.
    """
    rng = random_stream(seed, "training rig")
    height = rng.uniform(*_HEIGHT)
    focal = IMAGE_SIZE[0] * math.exp(rng.uniform(*np.log(_FOCAL)))
    width = height * 1.35 * IMAGE_SIZE[0] / focal
    is_level = rng.random() < 0.5
    cameras = {}
    for index in range(_CAMERAS):
        radius = _SPREAD * width * math.sqrt(rng.random())
        azimuth = rng.uniform(0, 2 * math.pi)
        centre = torch.tensor(
            [radius * math.cos(azimuth), radius * math.sin(azimuth), 0.03 * rng.normal()],
            dtype=torch.float64,
        )
        lean = math.radians(1.0 if is_level else _LEAN_DEG) * rng.normal(size=2)
        roll = 0.05 * rng.normal() if is_level else rng.uniform(0, 2 * math.pi)
        # Leaning cameras still look at what the others see.
        toward = 0.0 if is_level else 0.5 * radius / (1.3 * height)
        lean += toward * np.array([-math.cos(azimuth), -math.sin(azimuth)])
        R = _rotation(lean, roll)
        is_wide = index == _CAMERAS - 1
        K = _intrinsics(focal * (_WIDE if is_wide else rng.uniform(0.95, 1.05)), rng)
        name = f"cam{index}"
        cameras[name] = CameraData(
            name=name,
            K=K,
            dist_coeffs=torch.zeros(5, dtype=torch.float64),
            R=R,
            t=-R @ centre,
            image_size=IMAGE_SIZE,
            is_auxiliary=is_wide,
        )
    slope = _SURFACE_TILT * rng.normal(size=2)
    normal = torch.tensor([slope[0], slope[1], -1.0], dtype=torch.float64)
    return CalibrationData(cameras, height, normal / normal.norm(), 1.0, 1.333)


def _rotation(lean: NDArray[np.float64], roll: float) -> Tensor:
    """``cam_from_world`` of an axis tilted by small slopes in X and Y and a turn about it."""
    axis = torch.tensor([lean[0], lean[1], 1.0], dtype=torch.float64)
    axis = axis / axis.norm()
    right = torch.tensor([math.cos(roll), math.sin(roll), 0.0], dtype=torch.float64)
    right = right - (right * axis).sum() * axis
    right = right / right.norm()
    return torch.stack([right, torch.linalg.cross(axis, right), axis])


def _intrinsics(focal: float, rng: np.random.Generator) -> Tensor:
    width, height = IMAGE_SIZE
    centre = np.array([(width - 1) / 2, (height - 1) / 2]) + 6 * rng.normal(size=2)
    return torch.tensor(
        [[focal, 0.0, centre[0]], [0.0, focal, centre[1]], [0.0, 0.0, 1.0]], dtype=torch.float64
    )
