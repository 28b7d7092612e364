"""Synchronised frames of a rig: one image folder or one video per camera."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..calibration import CalibrationData
from ..errors import ConfigError, DataError
from ..numerics.acceleration import in_parallel, operation_workers
from ..types import FrameSet
from .alignment import Alignment, align
from .images import without_warnings
from .sources import FrameSource, ImageFolder, is_image
from .video import VIDEO_SUFFIXES, VideoFile

_LOGGER = logging.getLogger(__name__)

_IMAGES_AT_ONCE = 4
"""Each is held twice while it is decoded: as integers and as float32."""


@dataclass(frozen=True, slots=True)
class FrameSources:
    """The sources of all cameras of a rig, checked against its calibration.

    Attributes:
        sources: Camera name to source, in the calibration's order.
        alignment: Which of their images belong to one instant.

    Example:
        >>> list(inputs.sources.sources), inputs.sources.read_frame(0).index
        (['cam0', 'cam1', 'cam2', 'cam3', 'cam4'], 0)
    """

    sources: dict[str, FrameSource]
    alignment: Alignment

    @property
    def frame_count(self) -> int:
        """Number of instants."""
        return len(self.alignment.labels)

    def read_frame(self, index: int) -> FrameSet:
        """Images of all cameras at one instant.

        Args:
            index: Number of the instant, from 0.

        Raises:
            DataError: No such frame, a camera without an image of it, or one that cannot be used.
        """
        if not 0 <= index < self.frame_count:
            raise DataError(f"there is no frame {index}; expected 0 to {self.frame_count - 1}")

        def read(name: str) -> Tensor:
            source, own = self.sources[name], self.alignment.indices[name][index]
            if own is None:
                label = self.alignment.labels[index]
                raise DataError(f"frame {index}: camera {name} has no {label} in {source.path}")
            return source.read(own)

        workers = operation_workers(torch.device("cpu"), _IMAGES_AT_ONCE)
        with without_warnings():
            images = list(in_parallel(read, self.sources, workers))
        return FrameSet(index, dict(zip(self.sources, images, strict=True)))


def open_sources(
    camera_input_map: Mapping[str, str | Path], calibration: CalibrationData
) -> FrameSources:
    """Open every camera's images or video and check them before any work starts.

    Args:
        camera_input_map: Camera name to image folder or video file.
        calibration: The rig; the map must name exactly its cameras.

    Returns:
        The sources, in the calibration's order. Sizes of later images of a folder are checked when
        they are read.

    Raises:
        ConfigError: A camera is missing from the map or from the calibration, or a name is no plain
            name.
        DataError: A path does not exist or cannot be read, an image has another size than the
            calibration, or nothing says which images belong together.

    Example:
        >>> from aquamvs.calibration import load_calibration_data
        >>> from aquamvs.datasets import make_example
        >>> from aquamvs.io import open_sources
        >>> folder = make_example("example", scale="tiny")
        >>> rig = load_calibration_data(folder / "calibration.json")
        >>> sources = open_sources({name: folder / "images" / name for name in rig.cameras}, rig)
        >>> frame = sources.read_frame(0)
        >>> len(frame.images), tuple(frame.images["cam0"].shape)
        (5, (150, 200, 3))
    """
    for name in camera_input_map:
        if name not in calibration.cameras:
            raise ConfigError(
                f"camera_input_map names camera {name!r}, which the calibration does not have (it "
                f"has {', '.join(calibration.cameras)}); remove it or calibrate it"
            )
    for name in calibration.cameras:
        if name not in camera_input_map:
            raise ConfigError(
                f"calibrated camera {name!r} has no entry in camera_input_map; add its image "
                "folder or video, or remove the camera from the calibration"
            )
    sources = {
        name: open_source(camera_input_map[name], f"camera {name}: ")
        for name in calibration.cameras
    }
    for name, source in sources.items():
        expected = calibration.cameras[name].image_size
        if source.size != expected:
            raise DataError(
                f"camera {name}: images in {source.path} are {source.size[0]} x {source.size[1]}; "
                f"the calibration is for {expected[0]} x {expected[1]}"
            )
    alignment = align(sources)
    for note in alignment.notes:
        _LOGGER.warning("%s", note)
    return FrameSources(sources, alignment)


def open_source(location: str | Path, prefix: str = "") -> FrameSource:
    """Open an image folder or a video.

    Args:
        location: Its path.
        prefix: Of messages: whose it is.

    Raises:
        DataError: It does not exist, or is neither of them.

    Example:
        >>> from aquamvs.io import open_source
        >>> source = open_source(folder / "images" / "cam0")
        >>> source.frame_count, source.size
        (1, (200, 150))
    """
    path = Path(location)
    try:
        folder, there = path.is_dir(), path.exists()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise DataError(f"{prefix}cannot read {path}: {error.strerror}") from None
    if folder:
        return ImageFolder(path)
    if not there:
        raise DataError(f"{prefix}{path} does not exist; expected an image folder or a video file")
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise DataError(
            f"{prefix}{path} is no image folder and no video (known are "
            f"{', '.join(sorted(VIDEO_SUFFIXES))})"
        )
    return VideoFile(path)


def list_sources(folder: Path) -> list[Path]:
    """Videos and folders of images that a folder holds, by name; hidden ones are left out.

    Raises:
        DataError: It, or a folder in it, may not be read.
    """
    try:
        return [
            entry
            for entry in sorted(folder.iterdir())
            if not entry.name.startswith(".")
            and (
                any(map(is_image, entry.iterdir()))
                if entry.is_dir()
                else entry.suffix.lower() in VIDEO_SUFFIXES and entry.is_file()
            )
        ]
    except OSError as error:
        raise DataError(f"cannot list {folder}: {error.strerror or error}") from None
