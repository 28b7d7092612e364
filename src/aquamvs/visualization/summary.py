"""One picture of a reconstruction: what a camera saw, what was measured, how far it is off."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LightSource, Normalize
from torch import Tensor

from ..errors import ShapeError
from ..types import HeightMap
from .canvas import (
    DIVERGING,
    SEQUENTIAL,
    UNKNOWN,
    PlotFigure,
    grid_extent,
    message_figure,
    numpy_image,
    robust_range,
)

_HEIGHT_INCHES = 3.3
_SUN_AZIMUTH, _SUN_ALTITUDE = 315.0, 40.0
"""Light from the upper left, as relief is drawn on maps: from below, hills would look like pits."""
_EXAGGERATION = 2.0


def plot_summary(
    image: Tensor, height_map: HeightMap, error: Tensor | None = None, *, title: str | None = None
) -> PlotFigure:
    """A camera's image, the height map as shaded relief, and its error where it is known.

    Args:
        image: What a camera sees, RGB, shape (H, W, 3), in [0, 1].
        height_map: What was measured.
        error: Estimated minus true Z, shape (rows, columns), metres.
        title: Above the panels.

    Returns:
        The figure.

    Raises:
        ShapeError: ``image`` or ``error`` has another shape.

    Example:
        >>> import torch
        >>> from aquamvs.types import HeightMap
        >>> from aquamvs.visualization import plot_summary
        >>> z = torch.full((20, 20), 1.0)
        >>> sigma, sure = torch.full_like(z, 1e-4), torch.ones_like(z)
        >>> count, color = torch.full_like(z, 5).int(), torch.ones(20, 20, 3)
        >>> before = HeightMap(0.0, 0.0, 0.01, z, sigma, sure, count, color)
        >>> after = HeightMap(0.0, 0.0, 0.01, z - 0.002, sigma, sure, count, color)
        >>> plot_summary(torch.rand(30, 40, 3), before).axes[1].get_title()
        'What was measured'
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ShapeError("image", tuple(image.shape), "(H, W, 3)")
    if error is not None and error.shape != height_map.z.shape:
        raise ShapeError("error", tuple(error.shape), str(tuple(height_map.z.shape)))
    if not bool(height_map.z.isfinite().any()):
        return message_figure("The height map is empty.")
    widths = [image.shape[1] / image.shape[0]]
    shape = height_map.z.shape
    widths += [float(np.clip(shape[1] / shape[0], 0.6, 2.0)) + 0.25] * (1 + (error is not None))
    figure = PlotFigure(_HEIGHT_INCHES * 0.87 * sum(widths), _HEIGHT_INCHES)
    panels = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    panels[0].imshow(numpy_image(image.clamp(0, 1)))
    panels[0].set_title("What a camera sees", fontsize=10)
    panels[0].set_axis_off()
    _relief(panels[1], height_map)
    if error is not None:
        _error(panels[2], height_map, error)
    if title is not None:
        figure.suptitle(title, fontsize=11)
    return figure


def _relief(axes: Axes, height_map: HeightMap) -> None:
    elevation = -1000 * numpy_image(height_map.z)
    step = -(-height_map.z.shape[0] // elevation.shape[0])
    known = np.isfinite(elevation)
    low, high = robust_range([elevation], 0.5, 99.5)
    elevation = elevation - low
    filled = np.where(known, elevation, np.median(elevation[known]))
    sun = LightSource(_SUN_AZIMUTH, _SUN_ALTITUDE)
    norm = Normalize(0, high - low)
    cell = 1000 * height_map.spacing * step
    rgb = sun.shade(filled, colormaps[SEQUENTIAL], norm, vert_exag=_EXAGGERATION, dx=cell, dy=cell,
                    blend_mode="soft")  # fmt: skip
    rgb[~known] = (*(int(UNKNOWN[k : k + 2], 16) / 255 for k in (1, 3, 5)), 1.0)
    image = axes.imshow(elevation, cmap=SEQUENTIAL, norm=norm)  # for the colour bar
    axes.clear()
    axes.imshow(rgb, extent=grid_extent(height_map, tuple(height_map.z.shape)))
    _finish(axes, "What was measured")
    axes.figure.colorbar(image, ax=axes, label="Height (mm)", fraction=0.04, pad=0.02)


def _error(axes: Axes, height_map: HeightMap, error: Tensor) -> None:
    values = 1000 * numpy_image(error)
    reach = robust_range([np.abs(values)], high=95)[1]
    image = axes.imshow(
        values,
        cmap=colormaps[DIVERGING].with_extremes(bad=UNKNOWN),
        vmin=-reach,
        vmax=reach,
        extent=grid_extent(height_map, tuple(height_map.z.shape)),
        interpolation="nearest",
    )
    median = float(np.nanmedian(np.abs(values)))
    _finish(axes, f"How far it is off: median {median:.2g} mm")
    axes.figure.colorbar(image, ax=axes, label="Error (mm)", fraction=0.04, pad=0.02)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
