"""More points between those that are known: corners placed on the surface around them.

Matched keypoints are few, because both views must have detected them. Between them the surface is
nearly known: a corner of one view is put at the depth of the points around it, and least-squares
matching (:mod:`~.refine`) finds it in the other views, or does not, and then there is no point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..numerics.acceleration import in_parallel, operation_workers
from ..types import UndistortedViews, View
from .refine import (
    GreyLayers,
    RefinedTracks,
    RefinementOptions,
    grey_layers,
    refine_tracks,
)
from .tracks import Tracks

_NEIGHBORS = 8
"""Known points around a corner whose depths are weighted."""

_APART_PX = 4.0
"""A corner closer to a known observation is the same point."""

_CROWDING = 6.0
"""Corners are at most so many times as dense as if they were spread evenly over the image."""

_SAME_PX = 1.5
"""Likewise of a refined observation, whose place is certain."""

_BLOCK_SIZE = 5
"""Side of the window in which a corner's grey-value gradients are summed, px."""

_SCORE = 0.5
"""Match score of a point that no matcher has seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthOptions:
    """Further points.

    Attributes:
        max_corners: New points tried per view.
        max_gap_px: Largest distance of a corner from the nearest known point in its view.

    Example:
        >>> from aquamvs.triangulation import GrowthOptions, TriangulationOptions
        >>> TriangulationOptions(growth=GrowthOptions(max_corners=500)).growth.max_gap_px
        150.0
    """

    max_corners: int = 1500
    max_gap_px: float = 150.0

    def __post_init__(self) -> None:
        for name in ("max_corners", "max_gap_px"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a positive number")


def grow_tracks(
    views: UndistortedViews,
    known: Tracks,
    points: Tensor,
    options: GrowthOptions | None = None,
    refinement: RefinementOptions | None = None,
    *,
    layers: GreyLayers | None = None,
) -> RefinedTracks:
    """Tracks of further points on the surface that the known ones outline.

    Args:
        views: All views of the frame.
        known: Refined tracks; ``cameras`` are all views.
        points: Their points, shape (T, 3), metres.
        options: How many, and where.
        refinement: Patch and acceptance.
        layers: Of :func:`~.refine.grey_layers`, where they are already at hand.

    Returns:
        Tracks of two or more views, none of which repeats a known track or another new one.

    Example:
        >>> from aquamvs.triangulation import (
        ...     TriangulationOptions,
        ...     build_tracks,
        ...     grow_tracks,
        ...     refine_tracks,
        ...     triangulate,
        ... )
        >>> from aquamvs.matching import create_matcher, match_sparse, select_pairs
        >>> matches = list(match_sparse(create_matcher("sift"), views, select_pairs(views)))
        >>> tracks = build_tracks(matches)
        >>> loose = TriangulationOptions(max_reprojection_error_px=1e3, min_ray_angle_deg=0.0)
        >>> points = triangulate(views, tracks, loose).points
        >>> refined = refine_tracks(views, tracks, points).tracks
        >>> len(grow_tracks(views, refined, points).tracks.scores) > 0
        True
    """
    options = options or GrowthOptions()
    layers = grey_layers(views) if layers is None else layers
    taken = {name: known.pixels[known.rows(k)] for k, name in enumerate(known.cameras)}
    workers = operation_workers(points.device, len(views.references))
    strongest = list(in_parallel(lambda view: _corners(view, options), views.references, workers))
    grown: list[RefinedTracks] = []
    for view, corners in zip(views.references, strongest, strict=True):
        owner = known.cameras.index(view.name)
        seeds = points[known.track[known.rows(owner)]]
        corners = corners.to(points)
        corners = corners[_distance(corners, taken[view.name]) > _APART_PX]
        depth = _depth_between(view, corners, seeds, options.max_gap_px)
        corners, depth = corners[torch.isfinite(depth)], depth[torch.isfinite(depth)]
        origin, direction = view.model.to(points.device).cast_ray(corners)
        guess = origin + depth[:, None] * direction
        refined = refine_tracks(
            views, _single(known.cameras, owner, corners), guess, refinement, layers=layers
        )
        found = (refined.tracks.view_count > 1) & ~_repeats(refined.tracks, taken)
        refined = RefinedTracks(refined.tracks.select(found), refined.expected[found])
        grown.append(refined)
        for k, name in enumerate(known.cameras):
            taken[name] = torch.cat([taken[name], refined.tracks.pixels[refined.tracks.rows(k)]])
    return join_refined(grown, known)


def _repeats(tracks: Tracks, taken: dict[str, Tensor]) -> Tensor:
    """Tracks with an observation at a place that another track has taken, shape (T,), bool."""
    repeats = torch.zeros(len(tracks), dtype=torch.bool, device=tracks.track.device)
    for camera, name in enumerate(tracks.cameras):
        rows = tracks.rows(camera)
        close = _distance(tracks.pixels[rows], taken[name]) < _SAME_PX
        repeats[tracks.track[rows[close]]] = True
    return repeats


def join_refined(parts: list[RefinedTracks], like: Tracks) -> RefinedTracks:
    """Refined tracks of the same cameras, one after the other."""
    first = [0]
    for part in parts:
        first.append(first[-1] + len(part.tracks))
    tracks = Tracks(
        like.cameras,
        torch.cat(
            [like.track[:0], *(p.tracks.track + n for p, n in zip(parts, first, strict=False))]
        ),
        torch.cat([like.camera[:0], *(p.tracks.camera for p in parts)]),
        torch.cat([like.pixels[:0], *(p.tracks.pixels for p in parts)]),
        torch.cat([like.scores[:0], *(p.tracks.scores for p in parts)]),
    )
    return RefinedTracks(tracks, torch.cat([like.track[:0], *(p.expected for p in parts)]))


def _single(cameras: tuple[str, ...], owner: int, pixels: Tensor) -> Tracks:
    """Tracks of one observation each."""
    index = torch.arange(len(pixels), device=pixels.device)
    scores = torch.full((len(pixels),), _SCORE, device=pixels.device)
    return Tracks(cameras, index, torch.full_like(index, owner), pixels, scores)


def _corners(view: View, options: GrowthOptions) -> Tensor:
    """The strongest corners inside of the mask (Shi and Tomasi, CVPR 1994), shape (N, 2)."""
    grey = (view.image.float().mean(-1) * 255).round().to(torch.uint8).cpu().numpy()
    width, height = view.size
    mask = np.ascontiguousarray(view.mask.cpu().numpy()).astype(np.uint8)
    found = cv2.goodFeaturesToTrack(
        np.ascontiguousarray(grey),
        maxCorners=options.max_corners,
        qualityLevel=1e-4,
        minDistance=math.sqrt(width * height / (_CROWDING * options.max_corners)),
        mask=mask,
        blockSize=_BLOCK_SIZE,
    )
    if found is None:
        return torch.zeros(0, 2)
    return torch.from_numpy(found.reshape(-1, 2).astype(np.float64))


def _distance(pixels: Tensor, others: Tensor) -> Tensor:
    """Distance of each pixel from the nearest of the others, shape (N,)."""
    from scipy.spatial import cKDTree

    if len(others) == 0 or len(pixels) == 0:
        return pixels.new_full((len(pixels),), torch.inf)
    distance, _ = cKDTree(others.cpu().numpy()).query(pixels.cpu().numpy())
    return torch.from_numpy(distance).to(pixels)


def _depth_between(view: View, pixels: Tensor, seeds: Tensor, max_gap: float) -> Tensor:
    """Ray depth at pixels from the points that the view observes, shape (N,); NaN far from any.

    Their depths below the water surface are weighted by inverse squared pixel distance.
    """
    from scipy.spatial import cKDTree

    model = view.model.to(seeds.device)
    places, valid = model.project(seeds)
    places, seeds = places[valid], seeds[valid]
    if len(seeds) < _NEIGHBORS or len(pixels) == 0:
        return pixels.new_full((len(pixels),), torch.nan)
    distance, index = cKDTree(places.cpu().numpy()).query(pixels.cpu().numpy(), k=_NEIGHBORS)
    weight = torch.from_numpy(1 / (distance + 1.0) ** 2).to(pixels)
    weight = weight / weight.sum(1, keepdim=True)
    normal = model.normal.to(pixels)
    level = -(seeds - seeds.new_tensor([0.0, 0.0, model.water_z])) @ normal
    depth = (weight * level[torch.from_numpy(index).to(pixels.device)]).sum(1)
    _, direction = model.cast_ray(pixels)
    along = depth / -(direction @ normal)
    near = torch.from_numpy(distance[:, 0]).to(pixels) <= max_gap
    return torch.where(near, along, torch.nan)
