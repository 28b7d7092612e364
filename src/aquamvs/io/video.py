"""Videos, decoded by FFmpeg through PyAV; each frame is found by its timestamp.

Frame numbers of decoders are guesses from a nominal rate; timestamps are what the container says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..files import check_file, shortened
from .images import MAX_PIXELS

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".mpeg", ".webm"})

_MAX_VIDEO_BYTES = 1 << 42
_MAX_FRAMES = 1 << 24
"""Two days at 100 frames per second."""
_OPTIONS = {
    # What looks like a video may be a list of other files and addresses to open.
    "protocol_whitelist": "file",
    "format_whitelist": "avi,matroska,webm,mov,mp4,mpeg,mpegts,mpegvideo",
}
_MAX_SKIPPED = 64
"""Frames that are dropped rather than sought: seeking decodes from the last key frame."""


class VideoFile:
    """A video whose frames are numbered in the order of their timestamps.

    Args:
        path: Video file.

    Raises:
        DataError: The file cannot be opened, has no frames, or declares larger frames than
            :data:`~aquamvs.io.images.MAX_PIXELS`.

    Example:
        >>> from aquamvs.io import VideoFile
        >>> VideoFile("missing.mp4")
        Traceback (most recent call last):
            ...
        aquamvs.errors.DataError: video missing.mp4 does not exist
    """

    def __init__(self, path: str | Path) -> None:
        import av  # most runs read images, and FFmpeg takes time to load
        from av.error import FFmpegError

        self._path = Path(path)
        check_file(self._path, "video", max_bytes=_MAX_VIDEO_BYTES)
        try:
            self._container: Any = av.open(str(self._path.absolute()), options=_OPTIONS)
            self._stamps, self._seekable = self._index()
        except (FFmpegError, ValueError) as error:
            raise DataError(
                f"cannot read video {path}: it is damaged or its codec is not known "
                f"({shortened(error)})"
            ) from None
        self._decoder: Iterator[Any] | None = None
        self._next = 0

    def _index(self) -> tuple[list[int], bool]:
        """Timestamps of all frames in order, and whether they are the container's own."""
        if not self._container.streams.video:
            raise DataError(f"{self._path} has no video in it")
        self._stream = self._container.streams.video[0]
        if self._stream.codec_context is None:
            raise DataError(f"cannot read video {self._path}: its codec is not known")
        width, height = self.size
        if not 0 < width * height <= MAX_PIXELS:
            raise DataError(
                f"video {self._path} declares frames of {width} x {height} pixels; at most "
                f"{MAX_PIXELS} are read"
            )
        stamps: list[int | None] = []
        for packet in self._container.demux(self._stream):
            if packet.size:
                stamps.append(packet.pts)
            if len(stamps) > _MAX_FRAMES:
                raise DataError(f"video {self._path} has more than {_MAX_FRAMES} frames")
        known = sorted(stamp for stamp in stamps if stamp is not None)
        if not stamps:
            raise DataError(f"cannot read video {self._path}: it has no frames")
        if len(known) == len(stamps) and len(set(known)) == len(known):
            return known, True
        return list(range(len(stamps))), False  # some AVI files count frames only

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def frame_count(self) -> int:
        """Number of frames in the file."""
        return len(self._stamps)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of every frame."""
        return int(self._stream.codec_context.width), int(self._stream.codec_context.height)

    @property
    def times(self) -> tuple[float, ...] | None:
        """When each frame is shown, seconds of the container's clock; None where it has none."""
        if not self._seekable:
            return None
        base = self._stream.time_base
        return tuple(float(stamp * base) for stamp in self._stamps)

    def read(self, index: int) -> Tensor:
        """Image of a frame, shape (H, W, 3), float32 in [0, 1]; fastest in order.

        Raises:
            DataError: No such frame, or it cannot be decoded.
        """
        from av.error import FFmpegError

        if not 0 <= index < self.frame_count:
            raise DataError(
                f"{self._path} has no frame {index}; it has frames 0 to {self.frame_count - 1}"
            )
        try:
            frame = self._find(index)
        except (FFmpegError, ValueError) as error:
            self._decoder = None  # the next read has to seek
            raise DataError(
                f"video {self._path}: frame {index} cannot be decoded ({shortened(error)}); the "
                "file is truncated or damaged"
            ) from None
        if (frame.width, frame.height) != self.size:
            raise DataError(f"video {self._path}: frame {index} has another size than the first")
        deep = max(component.bits for component in frame.format.components) > 8
        pixels = frame.to_ndarray(format="rgb48le" if deep else "rgb24")
        scale = np.float32(1 / np.iinfo(pixels.dtype).max)
        return torch.from_numpy(pixels.astype(np.float32) * scale)

    def _find(self, index: int) -> Any:
        """The decoded frame of an index."""
        if self._decoder is None or not 0 <= index - self._next <= _MAX_SKIPPED:
            self._seek(index)
        wanted = self._stamps[index]
        for frame in self._decoder or ():
            if not self._seekable:
                position, self._next = self._next, self._next + 1
                if position == index:
                    return frame
            elif frame.pts is not None and frame.pts >= wanted:
                self._next = index + 1
                if frame.pts == wanted:
                    return frame
                break
        raise ValueError("it is missing")

    def _seek(self, index: int) -> None:
        """Start to decode at the last key frame before a frame."""
        start = self._stamps[index] if self._seekable else 0
        self._container.seek(start, stream=self._stream, backward=True)
        self._decoder = self._container.decode(self._stream)
        if not self._seekable:
            self._next = 0
