"""A small rig over tilted water, and planes with a closed-form texture seen through it."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from aquamvs.pixels import pixel_grid
from aquamvs.projection import RefractiveProjectionModel
from aquamvs.types import View

SIZE = (160, 120)
CENTRES = ((0.0, 0.0), (0.13, 0.01), (-0.12, 0.03), (0.02, -0.12), (-0.01, 0.13))
GSD = 0.0033
"""Pixel footprint on the scenes below, metres: 0.85 m of effective distance at 260 px."""


@dataclass(frozen=True)
class Plane:
    """z = height + slope · (x, y) with a texture that is a sum of waves over x and y."""

    height: float = 0.95
    slope: tuple[float, float] = (0.0, 0.0)
    seed: int = 0
    contrast: float = 1.0

    def depth_along(self, origin: Tensor, direction: Tensor) -> Tensor:
        """Ray depth of the plane, closed form."""
        normal = origin.new_tensor([-self.slope[0], -self.slope[1], 1.0])
        return (self.height - origin @ normal) / (direction @ normal)

    def texture(self, points: Tensor) -> Tensor:
        """Grey values, band-limited to wavelengths of 3 to 25 footprints; no interpolation."""
        generator = torch.Generator().manual_seed(self.seed)
        count = 150
        length, turn, phase = torch.rand(3, count, generator=generator, dtype=torch.float64)
        wavelength = GSD * 3 * (25 / 3) ** length
        angle = 2 * torch.pi * turn
        wave = torch.stack([angle.cos(), angle.sin()]) * 2 * torch.pi / wavelength
        values = torch.sin(points[..., :2] @ wave + 2 * torch.pi * phase).sum(-1)
        return 0.5 + self.contrast * 0.25 * values / (count / 2) ** 0.5


def camera(
    x: float, y: float, n_water: float = 1.333, tilt: tuple[float, float] = (0.02, -0.03)
) -> RefractiveProjectionModel:
    """A camera 0.6 m above the water, turned a little about its axis."""
    angle = torch.tensor(0.3 * x - 0.2 * y + 0.05, dtype=torch.float64)
    c, s = angle.cos(), angle.sin()
    R = torch.stack([torch.stack([c, -s, 0 * c]), torch.stack([s, c, 0 * c]), 0 * c.expand(3)])
    R[2, 2] = 1
    K = torch.tensor([[260.0, 0, 79.3], [0, 261, 60.1], [0, 0, 1]], dtype=torch.float64)
    normal = torch.tensor([*tilt, -1.0], dtype=torch.float64)
    centre = torch.tensor([x, y, 0.0], dtype=torch.float64)
    return RefractiveProjectionModel(K, R, -R @ centre, 0.6, normal / normal.norm(), 1.0, n_water)


def render(model: RefractiveProjectionModel, plane: Plane, noise: float, seed: int) -> Tensor:
    """RGB image of a plane with white noise, 8 bits, shape (H, W, 3)."""
    origin, direction = model.cast_ray(pixel_grid(SIZE, dtype=torch.float64))
    points = origin + plane.depth_along(origin, direction)[..., None] * direction
    generator = torch.Generator().manual_seed(seed)
    grey = plane.texture(points) + noise * torch.randn(*SIZE[::-1], generator=generator)
    levels = (grey.clamp(0, 1) * 255).round() / 255
    return levels.float()[..., None].expand(-1, -1, 3).contiguous()


@dataclass(frozen=True)
class Scene:
    """Views of a plane and the true ray depth of the first."""

    views: tuple[View, ...]
    truth: Tensor

    @property
    def reference(self) -> View:
        return self.views[0]

    @property
    def sources(self) -> tuple[View, ...]:
        return self.views[1:]


@pytest.fixture
def make_scene() -> Callable[..., Scene]:
    """Render a plane through the rig; the first view is the reference."""

    def make(plane: Plane, noise: float = 0.004, n_water: float = 1.333) -> Scene:
        views = []
        for number, centre in enumerate(CENTRES):
            model = camera(*centre, n_water=n_water)
            image = render(model, plane, noise, seed=number)
            mask = torch.ones(SIZE[::-1], dtype=torch.bool)
            views.append(View(f"cam{number}", image, mask, model))
        rays = views[0].model.cast_ray(pixel_grid(SIZE, dtype=torch.float64))
        return Scene(tuple(views), plane.depth_along(*rays).float())

    return make


@pytest.fixture
def make_plane() -> type[Plane]:
    return Plane


@pytest.fixture
def models() -> list[RefractiveProjectionModel]:
    """The rig without a scene."""
    return [camera(*centre) for centre in CENTRES]


@pytest.fixture
def footprint() -> float:
    return GSD
