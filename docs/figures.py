"""Figures of the site, drawn by the library (see ``docs/_ext/drawn_figure.py``).

python docs/figures.py FOLDER    draws all of them as PNG, to look at
"""

import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from aquamvs import Pipeline, PipelineConfig
from aquamvs.calibration import CalibrationData
from aquamvs.datasets import GroundTruth, load_ground_truth, make_example, make_rig
from aquamvs.evaluation import HeightGrid, model_bias, rig_limit
from aquamvs.pathways import PipelineMode
from aquamvs.pipeline import Reconstruction
from aquamvs.projection import RefractiveProjectionModel, fit_pinhole, straight
from aquamvs.visualization import (
    figure_png,
    plot_depth_comparison,
    plot_error_curves,
    plot_error_maps,
    plot_height_map,
    plot_refracted_ray,
    plot_rig,
    plot_sparse_cloud,
)

__all__ = [
    "depth_maps",
    "height_map",
    "limit_over_depth",
    "pinhole_bias",
    "refracted_ray",
    "rig",
    "sparse_points",
]

_SIDE = 41
_DEPTH = 0.35
"""Metres under water of the ground that the maps show."""


def rig() -> Figure:
    """The rig of the example datasets."""
    return plot_rig(_rig())


def refracted_ray() -> Figure:
    """The ray of a pixel near the corner."""
    model = _models()[0]
    return plot_refracted_ray(model, model.K.new_tensor([60.0, 60.0]))


def pinhole_bias() -> Figure:
    """Errors on level ground with the index ignored, and with fitted pinholes at two depths."""
    models = _models()
    level = _rig().water_z + _DEPTH
    fits = [
        fit_pinhole(model, size, (level - 0.05, level + 0.05)).model
        for model, size in zip(models, _sizes(), strict=True)
    ]
    maps = {
        "Index ignored": _bias_map([straight(model) for model in models], _DEPTH),
        "Fitted pinhole, where fitted": _bias_map(fits, _DEPTH),
        "10 cm deeper": _bias_map(fits, _DEPTH + 0.1),
    }
    return plot_error_maps(maps)


def limit_over_depth() -> Figure:
    """The rig's limit in height and across, over the depth of the ground."""
    depths = np.linspace(0.1, 1.0, 37)
    height, across = [], []
    for depth in depths:
        points, _, _ = _ground(float(depth))
        found = rig_limit(_models(), points, sizes=_sizes())
        side = found.along(torch.tensor([1.0, 0.0, 0.0]))
        height.append(float(found.height.nanmedian()))
        across.append(float(side.nanmedian()))
    curves = {"in height": (list(depths), height), "across": (list(depths), across)}
    figure = plot_error_curves(curves, x_label="Depth of the ground (m)")
    figure.axes[0].set_ylabel("1 sigma at 0.1 px (mm)")
    return figure


def height_map() -> Figure:
    """The surface sweep on a small scene, with its error."""
    found = _reconstruction(PipelineMode.SURFACE).height_map
    assert found is not None  # noqa: S101 - the mode makes one
    surface = _truth().surface
    truth = HeightGrid(surface.x0, surface.y0, surface.spacing, surface.z)
    return plot_height_map(found, error=found.z - torch.from_numpy(truth.at(*found.grid_xy())))


def depth_maps() -> Figure:
    """Depth maps of a camera by depth-map engine and surface sweep, with their errors."""
    camera = _truth().cameras[0]
    names = {"full (SIFT)": PipelineMode.FULL, "Surface sweep": PipelineMode.SURFACE}
    found = {
        name: next(d for d in _reconstruction(mode).depth_maps if d.camera == camera)
        for name, mode in names.items()
    }
    return plot_depth_comparison(found, _truth().depth(camera))


def sparse_points() -> Figure:
    """Triangulated points of a small scene."""
    return plot_sparse_cloud(_reconstruction(PipelineMode.SPARSE).cloud)


@cache
def _scene() -> tempfile.TemporaryDirectory[str]:
    """A rendered scene in a folder that goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="figures-")
    make_example(Path(folder.name) / "example", scale="tiny")
    return folder


def _truth() -> GroundTruth:
    return load_ground_truth(Path(_scene().name) / "example")


@cache
def _reconstruction(mode: PipelineMode) -> Reconstruction:
    config = PipelineConfig.from_yaml(Path(_scene().name) / "example" / "config.yaml")
    return Pipeline(config.model_copy(update={"pipeline_mode": mode})).run_frame(0).reconstruction


@cache
def _rig() -> CalibrationData:
    return make_rig("ring13", image_size=(800, 600))


def _models() -> list[RefractiveProjectionModel]:
    return [_rig().projection_model(name) for name in _rig().cameras]


def _sizes() -> list[tuple[int, int]]:
    return [camera.image_size for camera in _rig().cameras.values()]


def _ground(depth: float) -> tuple[torch.Tensor, float, float]:
    """Level ground under the rig, shape (rows, columns, 3), its first X and Y, and the step."""
    centre = torch.stack(list(_rig().camera_positions().values())).mean(0)
    side = torch.linspace(-0.6, 0.6, _SIDE, dtype=torch.float64)
    y, x = torch.meshgrid(side + centre[1], side + centre[0], indexing="ij")
    points = torch.stack([x, y, torch.full_like(x, _rig().water_z + depth)], dim=-1)
    return points, float(side[0]), float(side[1] - side[0])


def _bias_map(believed: list[RefractiveProjectionModel], depth: float) -> HeightGrid:
    points, x0, step = _ground(depth)
    bias = model_bias(_models(), believed, points, sizes=_sizes())
    z = torch.where(bias.view_count >= 3, bias.shift[..., 2], torch.nan)
    return HeightGrid(x0, x0, step, z)


def main(folder: Path) -> None:
    """Draw all figures as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in __all__:
        (folder / f"{name}.png").write_bytes(figure_png(globals()[name]()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
