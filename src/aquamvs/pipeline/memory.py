"""How much memory a frame will take, from sizes and settings, and how it is made to fit a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import psutil
import torch

from ..errors import ConfigError
from ..matching import MATCHERS
from ..pathways import MatcherType, PipelineMode
from ..projection import RefractiveProjectionModel
from ..surface import TILE_SIDE, tile_memory
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
        bytes_per_view_pixel: Per pixel of the largest view: what serves one view at a time.
        meshing_bytes_per_pixel: Per pixel of all views together, when a cloud becomes a mesh.
        bytes_per_cell: Per cell of the surface sweep's grid.
    """

    process_mb: float
    bytes_per_pixel: float
    bytes_per_view_pixel: float = 0.0
    meshing_bytes_per_pixel: float = 0.0
    bytes_per_cell: float = 0.0


_COSTS = {
    PipelineMode.SPARSE: _Cost(440, 52),
    PipelineMode.FULL: _Cost(470, 55, bytes_per_view_pixel=700, meshing_bytes_per_pixel=118),
    PipelineMode.SURFACE: _Cost(510, 66, bytes_per_cell=78),
}
_NETWORK_MB = {MatcherType.LIGHTGLUE: 100.0, MatcherType.ROMA: 360.0}
"""What a learned matcher with the bundled weights adds to its process, MiB; LightGlue's
several pairs at a time included."""
VIEWS_AT_ONCE = 2
"""Depth maps that are estimated at a time: each takes 700 bytes per pixel meanwhile."""
_SIFT_BYTES_PER_VIEW_PIXEL = 200
"""What SIFT takes beyond the later stages when it searches two views at a time, per pixel of the
largest view. LightGlue's keypoints come from smaller images, which fit in."""
_BYTES_PER_CORRESPONDENCE = 370
"""Of a dense matcher's correspondences while they are triangulated, all pairs together."""
_SHALLOW, _DEEP = 0.05, 0.5
"""Depths of the scene that are assumed where nothing is known, metres. The deeper a scene, the
larger is the area that two cameras see, but the fewer cells of the images' GSD it has: so shallow
where cells are as large as the GSD, and deep where their size is given."""
_TILE_SIDES = (TILE_SIDE, 112, 80, 56, 40)
"""Sizes of the sweep's tiles, the fastest first: a margin of 18 cells on all sides is computed too,
so that tiles of 40 cells take three times the work of their cells."""
_LEAST_WORKERS = 4
"""Tiles shrink so far that so many threads fit. It does not depend on the machine, so that the same
limit gives the same tiles, and the same bytes, everywhere."""


_SMALLER_GRID = "choose a larger reconstruction.grid_resolution or a smaller region_of_interest"
_ENGINE_OF_LESS = "choose pipeline_mode surface, whose tiles shrink, a rig of fewer cameras"
_FEWER_CORRESPONDENCES = "a smaller dense_matching.max_correspondences"


@dataclass(frozen=True, slots=True)
class MemoryPrediction:
    """Memory that one frame's process is expected to take at its peak, and how it is kept to that.

    Attributes:
        peak_mb: The process's largest resident memory, MiB; NaN where it was not predicted.
        limit_mb: ``runtime.max_memory_gb``, MiB; None where it is not set.
        tile_side: Cells along the surface sweep's tiles; None: as suits the device.
        workers: Tiles, or views that get a depth map, that are worked on at a time; None: as many
            as there are threads.
        remedy: What makes a frame take less.

    Example:
        >>> from aquamvs.pipeline import predict_memory
        >>> prediction = predict_memory(inputs)
        >>> prediction.peak_mb > 100, prediction.limit_mb
        (True, None)
        >>> prediction.check()  # no limit is set, so nothing is raised
    """

    peak_mb: float = math.nan
    limit_mb: float | None = None
    tile_side: int | None = None
    workers: int | None = None
    remedy: str = _SMALLER_GRID

    def __str__(self) -> str:
        text = f"a frame will take about {self.peak_mb / 1024:.2f} GiB of memory"
        if self.workers is None:
            return text
        kind, size = "view", ""
        if self.tile_side is not None:
            kind, size = "tile", f" of {self.tile_side} x {self.tile_side} cells"
        number = f"one {kind}" if self.workers == 1 else f"{self.workers} {kind}s"
        return f"{text}, {number}{size} at a time"

    def check(self, *, processes: int = 1) -> None:
        """Refuse a run that would not fit.

        Args:
            processes: Frames that are reconstructed at a time on this machine.

        Raises:
            ConfigError: A frame needs more than the limit, or all together more than the machine
                has.
        """
        if self.limit_mb is not None and self.peak_mb > self.limit_mb:
            enough = math.ceil(100 * self.peak_mb / 1024) / 100
            raise ConfigError(
                f"{self}, more than runtime.max_memory_gb = {self.limit_mb / 1024:g}; "
                f"{self.remedy}, or raise it to {enough:.2f} at least"
            )
        installed_mb = psutil.virtual_memory().total / _MEGABYTE
        if processes * self.peak_mb > installed_mb:
            together = "" if processes == 1 else f", {processes} at a time"
            raise ConfigError(
                f"{self}{together}; this machine has {installed_mb / 1024:.1f} GiB; "
                f"{self.remedy}, or fewer workers"
            )


def predict_memory(inputs: Inputs, *, threads: int | None = None) -> MemoryPrediction:
    """Predict the peak memory of a frame, and choose the tiles that keep it below the limit.

    Args:
        inputs: Of the run.
        threads: Of the frame's process; torch's when absent.

    Returns:
        The prediction, of the processor's memory.

    Example:
        >>> from aquamvs.pipeline import predict_memory
        >>> prediction = predict_memory(inputs)
        >>> prediction.peak_mb > 100, prediction.limit_mb
        (True, None)
    """
    config, cameras = inputs.config, inputs.calibration.cameras
    sizes = [math.prod(camera.image_size) for camera in cameras.values()]
    cost = _COSTS[config.pipeline_mode]
    work = cost.bytes_per_pixel * sum(sizes)
    if (config.pipeline_mode, config.matcher_type) == (PipelineMode.SPARSE, MatcherType.SIFT):
        work += _SIFT_BYTES_PER_VIEW_PIXEL * max(sizes)
    limit = config.runtime.max_memory_gb
    limit_mb = None if limit is None else limit * 1024
    if config.pipeline_mode is not PipelineMode.SURFACE:
        correspondences = _correspondences(inputs)
        matching = _BYTES_PER_CORRESPONDENCE * correspondences
        network = _NETWORK_MB.get(config.matcher_type, 0.0)
        remedy = _ENGINE_OF_LESS
        if correspondences:
            remedy = f"{remedy}, {_FEWER_CORRESPONDENCES}"
        start_mb = cost.process_mb + network + matching / _MEGABYTE
        whole_mb = start_mb + work / _MEGABYTE
        if config.pipeline_mode is PipelineMode.SPARSE:
            return MemoryPrediction(whole_mb, limit_mb, remedy=remedy)
        view_mb = cost.bytes_per_view_pixel * max(sizes) / _MEGABYTE
        workers = 1
        if config.runtime.device == "cpu":
            workers = min(threads or torch.get_num_threads(), VIEWS_AT_ONCE)
        if limit_mb is not None:
            workers = min(workers, max(1, int((limit_mb - whole_mb) / view_mb)))
        meshing_mb = start_mb + cost.meshing_bytes_per_pixel * sum(sizes) / _MEGABYTE
        peak_mb = max(whole_mb + workers * view_mb, meshing_mb)
        return MemoryPrediction(peak_mb, limit_mb, workers=workers, remedy=remedy)
    work += cost.bytes_per_cell * _cells(inputs)
    whole_mb = cost.process_mb + work / _MEGABYTE
    if config.runtime.device != "cpu":  # whose own memory holds the tiles
        return MemoryPrediction(whole_mb, limit_mb)
    return _with_tiles(whole_mb, limit_mb, len(sizes), threads or torch.get_num_threads())


def _with_tiles(
    whole_mb: float, limit_mb: float | None, views: int, threads: int
) -> MemoryPrediction:
    """The largest tiles that fit beside what the images and maps take, and how many at a time."""
    if limit_mb is None:
        tiles_mb = threads * tile_memory(views, TILE_SIDE) / _MEGABYTE
        return MemoryPrediction(whole_mb + tiles_mb, None)
    room_mb = limit_mb - whole_mb
    each_mb = {side: tile_memory(views, side) / _MEGABYTE for side in _TILE_SIDES}
    fitting = (side for side in _TILE_SIDES if _LEAST_WORKERS * each_mb[side] <= room_mb)
    side = next(fitting, _TILE_SIDES[-1])
    workers = min(threads, max(1, int(room_mb / each_mb[side])))
    return MemoryPrediction(whole_mb + workers * each_mb[side], limit_mb, side, workers)


def _correspondences(inputs: Inputs) -> int:
    """Most correspondences of a dense matcher; 0 for a sparse one, whose keypoints are few."""
    config, calibration = inputs.config, inputs.calibration
    if MATCHERS[config.matcher_type].kind == "sparse":
        return 0
    pairs = len(calibration.ring_cameras) * min(
        config.sparse_matching.num_neighbors + len(calibration.auxiliary_cameras),
        len(calibration.cameras) - 1,
    )
    return pairs * config.dense_matching.max_correspondences


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
