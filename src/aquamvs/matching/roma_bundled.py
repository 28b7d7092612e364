"""The bundled dense matcher: a compact network in RoMa's form, guided by the calibration.

With guidance the source view is first resampled through a level plane of the scene, which leaves
the relief to be found; coarse matches are sought near their epipolar curves only, and the refined
warp is moved onto them. Without guidance the network sees the views as they are, a homography is
fitted to what it finds, and the network sees the views again, aligned by that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import torch
from torch import Tensor
from torch.nn import functional

from ..pixels import pixel_grid, to_normalized
from ..types import View, Warp
from .alignment import (
    Alignment,
    HomographyAlignment,
    PlaneAlignment,
    WorkingGrid,
    find_plane_depth,
    resample,
)
from .base import DenseMatcher
from .bundled import ROMA_STYLE
from .checkpoints import load_strictly, read_tensors
from .dense_network import (
    COARSE_STRIDE,
    DenseNetwork,
    ImageFeatures,
    ScaleWarp,
    coarse_warp,
    with_neighbours,
)
from .guidance import Guidance
from .polish import polish_motion
from .warps import guide_warp, mask_warp

SMALL_SIDE: Final = 256
"""Longer side of the images in which matching is global, px."""

_LARGE_SIDE = 800
"""Longest side of the images in which the warp is refined, px; its grid is half as large."""

_MARGIN = 32
"""The margin by which working images reach beyond the reference is a 32nd of their longer side:
relief moves matches that far."""

_REACH_CELLS = 6.0
"""Largest motion that relief leaves after the alignment, coarse cells: a fifth of the image."""

_ACROSS_CELLS = 1.5
"""Largest distance from the epipolar curve, likewise: a cell's size and the calibration's error."""

_LEAST_FIT = 24
"""Matches that must agree with a homography: six times as many as determine it."""

_ZOOMS = (1.0, 3.2, 1.8, 0.55, 0.31)
"""Magnifications of the source view that are tried, in steps that the network bridges; a rig's wide
camera is often three times as wide as the others."""

_ENOUGH = 1000
"""Matches that agree with a homography where nothing else need be tried: 2 % of a small image."""

_LEAST_AGREEMENT = 0.4
"""Part of the matches that must agree with it."""

_FIT_ERROR_PX = 3.0
"""Error of a match of small images that RANSAC accepts, px: relief is no error."""

_TEXTURE_REACH = 7
"""Distance, px, within which there must be some texture."""

_LEAST_CONTRAST = 1.5 / 255
"""Range of grey levels below which there is none: rounding alone makes one level."""

_STEEPEST = 0.66
"""Depth over ray depth of the flattest ray under water: light from the horizon refracts to that."""


@dataclass(frozen=True, slots=True)
class _Images:
    """The reference and the aligned source image: RGB, (H, W, 3), and what they show, (H, W)."""

    rgb: tuple[Tensor, Tensor]
    masks: tuple[Tensor, Tensor]


class BundledRomaMatcher(DenseMatcher):
    """The bundled network on undistorted views.

    Args:
        network: With its weights.
        guidance: Depth range, and distance from the epipolar curve beyond which a match has no
            certainty; None does without the calibration.
        device: Where the network runs.

    Example:
        >>> from aquamvs.matching import create_matcher
        >>> matcher = create_matcher("roma")
        >>> type(matcher).__name__, matcher.label
        ('BundledRomaMatcher', 'RoMa-style (bundled)')
    """

    def __init__(
        self,
        network: DenseNetwork,
        *,
        guidance: Guidance | None,
        device: str | torch.device = "cpu",
    ) -> None:
        self._network, self.guidance = network, guidance
        self.device = torch.device(device)
        self.label = ROMA_STYLE

    @torch.no_grad()
    def match(self, reference: View, source: View) -> Warp:
        """Correspondence and certainty on a grid of half the working resolution."""
        alignment: Alignment
        if self.guidance is None:
            alignment = self._fit_homography(reference, source)
        else:
            alignment = plane_alignment(reference, source, self.guidance)
        small = _grid(reference.size, SMALL_SIDE)
        at = self._match_globally(reference, source, small, alignment, _reachable(small, alignment))
        large = _grid(reference.size, max(SMALL_SIDE, min(_LARGE_SIDE, max(reference.size))))
        images = _aligned(reference, source, large, alignment)
        start = _restart(with_neighbours(at), small, large)
        at = self._network.refine(*self._features(images), start)[-1]
        at = _where_textured(_polished(at, images), images)
        warp = self._to_warp(at, large, alignment, reference, source)
        if isinstance(alignment, PlaneAlignment) and self.guidance is not None:
            depth = alignment.ray_depth(warp.reference_pixels())
            warp = guide_warp(warp, reference, source, self.guidance, start_depth=depth)
        return mask_warp(warp, reference, source)

    def _fit_homography(self, reference: View, source: View) -> HomographyAlignment:
        """From what the network finds in the whole views; the whole views if that is too little.

        Where little is found, the source is also seen enlarged and shrunk, and what is found then
        is matched once more from the homography that it gives.
        """
        best, most = HomographyAlignment.whole(reference.size, source.size), 0
        for zoom in _ZOOMS:
            start = HomographyAlignment.whole(reference.size, source.size, zoom=zoom)
            found, count = self._improved(reference, source, start)
            if count > most:
                best, most = found, count
            if most > _ENOUGH:
                return best
        return self._improved(reference, source, best)[0] if most else best

    def _improved(
        self, reference: View, source: View, start: HomographyAlignment
    ) -> tuple[HomographyAlignment, int]:
        """A homography of what is found from a start, and how many matches agree with it."""
        grid = _grid(reference.size, SMALL_SIDE)
        at = self._match_globally(reference, source, grid, start, None)
        found = at.logit[0].cpu() > 0
        own = _cell_pixels(grid, at)[found]
        other = start.into_source(_target_pixels(grid, at)[found])
        return fit_homography(own, other, source.size) or (start, 0)

    def _match_globally(
        self,
        reference: View,
        source: View,
        grid: WorkingGrid,
        alignment: Alignment,
        reachable: Tensor | None,
    ) -> ScaleWarp:
        """Coarse matches of small images, among reachable cells only, and their refinement."""
        own, other = self._features(_aligned(reference, source, grid, alignment))
        logits, _ = self._network.coarse(own.maps[2], other.maps[2])
        if reachable is not None:
            barred = ~reachable.to(logits.device)
            logits[:, :, :-1] = logits[:, :, :-1].masked_fill(barred, -torch.inf)
        rows, columns = own.maps[2].shape[2:]
        start = with_neighbours(coarse_warp(logits, (columns, rows)))
        return self._network.refine(own, other, start)[-1]

    def _features(self, images: _Images) -> tuple[ImageFeatures, ImageFeatures]:
        """Features of the reference and of the aligned source image."""
        batch = torch.stack([image.permute(2, 0, 1) for image in images.rgb]).to(self.device)
        maps = self._network.encoder(batch, torch.stack(images.masks).to(self.device)).maps
        half, quarter, eighth = maps
        own, other = (
            ImageFeatures((half[k], quarter[k], eighth[k])) for k in (slice(0, 1), slice(1, 2))
        )
        return own, other

    def _to_warp(
        self,
        at: ScaleWarp,
        grid: WorkingGrid,
        alignment: Alignment,
        reference: View,
        source: View,
    ) -> Warp:
        """A warp on a working grid, without its margin, in pixels of the views."""
        beyond = grid.margin // at.stride
        inner = slice(beyond, -beyond)
        target = alignment.into_source(_target_pixels(grid, at)[inner, inner])
        shift = self._network.certainty_shift[0 if self.guidance is None else 1]
        certainty = torch.sigmoid(at.logit[0, inner, inner] - shift)
        device = reference.image.device
        return Warp(
            reference.name, source.name, target.to(device), certainty.to(device), reference.size
        )


def _aligned(reference: View, source: View, grid: WorkingGrid, alignment: Alignment) -> _Images:
    """Both images on a grid of the reference."""
    pixels = grid.all_pixels()
    own, own_mask = resample(reference, pixels)
    other, other_mask = resample(source, alignment.into_source(pixels))
    return _Images((own, other), (own_mask, other_mask))


def _polished(at: ScaleWarp, images: _Images) -> ScaleWarp:
    """A warp of cells of 2 x 2 px made exact on the images."""
    rows, columns = at.logit.shape[1:]
    grid = pixel_grid((columns, rows), device=at.warp.device)
    motion = polish_motion(*images.rgb, at.stride * (at.warp[0] - grid))
    return replace(at, warp=(grid + motion / at.stride)[None])


def _where_textured(at: ScaleWarp, images: _Images) -> ScaleWarp:
    """A warp without certainty where either image is constant: sameness is then no evidence."""
    constant = torch.zeros_like(at.logit, dtype=torch.bool)
    for image in images.rgb:
        grey = image.mean(-1)[None, None].to(at.logit.device)
        constant |= _local_range(grey, at.stride)[:, 0] < _LEAST_CONTRAST
    return replace(at, logit=at.logit.masked_fill(constant, -torch.inf))


def _local_range(values: Tensor, stride: int) -> Tensor:
    """Largest less smallest value around cells, shape (B, C, H, W) -> (B, C, h, w)."""
    side, reach = 2 * _TEXTURE_REACH + stride, _TEXTURE_REACH

    def highest(maps: Tensor) -> Tensor:
        across = functional.max_pool2d(maps, (1, side), (1, stride), (0, reach))
        return functional.max_pool2d(across, (side, 1), (stride, 1), (reach, 0))

    return highest(values) + highest(-values)


def plane_alignment(reference: View, source: View, guidance: Guidance) -> PlaneAlignment:
    """The level plane through which two views look most alike."""
    depth_range = guidance.depth_range
    if depth_range is not None:
        depth_range = (_STEEPEST * depth_range[0], depth_range[1])
    depth = find_plane_depth(reference, source, depth_range)
    return PlaneAlignment(reference.model, source.model, depth)


def fit_homography(
    pixels: Tensor, targets: Tensor, size: tuple[int, int]
) -> tuple[HomographyAlignment, int] | None:
    """The homography of most matches, by RANSAC (OpenCV's, which repeats itself).

    Args:
        pixels: Of the reference view, shape (N, 2).
        targets: Of the source view, shape (N, 2).
        size: (width, height) of the source view.

    Returns:
        The homography and the number of matches that agree with it; None where they are too few, or
        too small a part, to be no accident.
    """
    if len(pixels) < _LEAST_FIT:
        return None
    tolerance = _FIT_ERROR_PX * max(size) / SMALL_SIDE
    matrix, agree = cv2.findHomography(pixels.numpy(), targets.numpy(), cv2.RANSAC, tolerance)
    if matrix is None or agree.sum() < max(_LEAST_FIT, _LEAST_AGREEMENT * len(agree)):
        return None
    return HomographyAlignment(torch.from_numpy(matrix)), int(agree.sum())


def load_bundled_roma(weights: Path, *, device: str | torch.device = "cpu") -> DenseNetwork:
    """The bundled dense network with the weights of a local file.

    Args:
        weights: Safetensors file that ``python -m aquamvs.training dense`` wrote.
        device: Where it runs.

    Returns:
        The network in evaluation mode, float32.

    Raises:
        WeightsError: The file is no complete checkpoint of this network.
    """
    network = DenseNetwork()
    load_strictly(network, read_tensors(weights), path=weights, model="the bundled RoMa-style net")
    for parameter in network.parameters():
        if parameter.dim() == 4:  # convolutions take less time with the channels last
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network.eval().to(device)


def _grid(view_size: tuple[int, int], side: int) -> WorkingGrid:
    """About ``side`` cells along the longer side of a view, and a margin; whole coarse cells."""
    scale = side / max(view_size) / COARSE_STRIDE
    width, height = (max(4, round(length * scale)) * COARSE_STRIDE for length in view_size)
    margin = max(1, round(side / _MARGIN / COARSE_STRIDE)) * COARSE_STRIDE
    return WorkingGrid.over(view_size, (width, height), margin)


def _places(cells: Tensor, stride: int) -> Tensor:
    """Places on the full grid of cells of a scale."""
    places: Tensor = stride * cells + (stride - 1) / 2
    return places


def _cell_pixels(grid: WorkingGrid, at: ScaleWarp) -> Tensor:
    """Reference pixels of a warp's cells, shape (h, w, 2)."""
    rows, columns = at.logit[0].shape
    return grid.pixels(_places(pixel_grid((columns, rows)), at.stride))


def _target_pixels(grid: WorkingGrid, at: ScaleWarp) -> Tensor:
    """Where they lie in the aligned source image, reference pixels, shape (h, w, 2)."""
    return grid.pixels(_places(at.warp[0].cpu(), at.stride))


def _reachable(grid: WorkingGrid, alignment: Alignment) -> Tensor:
    """Coarse cells that a coarse cell's match may lie in, shape (N, N), bool."""
    columns, rows = (length // COARSE_STRIDE for length in grid.size)
    cells = pixel_grid((columns, rows)).reshape(-1, 2)
    motion = cells[None] - cells[:, None]
    reachable: Tensor = motion.norm(dim=-1) <= _REACH_CELLS
    direction = alignment.curve_direction(grid.pixels(_places(cells, COARSE_STRIDE)))
    if direction is None:
        return reachable
    direction = direction / direction.new_tensor(grid.step)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    across = motion[..., 0] * direction[:, None, 1] - motion[..., 1] * direction[:, None, 0]
    # NaN, where the curve is not known, bars nothing.
    return reachable.logical_and(~(across.abs() > _ACROSS_CELLS))


def _restart(at: ScaleWarp, grid: WorkingGrid, finer: WorkingGrid) -> ScaleWarp:
    """A warp of one grid as the start of refinement on the coarse cells of another."""
    rows, columns = at.logit.shape[1:]
    motion = (_target_pixels(grid, at) - _cell_pixels(grid, at)).to(at.warp.device)
    stack = torch.cat([motion, at.logit[0, ..., None]], -1).permute(2, 0, 1)[None]
    size = (finer.size[0] // COARSE_STRIDE, finer.size[1] // COARSE_STRIDE)
    cells = pixel_grid(size)
    places = grid.cells(finer.pixels(_places(cells, COARSE_STRIDE)))
    where = to_normalized((places - (at.stride - 1) / 2) / at.stride, (columns, rows))
    sampled = functional.grid_sample(
        stack, where[None].to(stack), padding_mode="border", align_corners=False
    )[0].permute(1, 2, 0)
    step = COARSE_STRIDE * sampled.new_tensor(finer.step)
    warp = cells.to(sampled) + sampled[..., :2] / step
    return ScaleWarp(COARSE_STRIDE, warp[None], sampled[None, ..., 2])
