"""The rig, the water surface, and how rays bend at it."""

import math

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon
from torch import Tensor

from ..calibration import CalibrationData
from ..errors import DataError, ShapeError
from ..projection import RefractiveProjectionModel
from .canvas import BLUE, GREY, ORANGE, SKY, VERMILION, PlotFigure, bare

_FLOOR_PART = 0.4
"""Depth of the level on which footprints are drawn, in camera heights, when none is given."""

_PER_SIDE = 8
"""Rays through each side of the image's border that outline its footprint."""


def plot_rig(calibration: CalibrationData, *, floor_z: float | None = None) -> PlotFigure:
    """Plan and side view of a rig: cameras, footprints, water surface and refracted rays.

    Args:
        calibration: The rig.
        floor_z: World Z of the level on which footprints are drawn, metres; 0.4 camera heights
            below the water when absent.

    Returns:
        The figure. The plan has X to the right and Y down, as the cameras see it; lens distortion
        is left out.

    Raises:
        DataError: ``floor_z`` is not below the water.

    Example:
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.visualization import figure_png, plot_rig
        >>> figure_png(plot_rig(make_rig("small5")))[1:4]
        b'PNG'
    """
    models = {name: calibration.projection_model(name) for name in calibration.cameras}
    highest = min(float(model.camera_center[2]) for model in models.values())
    if floor_z is None:
        floor_z = calibration.water_z + _FLOOR_PART * (calibration.water_z - highest)
    if not floor_z > calibration.water_z:
        raise DataError(
            f"floor_z is {floor_z} m; expected a level below the water (water_z = "
            f"{calibration.water_z} m)"
        )
    figure = PlotFigure(10.5, 4.6)
    plan, side = figure.subplots(1, 2)
    for name, model in models.items():
        camera = calibration.cameras[name]
        color = ORANGE if camera.is_auxiliary else BLUE
        centre = model.camera_center.numpy()
        outline = _footprint(model, camera.image_size, floor_z)
        plan.add_patch(Polygon(outline, closed=True, fill=False, edgecolor=color, alpha=0.45))
        plan.plot(centre[0], centre[1], "o", color=color, markersize=5)
        plan.annotate(name, centre[:2], (3, 3), textcoords="offset points", fontsize=7)
        _side_rays(side, model, camera.image_size, floor_z, color)
        side.plot(centre[0], centre[2], "o", color=color, markersize=5)
    centres = np.stack([model.camera_center.numpy() for model in models.values()])
    corners = np.concatenate(
        [
            _footprint(models[name], calibration.cameras[name].image_size, floor_z)
            for name in calibration.ring_cameras or calibration.cameras
        ]
    )
    _finish_plan(plan, np.concatenate([centres[:, :2], corners]), floor_z)
    _finish_side(side, calibration, np.concatenate([centres[:, 0], corners[:, 0]]), floor_z)
    handles = [Line2D([], [], color=BLUE, marker="o", label="camera")]
    if calibration.auxiliary_cameras:
        handles.append(Line2D([], [], color=ORANGE, marker="o", label="auxiliary camera"))
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return figure


def plot_refracted_ray(
    model: RefractiveProjectionModel, pixel: Tensor, *, depth: float = 0.5
) -> PlotFigure:
    """One pixel's ray in its vertical plane: through the air, the surface and the water.

    Args:
        model: Camera.
        pixel: (u, v), shape (2,).
        depth: Ray depth up to which the ray is drawn, metres.

    Returns:
        The figure, with both angles to the surface normal and the point where a straight ray would
        have gone.

    Raises:
        ShapeError: ``pixel`` has another shape.
        DataError: The pixel looks at or above the horizon.

    Example:
        >>> import torch
        >>> from aquamvs.datasets import make_rig
        >>> from aquamvs.visualization import figure_png, plot_refracted_ray
        >>> rig = make_rig("small5")
        >>> models = [rig.projection_model(name) for name in rig.cameras]
        >>> figure_png(plot_refracted_ray(models[0], torch.tensor([20.0, 20.0])))[1:4]
        b'PNG'
    """
    if tuple(pixel.shape) != (2,):
        raise ShapeError("pixel", tuple(pixel.shape), "(2,)")
    origin, direction = model.cast_ray(pixel.double())
    if not bool(torch.isfinite(origin).all()):
        raise DataError(
            f"pixel {pixel.tolist()} looks past the horizon; its ray does not meet the water"
        )
    down = -model.normal.double() / model.normal.double().norm()
    incident = (origin - model.camera_center) / (origin - model.camera_center).norm()
    across = incident - (incident @ down) * down
    offset = float(across.norm())
    across = across / offset if offset > 0 else across

    def flat(point: Tensor) -> tuple[float, float]:
        """Horizontal distance from the camera and depth below the water surface."""
        relative = point - model.camera_center
        return float(relative @ across), float(relative @ down) - float(model.camera_height)

    figure = PlotFigure(5.6, 4.6)
    axes = figure.subplots()
    camera, entry = flat(model.camera_center), flat(origin)
    bent, straight = flat(origin + depth * direction), flat(origin + depth * incident)
    span = max(abs(bent[0]), abs(straight[0]), 0.15)
    axes.axhspan(0, max(bent[1], straight[1]) * 1.12, color=SKY, alpha=0.15, linewidth=0)
    axes.axhline(0, color=SKY, linewidth=1.5)
    axes.plot(
        *zip(camera, entry, bent, strict=True), color=BLUE, linewidth=2, label="refracted ray"
    )
    axes.plot(
        *zip(entry, straight, strict=True), color=VERMILION, linestyle=":", label="without water"
    )
    reach = 0.3 * min(-camera[1], bent[1])
    axes.plot([entry[0]] * 2, [-reach, reach], color=GREY, linestyle="--", linewidth=1)
    axes.plot(*camera, "o", color=BLUE)
    angles = [math.degrees(math.acos(min(1.0, float(d @ down)))) for d in (incident, direction)]
    for angle, y, text in ((angles[0], -reach, "air"), (angles[1], reach, "water")):
        axes.annotate(
            f"{angle:.1f}° in {text}",
            (entry[0], y),
            (8 if y < 0 else -8, 0),
            textcoords="offset points",
            ha="left" if y < 0 else "right",
            va="center",
            fontsize=8,
        )
    axes.annotate("camera", camera, (8, 2), textcoords="offset points", fontsize=8)
    axes.set_xlim(-0.45 * span, 1.35 * span)
    axes.set_ylim(max(bent[1], straight[1]) * 1.12, camera[1] * 1.08)
    axes.set_aspect("equal")
    axes.set_xlabel("Distance from the camera along the surface (m)")
    axes.set_ylabel("Depth below the surface (m)")
    axes.legend(loc="upper right", fontsize=8)
    bare(axes)
    return figure


def _border(size: tuple[int, int]) -> Tensor:
    """Pixels around an image's border, shape (4 * _PER_SIDE, 2)."""
    width, height = size[0] - 1.0, size[1] - 1.0
    part = torch.arange(_PER_SIDE, dtype=torch.float64) / _PER_SIDE
    zero, one = torch.zeros_like(part), torch.ones_like(part)
    u = torch.cat([part, one, 1 - part, zero]) * width
    v = torch.cat([zero, part, one, 1 - part]) * height
    return torch.stack([u, v], dim=-1)


def _footprint(
    model: RefractiveProjectionModel, size: tuple[int, int], floor_z: float
) -> np.ndarray:
    """Where the image's border meets the level ``floor_z``, shape (N, 2); missing rays left out."""
    origin, direction = model.cast_ray(_border(size))
    reach = (floor_z - origin[:, 2]) / direction[:, 2]
    points = origin + reach[:, None] * direction
    return points[torch.isfinite(points).all(-1) & (reach >= 0)][:, :2].numpy()


def _side_rays(
    axes: Axes, model: RefractiveProjectionModel, size: tuple[int, int], floor_z: float, color: str
) -> None:
    """The view's left, central and right ray in X and Z."""
    middle_v = (size[1] - 1) / 2
    middle_u = (size[0] - 1) / 2
    ends = torch.tensor(
        [[0.0, middle_v], [size[0] - 1.0, middle_v], [middle_u, 0.0], [middle_u, size[1] - 1.0]],
        dtype=torch.float64,
    )
    origin, direction = model.cast_ray(ends)
    reach = (floor_z - origin[:, 2]) / direction[:, 2]
    floor = origin + reach[:, None] * direction
    known = torch.isfinite(floor).all(-1)
    if not bool(known.any()):
        return
    order = floor[known][:, 0].argsort()
    centre = model.camera_center
    for index in (order[0], order[-1]):
        path = torch.stack([centre, origin[known][index], floor[known][index]]).numpy()
        axes.plot(path[:, 0], path[:, 2], color=color, linewidth=0.7, alpha=0.6)


def _finish_plan(axes: Axes, points: np.ndarray, floor_z: float) -> None:
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.06 * float((high - low).max())
    axes.set_xlim(low[0] - margin, high[0] + margin)
    axes.set_ylim(high[1] + margin, low[1] - margin)
    axes.set_aspect("equal")
    axes.set(xlabel="X (m)", ylabel="Y (m)")
    axes.set_title(f"From above, footprints at Z = {floor_z:.2f} m", fontsize=9)
    bare(axes)


def _finish_side(axes: Axes, calibration: CalibrationData, x: np.ndarray, floor_z: float) -> None:
    low, high = float(x.min()), float(x.max())
    margin = 0.06 * (high - low)
    ends = np.array([low - margin, high + margin])
    normal = calibration.interface_normal.numpy()
    surface = calibration.water_z - normal[0] / normal[2] * ends
    axes.fill_between(ends, surface, floor_z, color=SKY, alpha=0.15, linewidth=0)
    axes.plot(ends, surface, color=SKY, linewidth=1.5)
    axes.text(ends[0], floor_z, " water ", va="bottom", fontsize=8)
    axes.set_xlim(*ends)
    top = float(min(camera.camera_center[2] for camera in calibration.cameras.values()))
    axes.set_ylim(floor_z + 0.02 * (floor_z - top), top - 0.08 * (floor_z - top))
    axes.set_aspect("equal")
    axes.set(xlabel="X (m)", ylabel="Z, down (m)")
    axes.set_title("From the side", fontsize=9)
    bare(axes)
