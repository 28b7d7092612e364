"""Other beliefs about the water: straight rays, a moved surface, the best pinhole."""

import math

import pytest
import torch

from aquamvs.errors import DataError
from aquamvs.projection import (
    RefractiveProjectionModel,
    fit_pinhole,
    moved_surface,
    refract,
    straight,
)

SIZE = (400, 300)


def camera(*, n_water: float = 1.333, turn: float = 0.2) -> RefractiveProjectionModel:
    """At 0.1 m right of the origin, 0.7 m above the water, tilted by ``turn`` about Y."""
    c, s = math.cos(turn), math.sin(turn)
    R = torch.tensor([[c, 0, -s], [0, 1, 0], [s, 0, c]], dtype=torch.float64)
    K = torch.tensor([[420.0, 0, 199.5], [0, 410, 149.5], [0, 0, 1]], dtype=torch.float64)
    t = -R @ torch.tensor([0.1, 0, 0], dtype=torch.float64)
    normal = torch.tensor([0, 0, -1.0], dtype=torch.float64)
    return RefractiveProjectionModel(K, R, t, 0.7, normal, 1.0, n_water)


def pixels() -> torch.Tensor:
    return torch.tensor([[10.0, 20.0], [200.0, 150.0], [390.0, 290.0]], dtype=torch.float64)


def test_straight_rays_go_on_as_they_came() -> None:
    model = camera()
    origin, direction = straight(model).cast_ray(pixels())
    bent_origin, _ = model.cast_ray(pixels())
    assert torch.allclose(origin, bent_origin, atol=1e-12)  # they meet the water at the same place
    along = origin - model.camera_center
    assert torch.allclose(direction, along / along.norm(dim=-1, keepdim=True), atol=1e-12)


@pytest.mark.parametrize("rise", [-0.01, 0.004])
def test_a_raised_surface_is_met_earlier_on_the_same_ray(rise: float) -> None:
    origin, direction = camera().cast_ray(pixels())
    raised, same = moved_surface(camera(), rise=rise).cast_ray(pixels())
    assert torch.allclose(raised[:, 2], torch.tensor(0.7 - rise).double(), atol=1e-12)
    assert torch.allclose(direction, same, atol=1e-12)  # level water bends by direction alone
    assert not torch.allclose(raised[:, :2], origin[:, :2], atol=1e-5)


def test_a_tilted_surface_sinks_towards_positive_x_and_refracts_about_its_normal() -> None:
    tilted = moved_surface(camera(), tilt_deg=2.0)
    origin, direction = tilted.cast_ray(pixels())
    slope = math.tan(math.radians(2.0))
    assert torch.allclose(origin[:, 2], 0.7 + slope * origin[:, 0], atol=1e-12)
    incident = origin - tilted.camera_center
    incident = incident / incident.norm(dim=-1, keepdim=True)
    expected, valid = refract(incident, tilted.normal, 1 / 1.333)
    assert bool(valid.all())
    assert torch.allclose(direction, expected, atol=1e-12)


def test_fit_to_a_pinhole_is_that_pinhole() -> None:
    model = camera(n_water=1.0)
    fit = fit_pinhole(model, SIZE, (0.9, 1.2))
    assert fit.max_px < 1e-6
    assert torch.allclose(fit.model.K, model.K, atol=1e-4)
    assert torch.allclose(fit.model.camera_center, model.camera_center, atol=1e-6)


def test_fit_over_water_magnifies_by_about_the_index_and_keeps_a_misfit() -> None:
    fit = fit_pinhole(camera(turn=0.0), SIZE, (0.95, 1.05))
    magnification = float(fit.model.K[0, 0] / 420.0)
    assert 1.3 < magnification < 1.45
    assert 0.01 < fit.rms_px < fit.max_px < 5
    assert not fit.model.is_refractive


def test_fit_is_the_least_squares_one() -> None:
    """No small change of the camera makes its misfit smaller."""
    model, z_range = camera(), (0.95, 1.1)
    fit = fit_pinhole(model, SIZE, z_range)
    u, v = torch.meshgrid(
        torch.linspace(0, 399, 13).double(), torch.linspace(0, 299, 10).double(), indexing="xy"
    )
    grid = torch.stack([u, v], -1).reshape(-1, 2)
    origin, direction = model.cast_ray(grid)
    points = torch.stack(
        [origin + ((z - origin[:, 2]) / direction[:, 2])[:, None] * direction
         for z in torch.linspace(*z_range, 5).double()]
    )  # fmt: skip

    def misfit(K: torch.Tensor, t: torch.Tensor) -> float:
        other = RefractiveProjectionModel(K, fit.model.R, t, 0.7, model.normal, 1.0, 1.0)
        return float((other.project(points)[0] - grid).square().sum(-1).mean().sqrt())

    best = misfit(fit.model.K, fit.model.t)
    assert best == pytest.approx(fit.rms_px, rel=1e-6)
    for index in ((0, 0), (1, 1), (0, 2), (1, 2)):
        for change in (-0.5, 0.5):
            K = fit.model.K.clone()
            K[index] += change
            assert misfit(K, fit.model.t) > best
    for axis in range(3):
        for change in (-1e-3, 1e-3):
            t = fit.model.t.clone()
            t[axis] += change
            assert misfit(fit.model.K, t) > best


@pytest.mark.parametrize("z_range", [(1.0, 1.0), (1.1, 0.9), (0.1, 0.5)])
def test_fit_needs_a_range_under_water(z_range: tuple[float, float]) -> None:
    with pytest.raises(DataError, match=r"Z = 0\.1 to 0\.5|z_range is"):
        fit_pinhole(camera(), SIZE, z_range)
