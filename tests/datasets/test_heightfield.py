import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from aquamvs.datasets.heightfield import SplineSurface
from aquamvs.errors import ShapeError


def surface(seed: int = 0, amplitude: float = 0.02, spacing: float = 0.01) -> SplineSurface:
    rng = np.random.default_rng(seed)
    return SplineSurface(-0.2, 0.1, spacing, 1.4 + amplitude * rng.standard_normal((30, 40)))


def inside(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(-0.18, 0.16, count), rng.uniform(0.12, 0.36, count)


def test_value_and_gradient_are_those_of_scipys_bspline() -> None:
    shape = surface()
    x, y = inside(np.random.default_rng(1), 50)
    z, z_x, z_y = shape.evaluate(x, y)

    def basis(position: np.ndarray, count: int, derivative: int) -> np.ndarray:
        knots = np.arange(-2, count + 2, dtype=float)  # coefficient k is centred on k
        spline = BSpline(knots, np.eye(count), 3)
        return np.asarray(spline(position, nu=derivative))

    c = shape.coefficients
    for found, (nu_x, nu_y) in ((z, (0, 0)), (z_x, (1, 0)), (z_y, (0, 1))):
        in_x = basis((x - shape.x0) / shape.spacing, c.shape[1], nu_x)
        in_y = basis((y - shape.y0) / shape.spacing, c.shape[0], nu_y)
        expected = np.einsum("ni,ij,nj->n", in_y, c, in_x) / shape.spacing ** (nu_x + nu_y)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_a_plane_of_coefficients_is_that_plane() -> None:
    column, row = np.meshgrid(np.arange(40.0), np.arange(30.0))
    plane = SplineSurface(0.0, 0.0, 0.01, 1.3 + 0.002 * column - 0.001 * row)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.02, 0.36, 100), rng.uniform(0.02, 0.26, 100)
    z, z_x, z_y = plane.evaluate(x, y)
    np.testing.assert_allclose(z, 1.3 + 0.2 * x - 0.1 * y, atol=1e-14)
    np.testing.assert_allclose(z_x, 0.2, atol=1e-12)
    np.testing.assert_allclose(z_y, -0.1, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_bounds_hold_everywhere_and_are_not_slack(seed: int) -> None:
    shape = surface(seed)
    x, y = inside(np.random.default_rng(seed), 2000)
    z, z_x, z_y = shape.evaluate(x, y)
    assert shape.z_range[0] <= z.min()
    assert z.max() <= shape.z_range[1]
    steepest = np.hypot(z_x, z_y).max()
    assert steepest <= shape.slope_bound <= 5 * steepest


def rays(
    rng: np.random.Generator, count: int, steepness: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = inside(rng, count)
    origins = np.stack([x, y, np.full(count, 1.0)])
    directions = np.stack([*rng.uniform(-0.3, 0.3, (2, count)), np.full(count, steepness)])
    directions /= np.linalg.norm(directions, axis=0)
    origins -= 0.4 * directions * np.array([[1.0], [1.0], [0.0]])
    return origins, directions, np.full(count, 5.0)


def first_root_by_sampling(shape: SplineSurface, o: np.ndarray, d: np.ndarray) -> float:
    """Brute force: sample the ray densely, then bisect the first change of sign."""
    s = np.linspace(0, 3, 60_001)

    def gap(s: np.ndarray) -> np.ndarray:
        p = o[:, None] + s * d[:, None]
        return np.asarray(p[2] - shape.evaluate(p[0], p[1])[0])

    below = np.flatnonzero(gap(s) > 0)
    if not len(below):
        return np.inf
    low, high = s[below[0] - 1], s[below[0]]
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if gap(np.array([middle]))[0] < 0 else (low, middle)
    return float(low)


@pytest.mark.parametrize("steepness", [1.0, 0.25], ids=["steep", "flat"])
def test_intersection_is_the_first_root_on_the_ray(steepness: float) -> None:
    """Flat rays cross this surface several times; steep ones cannot."""
    shape = surface(4, amplitude=0.02)
    o, d, limit = rays(np.random.default_rng(2), 40, steepness)
    found = shape.intersect(o, d, limit)
    expected = [first_root_by_sampling(shape, o[:, k], d[:, k]) for k in range(40)]
    assert np.isfinite(found).sum() > 30
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_both_solvers_agree_on_rays_that_either_can_do() -> None:
    shape = surface(5, amplitude=0.002)
    o, d, limit = rays(np.random.default_rng(3), 200, 1.0)
    direct = shape.intersect(o, d, limit)
    p = o + direct * d
    np.testing.assert_allclose(p[2], shape.evaluate(p[0], p[1])[0], atol=1e-14)
    # The mirror image of a ray that rises to the same point from its far side meets nothing before.
    backwards = shape.intersect(p - 1e-6 * d, -d, limit)
    assert np.isinf(backwards).all()


def test_a_ray_does_not_depend_on_its_neighbours() -> None:
    shape = surface(6)
    o, d, limit = rays(np.random.default_rng(4), 60, 0.6)
    together = shape.intersect(o, d, limit)
    alone = [shape.intersect(o[:, [k]], d[:, [k]], limit[[k]])[0] for k in range(60)]
    np.testing.assert_array_equal(together, alone)


def test_a_ray_that_starts_below_or_ends_before_the_surface_hits_nothing() -> None:
    shape = surface(7)
    o, d, limit = rays(np.random.default_rng(5), 20, 1.0)
    reach = shape.intersect(o, d, limit)
    assert np.isinf(shape.intersect(o, d, 0.999 * reach)).all()
    beyond = o + (reach + 0.01) * d
    assert np.isinf(shape.intersect(beyond, d, limit)).all()


def test_too_few_coefficients_are_an_error() -> None:
    with pytest.raises(ShapeError, match="4 x 4"):
        SplineSurface(0.0, 0.0, 0.01, np.zeros((3, 9)))
