"""The tile evaluator of CPUs: hands the tiles to the compiled kernels, one tile per thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..numerics.filters import gaussian_taps
from ..numerics.pyramid import LevelView
from ..numerics.sampling_kernels import PADDING
from ..numerics.splines import AFTER, BEFORE
from . import kernels
from .consistency import (
    ENOUGH_WHOLE,
    LEAST_PIXELS_PER_CELL,
    NOISE_FLOOR,
    NORMALISATION_TAPS,
    RESIDUAL_TAPS,
    ROBUST_MARGIN,
    TOLERATED_RESIDUAL,
    USABLE,
)
from .evaluator import COST_MARGIN, COST_WINDOW_TAPS, Pass, sampled_images, scratch_size
from .grid import Grid
from .tiles import Tile
from .visibility import Occlusion

_CONSTANTS = np.array(
    [NOISE_FLOOR, LEAST_PIXELS_PER_CELL**2, USABLE, TOLERATED_RESIDUAL, ENOUGH_WHOLE], np.float32
)
_RESIDUAL_TAPS = np.array(RESIDUAL_TAPS, np.float32)

Floats = NDArray[np.float32]


class FusedEvaluator:
    """Evaluates tiles of one level with compiled code; see :class:`~.evaluator.TileEvaluator`."""

    def __init__(self, views: Sequence[LevelView], *, cubic: bool = False) -> None:
        self.workers = torch.get_num_threads()
        self.device = torch.device("cpu")
        self._sizes = np.array([view.size for view in views], np.int64)
        stored = (self._sizes + PADDING).prod(axis=1)
        self._starts = np.concatenate([[0], stored.cumsum()[:-1]])
        self._images = torch.cat([_padded(image) for image in sampled_images(views, cubic)]).numpy()
        self._cubic = cubic
        self._all_usable = np.array([view.usable is None for view in views])
        self._usable = np.zeros(0, np.uint8)
        if not self._all_usable.all():
            everywhere = torch.full((int(stored.max()),), kernels.WHOLE, dtype=torch.uint8)
            masks = [
                everywhere[:count] if view.usable is None else _padded_mask(view.usable)
                for view, count in zip(views, stored, strict=True)
            ]
            self._usable = torch.cat(masks).numpy()
        self._cameras = torch.stack([view.model.coefficients() for view in views]).float().numpy()
        self._no_occlusion = np.zeros((len(views), 0, 0), np.bool_)
        self._own = threading.local()

    def estimate(
        self,
        grid: Grid,
        tile: Tile,
        z: Tensor,
        occlusion: Occlusion | None,
        plan: Pass,
        step: float,
    ) -> Tensor | None:
        """See :meth:`~.evaluator.TileEvaluator.estimate`."""
        margin = plan.margin + ROBUST_MARGIN
        offsets = (step * (np.arange(plan.hypotheses) - plan.hypotheses // 2)).astype(np.float32)
        taps = np.array(gaussian_taps(plan.window_sigma), np.float32)
        surface = np.ascontiguousarray(z.numpy())
        averaged, weights, rates, seen, own, count = self._evaluate(
            grid, tile, surface, margin, occlusion, offsets, taps, plan.shift, robust=True
        )
        if count < 2:
            return None
        out = np.empty((7, tile.rows, tile.columns), np.float32)
        inner = np.ascontiguousarray(surface[margin:-margin, margin:-margin])
        kernels.fit_tile(averaged, weights, rates, seen, own, count, np.float32(step), inner, out)
        return torch.from_numpy(out)

    def costs(
        self, grid: Grid, tile: Tile, surfaces: Sequence[Tensor], *, robust: bool
    ) -> tuple[Tensor, Tensor]:
        """See :meth:`~.evaluator.TileEvaluator.costs`."""
        shape = (len(surfaces), tile.rows, tile.columns)
        costs, counts = np.full(shape, np.inf, np.float32), np.zeros(shape, np.float32)
        taps, middle = np.array(COST_WINDOW_TAPS, np.float32), np.zeros(1, np.float32)
        for k, z in enumerate(surfaces):
            surface = np.ascontiguousarray(z.numpy())
            averaged, weights, _, seen, _, count = self._evaluate(
                grid, tile, surface, COST_MARGIN, None, middle, taps, 0, robust=robust
            )
            if count >= 2:
                counts[k] = seen[:count].sum(axis=0)
                known = (counts[k] >= 2) & (weights[:count].sum(axis=0) > 1)
                costs[k] = np.where(known, averaged[0], np.inf)
        return torch.from_numpy(costs), torch.from_numpy(counts)

    def _evaluate(
        self,
        grid: Grid,
        tile: Tile,
        surface: Floats,
        margin: int,
        occlusion: Occlusion | None,
        offsets: Floats,
        taps: Floats,
        shift: int,
        *,
        robust: bool,
    ) -> tuple[Floats, Floats, Floats, Floats, Floats, int]:
        views, hypotheses, shape = len(self._sizes), len(offsets), (tile.rows, tile.columns)
        averaged, weights, rates, seen, own = (
            self._output(name, size)
            for name, size in (
                ("averaged", (hypotheses, *shape)),
                ("weights", (views, *shape)),
                ("rates", (views, 2, *shape)),
                ("seen", (views, *shape)),
                ("own", shape),
            )
        )
        needed = scratch_size(surface.size, views, hypotheses)
        blocked = self._no_occlusion if occlusion is None else occlusion.blocked.numpy()
        count = kernels.evaluate_tile(
            self._images,
            self._starts,
            self._sizes,
            self._cubic,
            self._cameras,
            self._usable,
            self._all_usable,
            blocked,
            1 if occlusion is None else occlusion.factor,
            _CONSTANTS,
            surface,
            tile.row - margin,
            tile.column - margin,
            grid.rows,
            grid.columns,
            grid.x0,
            grid.y0,
            grid.spacing,
            offsets,
            taps,
            shift,
            _RESIDUAL_TAPS,
            robust,
            self._output("buffer", (needed,)),
            averaged,
            weights,
            rates,
            seen,
            own,
        )
        return averaged, weights, rates, seen, own, count

    def _output(self, name: str, shape: tuple[int, ...]) -> Floats:
        """Memory of this thread, kept from tile to tile: taking it anew costs page faults."""
        size = math.prod(shape)
        kept: Floats | None = getattr(self._own, name, None)
        if kept is None or kept.size < size:
            kept = np.empty(size, np.float32)
            setattr(self._own, name, kept)
        return kept[:size].reshape(shape)


def _padded(image: Tensor) -> Tensor:
    """An image (1, 1, H, W) as the kernels store it: with a border as wide as a sample reaches."""
    return _bordered(image).flatten()


def _padded_mask(usable: Tensor) -> Tensor:
    """A mask (H, W) as the kernels store it, uint8."""
    mask = _bordered(usable[None, None].float())[0, 0].to(torch.uint8)
    corners = mask[:-1, :-1] & mask[:-1, 1:] & mask[1:, :-1] & mask[1:, 1:]
    mask[:-1, :-1] += corners * (kernels.WHOLE - 1)
    return mask.flatten()


def _bordered(image: Tensor) -> Tensor:
    return torch.nn.functional.pad(image, (BEFORE, AFTER) * 2, mode="replicate")


assert BEFORE + AFTER == PADDING  # noqa: S101
assert len(NORMALISATION_TAPS) == kernels.BOX  # noqa: S101  (the kernels unroll the box)
