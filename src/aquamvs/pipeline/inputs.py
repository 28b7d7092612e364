"""Everything that a run reads, opened and checked before any work starts."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..calibration import CalibrationData, UndistortionData, load_calibration_data
from ..config import PipelineConfig
from ..errors import ConfigError, DataError
from ..files import check_folder
from ..io import FrameSources, open_sources, read_mask
from ..types import UndistortedViews
from .colors import normalize_colors
from .undistortion import undistort_views, undistortion_maps


@dataclass(frozen=True, slots=True)
class Inputs:
    """The checked inputs of a run.

    Attributes:
        config: As given, with absolute paths.
        calibration: The rig.
        sources: Images or videos of every camera.
        masks: Camera name to mask, shape (H, W), bool.
        maps: Undistortion of every camera.
        fingerprint: Hash of configuration, calibration and masks: results of equal fingerprints
            and images are equal.

    Example:
        >>> from aquamvs.pipeline import open_inputs
        >>> inputs = open_inputs(config)
        >>> list(inputs.frames()), inputs.read_views(0).names
        ([0], ('cam0', 'cam1', 'cam2', 'cam3', 'cam4'))
    """

    config: PipelineConfig
    calibration: CalibrationData
    sources: FrameSources
    masks: dict[str, Tensor]
    maps: dict[str, UndistortionData]
    fingerprint: str

    def frames(self) -> range:
        """Frames that the configuration selects.

        Raises:
            ConfigError: It selects none.
        """
        section = self.config.preprocessing
        count = self.sources.frame_count
        stop = count if section.frame_stop is None else min(section.frame_stop, count)
        frames = range(section.frame_start, stop, section.frame_step)
        if not frames:
            raise ConfigError(
                f"preprocessing.frame_start is {section.frame_start}, but the input has {count} "
                "frames; choose a smaller one"
            )
        return frames

    def read_views(self, frame: int) -> UndistortedViews:
        """Read one frame and undistort it.

        Raises:
            DataError: The frame does not exist or one of its images cannot be used.
        """
        if not 0 <= frame < self.sources.frame_count:
            raise DataError(
                f"frame {frame} does not exist; the input has frames 0 to "
                f"{self.sources.frame_count - 1}"
            )
        images = self.sources.read_frame(frame)
        section = self.config.preprocessing
        if section.color_norm_enabled:
            images = normalize_colors(images, section.color_norm_method)
        return undistort_views(
            images, self.calibration, self.maps, self.masks, device=self.config.runtime.device
        )


def open_inputs(config: PipelineConfig) -> Inputs:
    """Open and check everything that a run needs.

    Args:
        config: With absolute paths (as ``PipelineConfig.from_yaml`` gives).

    Returns:
        The inputs.

    Raises:
        CalibrationError: See :func:`~aquamvs.calibration.load_calibration_data`.
        ConfigError: Cameras of configuration and calibration differ, or the device is not there.
        DataError: Images, videos, masks or the output folder cannot be used.

    Example:
        >>> from aquamvs.pipeline import open_inputs
        >>> inputs = open_inputs(config)
        >>> list(inputs.maps)
        ['cam0', 'cam1', 'cam2', 'cam3', 'cam4']
    """
    _check_device(config.runtime.device)
    calibration = load_calibration_data(config.calibration_path)
    sources = open_sources(config.camera_input_map, calibration)
    masks, mask_files = _read_masks(config.mask_dir, calibration)
    _check_writable(config.output_dir)
    digest = hashlib.sha256(config.hash().encode())
    for path in (config.calibration_path, *mask_files):
        digest.update(path.read_bytes())
    return Inputs(
        config=config,
        calibration=calibration,
        sources=sources,
        masks=masks,
        maps=undistortion_maps(calibration),
        fingerprint=digest.hexdigest()[:16],
    )


def _check_device(device: str) -> None:
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"runtime.device is {device}, but this machine has no usable CUDA device; set it to cpu"
        )
    number = int(device.partition(":")[2] or 0)
    if number and number >= torch.cuda.device_count():
        raise ConfigError(
            f"runtime.device is {device}, but this machine has {torch.cuda.device_count()} CUDA "
            "devices, which count from 0"
        )


def _read_masks(
    folder: Path | None, calibration: CalibrationData
) -> tuple[dict[str, Tensor], list[Path]]:
    if folder is None:
        return {}, []
    check_folder(folder, "mask_dir")
    masks, files = {}, []
    for name, camera in calibration.cameras.items():
        path = folder / f"{name}.png"
        if path.exists():
            masks[name] = read_mask(path, camera.image_size)
            files.append(path)
    if not masks:
        raise DataError(
            f"mask_dir {folder} holds no mask of any camera; expected files named <camera>.png"
        )
    return masks, files


def _check_writable(folder: Path) -> None:
    """The nearest existing parent decides; nothing is created yet."""
    parent = folder
    while not os.path.lexists(parent):
        parent = parent.parent
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK | os.X_OK):
        raise DataError(
            f"output_dir {folder} cannot be written ({parent} is not a writable folder)"
        )
