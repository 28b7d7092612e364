"""Planes seen by the pixels of one view, and what it costs to warp them into the others.

Around every pixel lies a window. A hypothesis is a plane: a ray depth and a normal. The plane takes
the window into a source view: its centre by one refractive projection, the pixels around it by the
closed-form derivative of that projection along the plane, a 2 x 2 affine. The cost of a source is
1 - NCC, with weights that fall with the difference to the centre's intensity, so that a window at
an edge stays on its own side (Schönberger et al., ECCV 2016, section 4.3).
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from ..numerics.acceleration import at_once, has_cuda_kernels, has_kernels
from ..numerics.pyramid import LevelView
from ..pixels import pixel_grid

_WINDOW_SIGMA = 2 / 3
"""Sigma of a matching window's weights, radii. Relief of a few pixels, such as pebbles, shows
where a box of the same side levels it. The noise is 15 % higher, but less alike in neighbours, so
that smoothing and settling take more of it away."""
NOISE_FLOOR = (0.25 / 255) ** 2
"""Variance below this is quantisation noise, not texture."""
COLOR_SIGMA = 0.015
"""Difference of intensity to the window's centre that halves a pixel's weight: wider than noise and
faint texture, much narrower than the step between a light and a dark surface."""
LEAST_WINDOW = 0.5
"""Share of a window's weight that a source must see."""
LEAST_WEIGHT = 0.15
"""Sources with a smaller weight for a pixel are not asked about it."""
LEAST_FACING = 0.15
"""Cosine between ray and normal below which a plane is seen too obliquely (81 degrees)."""

_CHUNK_SAMPLES = 1 << 22
"""Pixels of windows that a processor compares at a time."""
_SAMPLE_BYTES = 100
"""Memory that each of them takes, at most."""


@dataclass(frozen=True, slots=True)
class RayField:
    """The refracted rays of a view's P = H * W pixels, row by row.

    Attributes:
        size: (width, height) in pixels.
        rays: Origin on the water surface, direction under water, and the derivatives of both: of
            the origin by u and by v, of the direction by u and by v; shape (P, 6, 3), float32,
            metres.
        up: Normal of the water surface, shape (3,).
        centre: Of the camera, shape (3,), metres.
        axis: Where it looks, unit vector, shape (3,).
        contraction: Apparent over true length under water, n_air / n_water.
    """

    size: tuple[int, int]
    rays: Tensor
    up: Tensor
    centre: Tensor
    axis: Tensor
    contraction: float

    @classmethod
    def cast(cls, view: LevelView) -> RayField:
        """The rays of a level's pixels."""
        pixels = pixel_grid(view.size, dtype=torch.float64, device=view.gray.device)
        origin, direction = view.model.cast_ray(pixels)
        rays = torch.empty(*origin.shape[:2], 6, 3, device=origin.device)
        rays[..., 0, :], rays[..., 1, :] = origin, direction
        steps = [(values, dim) for values in (origin, direction) for dim in (1, 0)]
        for place, (values, dim) in enumerate(steps, start=2):  # one at a time: bounds memory
            rays[..., place, :] = torch.gradient(values, dim=dim)[0]
        model = view.model
        up = model.normal.to(origin)
        return cls(
            view.size,
            rays.reshape(-1, 6, 3),
            (up / up.norm()).float(),
            model.camera_center.to(rays),
            model.R[2].to(rays),
            float(model.n_air / model.n_water),
        )

    @property
    def origin(self) -> Tensor:
        """Points on the water surface, shape (P, 3), metres."""
        return self.rays[:, 0]

    @property
    def direction(self) -> Tensor:
        """Unit vectors, shape (P, 3)."""
        return self.rays[:, 1]

    def pixels(self) -> Tensor:
        """Flat indices of all pixels, shape (P,), int64."""
        return torch.arange(len(self.rays), device=self.rays.device)

    def descent(self, pixels: Tensor) -> Tensor:
        """Depth below the water surface per metre of ray, shape of ``pixels``."""
        return -(self.direction[pixels] @ self.up)

    def points(self, pixels: Tensor, depth: Tensor) -> Tensor:
        """World points at ray depths, shape (..., 3), metres."""
        return self.origin[pixels] + depth[..., None] * self.direction[pixels]

    def footprint(self, depth: Tensor) -> Tensor:
        """Distance of neighbouring pixels' points at ray depths of all pixels, (P,), metres."""
        step = self.rays[:, 2] + depth[:, None] * self.rays[:, 4]
        length: Tensor = step.norm(dim=-1)
        return length

    def apparent(self) -> tuple[Tensor, Tensor]:
        """How far along the camera's axis a point seems: at the water, and more per metre of ray.

        Each of shape (P,). The inverse of that distance is affine over the image of a plane: of any
        in air, of a level one through water, and nearly so of others.
        """
        air = self.origin - self.centre
        surface = air @ self.axis
        descent = self.descent(self.pixels())
        return surface, -self.contraction * descent * surface / (air @ self.up)

    def meet(self, pixels: Tensor, points: Tensor, normal: Tensor) -> Tensor:
        """Ray depth at which pixels' rays meet planes through points, shape (...,), metres."""
        above = ((points - self.origin[pixels]) * normal).sum(-1)
        return above / (self.direction[pixels] * normal).sum(-1)


@dataclass(slots=True)
class PlaneMap:
    """One plane per pixel; refined in place.

    Attributes:
        depth: Ray depth, shape (P,), metres.
        normal: Unit, towards the camera, shape (P, 3).
        cost: Of the plane, shape (P,); inf where no source sees it.
    """

    depth: Tensor
    normal: Tensor
    cost: Tensor


@dataclass(frozen=True, slots=True)
class Trials:
    """What the pixels of one colour try beside their neighbours' planes.

    Attributes:
        depth: Planes proposed for every pixel of the image, shape (Q, P), metres.
        normal: Their normals, shape (Q, P, 3).
        steps: Random changes of depth, shape (R, N), metres.
        tilts: Random changes of the normal, shape (R, N, 3).
    """

    depth: Tensor
    normal: Tensor
    steps: Tensor
    tilts: Tensor


@dataclass(frozen=True, slots=True)
class Window:
    """A matching window's pixels.

    Attributes:
        offsets: (column, row), shape (T, 2), int64.
        weights: Of the pixels, in (0, 1], shape (T,), float32.
    """

    offsets: Tensor
    weights: Tensor

    @classmethod
    def square(cls, radius: int) -> Window:
        """All pixels of a square of 2 radius + 1 a side, alike."""
        reach = torch.arange(-radius, radius + 1)
        rows, columns = torch.meshgrid(reach, reach, indexing="ij")
        offsets = torch.stack([columns, rows], dim=-1).reshape(-1, 2)
        return cls(offsets, torch.ones(len(offsets)))

    @classmethod
    def gaussian(cls, radius: int, *, sigma: float | None = None) -> Window:
        """The same square, of which a pixel counts for less the further it is from the centre.

        Args:
            radius: How far it reaches, px.
            sigma: Of the weights, px; two thirds of the radius if absent.
        """
        square = cls.square(radius)
        distance = square.offsets.to(square.weights).norm(dim=-1)
        sigma = _WINDOW_SIGMA * radius if sigma is None else sigma
        return cls(square.offsets, torch.exp(-0.5 * (distance / sigma) ** 2))

    @property
    def radius(self) -> int:
        """How far the window reaches, px."""
        return int(self.offsets.max())

    @property
    def size(self) -> float:
        """Number of pixels of equal weight that average noise as well."""
        return float(self.weights.sum() ** 2 / (self.weights**2).sum())


class PatchMatcher(Protocol):
    """Judges the planes of one reference view at one resolution."""

    @property
    def rays(self) -> RayField:
        """Of the reference view."""

    @property
    def sources(self) -> Sequence[LevelView]:
        """The S views that planes are warped into."""

    def with_window(self, window: Window) -> PatchMatcher:
        """One that judges the same views' planes with another window."""

    def costs(self, pixels: Tensor, depth: Tensor, normal: Tensor, active: Tensor) -> Tensor:
        """Cost of planes against every source: 1 - NCC.

        Args:
            pixels: Flat indices, shape (N,), int64.
            depth: Ray depth of K planes for each, shape (K, N), metres.
            normal: Unit normals, shape (K, N, 3).
            active: Sources to ask, shape (N, S), bool.

        Returns:
            shape (N, S, K), in [0, 2]; NaN where a source is not asked, does not see the plane's
            point or sees less than half of the window.
        """

    def improve(
        self,
        planes: PlaneMap,
        pixels: Tensor,
        weights: Tensor,
        trials: Trials,
        depth_range: tuple[float, float],
    ) -> None:
        """Give every pixel of one colour the best of its own, its neighbours' and tried planes.

        Args:
            planes: Changed in place.
            pixels: Flat indices of the colour's pixels, shape (N,), int64.
            weights: Of each source for each pixel of the image, shape (P, S).
            trials: What else to try.
            depth_range: Least and greatest ray depth, metres.
        """


def create_patch_matcher(
    reference: LevelView, sources: Sequence[LevelView], window: Window
) -> PatchMatcher:
    """The compiled matcher of the device if its compiler is installed; else tensor operations."""
    if has_kernels(reference.gray):
        from .fused import FusedPatchMatcher

        return FusedPatchMatcher(reference, sources, window)
    if has_cuda_kernels(reference.gray):
        from .cuda import MOST_TAPS, CudaPatchMatcher

        if len(window.weights) <= MOST_TAPS:
            return CudaPatchMatcher(reference, sources, window)
    return TensorPatchMatcher(reference, sources, window)


def known_gray(view: LevelView) -> Tensor:
    """Gray image, shape (H, W); NaN where it must not be used."""
    gray = view.gray[0, 0]
    return gray if view.usable is None else torch.where(view.usable, gray, torch.nan)


def combine(costs: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the sources; one that does not see a plane says nothing in its favour.

    Args:
        costs: shape (N, S, K); NaN where unknown.
        weights: shape (N, S).

    Returns:
        shape (N, K); inf where all weights are 0.
    """
    total = weights.sum(1)[:, None]
    mean = (weights[..., None] * costs.nan_to_num(1.0)).sum(1) / total.clamp(min=1e-6)
    return torch.where(total > 0, mean, torch.inf)


NEIGHBOURS = torch.tensor(
    [
        [[-1, 0], [-2, -1], [-2, 1], [-3, 0]],
        [[1, 0], [2, -1], [2, 1], [3, 0]],
        [[0, -1], [-1, -2], [1, -2], [0, -3]],
        [[0, 1], [-1, 2], [1, 2], [0, 3]],
    ]
)
"""(row, column) offsets to pixels of the other colour, above, below, left and right. The best of
each group gives its plane (Xu and Tao, CVPR 2019, in small)."""


class WindowedMatcher(ABC):
    """What any implementation does about windows: the views stay as they are."""

    def with_window(self, window: Window) -> Self:
        """See :meth:`PatchMatcher.with_window`."""
        other = copy.copy(self)
        other._take(window)
        return other

    @abstractmethod
    def _take(self, window: Window) -> None:
        """Look through another window from now on."""


class TensorPatchMatcher(WindowedMatcher):
    """The reference implementation, in tensor operations, on any device."""

    def __init__(self, reference: LevelView, sources: Sequence[LevelView], window: Window) -> None:
        self.rays = RayField.cast(reference)
        self.sources = sources
        self._gray = known_gray(reference)
        self._images = [known_gray(source) for source in sources]
        self._samples_at_once = at_once(self._gray.device, _CHUNK_SAMPLES, _SAMPLE_BYTES)
        self._take(window)

    def _take(self, window: Window) -> None:
        self._offsets = window.offsets.to(self._gray.device)
        self._falloff = window.weights.to(self._gray)

    def costs(self, pixels: Tensor, depth: Tensor, normal: Tensor, active: Tensor) -> Tensor:
        """See :meth:`PatchMatcher.costs`."""
        size = max(1, self._samples_at_once // (len(depth) * len(self._offsets)))
        parts = [
            self._costs(pixels[i : i + size], depth[:, i : i + size], normal[:, i : i + size])
            for i in range(0, len(pixels), size)
        ]
        costs = torch.cat(parts) if parts else depth.new_empty(0, len(self.sources), len(depth))
        return torch.where(active[..., None], costs, torch.nan)

    def _costs(self, pixels: Tensor, depth: Tensor, normal: Tensor) -> Tensor:
        weight, deviation = self._windows(pixels)
        points = self.rays.points(pixels, depth)
        tangents = self._tangents(pixels, depth, normal)
        offsets = self._offsets.to(points)
        costs = []
        for source, image in zip(self.sources, self._images, strict=True):
            centre, jacobian, _ = source.model.project_with_jacobian(points)
            affine = jacobian @ tangents  # (K, N, 2, 2)
            where = centre[:, :, None] + offsets @ affine.mT
            costs.append(_correlate(weight, deviation, _sample(image, where), centre, source.size))
        return torch.stack(costs, dim=1).permute(2, 1, 0)

    def _windows(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of reference windows, sum 1, and deviations from their means, (N, T) each."""
        height, width = self._gray.shape
        row = pixels[:, None] // width + self._offsets[:, 1]
        column = pixels[:, None] % width + self._offsets[:, 0]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        at = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        value = torch.where(inside, self._gray.reshape(-1)[at], torch.nan)
        away = value - self._gray.reshape(-1)[pixels][:, None]
        weight = (self._falloff / (1 + (away / COLOR_SIGMA) ** 2)).nan_to_num(0.0)
        weight = weight / weight.sum(1, keepdim=True)  # NaN where the centre is unknown
        value = value.nan_to_num(0.0)
        return weight, value - (weight * value).sum(1, keepdim=True)

    def _tangents(self, pixels: Tensor, depth: Tensor, normal: Tensor) -> Tensor:
        """How a plane's point moves from pixel to pixel, by u and by v, shape (K, N, 3, 2)."""
        ray = self.rays.rays[pixels]
        moved = ray[:, 2:4] + depth[..., None, None] * ray[:, 4:6]  # (K, N, 2, 3)
        rise = (moved * normal[..., None, :]).sum(-1)
        facing = (ray[:, 1] * normal).sum(-1)
        return (moved - (rise / facing[..., None])[..., None] * ray[:, 1, None]).mT

    def improve(
        self,
        planes: PlaneMap,
        pixels: Tensor,
        weights: Tensor,
        trials: Trials,
        depth_range: tuple[float, float],
    ) -> None:
        """See :meth:`PatchMatcher.improve`."""
        own_depth, own_normal = planes.depth[pixels], planes.normal[pixels]
        best = self._best_neighbours(planes.cost, pixels)
        passed = planes.normal[best]
        near_depth = self.rays.meet(pixels, self.rays.points(best, planes.depth[best]), passed)
        tilted = own_normal + trials.tilts
        tilted = tilted / tilted.norm(dim=-1, keepdim=True)
        depth = torch.cat([near_depth, trials.depth[:, pixels], own_depth + trials.steps])
        normal = torch.cat([passed, trials.normal[:, pixels], tilted])
        facing = -(normal * self.rays.direction[pixels]).sum(-1)
        near, far = depth_range
        usable = (depth >= near) & (depth <= far) & (facing >= LEAST_FACING)
        weight = weights[pixels]
        weight = torch.where(weight >= LEAST_WEIGHT, weight, 0.0)
        cost = combine(self.costs(pixels, depth, normal, weight > 0), weight).T
        cost, winner = torch.where(usable, cost, torch.inf).min(0)
        better = cost < planes.cost[pixels]
        chosen, winner = pixels[better], winner[better]
        planes.cost[chosen] = cost[better]
        planes.depth[chosen] = depth[:, better].gather(0, winner[None])[0]
        planes.normal[chosen] = normal[:, better].gather(0, winner[None, :, None].expand(1, -1, 3))[
            0
        ]

    def _best_neighbours(self, cost: Tensor, pixels: Tensor) -> Tensor:
        """The pixel of least cost in each group, shape (4, N); the pixel itself if all are bad."""
        height, width = self._gray.shape
        offsets = NEIGHBOURS.to(pixels.device)
        row = pixels // width + offsets[..., :1]
        column = pixels % width + offsets[..., 1:]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        other = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        theirs = torch.where(inside, cost[other], torch.inf)
        least, which = theirs.min(1)
        best = other.gather(1, which[:, None])[:, 0]
        return torch.where(least < torch.inf, best, pixels)


def _sample(image: Tensor, where: Tensor) -> Tensor:
    """Bilinear samples, shape (..., T); NaN outside of the image and beside unknown pixels."""
    height, width = image.shape
    x, y = where.unbind(-1)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    x, y = torch.where(inside, x, 0.0), torch.where(inside, y, 0.0)
    j, i = x.long().clamp(max=width - 2), y.long().clamp(max=height - 2)
    fx, fy = x - j, y - i
    at, flat = i * width + j, image.reshape(-1)
    top = flat[at] + fx * (flat[at + 1] - flat[at])
    base = flat[at + width] + fx * (flat[at + width + 1] - flat[at + width])
    return torch.where(inside, top + fy * (base - top), torch.nan)


def _correlate(
    weight: Tensor, deviation: Tensor, sample: Tensor, centre: Tensor, size: tuple[int, int]
) -> Tensor:
    """1 - NCC over the samples that the source has, shape (K, N)."""
    corner = centre.new_tensor([size[0] - 1, size[1] - 1])
    seen = ((centre >= 0) & (centre <= corner)).all(-1)
    known = torch.isfinite(sample)
    weight, sample = torch.where(known, weight, 0.0), sample.nan_to_num(0.0)
    total = weight.sum(-1)
    weight = weight / total[..., None].clamp(min=1e-6)
    ours = deviation - (weight * deviation).sum(-1, keepdim=True)
    theirs = sample - (weight * sample).sum(-1, keepdim=True)
    own, other = ((weight * x * x).sum(-1) + NOISE_FLOOR for x in (ours, theirs))
    ncc = (weight * ours * theirs).sum(-1) / (own * other).sqrt()
    return torch.where(seen & (total >= LEAST_WINDOW), 1 - ncc, torch.nan)
