"""Which cameras are matched with which: from what they see in common, by geometry alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, StageError
from ..pixels import cell_centres
from ..projection import RefractiveProjectionModel
from ..types import UndistortedViews, View

_PROBES = (24, 18)
"""Probe rays per view, (columns, rows): an overlap is known to about 2 % of the image's area."""

_BEST_ANGLE_DEG, _NARROW_DEG, _WIDE_DEG = 5.0, 1.0, 10.0
"""Ray angle at which two views help each other most, and the fall-off below and above it: the
view selection of Yao et al., MVSNet, ECCV 2018 (narrower rays measure no depth, wider ones no
longer look alike)."""

_SCORE_DECIMALS = 9
"""Scores that agree to this many decimals are ties; rounding separates them no further."""


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """Names of two views to be matched.

    Example:
        >>> from aquamvs.matching import Pair, unordered_pairs
        >>> pair = Pair("cam1", "cam0")
        >>> unordered_pairs([pair])
        (Pair(reference='cam0', source='cam1'),)
    """

    reference: str
    source: str


def select_pairs(
    views: UndistortedViews,
    *,
    num_neighbors: int = 4,
    include_center: bool = True,
    bed_depth: float | None = None,
) -> tuple[Pair, ...]:
    """Choose sources for every reference view by the overlap of their fields of view.

    Probe rays of the reference view are followed to a bed parallel to the water surface. A source
    scores with every probe that it sees, weighted by the angle between the two refracted rays.
    Ties go to the name that sorts first.

    Args:
        views: Two or more views.
        num_neighbors: Sources per reference view, auxiliary ones not counted.
        include_center: Add every auxiliary view that shares part of the bed as a further source.
        bed_depth: Expected depth of the bed below the water surface, metres. None: as far below
            the surface as the cameras stand above it on average, the one length that the
            geometry of the rig offers.

    Returns:
        Pairs, by reference in the order of ``views``, best source first. Auxiliary views are never
        references.

    Raises:
        ConfigError: ``num_neighbors`` is below 1 or ``bed_depth`` is not positive.
        StageError: No two views share any part of the bed.

    Example:
        >>> from aquamvs.matching import select_pairs
        >>> pairs = select_pairs(views, num_neighbors=2)
        >>> [pair.source for pair in pairs if pair.reference == "cam0"]
        ['cam4', 'cam1']
    """
    if num_neighbors < 1:
        raise ConfigError(f"num_neighbors is {num_neighbors}; expected at least 1")
    if bed_depth is None:
        heights = [float(view.model.camera_height) for view in views]
        bed_depth = sum(heights) / max(len(heights), 1)
    elif not bed_depth > 0:
        raise ConfigError(f"bed_depth is {bed_depth} m; expected a positive depth")
    pairs: list[Pair] = []
    for reference in views.references:
        ring = _ranked(reference, views.references, bed_depth)
        pairs += [Pair(reference.name, name) for name in ring[:num_neighbors]]
        if include_center:
            auxiliary = [view for view in views if view.is_auxiliary]
            pairs += [
                Pair(reference.name, name) for name in _ranked(reference, auxiliary, bed_depth)
            ]
    if not pairs:
        raise StageError(
            f"none of the {len(views)} views share any part of a bed {bed_depth:.3g} m below the "
            "water surface; check the calibration, or set the expected depth of the bed"
        )
    return tuple(pairs)


def unordered_pairs(pairs: Iterable[Pair]) -> tuple[Pair, ...]:
    """Each unordered pair once, as (smaller name, larger name), sorted.

    Sparse matching is symmetric, so one match serves both directions.

    Example:
        >>> from aquamvs.matching import Pair, unordered_pairs
        >>> unordered_pairs([Pair("cam1", "cam0"), Pair("cam0", "cam1")])
        (Pair(reference='cam0', source='cam1'),)
    """
    return tuple(sorted({Pair(*sorted((pair.reference, pair.source))) for pair in pairs}))


def _ranked(reference: View, others: Iterable[View], bed_depth: float) -> list[str]:
    """Names of the views that share something with the reference, best first."""
    points, toward = _bed_probes(reference, bed_depth)
    scores = {
        view.name: round(_score(view, points, toward), _SCORE_DECIMALS)
        for view in others
        if view.name != reference.name
    }
    return sorted((n for n, score in scores.items() if score > 0), key=lambda n: (-scores[n], n))


def _bed_probes(view: View, bed_depth: float) -> tuple[Tensor, Tensor]:
    """Where probe rays meet the bed, and their unit directions, each of shape (N, 3)."""
    model = view.model
    pixels = cell_centres(_PROBES, view.size).reshape(-1, 2).to(model.camera_center)
    origin, direction = model.cast_ray(pixels)
    descent = -(direction @ model.normal.to(direction))
    points = origin + (bed_depth / descent)[:, None] * direction
    known = torch.isfinite(points).all(-1)
    return points[known], direction[known]


def _score(source: View, points: Tensor, toward: Tensor) -> float:
    """Share of the probes that the source sees, each weighted by its ray angle; 0 to 1."""
    if len(points) == 0:
        return 0.0
    points, toward = points.to(source.model.camera_center), toward.to(source.model.camera_center)
    pixels, valid = source.model.project(points)
    width, height = source.size
    u, v = pixels.unbind(-1)
    seen = valid & (u >= -0.5) & (u < width - 0.5) & (v >= -0.5) & (v < height - 0.5)
    weights = _angle_weight(_ray_angle_deg(source.model, pixels[seen], toward[seen]))
    return float(weights.sum()) / len(points)


def _ray_angle_deg(
    model: RefractiveProjectionModel, pixels: Tensor, other_direction: Tensor
) -> Tensor:
    """Angle between a view's refracted rays and others, degrees, shape (N,)."""
    _, direction = model.cast_ray(pixels)
    sine = torch.linalg.cross(direction, other_direction).norm(dim=-1)
    return torch.rad2deg(torch.atan2(sine, (direction * other_direction).sum(-1)))


def _angle_weight(angle_deg: Tensor) -> Tensor:
    """Piecewise Gaussian of the ray angle, 1 at the best angle."""
    deviation = angle_deg - _BEST_ANGLE_DEG
    width = torch.where(deviation < 0, _NARROW_DEG, _WIDE_DEG)
    return torch.exp(-(deviation**2) / (2 * width**2))
