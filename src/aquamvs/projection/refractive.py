"""Projection of a pinhole camera in air that looks through a flat water surface.

For a flat interface the refracted path from a point to the camera lies in the vertical plane that
holds both, so projection is a one-dimensional problem (Glaeser and Schröcker 2000; Agrawal et al.,
CVPR 2012). Let the camera stand at height h above the surface, the point at depth d below it and at
horizontal offset e, |e|² = q, and let the ray meet the surface at offset r·e/|e|. With
``w = r / (h |e|)`` Snell's law reads

    w (h + k d s) = 1,    s = (1 + (1 - k²) q w²)^(-1/2),    k = n_air / n_water,

which is smooth in q, so the axis below the camera is no special point. The paraxial value
``w = 1 / (h + k d)`` is a lower bound of the root and the left side is concave in w, so Newton's
method from there converges from below without safeguards, at any angle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import CalibrationError, ShapeError
from .snell import refract

_NEWTON_STEPS = {torch.float64: 4, torch.float32: 3}
"""Steps to the rounding level of the dtype at any incidence; see tests/projection."""

_BLOCK = 1 << 16
"""Points per block without gradients: keeps the intermediates in the processor's cache."""

_UNIT_TOLERANCE = 1e-4
"""Largest deviation of the normal's length from 1 that is rounding rather than a mistake."""


@dataclass(eq=False, repr=False)
class RefractiveProjectionModel:
    """Pinhole intrinsics, a pose, and a flat interface below the camera.

    ``n_air == n_water`` is the plain pinhole camera. The model is immutable and has no distortion:
    it belongs to undistorted pixels (see :mod:`aquamvs.calibration.lens` for raw ones).
    :func:`dataclasses.replace` makes another one of it.

    Attributes:
        K: Intrinsics, shape (3, 3), pixels.
        R: Rotation of ``cam_from_world``, shape (3, 3).
        t: Translation of ``cam_from_world``, shape (3,), metres; (3, 1) is reshaped.
        water_z: The interface contains the world point (0, 0, water_z), metres.
        normal: Unit normal of the interface from water to air, shape (3,); world frame.
        n_air: Refractive index on the camera's side.
        n_water: Refractive index on the scene's side.

    Raises:
        ShapeError: K, R, t or normal of another shape.
        CalibrationError: The normal is not a unit vector, the indices are not
            ``0 < n_air <= n_water``, or the camera is not above the interface.

    Example:
        A camera 1 m above the water and a point half a metre below it, there and back:

        >>> import torch
        >>> from aquamvs.projection import RefractiveProjectionModel
        >>> K = torch.tensor([[800.0, 0, 399.5], [0, 800, 299.5], [0, 0, 1]], dtype=torch.float64)
        >>> up = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
        >>> R, t = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        >>> model = RefractiveProjectionModel(K, R, t, 1.0, up, 1.0, 1.333)
        >>> pixel, valid = model.project(torch.tensor([[0.3, 0.0, 1.5]], dtype=torch.float64))
        >>> round(float(pixel[0, 0]), 1)  # a pinhole would see it at 559.5
        574.5
        >>> origin, direction = model.cast_ray(pixel)
        >>> reach = (1.5 - origin[0, 2]) / direction[0, 2]
        >>> round(float(origin[0, 0] + reach * direction[0, 0]), 9)
        0.3
    """

    K: Tensor
    R: Tensor
    t: Tensor
    water_z: float
    normal: Tensor
    n_air: float
    n_water: float

    def __post_init__(self) -> None:
        for name, shape in (("K", (3, 3)), ("R", (3, 3)), ("normal", (3,))):
            found = tuple(getattr(self, name).shape)
            if found != shape:
                raise ShapeError(name, found, str(shape))
        if self.t.numel() != 3:
            raise ShapeError("t", tuple(self.t.shape), "(3,) or (3, 1)")
        if not 0 < self.n_air <= self.n_water:
            raise CalibrationError(
                f"refractive indices are n_air = {self.n_air} and n_water = {self.n_water}; "
                "expected 0 < n_air <= n_water (cameras in air look into water)"
            )
        length = float(self.normal.detach().double().norm())
        if not abs(length - 1) < _UNIT_TOLERANCE:
            raise CalibrationError(f"interface normal has length {length:.6g}; expected 1")
        self.t, self.water_z = self.t.reshape(3), float(self.water_z)
        self.n_air, self.n_water = float(self.n_air), float(self.n_water)
        # Everything below is in float64: camera heights and K⁻¹ are used to 1e-9 px.
        K64, R64, t64, n64 = (x.double() for x in (self.K, self.R, self.t, self.normal))
        self._normal = n64 / n64.norm()
        self._centre = -R64.T @ t64
        surface_point = self._centre.new_tensor([0.0, 0.0, self.water_z])
        self._height: Tensor = ((self._centre - surface_point) * self._normal).sum()
        if not float(self._height.detach()) > 0:
            raise CalibrationError(
                f"the camera at {[round(x, 4) for x in self._centre.tolist()]} m is "
                f"{-float(self._height):.4g} m below the water surface "
                f"(water_z = {self.water_z} m); expected every camera in air"
            )
        self._world_from_image = R64.T @ torch.linalg.inv(K64)
        image_from_world = K64 @ R64
        self._rows = torch.cat([image_from_world, -self._normal[None]])
        self._image_normal = image_from_world @ self._normal

    @property
    def camera_center(self) -> Tensor:
        """Optical centre in the world frame, shape (3,), float64, metres."""
        return self._centre

    @property
    def camera_height(self) -> Tensor:
        """Distance of the optical centre from the water surface, scalar, float64, metres."""
        return self._height

    @property
    def is_refractive(self) -> bool:
        """False for the in-air case, where the interface has no optical effect."""
        return self.n_air != self.n_water

    def coefficients(self) -> Tensor:
        """All that projection needs, for compiled code, shape (21,), float64.

        In this order: optical centre (3); rows that give homogeneous x, y, z and the distance along
        the interface's downward normal from an offset to the centre (4 x 3); image of the upward
        normal (3); camera height; ``n_air / n_water``; 1 if refractive, else 0.
        """
        index = self._height.new_tensor([self.n_air / self.n_water, float(self.is_refractive)])
        parts = [self._centre, self._rows.flatten(), self._image_normal, self._height[None], index]
        return torch.cat(parts).detach()

    def ray_coefficients(self) -> Tensor:
        """All that :meth:`cast_ray` needs, for compiled code, shape (17,), float64.

        In this order: optical centre (3); the matrix that gives a homogeneous pixel's direction
        (3 x 3); upward normal (3); camera height; ``n_air / n_water``.
        """
        index = self._height.new_tensor([self.n_air / self.n_water])
        turn = self._world_from_image.flatten()
        return torch.cat([self._centre, turn, self._normal, self._height[None], index]).detach()

    def to(self, device: str | torch.device) -> RefractiveProjectionModel:
        """This model with its tensors on ``device``."""
        K, R, t, normal = (x.to(device) for x in (self.K, self.R, self.t, self.normal))
        return replace(self, K=K, R=R, t=t, normal=normal)

    def with_intrinsics(self, K: Tensor) -> RefractiveProjectionModel:
        """This model with other intrinsics, shape (3, 3): a crop or another resolution."""
        return replace(self, K=K)

    def turned(self, angles: Tensor) -> RefractiveProjectionModel:
        """This model with the camera turned about its optical centre.

        Args:
            angles: Rotation vector in the camera frame, shape (3,), radians.
        """
        axes = torch.eye(3, dtype=torch.float64, device=self.R.device)
        turn = torch.linalg.matrix_exp(torch.linalg.cross(angles.to(axes)[None], axes).T)
        R, t = ((turn @ x.double()).to(x) for x in (self.R, self.t))
        return replace(self, R=R, t=t)

    def cast_ray(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Rays under water that belong to pixels.

        Args:
            pixels: Undistorted (u, v), shape (..., 2).

        Returns:
            Origins on the water surface, shape (..., 3), metres, and unit directions under water,
            shape (..., 3), both in the world frame and the dtype of ``pixels``. Where a pixel looks
            at or above the horizon, both are NaN with a zero gradient.
        """
        if pixels.shape[-1:] != (2,):
            raise ShapeError("pixels", tuple(pixels.shape), "(..., 2)")
        normal = self._normal.to(pixels)
        world_from_image = self._world_from_image.to(pixels)
        ray = pixels @ world_from_image[:, :2].T + world_from_image[:, 2]
        direction = ray / ray.norm(dim=-1, keepdim=True)
        descent = -(direction * normal).sum(-1)
        # Half a millionth of a radian below the horizon a ray meets the water kilometres away.
        meets = descent > torch.finfo(pixels.dtype).eps
        distance = self._height.to(pixels) / torch.where(meets, descent, 1.0)
        origin = self._centre.to(pixels) + distance[..., None] * direction
        bent, _ = refract(direction, normal, self.n_air / self.n_water)
        meets = meets[..., None]
        return torch.where(meets, origin, torch.nan), torch.where(meets, bent, torch.nan)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels at which points under water appear.

        Args:
            points: World frame, shape (..., 3), metres.

        Returns:
            Pixels (u, v), shape (..., 2), in the dtype of ``points``, and a mask, shape (...,):
            True where the point lies on or below the water surface (anywhere, if
            ``n_air == n_water``) and its ray enters the camera from the front. Other pixels are
            NaN, with a zero gradient. Image bounds are the caller's to check.
        """
        flat = _flatten(points)
        wants_gradient = flat.requires_grad or self._rows.requires_grad
        if (wants_gradient and torch.is_grad_enabled()) or not self.is_refractive:
            pixels, valid = _pixels(_trace(self._optics(flat), flat))
        else:
            pixels, valid = self._project_in_place(flat)
        return pixels.reshape(*points.shape[:-1], 2), valid.reshape(points.shape[:-1])

    def project_with_jacobian(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`project` and the closed-form derivative of the pixel with respect to the point.

        Args:
            points: World frame, shape (..., 3), metres.

        Returns:
            Pixels, shape (..., 2); Jacobian d(u, v)/d(x, y, z), shape (..., 2, 3), px per metre;
            mask, shape (...,). Invalid entries are NaN.
        """
        axes = torch.eye(3, dtype=points.dtype, device=points.device)
        pixels, rates, valid = _along(self._optics(points), points, axes[:, None])
        return pixels, rates.movedim(0, -1), valid

    def project_along(self, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`project` and the rate at which the pixel moves as the point moves.

        Args:
            points: World frame, shape (..., 3), metres.
            direction: Motion of all points, shape (3,), or of each, shape (..., 3), metres.

        Returns:
            Pixels, shape (..., 2); rate, shape (..., 2), px per ``direction``; mask, shape (...,).
            Invalid entries are NaN.
        """
        return _along(self._optics(points), points, direction.to(points).reshape(-1, 3))

    def _optics(self, like: Tensor) -> _Optics:
        """In the dtype and on the device of ``like``."""
        return _Optics(
            self._centre.to(like),
            self._rows.to(like),
            self._image_normal.to(like),
            self._height.to(like),
            self.n_air / self.n_water,
        )

    def _project_in_place(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """:func:`_pixels` of :func:`_trace` without gradients, shape (N, 3) -> (N, 2) and (N,).

        The same arithmetic with every intermediate in memory that is taken once: allocating the
        dozens of temporaries anew costs more than computing them.
        """
        pixels = points.new_empty(len(points), 2)
        valid = torch.empty(len(points), dtype=torch.bool, device=points.device)
        block = max(len(points), 1)
        if points.device.type == "cpu":
            block = min(block, _BLOCK)
        memory = points.new_empty(12, block)
        memory[10], memory[11] = 1.0, float(self._height)
        with torch.no_grad():
            for start in range(0, len(points), block):
                part = slice(start, start + block)
                self._project_block(points[part], memory, pixels[part], valid[part])
        return pixels, valid

    def _project_block(self, points: Tensor, memory: Tensor, pixels: Tensor, valid: Tensor) -> None:
        k, height = self.n_air / self.n_water, float(self._height)
        x, y, z, u, v, depth, level, q, w, s, one, heights = memory[:, : len(points)].unbind(0)
        centre, rows, image_normal = (
            value.tolist() for value in (self._centre, self._rows, self._image_normal)
        )
        for i, axis in enumerate((x, y, z)):
            torch.sub(points[:, i], centre[i], out=axis)
        for row, target in zip(rows, (u, v, depth, level), strict=True):
            torch.mul(x, row[0], out=target).add_(y, alpha=row[1]).add_(z, alpha=row[2])
        torch.mul(x, x, out=q).addcmul_(y, y).addcmul_(z, z).addcmul_(level, level, value=-1)
        kd, t, slope = x, y, z
        torch.sub(level, height, out=kd)
        torch.ge(kd, 0, out=valid)
        kd.clamp_(min=0).mul_(k)
        q.mul_(1 - k * k)
        torch.add(kd, height, out=w).reciprocal_()
        for _ in range(_NEWTON_STEPS.get(points.dtype, 3)):
            torch.addcmul(one, q, torch.mul(w, w, out=t), out=s).rsqrt_()
            torch.mul(kd, s, out=t)
            s.square_()
            torch.addcmul(heights, t, s, out=slope)
            torch.addcmul(one, t.mul_(w), s.sub_(1), out=w).div_(slope)
        lift = level.mul_(w).sub_(1)
        for target, along in zip((u, v, depth), image_normal, strict=True):
            target.mul_(w).add_(lift, alpha=along)
        valid &= depth > torch.finfo(points.dtype).eps
        depth.masked_fill_(~valid, torch.nan)
        torch.div(u, depth, out=pixels[:, 0])
        torch.div(v, depth, out=pixels[:, 1])


class ProjectionRig:
    """Several cameras over the same water, into which points are projected at once.

    One camera after the other, a few points take many small operations, most of whose time goes
    into beginning them.

    Args:
        models: One or more, on one device.

    Raises:
        CalibrationError: They look through different media.

    Example:
        >>> import torch
        >>> from aquamvs.projection import ProjectionRig
        >>> cameras = ProjectionRig([view.model for view in views])
        >>> down = torch.tensor([0.0, 0.0, 1.0])
        >>> pixels, rate, valid = cameras.project_along(torch.tensor([[0.0, 0.0, 1.3]]), down)
        >>> tuple(pixels.shape), tuple(valid.shape)
        ((5, 1, 2), (5, 1))
    """

    def __init__(self, models: Sequence[RefractiveProjectionModel]) -> None:
        media = sorted({(model.n_air, model.n_water) for model in models})
        if len(media) != 1:
            raise CalibrationError(
                f"the cameras' (n_air, n_water) are {media}; expected one pair for all of them"
            )
        each = [model._optics(model.camera_height) for model in models]

        def together(values: Iterable[Tensor]) -> Tensor:
            return torch.stack(list(values), dim=-1)[..., None]

        self._optics = _Optics(
            together(one.centre for one in each),
            together(one.rows for one in each),
            together(one.image_normal for one in each),
            together(one.height for one in each),
            each[0].index_ratio,
        )

    def __len__(self) -> int:
        return len(self._optics.height)

    def select(self, chosen: Sequence[int]) -> ProjectionRig:
        """Some of the cameras, by their numbers."""
        some = copy(self)
        index = torch.as_tensor(chosen, device=self._optics.height.device)
        some._optics = self._optics.each(lambda values: values.index_select(-2, index))
        return some

    def project_along(self, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`RefractiveProjectionModel.project_along` of every camera.

        Args:
            points: World frame, shape (..., 3), metres.
            direction: Motion of all points, shape (3,), or of each, shape (..., 3), metres.

        Returns:
            Pixels, shape (M, ..., 2); rate, shape (M, ..., 2), px per ``direction``; mask, shape
            (M, ...). Invalid entries are NaN.
        """
        optics = self._optics.each(lambda values: values.to(points))
        return _along(optics, points, direction.to(points).reshape(-1, 3))

    def rays_to(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """From where the cameras' rays enter the water (in air: from the cameras) to points.

        Args:
            points: World frame, shape (..., 3), metres.

        Returns:
            Vectors, shape (M, ..., 3), metres, and :meth:`project_along`'s mask, shape (M, ...).
        """
        optics = self._optics.each(lambda values: values.to(points))
        flat = _flatten(points)
        path = _trace(optics, flat)
        _, valid = _pixels(path)
        vector = torch.stack([flat[:, i] - optics.centre[i] for i in range(3)], dim=-1)
        if path.bend is not None:
            # The ray enters the water h below the camera and w h e beside it, with the offset
            # e + level * down and h the height: what is left is what the point lies beyond that.
            _, _, level, _, _, w = path.bend
            up = -optics.rows[3].movedim(0, -1)
            beside = (1 - w * optics.height)[..., None] * vector
            vector = beside + (optics.height * (1 - w * level))[..., None] * up
        around = points.shape[:-1]
        return vector.reshape((len(self), *around, 3)), valid.reshape((len(self), *around))


class _Optics(NamedTuple):
    """What projection needs of one camera, or of M: then with two more axes, (M, 1).

    ``centre`` and the image of the upward normal have shape (3,), ``rows``, which give homogeneous
    x, y, z and the distance along the downward normal from an offset to the centre, (4, 3), and the
    height none.
    """

    centre: Tensor
    rows: Tensor
    image_normal: Tensor
    height: Tensor
    index_ratio: float

    def each(self, change: Callable[[Tensor], Tensor]) -> _Optics:
        """With all tensors changed."""
        centre, rows, image_normal, height = (
            change(values) for values in (self.centre, self.rows, self.image_normal, self.height)
        )
        return _Optics(centre, rows, image_normal, height, self.index_ratio)


class _Bend(NamedTuple):
    """The terms of ``image = w along + (w level - 1) image_normal``, each (N,) or (M, N)."""

    along: list[Tensor]
    offset: list[Tensor]
    level: Tensor
    depth: Tensor
    q: Tensor
    w: Tensor


class _Path(NamedTuple):
    """Points on their way to the camera.

    ``image`` lists homogeneous x, y, z, each of shape (N,) or (M, N); ``visible`` is False where
    no path exists; ``bend`` is None in air.
    """

    image: list[Tensor]
    visible: Tensor
    bend: _Bend | None


def _flatten(points: Tensor) -> Tensor:
    if points.shape[-1:] != (3,):
        raise ShapeError("points", tuple(points.shape), "(..., 3)")
    return points.reshape(-1, 3)


def _along(optics: _Optics, points: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels, their rates along a direction, and where they are valid.

    Args:
        optics: Of one camera, or of M.
        points: shape (..., 3).
        direction: For all N points, shape (1, 3), for each, (N, 3), or several, (D, 1, 3).

    Returns:
        Shapes ([M,] ..., 2), ([D,] [M,] ..., 2) and ([M,] ...).
    """
    path = _trace(optics, _flatten(points))
    pixels, valid = _pixels(path)
    blank = torch.where(valid, 0.0, torch.nan).to(points)
    depth_z = torch.where(valid, path.image[2], 1.0)
    d_u, d_v, d_z = _image_rate(optics, path, direction)
    rate = torch.stack(
        [
            torch.addcdiv(blank, d - pixel * d_z, depth_z)
            for d, pixel in ((d_u, pixels[..., 0]), (d_v, pixels[..., 1]))
        ],
        dim=-1,
    )
    around = points.shape[:-1]
    return (
        pixels.reshape((*valid.shape[:-1], *around, 2)),
        rate.reshape((*rate.shape[:-2], *around, 2)),
        valid.reshape((*valid.shape[:-1], *around)),
    )


def _trace(optics: _Optics, points: Tensor) -> _Path:
    """Homogeneous pixels of points, shape (N, 3), in structure-of-arrays form for speed."""
    if points.requires_grad:  # a NaN would come back as a NaN gradient; zero is as invalid
        finite = torch.isfinite(points).all(-1, keepdim=True)
        points = torch.where(finite, points, torch.nan).nan_to_num(0.0)
        known = finite[:, 0]
    else:
        known = None
    x, y, z = (points[:, i] - optics.centre[i] for i in range(3))
    *image, level = (row[0] * x + row[1] * y + row[2] * z for row in optics.rows)
    if optics.index_ratio == 1:
        finite = image[2] < torch.inf  # under water an infinite point already gives NaN
        return _Path(image, finite if known is None else finite & known, None)
    depth = level - optics.height
    under = depth >= 0
    q = x * x + y * y + z * z - level * level
    w = _solve(optics, q, depth.clamp(min=0))
    lift = w * level - 1
    bent = [w * a + b * lift for a, b in zip(image, optics.image_normal, strict=True)]
    under = under if known is None else under & known
    return _Path(bent, under, _Bend(image, [x, y, z], level, depth, q, w))


def _solve(optics: _Optics, q: Tensor, depth: Tensor) -> Tensor:
    """Root w of ``w (h + k d s(w)) = 1``; gradients by the implicit function theorem."""
    k, height = optics.index_ratio, optics.height
    kd, c = k * depth, (1 - k * k) * q
    with torch.no_grad():
        w = 1 / (height + kd)
        for _ in range(_NEWTON_STEPS.get(q.dtype, 3)):
            s = torch.rsqrt(c * (w * w) + 1)
            kds = kd * s
            kds3 = kds * (s * s)
            w = ((kds3 - kds) * w + 1) / (kds3 + height)
        if not (kd.requires_grad or c.requires_grad or height.requires_grad):
            return w
        s = torch.rsqrt(c * (w * w) + 1)
        slope = height + kd * (s * s * s)
    # One more step carries the gradient: at the root only the residual depends on the inputs.
    residual = w * (height + kd * torch.rsqrt(c * (w * w) + 1)) - 1
    root: Tensor = w - residual / slope
    return root


def _image_rate(optics: _Optics, path: _Path, direction: Tensor) -> list[Tensor]:
    """Derivative of the homogeneous pixel along world directions; see :class:`_Bend`.

    By the implicit function theorem on F(w, q, d) = w (h + k d s) - 1 with
    ∂F/∂w = h + k d s³, ∂F/∂q = -w³ (1-k²) k d s³ / 2 and ∂F/∂d = w k s.
    """
    dx, dy, dz = direction.unbind(-1)
    moved = [row[0] * dx + row[1] * dy + row[2] * dz for row in optics.rows]
    if path.bend is None:
        return [rate + torch.zeros_like(path.image[2]) for rate in moved[:3]]
    along, offset, level, depth, q, w = path.bend
    k = optics.index_ratio
    s = torch.rsqrt((1 - k * k) * q * (w * w) + 1)
    kds3 = k * depth * (s * s * s)
    x, y, z = offset
    half_q = x * dx + y * dy + z * dz - level * moved[3]
    d_w = w * ((1 - k * k) * (w * w) * kds3 * half_q - k * s * moved[3])
    d_w = d_w / (kds3 + optics.height)
    normal = optics.image_normal
    straight = [moved[i] + normal[i] * moved[3] for i in range(3)]
    return [w * straight[i] + d_w * (along[i] + level * normal[i]) for i in range(3)]


def _pixels(path: _Path) -> tuple[Tensor, Tensor]:
    """Divide by z; NaN and False where the ray does not enter the camera from the front."""
    u, v, z = path.image
    valid = (z > torch.finfo(z.dtype).eps) & path.visible
    z = torch.where(valid, z, 1.0)
    blank = torch.where(valid, 0.0, torch.nan).to(z)
    return torch.stack([torch.addcdiv(blank, u, z), torch.addcdiv(blank, v, z)], dim=-1), valid
