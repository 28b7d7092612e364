"""How much memory a frame will take, from sizes and settings, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from ..errors import ConfigError
from ..pathways import PipelineMode
from ..projection import RefractiveProjectionModel
from ..surface.grid import footprint, median_gsd
from ..types import View
from .inputs import Inputs

_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class _Cost:
    """What makes up the peak; measured by benchmarks/memory_prediction.py.

    Attributes:
        process_mb: A process that has loaded its packages and kernels, and no image, MiB.
        bytes_per_pixel: Per pixel of all views together: float32 images (12 bytes) and their like.
        bytes_per_cell: Per cell of the surface sweep's grid.
    """

    process_mb: float
    bytes_per_pixel: float
    bytes_per_cell: float = 0.0


_COSTS = {
    PipelineMode.SPARSE: _Cost(300, 40),
    PipelineMode.FULL: _Cost(300, 190),
    PipelineMode.SURFACE: _Cost(410, 70, 85),
}
_SHALLOW, _DEEP = 0.05, 0.5
"""Depths of the scene that are assumed where nothing is known, metres. The deeper a scene, the
larger is the area that two cameras see, but the fewer cells of the images' GSD it has: so shallow
where cells are as large as the GSD, and deep where their size is given."""


@dataclass(frozen=True, slots=True)
class MemoryPrediction:
    """Memory that one frame's process is expected to take at its peak.

    Attributes:
        peak_mb: The process's largest resident memory, MiB.
        limit_mb: ``runtime.max_memory_gb``, MiB; None where it is not set.
    """

    peak_mb: float
    limit_mb: float | None

    def __str__(self) -> str:
        return f"a frame will take about {self.peak_mb / 1024:.1f} GiB of memory"

    def check(self, *, processes: int = 1) -> None:
        """Refuse a run that would not fit.

        Args:
            processes: Frames that are reconstructed at a time on this machine.

        Raises:
            ConfigError: A frame needs more than the limit, or all together more than the machine
                has.
        """
        remedy = "choose a larger reconstruction.grid_resolution or a smaller region_of_interest"
        if self.limit_mb is not None and self.peak_mb > self.limit_mb:
            raise ConfigError(
                f"{self}, more than runtime.max_memory_gb = {self.limit_mb / 1024:g}; {remedy}, or "
                "raise it"
            )
        installed_mb = psutil.virtual_memory().total / _MEGABYTE
        if processes * self.peak_mb > installed_mb:
            together = "" if processes == 1 else f", {processes} at a time"
            raise ConfigError(
                f"{self}{together}; this machine has {installed_mb / 1024:.1f} GiB; {remedy}, or "
                "fewer workers"
            )


def predict_memory(inputs: Inputs) -> MemoryPrediction:
    """Predict the peak memory of a frame.

    Args:
        inputs: Of the run.

    Returns:
        The prediction, of the processor's memory; a learned matcher's network comes on top.
    """
    config, cameras = inputs.config, inputs.calibration.cameras
    pixels = sum(camera.image_size[0] * camera.image_size[1] for camera in cameras.values())
    cost = _COSTS[config.pipeline_mode]
    peak = cost.bytes_per_pixel * pixels
    if cost.bytes_per_cell:
        peak += cost.bytes_per_cell * _cells(inputs)
    limit = config.runtime.max_memory_gb
    return MemoryPrediction(
        cost.process_mb + peak / _MEGABYTE, None if limit is None else limit * 1024
    )


def _cells(inputs: Inputs) -> float:
    """Cells of the surface sweep's grid, or somewhat more."""
    section, calibration = inputs.config.reconstruction, inputs.calibration
    views = [
        _empty_view(name, camera.image_size, calibration.projection_model(name))
        for name, camera in calibration.cameras.items()
    ]
    depth = _SHALLOW if section.grid_resolution is None else _DEEP
    z = calibration.water_z + depth
    heights = section.height_range or (z, z)
    box = section.region_of_interest or footprint(views, heights)
    spacing = section.grid_resolution or median_gsd(views, heights[0])
    return (box[2] - box[0]) * (box[3] - box[1]) / spacing**2


def _empty_view(name: str, size: tuple[int, int], model: RefractiveProjectionModel) -> View:
    """A view of which only the geometry matters; its pixels share one number."""
    width, height = size
    image = torch.zeros(1, 1, 1).expand(height, width, 3)
    return View(name, image, torch.ones(1, 1, dtype=torch.bool).expand(height, width), model)
