"""The board protocol: five figures that say how good a rig or a reconstruction is under water.

Flatness, agreement across cameras, range error, lateral error and square size need nothing but a
printed board in the water. For the triangulated corners they judge the calibration; for depth maps
and surfaces they judge the reconstruction, against the plane that the corners fix.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..plain import plain
from ..projection import RefractiveProjectionModel
from ..types import DepthMap
from .arrays import FloatArray
from .board import BoardCorners, BoardDetection, BoardPose
from .limit import depth_points

_CELLS_PER_SQUARE = 4
"""Cells per side of a square at which depth maps are compared with each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardErrors:
    """Errors on a board; NaN where a figure could not be measured.

    Attributes:
        corner_count: Corners used for lateral error and square size (of all cameras, for depth
            maps).
        flatness_rms: RMS distance of the points to their own best plane, metres (for depth maps
            one plane per camera).
        cross_camera_agreement_rms: RMS disagreement of the cameras about the same place, metres.
            Corners: the distance of the cameras' rays to the corner. Depth maps: the standard
            deviation across cameras of the height over the board, in cells of a quarter square.
        range_bias: Mean error away from the cameras (positive: too deep), metres. Corners:
            along the board's normal, and only if the true pose is given. Depth maps: along the ray.
        range_rms: RMS of the same, metres.
        lateral_rms: RMS error of corners within the board's plane, metres.
        square_size_bias: Mean of measured minus printed distance of adjacent corners, metres.
        square_size_rms: RMS of the same, metres.
        reprojection_rms_px: RMS reprojection error of the corners; NaN for depth maps.
        coverage: Fraction of the board's pixels that have a depth; NaN for corners.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import BoardCorners, board_corner_errors, fit_board
        >>> printed = torch.tensor(board.aruco_board().getChessboardCorners()).double()
        >>> seen, exact = torch.full((len(printed),), 5), torch.zeros(len(printed)).double()
        >>> stretched = BoardCorners(torch.arange(len(printed)), 1.01 * printed, seen, exact, exact)
        >>> errors = board_corner_errors(stretched, fit_board(stretched, board))
        >>> round(1000 * errors.square_size_bias, 2)  # mm: one percent of 60
        0.6
    """

    corner_count: int
    flatness_rms: float
    cross_camera_agreement_rms: float
    range_bias: float
    range_rms: float
    lateral_rms: float
    square_size_bias: float
    square_size_rms: float
    reprojection_rms_px: float
    coverage: float

    def as_dict(self) -> dict[str, Any]:
        """The errors as plain Python for JSON; NaN becomes None."""
        result: dict[str, Any] = plain(self)
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardSurfaceErrors:
    """A reconstructed surface on the board.

    Attributes:
        count: Points over the board.
        flatness_rms: RMS distance to their own best plane, metres.
        offset_bias: Mean distance to the board's plane, positive on the far side, metres.
        offset_rms: RMS distance to the board's plane, metres.
        tilt_deg: Angle between the best plane and the board, degrees.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import BoardPose, board_surface_errors
        >>> pose = BoardPose(board, torch.eye(3).double(), torch.tensor([0.0, 0.0, 1.2]).double())
        >>> on_board = torch.tensor([[0.1, 0.1, 0.002], [0.5, 0.1, 0.002], [0.1, 0.4, 0.002]])
        >>> errors = board_surface_errors(pose.to_world(on_board.double()), pose)
        >>> round(1000 * errors.offset_bias, 3), errors.count  # mm
        (2.0, 3)
    """

    count: int
    flatness_rms: float
    offset_bias: float
    offset_rms: float
    tilt_deg: float

    def as_dict(self) -> dict[str, Any]:
        """The errors as plain Python for JSON; NaN becomes None."""
        result: dict[str, Any] = plain(self)
        return result


def board_corner_errors(
    corners: BoardCorners, pose: BoardPose, *, pose_is_truth: bool = False
) -> BoardErrors:
    """Judge triangulated corners, and with them the calibration.

    Args:
        corners: From :func:`aquamvs.evaluation.triangulate_corners`.
        pose: The board's pose: fitted to the same corners (:func:`aquamvs.evaluation.fit_board`),
            or known from elsewhere.
        pose_is_truth: ``pose`` is known from elsewhere, so that range errors can be told.

    Returns:
        The errors.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import BoardCorners, board_corner_errors, fit_board
        >>> printed = torch.tensor(board.aruco_board().getChessboardCorners()).double()
        >>> seen, exact = torch.full((len(printed),), 5), torch.zeros(len(printed)).double()
        >>> found = BoardCorners(torch.arange(len(printed)), printed, seen, exact, exact)
        >>> board_corner_errors(found, fit_board(found, board)).lateral_rms < 1e-6
        True
    """
    offset = pose.to_board(corners.points) - pose.board.corners[corners.ids]
    away = _away(pose)
    range_error = (away * offset[:, 2]).numpy()
    squares = _square_errors(corners.ids, corners.points, pose)
    views = corners.view_count.double()
    per_view = (views / views.sum()).numpy()
    return BoardErrors(
        corner_count=len(corners.ids),
        flatness_rms=_rms(_plane_residual(corners.points.numpy())[0]),
        cross_camera_agreement_rms=_rms(corners.ray_rms.numpy(), per_view),
        range_bias=_mean(range_error) if pose_is_truth else float("nan"),
        range_rms=_rms(range_error) if pose_is_truth else float("nan"),
        lateral_rms=_rms(offset[:, :2].norm(dim=-1).numpy()),
        square_size_bias=_mean(squares),
        square_size_rms=_rms(squares),
        reprojection_rms_px=_rms(corners.reprojection_rms_px.numpy(), per_view),
        coverage=float("nan"),
    )


def board_depth_errors(
    depth_maps: Sequence[DepthMap],
    models: Sequence[RefractiveProjectionModel],
    pose: BoardPose,
    detections: Sequence[BoardDetection] = (),
) -> BoardErrors:
    """Judge depth maps over the board's inner rectangle; no pixel is trimmed.

    Args:
        depth_maps: Depth maps of the cameras.
        models: Their models, with the depth maps' intrinsics.
        pose: The board's pose, independent of the depth maps.
        detections: The corners in each camera's image, for lateral error and square size; may be
            left out.

    Returns:
        The errors of all cameras together.

    Raises:
        DataError: The sequences differ in length, or no camera sees the board.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import BoardPose, board_depth_errors
        >>> corner = torch.tensor([-0.36, -0.27, 1.0]).double()
        >>> pose = BoardPose(board, torch.eye(3).double(), corner)
        >>> models = [views[depth_map.camera].model for depth_map in made.depth_maps]
        >>> errors = board_depth_errors(made.depth_maps, models, pose)
        >>> errors.flatness_rms > 0.001  # metres: a bed of sand is no board
        True
    """
    if len(models) != len(depth_maps) or len(detections) not in (0, len(depth_maps)):
        raise DataError(
            f"{len(depth_maps)} depth maps, {len(models)} models and {len(detections)} detections; "
            "expected as many of each"
        )
    views = [_view(d, m, pose) for d, m in zip(depth_maps, models, strict=True)]
    seen = sum(view.board_pixels for view in views)
    if not seen:
        raise DataError("no camera sees the board's inner rectangle; check the board's pose")
    corner_sets = [
        _corner_points(depth_map, model, found)
        for depth_map, model, found in zip(depth_maps, models, detections, strict=False)
    ]
    lateral = [_lateral(ids, points, pose) for ids, points in corner_sets]
    squares = _joined([_square_errors(ids, points, pose) for ids, points in corner_sets])
    range_error = _joined([view.range_error for view in views])
    return BoardErrors(
        corner_count=sum(len(values) for values in lateral),
        flatness_rms=_rms(_joined([_plane_residual(view.points)[0] for view in views])),
        cross_camera_agreement_rms=_agreement(views, pose),
        range_bias=_mean(range_error),
        range_rms=_rms(range_error),
        lateral_rms=_rms(_joined(lateral)),
        square_size_bias=_mean(squares),
        square_size_rms=_rms(squares),
        reprojection_rms_px=float("nan"),
        coverage=len(range_error) / seen,
    )


def board_surface_errors(
    points: Tensor, pose: BoardPose, *, max_distance: float | None = None
) -> BoardSurfaceErrors:
    """Judge the points of a cloud, height map or mesh over the board's inner rectangle.

    Args:
        points: World frame, shape (N, 3), metres; NaN entries are ignored.
        pose: The board's pose, independent of the points.
        max_distance: Points further from the board's plane belong to something else, metres; one
            square when absent.

    Returns:
        The errors.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import BoardPose, board_surface_errors
        >>> pose = BoardPose(board, torch.eye(3).double(), torch.tensor([0.0, 0.0, 1.2]).double())
        >>> raised = torch.tensor([[0.1, 0.1, -0.001], [0.5, 0.1, -0.001], [0.1, 0.4, -0.001]])
        >>> errors = board_surface_errors(pose.to_world(raised.double()), pose)
        >>> round(1000 * errors.offset_bias, 3)  # mm
        -1.0
    """
    reach = pose.board.square_size if max_distance is None else max_distance
    local = pose.to_board(points.detach().cpu().double())
    height = _away(pose) * local[:, 2]
    over = pose.contains(local) & (height.abs() <= reach)
    residual, normal = _plane_residual(local[over].numpy())
    tilt = np.arctan2(np.hypot(normal[0], normal[1]), abs(normal[2]))
    return BoardSurfaceErrors(
        count=int(over.sum()),
        flatness_rms=_rms(residual),
        offset_bias=_mean(height[over].numpy()),
        offset_rms=_rms(height[over].numpy()),
        tilt_deg=float(np.degrees(tilt)),
    )


@dataclass(frozen=True, slots=True)
class _View:
    """One depth map over the board.

    Attributes:
        board_pixels: Pixels whose ray meets the board.
        points: Board frame, of the pixels among them that have a depth, shape (N, 3).
        range_error: Estimated minus true ray depth of those, shape (N,).
    """

    board_pixels: int
    points: FloatArray
    range_error: FloatArray


def _view(depth_map: DepthMap, model: RefractiveProjectionModel, pose: BoardPose) -> _View:
    # Zero depth gives the rays' origins on the water surface.
    depth = depth_map.depth.detach().cpu().double()
    origin, direction = depth_points(model.to("cpu"), torch.zeros_like(depth))
    start, heading = pose.to_board(origin), direction @ pose.R
    true_depth = -start[..., 2] / heading[..., 2]
    meets = (true_depth > 0) & pose.contains(start + true_depth[..., None] * heading)
    known = meets & torch.isfinite(depth)
    points = start[known] + depth[known][:, None] * heading[known]
    return _View(int(meets.sum()), points.numpy(), (depth - true_depth)[known].numpy())


def _corner_points(
    depth_map: DepthMap, model: RefractiveProjectionModel, found: BoardDetection
) -> tuple[Tensor, Tensor]:
    """Corners in space from a depth map: ids, shape (N,), and points where depth is known."""
    depth = depth_map.depth.detach().cpu().double()
    height, width = depth.shape
    pixels = found.pixels.double()
    u, v = pixels.unbind(-1)
    j, i = u.floor().clamp(0, width - 2).long(), v.floor().clamp(0, height - 2).long()
    fu, fv = u - j, v - i
    upper = (1 - fu) * depth[i, j] + fu * depth[i, j + 1]
    lower = (1 - fu) * depth[i + 1, j] + fu * depth[i + 1, j + 1]
    origin, direction = model.to("cpu").cast_ray(pixels)
    points = origin + ((1 - fv) * upper + fv * lower)[:, None] * direction
    known = torch.isfinite(points).all(-1)
    return found.ids[known], points[known]


def _lateral(ids: Tensor, points: Tensor, pose: BoardPose) -> FloatArray:
    offset = pose.to_board(points) - pose.board.corners[ids]
    return np.asarray(offset[:, :2].norm(dim=-1).numpy())


def _square_errors(ids: Tensor, points: Tensor, pose: BoardPose) -> FloatArray:
    """Measured minus printed distance of every pair of adjacent corners, shape (P,)."""
    columns = pose.board.squares_x - 1
    index = {int(corner): row for row, corner in enumerate(ids)}
    pairs = [
        (row, index[corner + step])
        for corner, row in index.items()
        for step, adjacent in ((1, (corner + 1) % columns != 0), (columns, True))
        if adjacent and corner + step in index
    ]
    if not pairs:
        return np.empty(0)
    first, second = torch.tensor(pairs).unbind(-1)
    length = (points[first] - points[second]).norm(dim=-1)
    return np.asarray((length - pose.board.square_size).numpy())


def _agreement(views: list[_View], pose: BoardPose) -> float:
    """Standard deviation across cameras of the mean height over the board in each cell."""
    cell = pose.board.square_size / _CELLS_PER_SQUARE
    columns = pose.board.squares_x * _CELLS_PER_SQUARE
    means: dict[int, list[float]] = {}
    for view in views:
        index = np.floor(view.points[:, :2] / cell).astype(np.int64)
        keys, inverse = np.unique(index[:, 1] * columns + index[:, 0], return_inverse=True)
        count = np.bincount(inverse, minlength=len(keys))
        height = np.bincount(inverse, view.points[:, 2], minlength=len(keys)) / count
        for key, value in zip(keys.tolist(), height.tolist(), strict=True):
            means.setdefault(key, []).append(value)
    shared = [np.asarray(values) for values in means.values() if len(values) > 1]
    if not shared:
        return float("nan")
    square = sum(float(np.square(values - values.mean()).sum()) for values in shared)
    return float(np.sqrt(square / sum(len(values) - 1 for values in shared)))


def _plane_residual(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distances to the best plane, shape (N,), and its normal; empty and NaN below 3 points."""
    if len(points) < 3:
        return np.empty(0), np.full(3, np.nan)
    centred = points - points.mean(axis=0)
    normal = np.linalg.eigh(centred.T @ centred)[1][:, 0]
    return centred @ normal, normal


def _away(pose: BoardPose) -> float:
    """Sign that turns heights over the board into distances away from the cameras (world +Z)."""
    return 1.0 if float(pose.normal[2]) > 0 else -1.0


def _joined(arrays: list[FloatArray]) -> FloatArray:
    return np.concatenate(arrays) if arrays else np.empty(0)


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _rms(values: FloatArray, weight: FloatArray | None = None) -> float:
    if not values.size:
        return float("nan")
    return float(np.sqrt(np.average(np.square(values), weights=weight)))
