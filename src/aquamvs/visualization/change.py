"""Change of height maps: where, how certain, how much."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError
from ..types import HeightMap
from .canvas import (
    BLUE,
    DIVERGING,
    GREY,
    ORANGE,
    UNKNOWN,
    PlotFigure,
    bare,
    cell_axes,
    grid_extent,
    message_figure,
    numpy_image,
    robust_range,
)

if TYPE_CHECKING:
    from ..evaluation import HeightDifference

_PANEL_INCHES = 3.6
_SIGMA_BOUNDS = (-1e9, -5, -3, -2, 2, 3, 5, 1e9)
"""Classes of significance; what lies within two sigmas is white."""

LITRES = 1e3
"""Per cubic metre."""


def plot_height_difference(
    difference: HeightDifference, *, reach: float | None = None, title: str | None = None
) -> PlotFigure:
    """What moved between two height maps: the change, and how certain it is.

    Args:
        difference: Change of a surface.
        reach: Half-width of the colour scale of the change, metres; the 99.5th percentile of what
            there is when absent. Give the same to figures that are compared.
        title: Volumes when absent.

    Returns:
        The figure: red came up, blue went down, outlines are the regions whose volumes count; X to
        the right and Y down, as in an image taken from above.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import height_difference
        >>> from aquamvs.types import HeightMap
        >>> from aquamvs.visualization import plot_height_difference
        >>> z = torch.full((20, 20), 1.0)
        >>> sigma, sure = torch.full_like(z, 1e-4), torch.ones_like(z)
        >>> count, color = torch.full_like(z, 5).int(), torch.ones(20, 20, 3)
        >>> before = HeightMap(0.0, 0.0, 0.01, z, sigma, sure, count, color)
        >>> after = HeightMap(0.0, 0.0, 0.01, z - 0.002, sigma, sure, count, color)
        >>> figure = plot_height_difference(height_difference(before, after, min_significance=2))
        >>> figure.get_suptitle()
        'piled 0.080 ± 0.001 l, dug 0.000 ± 0.000 l (2 sigma)'
    """
    rise = 1000 * numpy_image(difference.rise)
    if not np.isfinite(rise).any():
        return message_figure("The height maps have no cell in common.")
    figure = PlotFigure(2 * (_PANEL_INCHES + 1.2), _PANEL_INCHES * _ratio(rise) + 1.1)
    left, right = figure.subplots(1, 2)
    _rise_panel(left, difference, 1000 * (reach or _reach([difference])))
    colors = mpl.colormaps[DIVERGING].resampled(len(_SIGMA_BOUNDS) - 1).with_extremes(bad=UNKNOWN)
    image = right.imshow(
        numpy_image(difference.significance),
        cmap=colors,
        norm=BoundaryNorm(_SIGMA_BOUNDS, colors.N),
        extent=_extent(difference),
        interpolation="nearest",
    )
    bar = figure.colorbar(image, ax=right, fraction=0.046, pad=0.02, spacing="uniform")
    bar.set_ticks(_SIGMA_BOUNDS[1:-1])
    bar.set_label("Change over its 1-sigma uncertainty", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    _dress(right, "How certain each cell is")
    figure.suptitle(title or volumes_line(difference), fontsize=10)
    return figure


def plot_volumes(
    differences: Sequence[HeightDifference], labels: Sequence[str] | None = None
) -> PlotFigure:
    """Volumes piled up and dug out against the first height map, with two-sigma bars.

    Args:
        differences: Changes, each against the same first map.
        labels: One for each; numbers from 1 when absent.

    Returns:
        The figure.

    Raises:
        DataError: There are not as many labels as differences.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import height_difference
        >>> from aquamvs.types import HeightMap
        >>> from aquamvs.visualization import plot_volumes
        >>> z = torch.full((20, 20), 1.0)
        >>> sigma, sure = torch.full_like(z, 1e-4), torch.ones_like(z)
        >>> count, color = torch.full_like(z, 5).int(), torch.ones(20, 20, 3)
        >>> before = HeightMap(0.0, 0.0, 0.01, z, sigma, sure, count, color)
        >>> after = HeightMap(0.0, 0.0, 0.01, z - 0.002, sigma, sure, count, color)
        >>> figure = plot_volumes([height_difference(before, after)], ["Tuesday"])
        >>> figure.axes[0].get_ylabel()
        'Volume (litres; bars: 2 sigma)'
    """
    labels = _labels(labels, len(differences))
    if not differences:
        return message_figure("There is no change to show.")
    figure = PlotFigure(max(5.0, 0.8 * len(differences) + 3.0), 3.2)
    axes = figure.subplots()
    place = np.arange(len(differences))
    for sign, color, name in ((1, ORANGE, "piled up"), (-1, BLUE, "dug out")):
        part = "up" if sign > 0 else "down"
        volume = [LITRES * getattr(each, f"volume_{part}") for each in differences]
        sigma = [LITRES * getattr(each, f"volume_{part}_sigma") for each in differences]
        axes.bar(
            place,
            sign * np.array(volume),
            0.62,
            yerr=2 * np.array(sigma),
            color=color,
            label=name,
            error_kw={"capsize": 3, "linewidth": 1},
        )
    net = [LITRES * each.net_volume for each in differences]
    axes.plot(place, net, "D", color="black", markersize=4, label="net")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xticks(place, labels)
    axes.set_ylabel("Volume (litres; bars: 2 sigma)")
    axes.legend(frameon=False, fontsize=8)
    bare(axes)
    return figure


def change_frames(
    maps: Sequence[HeightMap],
    differences: Sequence[HeightDifference],
    labels: Sequence[str] | None = None,
) -> list[PlotFigure]:
    """Frames of an animation: the bed as seen from above and its change since the first map.

    Args:
        maps: Height maps of a series, at least two.
        differences: Change from the first map to each later one, one fewer than ``maps``.
        labels: One for each map; numbers from 0 when absent.

    Returns:
        One figure for each map, all of one size and on one scale.

    Raises:
        DataError: The counts do not fit.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import height_difference
        >>> from aquamvs.types import HeightMap
        >>> from aquamvs.visualization import change_frames
        >>> z = torch.full((20, 20), 1.0)
        >>> sigma, sure = torch.full_like(z, 1e-4), torch.ones_like(z)
        >>> count, color = torch.full_like(z, 5).int(), torch.ones(20, 20, 3)
        >>> before = HeightMap(0.0, 0.0, 0.01, z, sigma, sure, count, color)
        >>> after = HeightMap(0.0, 0.0, 0.01, z - 0.002, sigma, sure, count, color)
        >>> len(change_frames([before, after], [height_difference(before, after)]))
        2
    """
    if len(maps) < 2 or len(differences) != len(maps) - 1:
        raise DataError(
            f"{len(maps)} height maps and {len(differences)} differences; expected at least two "
            "maps and one difference fewer"
        )
    names = [f"frame {index}" for index in range(len(maps))] if labels is None else labels
    names = _labels(names, len(maps))
    reach = 1000 * _reach(differences)
    # The maps' grids may differ; all frames show the first one's.
    extent = _extent(maps[0])
    height = _PANEL_INCHES * _ratio(numpy_image(maps[0].z)) + 0.9
    frames = []
    for index, (height_map, name) in enumerate(zip(maps, names, strict=True)):
        z = numpy_image(height_map.z)
        figure = PlotFigure(2 * _PANEL_INCHES + 1.4, height)
        left, right = figure.subplots(1, 2)
        color = numpy_image(height_map.color.clamp(0, 1).nan_to_num(0.0))
        left.imshow(np.where(np.isfinite(z)[..., None], color, 0.87), extent=_extent(height_map))
        left.set_xlim(extent[:2])
        left.set_ylim(extent[2:])
        _dress(left, "From above")
        # The first frame has no change yet: an empty panel of the same kind keeps its size.
        shown = differences[max(index - 1, 0)]
        _rise_panel(right, shown, reach, blank=index == 0)
        line = "" if index == 0 else ": " + volumes_line(shown)
        figure.suptitle(name + line, fontsize=10)
        frames.append(figure)
    return frames


def volumes_line(difference: HeightDifference) -> str:
    """Volumes with their two-sigma uncertainty, in one line."""
    parts = (
        ("piled", difference.volume_up, difference.volume_up_sigma),
        ("dug", difference.volume_down, difference.volume_down_sigma),
    )
    shown = [f"{name} {LITRES * v:.3f} ± {2 * LITRES * s:.3f} l" for name, v, s in parts]
    return ", ".join(shown) + " (2 sigma)"


def _labels(labels: Sequence[str] | None, count: int) -> list[str]:
    if labels is None:
        return [str(index + 1) for index in range(count)]
    if len(labels) != count:
        raise DataError(f"{len(labels)} labels for {count} entries; expected one for each")
    return list(labels)


def _rise_panel(
    axes: Axes, difference: HeightDifference, reach_mm: float, *, blank: bool = False
) -> None:
    rise = 1000 * numpy_image(difference.rise)
    extent = _extent(difference)
    image = axes.imshow(
        np.where(np.isfinite(rise), 0.0, np.nan) if blank else rise,
        vmin=-reach_mm,
        vmax=reach_mm,
        cmap=mpl.colormaps[DIVERGING].with_extremes(bad=UNKNOWN),
        extent=extent,
        interpolation="nearest",
    )
    moved = numpy_image(difference.moved)
    if not blank and moved.any():
        place = cell_axes(extent, moved.shape)
        for sign in (1, -1):
            if (moved == sign).any():
                inside = (moved == sign).astype(float)
                axes.contour(*place, inside, levels=[0.5], colors="black", linewidths=0.7)
    bar = axes.figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
    bar.set_label("Rise of the bed (mm)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    _dress(axes, "Change")


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("X (m)", fontsize=8)
    axes.set_ylabel("Y (m)", fontsize=8)
    axes.tick_params(labelsize=8)


def _extent(grid: HeightDifference | HeightMap) -> tuple[float, float, float, float]:
    values: Tensor = grid.z if isinstance(grid, HeightMap) else grid.rise
    return grid_extent(grid, tuple(values.shape))


def _reach(differences: Sequence[HeightDifference]) -> float:
    """Half-width of a scale of changes, metres."""
    sizes = [np.abs(numpy_image(each.rise)) for each in differences]
    return max(robust_range(sizes, high=99.5)[1], 1e-6)


def _ratio(values: NDArray[np.floating]) -> float:
    return float(np.clip(values.shape[0] / values.shape[1], 0.4, 1.6))
