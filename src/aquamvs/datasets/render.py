"""Images and true depth maps of a scene as a calibrated rig sees it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..calibration import (
    CalibrationData,
    CameraData,
    UndistortionData,
    compute_undistortion_maps,
    undistort_pixels,
)
from ..pixels import pixel_grid
from ..projection import RefractiveProjectionModel
from .appearance import surface_radiance
from .imaging import (
    MARGIN,
    Imaging,
    expose,
    fresnel_transmittance,
    integrate,
    through_water,
)
from .noise import Floats
from .placement import ground_sample_distance
from .scene import Scene
from .solids import Array, Part

_TILE_SAMPLES = 128
"""Side of a tile of samples: small enough for the cache, large enough to outweigh the calls."""

_ROOM = np.float32(0.02)
"""Light from beyond the tank's walls: a dark room."""

Tile = tuple[slice, slice]


def render_view(
    scene: Scene,
    calibration: CalibrationData,
    camera: str,
    *,
    frame: int = 0,
    imaging: Imaging | None = None,
    workers: int = 1,
) -> NDArray[np.uint8]:
    """The image that a camera's file holds.

    Args:
        scene: Scene to render.
        calibration: Rig.
        camera: Name of a camera of the rig.
        frame: Instant.
        imaging: Options of camera and water.
        workers: Threads; the result does not depend on them.

    Returns:
        RGB with lens distortion, shape (H, W, 3).

    Example:
        >>> from aquamvs.datasets import render_view
        >>> image = render_view(scene, rig, "cam0")
        >>> image.shape, image.dtype.name
        ((150, 200, 3), 'uint8')
    """
    imaging = imaging or Imaging()
    radiance = render_radiance(
        scene, calibration, camera, frame=frame, imaging=imaging, workers=workers
    )
    index = list(calibration.cameras).index(camera)
    return expose(radiance, imaging, scene.seed, index, frame)


def render_radiance(
    scene: Scene,
    calibration: CalibrationData,
    camera: str,
    *,
    frame: int = 0,
    imaging: Imaging | None = None,
    workers: int = 1,
    tile: int = _TILE_SAMPLES,
) -> Floats:
    """Linear light on a camera's pixels, before noise, gain and quantisation.

    Args:
        scene: Scene to render.
        calibration: Rig.
        camera: Name of a camera of the rig.
        frame: Instant.
        imaging: Options of camera and water.
        workers: Threads; the result does not depend on them.
        tile: Side of the tiles of samples that are computed at a time; the result does not depend
            on it.

    Returns:
        Linear RGB with lens distortion, shape (H, W, 3).

    Example:
        >>> from aquamvs.datasets import render_radiance
        >>> light = render_radiance(scene, rig, "cam0")
        >>> light.shape, bool(light.min() >= 0)
        ((150, 200, 3), True)
    """
    imaging = imaging or Imaging()
    still = scene.at_frame(frame)
    data = calibration.cameras[camera]
    model = calibration.projection_model(camera)
    s = imaging.supersampling
    width, height = data.image_size
    columns, rows = (width + 2 * MARGIN) * s, (height + 2 * MARGIN) * s
    samples = np.zeros((rows, columns, 3), dtype=np.float32)
    depth = scene.bed.z_range[1] - calibration.water_z
    spacing = ground_sample_distance(calibration, camera, depth) / s

    def fill(part: Tile) -> None:
        # Sample k of pixel p is at p + (k + 0.5) / s - 0.5.
        v, u = ((np.arange(t.start, t.stop) + 0.5) / s - 0.5 - MARGIN for t in part)
        raw = torch.from_numpy(np.stack(np.broadcast_arrays(u, v[:, None]), axis=-1))
        light = _radiance(still, data, model, raw.reshape(-1, 2), imaging, spacing)
        samples[part] = light.reshape(len(v), len(u), 3)

    _for_each(fill, _tiles(rows, columns, tile), workers)
    return integrate(samples, data.image_size, imaging)


def true_depth(
    scene: Scene,
    calibration: CalibrationData,
    camera: str,
    *,
    frame: int = 0,
    workers: int = 1,
    undistortion: UndistortionData | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """True ray depth on a camera's undistorted grid.

    Args:
        scene: Scene.
        calibration: Rig.
        camera: Name of a camera of the rig.
        frame: Instant.
        workers: Threads; the result does not depend on them.
        undistortion: Of that camera, where it is already known.

    Returns:
        Depth along the unit refracted ray from the water surface, shape (H, W), float64, metres,
        NaN where there is no surface; what is hit, shape (H, W), int8 values of
        :class:`~.solids.Part`; and the intrinsics of the grid, shape (3, 3).

    Example:
        >>> from aquamvs.datasets import true_depth
        >>> depth, part, K = true_depth(scene, rig, "cam0")
        >>> tuple(depth.shape), bool(depth.isfinite().all())
        ((150, 200), True)
    """
    still = scene.at_frame(frame)
    data = calibration.cameras[camera]
    K = (undistortion or compute_undistortion_maps(data)).K_new
    model = calibration.projection_model(camera, K)
    width, height = data.image_size
    pixels = pixel_grid((width, height), dtype=torch.float64)
    depth = np.full((height, width), np.nan)
    part = np.full((height, width), int(Part.NONE), dtype=np.int8)

    def fill(tile: Tile) -> None:
        origins, directions = _soa(*model.cast_ray(pixels[tile].reshape(-1, 2)))
        trace = still.trace(origins, directions)
        shape = depth[tile].shape
        depth[tile] = np.where(np.isfinite(trace.distance), trace.distance, np.nan).reshape(shape)
        part[tile] = trace.part.reshape(shape)

    _for_each(fill, _tiles(height, width, _TILE_SAMPLES), workers)
    return torch.from_numpy(depth), torch.from_numpy(part), K


def _radiance(
    still: Scene,
    camera: CameraData,
    model: RefractiveProjectionModel,
    raw: Tensor,
    imaging: Imaging,
    spacing: float,
) -> Floats:
    """Linear light that arrives from raw pixels, shape (N, 3); black beyond the lens."""
    origins, directions = _soa(*model.cast_ray(undistort_pixels(camera, raw)))
    trace = still.trace(origins, directions)
    s = np.where(np.isfinite(trace.distance), trace.distance, 0.0)
    points = origins + s * directions
    light = surface_radiance(still, points, trace, spacing)
    if model.is_refractive:
        light = through_water(light, s, imaging)
        normal = model.normal.numpy()
        cos_water = -(normal[:, None] * directions).sum(axis=0)
        ratio = model.n_water / model.n_air
        cos_air = np.sqrt(np.maximum(1 - ratio**2 * (1 - cos_water**2), 0.0))
        light *= fresnel_transmittance(cos_air, cos_water, model.n_air, model.n_water)[:, None]
    light[trace.part == Part.NONE] = _ROOM
    light[~np.isfinite(directions[2])] = 0
    return light


def _soa(origins: Tensor, directions: Tensor) -> tuple[Array, Array]:
    """Rays of shape (N, 3) as contiguous arrays of shape (3, N)."""
    return np.ascontiguousarray(origins.numpy().T), np.ascontiguousarray(directions.numpy().T)


def _tiles(rows: int, columns: int, side: int) -> Iterator[Tile]:
    for top in range(0, rows, side):
        for left in range(0, columns, side):
            yield (
                slice(top, min(top + side, rows)),
                slice(left, min(left + side, columns)),
            )


def _for_each(task: Callable[[Tile], None], tiles: Iterator[Tile], workers: int) -> None:
    """Run a task for every tile; they write to disjoint parts of the result."""
    if workers <= 1:
        for tile in tiles:
            task(tile)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(task, tiles):
            pass
