"""A ChArUco board under water: its corners in every view, in space, and the board's pose.

The corners are triangulated from all cameras by least squares on the reprojection error, by code of
this module alone: it judges the pipeline, so it shares none of its stages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, ShapeError
from ..plain import plain
from ..projection import RefractiveProjectionModel
from .alignment import umeyama

_GAUSS_NEWTON_STEPS = 20
"""Steps at most; from the point nearest to all rays, three or four reach rounding."""

_SETTLED = 1e-12
"""A step shorter than this ends the iteration, metres."""

_MIN_WINDOW = 2
"""Half window of the corner refinement where markers leave less room, pixels."""

_MIN_CORNERS = 4
"""Corners that a pose needs: three fit any triangle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardSpec:
    """A ChArUco board, in the terms of AquaCal's calibration file.

    The board frame has its origin at the outer corner of the board's first square, X along
    ``squares_x``, Y along ``squares_y``, metres.

    Attributes:
        squares_x: Chessboard squares in X.
        squares_y: Chessboard squares in Y.
        square_size: Side of a square, metres.
        marker_size: Side of a marker, metres.
        dictionary: Name of OpenCV's predefined marker dictionary, such as ``DICT_5X5_100``.
        legacy_pattern: The board was printed with OpenCV before 4.6.

    Example:
        >>> from aquamvs.evaluation import BoardSpec
        >>> board = BoardSpec(
        ...     squares_x=12, squares_y=9, square_size=0.06, marker_size=0.045,
        ...     dictionary="DICT_5X5_100",
        ... )
        >>> len(board.aruco_board().getChessboardCorners())
        88
    """

    squares_x: int
    squares_y: int
    square_size: float
    marker_size: float
    dictionary: str
    legacy_pattern: bool = False

    def __post_init__(self) -> None:
        if min(self.squares_x, self.squares_y) < 3:
            raise DataError(
                f"the board has {self.squares_x} x {self.squares_y} squares; expected 3 x 3 or more"
            )
        if not 0 < self.marker_size < self.square_size:
            raise DataError(
                f"marker_size is {self.marker_size} m and square_size {self.square_size} m; "
                "expected 0 < marker_size < square_size"
            )
        if not (self.dictionary.startswith("DICT_") and hasattr(cv2.aruco, self.dictionary)):
            raise DataError(
                f"dictionary is {self.dictionary!r}; expected the name of an OpenCV dictionary "
                "such as DICT_5X5_100"
            )

    @property
    def corners(self) -> Tensor:
        """Inner corners in the board frame in the order of their ids, shape (N, 3), metres."""
        y, x = torch.meshgrid(
            torch.arange(1, self.squares_y, dtype=torch.float64),
            torch.arange(1, self.squares_x, dtype=torch.float64),
            indexing="ij",
        )
        flat = torch.stack([x, y, torch.zeros_like(x)], dim=-1).reshape(-1, 3)
        return self.square_size * flat

    def aruco_board(self) -> Any:
        """The board as ``cv2.aruco.CharucoBoard``."""
        board = cv2.aruco.CharucoBoard(
            (self.squares_x, self.squares_y),
            self.square_size,
            self.marker_size,
            cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary)),
        )
        board.setLegacyPattern(self.legacy_pattern)
        return board


@dataclass(frozen=True, slots=True)
class BoardDetection:
    """Corners found in one view.

    Attributes:
        ids: Corner ids, ascending, shape (N,), int64.
        pixels: (u, v) in the undistorted image, shape (N, 2), float64.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import detect_board
        >>> detection = detect_board(torch.ones(60, 80, 3), board)
        >>> len(detection.ids), tuple(detection.pixels.shape)
        (0, (0, 2))
    """

    ids: Tensor
    pixels: Tensor

    def __post_init__(self) -> None:
        if tuple(self.pixels.shape) != (len(self.ids), 2):
            raise ShapeError("pixels", tuple(self.pixels.shape), f"({len(self.ids)}, 2)")


@dataclass(frozen=True, slots=True)
class BoardCorners:
    """Corners triangulated through the water surface.

    Attributes:
        ids: Corner ids, ascending, shape (N,), int64.
        points: World frame, shape (N, 3), float64, metres.
        view_count: Views of each, shape (N,), int64.
        reprojection_rms_px: Root mean square distance of detections and projections, per corner,
            shape (N,), pixels.
        ray_rms: Root mean square distance of the views' rays to the corner, shape (N,), metres.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import BoardCorners
        >>> seen, level = torch.full((2,), 5), torch.zeros(2)
        >>> points = torch.tensor([[0.0, 0.0, 1.0], [0.06, 0.0, 1.0]])
        >>> corners = BoardCorners(torch.arange(2), points, seen, level, level)
        >>> round(1000 * float((corners.points[1] - corners.points[0]).norm()), 1)  # mm
        60.0
    """

    ids: Tensor
    points: Tensor
    view_count: Tensor
    reprojection_rms_px: Tensor
    ray_rms: Tensor


@dataclass(frozen=True, slots=True)
class BoardPose:
    """Where the board is: ``x_world = R @ x_board + t``.

    Attributes:
        board: The board.
        R: ``world_from_board`` rotation, shape (3, 3), float64.
        t: ``world_from_board`` translation, shape (3,), float64, metres.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import BoardPose
        >>> pose = BoardPose(board, torch.eye(3).double(), torch.tensor([0.0, 0.0, 1.2]).double())
        >>> pose.to_world(torch.tensor([[0.06, 0.06, 0.0]]).double()).round(decimals=3).tolist()
        [[0.06, 0.06, 1.2]]
    """

    board: BoardSpec
    R: Tensor
    t: Tensor

    @property
    def normal(self) -> Tensor:
        """Unit normal of the board's plane, the board's Z axis in the world, shape (3,)."""
        return self.R[:, 2]

    @property
    def corners(self) -> Tensor:
        """World position of every inner corner, shape (N, 3), metres."""
        return self.to_world(self.board.corners)

    def to_world(self, points: Tensor) -> Tensor:
        """Points of the board frame in the world frame, shape (..., 3)."""
        return points @ self.R.T + self.t

    def to_board(self, points: Tensor) -> Tensor:
        """Points of the world frame in the board frame, shape (..., 3)."""
        return (points - self.t) @ self.R

    def contains(self, board_points: Tensor) -> Tensor:
        """Which points of the board frame lie over the inner corners' rectangle, shape (...,)."""
        size, board = self.board.square_size, self.board
        x, y = board_points[..., 0], board_points[..., 1]
        inside = (x >= size) & (x <= size * (board.squares_x - 1))
        return inside & (y >= size) & (y <= size * (board.squares_y - 1))

    def as_dict(self) -> dict[str, Any]:
        """The pose as plain Python for JSON."""
        result: dict[str, Any] = plain(self)
        return result


def detect_board(image: Tensor, board: BoardSpec) -> BoardDetection:
    """Find a board's corners in an undistorted image.

    Args:
        image: RGB, shape (H, W, 3), float32 in [0, 1].
        board: The board.

    Returns:
        The corners found, none where the board is not seen.

    Raises:
        ShapeError: The image has another shape.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import detect_board
        >>> image = board.aruco_board().generateImage((600, 450), marginSize=20)
        >>> rgb = torch.from_numpy(image / 255).float()[..., None].expand(-1, -1, 3)
        >>> len(detect_board(rgb, board).ids)
        88
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ShapeError("image", tuple(image.shape), "(H, W, 3)")
    rgb = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    detector = cv2.aruco.CharucoDetector(board.aruco_board())
    grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    pixels, ids, _, _ = detector.detectBoard(grey)
    if ids is None:
        return BoardDetection(torch.empty(0, dtype=torch.int64), torch.empty(0, 2).double())
    flat: NDArray[np.int64] = np.asarray(ids, dtype=np.int64).reshape(-1)
    order = np.argsort(flat, kind="stable")
    found = _refine(grey, np.asarray(pixels, dtype=np.float32).reshape(-1, 2)[order], board)
    return BoardDetection(torch.from_numpy(flat[order]), torch.from_numpy(found))


def triangulate_corners(
    models: Mapping[str, RefractiveProjectionModel], detections: Mapping[str, BoardDetection]
) -> BoardCorners:
    """Corners in space from all views that see them, by least squares in the images.

    Args:
        models: Camera name to model of the undistorted grid.
        detections: Camera name to the corners found in its undistorted image.

    Returns:
        The corners that at least two views see.

    Raises:
        DataError: A detection's camera is not among the models, or no corner is seen twice.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import BoardDetection, triangulate_corners
        >>> corner = torch.tensor([[0.06, 0.0, 1.0]]).double()
        >>> models = {view.name: view.model for view in views}
        >>> seen = {
        ...     name: BoardDetection(torch.arange(1), model.project(corner)[0])
        ...     for name, model in models.items()
        ... }
        >>> bool((triangulate_corners(models, seen).points - corner).norm() < 1e-6)
        True
    """
    unknown = sorted(set(detections) - set(models))
    if unknown:
        raise DataError(f"corners were given for camera {unknown[0]}, which has no model")
    names = [name for name, found in detections.items() if len(found.ids)]
    ids, view_count = torch.unique(
        torch.cat([torch.empty(0, dtype=torch.int64), *(detections[n].ids for n in names)]),
        return_counts=True,
    )
    ids, view_count = ids[view_count >= 2], view_count[view_count >= 2]
    if not len(ids):
        raise DataError(
            f"no board corner is seen by two of {len(detections)} views; check the board's "
            "dictionary and size, and that the board is in view"
        )
    observed = torch.full((len(names), len(ids), 2), torch.nan, dtype=torch.float64)
    for row, name in enumerate(names):
        found = detections[name]
        place = torch.searchsorted(ids, found.ids).clamp(max=len(ids) - 1)
        known = ids[place] == found.ids
        observed[row, place[known]] = found.pixels[known].double()
    cameras = [models[name].to("cpu") for name in names]
    points, ray_rms = _triangulate(cameras, observed)
    residual = torch.stack([m.project(points)[0] for m in cameras]) - observed
    square = residual.square().sum(-1).nan_to_num(0.0).sum(0) / view_count
    return BoardCorners(ids, points, view_count, square.sqrt(), ray_rms)


def fit_board(corners: BoardCorners, board: BoardSpec) -> BoardPose:
    """Rigid pose of the printed board that fits its triangulated corners best.

    Args:
        corners: At least four, from :func:`triangulate_corners`.
        board: The board, of known size.

    Returns:
        The pose.

    Raises:
        DataError: Too few corners, an id that the board does not have, or all on a line.

    Example:
        >>> import torch
        >>> from aquamvs.evaluation import BoardCorners, fit_board
        >>> printed = torch.tensor(board.aruco_board().getChessboardCorners()).double()
        >>> seen, exact = torch.full((len(printed),), 5), torch.zeros(len(printed)).double()
        >>> moved = printed + torch.tensor([0.0, 0.0, 1.2])
        >>> found = BoardCorners(torch.arange(len(printed)), moved, seen, exact, exact)
        >>> round(float(fit_board(found, board).t[2]), 6)
        1.2
    """
    reference = board.corners
    if len(corners.ids) < _MIN_CORNERS:
        raise DataError(
            f"{len(corners.ids)} board corners were triangulated; a pose needs {_MIN_CORNERS}"
        )
    if int(corners.ids.max()) >= len(reference):
        raise DataError(
            f"corner id {int(corners.ids.max())} is not on a board of {board.squares_x} x "
            f"{board.squares_y} squares"
        )
    fit = umeyama(reference[corners.ids], corners.points)
    return BoardPose(board, fit.R, fit.t)


def _refine(
    grey: NDArray[np.uint8], pixels: NDArray[np.float32], board: BoardSpec
) -> NDArray[np.float64]:
    """Saddle points of the image at corners, shape (N, 2).

    OpenCV before 4.14 shifts ChArUco corners by half a pixel after its own refinement (its issue
    25539); refining once more from there gives the same place with every version.
    """
    gap = (1 - board.marker_size / board.square_size) / 2  # from corner to marker, in squares
    window = _MIN_WINDOW
    if len(pixels) > 1:
        apart = np.linalg.norm(pixels[:, None] - pixels[None], axis=-1)
        np.fill_diagonal(apart, np.inf)
        window = max(window, int(gap * float(np.median(apart.min(axis=1)))))
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_MAX_ITER, 100, 1e-4)
    # OpenCV refines in place, hence the copy.
    refined = cv2.cornerSubPix(grey, pixels.copy(), (window, window), (-1, -1), criteria)
    return np.asarray(refined, dtype=np.float64)


def _triangulate(
    models: list[RefractiveProjectionModel], observed: Tensor
) -> tuple[Tensor, Tensor]:
    """Points, shape (N, 3), from pixels (C, N, 2) with NaN where unseen; and the rays' misses."""
    seen = torch.isfinite(observed).all(-1)
    pixels = observed.nan_to_num(0.0)
    rays = [model.cast_ray(p) for model, p in zip(models, pixels, strict=True)]
    origins, directions = (torch.stack(part) for part in zip(*rays, strict=True))
    # The point nearest to all rays: Σ (1 - d dᵀ) x = Σ (1 - d dᵀ) o.
    eye = torch.eye(3, dtype=torch.float64)
    across = eye - directions[..., :, None] * directions[..., None, :]
    across = torch.where(seen[..., None, None], across, 0.0)
    right = (across @ origins.nan_to_num(0.0)[..., None]).sum(0)
    points = torch.linalg.solve(across.sum(0), right)[..., 0]
    for _ in range(_GAUSS_NEWTON_STEPS):
        information, gradient = torch.zeros(len(points), 3, 3).double(), torch.zeros_like(points)
        for index, model in enumerate(models):
            projected, jacobian, valid = model.project_with_jacobian(points)
            used = (valid & seen[index])[:, None]
            jacobian = torch.where(used[..., None], jacobian, 0.0)
            residual = torch.where(used, pixels[index] - projected, 0.0)
            information += jacobian.mT @ jacobian
            gradient += (jacobian.mT @ residual[..., None])[..., 0]
        step = torch.linalg.solve(information, gradient)
        points = points + step
        if float(step.abs().max()) < _SETTLED:
            break
    miss = (across @ (points - origins.nan_to_num(0.0))[..., None])[..., 0].square().sum(-1)
    return points, (miss.sum(0) / seen.sum(0)).sqrt()
