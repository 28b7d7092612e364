"""Figures without pyplot: nothing global is changed and nothing stays open.

Every plot function of this package returns a :class:`PlotFigure`. A notebook shows it as the value
of a cell; :func:`figure_png` and :func:`figure_svg` turn it into a file's content.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from ..evaluation import HeightDifference, HeightGrid
    from ..types import HeightMap

# Okabe and Ito's palette (jfly.uni-koeln.de/color), told apart by colour-blind readers.
BLUE, ORANGE, GREEN, SKY = "#0072B2", "#E69F00", "#009E73", "#56B4E9"
VERMILION, PURPLE, YELLOW, GREY = "#D55E00", "#CC79A7", "#F0E442", "#777777"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, YELLOW, GREY)

SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
UNKNOWN = "#DDDDDD"
"""Colour of pixels and cells without a value."""

MAX_SIDE = 800
"""Pixels of a map's longer side: more than a report's figure shows."""

_DPI = 110
_PAGE_INCHES = 10.5
"""Wider figures are shrunk on a page, until their labels cannot be read."""
_LEAST_PANEL_INCHES = 1.7
"""Narrower panels have no room for their titles."""


class PlotFigure(Figure):
    """A figure with its own canvas that notebooks show without pyplot."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        return figure_png(self)


def panel_inches(wanted: float, panels: int, *, beside: float, margin: float = 0.0) -> float:
    """Width of each of several panels in a row, so that the figure fits a page.

    Args:
        wanted: Width of a panel that has the page for itself.
        panels: How many there are.
        beside: What each panel has beside it: labels, a colour bar.
        margin: What the row has beside it.
    """
    room = (_PAGE_INCHES - margin) / panels - beside
    return max(_LEAST_PANEL_INCHES, min(wanted, room))


def figure_png(figure: Figure) -> bytes:
    """A figure as PNG.

    Example:
        >>> from aquamvs.visualization import figure_png, plot_height_map
        >>> figure_png(plot_height_map(made.height_map))[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def figure_svg(figure: Figure) -> bytes:
    """A figure as SVG with text as outlines; the same figure gives the same bytes.

    Example:
        >>> from aquamvs.visualization import figure_svg, plot_height_map
        >>> b"<svg" in figure_svg(plot_height_map(made.height_map))
        True
    """
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "aquamvs", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def message_figure(text: str) -> PlotFigure:
    """A small figure that says why there is nothing to show."""
    figure = PlotFigure(6.0, 1.6)
    say(figure.add_subplot(), text)
    return figure


def say(axes: Axes, text: str) -> None:
    """Replace the content of axes by a sentence."""
    axes.set_axis_off()
    axes.text(
        0.5, 0.5, text, ha="center", va="center", color=GREY, transform=axes.transAxes, wrap=True
    )


def bare(axes: Axes) -> None:
    """Remove the frame's upper and right lines."""
    axes.spines[["top", "right"]].set_visible(False)


def numpy_image(values: Tensor) -> NDArray[Any]:
    """A map or image as an array, thinned to at most ``MAX_SIDE`` pixels a side."""
    array: NDArray[Any] = values.detach().cpu().numpy()
    step = max(1, -(-max(array.shape[:2]) // MAX_SIDE))
    return array[::step, ::step]


def thinned_extent(shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Extent of an image in its own pixels, with the top-left pixel's centre at (0, 0)."""
    height, width = shape[:2]
    return -0.5, width - 0.5, height - 0.5, -0.5


def grid_extent(
    grid: HeightMap | HeightGrid | HeightDifference, shape: tuple[int, ...]
) -> tuple[float, float, float, float]:
    """Extent of a horizontal grid of ``shape`` in metres, with Y down as the cameras see it."""
    half = grid.spacing / 2
    x1 = grid.x0 + (shape[1] - 1) * grid.spacing + half
    y1 = grid.y0 + (shape[0] - 1) * grid.spacing + half
    return grid.x0 - half, x1, y1, grid.y0 - half


def cell_axes(
    extent: tuple[float, float, float, float], shape: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """X of every column and Y of every row of an image drawn over an extent."""
    x = np.linspace(extent[0], extent[1], 2 * shape[1] + 1)[1::2]
    y = np.linspace(extent[3], extent[2], 2 * shape[0] + 1)[1::2]
    return x, y


def robust_range(
    arrays: list[NDArray[Any]], low: float = 1, high: float = 99
) -> tuple[float, float]:
    """Percentiles of the finite values of several arrays, never an empty range."""
    values = np.concatenate([array[np.isfinite(array)].reshape(-1) for array in arrays])
    if not values.size:
        return 0.0, 1.0
    bottom, top = (float(value) for value in np.percentile(values, (low, high)))
    if top - bottom < 1e-9 * max(1.0, abs(top)):  # a constant map still needs a colour scale
        margin = 0.5e-3 * max(1.0, abs(top))
        return bottom - margin, top + margin
    return bottom, top
