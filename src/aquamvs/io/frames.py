"""Synchronised frames of a rig: one image folder or one video per camera."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from ..calibration import CalibrationData
from ..errors import ConfigError, DataError
from ..files import check_file
from ..types import FrameSet
from .images import MAX_PIXELS, image_size, read_image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".mpeg", ".webm"})

_MAX_VIDEO_BYTES = 1 << 42
_MAX_SEEK_READ = 64
"""Frames that are read and dropped rather than sought: seeking decodes from the last key frame."""


class FrameSource(Protocol):
    """The frames of one camera."""

    @property
    def path(self) -> Path:
        """The folder or file."""

    @property
    def frame_count(self) -> int:
        """Number of frames."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the first frame."""

    def read(self, index: int) -> Tensor:
        """RGB image of a frame, shape (H, W, 3), float32 in [0, 1]."""


class ImageFolder:
    """A folder with one image per frame, in natural order of their names.

    Args:
        path: Folder with PNG, JPEG or TIFF files; other files are ignored.

    Raises:
        DataError: The folder holds no image, or its first image cannot be read.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            files = [f for f in self._path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES]
        except OSError as error:
            raise DataError(f"cannot list folder {path}: {error.strerror or error}") from None
        # Hidden files are left out: systems and this library's own writer use them as temporaries.
        self._files = sorted(
            (f for f in files if not f.name.startswith(".")), key=lambda f: _natural_key(f.name)
        )
        if not self._files:
            raise DataError(
                f"folder {path} holds no images; expected files that end in "
                f"{', '.join(sorted(IMAGE_SUFFIXES))}"
            )
        self._size = image_size(self._files[0])

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def frame_count(self) -> int:
        """Number of images."""
        return len(self._files)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the first image."""
        return self._size

    def read(self, index: int) -> Tensor:
        """Image of a frame, shape (H, W, 3), float32 in [0, 1].

        Raises:
            DataError: No such frame, an unreadable file, or a size other than the first image's.
        """
        _check_index(index, self)
        path = self._files[index]
        found = image_size(path)
        if found != self._size:
            raise DataError(
                f"image {path} is {found[0]} x {found[1]}; the folder's first image is "
                f"{self._size[0]} x {self._size[1]}"
            )
        return read_image(path)


class VideoFile:
    """A video, decoded by OpenCV frame by frame.

    Args:
        path: Video file.

    Raises:
        DataError: The file cannot be opened or declares no frames.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        check_file(self._path, "video", max_bytes=_MAX_VIDEO_BYTES)
        self._capture = cv2.VideoCapture(str(path))
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)) if self._capture.isOpened() else 0
        if count <= 0:
            raise DataError(f"cannot read video {path}: it is damaged or its codec is not known")
        width, height = (
            int(self._capture.get(key))
            for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        if width * height > MAX_PIXELS:
            raise DataError(
                f"video {path} declares frames of {width} x {height} pixels; at most {MAX_PIXELS} "
                "are read"
            )
        self._count = count
        self._next = 0
        self._size = (width, height)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def frame_count(self) -> int:
        """Number of frames that the container declares."""
        return self._count

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of every frame."""
        return self._size

    def read(self, index: int) -> Tensor:
        """Image of a frame, shape (H, W, 3), float32 in [0, 1]; fastest in order.

        Raises:
            DataError: No such frame, or the video ends before it.
        """
        _check_index(index, self)
        if 0 <= index - self._next <= _MAX_SEEK_READ:
            while self._next < index and self._capture.grab():
                self._next += 1
        else:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, index)
            self._next = index
        decoded, frame = self._capture.read() if self._next == index else (False, None)
        if not decoded or frame is None:
            self._next = -_MAX_SEEK_READ - 1  # position unknown: the next read has to seek
            raise DataError(
                f"video {self._path} has no frame {index} although it declares {self._count}; it "
                "is truncated"
            )
        self._next = index + 1
        rgb = np.ascontiguousarray(frame[:, :, ::-1])
        return torch.from_numpy(rgb.astype(np.float32) * np.float32(1 / 255))


@dataclass(frozen=True, slots=True)
class FrameSources:
    """The sources of all cameras of a rig, checked against its calibration.

    Attributes:
        sources: Camera name to source, in the calibration's order.
    """

    sources: dict[str, FrameSource]

    @property
    def frame_count(self) -> int:
        """Number of frames, the same for every camera."""
        return next(iter(self.sources.values())).frame_count

    def read_frame(self, index: int) -> FrameSet:
        """Images of all cameras at one instant.

        Args:
            index: Position in the sorted images, or in the video, from 0.

        Raises:
            DataError: No such frame, or an image that cannot be used.
        """
        return FrameSet(index, {name: source.read(index) for name, source in self.sources.items()})


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
            calibration, or the cameras have unequal numbers of frames.

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
    counts = {name: source.frame_count for name, source in sources.items()}
    low, high = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[low] != counts[high]:
        raise DataError(
            f"cameras have unequal numbers of frames: {low} has {counts[low]} ({sources[low].path})"
            f", {high} has {counts[high]} ({sources[high].path}); give each the same synchronised "
            "frames"
        )
    return FrameSources(sources)


def open_source(location: str | Path, prefix: str = "") -> FrameSource:
    """Open an image folder or a video.

    Args:
        location: Its path.
        prefix: Of messages: whose it is.

    Raises:
        DataError: It does not exist, or is neither of them.
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


def _natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which frame_10 follows frame_9; ties (01 and 1) by the plain name."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], name


def _check_index(index: int, source: FrameSource) -> None:
    if not 0 <= index < source.frame_count:
        raise DataError(
            f"{source.path} has no frame {index}; it has frames 0 to {source.frame_count - 1}"
        )
