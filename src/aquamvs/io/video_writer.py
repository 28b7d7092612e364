"""Lossless videos: every pixel and timestamp comes back as it was written."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import DataError
from ..files import shortened
from .atomic import atomic_path

_CLOCK = Fraction(1, 1000)
"""Matroska counts milliseconds."""
_CODEC_OPTIONS = {
    "g": "1",  # every frame stands alone, so that each is found without decoding others
    "level": "3",
    "slices": "4",
    "slicecrc": "1",  # damage is noticed
    "flags": "+bitexact",
}


def write_video(path: str | Path, frames: Iterable[tuple[float, Tensor]]) -> int:
    """Write a lossless video of 8 bits per channel (FFV1 in Matroska); frames are streamed.

    Args:
        path: File to write, ending in .mkv.
        frames: When each frame is shown, seconds, rising by a millisecond or more, and the frame:
            RGB, shape (H, W, 3), all of one size, in [0, 1].

    Returns:
        Number of frames. The same frames give the same bytes.

    Raises:
        DataError: The path does not end in .mkv or cannot be written, there is no frame, frames
            differ in size, or times do not rise.

    Example:
        >>> import torch
        >>> from aquamvs.io import write_video
        >>> write_video("grey.mkv", [(0.0, torch.full((16, 16, 3), 0.5))])
        1
    """
    from av.error import FFmpegError

    path = Path(path)
    if path.suffix.lower() != ".mkv":
        raise DataError(f"cannot write a video to {path}; expected a name that ends in .mkv")
    with atomic_path(path) as temporary:
        try:
            return _encode(temporary, path, frames)
        except FFmpegError as error:
            raise DataError(f"cannot write video {path}: {shortened(error)}") from None


def _encode(temporary: Path, path: Path, frames: Iterable[tuple[float, Tensor]]) -> int:
    import av

    stream: Any = None
    last = -1
    size: tuple[int, ...] = ()
    count = 0
    with av.open(
        str(temporary), "w", format="matroska", options={"fflags": "+bitexact"}
    ) as container:
        for seconds, image in frames:
            if stream is None:
                size = tuple(image.shape)
                stream = container.add_stream("ffv1", rate=30, options=_CODEC_OPTIONS)
                stream.height, stream.width = size[:2]
                stream.pix_fmt = "bgr0"
                stream.codec_context.time_base = _CLOCK
            stamp = round(seconds / _CLOCK)
            if tuple(image.shape) != size:
                raise DataError(f"cannot write video {path}: frame {count} has another size")
            if stamp <= last:
                raise DataError(
                    f"cannot write video {path}: frame {count} is shown at {seconds:.4f} s, less "
                    "than a millisecond after the one before"
                )
            last = stamp
            pixels = (image * 255).round().clamp(0, 255).byte().numpy()
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = stamp, _CLOCK
            container.mux(stream.encode(frame))
            count += 1
        if stream is None:
            raise DataError(f"cannot write video {path}: there is no frame")
        container.mux(stream.encode())
    return count
