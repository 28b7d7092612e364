"""Temporal median: what moves through a picture leaves, what stays stays."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from .frames import list_sources, open_source
from .images import write_image
from .sources import FrameSource, is_image
from .video import VideoFile
from .video_writer import write_video

_BYTES_PER_PIXEL = 3
_ROWS_AT_ONCE = 64
"""Rows whose median is taken at a time: partitioning copies the whole window otherwise."""


def temporal_median(
    source: FrameSource, *, window: int = 30, step: int = 1, window_step: int = 1
) -> Iterator[tuple[int, Tensor]]:
    """Median images of a video or image folder, in order, each frame being read once.

    At every pixel and channel the result is the median of the frames of a window around it, which
    removes fish and debris that cover a pixel in less than half of them.

    Args:
        source: One camera's frames.
        window: Length of the window, frames; it is centred, and at both ends moved inside. Memory
            holds ``window / window_step`` images of 8 bits.
        step: A median for every so-manieth frame.
        window_step: Use only every so-manieth frame of the input, at most ``window``.

    Yields:
        Number of the frame and its median, RGB, shape (H, W, 3), float32 in [0, 1].

    Raises:
        ConfigError: A length is not positive, or the window longer than the input.
        DataError: A frame cannot be read.

    Example:
        >>> from aquamvs.io import open_source, temporal_median
        >>> source = open_source(folder / "images" / "cam0")
        >>> [(frame, tuple(image.shape)) for frame, image in temporal_median(source, window=1)]
        [(0, (150, 200, 3))]
    """
    _check_lengths(source, window, step, window_step)
    count = source.frame_count
    held: deque[tuple[int, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]] = deque()
    upcoming = 0
    for frame in range(0, count, step):
        first = min(max(frame - window // 2, 0), count - window)
        # One frame in window_step of the input, whatever the window: each is read once.
        wanted = range(-(-first // window_step) * window_step, first + window, window_step)
        while held and held[0][0] < first:
            held.popleft()
        for index in wanted:
            if index >= upcoming:
                held.append((index, _levels(source, index)))
                upcoming = index + 1
        chosen = [pixels for index, pixels in held if index in wanted]
        yield frame, _median(chosen)


def _check_lengths(source: FrameSource, window: int, step: int, window_step: int) -> None:
    for name, value in (("window", window), ("step", step), ("window_step", window_step)):
        if value < 1:
            raise ConfigError(f"{name} is {value}; expected 1 or more")
    if window_step > window:
        raise ConfigError(f"window_step is {window_step}; expected at most the window, {window}")
    if window > source.frame_count:
        raise ConfigError(
            f"window is {window} frames, but {source.path} has {source.frame_count}; choose a "
            "smaller one"
        )
    held = -(-window // window_step) * math.prod(source.size) * _BYTES_PER_PIXEL
    if held > psutil.virtual_memory().total:
        raise ConfigError(
            f"a window of {window} frames of {source.path} takes {held / 2**30:.0f} GiB; choose a "
            "smaller window, or a larger window_step"
        )


def _levels(source: FrameSource, index: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A frame in 8 bits, which hold what a median of noisy frames can tell."""
    image = source.read(index)
    if tuple(image.shape[1::-1]) != source.size:
        raise DataError(f"frame {index} of {source.path} has another size than the first one")
    return (image * 255).round().byte().numpy()


def _median(frames: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]) -> Tensor:
    result = np.empty(frames[0].shape, np.float32)
    for start in range(0, len(result), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        result[rows] = np.median([frame[rows] for frame in frames], axis=0)
    return torch.from_numpy(result / np.float32(255))


def filter_inputs(
    source: str | Path,
    *,
    output_dir: str | Path | None = None,
    window: int = 30,
    step: int = 1,
    window_step: int = 1,
    as_video: bool = False,
    frame_rate: float = 30.0,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, int]:
    """Write the median images of a video, a folder of images, or every one in a folder.

    Args:
        source: Video or folder.
        output_dir: Folder that gets a folder of PNG files ``frame_000000.png`` per input, named
            after it and numbered by the input's frames, or a video per input;
            ``<source>_median`` beside when absent.
        window: See :func:`temporal_median`.
        step: See :func:`temporal_median`.
        window_step: See :func:`temporal_median`.
        as_video: Write lossless videos (see :func:`write_video`) whose frames are shown when the
            input's are.
        frame_rate: Of inputs that have no timestamps, Hz.
        progress: Called for every image with its input and frame, how many are written, and how
            many there will be.

    Returns:
        Folder or video written to number of images in it.

    Raises:
        ConfigError: See :func:`temporal_median`; the frame rate is not positive.
        DataError: There is no input, one cannot be read, two would be written to one place, or a
            place cannot be written.

    Example:
        >>> from aquamvs.io import filter_inputs
        >>> counts = filter_inputs(folder / "images", output_dir="median", window=1)
        >>> sorted(counts.values())
        [1, 1, 1, 1, 1]
    """
    if not 0 < frame_rate < math.inf:
        raise ConfigError(f"frame_rate is {frame_rate}; expected a positive number of Hz")
    source = Path(source)
    base = source.with_name(f"{source.stem}_median") if output_dir is None else Path(output_dir)
    inputs: dict[Path, tuple[Path, FrameSource]] = {}
    for path in _inputs(source):  # all are looked at before the first is written
        frames = open_source(path)
        _check_lengths(frames, window, step, window_step)
        target = base / (path.stem if path.is_file() else path.name)
        if as_video:
            target = target.with_name(f"{target.name}.mkv")
        if target in inputs:
            raise DataError(f"two inputs in {source} would both be written to {target}")
        inputs[target] = path, frames
    written: dict[str, int] = {}
    tell = _Teller(progress, sum(-(-each.frame_count // step) for _, each in inputs.values()))
    for target, (path, frames) in inputs.items():
        medians = tell.of(
            path.name, temporal_median(frames, window=window, step=step, window_step=window_step)
        )
        if as_video:
            times = _times(frames, frame_rate)
            written[str(target)] = write_video(
                target, ((times[frame], image) for frame, image in medians)
            )
        else:
            written[str(target)] = _write_images(target, medians)
    return written


class _Teller:
    """Counts the images of all inputs."""

    def __init__(self, progress: Callable[[str, int, int], None] | None, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def of(self, name: str, medians: Iterator[tuple[int, Tensor]]) -> Iterator[tuple[int, Tensor]]:
        for frame, image in medians:
            yield frame, image
            self._done += 1
            if self._progress is not None:
                self._progress(f"{name}: frame {frame}", self._done, self._total)


def _write_images(folder: Path, medians: Iterator[tuple[int, Tensor]]) -> int:
    count = 0
    for frame, image in medians:
        write_image(folder / f"frame_{frame:06d}.png", image)
        count += 1
    return count


def _times(source: FrameSource, frame_rate: float) -> Sequence[float]:
    """When each frame is shown, seconds."""
    own = source.times if isinstance(source, VideoFile) else None
    return own or [index / frame_rate for index in range(source.frame_count)]


def _inputs(source: Path) -> list[Path]:
    """The source itself, or the videos and folders of images in it."""
    if not source.is_dir():
        return [source]
    if any(is_image(path) for path in source.iterdir()):
        return [source]
    found = list_sources(source)
    if not found:
        raise DataError(f"{source} holds neither images nor videos nor folders of images")
    return found
