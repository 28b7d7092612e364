"""Rigs and images of other kinds than the usual: many cameras, fisheye lenses, gains, a fish."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from aquamvs.calibration import CalibrationData
from aquamvs.datasets import make_rig
from aquamvs.surface import SurfaceSweepOptions, sweep_surface
from aquamvs.types import HeightMap, UndistortedViews, View

from .conftest import Rendered, render_plane


def forty_cameras() -> CalibrationData:
    """Eight by five small cameras that look straight down, 6 cm apart."""
    rig = make_rig("small5", image_size=(160, 120))
    like = rig.cameras["cam0"]
    cameras = {}
    for index in range(40):
        centre = torch.tensor([0.06 * (index % 8 - 3.5), 0.06 * (index // 8 - 2), 0.0]).double()
        name = f"cam{index}"
        cameras[name] = dataclasses.replace(like, name=name, t=-like.R @ centre)
    return dataclasses.replace(rig, cameras=cameras)


def fisheye_cameras() -> CalibrationData:
    rig = make_rig("small5")
    lens = torch.tensor([-0.02, 0.004, 0.0, 0.0], dtype=torch.float64)
    cameras = {
        name: dataclasses.replace(camera, dist_coeffs=lens, is_fisheye=True)
        for name, camera in rig.cameras.items()
    }
    return dataclasses.replace(rig, cameras=cameras)


def recovered(rendered: Rendered) -> tuple[HeightMap, Tensor]:
    """The height map, and its errors in cells."""
    views, scene, region = rendered
    height_map = sweep_surface(views, SurfaceSweepOptions(region_of_interest=region))
    truth = torch.as_tensor(scene.height(*height_map.grid_xy()))
    return height_map, (height_map.z.double() - truth).abs() / height_map.spacing


def with_images(rendered: Rendered, images: list[Tensor]) -> Rendered:
    views, scene, region = rendered
    changed = tuple(
        dataclasses.replace(view, image=image)
        for view, image in zip(views.views, images, strict=True)
    )
    return UndistortedViews(views.frame, changed), scene, region


@pytest.mark.parametrize(("make", "most_views"), [(forty_cameras, 40), (fisheye_cameras, 5)])
def test_a_plane_is_recovered_by_any_rig(
    make: Callable[[], CalibrationData], most_views: int
) -> None:
    height_map, error = recovered(render_plane(rig=make()))
    known = torch.isfinite(error)
    assert known.double().mean() > 0.95
    assert error[known].median() < 0.1
    assert error[known].square().mean().sqrt() < 0.3
    assert int(height_map.view_count.max()) > 0.75 * most_views


def test_gains_of_the_cameras_do_not_matter(level_plane: Rendered) -> None:
    gains = (0.6, 1.0, 0.75, 0.9, 0.5)
    views = level_plane[0].views
    darker = with_images(level_plane, [g * v.image for g, v in zip(gains, views, strict=True)])
    error = recovered(darker)[1]
    known = torch.isfinite(error)
    assert known.double().mean() > 0.97
    assert error[known].median() < 0.1


def test_a_fish_in_one_view_leaves_no_trace(level_plane: Rendered) -> None:
    views = level_plane[0]
    images = [view.image.clone() for view in views]
    middle, fish = seen_at_the_middle(views.views[0], level_plane)
    images[0][fish] = torch.rand(3, generator=torch.Generator().manual_seed(2)) * 0.4
    height_map, error = recovered(with_images(level_plane, images))
    x, y = height_map.grid_xy()
    under = ((x - middle[0]) ** 2 + (y - middle[1]) ** 2).sqrt() < 0.04
    known = torch.isfinite(error)
    assert known[under].double().mean() > 0.9
    assert error[under & known].square().mean().sqrt() < 0.3
    # It is left out only where it is.
    assert height_map.view_count[under].float().median() == len(views) - 1
    assert height_map.view_count[~under].float().median() == len(views)


def seen_at_the_middle(view: View, rendered: Rendered) -> tuple[tuple[float, float], Tensor]:
    """The region's middle (X, Y), and the pixels of a fish that swims over it, (H, W) bool."""
    _, scene, (x_min, y_min, x_max, y_max) = rendered
    x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
    z = float(scene.height(torch.tensor([x]).double(), torch.tensor([y]).double())[0])
    pixel = view.model.project(torch.tensor([[x, y, z]], dtype=torch.float64))[0][0]
    rows = torch.arange(view.size[1])[:, None] - pixel[1]
    columns = torch.arange(view.size[0])[None] - pixel[0]
    return (x, y), (columns / 36) ** 2 + (rows / 26) ** 2 < 1
