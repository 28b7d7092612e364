"""Fish that swim on ellipses over the bed, a little further with every frame."""

import math
from dataclasses import dataclass

import numpy as np

from .solids import Array, Ellipsoid, Part


@dataclass(frozen=True, slots=True)
class Fish:
    """A fish: body, tail and dorsal fin.

    Attributes:
        centre: Of the path, shape (3,), metres.
        path_axes: Half lengths of the elliptic path in X and Y, metres.
        phase: Position on the path at frame 0, radians.
        step: Advance per frame, radians; its sign is the direction of travel.
        length: Of the body, metres.
        tint: Linear RGB of the flanks.
    """

    centre: Array
    path_axes: tuple[float, float]
    phase: float
    step: float
    length: float
    tint: tuple[float, float, float]

    def bodies(self, frame: int) -> tuple[Ellipsoid, ...]:
        """The fish's ellipsoids at a frame."""
        angle = self.phase + self.step * frame
        a, b = self.path_axes
        place = self.centre + np.array([a * math.cos(angle), b * math.sin(angle), 0.0])
        heading = math.atan2(b * math.cos(angle), -a * math.sin(angle))
        if self.step < 0:
            heading += math.pi
        # The tail beats about once in twelve frames, at a fixed place along the path.
        beat = 0.35 * math.sin(6.0 * angle + frame * math.pi / 6)
        body = _part(place, heading, np.array([0.5, 0.11, 0.17]) * self.length, self.tint)
        back = place - 0.52 * self.length * _forward(heading)
        tail_heading = heading + beat
        tail_place = back - 0.10 * self.length * _forward(tail_heading)
        tail = _part(
            tail_place, tail_heading, np.array([0.16, 0.02, 0.13]) * self.length, self.tint
        )
        fin_place = place + np.array([0.0, 0.0, -0.15 * self.length])
        fin = _part(fin_place, heading, np.array([0.30, 0.015, 0.09]) * self.length, self.tint)
        return body, tail, fin


def _forward(heading: float) -> Array:
    return np.array([math.cos(heading), math.sin(heading), 0.0])


def _part(
    centre: Array, heading: float, axes: Array, tint: tuple[float, float, float]
) -> Ellipsoid:
    c, s = math.cos(heading), math.sin(heading)
    rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return Ellipsoid(centre, axes, rotation, Part.FISH, tint)
