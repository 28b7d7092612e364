"""The board protocol on boards whose pose, size and errors are known."""

import json
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from aquamvs.errors import DataError, ShapeError
from aquamvs.evaluation import (
    BoardDetection,
    BoardPose,
    BoardSpec,
    board_corner_errors,
    board_depth_errors,
    board_surface_errors,
    detect_board,
    fit_board,
    triangulate_corners,
)
from aquamvs.evaluation.limit import depth_points
from aquamvs.projection import RefractiveProjectionModel
from aquamvs.types import DepthMap

BOARD = BoardSpec(
    squares_x=7, squares_y=5, square_size=0.03, marker_size=0.022, dictionary="DICT_4X4_50"
)


def rotation(x: float, y: float, z: float) -> Tensor:
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(cross)


@pytest.fixture
def pose() -> BoardPose:
    """Under the rig, tilted by some 15 degrees, printed side up."""
    return BoardPose(BOARD, rotation(0.2, -0.15, 0.3), torch.tensor([-0.1, -0.07, 1.35]).double())


def observe(
    rig: list[RefractiveProjectionModel], corners: Tensor, noise_px: float = 0.0
) -> tuple[dict[str, RefractiveProjectionModel], dict[str, BoardDetection]]:
    """What perfect detectors see of the corners."""
    generator = torch.Generator().manual_seed(0)
    models = {f"cam{i}": model for i, model in enumerate(rig)}
    noise = {n: torch.randn(len(corners), 2, generator=generator).double() for n in models}
    return models, {
        name: BoardDetection(
            torch.arange(len(corners)), model.project(corners)[0] + noise_px * noise[name]
        )
        for name, model in models.items()
    }


def board_depth(model: RefractiveProjectionModel, pose: BoardPose) -> Tensor:
    """True ray depth of the board's infinite plane, shape (300, 400)."""
    origin, direction = depth_points(model, torch.zeros(300, 400))
    return ((pose.t - origin) @ pose.normal) / (direction @ pose.normal)


def as_depth_map(depth: Tensor) -> DepthMap:
    return DepthMap("cam", depth, torch.ones_like(depth), torch.ones_like(depth), torch.eye(3))


def test_corners_seen_exactly_are_triangulated_exactly(
    rig: list[RefractiveProjectionModel], pose: BoardPose
) -> None:
    corners = triangulate_corners(*observe(rig, pose.corners))
    assert torch.allclose(corners.points, pose.corners, atol=1e-12)
    assert (corners.view_count == 4).all()
    assert float(corners.reprojection_rms_px.max()) < 1e-9
    assert float(corners.ray_rms.max()) < 1e-12
    fitted = fit_board(corners, BOARD)
    assert torch.allclose(fitted.R, pose.R, atol=1e-10)
    assert torch.allclose(fitted.t, pose.t, atol=1e-11)


def test_corners_that_one_view_sees_are_left_out(
    rig: list[RefractiveProjectionModel], pose: BoardPose
) -> None:
    models, detections = observe(rig[:3], pose.corners)
    sets = {"cam0": [0, 1, 2, 3, 4, 9], "cam1": [2, 3, 4, 5, 9], "cam2": [4, 7]}
    for name, ids in sets.items():
        detections[name] = BoardDetection(torch.tensor(ids), detections[name].pixels[ids])
    corners = triangulate_corners(models, detections)
    assert corners.ids.tolist() == [2, 3, 4, 9]
    assert corners.view_count.tolist() == [2, 2, 3, 2]
    assert torch.allclose(corners.points, pose.corners[corners.ids], atol=1e-12)


def test_errors_of_an_exact_board_are_zero_and_range_needs_a_true_pose(
    rig: list[RefractiveProjectionModel], pose: BoardPose
) -> None:
    corners = triangulate_corners(*observe(rig, pose.corners))
    known = board_corner_errors(corners, pose, pose_is_truth=True)
    assert known.corner_count == 24
    for value in (
        known.flatness_rms,
        known.cross_camera_agreement_rms,
        known.range_rms,
        known.lateral_rms,
        known.square_size_rms,
    ):
        assert value < 1e-11
    assert math.isnan(board_corner_errors(corners, pose).range_rms)


def test_a_board_printed_one_percent_large_shows_in_its_squares(
    rig: list[RefractiveProjectionModel], pose: BoardPose
) -> None:
    large = pose.to_world(1.01 * BOARD.corners)
    corners = triangulate_corners(*observe(rig, large))
    errors = board_corner_errors(corners, fit_board(corners, BOARD))
    assert errors.square_size_bias == pytest.approx(0.0003, rel=1e-6)
    assert errors.square_size_rms == pytest.approx(0.0003, rel=1e-6)
    assert errors.flatness_rms < 1e-10
    centred = BOARD.corners - BOARD.corners.mean(0)
    assert errors.lateral_rms == pytest.approx(
        float(0.01 * centred.square().sum(-1).mean().sqrt()), rel=1e-6
    )


def test_a_board_lower_than_said_is_a_range_error(
    rig: list[RefractiveProjectionModel], pose: BoardPose
) -> None:
    for R in (pose.R, pose.R @ torch.diag(torch.tensor([1.0, -1.0, -1.0]).double())):
        truth = BoardPose(BOARD, R, pose.t)  # the second faces down
        away = truth.normal * torch.sign(truth.normal[2])
        corners = triangulate_corners(*observe(rig, truth.corners + 0.002 * away))
        errors = board_corner_errors(corners, truth, pose_is_truth=True)
        assert errors.range_bias == pytest.approx(0.002, rel=1e-6)
        assert errors.lateral_rms < 1e-10


def test_a_bent_board_is_as_flat_as_its_bend(
    rig: list[RefractiveProjectionModel], pose: BoardPose
) -> None:
    local = BOARD.corners
    saddle = local - local.mean(0)
    local[:, 2] = 0.5 * saddle[:, 0] * saddle[:, 1]
    errors = board_corner_errors(triangulate_corners(*observe(rig, pose.to_world(local))), pose)
    assert errors.flatness_rms == pytest.approx(float(local[:, 2].square().mean().sqrt()), rel=1e-3)


def test_a_wrong_refractive_index_breaks_flatness_agreement_or_size(
    rig: list[RefractiveProjectionModel], pose: BoardPose
) -> None:
    models, detections = observe(rig, pose.corners)
    wrong = {name: replace(m, n_water=1.36) for name, m in models.items()}
    right = board_corner_errors(triangulate_corners(models, detections), pose, pose_is_truth=True)
    off = board_corner_errors(triangulate_corners(wrong, detections), pose, pose_is_truth=True)
    # A denser water makes the same pixels mean a point deeper by 0.35 m * 0.027 / 1.333.
    assert off.range_bias == pytest.approx(0.35 * 0.027 / 1.333, rel=0.3)
    assert right.range_rms < 1e-10


def test_noise_of_detections_shows_in_pixels(
    rig: list[RefractiveProjectionModel], pose: BoardPose
) -> None:
    corners = triangulate_corners(*observe(rig, pose.corners, noise_px=0.1))
    errors = board_corner_errors(corners, fit_board(corners, BOARD))
    # Of 8 residuals per corner 3 are fitted away; a distance holds two of them.
    assert errors.reprojection_rms_px == pytest.approx(0.1 * (2 * 5 / 8) ** 0.5, rel=0.15)
    # A ray's miss is its pixel's, in GSDs of some 2.5 mm.
    assert errors.cross_camera_agreement_rms == pytest.approx(
        0.0025 * errors.reprojection_rms_px, rel=0.15
    )


def test_exact_depth_maps_have_no_error_on_the_board(
    rig: list[RefractiveProjectionModel], pose: BoardPose
) -> None:
    _, detections = observe(rig, pose.corners)
    maps = [as_depth_map(board_depth(model, pose)) for model in rig]
    errors = board_depth_errors(maps, rig, pose, list(detections.values()))
    assert errors.coverage == 1
    assert errors.corner_count == 4 * 24
    for value in (errors.flatness_rms, errors.range_rms, errors.cross_camera_agreement_rms):
        assert value < 1e-12
    # Depth is interpolated between pixels at the corners, and a plane's ray depth is not linear.
    assert errors.lateral_rms < 1e-6
    assert errors.square_size_rms < 2e-6
    assert json.loads(json.dumps(errors.as_dict(), allow_nan=False))["reprojection_rms_px"] is None


def test_cameras_that_differ_by_an_offset_disagree_by_its_deviation(
    rig: list[RefractiveProjectionModel], pose: BoardPose
) -> None:
    level = BoardPose(BOARD, torch.eye(3).double(), pose.t)
    offsets = [0.001, -0.001, 0.002, 0.0]
    maps = [
        as_depth_map(
            board_depth(model, BoardPose(BOARD, level.R, level.t + torch.tensor([0, 0, offset])))
        )
        for model, offset in zip(rig, offsets, strict=True)
    ]
    errors = board_depth_errors(maps, rig, level)
    assert errors.cross_camera_agreement_rms == pytest.approx(np.std(offsets, ddof=1), rel=0.02)
    assert errors.flatness_rms < 1e-10  # each map is flat by itself
    assert errors.range_bias == pytest.approx(np.mean(offsets) * 1.03, rel=0.05)  # slant rays
    assert math.isnan(errors.lateral_rms)


def test_holes_of_a_depth_map_lower_coverage_alone(
    rig: list[RefractiveProjectionModel], pose: BoardPose
) -> None:
    depth = board_depth(rig[0], pose)
    depth[:, ::2] = torch.nan
    errors = board_depth_errors([as_depth_map(depth)], rig[:1], pose)
    assert errors.coverage == pytest.approx(0.5, abs=0.01)
    assert errors.range_rms < 1e-12
    assert math.isnan(errors.cross_camera_agreement_rms)


def test_a_surface_that_lies_on_the_board_is_flat_and_where_it_lies(pose: BoardPose) -> None:
    generator = torch.Generator().manual_seed(0)
    over = torch.rand(50_000, 3, generator=generator).double()
    over = over * torch.tensor([0.15, 0.09, 0.0]) + 0.03
    noise = 0.001 * torch.randn(50_000, generator=generator).double()
    over[:, 2] = math.copysign(0.003, float(pose.normal[2])) + noise
    beyond = torch.tensor([[0.01, 0.05, 0.0], [torch.nan, 0.0, 0.0], [0.1, 0.05, 0.5]]).double()
    errors = board_surface_errors(pose.to_world(torch.cat([over, beyond])), pose)
    assert errors.count == 50_000
    assert errors.flatness_rms == pytest.approx(0.001, rel=0.02)
    assert errors.offset_bias == pytest.approx(0.003, rel=0.01)
    assert errors.offset_rms == pytest.approx(10**0.5 * 0.001, rel=0.01)
    assert errors.tilt_deg < 0.02
    assert errors.as_dict()["count"] == 50_000


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.375, -0.25)])
def test_detected_corners_carry_no_half_pixel_slip(shift: tuple[float, float]) -> None:
    fine = 8  # canvas pixels per image pixel: an exact area filter
    square, width, height = 50, 7 * 50 + 80, 5 * 50 + 80
    canvas = BOARD.aruco_board().generateImage((7 * square * fine, 5 * square * fine))
    scene = np.full((height * fine, width * fine), 255, np.uint8)
    x0, y0 = (round((40 + s) * fine) for s in shift)
    scene[y0 : y0 + canvas.shape[0], x0 : x0 + canvas.shape[1]] = canvas
    scene = cv2.GaussianBlur(scene, (0, 0), 0.7 * fine)  # a lens's, in image pixels
    image = cv2.resize(scene, (width, height), interpolation=cv2.INTER_AREA)
    rgb = torch.from_numpy(image).float()[..., None].expand(-1, -1, 3) / 255
    found = detect_board(rgb, BOARD)
    assert found.ids.tolist() == list(range(24))
    # The corner between canvas pixels k - 1 and k is at k - 0.5 in pixels centred on integers.
    edge = torch.tensor([x0, y0]) / fine - 0.5
    expected = edge + square * BOARD.corners[:, :2] / BOARD.square_size
    assert float((found.pixels - expected).abs().max()) < 0.04


def test_no_board_is_no_corner() -> None:
    found = detect_board(torch.full((120, 160, 3), 0.5), BOARD)
    assert len(found.ids) == 0
    assert tuple(found.pixels.shape) == (0, 2)


def test_boards_and_observations_that_cannot_be_are_refused(
    rig: list[RefractiveProjectionModel], pose: BoardPose
) -> None:
    good = {"squares_x": 7, "squares_y": 5, "square_size": 0.03, "marker_size": 0.02}
    with pytest.raises(DataError, match="'DICT_9X9'; expected the name of an OpenCV dictionary"):
        BoardSpec(**good, dictionary="DICT_9X9")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="marker_size"):
        BoardSpec(**{**good, "marker_size": 0.04}, dictionary="DICT_4X4_50")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="2 x 5 squares"):
        BoardSpec(**{**good, "squares_x": 2}, dictionary="DICT_4X4_50")  # type: ignore[arg-type]
    models, detections = observe(rig, pose.corners)
    with pytest.raises(DataError, match="seen by two of 1 views"):
        triangulate_corners(models, {"cam0": detections["cam0"]})
    with pytest.raises(DataError, match="camera other, which has no model"):
        triangulate_corners(models, {"other": detections["cam0"]})
    small = BoardSpec(
        squares_x=3, squares_y=3, square_size=0.03, marker_size=0.02, dictionary="DICT_4X4_50"
    )
    with pytest.raises(DataError, match="corner id 23 is not on a board of 3 x 3"):
        fit_board(triangulate_corners(models, detections), small)
    with pytest.raises(ShapeError, match="image"):
        detect_board(torch.zeros(10, 10), BOARD)
    with pytest.raises(DataError, match="expected as many of each"):
        board_depth_errors([], rig, pose)
