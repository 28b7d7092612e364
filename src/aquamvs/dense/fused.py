"""The patch matcher of CPUs: compiled kernels, the pixels shared out among threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..numerics.acceleration import in_parallel, worker_count
from ..numerics.pyramid import LevelView
from . import kernels
from .patches import (
    COLOR_SIGMA,
    LEAST_FACING,
    LEAST_WEIGHT,
    NEIGHBOURS,
    NOISE_FLOOR,
    PlaneMap,
    RayField,
    Trials,
    Window,
    WindowedMatcher,
    known_gray,
)

_CHUNK_PIXELS = 1 << 14
"""Pixels that a thread takes at a time."""


class FusedPatchMatcher(WindowedMatcher):
    """Judges planes with compiled code; see :class:`~.patches.PatchMatcher`."""

    def __init__(self, reference: LevelView, sources: Sequence[LevelView], window: Window) -> None:
        self.rays = RayField.cast(reference)
        self.sources = sources
        sizes = np.array([source.size for source in sources], np.int64).reshape(-1, 2)
        ends = sizes.prod(axis=1).cumsum()
        cameras = torch.stack([source.model.coefficients() for source in sources])
        self._workers = worker_count(reference.gray)
        self._views = (
            known_gray(reference).contiguous().numpy(),
            self.rays.rays.contiguous().numpy(),
            torch.cat([known_gray(source).flatten() for source in sources]).numpy(),
            np.concatenate([[0], ends[:-1]]),
            sizes,
            cameras.float().numpy(),
        )
        self._take(window)

    def _take(self, window: Window) -> None:
        self._window = (
            window.offsets.numpy(),
            window.weights.numpy(),
            np.float32(1 / COLOR_SIGMA**2),
            np.float32(NOISE_FLOOR),
        )

    def costs(self, pixels: Tensor, depth: Tensor, normal: Tensor, active: Tensor) -> Tensor:
        """See :meth:`~.patches.PatchMatcher.costs`."""
        out = np.empty((len(pixels), len(self.sources), len(depth)), np.float32)
        at, asked = pixels.numpy(), active.numpy()
        depths, normals = depth.numpy(), normal.numpy()

        def judge(part: slice) -> None:
            kernels.plane_costs(
                *self._views,
                *self._window,
                at[part],
                np.ascontiguousarray(depths[:, part]),
                np.ascontiguousarray(normals[:, part]),
                np.ascontiguousarray(asked[part]),
                out[part],
            )

        self._share_out(judge, len(pixels))
        return torch.from_numpy(out)

    def improve(
        self,
        planes: PlaneMap,
        pixels: Tensor,
        weights: Tensor,
        trials: Trials,
        depth_range: tuple[float, float],
    ) -> None:
        """See :meth:`~.patches.PatchMatcher.improve`."""
        maps = (planes.depth.numpy(), planes.normal.numpy(), planes.cost.numpy())
        at, shares, neighbours = pixels.numpy(), weights.numpy(), NEIGHBOURS.numpy()
        depth, normal = trials.depth.numpy(), trials.normal.numpy()
        steps, tilts = trials.steps.numpy(), trials.tilts.numpy()
        near, far = depth_range

        def improve(part: slice) -> None:
            kernels.improve(
                *self._views,
                *self._window,
                at[part],
                shares,
                neighbours,
                depth,
                normal,
                np.ascontiguousarray(steps[:, part]),
                np.ascontiguousarray(tilts[:, part]),
                np.float32(near),
                np.float32(far),
                np.float32(LEAST_WEIGHT),
                np.float32(LEAST_FACING),
                *maps,
            )

        self._share_out(improve, len(pixels))

    def _share_out(self, work: Callable[[slice], None], count: int) -> None:
        parts = [slice(i, i + _CHUNK_PIXELS) for i in range(0, count, _CHUNK_PIXELS)]
        for _ in in_parallel(work, parts, self._workers):
            pass
