"""A small rig over a textured bed, rendered through the refractive model itself."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from aquamvs.matching import epipolar_curves
from aquamvs.projection import RefractiveProjectionModel
from aquamvs.types import UndistortedViews, View

SIZE = (240, 180)
WATER_Z = 1.0
FOCAL = 240.0


def look_down(x: float, y: float, tilt_deg: float = 0.0) -> tuple[Tensor, Tensor]:
    """Pose of a camera at (x, y, 0) that leans by ``tilt_deg`` towards the rig's axis."""
    radius = math.hypot(x, y)
    tilt = math.radians(tilt_deg)
    toward = (-x / radius, -y / radius) if radius else (1.0, 0.0)
    z = torch.tensor(
        [math.sin(tilt) * toward[0], math.sin(tilt) * toward[1], math.cos(tilt)],
        dtype=torch.float64,
    )
    right = torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), z)
    right = right / right.norm()
    R = torch.stack([right, torch.linalg.cross(z, right), z])
    return R, -R @ torch.tensor([x, y, 0.0], dtype=torch.float64)


def build_model(
    x: float,
    y: float,
    *,
    tilt_deg: float = 0.0,
    n_water: float = 1.333,
    normal: tuple[float, float, float] = (0.0, 0.0, -1.0),
    focal: float = FOCAL,
    size: tuple[int, int] = SIZE,
) -> RefractiveProjectionModel:
    R, t = look_down(x, y, tilt_deg)
    K = torch.tensor(
        [[focal, 0, (size[0] - 1) / 2], [0, focal, (size[1] - 1) / 2], [0, 0, 1]],
        dtype=torch.float64,
    )
    unit = torch.tensor(normal, dtype=torch.float64)
    return RefractiveProjectionModel(K, R, t, WATER_Z, unit / unit.norm(), 1.0, n_water)


def build_blank_view(
    name: str, model: RefractiveProjectionModel, *, auxiliary: bool = False
) -> View:
    width, height = SIZE
    return View(
        name,
        torch.zeros(height, width, 3),
        torch.ones(height, width, dtype=torch.bool),
        model,
        auxiliary,
    )


@dataclass(frozen=True)
class Bed:
    """A gently waved bed with a procedural texture; no two places look alike."""

    depth: float = 0.8
    wave: float = 0.04
    seed: int = 0

    def z(self, x: Tensor, y: Tensor) -> Tensor:
        wave = self.wave * torch.sin(5 * x) * torch.cos(4 * y)
        return WATER_Z + self.depth + wave

    def intersect(self, model: RefractiveProjectionModel, pixels: Tensor) -> Tensor:
        """Points of the bed at pixels, shape (..., 3); fixed-point steps along the ray."""
        origin, direction = model.cast_ray(pixels)
        t = torch.full(origin.shape[:-1], self.depth, dtype=origin.dtype)
        for _ in range(60):
            point = origin + t[..., None] * direction
            t = t + (self.z(point[..., 0], point[..., 1]) - point[..., 2]) / direction[..., 2]
        return origin + t[..., None] * direction

    def texture(self) -> np.ndarray:
        """RGB, 3 mm grid over 3 m x 3 m."""
        rng = np.random.default_rng(self.seed)
        image = np.zeros((1000, 1000), np.float32)
        for sigma, weight in ((1.5, 1.0), (3.0, 1.0), (8.0, 1.0)):
            noise = rng.standard_normal(image.shape).astype(np.float32)
            smooth = cv2.GaussianBlur(noise, (0, 0), sigma)
            image += weight * smooth / smooth.std()
        image = 0.5 + 0.15 * image
        return np.repeat(image[..., None], 3, axis=2).clip(0, 1)

    def render(
        self, name: str, model: RefractiveProjectionModel, *, auxiliary: bool = False
    ) -> View:
        width, height = SIZE
        v, u = torch.meshgrid(
            torch.arange(height, dtype=torch.float64),
            torch.arange(width, dtype=torch.float64),
            indexing="ij",
        )
        points = self.intersect(model, torch.stack([u, v], -1)).numpy()
        column, row = ((points[..., k] + 1.5) / 0.003 for k in (0, 1))
        image = cv2.remap(
            self.texture(), column.astype(np.float32), row.astype(np.float32), cv2.INTER_CUBIC
        )
        mask = torch.ones(height, width, dtype=torch.bool)
        return View(name, torch.from_numpy(image).clamp(0, 1), mask, model, auxiliary)

    def transfer(self, reference: View, source: View, pixels: Tensor) -> Tensor:
        """True source pixels of reference pixels."""
        points = self.intersect(reference.model, pixels.double())
        return source.model.project(points)[0]


@pytest.fixture(scope="session")
def model_at() -> Callable[..., RefractiveProjectionModel]:
    return build_model


@pytest.fixture(scope="session")
def blank_view() -> Callable[..., View]:
    return build_blank_view


@pytest.fixture(scope="session")
def bed() -> Bed:
    return Bed()


@pytest.fixture(scope="session")
def rendered(bed: Bed) -> UndistortedViews:
    """Three cameras of 240 x 180 over the bed, the last one auxiliary."""
    places = {"west": (-0.12, 0.0), "east": (0.12, 0.02), "north": (0.0, -0.15)}
    return UndistortedViews(
        0,
        tuple(
            bed.render(name, build_model(x, y, tilt_deg=3.0), auxiliary=name == "north")
            for name, (x, y) in places.items()
        ),
    )


@pytest.fixture(scope="session")
def true_places(bed: Bed, rendered: UndistortedViews) -> tuple[Tensor, Tensor, Tensor]:
    """True pairs of pixels in the middle of west and east, and the curve's direction in east."""
    west, east = rendered["west"], rendered["east"]
    generator = torch.Generator().manual_seed(3)
    place = torch.rand(64, 2, generator=generator, dtype=torch.float64)
    pixels = torch.tensor([80.0, 40.0]) + place * torch.tensor([120.0, 100.0])
    target = bed.transfer(west, east, pixels)
    curves = epipolar_curves(west.model, east.model, pixels, (0.7, 0.9))
    along = torch.nn.functional.normalize(curves[:, -1] - curves[:, 0], dim=-1)
    return pixels.float(), target.float(), along.float()
