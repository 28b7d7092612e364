"""Pre-alignment of two views by a level plane: what the calibration knows before any matching.

Seen through a plane parallel to the water surface, a pixel of one view has one place in another.
Resampling the source view by that map removes relative roll, scale and, where the plane lies near
the bed, nearly all of the disparity; what is left for a matcher is the relief.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..pixels import from_normalized, pixel_grid, to_normalized
from ..projection import RefractiveProjectionModel
from ..types import View
from .images import fit_image

_SEARCH_CELLS = (25, 19)
"""Cells of 8 px, (columns, rows), of the grid on which the plane's depth is sought."""
_NODE_STEP = 8
_DEEPEST = 0.7
"""Largest depth of the plane as s = depth / (depth + camera height): 2.3 camera heights."""
_SHALLOWEST = 0.03
_NEAREST_IN_AIR = -0.5
"""Likewise in air, where the interface is nothing and things may stand above it."""
_STEP_PX = 1.5
"""Motion between two depths of the search, px of its grid: texture two pixels wide still meets."""
_USUAL = 0.9
"""Part of the grid that keeps to this step; a wide view's corners move much farther."""
_DEEPER = 1.02
"""Change of depth by which directions are found."""
_WINDOW = 15
_NOISE_FLOOR = 2.0
"""Standard deviation of grey levels, 0 to 255, below which a window holds nothing."""
_LEAST_AREA = 0.02
"""Part of the search grid that counts as much as what has been seen: keeps slivers from winning."""


@dataclass(frozen=True, slots=True)
class WorkingGrid:
    """A grid over a view: cell (row i, column j) stands for ``origin + step * (j, i)``.

    Attributes:
        size: (columns, rows).
        origin: Pixel (u, v) of the view at the first cell's centre.
        step: Pixels of the view per cell, horizontally and vertically.
        margin: Cells of each side that lie beyond the view.
    """

    size: tuple[int, int]
    origin: tuple[float, float]
    step: tuple[float, float]
    margin: int = 0

    @classmethod
    def over(
        cls, view_size: tuple[int, int], size: tuple[int, int], margin: int = 0
    ) -> WorkingGrid:
        """Divide a view evenly.

        Args:
            view_size: (width, height) of the view.
            size: (columns, rows) over the view.
            margin: Further cells beyond each side.
        """
        step = (view_size[0] / size[0], view_size[1] / size[1])
        first = (step[0] * (0.5 - margin) - 0.5, step[1] * (0.5 - margin) - 0.5)
        return cls((size[0] + 2 * margin, size[1] + 2 * margin), first, step, margin)

    def pixels(self, cells: Tensor) -> Tensor:
        """Pixels of the view at places of the grid, shape (..., 2)."""
        return cells * cells.new_tensor(self.step) + cells.new_tensor(self.origin)

    def cells(self, pixels: Tensor) -> Tensor:
        """Inverse of :meth:`pixels`."""
        return (pixels - pixels.new_tensor(self.origin)) / pixels.new_tensor(self.step)

    def all_pixels(self) -> Tensor:
        """Pixels of the view at every cell, shape (rows, columns, 2), float32."""
        return self.pixels(pixel_grid(self.size))


class Alignment(Protocol):
    """A smooth map from one view into another that brings most of the scene together."""

    def into_source(self, pixels: Tensor) -> Tensor:
        """Pixels of the reference view to pixels of the source view, shape (..., 2)."""
        ...

    def curve_direction(self, pixels: Tensor) -> Tensor | None:
        """How a reference pixel's counterpart moves in the aligned source image with its depth.

        Args:
            pixels: Of the reference view, shape (..., 2).

        Returns:
            Unit vectors in reference pixels, shape (..., 2), NaN where the point cannot be seen;
            None where the alignment does not know.
        """
        ...


@dataclass(frozen=True, slots=True)
class PlaneAlignment(Alignment):
    """The map through a level plane.

    Attributes:
        reference_model: Of the view that stays as it is.
        source_model: Of the view that is resampled.
        depth: Of the plane below the water surface, metres.
    """

    reference_model: RefractiveProjectionModel
    source_model: RefractiveProjectionModel
    depth: float

    def into_source(self, pixels: Tensor) -> Tensor:
        """See :func:`plane_transfer`."""
        return plane_transfer(self.reference_model, self.source_model, pixels, self.depth)

    def ray_depth(self, pixels: Tensor) -> Tensor:
        """Ray depth at which reference pixels, shape (..., 2), meet the plane, metres."""
        _, direction = self.reference_model.cast_ray(pixels)
        return self.depth / -(direction @ self.reference_model.normal.to(direction))

    def curve_direction(self, pixels: Tensor) -> Tensor | None:
        """Along the epipolar curves, by a small change of depth."""
        deeper = plane_transfer(
            self.reference_model, self.source_model, pixels, self.depth * _DEEPER
        )
        aligned = plane_transfer(self.source_model, self.reference_model, deeper, self.depth)
        motion = aligned - pixels
        direction: Tensor = motion / motion.norm(dim=-1, keepdim=True)
        return direction


@dataclass(frozen=True, slots=True)
class HomographyAlignment(Alignment):
    """A homography, for views whose calibration is not to be used.

    Attributes:
        source_from_reference: shape (3, 3), float64, homogeneous pixels.
    """

    source_from_reference: Tensor

    @classmethod
    def whole(
        cls, reference: tuple[int, int], source: tuple[int, int], *, zoom: float = 1.0
    ) -> HomographyAlignment:
        """The whole of one view onto the whole of another, magnified about its centre.

        Args:
            reference: (width, height) of the reference view.
            source: Likewise of the source view.
            zoom: Magnification of the source view.
        """
        scale = [s / (r * zoom) for r, s in zip(reference, source, strict=True)]
        shift = [
            (s - 1 - k * (r - 1)) / 2 for r, s, k in zip(reference, source, scale, strict=True)
        ]
        return cls(
            torch.tensor(
                [[scale[0], 0, shift[0]], [0, scale[1], shift[1]], [0, 0, 1]], dtype=torch.float64
            )
        )

    def into_source(self, pixels: Tensor) -> Tensor:
        """Apply the homography; NaN on and beyond its horizon."""
        matrix = self.source_from_reference.to(pixels)
        image = pixels @ matrix[:, :2].T + matrix[:, 2]
        third = image[..., 2:]
        return torch.where(third > 0, image[..., :2] / third, torch.nan)

    def curve_direction(self, pixels: Tensor) -> Tensor | None:
        """Unknown without the calibration."""
        del pixels
        return None


def plane_transfer(
    from_model: RefractiveProjectionModel,
    to_model: RefractiveProjectionModel,
    pixels: Tensor,
    depth: float,
) -> Tensor:
    """Where a view sees the points of a level plane that another sees at its pixels.

    Args:
        from_model: Of the pixels.
        to_model: Of the other view.
        pixels: shape (..., 2).
        depth: Of the plane below the water surface, metres.

    Returns:
        Pixels of the other view, shape (..., 2); NaN where a ray misses the plane or the point
        cannot be seen.
    """
    origin, direction = from_model.cast_ray(pixels)
    descent = -(direction @ from_model.normal.to(direction))
    points = origin + (depth / descent)[..., None] * direction
    projected, _ = to_model.project(points)
    return projected


def resample(view: View, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """A view's image at given pixels.

    Args:
        view: To sample.
        pixels: shape (h, w, 2); a smooth map.

    Returns:
        RGB, shape (h, w, 3), float32, bicubic, from a smaller copy where the map is coarser than
        the image; and whether the pixel lies in the image and in its mask, shape (h, w). Elsewhere
        RGB is 0.
    """
    return _sample(view, _fitted(view, pixels), pixels)


def find_plane_depth(
    reference: View, source: View, depth_range: tuple[float, float] | None = None
) -> float:
    """Depth of the level plane through which two views look most alike.

    Small images are compared by windowed ZNCC at depths that are so close together that nothing
    moves by more than 1.5 of their pixels from one to the next.

    Args:
        reference: One view.
        source: The other.
        depth_range: Least and largest depth below the water surface, metres; None: from the
            surface to 2.3 camera heights.

    Returns:
        Depth below the water surface, metres. Where nothing is alike (black images, no overlap), a
        depth of the range all the same.
    """
    columns, rows = ((n - 1) * _NODE_STEP + 1 for n in _SEARCH_CELLS)
    grid = WorkingGrid.over(reference.size, (columns, rows))
    depths, maps = _search_maps(reference.model, source, grid, depth_range)
    own, own_known = _structure(*resample(reference, grid.all_pixels()))
    scores, image = [], _fitted(source, maps[len(maps) // 2])
    for pixels in maps:
        other, known = _structure(*_sample(source, image, pixels))
        both = (own_known & known).astype(np.float32)
        scores.append(float((own * other * both).sum() / (both.sum() + _LEAST_AREA * both.size)))
    return _peak(depths, scores)


def _fitted(view: View, pixels: Tensor) -> Tensor:
    """The view's image, or a smaller copy where a map would skip pixels of it."""
    scale = _coarseness(pixels)
    image = view.image.float()
    return fit_image(image, max(8, round(max(view.size) / scale))) if scale > 1 else image


def _sample(view: View, image: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`resample` from a copy of the view's image."""
    known = torch.isfinite(pixels).all(-1)
    pixels = torch.where(known[..., None], pixels, -1e4).to(image.device)
    grid = to_normalized(pixels, view.size)
    centres = from_normalized(grid, (image.shape[1], image.shape[0])).cpu().numpy()
    sampled = cv2.remap(
        image.cpu().numpy(),
        centres[..., 0],
        centres[..., 1],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    mask = functional.grid_sample(
        view.mask[None, None].to(grid.dtype), grid[None], mode="nearest", align_corners=False
    )
    usable = mask[0, 0] > 0
    rgb = torch.from_numpy(sampled).to(image).clamp(0, 1)
    return torch.where(usable[..., None], rgb, 0.0), usable


def _coarseness(pixels: Tensor) -> float:
    """Source pixels per cell of a map, median of the geometric mean of both directions."""
    right = pixels[:-1, 1:] - pixels[:-1, :-1]
    down = pixels[1:, :-1] - pixels[:-1, :-1]
    area = (right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]).abs()
    area = area[torch.isfinite(area)]
    return math.sqrt(float(area.median())) if len(area) else 1.0


def _search_maps(
    model: RefractiveProjectionModel,
    source: View,
    grid: WorkingGrid,
    depth_range: tuple[float, float] | None,
) -> tuple[list[float], Tensor]:
    """Depths to try and the map of each, shape (depths, rows, columns, 2), by interpolation."""
    height = float(model.camera_height)
    low, high = _SHALLOWEST if model.is_refractive else _NEAREST_IN_AIR, _DEEPEST
    if depth_range is not None:
        low, high = (depth / (depth + height) for depth in depth_range)
    nodes = grid.pixels(pixel_grid(_SEARCH_CELLS) * _NODE_STEP)

    def at(s: float) -> Tensor:
        return plane_transfer(model, source.model, nodes, height * s / (1 - s))

    # How far the aligned image moves over the range, in cells of the search grid.
    back = plane_transfer(source.model, model, at(low), height * high / (1 - high))
    motion = grid.cells(back) - grid.cells(nodes)
    known = torch.isfinite(motion).all(-1)
    longest = float(motion[known].norm(dim=-1).quantile(_USUAL)) if bool(known.any()) else 0.0
    steps = np.linspace(low, high, max(2, math.ceil(longest / _STEP_PX) + 1)).tolist()
    stack = torch.stack([at(s) for s in steps]).permute(0, 3, 1, 2)
    maps = functional.interpolate(
        stack, size=(grid.size[1], grid.size[0]), mode="bilinear", align_corners=True
    )
    return [height * s / (1 - s) for s in steps], maps.permute(0, 2, 3, 1)


def _structure(rgb: Tensor, known: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Locally normalised grey levels and where they are defined."""
    grey = cv2.cvtColor(rgb.cpu().numpy(), cv2.COLOR_RGB2GRAY) * 255
    window = (_WINDOW, _WINDOW)
    mean = cv2.blur(grey, window)
    variance = np.maximum(cv2.blur(grey * grey, window) - mean * mean, 0)
    whole = cv2.erode(known.cpu().numpy().astype(np.uint8), np.ones(window, np.uint8)) > 0
    return (grey - mean) / np.sqrt(variance + _NOISE_FLOOR**2), whole


def _peak(depths: list[float], scores: list[float]) -> float:
    """Depth of the best score, by a parabola through it and its neighbours."""
    best = int(np.argmax(scores))
    if not 0 < best < len(scores) - 1:
        return depths[best]
    before, at, after = scores[best - 1 : best + 2]
    bend = before - 2 * at + after
    shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
    other = depths[best + (1 if shift > 0 else -1)]
    return depths[best] + abs(shift) * (other - depths[best])
