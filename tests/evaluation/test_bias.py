"""The bias of a wrong model: nothing for the right one, closed forms, what triangulation gives."""

from dataclasses import replace

import pytest
import torch

from aquamvs.errors import DataError, ShapeError
from aquamvs.evaluation import model_bias
from aquamvs.projection import RefractiveProjectionModel, moved_surface, straight

from .conftest import SIZE, WATER_Z, look_down


def ground(depth: float = 0.3) -> torch.Tensor:
    side = torch.linspace(-0.1, 0.1, 5, dtype=torch.float64)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, WATER_Z + depth)], dim=-1)


def test_the_right_model_has_no_bias(rig: list[RefractiveProjectionModel]) -> None:
    bias = model_bias(rig, rig, ground(), sizes=[SIZE] * 4)
    assert float(bias.shift.abs().max()) < 1e-9
    assert float(bias.residual_px.max()) < 1e-6
    assert int(bias.view_count.min()) >= 2


def test_a_moved_camera_moves_every_point_with_it(rig: list[RefractiveProjectionModel]) -> None:
    """All cameras shifted along the surface by the same: so is the world, exactly."""
    shift = torch.tensor([0.01, -0.02, 0.0], dtype=torch.float64)
    moved = [replace(m, t=m.t - m.R @ shift) for m in rig]
    bias = model_bias(rig, moved, ground())
    assert torch.allclose(bias.shift, shift.expand_as(bias.shift), atol=1e-9)
    assert float(bias.residual_px.max()) < 1e-6


def test_ignored_index_gives_the_apparent_depth() -> None:
    """Seen straight down by close cameras, water looks n_air / n_water as deep."""
    close = [look_down(x, 0.0) for x in (-0.01, 0.01)]
    point = torch.tensor([[0.0, 0.0, WATER_Z + 0.4]], dtype=torch.float64)
    bias = model_bias(close, [straight(m) for m in close], point)
    assert float(bias.shift[0, 2]) == pytest.approx(0.4 / 1.333 - 0.4, rel=1e-3)


def test_a_lower_surface_lets_the_paraxial_point_sink_by_its_share() -> None:
    """On the axis of close cameras: 1 mm of air for water moves the point by 1 - n_water mm."""
    close = [look_down(x, 0.0) for x in (-0.01, 0.01)]
    point = torch.tensor([[0.0, 0.0, WATER_Z + 0.4]], dtype=torch.float64)
    bias = model_bias(close, [moved_surface(m, rise=-0.001) for m in close], point)
    assert float(bias.shift[0, 2]) == pytest.approx(0.001 * (1 - 1.333), rel=1e-2)


def test_points_that_one_camera_sees_have_no_bias(rig: list[RefractiveProjectionModel]) -> None:
    far = torch.tensor([[5.0, 5.0, WATER_Z + 0.3]], dtype=torch.float64)
    bias = model_bias(rig, rig, far, sizes=[SIZE] * 4)
    assert bool(torch.isnan(bias.shift).all())
    assert bool(torch.isnan(bias.residual_px).all())


def test_wrong_counts_and_shapes_are_refused(rig: list[RefractiveProjectionModel]) -> None:
    with pytest.raises(DataError, match="3 assumed models for 4"):
        model_bias(rig, rig[:3], ground())
    with pytest.raises(DataError, match="1 image sizes for 4"):
        model_bias(rig, rig, ground(), sizes=[SIZE])
    with pytest.raises(ShapeError, match="points"):
        model_bias(rig, rig, ground()[..., :2])
