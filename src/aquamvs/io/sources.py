"""The images of one camera, in a folder."""

import re
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ..errors import DataError
from .images import image_size, read_image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff"})


def is_image(path: Path) -> bool:
    """Whether a file is one of a camera's images, by its name.

    Hidden files are none: systems and this library's own writer use them as temporaries.
    """
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


class FrameSource(Protocol):
    """The frames of one camera.

    Example:
        >>> from aquamvs.io import FrameSource, open_source
        >>> source: FrameSource = open_source(folder / "images" / "cam0")
        >>> source.frame_count, tuple(source.read(0).shape)
        (1, (150, 200, 3))
    """

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

    Example:
        >>> from aquamvs.io import ImageFolder
        >>> images = ImageFolder(folder / "images" / "cam0")
        >>> images.frame_count, tuple(images.read(0).shape)
        (1, (150, 200, 3))
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            files = [f for f in self._path.iterdir() if is_image(f)]
        except OSError as error:
            raise DataError(f"cannot list folder {path}: {error.strerror or error}") from None
        self._files = sorted(files, key=lambda f: _natural_key(f.name))
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
    def files(self) -> tuple[Path, ...]:
        """The images, in order."""
        return tuple(self._files)

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


def _natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sort key by which frame_10 follows frame_9; ties (01 and 1) by the plain name."""
    parts = re.findall(r"\d+|\D+", name)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts], name


def _check_index(index: int, source: FrameSource) -> None:
    if not 0 <= index < source.frame_count:
        raise DataError(
            f"{source.path} has no frame {index}; it has frames 0 to {source.frame_count - 1}"
        )
