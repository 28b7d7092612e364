"""Alignment of clouds: closed form for known pairs, ICP for unknown ones."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError, ShapeError
from ..plain import plain
from .arrays import FloatArray, as_float64

_NORMAL_NEIGHBOURS = 12
"""Neighbours whose best plane gives a target's normal."""

_SETTLED = 1e-12
"""A step that moves no point further than this part of the cloud's extent ends ICP."""

_UNOBSERVED = 1e-9
"""Singular values below this part of the largest belong to motions that the surface allows."""


class IcpMethod(StrEnum):
    """What ICP minimises.

    Example:
        >>> from aquamvs.evaluation import IcpMethod
        >>> [method.value for method in IcpMethod]
        ['point_to_plane', 'point_to_point']
    """

    POINT_TO_PLANE = "point_to_plane"
    POINT_TO_POINT = "point_to_point"


_MIN_PAIRS = {IcpMethod.POINT_TO_PLANE: 6, IcpMethod.POINT_TO_POINT: 3}
"""A plane fixes one of the six degrees of freedom, a point three (two of them not its own)."""


@dataclass(frozen=True, slots=True)
class RigidTransform:
    """``target = scale * R @ source + t``.

    Attributes:
        R: Rotation, shape (3, 3), float64.
        t: Translation, shape (3,), float64, metres.
        scale: 1 unless it was asked for.
        rms: Root mean square of the distances between the pairs after the transform (to the
            target's tangent planes for point-to-plane ICP), metres.
        inlier_fraction: Fraction of source points that have a target within the allowed distance.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import umeyama
        >>> source = torch.eye(3).double()
        >>> shift = torch.tensor([0.0, 0.0, 0.1]).double()
        >>> transform = umeyama(source, source + shift)
        >>> bool(torch.allclose(transform.t, shift)), round(transform.rms, 6)
        (True, 0.0)
    """

    R: Tensor
    t: Tensor
    scale: float
    rms: float
    inlier_fraction: float

    def apply(self, points: Tensor) -> Tensor:
        """Transformed points, shape (..., 3), in the dtype of ``points``."""
        if points.shape[-1:] != (3,):
            raise ShapeError("points", tuple(points.shape), "(..., 3)")
        moved = self.scale * points.double() @ self.R.to(points.device).T
        return (moved + self.t.to(points.device)).to(points.dtype)

    def as_dict(self) -> dict[str, Any]:
        """The transform as plain Python for JSON."""
        result: dict[str, Any] = plain(self)
        return result


def umeyama(source: Tensor, target: Tensor, *, with_scale: bool = False) -> RigidTransform:
    """Least-squares transform between paired points (Umeyama, TPAMI 1991; Kabsch without scale).

    Args:
        source: shape (N, 3), metres.
        target: shape (N, 3), metres, in the same order.
        with_scale: Estimate a scale as well.

    Returns:
        The transform, a proper rotation also for planar or mirrored points.

    Raises:
        ShapeError: The shapes differ.
        DataError: Fewer than three pairs, or all of them on a line.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import umeyama
        >>> source = torch.rand(10, 3, dtype=torch.float64)
        >>> shift = torch.tensor([0.1, 0.0, 0.0], dtype=torch.float64)
        >>> bool((umeyama(source, source + shift).t - shift).norm() < 1e-9)
        True
    """
    moving = as_float64("source", source, (None, 3))
    fixed = as_float64("target", target, (len(moving), 3))
    R, t, scale = _fit_points(moving, fixed, with_scale=with_scale)
    residual = scale * moving @ R.T + t - fixed
    return RigidTransform(torch.from_numpy(R), torch.from_numpy(t), scale, _rms(residual), 1.0)


def icp(
    source: Tensor,
    target: Tensor,
    *,
    max_distance: float,
    with_scale: bool = False,
    method: IcpMethod = IcpMethod.POINT_TO_PLANE,
    max_iterations: int = 100,
) -> RigidTransform:
    """Iterative closest point alignment of a cloud to another.

    Point-to-point is Besl and McKay (TPAMI 1992). Point-to-plane is Chen and Medioni (1992), which
    converges faster on smooth surfaces that are sampled differently; motions that leave the
    distance to all tangent planes unchanged (sliding along a plane) are left as they are.

    Args:
        source: Cloud to move, shape (N, 3), metres, finite.
        target: Cloud to meet, shape (M, 3), metres, finite.
        max_distance: Pairs further apart are not used, metres; also the reach of the alignment.
        with_scale: Estimate a scale as well.
        method: What is minimised.
        max_iterations: Iterations at most; they stop when the source no longer moves.

    Returns:
        The transform that takes the source to the target.

    Raises:
        ShapeError: A cloud has another shape.
        DataError: Too few pairs lie within ``max_distance``, or ``max_iterations`` did not suffice.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import icp
        >>> source = made.cloud.points
        >>> transform = icp(source, source + torch.tensor([0.001, 0.0, 0.002]), max_distance=0.02)
        >>> round(1000 * float(transform.t[2]), 1)  # mm
        2.0
    """
    from scipy.spatial import cKDTree

    moving = as_float64("source", source, (None, 3))
    fixed = as_float64("target", target, (None, 3))
    if len(moving) < 3 or len(fixed) < 3:
        raise DataError(
            f"clouds of {len(moving)} and {len(fixed)} points; ICP needs three points in each"
        )
    tree = cKDTree(fixed)
    normals = _normals(fixed, tree) if method is IcpMethod.POINT_TO_PLANE else None
    extent = max(float(np.abs(moving).max()), float(np.abs(fixed).max()))
    R, t, scale = np.eye(3), np.zeros(3), 1.0
    pairings: list[bytes] = []
    for _ in range(max_iterations):
        moved = scale * moving @ R.T + t
        distance, nearest = tree.query(moved)
        pairs = distance <= max_distance
        if pairs.sum() < _MIN_PAIRS[method]:
            raise DataError(
                f"only {int(pairs.sum())} of {len(moving)} points lie within {max_distance} m of "
                "the target; align the clouds roughly first or raise max_distance"
            )
        paired = fixed[nearest[pairs]]
        if normals is None:
            step = _fit_points(moved[pairs], paired, with_scale=with_scale)
            residual = np.linalg.norm(moved[pairs] - paired, axis=-1)
        else:
            plane = normals[nearest[pairs]]
            step = _fit_planes(moved[pairs], paired, plane, with_scale=with_scale)
            residual = ((moved[pairs] - paired) * plane).sum(-1)
        step_R, step_t, step_scale = step
        R, t, scale = step_R @ R, step_scale * step_R @ t + step_t, step_scale * scale
        shift = np.abs(step_scale * moved @ step_R.T + step_t - moved).max()
        pairing = hashlib.sha256(np.where(pairs, nearest, -1).tobytes()).digest()
        # Pairs that come back after others end in a cycle of steps far below the sampling.
        if shift <= _SETTLED * extent or pairing in pairings[:-1]:
            break
        pairings.append(pairing)
    else:
        raise DataError(
            f"ICP still moves by {shift:.2g} m after {max_iterations} iterations; align the clouds "
            "roughly first or raise max_iterations"
        )
    return RigidTransform(
        torch.from_numpy(R),
        torch.from_numpy(t),
        scale,
        _rms(residual[:, None]),
        float(pairs.mean()),
    )


def _fit_points(
    source: FloatArray, target: FloatArray, *, with_scale: bool
) -> tuple[FloatArray, FloatArray, float]:
    """Umeyama's closed form: rotation, translation, scale."""
    if len(source) < 3:
        raise DataError(f"{len(source)} pairs of points; an alignment needs at least three")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    centred = source - source_mean
    u, singular, vt = np.linalg.svd((target - target_mean).T @ centred / len(source))
    if not singular[1] > _UNOBSERVED * singular[0]:
        raise DataError("all points lie on a line; their rotation about it is unknown")
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    R = (u * sign) @ vt
    scale = 1.0
    if with_scale:
        scale = float((singular * sign).sum() / np.square(centred).sum(axis=1).mean())
    return R, target_mean - scale * R @ source_mean, scale


def _fit_planes(
    source: FloatArray, target: FloatArray, normals: FloatArray, *, with_scale: bool
) -> tuple[FloatArray, FloatArray, float]:
    """One Gauss-Newton step towards tangent planes, about the centroid and in units of its size."""
    centre = source.mean(axis=0)
    size = float(np.abs(source - centre).max())
    arm = (source - centre) / size
    columns = [np.cross(arm, normals), normals]
    if with_scale:
        columns.append((arm * normals).sum(-1, keepdims=True))
    gap = ((target - source) * normals).sum(-1) / size
    # The minimum-norm solution does not slide along directions that the planes leave free.
    solution = np.linalg.lstsq(np.concatenate(columns, axis=1), gap, rcond=_UNOBSERVED)[0]
    R = _rotation(solution[:3])
    scale = float(np.exp(solution[6])) if with_scale else 1.0
    return R, centre + size * solution[3:6] - scale * R @ centre, scale


def _rotation(vector: FloatArray) -> FloatArray:
    """Rotation matrix of a rotation vector."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(vector).as_matrix())


def _normals(points: FloatArray, tree: Any) -> FloatArray:
    """Normals of the best planes through every point's neighbours, of either sign, shape (M, 3)."""
    _, neighbours = tree.query(points, k=min(_NORMAL_NEIGHBOURS, len(points)))
    offsets = points[neighbours] - points[neighbours].mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", offsets, offsets))
    return np.asarray(vectors[:, :, 0])


def _rms(residual: FloatArray) -> float:
    return float(np.sqrt(np.square(residual).sum(axis=-1).mean()))
