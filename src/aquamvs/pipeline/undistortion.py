"""The first stage: from raw images to undistorted views with their projection models."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..calibration import (
    CalibrationData,
    CameraData,
    UndistortionData,
    compute_undistortion_maps,
    undistort_image,
)
from ..errors import DataError
from ..numerics.acceleration import in_parallel, operation_workers
from ..types import FrameSet, UndistortedViews, View

_VIEWS_AT_ONCE = 4
"""Each takes three copies of its image meanwhile."""


def undistortion_maps(calibration: CalibrationData) -> dict[str, UndistortionData]:
    """Maps of every camera; they serve all frames of a run.

    Example:
        >>> from aquamvs.pipeline import undistortion_maps
        >>> maps = undistortion_maps(rig)
        >>> maps["cam0"].map_x.shape
        (150, 200)
    """
    workers = operation_workers(torch.device("cpu"), _VIEWS_AT_ONCE)
    maps = in_parallel(compute_undistortion_maps, calibration.cameras.values(), workers)
    return dict(zip(calibration.cameras, maps, strict=True))


def undistort_views(
    frames: FrameSet,
    calibration: CalibrationData,
    maps: Mapping[str, UndistortionData],
    masks: Mapping[str, Tensor] | None = None,
    *,
    device: str | torch.device = "cpu",
) -> UndistortedViews:
    """Remove lens distortion and attach each camera's refractive model.

    Args:
        frames: One instant; images of exactly the calibrated cameras.
        calibration: The rig.
        maps: From :func:`undistortion_maps`.
        masks: Camera name to what may be used, shape (H, W), bool, undistorted space; cameras
            without an entry are used whole.
        device: Where the views go.

    Returns:
        Views in the calibration's order.

    Raises:
        DataError: A camera has no image, or an image has another size than the calibration.

    Example:
        >>> from aquamvs.pipeline import undistort_views, undistortion_maps
        >>> maps = undistortion_maps(rig)
        >>> views = undistort_views(inputs.sources.read_frame(0), rig, maps)
        >>> views.names, views["cam0"].size
        (('cam0', 'cam1', 'cam2', 'cam3', 'cam4'), (200, 150))
    """

    def undistorted(camera: CameraData) -> View:
        name = camera.name
        if name not in frames.images:
            raise DataError(f"frame {frames.index} has no image of camera {name}")
        try:
            image = undistort_image(frames.images[name].numpy(), maps[name])
        except DataError as error:
            raise DataError(f"frame {frames.index}, camera {name}: {error}") from None
        mask = maps[name].inside
        if masks is not None and name in masks:
            mask = mask & masks[name]
        return View(
            name,
            torch.from_numpy(image).clamp_(0, 1).to(device),
            mask.to(device),
            calibration.projection_model(name, maps[name].K_new).to(device),
            camera.is_auxiliary,
        )

    workers = operation_workers(torch.device("cpu"), _VIEWS_AT_ONCE)
    views = in_parallel(undistorted, calibration.cameras.values(), workers)
    return UndistortedViews(frames.index, tuple(views))
