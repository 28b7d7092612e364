"""The patch matcher of NVIDIA GPUs: one compiled kernel where tensor operations would be many.

Tensors go in where they lie, on PyTorch's current stream.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numba import cuda
from torch import Tensor

from ..numerics.pyramid import LevelView
from . import cuda_kernels
from .patches import (
    COLOR_SIGMA,
    LEAST_FACING,
    LEAST_WEIGHT,
    NEIGHBOURS,
    NOISE_FLOOR,
    PlaneMap,
    TensorPatchMatcher,
    Trials,
    Window,
    known_gray,
)

MOST_TAPS = cuda_kernels.MOST_TAPS
_THREADS = 128
"""Of a block: few enough that four of them fit the registers of one multiprocessor."""


class CudaPatchMatcher(TensorPatchMatcher):
    """Judges planes with kernels; see :class:`~.patches.PatchMatcher`."""

    def __init__(self, reference: LevelView, sources: Sequence[LevelView], window: Window) -> None:
        super().__init__(reference, sources, window)
        sizes = torch.tensor([source.size for source in sources])
        ends = sizes.prod(dim=1).cumsum(0)
        cameras = torch.stack([source.model.coefficients() for source in sources]).float()
        self._neighbours = self._there(NEIGHBOURS)
        self._views = (
            self._there(known_gray(reference)),
            self._there(self.rays.rays),
            self._there(torch.cat([known_gray(source).flatten() for source in sources])),
            self._there(torch.cat([ends.new_zeros(1), ends[:-1]])),
            self._there(sizes),
            self._there(cameras),
        )

    def _take(self, window: Window) -> None:
        super()._take(window)
        across, down = window.offsets.float().T
        self._window = (
            self._there(window.offsets),
            self._there(window.weights),
            np.float32(1 / COLOR_SIGMA**2),
            np.float32(NOISE_FLOOR),
            self._there(across),
            self._there(down),
            np.float32(window.offsets.abs().max()),
        )

    def costs(self, pixels: Tensor, depth: Tensor, normal: Tensor, active: Tensor) -> Tensor:
        """See :meth:`~.patches.PatchMatcher.costs`."""
        out = depth.new_empty(len(pixels), len(self.sources), len(depth))
        if out.numel() > 0:
            inputs = (self._there(each) for each in (pixels, depth, normal, active))
            self._run(cuda_kernels.plane_costs, (len(pixels), len(depth)), *inputs, _array(out))
        return out

    def improve(
        self,
        planes: PlaneMap,
        pixels: Tensor,
        weights: Tensor,
        trials: Trials,
        depth_range: tuple[float, float],
    ) -> None:
        """See :meth:`~.patches.PatchMatcher.improve`."""
        tried = len(NEIGHBOURS) + len(trials.depth) + len(trials.steps)
        if tried > cuda_kernels.MOST_PLANES:
            super().improve(planes, pixels, weights, trials, depth_range)
            return
        if len(pixels) == 0:
            return
        given = (trials.depth, trials.normal, trials.steps, trials.tilts)
        self._run(
            cuda_kernels.improve,
            (len(pixels), 1),
            self._there(pixels),
            self._there(weights),
            self._neighbours,
            *(self._there(each) for each in given),
            *(np.float32(bound) for bound in (*depth_range, LEAST_WEIGHT, LEAST_FACING)),
            *(_array(each) for each in (planes.depth, planes.normal, planes.cost)),
        )

    def _there(self, values: Tensor) -> Any:
        """Values as the kernels take them; every layout but this would be compiled anew."""
        return _array(values.to(self._gray.device).contiguous())

    def _run(self, kernel: Any, size: tuple[int, int], *arguments: Any) -> None:
        blocks = (-(-size[0] // _THREADS), size[1])
        with _on(self._gray.device) as stream, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Grid size")  # the coarsest level is small
            kernel[blocks, (_THREADS, 1), stream](*self._views, *self._window, *arguments)


def _array(values: Tensor) -> Any:
    """A tensor's memory as kernels take it; the processor's serves numba's simulator."""
    if values.device.type == "cpu":
        return values.numpy()
    with torch.cuda.device(values.device):
        return cuda.as_cuda_array(values, sync=False)


@contextlib.contextmanager
def _on(device: torch.device) -> Iterator[Any]:
    """PyTorch's current stream on a device, as numba takes it."""
    if device.type == "cpu":
        yield 0
        return
    with torch.cuda.device(device):
        handle = torch.cuda.current_stream(device).cuda_stream
        yield cuda.external_stream(handle) if handle else 0
