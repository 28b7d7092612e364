"""Depth hypotheses of a reference view and where they appear in its sources.

Hypotheses are planes parallel to the water surface, or copies of a surface that is moved up and
down; both are described by *plane depth*, the distance below the water surface. Ray depth is plane
depth divided by the cosine between the refracted ray and the vertical, a constant per pixel. Planes
of equal plane depth beat surfaces of equal ray depth here: cameras look down on beds, and a surface
of equal ray depth is tilted against a bed by the angle of the ray, 20 degrees at an image's edge,
which a window that must be flat takes for slope.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..projection import RefractiveProjectionModel
from .images import GreyView

_RANGE_SAMPLES = 64
"""Plane depths at which image motion is measured; it varies by a few per cent between two."""

_JUST_BELOW = 0.999
"""Of the way up to the water surface: a point on it may come out above it by rounding."""
_LEAST_REACH = 0.1
"""Of a band: the least distance between projections that still tells the warp's slope."""
_MOST_OF_POLE = 0.9
"""A step that would reach beyond ten times the depth belongs to cameras side by side."""


@dataclass(frozen=True, slots=True)
class RayGrid:
    """Rays under water of a grid of reference pixels.

    Attributes:
        origin: On the water surface, shape (H, W, 3), metres.
        direction: Unit, shape (H, W, 3).
        descent: Cosine of the direction with the vertical, shape (H, W).
    """

    origin: Tensor
    direction: Tensor
    descent: Tensor

    @staticmethod
    def cast(model: RefractiveProjectionModel, pixels: Tensor) -> "RayGrid":
        """Rays of pixels, shape (H, W, 2), in their dtype; NaN where a pixel sees no water."""
        origin, direction = model.cast_ray(pixels)
        return RayGrid(origin, direction, -(direction @ model.normal.to(direction)))

    def points(self, plane_depth: Tensor) -> Tensor:
        """World points at plane depths, shape (..., H, W) -> (..., H, W, 3)."""
        return self.origin + (plane_depth / self.descent)[..., None] * self.direction

    def rows(self, rows: slice) -> "RayGrid":
        """The rays of some rows."""
        return RayGrid(self.origin[rows], self.direction[rows], self.descent[rows])


@dataclass(frozen=True, slots=True)
class CoarseGrid:
    """Nodes every few pixels, and the interpolation from them to every pixel.

    A refracted warp of a plane is smooth: it is computed at the nodes and interpolated by
    Catmull-Rom splines, which costs two small matrix products per warp instead of one projection
    per pixel.

    Attributes:
        pixels: The nodes, shape (h, w, 2), float64; one ring lies outside of the image.
        rows: Weights of node rows per pixel row, shape (H, h), float32.
        columns: Weights of node columns per pixel column, shape (W, w), float32.
    """

    pixels: Tensor
    rows: Tensor
    columns: Tensor

    @staticmethod
    def build(size: tuple[int, int], spacing: int, device: torch.device) -> "CoarseGrid":
        """Nodes every ``spacing`` pixels over an image of ``size`` (width, height)."""
        (u, columns), (v, rows) = (_catmull_rom(n, spacing, device) for n in size)
        grid_v, grid_u = torch.meshgrid(v, u, indexing="ij")
        return CoarseGrid(torch.stack([grid_u, grid_v], dim=-1), rows, columns)

    def interpolate(self, values: Tensor, rows: slice) -> Tensor:
        """Node values, shape (..., h, w), at every pixel of some rows, shape (..., rows, W)."""
        return self.rows[rows] @ (values @ self.columns.T)


def _catmull_rom(count: int, spacing: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions of nodes around pixels 0 … count - 1, and weights of shape (count, nodes)."""
    nodes = (count - 1) // spacing + 4
    positions = spacing * (torch.arange(nodes, dtype=torch.float64, device=device) - 1)
    place = torch.arange(count, dtype=torch.float64, device=device) / spacing
    cell = place.floor()
    t = place - cell
    parts = torch.stack(
        [
            ((2 - t) * t - 1) * t / 2,
            ((3 * t - 5) * t * t + 2) / 2,
            ((4 - 3 * t) * t + 1) * t / 2,
            (t - 1) * t * t / 2,
        ],
        dim=-1,
    )
    weights = torch.zeros(count, nodes, dtype=torch.float64, device=device)
    weights.scatter_(1, cell.long()[:, None] + torch.arange(4, device=device), parts)
    return positions, weights.float()


def plane_depth_range(rays: RayGrid, depth_range: tuple[float, float]) -> tuple[float, float]:
    """Least and greatest plane depth that rays reach within a range of ray depth."""
    descent = rays.descent[rays.descent.isfinite()]
    if descent.numel() == 0:
        return 0.0, 0.0
    high = depth_range[1] * float(descent.max())
    low = depth_range[0] * float(descent.min())
    return max(low, (1 - _JUST_BELOW) * high), high


def place_planes(
    rays: RayGrid,
    sources: Sequence[GreyView],
    limits: tuple[float, float],
    *,
    step_px: float,
    count: int | None = None,
) -> Tensor | None:
    """Plane depths between which no pixel of any source moves by more than a step.

    Args:
        rays: Of the coarse grid.
        sources: Views to match with.
        limits: Least and greatest plane depth, metres.
        step_px: Largest image motion between neighbours.
        count: Number of planes; instead of ``step_px``.

    Returns:
        shape (K,), K >= 3, float64, ascending; None if no source sees any of the planes.
    """
    samples = torch.linspace(
        *limits, _RANGE_SAMPLES, dtype=torch.float64, device=rays.origin.device
    )
    points = rays.points(samples[:, None, None].expand(-1, *rays.descent.shape))
    motion = samples.new_zeros(_RANGE_SAMPLES - 1)
    for source in sources:
        pixels = _inside(source, points)
        moved = (pixels[1:] - pixels[:-1]).norm(dim=-1).flatten(1)
        motion = torch.maximum(motion, moved.nan_to_num(0.0).amax(1))
    path = torch.cat([motion.new_zeros(1), motion.cumsum(0)])
    total = float(path[-1])
    if total == 0:
        return None
    planes = count if count is not None else max(3, int(total / step_px) + 2)
    wanted = torch.linspace(0, total, planes, dtype=torch.float64, device=path.device)
    # Where no source looks the path stands still; a hair of slope keeps it invertible.
    path = path + torch.linspace(0, 1e-9 * total, len(path), dtype=path.dtype, device=path.device)
    right = torch.searchsorted(path, wanted).clamp(1, len(path) - 1)
    part = (wanted - path[right - 1]) / (path[right] - path[right - 1])
    return samples[right - 1] + part.clamp(0, 1) * (samples[right] - samples[right - 1])


def pixels_per_metre(rays: RayGrid, sources: Sequence[GreyView], plane_depth: Tensor) -> Tensor:
    """Fastest motion over all sources of a pixel's image with plane depth.

    From the closed-form Jacobian of the projection, along the reference ray.

    Args:
        rays: shape (H, W).
        sources: Views to match with.
        plane_depth: shape (H, W), metres.

    Returns:
        shape (H, W), px per metre; 0 where no source sees the point.
    """
    points = rays.points(plane_depth)
    along = rays.direction / rays.descent[..., None]
    fastest = torch.zeros_like(plane_depth)
    for source in sources:
        pixels, jacobian, _ = source.model.project_with_jacobian(points)
        speed = (jacobian @ along[..., None])[..., 0].norm(dim=-1)
        speed = torch.where(_is_inside(source, pixels), speed, 0.0)
        fastest = torch.maximum(fastest, speed.nan_to_num(0.0))
    return fastest


def _inside(source: GreyView, points: Tensor) -> Tensor:
    """Pixels of points, NaN where they leave the source's image."""
    pixels, _ = source.model.project(points)
    return torch.where(_is_inside(source, pixels)[..., None], pixels, torch.nan)


def _is_inside(source: GreyView, pixels: Tensor) -> Tensor:
    return ((pixels >= 0) & (pixels <= pixels.new_tensor(source.size) - 1)).all(-1)


class Hypotheses(Protocol):
    """Numbered hypotheses for every pixel of a reference view."""

    @property
    def count(self) -> int:
        """Number of hypotheses, K."""

    def warp(self, source: int, rows: slice) -> Tensor:
        """Pixels in a source, shape (K, rows, W, 2), float32; NaN where it cannot see the point."""

    def plane_depth(self, index: Tensor, rows: slice) -> Tensor:
        """Plane depth of fractional hypothesis numbers, shape (rows, W), metres."""


class PlaneHypotheses:
    """Planes parallel to the water surface, the same for every pixel.

    Args:
        grid: Nodes over the reference view.
        rays: Of the nodes.
        sources: Views to match with.
        plane_depths: shape (K,), metres, ascending.
    """

    def __init__(
        self, grid: CoarseGrid, rays: RayGrid, sources: Sequence[GreyView], plane_depths: Tensor
    ) -> None:
        self._grid, self._plane_depths = grid, plane_depths.float()
        points = rays.points(plane_depths[:, None, None].expand(-1, *rays.descent.shape))
        self._nodes = [s.model.project(points)[0].movedim(-1, 1).float() for s in sources]

    @property
    def count(self) -> int:
        """Number of planes."""
        return len(self._plane_depths)

    def warp(self, source: int, rows: slice) -> Tensor:
        """Pixels of all planes in a source, shape (K, rows, W, 2), float32."""
        return self._grid.interpolate(self._nodes[source], rows).movedim(1, -1)

    def plane_depth(self, index: Tensor, rows: slice) -> Tensor:  # noqa: ARG002
        """Plane depth of fractional plane numbers, shape (rows, W), metres."""
        low = index.nan_to_num(0.0).floor().clamp(0, self.count - 2)
        left, right = (self._plane_depths[low.long() + side] for side in (0, 1))
        return left + (index - low) * (right - left)


class SurfaceHypotheses:
    """A surface moved up and down in steps of equal image motion; each pixel has its own step.

    Image motion slows with depth as that of a pinhole camera at ``n_water / n_air`` times the
    height does (the paraxial limit). Steps of plane depth grow accordingly: equal steps would make
    the deeper neighbour of an optimum look the better one, and a parabola deep by 0.01 px.

    The warp is a quadratic through three exact projections per pixel: over a band of a few pixels
    its error is far below a hundredth of a pixel.

    Args:
        reference: View whose pixels are asked for.
        rays: Of every reference pixel.
        sources: Views to match with.
        plane_depth: The surface, shape (H, W), metres.
        step: Metres of plane depth at the surface, shape (H, W).
        half_count: Hypotheses on each side of the surface.
    """

    def __init__(
        self,
        reference: GreyView,
        rays: RayGrid,
        sources: Sequence[GreyView],
        plane_depth: Tensor,
        step: Tensor,
        half_count: int,
    ) -> None:
        self._rays, self._surface = rays, plane_depth
        self._models = [source.model for source in sources]
        self._half_count = half_count
        model = reference.model
        apparent_height = float(model.camera_height) * model.n_water / model.n_air
        # Depth below the apparent camera is pole / (1 - number * step / pole).
        self._pole = apparent_height + plane_depth
        self._rate = step / self._pole
        # Shallow scenes: no hypothesis above the water can be projected, if water there is.
        at_water = -_JUST_BELOW * plane_depth / (apparent_height * self._rate)
        lowest = at_water if model.is_refractive else torch.full_like(at_water, -torch.inf)
        self._lowest = lowest.clamp(-half_count, -_LEAST_REACH * half_count)

    @property
    def count(self) -> int:
        """Number of hypotheses."""
        return 2 * self._half_count + 1

    def warp(self, source: int, rows: slice) -> Tensor:
        """Pixels of all hypotheses in a source, shape (K, rows, W, 2), in the surface's dtype."""
        rays, model = self._rays.rows(rows), self._models[source]
        lowest, highest = self._lowest[rows], self._half_count
        low, middle, high = (
            model.project(rays.points(self._moved(number, rows)))[0]
            for number in (lowest, 0, highest)
        )
        low_slope, high_slope = (low - middle) / lowest[..., None], (high - middle) / highest
        bend = (high_slope - low_slope) / (highest - lowest)[..., None]
        slope = high_slope - highest * bend
        number = torch.arange(-highest, highest + 1, dtype=middle.dtype, device=middle.device)
        number = number[:, None, None, None]
        return middle + number * (slope + number * bend)

    def plane_depth(self, index: Tensor, rows: slice) -> Tensor:
        """Plane depth of fractional hypothesis numbers, shape (rows, W), metres."""
        return self._moved(index - self._half_count, rows)

    def _moved(self, number: Tensor | int, rows: slice) -> Tensor:
        """Plane depth so many steps below the surface."""
        part = (number * self._rate[rows]).clamp(max=_MOST_OF_POLE)
        return self._surface[rows] + self._pole[rows] * part / (1 - part)
