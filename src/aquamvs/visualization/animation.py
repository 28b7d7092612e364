"""Figures in a row: an animated picture for files, a flip book for notebooks and pages."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from matplotlib.figure import Figure
from PIL import Image

from ..errors import DataError
from .canvas import figure_png

FRAME_MS = 900
"""How long a frame stays: long enough to read its title."""


def figures_gif(figures: Sequence[Figure], *, frame_ms: int = FRAME_MS) -> bytes:
    """Figures as an animated GIF that repeats; the same figures give the same bytes.

    Args:
        figures: At least one, all of one size.
        frame_ms: Time for each, milliseconds; the last stays twice as long.

    Raises:
        DataError: There is none, or the sizes differ.

    Example:
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.visualization import figures_gif, plot_rig
        >>> from aquamvs.visualization import plot_rig
        >>> figures_gif([plot_rig(make_rig("small5"))])[:3]
        b'GIF'
    """
    pictures = [_picture(figure) for figure in figures]
    if len({picture.size for picture in pictures}) != 1:
        raise DataError(
            f"an animation of {len(pictures)} figures needs at least one, all of one size"
        )
    # One palette for all frames: with one each, what stands still would flicker.
    strip = Image.new("RGB", (pictures[0].width, sum(picture.height for picture in pictures)))
    top = 0
    for picture in pictures:
        strip.paste(picture, (0, top))
        top += picture.height
    palette = strip.quantize(255, method=Image.Quantize.MEDIANCUT)
    frames = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    times = [frame_ms] * (len(frames) - 1) + [2 * frame_ms]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0, disposal=1
    )
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class FlipBook:
    """Pictures that a slider turns over; shown by notebooks and by any static page, offline.

    Attributes:
        pictures: PNG or JPEG data, one for each position.
        labels: What stands beside the slider, one for each position.
        start: Position shown first.
        kind: MIME type of the pictures.

    Example:
        >>> from aquamvs.visualization import FlipBook, figure_png
        >>> from matplotlib.figure import Figure
        >>> FlipBook((figure_png(Figure()), figure_png(Figure())), ("Monday", "Friday")).labels
        ('Monday', 'Friday')
    """

    pictures: tuple[bytes, ...] = field(repr=False)
    labels: tuple[str, ...]
    start: int = 0
    kind: str = "image/png"

    def _repr_html_(self) -> str:
        """The flip book as HTML that needs nothing else."""
        template = files(__package__).joinpath("flip_book.html").read_text(encoding="utf-8")
        pictures = "".join(
            f'<img alt="{html.escape(label)}" data-label="{html.escape(label)}" '
            f'src="data:{self.kind};base64,{base64.b64encode(data).decode("ascii")}"'
            f"{'' if index == self.start else ' hidden'}>"
            for index, (data, label) in enumerate(zip(self.pictures, self.labels, strict=True))
        )
        fields = {
            "PICTURES": pictures,
            "LAST": str(len(self.pictures) - 1),
            "START": str(self.start),
            "LABEL": html.escape(self.labels[self.start]),
        }
        for key, value in fields.items():
            template = template.replace(f"@{key}@", value)
        return template


def flip_book(figures: Sequence[Figure], labels: Sequence[str], *, start: int = 0) -> FlipBook:
    """Figures that a slider turns over.

    Args:
        figures: At least one, all of one size.
        labels: What stands beside the slider, one for each.
        start: Position shown first.

    Returns:
        The flip book: the value of a notebook's cell, or HTML by its ``_repr_html_``. Pictures are
        JPEG: maps of measured values are noise to PNG.

    Raises:
        DataError: There is no figure, not one label for each, or ``start`` is none of them.

    Example:
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.visualization import flip_book, plot_rig
        >>> from aquamvs.visualization import plot_rig
        >>> rig = make_rig("small5")
        >>> book = flip_book([plot_rig(rig, floor_z=z) for z in (0.9, 1.1)], ["0.9 m", "1.1 m"])
        >>> book.labels
        ('0.9 m', '1.1 m')
    """
    if not figures or len(labels) != len(figures) or not 0 <= start < len(figures):
        raise DataError(
            f"{len(figures)} figures, {len(labels)} labels and start {start}; expected at least "
            "one figure, a label for each, and a start among them"
        )
    return FlipBook(tuple(map(_jpeg, figures)), tuple(labels), start, "image/jpeg")


def _jpeg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    _picture(figure).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _picture(figure: Figure) -> Image.Image:
    with Image.open(io.BytesIO(figure_png(figure))) as picture:
        return picture.convert("RGB")
