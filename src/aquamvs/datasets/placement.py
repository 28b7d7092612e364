"""Where under a rig a scene belongs: the part of the tank that the cameras see."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..calibration import CalibrationData, undistort_pixels
from ..errors import DataError

_BORDER_SAMPLES = 33
"""Points per image side: lens distortion bends the outline slowly."""
_REACH = 4.0
"""Half side of the largest tank, metres: cameras may look at the horizon."""
_WALL_MARGIN = 0.12
"""Clearance between what the cameras see and the tank's walls, metres."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Frame of a scene under a rig.

    Attributes:
        x: Centre of the rig over the bed, metres.
        y: Centre, metres.
        surface_z: Z of the water surface above that centre, metres.
        seen: x0, x1, y0, y1 of what the rig's reference cameras see of the bed, metres.
        tank: x0, x1, y0, y1 of the tank's walls, metres.
        gsd: Footprint of a pixel of the finest camera on the bed, metres.
    """

    x: float
    y: float
    surface_z: float
    seen: tuple[float, float, float, float]
    tank: tuple[float, float, float, float]
    gsd: float


def place_under(rig: CalibrationData, depth: float) -> Placement:
    """Centre, outline and scale of a scene at a depth below the water under a rig.

    Args:
        rig: Calibrated rig.
        depth: Of the bed below the water surface, metres.

    Raises:
        DataError: No camera sees the bed.
    """
    names = rig.ring_cameras or list(rig.cameras)
    centres = torch.stack([rig.cameras[name].camera_center for name in names])
    x, y = centres[:, :2].mean(0).tolist()
    surface_z = water_level(rig, x, y)
    corners = torch.cat([_outline(rig, name, surface_z + depth) for name in names])
    near = ((corners[:, 0] - x).abs() < _REACH) & ((corners[:, 1] - y).abs() < _REACH)
    corners = corners[near]
    if not len(corners):
        raise DataError(
            f"no camera of the rig sees a bed {depth} m below the water; expected cameras that "
            "look down on it"
        )
    (x0, y0), (x1, y1) = (bound.tolist() for bound in (corners.amin(0), corners.amax(0)))
    margin = _WALL_MARGIN
    gsd = min(ground_sample_distance(rig, name, depth) for name in names)
    return Placement(
        x,
        y,
        surface_z,
        (x0, x1, y0, y1),
        (x0 - margin, x1 + margin, y0 - margin, y1 + margin),
        gsd,
    )


def water_level(rig: CalibrationData, x: float, y: float) -> float:
    """Z of the (possibly tilted) water surface above a place, metres."""
    nx, ny, nz = rig.interface_normal.tolist()
    return float(rig.water_z - (nx * x + ny * y) / nz)


def ground_sample_distance(rig: CalibrationData, name: str, depth: float) -> float:
    """Footprint of a raw pixel near the camera's axis at a depth below the water, metres."""
    camera = rig.cameras[name]
    height = float(rig.projection_model(name).camera_height)
    focal = float(torch.sqrt(camera.K[0, 0] * camera.K[1, 1]))
    return (height + depth * rig.n_air / rig.n_water) / focal


def _outline(rig: CalibrationData, name: str, z: float) -> Tensor:
    """Points (x, y) at which the image's border meets the plane at z, shape (N, 2)."""
    camera = rig.cameras[name]
    width, height = camera.image_size
    t = torch.linspace(0, 1, _BORDER_SAMPLES, dtype=torch.float64)
    u, v = t * width - 0.5, t * height - 0.5
    left, top = torch.full_like(t, -0.5), torch.full_like(t, -0.5)
    border = torch.cat(
        [
            torch.stack([u, top], -1),
            torch.stack([u, top + height], -1),
            torch.stack([left, v], -1),
            torch.stack([left + width, v], -1),
        ]
    )
    origin, direction = rig.projection_model(name).cast_ray(undistort_pixels(camera, border))
    points = origin + ((z - origin[:, 2]) / direction[:, 2])[:, None] * direction
    return points[torch.isfinite(points).all(-1) & (direction[:, 2] > 0), :2]
