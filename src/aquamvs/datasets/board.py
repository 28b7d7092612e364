"""The ChArUco board that AquaCal rigs are calibrated with: 12 x 9 squares of 60 mm, DICT_5X5_100.

Board frame as in OpenCV and AquaCal: origin at the corner of the printed pattern, x along its 12
squares, y along its 9, z away from the viewer.
"""

import math

import cv2
import numpy as np

from .solids import Array, Box, Part
from .textures import Texture, from_albedo

SQUARES = (12, 9)
"""Squares along x and y."""
SQUARE = 0.060
"""Side of a square, metres."""
MARKER = 0.045
"""Side of a marker, metres."""
DICTIONARY = cv2.aruco.DICT_5X5_100

_TEXEL = 0.3e-3
"""Divides a square and a marker, so that their edges are edges of texels, metres."""
_BORDER = 0.012
"""White border around the pattern, metres."""
_THICKNESS = 4e-3
_BLACK, _WHITE = 0.04, 0.80
"""Reflectance of print and paper."""


def charuco_board() -> cv2.aruco.CharucoBoard:
    """The board as OpenCV's detector knows it.

    Example:
        >>> from aquamvs.datasets import charuco_board
        >>> charuco_board().getChessboardSize()
        (12, 9)
    """
    dictionary = cv2.aruco.getPredefinedDictionary(DICTIONARY)
    return cv2.aruco.CharucoBoard(SQUARES, SQUARE, MARKER, dictionary)


def place_board(face_centre: Array, tilt_deg: float, azimuth_deg: float) -> Box:
    """The board as a solid, face up.

    Args:
        face_centre: Centre of the printed face, shape (3,), metres.
        tilt_deg: Tilt from level about the face's centre.
        azimuth_deg: Heading of the pattern's x axis, from X towards Y; a positive tilt lowers that
            side.
    """
    tilt, azimuth = math.radians(tilt_deg), math.radians(azimuth_deg)
    ca, sa, ct, st = math.cos(azimuth), math.sin(azimuth), math.cos(tilt), math.sin(tilt)
    turn = np.array([[ca, -sa, 0.0], [sa, ca, 0.0], [0.0, 0.0, 1.0]])
    lean = np.array([[ct, 0.0, -st], [0.0, 1.0, 0.0], [st, 0.0, ct]])
    rotation = turn @ lean
    axes = np.array([n * SQUARE / 2 + _BORDER for n in SQUARES] + [_THICKNESS / 2])
    centre = face_centre + axes[2] * rotation[:, 2]
    return Box(centre, axes, rotation, Part.BOARD, (1.0, 1.0, 1.0))


def drop_of(tilt_deg: float) -> float:
    """How far the board's lowest point hangs below the centre of its face, metres."""
    tilt = abs(math.radians(tilt_deg))
    half = SQUARES[0] * SQUARE / 2 + _BORDER
    return half * math.sin(tilt) + _THICKNESS * math.cos(tilt)


def board_corners(board: Box) -> Array:
    """Inner corners of the board in the order of OpenCV's identifiers.

    Args:
        board: ``Scene.board``.

    Returns:
        World frame, shape (88, 3), metres.

    Example:
        >>> from aquamvs.datasets import board_corners, make_scene
        >>> board_corners(make_scene("board", seed=0, rig=rig).board).shape
        (88, 3)
    """
    columns, rows = SQUARES
    column, row = np.meshgrid(np.arange(1, columns), np.arange(1, rows))
    local = np.stack(
        [
            (column.reshape(-1) - columns / 2) * SQUARE,
            (row.reshape(-1) - rows / 2) * SQUARE,
            np.full(column.size, -board.axes[2]),
        ]
    )
    return np.asarray((board.world_from_body @ local).T + board.centre)


def board_texture() -> Texture:
    """The printed pattern in the middle of a white square tile."""
    columns, rows = SQUARES
    square = round(SQUARE / _TEXEL)
    pattern = charuco_board().generateImage((columns * square, rows * square), marginSize=0)
    size = 64 * math.ceil((columns * square + 2 * _BORDER / _TEXEL) / 64)
    canvas = np.full((size, size), 255, dtype=np.uint8)
    top, left = (size - rows * square) // 2, (size - columns * square) // 2
    canvas[top : top + rows * square, left : left + columns * square] = pattern
    albedo = _BLACK + (_WHITE - _BLACK) * (canvas.astype(np.float32) / 255)
    return from_albedo(np.repeat(albedo[..., None], 3, axis=2), _TEXEL)
