"""Figures that tutorials, reports and the command line share.

Every function returns a figure of its own and leaves pyplot alone; matplotlib is loaded on first
use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .animation import FlipBook, figures_gif, flip_book
    from .benchmark import plot_accuracy, plot_runtime_and_points, plot_stage_times
    from .canvas import figure_png, figure_svg
    from .change import change_frames, plot_height_difference, plot_volumes
    from .clouds import plot_point_cloud, plot_sparse_cloud
    from .errors import plot_error_curves, plot_error_maps
    from .maps import plot_consistency, plot_depth_comparison, plot_depth_map, plot_height_map
    from .matches import plot_matches
    from .rig import plot_refracted_ray, plot_rig
    from .summary import plot_summary
    from .view3d import View3D, view_3d

__all__ = [
    "FlipBook",
    "View3D",
    "change_frames",
    "figure_png",
    "figure_svg",
    "figures_gif",
    "flip_book",
    "plot_accuracy",
    "plot_consistency",
    "plot_depth_comparison",
    "plot_depth_map",
    "plot_error_curves",
    "plot_error_maps",
    "plot_height_difference",
    "plot_height_map",
    "plot_matches",
    "plot_point_cloud",
    "plot_refracted_ray",
    "plot_rig",
    "plot_runtime_and_points",
    "plot_sparse_cloud",
    "plot_stage_times",
    "plot_summary",
    "plot_volumes",
    "view_3d",
]

_HOMES = {
    "View3D": ".view3d",
    "view_3d": ".view3d",
    "FlipBook": ".animation",
    "change_frames": ".change",
    "figures_gif": ".animation",
    "flip_book": ".animation",
    "plot_height_difference": ".change",
    "plot_summary": ".summary",
    "plot_volumes": ".change",
    "figure_png": ".canvas",
    "figure_svg": ".canvas",
    "plot_accuracy": ".benchmark",
    "plot_consistency": ".maps",
    "plot_depth_comparison": ".maps",
    "plot_depth_map": ".maps",
    "plot_error_curves": ".errors",
    "plot_error_maps": ".errors",
    "plot_height_map": ".maps",
    "plot_matches": ".matches",
    "plot_point_cloud": ".clouds",
    "plot_refracted_ray": ".rig",
    "plot_rig": ".rig",
    "plot_runtime_and_points": ".benchmark",
    "plot_sparse_cloud": ".clouds",
    "plot_stage_times": ".benchmark",
}


def __getattr__(name: str) -> Any:
    """Public names load their module, and with it matplotlib, on first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, loaded or not: the API reference is written from them."""
    return sorted({*globals(), *__all__})
