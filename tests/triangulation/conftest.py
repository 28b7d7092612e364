"""A synthetic rig that sees random points, without images."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from aquamvs.projection import RefractiveProjectionModel
from aquamvs.types import Matches, UndistortedViews, View

SIZE = (800, 600)
FOCAL = 800.0


def rotation(axis: tuple[float, float, float], angle_deg: float) -> Tensor:
    """Rotation matrix by Rodrigues' formula."""
    n = torch.tensor(axis, dtype=torch.float64)
    n = n / n.norm()
    cross = torch.tensor([[0, -n[2], n[1]], [n[2], 0, -n[0]], [-n[1], n[0], 0]]).double()
    a = math.radians(angle_deg)
    return torch.eye(3).double() + math.sin(a) * cross + (1 - math.cos(a)) * cross @ cross


@dataclass(frozen=True)
class Rig:
    """Cameras in a ring at the world's origin, looking down at water one metre below."""

    views: UndistortedViews

    def matches(
        self,
        points: Tensor,
        *,
        noise_px: float = 0.0,
        seed: int = 0,
        pairs: list[tuple[str, str]] | None = None,
    ) -> list[Matches]:
        """True matches of points, shape (N, 3), with one noisy keypoint per point and view."""
        generator = torch.Generator().manual_seed(seed)
        keypoints = {}
        for view in self.views:
            pixels, valid = view.model.project(points)
            noise = torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
            width, height = view.size
            u, v = pixels.unbind(-1)
            inside = valid & (u >= 0) & (u < width - 1) & (v >= 0) & (v < height - 1)
            keypoints[view.name] = (pixels + noise_px * noise, inside)
        names = self.views.names
        every = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        result = []
        for a, b in pairs or every:
            both = keypoints[a][1] & keypoints[b][1]
            scores = torch.ones(int(both.sum()))
            result.append(Matches(a, b, keypoints[a][0][both], keypoints[b][0][both], scores))
        return result


def build_rig(
    count: int = 5,
    *,
    n_water: float = 1.333,
    water_tilt_deg: float = 0.0,
    radius: float = 0.35,
    world: Tensor | None = None,
    shift: Tensor | None = None,
) -> Rig:
    """A ring rig; ``world`` (rotation about the vertical) and ``shift`` move everything."""
    world = torch.eye(3).double() if world is None else world
    shift = torch.zeros(3).double() if shift is None else shift
    normal = world @ rotation((1.0, 0.3, 0.0), water_tilt_deg) @ torch.tensor([0.0, 0, -1]).double()
    # The surface passes through (0, 0, 1) before the motion; the model wants its height on the
    # new Z axis.
    anchor = world @ torch.tensor([0.0, 0.0, 1.0]).double() + shift
    water_z = float((normal @ anchor) / normal[2])
    K = torch.tensor(
        [[FOCAL, 0, (SIZE[0] - 1) / 2], [0, FOCAL, (SIZE[1] - 1) / 2], [0, 0, 1]]
    ).double()
    views = []
    for k in range(count):
        angle = 2 * math.pi * k / count
        centre = torch.tensor([radius * math.cos(angle), radius * math.sin(angle), 0.0]).double()
        lean = rotation((math.sin(angle), -math.cos(angle), 0.0), 8.0)
        R = (lean @ rotation((0, 0, 1), 40.0 * k)).T @ world.T
        centre = world @ centre + shift
        model = RefractiveProjectionModel(K, R, -R @ centre, water_z, normal, 1.0, n_water)
        views.append(
            View(
                f"cam{k}",
                torch.full((SIZE[1], SIZE[0], 3), 0.1 * (k + 1)),
                torch.ones(SIZE[1], SIZE[0], dtype=torch.bool),
                model,
            )
        )
    return Rig(UndistortedViews(0, tuple(views)))


def random_points(count: int, *, seed: int = 0, depth: tuple[float, float] = (0.5, 0.8)) -> Tensor:
    """Points in a box under the rig, shape (N, 3)."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    low = torch.tensor([-0.25, -0.25, 1 + depth[0]]).double()
    high = torch.tensor([0.25, 0.25, 1 + depth[1]]).double()
    return low + unit * (high - low)


@pytest.fixture(scope="session")
def make_rig() -> Callable[..., Rig]:
    return build_rig


@pytest.fixture(scope="session")
def make_points() -> Callable[..., Tensor]:
    return random_points


@pytest.fixture(scope="session")
def rotate() -> Callable[..., Tensor]:
    return rotation
