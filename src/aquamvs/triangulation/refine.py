"""Least-squares matching of tracks: sub-pixel observations in every view that sees a point.

A detector places a keypoint to a few tenths of a pixel, and a matcher pairs it in some of the views
that see it. Here the patch around one of its keypoints is taken for the point itself, and is found
again in every view that the point projects into: the calibration gives its place and its affine
shape there, and the shift that is left follows from the grey values (Förstner 1982; Gruen 1985),
with the views' gain and offset as further unknowns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ..errors import ConfigError
from ..numerics.acceleration import in_parallel, operation_workers
from ..pixels import to_normalized
from ..projection import RefractiveProjectionModel
from ..projection.patches import level_affine
from ..types import UndistortedViews, View
from .tracks import Tracks

_BLURS_PX = (2.0, 0.8)
"""Standard deviations of the blur that the images get, one after the other: the first lets a shift
of over a pixel be found, the second keeps the fine texture, but for what bilinear interpolation
would falsify."""

_STEPS = 3
"""Gauss-Newton steps for each blur."""

_SETTLED_PX = 0.1
"""A patch whose last step is longer has found no place."""

_BLOCK = 1 << 12
"""Patches at once: a few dozen MB."""

_LUMA = (0.299, 0.587, 0.114)


GreyLayers = dict[str, list[Tensor]]
"""Camera name to grey values and their derivatives in u and v at each blur, (1, 3, H, W)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinementOptions:
    """Least-squares matching.

    Attributes:
        radius_px: Half side of the square patch, px. Small: a patch over a pebble's outline is at
            the outline's depth, not at that of the pebble in its middle.
        max_shift_px: Largest distance from where the unrefined point is expected.
        min_correlation: Least zero-mean normalised correlation with the patch.
        max_error_px: Largest residual of a refined observation of a point, px.
        max_drift_px: Largest distance between the places that the coarse and the fine grey values
            give. A patch that shows an edge between two depths has two places: what is large in it
            moves with one side, and its middle with the other.

    Example:
        >>> from aquamvs.triangulation import RefinementOptions, TriangulationOptions
        >>> options = TriangulationOptions(refinement=RefinementOptions(radius_px=4))
        >>> options.refinement.min_correlation
        0.75
    """

    radius_px: int = 3
    max_shift_px: float = 2.5
    min_correlation: float = 0.75
    max_error_px: float = 0.75
    max_drift_px: float = 0.5

    def __post_init__(self) -> None:
        for name in (
            "radius_px",
            "max_shift_px",
            "min_correlation",
            "max_error_px",
            "max_drift_px",
        ):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected a positive number")


@dataclass(frozen=True, slots=True)
class RefinedTracks:
    """Tracks with sub-pixel observations.

    Attributes:
        tracks: As many as before and in their order, each with its reference observation and those
            that were found in other views; ``cameras`` are all views.
        expected: Views into which each point projects, its reference included, shape (T,), int64.

    Example:
        >>> import torch
        >>> from aquamvs.matching import create_matcher
        >>> from aquamvs.triangulation import RefinedTracks, build_tracks
        >>> tracks = build_tracks([create_matcher("sift").match(views["cam0"], views["cam1"])])
        >>> alone = RefinedTracks(tracks, torch.full(tracks.scores.shape, 2))  # as they were found
        >>> alone.expected.shape == tracks.scores.shape
        True
    """

    tracks: Tracks
    expected: Tensor


def refine_tracks(
    views: UndistortedViews,
    tracks: Tracks,
    points: Tensor,
    options: RefinementOptions | None = None,
    *,
    layers: GreyLayers | None = None,
) -> RefinedTracks:
    """Find every track's patch again in all views that see its point.

    Args:
        views: All views of the frame.
        tracks: Observations of keypoints.
        points: Their points so far, shape (T, 3), metres.
        options: Patch and acceptance.
        layers: Of :func:`grey_layers`, where they are already at hand.

    Returns:
        The refined tracks. The reference observation of a track is the one with the finest
        resolution, and it stays where it is.

    Example:
        >>> from aquamvs.triangulation import (
        ...     TriangulationOptions,
        ...     build_tracks,
        ...     refine_tracks,
        ...     triangulate,
        ... )
        >>> from aquamvs.matching import create_matcher
        >>> tracks = build_tracks([create_matcher("sift").match(views["cam0"], views["cam1"])])
        >>> loose = TriangulationOptions(max_reprojection_error_px=1e3, min_ray_angle_deg=0.0)
        >>> refined = refine_tracks(views, tracks, triangulate(views, tracks, loose).points)
        >>> len(refined.tracks.track) > len(tracks.track)  # more views see each point
        True
    """
    options = options or RefinementOptions()
    names = tuple(sorted(views.names))
    device = points.device
    models = [views[name].model.to(device) for name in names]
    layers = grey_layers(views) if layers is None else layers
    references = _references(models, names, tracks, points)
    patches = _reference_patches(
        models, [layers[name] for name in names], references, points, options
    )

    def seen_by(camera: int) -> tuple[Tensor, Tensor, Tensor]:
        """Tracks that the camera should see, those of them that it does, and where."""
        pixels, valid = models[camera].project(points)
        visible = valid & _inside(views[names[camera]], pixels, options.radius_px)
        visible &= references.camera != camera
        rows, places = [visible.new_zeros(0, dtype=torch.int64)], [pixels[:0]]
        seen = visible.nonzero()[:, 0]
        for start in range(0, len(seen), _BLOCK):
            part = seen[start : start + _BLOCK]
            _, slope, _ = models[camera].project_with_jacobian(points[part])
            affine = level_affine(models[camera].normal, references.slope[part], slope)
            shift = references.pixels[part] - patches.pixels[part]
            expected_at = pixels[part] + (affine @ shift[..., None])[..., 0]
            place, accepted = _match_patches(
                [grey[part] for grey in patches.grey],
                layers[names[camera]],
                expected_at,
                affine,
                options,
            )
            rows.append(part[accepted])
            places.append(place[accepted])
        return visible, torch.cat(rows), torch.cat(places)

    every = torch.arange(len(tracks), device=device)
    expected = torch.ones_like(every)
    found = [(every, references.camera, references.pixels)]
    workers = operation_workers(device, len(names))
    seen_by_all = in_parallel(seen_by, range(len(names)), workers)
    for index, (visible, rows, places) in enumerate(seen_by_all):
        expected += visible
        found.append((rows, torch.full_like(rows, index), places))
    track, camera, pixels = (torch.cat(column) for column in zip(*found, strict=True))
    order = (track * len(names) + camera).argsort()
    refined = Tracks(names, track[order], camera[order], pixels[order], tracks.scores)
    return RefinedTracks(refined, expected)


@dataclass(frozen=True, slots=True)
class _References:
    """Each track's observation at the finest resolution.

    Attributes:
        camera: shape (T,), int64.
        pixels: shape (T, 2).
        slope: Derivative of the pixel with respect to the point, shape (T, 2, 3).
    """

    camera: Tensor
    pixels: Tensor
    slope: Tensor


def _references(
    models: Sequence[RefractiveProjectionModel],
    names: tuple[str, ...],
    tracks: Tracks,
    points: Tensor,
) -> _References:
    best = points.new_full((len(tracks),), -1.0)
    camera = torch.zeros(len(tracks), dtype=torch.int64, device=points.device)
    pixels, slope = points.new_zeros(len(tracks), 2), points.new_zeros(len(tracks), 2, 3)
    for position, name in enumerate(tracks.cameras):
        index = names.index(name)
        rows = tracks.rows(position)
        if len(rows) == 0:
            continue
        track = tracks.track[rows]
        _, jacobian, _ = models[index].project_with_jacobian(points[track])
        resolution = torch.linalg.det(jacobian[:, :, :2]).abs().nan_to_num(nan=0.0)
        better = resolution > best[track]
        track = track[better]
        best[track], camera[track] = resolution[better], index
        pixels[track], slope[track] = tracks.pixels[rows[better]], jacobian[better]
    return _References(camera, pixels, slope)


@dataclass(frozen=True, slots=True)
class _Patches:
    """What is sought.

    Attributes:
        grey: Of every blur, shape (T, K).
        pixels: Where the points so far are seen in their reference views, shape (T, 2).
    """

    grey: list[Tensor]
    pixels: Tensor


def _reference_patches(
    models: Sequence[RefractiveProjectionModel],
    layers: Sequence[list[Tensor]],
    references: _References,
    points: Tensor,
    options: RefinementOptions,
) -> _Patches:
    offsets = _offsets(options).to(points)
    grey = [points.new_zeros(len(points), len(offsets), dtype=torch.float32) for _ in _BLURS_PX]
    seen = torch.zeros_like(references.pixels)
    for camera, model in enumerate(models):
        rows = (references.camera == camera).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        seen[rows], _ = model.project(points[rows])
        around = references.pixels[rows][:, None] + offsets
        for layer, patches in zip(layers[camera], grey, strict=True):
            patches[rows] = _sample(layer[:, :1], around)[:, 0]
    return _Patches(grey, seen)


def _offsets(options: RefinementOptions) -> Tensor:
    """Pixels of a patch, from its middle, shape (K, 2)."""
    side = torch.arange(-options.radius_px, options.radius_px + 1)
    return torch.cartesian_prod(side, side).flip(-1)


def grey_layers(views: UndistortedViews) -> GreyLayers:
    """Blurred grey values and derivatives of every view: prepared once for any number of tracks."""
    workers = operation_workers(views.views[0].image.device, len(views))
    made = in_parallel(_layers, views, workers)
    return dict(zip(views.names, made, strict=True))


def _layers(view: View) -> list[Tensor]:
    grey = (view.image.float() @ view.image.new_tensor(_LUMA).float()).cpu().numpy()
    layers = []
    for sigma in _BLURS_PX:
        stacked = np.empty((3, *grey.shape), np.float32)
        cv2.GaussianBlur(grey, (0, 0), sigma, stacked[0], borderType=cv2.BORDER_REFLECT_101)
        _central_differences(*stacked)
        layers.append(torch.from_numpy(stacked)[None].to(view.image.device))
    return layers


def _central_differences(
    values: NDArray[np.float32], rate_u: NDArray[np.float32], rate_v: NDArray[np.float32]
) -> None:
    """Fill in the derivatives in u and v; one-sided at the ends, as NumPy's gradient."""
    for rate, axes in ((rate_u, (1, 0)), (rate_v, (0, 1))):
        cv2.Sobel(
            values, cv2.CV_32F, *axes, rate, ksize=1, scale=0.5, borderType=cv2.BORDER_REPLICATE
        )
    rate_u[:, [0, -1]] *= 2
    rate_v[[0, -1]] *= 2


def _inside(view: View, pixels: Tensor, margin: int) -> Tensor:
    """Pixels inside of the view's mask whose patch lies in the image, shape (N,), bool."""
    width, height = view.size
    u, v = pixels.nan_to_num(nan=-1.0).round().long().unbind(-1)
    inside = (u >= margin) & (u < width - margin) & (v >= margin) & (v < height - margin)
    mask = view.mask.to(pixels.device)
    return inside & mask[v.clamp(0, height - 1), u.clamp(0, width - 1)]


def _match_patches(
    patches: list[Tensor],
    layers: list[Tensor],
    start: Tensor,
    affine: Tensor,
    options: RefinementOptions,
) -> tuple[Tensor, Tensor]:
    """Places of patches in the source view, shape (N, 2), and whether they may be trusted."""
    offsets = _offsets(options).to(start)
    window = torch.exp(-0.5 * (offsets / options.radius_px).square().sum(-1) * 2).float()
    stretched = offsets @ affine.mT
    place, step, coarse = start, torch.zeros_like(start), start
    correlation = start.new_zeros(len(start)).float()
    for patch, layer in zip(patches, layers, strict=True):
        coarse = place
        for _ in range(_STEPS):
            seen = _sample(layer, place[:, None] + stretched)
            step, correlation = _shift(patch, seen, window)
            place = place + step.double().clamp(-1.0, 1.0)
    near = (place - start).norm(dim=-1) <= options.max_shift_px
    settled = step.norm(dim=-1) <= _SETTLED_PX
    settled &= (place - coarse).norm(dim=-1) <= options.max_drift_px
    return place, near & settled & (correlation >= options.min_correlation)


def _sample(layer: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values of a layer, shape (1, C, H, W), at pixels, (N, K, 2) -> (N, C, K)."""
    grid = to_normalized(pixels, (layer.shape[-1], layer.shape[-2])).float()
    values = functional.grid_sample(
        layer, grid[None].nan_to_num(nan=4.0), align_corners=False, padding_mode="border"
    )
    return values[0].permute(1, 0, 2)


def _shift(patch: Tensor, seen: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """One Gauss-Newton step of the shift, px, shape (N, 2), and the correlation before it.

    ``patch = gain * (seen + slope · shift) + offset`` is linear in (gain * shift, gain, offset).
    """
    weight = window / window.sum()

    def centred(values: Tensor) -> Tensor:
        return values - (values * weight).sum(-1, keepdim=True)

    target, value = centred(patch), centred(seen[:, 0])
    columns = torch.stack([centred(seen[:, 1]), centred(seen[:, 2]), value], dim=-1)
    weighted = columns * weight[:, None]
    normal = (weighted.mT @ columns).double()
    right = (weighted.mT @ target[..., None]).double()
    solution = torch.linalg.solve_ex(normal, right)[0][..., 0]
    shift = (solution[:, :2] / solution[:, 2:]).nan_to_num(nan=1e3, posinf=1e3, neginf=1e3)
    shift = torch.where(solution[:, 2:] > 0, shift, 1e3)
    energy = ((target**2 * weight).sum(-1) * (value**2 * weight).sum(-1)).sqrt()
    product = (target * value * weight).sum(-1)
    return shift, product / energy.clamp(min=torch.finfo(energy.dtype).tiny)
