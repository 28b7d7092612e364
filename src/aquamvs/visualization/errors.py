"""Errors that a wrong model makes: maps side by side, and how they grow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from ..errors import DataError
from .canvas import (
    DIVERGING,
    PALETTE,
    UNKNOWN,
    VERMILION,
    PlotFigure,
    bare,
    grid_extent,
    message_figure,
    numpy_image,
    panel_inches,
    robust_range,
)

if TYPE_CHECKING:
    from ..evaluation import HeightGrid

_PANEL_INCHES = 2.9


def plot_error_maps(
    errors: Mapping[str, HeightGrid], *, reach: float | None = None, title: str | None = None
) -> PlotFigure:
    """Errors of height side by side, each with its RMS.

    Args:
        errors: Name to errors of Z on a horizontal grid, metres; NaN where unknown.
        reach: Half-width of one colour scale for all panels, metres. Absent: each panel has a scale
            of its own, for errors of different size.
        title: Above the panels.

    Returns:
        The figure: red is too deep, blue too high; X to the right and Y down, as seen from above.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import HeightGrid
        >>> from aquamvs.visualization import plot_error_maps
        >>> grid = HeightGrid(0.0, 0.0, 0.01, torch.full((10, 10), 0.001))
        >>> plot_error_maps({"tilted water": grid}).axes[0].get_title()
        'tilted water: RMS 1 mm'
    """
    if not errors:
        return message_figure("There is no error to show.")
    first = next(iter(errors.values())).z
    ratio = float(np.clip(first.shape[0] / first.shape[1], 0.4, 1.6))
    side = panel_inches(_PANEL_INCHES, len(errors), beside=1.0)
    figure = PlotFigure((side + 1.0) * len(errors), side * ratio + 1.0)
    for axes, (name, grid) in zip(
        figure.subplots(1, len(errors), squeeze=False)[0], errors.items(), strict=True
    ):
        values = 1000 * numpy_image(grid.z)
        known = values[np.isfinite(values)]
        half = 1000 * reach if reach else max(robust_range([np.abs(values)], high=98)[1], 1e-6)
        image = axes.imshow(
            values,
            vmin=-half,
            vmax=half,
            cmap=mpl.colormaps[DIVERGING].with_extremes(bad=UNKNOWN),
            extent=grid_extent(grid, tuple(grid.z.shape)),
            interpolation="nearest",
        )
        rms = f"RMS {np.sqrt(np.mean(known**2)):.2g} mm" if known.size else "unknown"
        axes.set_title(f"{name}: {rms}", fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_xlabel("X (m)", fontsize=8)
        bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
        bar.ax.tick_params(labelsize=7)
        bar.set_label("Error of Z (mm)", fontsize=8)
    if title is not None:
        figure.suptitle(title, fontsize=10)
    return figure


def plot_error_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x_label: str,
    limit: float | None = None,
) -> PlotFigure:
    """How an error grows with a fault, against what the rig can measure.

    Args:
        curves: Name to the fault's sizes (in the unit of ``x_label``) and the RMS errors, metres.
        x_label: Name of the fault, with its unit.
        limit: The rig's 1-sigma limit, metres: a dashed line.

    Returns:
        The figure.

    Raises:
        DataError: A curve has not one error for each size.

    Example:
        >>> from aquamvs.visualization import plot_error_curves
        >>> figure = plot_error_curves({"level": ([0, 1], [0.0, 4e-4])}, x_label="Water level (mm)")
        >>> figure.axes[0].get_ylabel()
        'RMS error of Z (mm)'
    """
    if not curves:
        return message_figure("There is no curve to show.")
    figure = PlotFigure(6.0, 3.2)
    axes = figure.subplots()
    for color, (name, (sizes, errors)) in zip(PALETTE, curves.items(), strict=False):
        if len(sizes) != len(errors):
            raise DataError(f"curve {name}: {len(errors)} errors for {len(sizes)} sizes")
        axes.plot(sizes, 1000 * np.asarray(errors), "o-", color=color, label=name, markersize=4)
    if limit is not None:
        axes.axhline(1000 * limit, color=VERMILION, linestyle="--", linewidth=1)
        axes.annotate(
            "rig's limit (0.1 px)",
            (0.99, 1000 * limit),
            (0, 3),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=VERMILION,
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel("RMS error of Z (mm)")
    axes.legend(frameon=False, fontsize=8)
    bare(axes)
    return figure
