import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aquamvs.datasets import Part
from aquamvs.datasets.solids import Box, Ellipsoid, Solid, SolidSet, TankWalls

Array = np.ndarray


def ellipsoid(seed: int = 0) -> Ellipsoid:
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(random_state=seed).as_matrix()
    axes = rng.uniform(0.005, 0.06, 3)
    return Ellipsoid(rng.uniform(-0.1, 0.1, 3), axes, rotation, Part.ROCK, (1.0, 1.0, 1.0))


def box(seed: int = 0) -> Box:
    e = ellipsoid(seed)
    return Box(e.centre, e.axes, e.world_from_body, Part.BOX, (1.0, 1.0, 1.0))


def level(solid: Ellipsoid | Box, points: Array) -> Array:
    """Below 1 inside, above 1 outside: the definition of the body, by another route."""
    local = np.abs((points - solid.centre) @ solid.world_from_body / solid.axes)
    if isinstance(solid, Box):
        return np.asarray(local.max(axis=-1))
    return np.asarray((local**2).sum(axis=-1))


def rays_towards(centre: Array, spread: float, count: int, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    target = centre + rng.uniform(-spread, spread, (count, 3))
    origins = centre + rng.uniform(-1, 1, (count, 3)) - np.array([0.0, 0.0, 1.5])
    directions = target - origins
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.ascontiguousarray(origins.T), np.ascontiguousarray(directions.T)


@pytest.mark.parametrize("make", [ellipsoid, box])
@pytest.mark.parametrize("seed", range(4))
def test_hits_lie_on_the_surface_and_nothing_lies_before_them(make: object, seed: int) -> None:
    solid = make(seed)  # type: ignore[operator]
    o, d = rays_towards(solid.centre, 1.2 * solid.radius, 400, seed)
    s = solid.intersect(o, d)
    hit = np.isfinite(s)
    assert 20 < hit.sum() < 380
    on = level(solid, (o + np.where(hit, s, 0) * d).T)
    np.testing.assert_allclose(on[hit], 1.0, atol=1e-11)
    steps = np.linspace(0, 3.5, 3000)
    along = level(solid, np.moveaxis(o[..., None] + d[..., None] * steps, 0, -1))
    entered = along < 1
    # Brute force: rays that miss stay outside; others stay outside up to the hit.
    assert not entered[~hit].any()
    before = steps < np.where(hit, s, np.inf)[:, None]
    assert not (entered & before)[hit].any()


@pytest.mark.parametrize("make", [ellipsoid, box])
def test_a_ray_from_inside_finds_the_way_out(make: object) -> None:
    solid = make(1)  # type: ignore[operator]
    rng = np.random.default_rng(0)
    d = rng.standard_normal((3, 100))
    d /= np.linalg.norm(d, axis=0)
    o = np.repeat(solid.centre[:, None], 100, axis=1)
    s = solid.intersect(o, d)
    np.testing.assert_allclose(level(solid, (o + s * d).T), 1.0, atol=1e-12)


@pytest.mark.parametrize("make", [ellipsoid, box])
def test_normals_are_unit_and_point_out_of_the_body(make: object) -> None:
    solid = make(2)  # type: ignore[operator]
    o, d = rays_towards(solid.centre, 0.3 * solid.radius, 200, 0)
    s = solid.intersect(o, d)
    hit = np.isfinite(s)
    points = (o + np.where(hit, s, 0) * d)[:, hit]
    normals = solid.normals(points)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=0), 1, atol=1e-12)
    eps = 1e-7
    assert (level(solid, (points + eps * normals).T) > 1).all()
    assert (level(solid, (points - eps * normals).T) < 1).all()
    gradient = np.stack(
        [
            level(solid, (points + shift[:, None]).T) - level(solid, (points - shift[:, None]).T)
            for shift in 1e-6 * np.eye(3)
        ]
    )
    gradient /= np.linalg.norm(gradient, axis=0)
    np.testing.assert_allclose(normals, gradient, atol=1e-5)


def test_a_ray_along_a_face_of_a_box_is_decided_without_nan() -> None:
    solid = Box(np.zeros(3), np.full(3, 0.5), np.eye(3), Part.BOX, (1.0, 1.0, 1.0))
    origins = np.array([[0.5, 0.0, -2.0], [0.6, 0.0, -2.0]]).T
    s = solid.intersect(origins, np.array([[0.0, 0.0, 1.0]] * 2).T)
    assert s[0] == pytest.approx(1.5)
    assert np.isinf(s[1])


def test_the_nearest_of_many_solids_is_found_whatever_the_block() -> None:
    solids: tuple[Solid, ...] = tuple(ellipsoid(seed) for seed in range(30))
    index = SolidSet.of(solids)
    o, d = rays_towards(np.zeros(3), 0.12, 500, 3)
    distance, which = index.nearest(o, d)
    every = np.stack([solid.intersect(o, d) for solid in solids])
    np.testing.assert_array_equal(distance, every.min(axis=0))
    np.testing.assert_array_equal(which, np.where(np.isinf(distance), -1, every.argmin(axis=0)))
    alone = [index.nearest(o[:, [k]], d[:, [k]]) for k in range(0, 500, 7)]
    np.testing.assert_array_equal([a[0][0] for a in alone], distance[::7])
    np.testing.assert_array_equal([a[1][0] for a in alone], which[::7])


def test_upward_rays_are_not_culled() -> None:
    index = SolidSet.of((ellipsoid(0),))
    centre = index.centres[0]
    origin = centre + np.array([0.0, 0.0, 1.0])
    distance, which = index.nearest(origin[:, None], np.array([[0.0], [0.0], [-1.0]]))
    assert which[0] == 0
    assert distance[0] < 1


def test_rays_leave_the_tank_through_the_nearest_wall() -> None:
    walls = TankWalls(-1.0, 2.0, -0.5, 0.5)
    origins = np.array([[0.0, 0, 0], [0, 0, 0], [0, 0, 0], [3, 0, 0], [0, 0, 0]]).T
    directions = np.array([[0.6, 0, 0.8], [0, -0.8, 0.6], [0, 0, 1], [-1, 0, 0], [0.8, 0.6, 0]]).T
    s = walls.exit(origins, directions)
    np.testing.assert_allclose(s[[0, 1, 4]], [2 / 0.6, 0.5 / 0.8, 0.5 / 0.6])
    assert s[2] == np.inf
    assert s[3] < 0
    normals = walls.normals(origins[:, :2] + s[:2] * directions[:, :2])
    np.testing.assert_array_equal(normals.T, [[-1, 0, 0], [0, 1, 0]])
