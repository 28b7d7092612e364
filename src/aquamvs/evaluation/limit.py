"""What the rig can measure: the covariance that matching noise leaves, and the pixel's footprint.

An independent error of ``noise_px`` in every view's u and v gives a point that is triangulated by
least squares the covariance ``noise_px² (Σ JᵀJ)⁻¹``, with J the Jacobian of each camera that sees
the point (Gauss-Markov; Förstner and Wrobel, *Photogrammetric Computer Vision*, 2016, §4.2). No
estimator that is unbiased does better from one pixel per view, so accuracy is quoted against it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError, ShapeError
from ..pixels import pixel_grid
from ..plain import plain
from ..projection import RefractiveProjectionModel

MATCHING_NOISE_PX = 0.1
"""Standard deviation of a good match per view and axis: the yardstick of DESIGN section 7."""

_BLOCK = 1 << 15
"""Points per block: the Jacobians of one camera and the sums stay within a few megabytes."""

_HIDDEN_GSD = 3.0
"""Ground sampling distances by which a point must lie behind a depth map to be hidden: a pixel
spans one to two of them on slopes up to 60 degrees."""

_SINGULAR = 1e-6
"""Smallest ratio of Cholesky pivots that float64 tells from parallel rays."""


@dataclass(frozen=True, slots=True)
class RigLimit:
    """Uncertainty of triangulated points.

    Attributes:
        covariance: World frame, shape (..., 3, 3), square metres; NaN where fewer than two views
            see the point or all rays to it are parallel.
        view_count: Views that see the point, shape (...,), int32.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import rig_limit
        >>> limit = rig_limit([view.model for view in views], torch.tensor([[0.0, 0.0, 1.0]]))
        >>> sideways, along = limit.covariance[0].diagonal()[[0, 2]].sqrt().tolist()
        >>> sideways < along
        True
    """

    covariance: Tensor
    view_count: Tensor

    @property
    def height(self) -> Tensor:
        """1-sigma uncertainty of world Z, shape (...,), metres."""
        return self.covariance[..., 2, 2].sqrt()

    def along(self, direction: Tensor) -> Tensor:
        """1-sigma uncertainty along unit directions, for example a camera's refracted rays.

        Args:
            direction: Unit vectors, shape (..., 3), broadcast against the points.

        Returns:
            shape (...,), metres.
        """
        direction = direction.to(self.covariance)
        return torch.einsum("...i,...ij,...j", direction, self.covariance, direction).sqrt()

    def as_dict(self) -> dict[str, Any]:
        """Covariances and view counts as nested lists for JSON; NaN becomes None."""
        result: dict[str, Any] = plain(self)
        return result


@dataclass(frozen=True, slots=True)
class DepthLimit:
    """Uncertainty of one camera's ray depth.

    Attributes:
        sigma: 1-sigma uncertainty along each pixel's ray, shape (H, W), float64, metres; NaN
            where the depth is unknown or fewer than two views see the point.
        view_count: Views that see the point, shape (H, W), int32.

    Example:
        >>> from aquamvs.evaluation import depth_limit
        >>> models = [view.model for view in views]
        >>> limit = depth_limit(models, models[0], truth.depth("cam0"), step=10)
        >>> tuple(limit.sigma.shape), int(limit.view_count.max())
        ((150, 200), 5)
    """

    sigma: Tensor
    view_count: Tensor


def rig_limit(
    models: Sequence[RefractiveProjectionModel],
    points: Tensor,
    visible: Tensor | None = None,
    *,
    sizes: Sequence[tuple[int, int]] | None = None,
    noise_px: float = MATCHING_NOISE_PX,
) -> RigLimit:
    """Uncertainty that matching noise leaves at points seen by a rig.

    Args:
        models: The C cameras.
        points: World frame, shape (..., 3), metres; NaN where unknown.
        visible: shape (C, ...), bool: which camera sees which point (occlusion is the caller's
            to know, see :func:`visible_in_depth_maps`). All of them when absent.
        sizes: (width, height) of the C images; a point outside of an image is not seen by it.
            No bounds when absent.
        noise_px: Standard deviation of a match in u and in v of every view, pixels.

    Returns:
        The limit in float64 on the device of ``points``, computed in blocks of bounded memory.

    Raises:
        ShapeError: ``points`` or ``visible`` has another shape.
        DataError: Not one size per camera, or ``noise_px`` is not positive.

    Example:
        >>> import torch
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.evaluation import rig_limit
        >>> rig = make_rig("small5")
        >>> models = [rig.projection_model(name) for name in rig.cameras]
        >>> limit = rig_limit(models, torch.tensor([0.0, 0.0, 1.0]))
        >>> int(limit.view_count), bool(limit.height < 1e-3)
        (5, True)
    """
    if points.shape[-1:] != (3,):
        raise ShapeError("points", tuple(points.shape), "(..., 3)")
    batch = tuple(points.shape[:-1])
    if visible is not None and tuple(visible.shape) != (len(models), *batch):
        raise ShapeError("visible", tuple(visible.shape), str((len(models), *batch)))
    if sizes is not None and len(sizes) != len(models):
        raise DataError(f"{len(sizes)} image sizes for {len(models)} cameras; expected one each")
    if not noise_px > 0:
        raise DataError(f"noise_px is {noise_px}; expected a positive number of pixels")
    flat = points.detach().reshape(-1, 3).double()
    mask = None if visible is None else visible.reshape(len(models), -1)
    covariance = flat.new_empty(len(flat), 3, 3)
    view_count = torch.empty(len(flat), dtype=torch.int32, device=flat.device)
    for start in range(0, len(flat), _BLOCK):
        block = slice(start, start + _BLOCK)
        seen = None if mask is None else mask[:, block]
        information, view_count[block] = _information(models, flat[block], seen, sizes)
        covariance[block] = noise_px**2 * _inverse(information, view_count[block])
    return RigLimit(covariance.reshape(*batch, 3, 3), view_count.reshape(batch))


def depth_limit(
    models: Sequence[RefractiveProjectionModel],
    reference: RefractiveProjectionModel,
    depth: Tensor,
    *,
    sizes: Sequence[tuple[int, int]] | None = None,
    depths: Sequence[Tensor] | None = None,
    step: int = 1,
    noise_px: float = MATCHING_NOISE_PX,
) -> DepthLimit:
    """:func:`rig_limit` along the rays of one camera's depth map.

    Args:
        models: The C cameras, the reference among them.
        reference: Camera of the depth map.
        depth: Ray depth on the full grid, shape (H, W), metres; NaN where unknown.
        sizes: (width, height) of the C images; see :func:`rig_limit`.
        depths: True ray depth of the C cameras, each of shape (H, W), metres: views from which a
            point is hidden are left out (:func:`visible_in_depth_maps`, with a tolerance of three
            ground sampling distances). Nothing is hidden when absent.
        step: Compute every ``step``-th pixel and row, and give the pixels around it the same limit
            (it changes slowly, and a full frame of 13 cameras takes minutes).
        noise_px: Standard deviation of a match in u and in v of every view, pixels.

    Returns:
        The limit of each pixel.

    Raises:
        DataError: ``step`` is not positive.

    Example:
        >>> import torch
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.evaluation import depth_limit
        >>> rig = make_rig("small5")
        >>> models = [rig.projection_model(name) for name in rig.cameras]
        >>> limit = depth_limit(models, models[0], torch.full((300, 400), 0.3), step=10)
        >>> tuple(limit.sigma.shape), bool(limit.sigma.nanmedian() < 1e-3)
        ((300, 400), True)
    """
    if step < 1:
        raise DataError(f"step is {step}; expected 1 or more")
    points, direction = (
        x[step // 2 :: step, step // 2 :: step] for x in depth_points(reference, depth)
    )
    visible = None
    if depths is not None:
        visible = visible_in_depth_maps(
            models, depths, points, tolerance=hidden_tolerance(reference, points)
        )
    limit = rig_limit(models, points, visible, sizes=sizes, noise_px=noise_px)
    sigma, view_count = (
        _spread(x, step, depth.shape) for x in (limit.along(direction), limit.view_count)
    )
    return DepthLimit(torch.where(torch.isfinite(depth), sigma, torch.nan), view_count)


def depth_points(model: RefractiveProjectionModel, depth: Tensor) -> tuple[Tensor, Tensor]:
    """World points of a depth map, and the rays that they lie on.

    Args:
        model: Camera of the depth map.
        depth: Ray depth, shape (H, W), metres; NaN where unknown.

    Returns:
        Points, shape (H, W, 3), NaN where the depth is, and unit directions, shape (H, W, 3), both
        float64.

    Example:
        >>> import torch
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.evaluation import depth_points
        >>> rig = make_rig("small5")
        >>> models = [rig.projection_model(name) for name in rig.cameras]
        >>> points, directions = depth_points(models[0], torch.full((300, 400), 0.3))
        >>> tuple(points.shape)
        (300, 400, 3)
    """
    if depth.ndim != 2:
        raise ShapeError("depth", tuple(depth.shape), "(H, W)")
    height, width = depth.shape
    pixels = pixel_grid((width, height), dtype=torch.float64, device=depth.device)
    origin, direction = model.cast_ray(pixels)
    return origin + depth.double()[..., None] * direction, direction


def visible_in_depth_maps(
    models: Sequence[RefractiveProjectionModel],
    depths: Sequence[Tensor],
    points: Tensor,
    *,
    tolerance: float,
) -> Tensor:
    """Which cameras see which points, judged by the cameras' true depth maps.

    A camera sees a point if the point projects into its image and lies no deeper than the deepest
    of the four pixels around it, plus ``tolerance``.

    Args:
        models: The C cameras.
        depths: Their ray depth, each of shape (H, W), metres.
        points: World frame, shape (..., 3), metres.
        tolerance: Metres; a few times the depth that a pixel spans on slopes.

    Returns:
        shape (C, ...), bool.

    Example:
        >>> import torch
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.evaluation import visible_in_depth_maps
        >>> rig = make_rig("small5")
        >>> models = [rig.projection_model(name) for name in rig.cameras]
        >>> flat = torch.full((300, 400), 0.3)
        >>> points = torch.tensor([[0.0, 0.0, 0.9], [0.0, 0.0, 1.2]])
        >>> visible_in_depth_maps(models[:1], [flat], points, tolerance=0.01).tolist()
        [[True, False]]
    """
    flat = points.detach().reshape(-1, 3).double()
    visible = torch.zeros(len(models), len(flat), dtype=torch.bool, device=flat.device)
    for index, (model, depth) in enumerate(zip(models, depths, strict=True)):
        for start in range(0, len(flat), _BLOCK):
            block = slice(start, start + _BLOCK)
            visible[index, block] = _in_front(model, depth, flat[block], tolerance)
    return visible.reshape(len(models), *points.shape[:-1])


def hidden_tolerance(model: RefractiveProjectionModel, points: Tensor) -> float:
    """Depth behind a depth map, metres, from which on a point is hidden rather than on a slope.

    Args:
        model: A camera that sees the points.
        points: World frame, shape (..., 3), metres; NaN where unknown.
    """
    return _HIDDEN_GSD * float(gsd(model, points).nanmedian())


def gsd(model: RefractiveProjectionModel, points: Tensor) -> Tensor:
    """Ground sampling distance: the side of the square that a pixel covers on level ground.

    Args:
        model: Camera.
        points: World frame, shape (..., 3), metres.

    Returns:
        ``1 / sqrt(|det ∂(u, v)/∂(X, Y)|)``, shape (...,), metres per pixel, in the dtype of
        ``points``; NaN where the camera cannot see the point.

    Example:
        >>> import torch
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.evaluation import gsd
        >>> rig = make_rig("small5")
        >>> models = [rig.projection_model(name) for name in rig.cameras]
        >>> round(1000 * float(gsd(models[0], torch.tensor([0.0, 0.0, 1.0]))), 1)  # mm
        2.2
    """
    _, jacobian, _ = model.project_with_jacobian(points)
    du, dv = jacobian[..., 0, :], jacobian[..., 1, :]
    return (du[..., 0] * dv[..., 1] - du[..., 1] * dv[..., 0]).abs().rsqrt()


def _spread(values: Tensor, step: int, shape: torch.Size) -> Tensor:
    """Repeat every value over its block of ``step`` x ``step`` pixels, and the last ones beyond."""
    rows, columns = (
        (torch.arange(size, device=values.device) // step).clamp(max=count - 1)
        for size, count in zip(shape, values.shape, strict=True)
    )
    return values[rows][:, columns]


def _information(
    models: Sequence[RefractiveProjectionModel],
    points: Tensor,
    visible: Tensor | None,
    sizes: Sequence[tuple[int, int]] | None,
) -> tuple[Tensor, Tensor]:
    """Σ JᵀJ, shape (N, 3, 3), and the number of views, shape (N,), int32."""
    information = points.new_zeros(len(points), 3, 3)
    view_count = torch.zeros(len(points), dtype=torch.int32, device=points.device)
    for index, model in enumerate(models):
        pixels, jacobian, seen = model.project_with_jacobian(points)
        if visible is not None:
            seen = seen & visible[index]
        if sizes is not None:
            seen = seen & _inside(pixels, sizes[index])
        jacobian = torch.where(seen[:, None, None], jacobian, 0.0)
        information += jacobian.mT @ jacobian
        view_count += seen
    return information, view_count


def _inside(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Whether pixels lie between the centres of the border pixels; False for NaN."""
    u, v = pixels.unbind(-1)
    return (u >= 0) & (u <= size[0] - 1) & (v >= 0) & (v <= size[1] - 1)


def _inverse(information: Tensor, view_count: Tensor) -> Tensor:
    factor, failure = torch.linalg.cholesky_ex(information)
    pivots = factor.diagonal(dim1=-2, dim2=-1)
    known = (view_count >= 2) & (failure == 0)
    known = known & (pivots.amin(-1) > _SINGULAR * pivots.amax(-1))
    identity = torch.eye(3, dtype=factor.dtype, device=factor.device)
    factor = torch.where(known[:, None, None], factor, identity)
    return torch.where(known[:, None, None], torch.cholesky_inverse(factor), torch.nan)


def _in_front(
    model: RefractiveProjectionModel, depth: Tensor, points: Tensor, tolerance: float
) -> Tensor:
    height, width = depth.shape
    pixels, _ = model.project(points)
    inside = _inside(pixels, (width, height))
    pixels = torch.where(inside[:, None], pixels, 0.0)
    origin, _ = model.cast_ray(pixels)
    reach = (points - origin).norm(dim=-1)
    u, v = pixels.floor().long().unbind(-1)
    u1, v1 = (u + 1).clamp(max=width - 1), (v + 1).clamp(max=height - 1)
    # Unknown neighbours (beyond the scene) hide nothing and show nothing.
    around = torch.stack([depth[v, u], depth[v, u1], depth[v1, u], depth[v1, u1]])
    deepest = around.nan_to_num(nan=-torch.inf).amax(0)
    visible: Tensor = inside & (reach <= deepest + tolerance)
    return visible
