"""The sparse cloud: triangulated points with what is known of their quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError
from ..types import PointCloud

_NORMAL_NEIGHBORS = 16
"""Points to which a plane is fitted for a normal: enough to average the noise of depth."""


@dataclass(frozen=True, slots=True)
class SparseCloud:
    """Points triangulated from tracks, world frame.

    Attributes:
        points: shape (N, 3), float64, metres.
        reprojection_error_px: Root mean square of the observations' residuals, shape (N,), float32.
        view_count: Views that observe the point, shape (N,), int32.
        ray_angle_deg: Largest angle between two of its refracted rays, shape (N,), float32.
        sigma: 1-sigma uncertainty along the mean viewing ray, shape (N,), float32, metres.
        covariance: Of the position, shape (N, 3, 3), float64, m^2: ``pixel_sigma`` squared times
            the inverse of the normal equations.
        colors: RGB, mean of the observing views, shape (N, 3), float32 in [0, 1].
        confidence: Mean match score of the track, lowered towards the limit of the reprojection
            error, shape (N,), float32 in [0, 1].
        viewing_direction: Mean of the refracted rays, unit, from the cameras to the point, shape
            (N, 3), float32.
        cameras: Camera names, sorted.
        observed: Which of ``cameras`` observe the point, shape (N, C), bool.
        pixel_sigma: 1-sigma of one pixel coordinate of a keypoint, px: estimated from the residuals
            of all tracks unless it was given.

    Example:
        >>> from aquamvs.triangulation import triangulate
        >>> from aquamvs.matching import create_matcher
        >>> cloud = triangulate(views, [create_matcher("sift").match(views["cam0"], views["cam1"])])
        >>> cloud.observed.shape == (len(cloud.points), 2), cloud.pixel_sigma < 1
        (True, True)
    """

    points: Tensor
    reprojection_error_px: Tensor
    view_count: Tensor
    ray_angle_deg: Tensor
    sigma: Tensor
    covariance: Tensor
    colors: Tensor
    confidence: Tensor
    viewing_direction: Tensor
    cameras: tuple[str, ...]
    observed: Tensor
    pixel_sigma: float

    def __post_init__(self) -> None:
        count = self.points.shape[0]
        vectors = ("points", "colors", "viewing_direction")
        scalars = ("reprojection_error_px", "view_count", "ray_angle_deg", "sigma", "confidence")
        shapes = {
            **dict.fromkeys(vectors, (count, 3)),
            **dict.fromkeys(scalars, (count,)),
            "covariance": (count, 3, 3),
            "observed": (count, len(self.cameras)),
        }
        for name, shape in shapes.items():
            actual = tuple(getattr(self, name).shape)
            if actual != shape:
                raise ShapeError(name, actual, str(shape))

    def __len__(self) -> int:
        return self.points.shape[0]

    def to_point_cloud(self) -> PointCloud:
        """The points with normals, in the form that every engine returns.

        A normal is that of the plane through the nearest neighbours (the direction of least
        scatter), turned to the cameras. With fewer than three points it opposes the viewing ray.
        """
        return PointCloud(
            self.points,
            self.colors,
            _normals(self.points, self.viewing_direction),
            self.confidence,
            self.sigma,
            self.view_count,
        )


def _normals(points: Tensor, viewing_direction: Tensor) -> Tensor:
    """Unit normals that face the cameras, shape (N, 3), float32."""
    from scipy.spatial import cKDTree

    if len(points) < 3:
        return -viewing_direction
    places = points.detach().cpu().double().numpy()
    count = min(_NORMAL_NEIGHBORS, len(places))
    _, neighbors = cKDTree(places).query(places, k=count)
    patches = places[neighbors] - places[neighbors].mean(axis=1, keepdims=True)
    _, axes = np.linalg.eigh(patches.transpose(0, 2, 1) @ patches)
    normals = torch.from_numpy(axes[:, :, 0].copy()).to(viewing_direction)
    away = (normals * viewing_direction).sum(-1, keepdim=True) > 0
    return torch.where(away, -normals, normals)
