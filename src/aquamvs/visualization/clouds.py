"""Static views of point clouds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from ..types import PointCloud
from .canvas import SEQUENTIAL, VERMILION, PlotFigure, message_figure

if TYPE_CHECKING:
    from mpl_toolkits.mplot3d import Axes3D

    from ..calibration import CalibrationData

_AZIMUTH, _ELEVATION = -60.0, 35.0

_SPAN_PERCENT = 0.5
"""Percentile at either end beyond which points do not widen the axes: one stray point a metre away
would shrink the scene to a dot."""
_SPAN_MARGIN = 0.1
"""Part of the span that is kept around it."""


def plot_point_cloud(
    cloud: PointCloud, *, max_points: int = 40_000, title: str | None = None
) -> PlotFigure:
    """A coloured cloud obliquely and from above.

    Args:
        cloud: Any size.
        max_points: Points drawn at most, chosen at random but always the same.
        title: Count of points when absent.

    Returns:
        The figure; an empty cloud is shown as such.

    Example:
        >>> import torch
        >>> from aquamvs.types import PointCloud
        >>> from aquamvs.visualization import plot_point_cloud
        >>> points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
        >>> one = torch.ones(500)
        >>> cloud = PointCloud(points, points, points, one, one, one.int())
        >>> plot_point_cloud(cloud).get_suptitle()
        '500 points'
    """
    if not len(cloud):
        return message_figure("The point cloud is empty.")
    points, colors, _, strays = _thinned(cloud, max_points)
    figure, oblique, plan = _axes()
    size = 3.0 if len(points) < 5000 else 0.7
    oblique.scatter(*points.T, c=colors, s=size, linewidths=0, depthshade=False)
    plan.scatter(points[:, 0], points[:, 1], c=colors, s=size, linewidths=0, rasterized=True)
    _finish(oblique, plan, points)
    figure.suptitle(title or f"{len(cloud):,} points{strays}", fontsize=10)
    return figure


def plot_sparse_cloud(
    cloud: PointCloud,
    calibration: CalibrationData | None = None,
    *,
    max_points: int = 20_000,
    title: str | None = None,
) -> PlotFigure:
    """A sparse cloud coloured by the number of views, with the cameras above it.

    Args:
        cloud: Triangulated points.
        calibration: Adds the cameras' optical centres.
        max_points: Points drawn at most, chosen at random but always the same.
        title: Count of points when absent.

    Returns:
        The figure; an empty cloud is shown as such.

    Example:
        >>> import torch
        >>> from aquamvs.types import PointCloud
        >>> from aquamvs.visualization import plot_sparse_cloud
        >>> points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
        >>> one = torch.ones(500)
        >>> cloud = PointCloud(points, points, points, one, one, one.int())
        >>> plot_sparse_cloud(cloud).get_suptitle()
        '500 triangulated points'
    """
    if not len(cloud):
        return message_figure("The sparse cloud is empty.")
    points, _, views, strays = _thinned(cloud, max_points)
    figure, oblique, plan = _axes()
    norm = Normalize(1.5, max(4.5, float(views.max()) + 0.5))
    oblique.scatter(
        *points.T, c=views, cmap=SEQUENTIAL, s=3, linewidths=0, depthshade=False, norm=norm
    )
    image = plan.scatter(
        points[:, 0], points[:, 1], c=views, cmap=SEQUENTIAL, s=3, linewidths=0, norm=norm
    )
    whole = MaxNLocator(integer=True)
    label = "Views that agree"
    figure.colorbar(image, ax=plan, label=label, ticks=whole, fraction=0.046, pad=0.02)
    shown = points
    if calibration is not None:
        centres = torch.stack(list(calibration.camera_positions().values())).numpy()
        oblique.scatter(*centres.T, c=VERMILION, marker="v", s=24, label="cameras")
        plan.scatter(centres[:, 0], centres[:, 1], c=VERMILION, marker="v", s=24, label="cameras")
        plan.legend(loc="upper right", fontsize=8)
        shown = np.concatenate([points, centres])
    _finish(oblique, plan, shown)
    figure.suptitle(title or f"{len(cloud):,} triangulated points{strays}", fontsize=10)
    return figure


def _thinned(cloud: PointCloud, max_points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Positions, colours and view counts of a part, and a remark on the strays left out of it.

    The part is random: a regular one shows as stripes.
    """
    everything = cloud.points.cpu().double().numpy()
    low, high = np.percentile(everything, (_SPAN_PERCENT, 100 - _SPAN_PERCENT), axis=0)
    margin = _SPAN_MARGIN * float((high - low).max()) + 1e-6
    near = ((everything >= low - margin) & (everything <= high + margin)).all(axis=1)
    order = torch.randperm(len(cloud), generator=torch.Generator().manual_seed(0))
    chosen = order[torch.from_numpy(near)[order]][:max_points]
    strays = int((~near).sum())
    return (
        everything[chosen.numpy()],
        cloud.colors.cpu()[chosen].clamp(0, 1).numpy(),
        cloud.view_count.cpu()[chosen].numpy(),
        f", {strays:,} far outliers not shown" if strays else "",
    )


def _axes() -> tuple[PlotFigure, Axes3D, Axes]:
    figure = PlotFigure(9.5, 4.2)
    # The oblique view's labels reach out of its box, hence the empty column.
    grid = figure.add_gridspec(1, 3, width_ratios=(1, 0.06, 1))
    oblique = figure.add_subplot(grid[0], projection="3d")
    plan = figure.add_subplot(grid[2])
    return figure, oblique, plan


def _finish(oblique: Axes3D, plan: Axes, points: np.ndarray) -> None:
    extent = np.maximum(np.ptp(points, axis=0), 1e-3)
    oblique.set_box_aspect(tuple(np.maximum(extent, 0.25 * extent.max())))
    oblique.view_init(elev=_ELEVATION, azim=_AZIMUTH)
    oblique.invert_zaxis()  # Z points down into the water
    oblique.invert_yaxis()  # keeps the frame right-handed on the page
    oblique.set(xlabel="X (m)", ylabel="Y (m)", zlabel="Z (m)")
    oblique.tick_params(labelsize=7)
    oblique.locator_params(nbins=4)
    plan.set_aspect("equal")
    plan.invert_yaxis()  # as the cameras see it
    plan.set(xlabel="X (m)", ylabel="Y (m)")
    plan.set_title("From above", fontsize=9)
    plan.tick_params(labelsize=8)
