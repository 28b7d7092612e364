"""Guided matching: in a calibrated rig a match must lie on its refractive epipolar curve.

Through water the epipolar line bends. The curve is sampled here by following the reference
pixel's refracted ray under water and projecting it into the source view. Depth is sampled evenly in
``s = t / (t + h)``, with ray depth t and camera height h, in which the pixel moves almost evenly,
so that a short chain of segments follows the curve to a small fraction of a pixel (tests/matching).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ConfigError, ShapeError
from ..projection import RefractiveProjectionModel
from ..types import Matches, View

CURVE_SAMPLES = 17
"""Points per curve. A chain of 16 segments stays within 1/256 of the curve's own bow."""

_FARTHEST = 1 - 1e-5
"""End of an unlimited range, as s: 100,000 camera heights, where the curve has stopped moving."""

_NEAREST_IN_WATER = 1e-5
"""Least depth of a range in water, in camera heights: rounding puts a point on the surface itself
as often above it, where it cannot be seen, as below."""

_NEAREST_IN_AIR = -0.95
"""Likewise in air, where the interface is nothing: just below the camera."""

_REFINEMENTS = 4
"""Gauss-Newton steps from the nearest segment to the curve itself; two already reach 1e-6 px."""

_PAIRS_PER_BLOCK = 1 << 21
"""Pixel pairs tested at once: bounds memory to a few dozen MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """How far from its epipolar curve a match may lie.

    Attributes:
        max_distance_px: Largest distance from the curve, px; covers keypoint noise and the error of
            the calibration.
        depth_range: Smallest and largest ray depth of the scene, metres. None: from the water
            surface (in air: from the camera) to infinity.

    Example:
        >>> from aquamvs.matching import Guidance, SiftOptions
        >>> guidance = Guidance(max_distance_px=1.0, depth_range=(0.2, 0.5))
        >>> SiftOptions(guidance=guidance).guidance.depth_range
        (0.2, 0.5)
    """

    max_distance_px: float = 2.0
    depth_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.max_distance_px > 0:
            raise ConfigError(
                f"guidance.max_distance_px is {self.max_distance_px}; expected a positive distance"
            )
        if self.depth_range is not None and not self.depth_range[0] < self.depth_range[1]:
            raise ConfigError(
                f"guidance.depth_range is {self.depth_range}; expected (nearest, farthest) with "
                "nearest < farthest"
            )


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs of keypoints that may match.

    Attributes:
        reference: Positions among the reference keypoints, shape (C,), int64.
        source: Positions among the source keypoints, shape (C,), int64.
    """

    reference: Tensor
    source: Tensor

    def __len__(self) -> int:
        return self.reference.shape[0]

    def select(self, index: Tensor) -> Candidates:
        """The candidates at ``index`` (positions or a mask), in that order."""
        return Candidates(self.reference[index], self.source[index])


def epipolar_curves(
    reference_model: RefractiveProjectionModel,
    source_model: RefractiveProjectionModel,
    reference_pixels: Tensor,
    depth_range: tuple[float, float] | None = None,
    *,
    samples: int = CURVE_SAMPLES,
) -> Tensor:
    """Where the scene point of each reference pixel may appear in the source view.

    Args:
        reference_model: Of the view that the pixels belong to.
        source_model: Of the other view.
        reference_pixels: shape (N, 2).
        depth_range: Ray depths of the ends, metres; see :class:`Guidance` for None.
        samples: Points per curve.

    Returns:
        Source pixels from near to far, shape (N, samples, 2), in the dtype of the input; NaN where
        the source camera cannot see the point.

    Example:
        >>> import torch
        >>> from aquamvs.matching import epipolar_curves
        >>> pixels = torch.tensor([[100.0, 75.0]])
        >>> curves = epipolar_curves(views["cam0"].model, views["cam1"].model, pixels, (0.2, 0.5))
        >>> tuple(curves.shape)
        (1, 17, 2)
    """
    height = float(reference_model.camera_height)
    low, high = _s_range(reference_model, depth_range)
    s = torch.linspace(low, high, samples, dtype=torch.float64).to(reference_pixels)
    depths = height * s / (1 - s)
    origin, direction = reference_model.cast_ray(_checked(reference_pixels))
    points = origin[:, None] + depths[:, None] * direction[:, None]
    pixels, _ = source_model.project(points)
    return pixels


def epipolar_distance(
    reference_model: RefractiveProjectionModel,
    source_model: RefractiveProjectionModel,
    reference_pixels: Tensor,
    source_pixels: Tensor,
    depth_range: tuple[float, float] | None = None,
) -> Tensor:
    """Distance of source pixels from the epipolar curves of their reference pixels.

    The nearest segment of the sampled curve starts a Gauss-Newton search along the ray, so the
    result is the distance from the curve, not from its samples.

    Args:
        reference_model: Of the reference view.
        source_model: Of the source view.
        reference_pixels: shape (N, 2).
        source_pixels: The pixel to be tested against each of them, shape (N, 2).
        depth_range: Ray depths of the ends, metres; see :class:`Guidance` for None.

    Returns:
        shape (N,), px, in the dtype of the input; infinite where the source camera can see no
        point of the ray.

    Example:
        >>> from aquamvs.matching import create_matcher, epipolar_distance
        >>> matches = create_matcher("sift").match(views["cam0"], views["cam1"])
        >>> models = views["cam0"].model, views["cam1"].model
        >>> far = epipolar_distance(*models, matches.reference_pixels, matches.source_pixels)
        >>> bool(far.max() < 3)
        True
    """
    nearest = nearest_on_curves(
        reference_model, source_model, reference_pixels, source_pixels, depth_range
    )
    return nearest[1]


def nearest_on_curves(
    reference_model: RefractiveProjectionModel,
    source_model: RefractiveProjectionModel,
    reference_pixels: Tensor,
    source_pixels: Tensor,
    depth_range: tuple[float, float] | None = None,
    *,
    start_depth: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The point of each reference pixel's epipolar curve that is nearest to a source pixel.

    Args:
        reference_model: Of the reference view.
        source_model: Of the source view.
        reference_pixels: shape (N, 2).
        source_pixels: One for each of them, shape (N, 2).
        depth_range: Ray depths of the ends, metres; see :class:`Guidance` for None.
        start_depth: Ray depths near the answer, shape (N,), metres, where they are known; else the
            curves are sampled.

    Returns:
        Source pixels on the curves, shape (N, 2), NaN where the source camera can see no point of
        the ray, and their distance from the given ones, shape (N,), px, infinite there; both in
        the dtype of the input.
    """
    if _checked(reference_pixels).shape != _checked(source_pixels).shape:
        raise ShapeError(
            "source_pixels", tuple(source_pixels.shape), str(tuple(reference_pixels.shape))
        )
    height = float(reference_model.camera_height)
    low, high = _s_range(reference_model, depth_range)
    if start_depth is None:
        curves = epipolar_curves(reference_model, source_model, reference_pixels, depth_range)
        _, fraction = _nearest_on_chain(curves, source_pixels)
        s = low + (high - low) * fraction
    else:
        s = (start_depth / (start_depth + height)).nan_to_num(nan=low).clamp(low, high)
    nearest = torch.full_like(source_pixels, torch.nan)
    distance = torch.full_like(s, torch.inf)
    origin, direction = reference_model.cast_ray(reference_pixels)
    for _ in range(_REFINEMENTS):
        points = origin + (height * s / (1 - s))[:, None] * direction
        pixels, jacobian, valid = source_model.project_with_jacobian(points)
        offset = source_pixels - pixels
        gap = offset.norm(dim=-1)
        better = valid & (gap < distance)
        distance = torch.where(better, gap, distance)
        nearest = torch.where(better[:, None], pixels, nearest)
        tangent = (jacobian @ direction[:, :, None])[..., 0] * (height / (1 - s) ** 2)[:, None]
        speed2 = (tangent * tangent).sum(-1)
        step = (tangent * offset).sum(-1) / speed2.clamp(min=torch.finfo(speed2.dtype).tiny)
        s = torch.where(valid, (s + step.nan_to_num()).clamp(low, high), s)
    return nearest, distance


def epipolar_candidates(
    reference_model: RefractiveProjectionModel,
    source_model: RefractiveProjectionModel,
    reference_pixels: Tensor,
    source_pixels: Tensor,
    guidance: Guidance,
) -> Candidates:
    """All pairs of keypoints that lie near each other's epipolar curves, in both views.

    Args:
        reference_model: Of the reference view.
        source_model: Of the source view.
        reference_pixels: Keypoints, shape (N, 2).
        source_pixels: Keypoints, shape (M, 2).
        guidance: Distance and depth range.

    Returns:
        Pairs ordered by reference, then source position.

    Example:
        >>> from aquamvs.matching import Guidance, create_matcher, epipolar_candidates
        >>> sift, pair = create_matcher("sift"), (views["cam0"], views["cam1"])
        >>> pixels = [sift.extract(view).pixels for view in pair]
        >>> models = [view.model for view in pair]
        >>> near = epipolar_candidates(*models, *pixels, Guidance(max_distance_px=1.0))
        >>> len(near.reference) < len(pixels[0]) * len(pixels[1])
        True
    """
    curves = epipolar_curves(reference_model, source_model, reference_pixels, guidance.depth_range)
    reverse = epipolar_curves(source_model, reference_model, source_pixels, guidance.depth_range)
    rows = max(1, _PAIRS_PER_BLOCK // max(len(source_pixels), 1))
    found = []
    for start in range(0, len(reference_pixels), rows):
        block = curves[start : start + rows]
        near = _inside_boxes(block, source_pixels, guidance.max_distance_px)
        i, j = near.nonzero(as_tuple=True)
        keep = _nearest_on_chain(block[i], source_pixels[j])[0] <= guidance.max_distance_px
        i, j = i[keep] + start, j[keep]
        back, _ = _nearest_on_chain(reverse[j], reference_pixels[i])
        keep = back <= guidance.max_distance_px
        found.append((i[keep], j[keep]))
    if not found:
        none = torch.zeros(0, dtype=torch.int64, device=reference_pixels.device)
        return Candidates(none, none)
    return Candidates(torch.cat([i for i, _ in found]), torch.cat([j for _, j in found]))


def keep_guided(matches: Matches, reference: View, source: View, guidance: Guidance) -> Matches:
    """Drop the matches that lie too far from their epipolar curves in either view.

    Example:
        >>> from aquamvs.matching import Guidance, create_matcher, keep_guided
        >>> matches = create_matcher("sift").match(views["cam0"], views["cam1"])
        >>> kept = keep_guided(matches, views["cam0"], views["cam1"], Guidance(max_distance_px=0.2))
        >>> 0 < len(kept) < len(matches)
        True
    """
    forth, back = (
        epipolar_distance(first, second, first_pixels, second_pixels, guidance.depth_range)
        for first, second, first_pixels, second_pixels in (
            (reference.model, source.model, matches.reference_pixels, matches.source_pixels),
            (source.model, reference.model, matches.source_pixels, matches.reference_pixels),
        )
    )
    keep = torch.maximum(forth, back) <= guidance.max_distance_px
    return Matches(
        matches.reference,
        matches.source,
        matches.reference_pixels[keep],
        matches.source_pixels[keep],
        matches.scores[keep],
    )


def _checked(pixels: Tensor) -> Tensor:
    if pixels.ndim != 2 or pixels.shape[1] != 2:
        raise ShapeError("pixels", tuple(pixels.shape), "(N, 2)")
    return pixels


def _s_range(
    model: RefractiveProjectionModel, depth_range: tuple[float, float] | None
) -> tuple[float, float]:
    """Ends of the range in s = t / (t + h)."""
    height = float(model.camera_height)
    near, far = depth_range if depth_range is not None else (-math.inf, math.inf)
    near = max(near, (_NEAREST_IN_WATER if model.is_refractive else _NEAREST_IN_AIR) * height)
    last = _FARTHEST if math.isinf(far) else min(far / (far + height), _FARTHEST)
    return near / (near + height), last


def _nearest_on_chain(chain: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each pixel from its chain of segments.

    Args:
        chain: shape (N, S, 2); segments with a NaN end do not count.
        pixels: shape (N, 2).

    Returns:
        Distance, shape (N,), infinite where no segment counts, and the position of the nearest
        point along the chain, 0 to 1, shape (N,).
    """
    start, step = chain[:, :-1], chain[:, 1:] - chain[:, :-1]
    offset = pixels[:, None] - start
    length2 = (step * step).sum(-1).clamp(min=torch.finfo(chain.dtype).tiny)
    along = ((offset * step).sum(-1) / length2).clamp(0, 1)
    distance = (offset - along[..., None] * step).norm(dim=-1)
    distance = torch.where(torch.isfinite(distance), distance, torch.inf)
    best, segment = distance.min(dim=1)
    along = along.gather(1, segment[:, None])[:, 0].nan_to_num(0.0)
    return best, (segment + along) / step.shape[1]


def _inside_boxes(chain: Tensor, pixels: Tensor, margin: float) -> Tensor:
    """Whether pixels lie in the boxes, aligned with each chain's chord, around the chains.

    Two products of small matrices test all pairs, so only the few pairs inside are measured.

    Args:
        chain: shape (N, S, 2).
        pixels: shape (M, 2).
        margin: Added around each box, px.

    Returns:
        shape (N, M), bool.
    """
    seen = torch.isfinite(chain).all(-1)
    count = chain.shape[1]
    first = seen.to(torch.int8).argmax(1)
    last = count - 1 - seen.flip(1).to(torch.int8).argmax(1)
    row = torch.arange(len(chain), device=chain.device)
    start, chord = chain[row, first], chain[row, last] - chain[row, first]
    length = chord.norm(dim=-1, keepdim=True)
    east = torch.where(length > 0, chord / length, chord.new_tensor([1.0, 0.0]))
    north = torch.stack([-east[:, 1], east[:, 0]], dim=-1)
    inside = torch.ones(len(chain), len(pixels), dtype=torch.bool, device=chain.device)
    for axis in (east, north):
        extent = ((chain - start[:, None]) * axis[:, None]).sum(-1)
        low = torch.where(seen, extent, torch.inf).amin(1)
        high = torch.where(seen, extent, -torch.inf).amax(1)
        centre = (axis * start).sum(-1) + (low + high) / 2
        # A chain that is nowhere seen makes all of this NaN, and NaN is inside of nothing.
        away = torch.addmm(-centre[:, None], axis, pixels.T).abs_()
        inside &= away <= ((high - low) / 2 + margin)[:, None]
    return inside
