"""Lens distortion between raw and ideal (pinhole) pixels: OpenCV's rational and fisheye models.

Both directions are torch functions of any batch shape, so that the renderer, the tests and gradient
code share them; OpenCV itself is used only for whole-image maps (see ``undistort``).
Sources: OpenCV ``calib3d`` documentation (Brown 1966; Kannala and Brandt 2006).
"""

import torch
from torch import Tensor

from ..errors import ShapeError
from .aquacal import CameraData

_INVERSE_STEPS = 30
"""Newton steps at most; they stop when every pixel has settled."""
_SETTLED = 1e-13
"""A step of normalised coordinates smaller than this is rounding."""


def distort_pixels(camera: CameraData, ideal: Tensor) -> Tensor:
    """Raw pixels at which the lens shows ideal ones.

    Args:
        camera: Calibrated camera; its K belongs to both sides.
        ideal: Pinhole pixels, shape (..., 2).

    Returns:
        Raw pixels, shape (..., 2), in the dtype of ``ideal``.

    Example:
        >>> import torch
        >>> from aquamvs.calibration import distort_pixels, undistort_pixels
        >>> from aquamvs.datasets import make_rig
        >>> camera = make_rig("small5").cameras["cam0"]
        >>> ideal = torch.tensor([[10.0, 20.0]], dtype=torch.float64)
        >>> again = undistort_pixels(camera, distort_pixels(camera, ideal))
        >>> bool((again - ideal).abs().max() < 1e-6)
        True
    """
    _check(ideal)
    distorted, _ = _distort(camera, _normalize(camera, ideal))
    return _denormalize(camera, distorted)


def undistort_pixels(camera: CameraData, raw: Tensor) -> Tensor:
    """Ideal pixels of raw ones (the inverse of :func:`distort_pixels`).

    Args:
        camera: Calibrated camera.
        raw: Pixels of the raw image, shape (..., 2).

    Returns:
        Pinhole pixels, shape (..., 2); NaN where the lens model has no inverse (outside of its
        field of view).

    Example:
        >>> import torch
        >>> from aquamvs.calibration import distort_pixels, undistort_pixels
        >>> from aquamvs.datasets import make_rig
        >>> camera = make_rig("small5").cameras["cam0"]
        >>> raw = torch.tensor([[10.0, 20.0]], dtype=torch.float64)
        >>> again = distort_pixels(camera, undistort_pixels(camera, raw))
        >>> bool((again - raw).abs().max() < 1e-6)
        True
    """
    _check(raw)
    target = _normalize(camera, raw)
    invert = _invert_fisheye if camera.is_fisheye else _invert_rational
    ideal, valid = invert(camera.dist_coeffs.to(raw), target)
    return torch.where(valid[..., None], _denormalize(camera, ideal), torch.nan)


def _tolerance(dtype: torch.dtype) -> float:
    return max(_SETTLED, 4 * torch.finfo(dtype).eps)


def _invert_rational(coefficients: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    tolerance = _tolerance(target.dtype)
    guess = target.clone()
    for _ in range(_INVERSE_STEPS):
        value, jacobian = _distort_rational(coefficients, guess)
        step = _solve2(jacobian, target - value)
        guess = guess + step
        if bool((step.abs().amax(-1) <= tolerance * (1 + guess.abs().amax(-1))).all()):
            break
    value, jacobian = _distort_rational(coefficients, guess)
    # A fold of the model maps two ideal pixels to one raw pixel: only the inner one is real.
    unfolded = (jacobian[..., 0, 0] * jacobian[..., 1, 1]) > (
        jacobian[..., 0, 1] * jacobian[..., 1, 0]
    )
    residual = (value - target).abs().amax(-1)
    return guess, unfolded & (residual < 1e3 * tolerance * (1 + target.abs().amax(-1)))


def _invert_fisheye(coefficients: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """In the angle, where the model is nearly linear; 90 degrees and beyond have no pinhole."""
    tolerance = _tolerance(target.dtype)
    radius = torch.sqrt((target * target).sum(-1).clamp(min=torch.finfo(target.dtype).tiny ** 0.5))
    theta = radius.clamp(max=torch.pi / 2)
    for _ in range(_INVERSE_STEPS):
        bent, d_bent = _bend_angle(coefficients, theta)
        step = (radius - bent) / d_bent
        theta = theta + step
        if bool((step.abs() <= tolerance).all()):
            break
    bent, d_bent = _bend_angle(coefficients, theta)
    settled = (bent - radius).abs() < 1e3 * tolerance
    valid = settled & (d_bent > 0) & (theta >= 0) & (theta < torch.pi / 2)
    return target * (torch.tan(theta) / radius)[..., None], valid


def _check(pixels: Tensor) -> None:
    if pixels.shape[-1:] != (2,):
        raise ShapeError("pixels", tuple(pixels.shape), "(..., 2)")


def _normalize(camera: CameraData, pixels: Tensor) -> Tensor:
    inverse: Tensor = torch.linalg.inv(camera.K).to(pixels)
    return pixels @ inverse[:2, :2].T + inverse[:2, 2]


def _denormalize(camera: CameraData, normalized: Tensor) -> Tensor:
    K = camera.K.to(normalized)
    return normalized @ K[:2, :2].T + K[:2, 2]


def _solve2(matrix: Tensor, vector: Tensor) -> Tensor:
    """2 x 2 solve by the adjugate, batched."""
    (a, b), (c, d) = (row.unbind(-1) for row in matrix.unbind(-2))
    x, y = vector.unbind(-1)
    return torch.stack([d * x - b * y, a * y - c * x], dim=-1) / (a * d - b * c)[..., None]


def _distort(camera: CameraData, ideal: Tensor) -> tuple[Tensor, Tensor]:
    """Distorted normalised coordinates, shape (..., 2), and their Jacobian, shape (..., 2, 2)."""
    if camera.is_fisheye:
        return _distort_fisheye(camera.dist_coeffs.to(ideal), ideal)
    return _distort_rational(camera.dist_coeffs.to(ideal), ideal)


def _distort_rational(coefficients: Tensor, ideal: Tensor) -> tuple[Tensor, Tensor]:
    k1, k2, p1, p2, k3, k4, k5, k6 = (
        *coefficients.unbind(0),
        *coefficients.new_zeros(8 - coefficients.numel()).unbind(0),
    )
    x, y = ideal.unbind(-1)
    q = x * x + y * y
    above = 1 + q * (k1 + q * (k2 + q * k3))
    below = 1 + q * (k4 + q * (k5 + q * k6))
    radial = above / below
    slope = (k1 + q * (2 * k2 + 3 * q * k3) - radial * (k4 + q * (2 * k5 + 3 * q * k6))) / below
    distorted = torch.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (q + 2 * x * x),
            y * radial + p1 * (q + 2 * y * y) + 2 * p2 * x * y,
        ],
        dim=-1,
    )
    cross = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
    du = torch.stack([radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x, cross], dim=-1)
    dv = torch.stack([cross, radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x], dim=-1)
    return distorted, torch.stack([du, dv], dim=-2)


def _distort_fisheye(coefficients: Tensor, ideal: Tensor) -> tuple[Tensor, Tensor]:
    x, y = ideal.unbind(-1)
    q = x * x + y * y
    # On the axis θ/r = 1 and the Jacobian is the identity; a tiny radius gives both.
    r = torch.sqrt(q.clamp(min=torch.finfo(q.dtype).tiny ** 0.5))
    theta = torch.atan(r)
    bent, d_bent = _bend_angle(coefficients, theta)
    scale = bent / r
    d_scale = (d_bent / (1 + q) - scale) / (r * r)  # d scale / d r, over r
    distorted = ideal * scale[..., None]
    outer = ideal[..., :, None] * ideal[..., None, :]
    identity = torch.eye(2, dtype=ideal.dtype, device=ideal.device)
    return distorted, scale[..., None, None] * identity + d_scale[..., None, None] * outer


def _bend_angle(coefficients: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """Kannala and Brandt's odd polynomial of the angle, and its derivative."""
    k1, k2, k3, k4 = coefficients.unbind(0)
    square = theta * theta
    bent = theta * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))
    d_bent = 1 + square * (3 * k1 + square * (5 * k2 + square * (7 * k3 + square * 9 * k4)))
    return bent, d_bent
