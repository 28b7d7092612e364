"""Images and masks: strict decoding into RGB float32, deterministic PNG out.

OpenCV decodes truncated PNG and JPEG files into grey areas without an error, which a matcher would
take for sand; Pillow refuses them. So Pillow reads the header, the size being checked before
anything is allocated, and decodes; OpenCV decodes only what Pillow would cut to 8 bits.
"""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import DataError, ShapeError
from ..files import check_file, shortened
from .atomic import atomic_path

MAX_PIXELS = 1 << 26
"""Largest image that is decoded, 8192 x 8192: a guard against headers that lie."""

_MAX_FILE_BYTES = 1 << 29
"""Eight bytes per pixel of the largest image."""

_START_OF_SCAN, _MAX_SCANS = b"\xff\xda", 100
"""A progressive JPEG has about ten scans, each of which may take as long as a whole image."""

_FORMATS = ("PNG", "JPEG", "TIFF")
_UNREADABLE = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError),
    *(AttributeError, RuntimeError, AssertionError, MemoryError, struct.error),
)
"""What Pillow's parsers raise on damaged files."""
_TIFF_BITS_PER_SAMPLE = 258
_ROWS_AT_ONCE = 32
"""They stay in the processor's cache."""
_PNG_OPTIONS = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),  # after the level, which resets it
]
"""Photographs repeat nothing that zlib could find: without the search they are as small in a third
of the time."""
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # of OpenCV 4.12; 8 % smaller than what it does by itself
    _PNG_OPTIONS += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_AVG]


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) from an image's header, without decoding it.

    Raises:
        DataError: The file is missing, no PNG, JPEG or TIFF, or larger than :data:`MAX_PIXELS`.

    Example:
        >>> import torch
        >>> from aquamvs.io import image_size, write_image
        >>> write_image("grey.png", torch.full((2, 3, 3), 0.5))
        >>> image_size("grey.png")
        (3, 2)
    """
    with _open(Path(path)) as image:
        return image.size


def read_image(path: str | Path) -> Tensor:
    """Read an image.

    Args:
        path: PNG, JPEG or TIFF; 8 or 16 bits; grey, colour or palette. Orientation tags are
            ignored: calibrations refer to the sensor's pixels.

    Returns:
        RGB, shape (H, W, 3), float32 in [0, 1]; grey is repeated, alpha is dropped.

    Raises:
        DataError: The file is missing, truncated, too large or of another kind.

    Example:
        >>> import torch
        >>> from aquamvs.io import read_image, write_image
        >>> write_image("grey.png", torch.full((2, 3, 3), 0.2))
        >>> image = read_image("grey.png")
        >>> tuple(image.shape), round(float(image[0, 0, 0]), 3)
        ((2, 3, 3), 0.2)
    """
    pixels = _decode(Path(path))
    scaled = pixels.astype(np.float32)
    scaled /= np.iinfo(pixels.dtype).max
    if scaled.ndim == 2:
        scaled = np.repeat(scaled[:, :, None], 3, axis=2)
    return torch.from_numpy(scaled)


def read_mask(path: str | Path, size: tuple[int, int]) -> Tensor:
    """Read a mask.

    Args:
        path: Image file; white keeps a pixel, black drops it (split at half of full scale).
        size: (width, height) that the mask must have.

    Returns:
        shape (H, W), bool.

    Raises:
        DataError: As :func:`read_image`, or the mask has another size.

    Example:
        >>> import torch
        >>> from aquamvs.io import read_mask, write_image
        >>> write_image("mask.png", torch.tensor([[0.0, 1.0]]))
        >>> read_mask("mask.png", (2, 1)).tolist()
        [[False, True]]
    """
    found = image_size(path)
    if found != size:
        raise DataError(
            f"mask {path} is {found[0]} x {found[1]}; expected {size[0]} x {size[1]}, the size of "
            "the undistorted image"
        )
    return read_image(path).amax(-1) > 0.5


def write_image(path: str | Path, image: Tensor) -> None:
    """Write an 8-bit PNG; the same image gives the same bytes.

    Args:
        path: File to write, ending in .png.
        image: RGB, shape (H, W, 3), or grey, shape (H, W), in [0, 1]; values outside are clipped
            and unknown ones (NaN) become black.

    Raises:
        DataError: The path does not end in .png or cannot be written.
        ShapeError: The image has another shape.

    Example:
        >>> import torch
        >>> from aquamvs.io import image_size, write_image
        >>> write_image("grey.png", torch.full((2, 3, 3), 0.5))
        >>> image_size("grey.png")
        (3, 2)
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise DataError(f"cannot write an image to {path}; expected a name that ends in .png")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or image.numel() == 0:
        raise ShapeError("image", tuple(image.shape), "(H, W, 3) or (H, W)")
    pixels = np.empty(tuple(image.shape), np.uint8)
    for start in range(0, len(pixels), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        levels = color_levels(image[rows])
        if levels.ndim == 3:
            cv2.cvtColor(levels, cv2.COLOR_RGB2BGR, dst=pixels[rows])
        else:
            pixels[rows] = levels
    encoded, data = cv2.imencode(".png", pixels, _PNG_OPTIONS)
    if not encoded:
        raise DataError(f"cannot encode {path} as PNG ({pixels.shape[1]} x {pixels.shape[0]})")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.data)


def color_levels(values: Tensor) -> NDArray[np.uint8]:
    """Values in [0, 1] in 8 bits; values outside are clipped and unknown ones (NaN) become 0.

    Args:
        values: shape (N, M) or (N, M, C).

    Returns:
        Same shape.

    Example:
        >>> import torch
        >>> from aquamvs.io.images import color_levels
        >>> color_levels(torch.tensor([[-0.1, 0.5, 2.0, torch.nan]])).tolist()
        [[0, 128, 255, 0]]
    """
    known = values.detach().cpu().float().clamp(0, 1).nan_to_num_(0.0)
    if known.numel() == 0:  # OpenCV gives nothing for nothing
        return np.zeros(known.shape, np.uint8)
    return np.asarray(cv2.convertScaleAbs(known.numpy(), alpha=255), np.uint8)  # half to even


def _open(path: Path) -> Image.Image:
    """Open an image, of which only the header is read."""
    check_file(path, "image", max_bytes=_MAX_FILE_BYTES)
    try:
        with without_warnings():
            image = Image.open(path, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise DataError(f"image {path} is refused: {error}") from None
    except _UNREADABLE as error:
        raise DataError(
            f"cannot read image {path}: {shortened(error)}; expected a PNG, JPEG or TIFF file"
        ) from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise DataError(
            f"image {path} declares {width} x {height} pixels; at most {MAX_PIXELS} are read"
        )
    return image


@contextmanager
def without_warnings() -> Iterator[None]:
    """Pillow warns of large images and of odd tags.

    This module refuses the former, and the latter do not matter if the pixels decode. Filters of
    warnings belong to the process: threads that decode do so within one such block of their own.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _decode(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Pixels of shape (H, W) or (H, W, 3), RGB, uint8 or uint16."""
    with without_warnings(), _open(path) as image:
        if image.format == "JPEG":
            _check_scans(path)
        try:
            image.load()
            size = image.size
            deep = _is_deep(image, path)
            if not deep:
                return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        except _UNREADABLE as error:
            raise DataError(
                f"cannot decode image {path}: {shortened(error)}; the file is truncated or damaged"
            ) from None
    return _decode_deep(path, size)


def _check_scans(path: Path) -> None:
    """Refuse a JPEG file that is made to take hours; within a scan the marker does not occur."""
    scans = path.read_bytes().count(_START_OF_SCAN)
    if scans > _MAX_SCANS:
        raise DataError(f"image {path} has {scans} scans; at most {_MAX_SCANS} are decoded")


def _decode_deep(path: Path, size: tuple[int, int]) -> NDArray[np.uint16]:
    """Pixels of a file with more than 8 bits per channel, which Pillow has found whole."""
    try:
        pixels = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataError(f"cannot decode image {path}: {shortened(error.err)}") from None
    if pixels is None or pixels.dtype != np.uint16:
        found = "nothing" if pixels is None else str(pixels.dtype)
        raise DataError(f"image {path} decodes to {found}; expected 8 or 16 bits per channel")
    if pixels.shape[1::-1] != size:
        raise DataError(f"image {path} has two sizes: {pixels.shape[1::-1]} and {size}")
    deep = pixels.astype(np.uint16, copy=False)
    return deep if deep.ndim == 2 else np.ascontiguousarray(deep[:, :, 2::-1])


def _is_deep(image: Image.Image, path: Path) -> bool:
    """More than 8 bits per channel, which Pillow cuts in colour images."""
    if image.format == "PNG":
        with path.open("rb") as file:  # IHDR, always first: width, height, then the bit depth
            file.seek(24)
            return file.read(1) == b"\x10"
    if image.format == "TIFF":
        bits = image.getexif().get(_TIFF_BITS_PER_SAMPLE, 1)
        return max(bits) > 8 if isinstance(bits, tuple) else int(bits) > 8
    return False
