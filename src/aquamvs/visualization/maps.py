"""Depth maps and height maps, with their errors and uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ShapeError
from ..types import DepthMap, HeightMap
from .canvas import (
    DIVERGING,
    SEQUENTIAL,
    UNKNOWN,
    PlotFigure,
    cell_axes,
    grid_extent,
    message_figure,
    numpy_image,
    panel_inches,
    robust_range,
    say,
    thinned_extent,
)

if TYPE_CHECKING:
    from ..fusion import ConsistencyMap

_PANEL_INCHES = 3.1
_CONTOURS = 8
_SMALLEST_SCALE = 1e-9
"""Half-width of the error scale where there is no error at all."""


def plot_depth_map(depth_map: DepthMap, *, title: str | None = None) -> PlotFigure:
    """A depth map and its own 1-sigma uncertainty.

    Args:
        depth_map: Any size; grey where depth is unknown.
        title: Camera and coverage when absent.

    Returns:
        The figure; an empty map is shown as such.

    Example:
        >>> from aquamvs.visualization import plot_depth_map
        >>> plot_depth_map(made.depth_maps[0], title="cam0").get_suptitle()
        'cam0'
    """
    depth = numpy_image(depth_map.depth)
    figure = PlotFigure(2 * _PANEL_INCHES + 1.6, _panel_height(depth) + 0.7)
    left, right = figure.subplots(1, 2)
    extent = thinned_extent(tuple(depth_map.depth.shape))
    if not np.isfinite(depth).any():
        say(left, "no depth")
        say(right, "no uncertainty")
    else:
        low, high = robust_range([depth])
        _image(left, depth, (low, high), SEQUENTIAL + "_r", extent, "Ray depth (m)")
        sigma = 1000 * numpy_image(depth_map.sigma)
        if np.isfinite(sigma).any():
            top = robust_range([sigma])[1]
            _image(right, sigma, (0.0, top), "cividis", extent, "1-sigma uncertainty (mm)")
        else:
            say(right, "no uncertainty")
    coverage = float(depth_map.valid.double().mean()) if depth_map.depth.numel() else 0.0
    figure.suptitle(title or f"{depth_map.camera}: {coverage:.0%} of the image", fontsize=10)
    return figure


def plot_consistency(consistency: ConsistencyMap, *, title: str | None = None) -> PlotFigure:
    """How many views agree with each depth of a camera, and how many of those that could.

    Args:
        consistency: Counts of agreeing and of seeing views, as fusion finds them.
        title: Camera and share of depths that two views or more agree on when absent.

    Returns:
        The figure; grey where there is no depth.

    Example:
        >>> from aquamvs.visualization import plot_consistency
        >>> from aquamvs.fusion import consistency_maps
        >>> counts = consistency_maps(tuple(views), made.depth_maps)
        >>> plot_consistency(counts[0], title="Agreement").get_suptitle()
        'Agreement'
    """
    agreeing = numpy_image(consistency.agreeing).astype(float)
    seeing = numpy_image(consistency.seeing).astype(float)
    known = seeing > 0
    figure = PlotFigure(2 * _PANEL_INCHES + 1.6, _panel_height(agreeing) + 0.7)
    left, right = figure.subplots(1, 2)
    if not known.any():
        say(left, "no depth")
        say(right, "no depth")
        figure.suptitle(title or consistency.camera, fontsize=10)
        return figure
    extent = thinned_extent(tuple(consistency.agreeing.shape))
    most = max(float(agreeing.max()), 1.0)
    counts = np.where(known, agreeing, np.nan)
    _image(left, counts, (0.5, most + 0.5), SEQUENTIAL, extent, "Views that agree, own included")
    share = np.full(seeing.shape, np.nan)
    share[known] = agreeing[known] / seeing[known]
    _image(right, share, (0.0, 1.0), "cividis", extent, "Share of the views that see the place")
    held = float((agreeing[known] >= 2).mean())
    line = f"{consistency.camera}: {held:.0%} of the depths are confirmed by another view"
    figure.suptitle(title or line, fontsize=10)
    return figure


def plot_depth_comparison(
    depth_maps: Mapping[str, DepthMap | None],
    truth: Tensor | None = None,
    *,
    limit: Tensor | None = None,
) -> PlotFigure:
    """Depth maps of one camera side by side on one scale, and their errors below.

    Args:
        depth_maps: Name of the pathway to its depth map; None for one that failed or has no depth
            maps.
        truth: True ray depth, shape (H, W), metres; without it there are no errors.
        limit: The rig's 1-sigma limit, shape (H, W), metres: errors are then shown in units of it
            instead of millimetres.

    Returns:
        The figure: one column per pathway, after the truth.

    Raises:
        ShapeError: A map has another shape than the truth.

    Example:
        >>> from aquamvs.visualization import plot_depth_comparison
        >>> shown = {"Surface sweep": made.depth_maps[0]}
        >>> figure = plot_depth_comparison(shown, truth.depth("cam0"))
        >>> figure.axes[1].get_title()
        'Surface sweep'
    """
    shown = {name: item for name, item in depth_maps.items() if item is not None}
    if not shown and truth is None:
        return message_figure("There is no depth map to compare.")
    for name, item in shown.items():
        for other in (truth, limit):
            if other is not None and other.shape != item.depth.shape:
                raise ShapeError(f"depth map of {name}", tuple(item.depth.shape), str(other.shape))
    depths = {name: numpy_image(item.depth) for name, item in shown.items()}
    true_depth = None if truth is None else numpy_image(truth)
    scale = robust_range([*depths.values(), *([] if true_depth is None else [true_depth])])
    first = next(iter(depths.values())) if depths else true_depth
    columns = len(depth_maps) + (truth is not None)
    rows = 1 if truth is None else 2
    side = panel_inches(_PANEL_INCHES, columns, beside=0.0, margin=0.9)
    height = side / _PANEL_INCHES * _panel_height(first)
    figure = PlotFigure(max(4.0, side * columns + 0.9), rows * (height + 0.35))
    grid = figure.subplots(rows, columns, squeeze=False)
    source = truth if truth is not None else next(iter(shown.values())).depth
    extent = thinned_extent(tuple(source.shape))
    names = (["Ground truth"] if truth is not None else []) + list(depth_maps)
    image = None
    for axes, name in zip(grid[0], names, strict=True):
        values = true_depth if name == "Ground truth" and truth is not None else depths.get(name)
        axes.set_title(name, fontsize=10)
        if values is None or not np.isfinite(values).any():
            values = np.full_like(first, np.nan)
            axes.text(0.5, 0.5, "no depth map", ha="center", va="center", transform=axes.transAxes)
        image = _image(axes, values, scale, SEQUENTIAL + "_r", extent, None)
    if image is not None:
        figure.colorbar(image, ax=list(grid[0]), label="Ray depth (m)", fraction=0.05, pad=0.01)
    if true_depth is not None:
        errors = {name: values - true_depth for name, values in depths.items()}
        _error_row(figure, grid[1], names, errors, limit, extent)
    return figure


def plot_height_map(
    height_map: HeightMap, *, error: Tensor | None = None, title: str | None = None
) -> PlotFigure:
    """A height map with contours as the cameras see it, its uncertainty, and its error if known.

    Args:
        height_map: Height map; grey where unknown.
        error: Estimated minus true Z, shape (rows, columns), metres.
        title: Extent and coverage when absent.

    Returns:
        The figure: X to the right and Y down, as in an image taken from above; bright is high.

    Raises:
        ShapeError: ``error`` has another shape than the map.

    Example:
        >>> import torch
        >>> from aquamvs.types import HeightMap
        >>> from aquamvs.visualization import plot_height_map
        >>> z = torch.full((20, 20), 1.0)
        >>> sigma, sure = torch.full_like(z, 1e-4), torch.ones_like(z)
        >>> count, color = torch.full_like(z, 5).int(), torch.ones(20, 20, 3)
        >>> before = HeightMap(0.0, 0.0, 0.01, z, sigma, sure, count, color)
        >>> after = HeightMap(0.0, 0.0, 0.01, z - 0.002, sigma, sure, count, color)
        >>> plot_height_map(before).get_suptitle()
        'Height map: 10 mm cells, 100.0% known'
    """
    if error is not None and error.shape != height_map.z.shape:
        raise ShapeError("error", tuple(error.shape), str(tuple(height_map.z.shape)))
    z = numpy_image(height_map.z)
    if not np.isfinite(z).any():
        return message_figure("The height map is empty.")
    sigma = 1000 * numpy_image(height_map.sigma)
    panels = 1 + bool(np.isfinite(sigma).any()) + (error is not None)
    side = panel_inches(_PANEL_INCHES, panels, beside=1.4)
    height = 1.08 * side / _PANEL_INCHES * _panel_height(z)
    figure = PlotFigure((side + 1.4) * panels, height + 0.8)
    grid = iter(figure.subplots(1, panels, squeeze=False)[0])
    extent = grid_extent(height_map, tuple(height_map.z.shape))
    axes = next(grid)
    _image(axes, z, robust_range([z]), SEQUENTIAL + "_r", extent, "World Z, down (m)", metric=True)
    _contours(axes, z, extent)
    if error is not None:
        axes = next(grid)
        values = 1000 * numpy_image(error)
        reach = _symmetric([values])
        _image(axes, values, (-reach, reach), DIVERGING, extent, "Error of Z (mm)", metric=True)
    if np.isfinite(sigma).any():
        axes = next(grid)
        top = robust_range([sigma])[1]
        _image(axes, sigma, (0.0, top), "cividis", extent, "1-sigma of Z (mm)", metric=True)
    coverage = float(height_map.z.isfinite().double().mean())
    cell = f"{1000 * height_map.spacing:.3g} mm cells"
    figure.suptitle(title or f"Height map: {cell}, {coverage:.1%} known", fontsize=10)
    return figure


def _error_row(
    figure: PlotFigure,
    row: NDArray[Any],
    names: list[str],
    errors: dict[str, NDArray[Any]],
    limit: Tensor | None,
    extent: tuple[float, float, float, float],
) -> None:
    label = "Error of depth (mm)" if limit is None else "Error / rig's limit"
    scale = 1e-3 if limit is None else numpy_image(limit)
    scaled = {name: values / scale for name, values in errors.items()}
    reach = _symmetric(list(scaled.values()))
    image = None
    for axes, name in zip(row, names, strict=True):
        values = scaled.get(name)
        if values is None or not np.isfinite(values).any():
            axes.set_axis_off()
            continue
        image = _image(axes, values, (-reach, reach), DIVERGING, extent, None)
        size = np.abs(errors[name][np.isfinite(errors[name])])
        axes.set_xlabel(f"median {1000 * np.median(size):.2g} mm", fontsize=8)
    if image is not None:
        figure.colorbar(image, ax=list(row), label=label, fraction=0.05, pad=0.01, extend="both")


def _image(
    axes: Axes,
    values: NDArray[Any],
    limits: tuple[float, float],
    cmap: str,
    extent: tuple[float, float, float, float],
    label: str | None,
    *,
    metric: bool = False,
) -> Any:
    """Draw a map; with a label also its own colour bar; with ``metric`` axes in metres."""
    image = axes.imshow(
        values,
        vmin=limits[0],
        vmax=limits[1],
        cmap=_with_unknown(cmap),
        extent=extent,
        interpolation="nearest",
    )
    if metric:
        axes.set_xlabel("X (m)")
        axes.set_ylabel("Y (m)")
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.tick_params(labelsize=8)
    if label is not None:
        bar = axes.figure.colorbar(image, ax=axes, label=label, fraction=0.046, pad=0.02)
        bar.ax.tick_params(labelsize=8)
    return image


def _with_unknown(cmap: str) -> Colormap:
    return mpl.colormaps[cmap].with_extremes(bad=UNKNOWN)


def _contours(axes: Axes, z: NDArray[Any], extent: tuple[float, float, float, float]) -> None:
    low, high = robust_range([z])
    if min(z.shape) < 2 or not high > low:
        return
    levels = MaxNLocator(_CONTOURS).tick_values(low, high)
    lines = axes.contour(
        *cell_axes(extent, z.shape),
        np.ma.masked_invalid(z),
        levels=levels,
        colors="white",
        linewidths=0.6,
        alpha=0.8,
    )
    axes.clabel(lines, fontsize=6, fmt="%g")


def _symmetric(arrays: list[NDArray[Any]]) -> float:
    """Half-width of an error scale: the 98th percentile of what there is."""
    top = robust_range([np.abs(array) for array in arrays], high=98)[1]
    return top if top > _SMALLEST_SCALE else _SMALLEST_SCALE


def _panel_height(values: NDArray[Any] | None) -> float:
    if values is None or not values.size:
        return _PANEL_INCHES
    ratio = float(values.shape[0] / values.shape[1])
    return _PANEL_INCHES * min(max(ratio, 0.4), 1.6)
