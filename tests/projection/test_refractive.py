"""Physics of the refractive camera: closed forms, independent references, invariances."""

import itertools

import aquakit
import numpy as np
import pytest
import torch
from aquacal.config.schema import CameraExtrinsics, CameraIntrinsics
from aquacal.core.camera import Camera
from aquacal.core.interface_model import Interface
from aquacal.core.refractive_geometry import refractive_project
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from aquamvs.errors import CalibrationError, ShapeError
from aquamvs.projection import ProjectionRig, RefractiveProjectionModel, refract

K = torch.tensor([[1589.0, 0.3, 778.0], [0, 1588.0, 587.0], [0, 0, 1]], dtype=torch.float64)
VERTICAL = (0.0, 0.0, -1.0)
TILTED = (0.05, -0.03, -1.0)


def rotation(x: float, y: float, z: float) -> Tensor:
    """Rotation matrix of a rotation vector."""
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.linalg.matrix_exp(cross)


def camera(
    *,
    normal: tuple[float, float, float] = VERTICAL,
    turn: tuple[float, float, float] = (0.2, -0.1, 0.3),
    centre: tuple[float, float, float] = (0.3, -0.2, 0.05),
    n_water: float = 1.333,
    n_air: float = 1.0,
) -> RefractiveProjectionModel:
    R = rotation(*turn)
    n = torch.tensor(normal, dtype=torch.float64)
    return RefractiveProjectionModel(
        K, R, -R @ torch.tensor(centre, dtype=torch.float64), 1.03, n / n.norm(), n_air, n_water
    )


def underwater_points(count: int = 2000, seed: int = 0) -> Tensor:
    unit = torch.rand(count, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return unit * torch.tensor([3, 3, 2.0]) + torch.tensor([-1.5, -1.5, 1.2])


def random_pixels(count: int = 2000) -> Tensor:
    unit = torch.rand(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return unit * torch.tensor([1600.0, 1200.0])


@pytest.mark.parametrize("normal", [VERTICAL, TILTED])
@pytest.mark.parametrize("depth", [0.0, 1e-6, 0.3, 2.0, 50.0])
def test_pixel_to_ray_to_point_to_pixel_returns_within_a_nanopixel(
    normal: tuple[float, float, float], depth: float
) -> None:
    model, pixels = camera(normal=normal), random_pixels()
    origin, direction = model.cast_ray(pixels)
    back, valid = model.project(origin + depth * direction)
    if depth == 0.0:  # on the surface, rounding decides on which side a point lies
        assert valid.double().mean() > 0.3
    else:
        assert valid.all()
    assert (back - pixels)[valid].abs().max() < 1e-9


def test_rays_start_on_the_surface_and_obey_snell() -> None:
    model, pixels = camera(normal=TILTED), random_pixels()
    origin, direction = model.cast_ray(pixels)
    surface_point = torch.tensor([0, 0, 1.03], dtype=torch.float64)
    plane = ((origin - surface_point) * model.normal).sum(-1)
    assert plane.abs().max() < 1e-12
    incident = origin - model.camera_center
    incident = incident / incident.norm(dim=-1, keepdim=True)
    sine_air = torch.linalg.cross(incident, model.normal.expand_as(incident)).norm(dim=-1)
    sine_water = torch.linalg.cross(direction, model.normal.expand_as(direction)).norm(dim=-1)
    assert torch.allclose(sine_air, 1.333 * sine_water, atol=1e-12)
    assert torch.allclose(direction.norm(dim=-1), torch.ones(len(pixels), dtype=torch.float64))
    coplanar = (torch.linalg.cross(incident, direction) * model.normal).sum(-1)
    assert coplanar.abs().max() < 1e-12


def test_projection_is_the_path_of_least_time() -> None:
    """Fermat: moving the surface point in any direction lengthens the optical path."""
    model, points = camera(normal=TILTED), underwater_points()
    pixels, valid = model.project(points)
    crossing, _ = model.cast_ray(pixels[valid])
    points = points[valid]

    def optical_path(at: Tensor) -> Tensor:
        return (at - model.camera_center).norm(dim=-1) + 1.333 * (points - at).norm(dim=-1)

    along = torch.linalg.cross(model.normal, torch.tensor([1.0, 0, 0], dtype=torch.float64))
    across = torch.linalg.cross(model.normal, along)
    for step in (along, across, -along, -across):
        assert (optical_path(crossing + 1e-4 * step) > optical_path(crossing)).all()


def test_projection_agrees_with_aquakit() -> None:
    model, points = camera(turn=(0, 0, 0.4)), underwater_points()
    reference = aquakit.RefractiveProjectionModel(
        model.K, model.R, model.t, 1.03, model.normal, 1.0, 1.333
    )
    expected, seen = reference.project(points)
    pixels, valid = model.project(points)
    assert seen.all()
    assert valid.all()
    assert (pixels - expected).abs().max() < 1e-6
    origin, direction = model.cast_ray(random_pixels())
    expected_origin, expected_direction = reference.back_project(random_pixels())
    assert (origin - expected_origin).abs().max() < 1e-12
    assert (direction - expected_direction).abs().max() < 1e-12


def test_projection_agrees_with_aquacal() -> None:
    skewless = torch.tensor([[1589.0, 0, 778.0], [0, 1588.0, 587.0], [0, 0, 1]]).double()
    model, points = camera(turn=(0.1, 0.05, 0.4)).with_intrinsics(skewless), underwater_points(200)
    reference = Camera(
        "cam",
        CameraIntrinsics(K=skewless.numpy(), dist_coeffs=np.zeros(5), image_size=(1600, 1200)),
        CameraExtrinsics(R=model.R.numpy(), t=model.t.numpy()),
    )
    interface = Interface(normal=np.array(VERTICAL), camera_distances={"cam": 1.03})
    pixels, valid = model.project(points)
    assert valid.all()
    for pixel, point in zip(pixels, points, strict=True):
        expected = refractive_project(reference, interface, point.numpy())
        assert expected is not None
        assert np.abs(pixel.numpy() - expected).max() < 1e-6


def test_equal_indices_are_the_pinhole_camera() -> None:
    model, points = camera(normal=TILTED, n_water=1.0), underwater_points()
    homogeneous = (points @ model.R.T + model.t) @ K.T
    pixels, valid = model.project(points)
    assert valid.all()
    assert (pixels - homogeneous[:, :2] / homogeneous[:, 2:]).abs().max() < 1e-9
    above = torch.tensor([[0.3, 0.1, 0.6]], dtype=torch.float64)  # no optical surface there
    assert camera(n_water=1.0, turn=(0, 0, 0)).project(above)[1].all()


def test_index_near_air_approaches_the_pinhole_camera() -> None:
    points = underwater_points()
    near, _ = camera(n_water=1.0 + 1e-9).project(points)
    pinhole, _ = camera(n_water=1.0).project(points)
    assert (near - pinhole).abs().max() < 1e-4


@given(turn=st.tuples(*[st.floats(-3, 3)] * 3), shift=st.tuples(*[st.floats(-5, 5)] * 2))
@settings(max_examples=25, deadline=None)
def test_moving_the_whole_world_changes_no_pixel(
    turn: tuple[float, float, float], shift: tuple[float, float]
) -> None:
    """A tilted interface is a vertical one seen from a turned world."""
    level, points = camera(), underwater_points(200)
    pixels, valid = level.project(points)
    turned_from_level = rotation(*turn)
    normal = turned_from_level @ level.normal
    if abs(float(normal[2])) < 0.05:
        return  # the plane would not cut the z axis at a sane place
    offset = torch.tensor([*shift, 0.0], dtype=torch.float64)
    surface_point = turned_from_level @ torch.tensor([0, 0, 1.03], dtype=torch.float64) + offset
    water_z = float((surface_point * normal).sum() / normal[2])
    R = level.R @ turned_from_level.T
    centre = turned_from_level @ level.camera_center + offset
    moved = RefractiveProjectionModel(K, R, -R @ centre, water_z, normal, 1.0, 1.333)
    again, still = moved.project(points @ turned_from_level.T + offset)
    assert (valid == still).all()
    assert (again - pixels)[valid].abs().max() < 1e-8


def test_the_axis_below_the_camera_is_not_singular() -> None:
    model = camera(turn=(0, 0, 0))
    for offset in (0.0, 1e-12, 1e-9, 1e-6):
        point = torch.tensor([[0.3 + offset, -0.2, 1.5]], dtype=torch.float64, requires_grad=True)
        pixels, valid = model.project(point)
        assert valid.all()
        assert torch.allclose(pixels, K[:2, 2], atol=1e-2 * offset * 1e6 + 1e-9)
        (gradient,) = torch.autograd.grad(pixels.sum(), point)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("distance", [1.0, 10.0, 1e3, 1e6])
def test_grazing_points_project_within_the_horizon(distance: float) -> None:
    model = camera(turn=(0, -1.2, 0), centre=(0.0, 0.0, 0.0))
    point = torch.tensor([[distance, 0.0, 1.031]], dtype=torch.float64)
    pixels, valid = model.project(point)
    assert valid.all()
    origin, direction = model.cast_ray(pixels)
    along = ((point - origin) * direction).sum(-1, keepdim=True)
    assert (origin + along * direction - point).norm() < 1e-9 * max(1.0, distance**2)


def test_points_that_cannot_be_seen_are_marked_and_give_no_nan_gradient() -> None:
    model = camera(turn=(0, 0, 0))
    points = torch.tensor(
        [
            [0.1, 0.1, 1.5],  # seen
            [0.1, 0.1, 0.9],  # in air
            [0.1, 0.1, -2.0],  # above the camera
            [float("nan"), 0.0, 1.5],
            [0.0, float("inf"), 1.5],
        ],
        dtype=torch.float64,
        requires_grad=True,
    )
    pixels, valid = model.project(points)
    assert valid.tolist() == [True, False, False, False, False]
    assert torch.isnan(pixels[1:]).all()
    pixels[valid].sum().backward()
    assert points.grad is not None
    assert torch.isfinite(points.grad).all()
    assert (points.grad[1:] == 0).all()


def test_a_camera_that_looks_away_sees_nothing() -> None:
    model = camera(turn=(torch.pi, 0, 0))
    assert not model.project(underwater_points())[1].any()
    origin, direction = model.cast_ray(torch.tensor([[778.0, 587.0]], dtype=torch.float64))
    assert torch.isnan(origin).all()
    assert torch.isnan(direction).all()


def test_rays_to_the_sky_are_nan_without_nan_gradients() -> None:
    model = camera(turn=(0, torch.pi / 2, 0))
    pixels = torch.tensor([[0.0, 587.0], [1600.0, 587.0]], dtype=torch.float64, requires_grad=True)
    origin, direction = model.cast_ray(pixels)
    seen = torch.isfinite(origin).all(-1)
    assert seen.sum() == 1
    (origin[seen].sum() + direction[seen].sum()).backward()
    assert pixels.grad is not None
    assert torch.isfinite(pixels.grad).all()


@pytest.mark.parametrize("normal", [VERTICAL, TILTED])
@pytest.mark.parametrize("n_water", [1.0, 1.333])
def test_gradients_of_points_pixels_and_parameters(
    normal: tuple[float, float, float], n_water: float
) -> None:
    model = camera(normal=normal, n_water=n_water)
    points = underwater_points(8).requires_grad_()
    pixels = random_pixels(8).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: model.project(p)[0], (points,))
    assert torch.autograd.gradcheck(lambda p: model.cast_ray(p), (pixels,))

    def of_parameters(K: Tensor, R: Tensor, t: Tensor) -> Tensor:
        return RefractiveProjectionModel(K, R, t, 1.03, model.normal, 1.0, n_water).project(
            points.detach()
        )[0]

    parameters = [x.clone().requires_grad_() for x in (model.K, model.R, model.t)]
    assert torch.autograd.gradcheck(of_parameters, parameters)


@pytest.mark.parametrize("normal", [VERTICAL, TILTED])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 5e-3)])
def test_projection_is_the_same_with_and_without_gradients(
    normal: tuple[float, float, float], dtype: torch.dtype, tolerance: float
) -> None:
    model = camera(normal=normal)
    points = underwater_points(200).to(dtype)
    points[0, 2] = 0.5  # above the water
    points[1] = torch.nan
    points[2] = torch.inf
    pixels, valid = model.project(points)
    traced, traced_valid = model.project(points.requires_grad_())
    assert torch.equal(valid, traced_valid)
    assert not valid[:3].any()
    assert valid[3:].all()
    assert torch.isnan(pixels[:3]).all()
    assert (pixels - traced)[3:].abs().max() < tolerance


@pytest.mark.parametrize("normal", [VERTICAL, TILTED])
@pytest.mark.parametrize("n_water", [1.0, 1.333, 1.5])
def test_the_closed_form_jacobian_is_the_derivative(
    normal: tuple[float, float, float], n_water: float
) -> None:
    model = camera(normal=normal, n_water=n_water)
    points = underwater_points(50)
    pixels, jacobian, valid = model.project_with_jacobian(points)
    expected = torch.autograd.functional.jacobian(lambda p: model.project(p)[0].sum(0), points)
    assert valid.all()
    assert torch.allclose(jacobian, expected.permute(1, 0, 2), rtol=1e-10, atol=1e-8)
    assert torch.allclose(pixels, model.project(points)[0], rtol=0, atol=1e-10)
    direction = torch.tensor([0.3, -2.0, 0.7], dtype=torch.float64)
    _, rate, _ = model.project_along(points, direction)
    assert torch.allclose(rate, jacobian @ direction, rtol=1e-10)
    _, unseen, _ = model.project_with_jacobian(torch.tensor([[0.0, 0, -9]], dtype=torch.float64))
    assert torch.isnan(unseen).all()


@pytest.mark.parametrize("n_water", [1.0, 1.333])
def test_a_rig_projects_into_each_of_its_cameras(n_water: float) -> None:
    models = [camera(normal=normal, n_water=n_water) for normal in (VERTICAL, TILTED, VERTICAL)]
    points = underwater_points(60).reshape(4, 15, 3)
    each = torch.randn(4, 15, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    rig = ProjectionRig(models)
    for direction in (torch.tensor([0.3, -2.0, 0.7], dtype=torch.float64), each):
        expected = [model.project_along(points, direction) for model in models]
        found = rig.project_along(points, direction)
        some = rig.select([2, 1]).project_along(points, direction)
        for i, values in enumerate(zip(*expected, strict=True)):
            assert torch.allclose(found[i].double(), torch.stack(values).double(), rtol=1e-12)
            assert torch.equal(some[i], found[i][[2, 1]])
    jacobian = models[0].project_with_jacobian(points)[1]
    along_each = (jacobian @ each[..., None])[..., 0]
    assert torch.allclose(rig.project_along(points, each)[1][0], along_each, rtol=1e-9)


@pytest.mark.parametrize("n_water", [1.0, 1.333])
def test_a_rig_knows_the_rays_to_points(n_water: float) -> None:
    models = [camera(normal=normal, n_water=n_water) for normal in (VERTICAL, TILTED)]
    points = underwater_points(60)
    rays, valid = ProjectionRig(models).rays_to(points)
    assert valid.all()
    for model, ray in zip(models, rays, strict=True):
        origin, direction = model.cast_ray(model.project(points)[0])
        assert torch.allclose(ray / ray.norm(dim=-1, keepdim=True), direction, atol=1e-8)
        if n_water > 1:
            assert torch.allclose(points - ray, origin, atol=1e-8)


def test_a_rig_looks_through_one_water() -> None:
    with pytest.raises(CalibrationError, match="expected one pair for all of them"):
        ProjectionRig([camera(n_water=1.333), camera(n_water=1.34)])


@pytest.mark.parametrize(
    ("parameters", "inputs"), list(itertools.product([torch.float32, torch.float64], repeat=2))
)
def test_dtypes_mix_and_the_result_has_the_inputs(
    parameters: torch.dtype, inputs: torch.dtype
) -> None:
    exact = camera(normal=TILTED)
    model = RefractiveProjectionModel(
        *(x.to(parameters) for x in (exact.K, exact.R, exact.t)),
        1.03,
        exact.normal.to(parameters),
        1.0,
        1.333,
    )
    points = underwater_points()
    pixels, _ = model.project(points.to(inputs))
    assert pixels.dtype == inputs
    origin, direction = model.cast_ray(pixels)
    assert origin.dtype == direction.dtype == inputs
    tolerance = 1e-8 if parameters == inputs == torch.float64 else 1e-2
    assert (pixels - exact.project(points)[0]).abs().max() < tolerance


def test_batches_of_any_shape_and_size_agree() -> None:
    model = camera(normal=TILTED)
    points = underwater_points(200_000)  # more than one block
    pixels, valid = model.project(points)
    shaped, shaped_valid = model.project(points.reshape(4, 50_000, 3)[:, :100])
    assert shaped.shape == (4, 100, 2)
    assert torch.equal(shaped, pixels.reshape(4, 50_000, 2)[:, :100])
    assert torch.equal(shaped_valid, valid.reshape(4, 50_000)[:, :100])
    assert model.project(points[:0])[0].shape == (0, 2)
    assert model.project(points[0])[0].shape == (2,)


def test_float32_is_good_to_a_hundredth_of_a_pixel() -> None:
    model, points = camera(), underwater_points(5000)
    single, _ = model.project(points.float())
    double, _ = model.project(points.float().double())
    assert (single - double).abs().max() < 5e-3


def test_models_with_impossible_parameters_are_refused() -> None:
    good = camera()
    with pytest.raises(ShapeError, match=r"\(2, 3\)"):
        RefractiveProjectionModel(K[:2], good.R, good.t, 1.03, good.normal, 1.0, 1.333)
    with pytest.raises(CalibrationError, match="below the water surface"):
        RefractiveProjectionModel(K, good.R, good.t, -1.0, good.normal, 1.0, 1.333)
    with pytest.raises(CalibrationError, match="length 2"):
        RefractiveProjectionModel(K, good.R, good.t, 1.03, 2 * good.normal, 1.0, 1.333)
    with pytest.raises(CalibrationError, match="n_air"):
        RefractiveProjectionModel(K, good.R, good.t, 1.03, good.normal, 1.4, 1.333)
    with pytest.raises(ShapeError, match=r"\(\.\.\., 3\)"):
        good.project(torch.zeros(4, 2))
    with pytest.raises(ShapeError, match=r"\(\.\.\., 2\)"):
        good.cast_ray(torch.zeros(4, 3))


def test_refract_reports_total_reflection() -> None:
    normal = torch.tensor([0.0, 0, -1], dtype=torch.float64)
    angle = torch.tensor([0.1, 0.8, 0.9, 1.2], dtype=torch.float64)  # critical: 0.848 rad
    rays = torch.stack([angle.sin(), torch.zeros(4, dtype=torch.float64), angle.cos()], -1)
    bent, transmitted = refract(rays, normal, 1.333)
    assert transmitted.tolist() == [True, True, False, False]
    assert torch.isnan(bent[2:]).all()
    assert torch.allclose(bent[:2, 0], 1.333 * rays[:2, 0])


def test_a_turned_camera_sees_the_same_rays_from_the_same_place() -> None:
    model, points = camera(), underwater_points(50)
    angles = torch.tensor([0.02, -0.01, 0.3], dtype=torch.float64)
    turned = model.turned(angles)
    torch.testing.assert_close(turned.camera_center, model.camera_center, rtol=0, atol=1e-12)
    K = model.K.double()

    def in_air(camera: RefractiveProjectionModel) -> Tensor:
        pixels, _ = camera.project(points)
        ray = torch.nn.functional.pad(pixels, (0, 1), value=1.0) @ torch.linalg.inv(K).T
        return ray / ray.norm(dim=-1, keepdim=True)

    # Rodrigues' formula, in words: the part along the axis stays, the rest turns.
    axis, angle = angles / angles.norm(), angles.norm()
    before = in_air(model)
    along = (before @ axis)[:, None] * axis
    across = before - along
    expected = along + angle.cos() * across + angle.sin() * torch.linalg.cross(axis[None], across)
    torch.testing.assert_close(in_air(turned), expected, rtol=0, atol=1e-10)
