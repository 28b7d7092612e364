"""What the dense network learns from: pairs of patches with the true motion of their cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..datasets.noise import random_stream
from ..matching.alignment import WorkingGrid, plane_transfer, resample
from ..pixels import pixel_grid
from ..types import View
from .data import TrainingScene, TrainingView, change_light, true_warp

WHOLE_SIZE = (256, 192)
"""(width, height) of whole views."""

PATCH_SIZE = (192, 144)
"""(width, height) of aligned patches: cheaper, and relief needs no wider view."""

FINE_STRIDE = 2
"""Pixels per cell of the true motion."""

_WHOLE_EVERY = 3
"""One step in three sees whole views as they are; the others see patches aligned by a plane."""

_STEP = (0.8, 2.5)
"""Range of a patch's pixels in pixels of its view: from enlarged to the whole view."""

_PLANE_ERROR = 0.03
"""Standard deviation of the aligning plane's distance from the cameras, relative."""

_MOST_ROLL_DEG = 35.0
"""Largest relative roll of pairs that are seen as they are."""

_LEAST_SEEN = 0.15
"""Part of the cells that must be visible in the other patch."""

_PROBES = 24


@dataclass(frozen=True, slots=True)
class DenseSample:
    """Two patches.

    Attributes:
        images: RGB of both, shape (2, 3, H, W), float32, [0, 1].
        masks: Where they show anything, shape (2, H, W), bool.
        warps: Where each cell of 2 x 2 px lies in the other patch, in such cells, shape
            (2, H / 2, W / 2, 2), float32; NaN where there is no surface.
        visible: Where it can be seen there, shape (2, H / 2, W / 2), bool.
    """

    images: Tensor
    masks: Tensor
    warps: Tensor
    visible: Tensor


def sees_whole_views(step: int) -> bool:
    """Whether a step of the schedule sees whole views rather than aligned patches."""
    return step % _WHOLE_EVERY == _WHOLE_EVERY - 1


def draw_sample(
    scenes: Sequence[TrainingScene], *, whole: bool, seed: int, step: int, part: int
) -> DenseSample:
    """A sample that depends on its arguments only.

    Args:
        scenes: To draw from.
        whole: Whole views as they are, or patches aligned by a plane.
        seed: Of the run.
        step: Of the schedule.
        part: Within the step.

    Returns:
        The sample; pairs of which too little is visible are drawn again.
    """
    rng = random_stream(seed, "dense sample", step, part)
    while True:
        scene = scenes[int(rng.integers(len(scenes)))]
        pair = scene.pairs[int(rng.integers(len(scene.pairs)))]
        first, second = (scene.views[int(k)] for k in rng.permutation(pair))
        sample = whole_sample(first, second, rng) if whole else patch_sample(first, second, rng)
        if sample is not None and float(sample.visible.float().mean()) > _LEAST_SEEN:
            return sample


def whole_sample(
    first: TrainingView, second: TrainingView, rng: np.random.Generator
) -> DenseSample | None:
    """Both views whole; None where they are rolled too far against each other."""
    centre = torch.tensor([[0.5, 0.5], [0.6, 0.5]]) * torch.tensor(first.size)
    ends, _ = true_warp(first, second, centre)
    across = (ends[1] - ends[0]).tolist()
    # NaN, from a ray that meets nothing, fails the comparison.
    if not abs(math.degrees(math.atan2(across[1], across[0]))) <= _MOST_ROLL_DEG:
        return None
    grids = [WorkingGrid.over(view.size, WHOLE_SIZE) for view in (first, second)]
    fine = [WorkingGrid.over(view.size, _fine(WHOLE_SIZE)) for view in (first, second)]
    images, masks = zip(
        *(
            resample(_lit(view, rng), grid.all_pixels())
            for view, grid in zip((first, second), grids, strict=True)
        ),
        strict=True,
    )
    warps, visible = zip(
        *(
            _truth(one, other, own.all_pixels(), their.cells)
            for one, other, own, their in (
                (first, second, fine[0], fine[1]),
                (second, first, fine[1], fine[0]),
            )
        ),
        strict=True,
    )
    return _sample(images, masks, warps, visible)


def patch_sample(
    first: TrainingView, second: TrainingView, rng: np.random.Generator
) -> DenseSample | None:
    """A patch of the first view and what the second sees of it, resampled through a level plane.

    None where the second view sees none of some places of the first.
    """
    probes = torch.from_numpy(rng.uniform(0.05, 0.95, (_PROBES, 2)) * first.size).float()
    _, seen = true_warp(first, second, probes)
    if not bool(seen.any()):
        return None
    centre = probes[int(seen.int().argmax())]
    step = math.exp(rng.uniform(*np.log(_STEP)))
    corner = centre - step * torch.tensor(PATCH_SIZE) / 2
    depth = _plane_depth(first, centre, step, rng)
    grid = WorkingGrid(PATCH_SIZE, (float(corner[0]), float(corner[1])), (step, step))
    fine = WorkingGrid(
        _fine(PATCH_SIZE),
        (float(corner[0]) + step / 2, float(corner[1]) + step / 2),
        (2 * step, 2 * step),
    )

    def into_second(pixels: Tensor) -> Tensor:
        return plane_transfer(first.model, second.model, pixels, depth)

    def into_cells(pixels: Tensor) -> Tensor:
        return fine.cells(plane_transfer(second.model, first.model, pixels, depth))

    own, other = fine.all_pixels(), into_second(fine.all_pixels())
    pixels = grid.all_pixels()
    image, mask = resample(_lit(first, rng), pixels)
    image_other, mask_other = resample(_lit(second, rng), into_second(pixels))
    warp, visible = _truth(first, second, own, into_cells)
    warp_back, visible_back = _truth(second, first, other, fine.cells)
    return _sample(
        (image, image_other), (mask, mask_other), (warp, warp_back), (visible, visible_back)
    )


def _fine(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] // FINE_STRIDE, size[1] // FINE_STRIDE


def _lit(view: TrainingView, rng: np.random.Generator) -> View:
    return change_light(view, rng).as_view()


def _plane_depth(
    view: TrainingView, centre: Tensor, step: float, rng: np.random.Generator
) -> float:
    """About the depth below the water of what a patch shows, metres."""
    half = step * torch.tensor(PATCH_SIZE) / 2
    u, v = ((torch.linspace(-1, 1, 9) * half[k] + centre[k]).round().long() for k in (0, 1))
    width, height = view.size
    rows, columns = v.clamp(0, height - 1), u.clamp(0, width - 1)
    ray_depth = view.depth[rows][:, columns].double()
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).double()
    _, direction = view.model.cast_ray(pixels)
    below = -(direction @ view.model.normal) * ray_depth
    height_above = float(view.model.camera_height)
    distance = float(below.nanmedian()) + height_above
    return max(distance * (1 + _PLANE_ERROR * rng.normal()) - height_above, 0.02 * height_above)


def _truth(
    one: TrainingView,
    other: TrainingView,
    pixels: Tensor,
    into_cells: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """True place of pixels of a view on the grid of the other, and whether it is seen there."""
    target, visible = true_warp(one, other, pixels)
    cells = into_cells(target)
    return cells, visible & torch.isfinite(cells).all(-1)


def _sample(
    images: Sequence[Tensor],
    masks: Sequence[Tensor],
    warps: Sequence[Tensor],
    visible: Sequence[Tensor],
) -> DenseSample | None:
    """Visible is only what the other patch shows, and what this one shows at all."""
    seen = []
    for own_mask, their_mask, warp, truth in zip(masks, masks[::-1], warps, visible, strict=True):
        rows, columns = truth.shape
        place = warp.nan_to_num(nan=-9.0).round()
        inside = (place >= 0).all(-1) & (place[..., 0] < columns) & (place[..., 1] < rows)
        u, v = place[..., 0].clamp(0, columns - 1).long(), place[..., 1].clamp(0, rows - 1).long()
        theirs = their_mask[1::2, 1::2][v, u]
        seen.append(truth & inside & theirs & own_mask[1::2, 1::2])
    return DenseSample(
        torch.stack([image.permute(2, 0, 1) for image in images]),
        torch.stack(list(masks)),
        torch.stack(list(warps)).float(),
        torch.stack(seen),
    )


def coarser(warp: Tensor, visible: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """True motion on coarser cells: the mean over what is visible of each.

    Args:
        warp: In cells, shape (B, h, w, 2).
        visible: shape (B, h, w).
        factor: Cells per coarser cell, along each axis; divides h and w.

    Returns:
        In coarser cells, shape (B, h / factor, w / factor, 2), and whether half of a cell is
        visible.
    """
    pool = torch.nn.functional.avg_pool2d
    weight = visible[:, None].float()
    rows, columns = visible.shape[1:]
    motion = (warp - pixel_grid((columns, rows), device=warp.device)).nan_to_num(nan=0.0)
    share = pool(weight, factor)
    mean = pool(motion.permute(0, 3, 1, 2) * weight, factor) / share.clamp(min=1e-6) / factor
    grid = pixel_grid((columns // factor, rows // factor), device=warp.device)
    return mean.permute(0, 2, 3, 1) + grid, share[:, 0] >= 0.5
