"""Analytic depth maps of a plane seen by a ring of cameras through tilted water."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from aquamvs.pixels import pixel_grid
from aquamvs.projection import RefractiveProjectionModel
from aquamvs.types import DepthMap, View

SIZE = (80, 60)
FOOTPRINT = 0.0065
"""Pixel footprint on the plane, metres."""
SIGMA = 2e-4


@dataclass(frozen=True)
class Plane:
    """The points with n · x = offset; n unit, with negative Z (towards the cameras)."""

    normal: Tensor
    offset: float

    @staticmethod
    def at(height: float, slope: tuple[float, float] = (0.0, 0.0)) -> "Plane":
        """z = height + slope · (x, y)."""
        normal = torch.tensor([slope[0], slope[1], -1.0], dtype=torch.float64)
        length = float(normal.norm())
        return Plane(normal / length, -height / length)

    def distance(self, points: Tensor) -> Tensor:
        """Signed distance of points, positive towards the cameras."""
        return points.double() @ self.normal - self.offset

    def ray_depth(self, model: RefractiveProjectionModel) -> Tensor:
        origin, direction = model.cast_ray(pixel_grid(SIZE, dtype=torch.float64))
        return (self.offset - origin @ self.normal) / (direction @ self.normal)


def camera(x: float, y: float, lean: float = 0.0) -> RefractiveProjectionModel:
    """A camera 0.6 m above the water that leans about Y by ``lean`` radians."""
    lean_ = torch.tensor(lean, dtype=torch.float64)
    c, s, one, zero = lean_.cos(), lean_.sin(), torch.ones(()).double(), torch.zeros(()).double()
    R = torch.stack([c, zero, s, zero, one, zero, -s, zero, c]).reshape(3, 3)
    K = torch.tensor([[130.0, 0, 39.3], [0, 130, 30.1], [0, 0, 1]], dtype=torch.float64)
    normal = torch.tensor([0.02, -0.03, -1.0], dtype=torch.float64)
    centre = torch.tensor([x, y, 0.0], dtype=torch.float64)
    return RefractiveProjectionModel(K, R, -R @ centre, 0.6, normal / normal.norm(), 1.0, 1.333)


def view(name: str, model: RefractiveProjectionModel, grey: float = 0.5) -> View:
    width, height = SIZE
    image = torch.full((height, width, 3), grey)
    return View(name, image, torch.ones(height, width, dtype=torch.bool), model)


@dataclass(frozen=True)
class Rig:
    """Views and the plane's depth maps."""

    views: tuple[View, ...]
    maps: tuple[DepthMap, ...]


@pytest.fixture
def make_plane() -> Callable[..., Plane]:
    return Plane.at


@pytest.fixture
def make_rig() -> Callable[..., Rig]:
    """Cameras at (x, y) with maps of a plane, each moved along its rays by an offset."""

    def make(
        plane: Plane,
        places: list[tuple[float, ...]],
        offsets: list[float] | None = None,
        sigmas: list[float] | None = None,
    ) -> Rig:
        offsets = offsets or [0.0] * len(places)
        sigmas = sigmas or [SIGMA] * len(places)
        views, maps = [], []
        for number, place in enumerate(places):
            one = view(f"cam{number}", camera(*place), grey=number / 10)
            depth = (plane.ray_depth(one.model) + offsets[number]).float()
            sigma = torch.full_like(depth, sigmas[number])
            views.append(one)
            maps.append(DepthMap(one.name, depth, torch.full_like(depth, 0.8), sigma, one.model.K))
        return Rig(tuple(views), tuple(maps))

    return make
