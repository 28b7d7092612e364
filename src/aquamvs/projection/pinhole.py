"""The pinhole camera that comes nearest to one above water: what ignoring refraction can reach.

A pinhole that is calibrated through the surface takes up most of the refraction in its focal
length and its place, as Lavest et al. (*Machine Vision and Applications* 13, 2003) found for
cameras in housings. It fits one range of depths; beyond, and towards the image's edge, it drifts.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import DataError
from .refractive import RefractiveProjectionModel

_PIXELS = (13, 10)
"""Pixels along u and v whose rays are fitted: the misfit is smooth."""
_LEVELS = 5
"""Depths at which they are."""


@dataclass(frozen=True, slots=True)
class PinholeFit:
    """A pinhole camera fitted to a refractive one.

    Attributes:
        model: The pinhole (``n_air == n_water``), float64.
        rms_px: Root of the mean squared distance of its projections from the true pixels.
        max_px: The largest such distance.

    Example:
        >>> from aquamvs.projection import fit_pinhole
        >>> fit = fit_pinhole(rig.projection_model("cam0"), (200, 150), (0.95, 1.05))
        >>> fit.rms_px <= fit.max_px, fit.model.is_refractive
        (True, False)
    """

    model: RefractiveProjectionModel
    rms_px: float
    max_px: float


def fit_pinhole(
    model: RefractiveProjectionModel, size: tuple[int, int], z_range: tuple[float, float]
) -> PinholeFit:
    """Fit intrinsics and pose of a pinhole to what a camera sees under water.

    Least squares over the pixels of points that lie on the refracted rays of a grid of pixels, at
    levels evenly spread over ``z_range``.

    Args:
        model: Camera above water.
        size: (width, height) of its image, pixels.
        z_range: World Z of the shallowest and the deepest point, metres.

    Returns:
        The fit: focal lengths, principal point, rotation and translation are free, skew is kept.

    Raises:
        DataError: The range is empty, or not under water within the camera's view.

    Example:
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.projection import fit_pinhole
        >>> rig = make_rig("small5")
        >>> fit = fit_pinhole(rig.projection_model("cam0"), (400, 300), (0.95, 1.05))
        >>> 1.3 < float(fit.model.K[0, 0] / rig.cameras["cam0"].K[0, 0]) < 1.45
        True
    """
    if not z_range[0] < z_range[1]:
        raise DataError(f"z_range is {z_range} m; expected a lower and a higher Z")
    pixels, points = _samples(model, size, z_range)
    if len(points) < _LEVELS * 4:
        raise DataError(
            f"only {len(points)} rays reach Z = {z_range[0]} to {z_range[1]} m; expected a range "
            f"under water (water_z = {model.water_z} m)"
        )
    from scipy.optimize import least_squares
    from scipy.spatial.transform import Rotation

    K, R = (tensor.detach().double().cpu().numpy() for tensor in (model.K, model.R))
    t = model.t.detach().double().cpu().numpy()

    def camera(change: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        intrinsics = K.copy()
        intrinsics[[0, 1], [0, 1]] *= np.exp(change[:2])
        intrinsics[:2, 2] += change[2:4]
        return intrinsics, Rotation.from_rotvec(change[4:7]).as_matrix() @ R, t + change[7:]

    def misfit(change: NDArray[np.float64]) -> NDArray[np.float64]:
        intrinsics, rotation, translation = camera(change)
        seen = (points @ rotation.T + translation) @ intrinsics.T
        return np.asarray((seen[:, :2] / seen[:, 2:] - pixels).ravel())

    start = np.zeros(10)
    start[:2] = np.log(model.n_water / model.n_air)  # straight down, water magnifies by the index
    solved = least_squares(misfit, start, x_scale="jac", xtol=1e-12, ftol=1e-12, gtol=1e-12)
    distance = np.linalg.norm(misfit(solved.x).reshape(-1, 2), axis=1)
    intrinsics, rotation, translation = map(torch.from_numpy, camera(solved.x))
    fitted = RefractiveProjectionModel(
        intrinsics,
        rotation,
        translation,
        model.water_z,
        model.normal.detach().double().cpu(),
        model.n_air,
        model.n_air,
    )
    return PinholeFit(fitted, float(np.sqrt(np.mean(distance**2))), float(distance.max()))


def _samples(
    model: RefractiveProjectionModel, size: tuple[int, int], z_range: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels, shape (N, 2), and the points under water that they see, shape (N, 3)."""
    u = torch.linspace(0, size[0] - 1, _PIXELS[0], dtype=torch.float64)
    v = torch.linspace(0, size[1] - 1, _PIXELS[1], dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1).reshape(-1, 2)
    origin, direction = (each.detach().cpu() for each in model.cast_ray(grid.to(model.K.device)))
    z = torch.linspace(*z_range, _LEVELS, dtype=torch.float64)
    reach = (z[:, None] - origin[:, 2]) / direction[:, 2]
    points = origin + reach[..., None] * direction
    usable = torch.isfinite(points).all(-1) & (reach > 0)
    return grid.expand(_LEVELS, -1, -1)[usable].numpy(), points[usable].numpy()
