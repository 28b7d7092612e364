import numpy as np
import pytest

from aquamvs.datasets import Part
from aquamvs.datasets.heightfield import SplineSurface
from aquamvs.datasets.lighting import Lighting, bake_lighting
from aquamvs.datasets.solids import Ellipsoid, SolidSet

BOUNDS = (0.0, 0.6, 0.0, 0.5)


def flat_bed() -> SplineSurface:
    return SplineSurface(-0.05, -0.05, 0.05, np.full((14, 16), 1.4))


def stone(x: float = 0.3, y: float = 0.25, z: float = 1.38) -> Ellipsoid:
    return Ellipsoid(np.array([x, y, z]), np.full(3, 0.03), np.eye(3), Part.ROCK, (1.0, 1.0, 1.0))


def bake(*solids: Ellipsoid) -> Lighting:
    return bake_lighting(np.random.default_rng(0), flat_bed(), SolidSet.of(solids), BOUNDS)


def test_open_level_ground_is_the_unit_of_light() -> None:
    lighting = bake()
    ones = np.ones(3, dtype=np.float32)
    up = np.repeat([[0.0], [0.0], [-1.0]], 3, axis=1)
    np.testing.assert_allclose(lighting.shade(up, ones, ones), 1.0, atol=1e-6)
    assert (lighting.key_visible == 1).all()
    assert (lighting.sky_visible == 1).all()
    assert lighting.key[2] < 0
    assert np.linalg.norm(lighting.key) == pytest.approx(1)


def test_ground_that_faces_the_light_is_brighter() -> None:
    lighting = bake()
    ones = np.ones(2, dtype=np.float32)
    tilt = 0.3 * np.array([lighting.key[0], lighting.key[1], 0.0])
    up = np.array([0.0, 0.0, -1.0])
    normals = np.stack([up + tilt, up - tilt], axis=1)
    normals /= np.linalg.norm(normals, axis=0)
    towards, away = lighting.shade(normals, ones, ones)
    assert towards > 1.02
    assert away < 0.95


def test_a_stone_shades_the_side_away_from_the_light() -> None:
    lighting = bake(stone())
    away = -lighting.key[:2] / np.linalg.norm(lighting.key[:2])
    places = np.array([[0.3, 0.25]] * 3) + np.outer([0.035, -0.06, 0.2], away)
    key, sky = lighting.on_bed(places[:, 0], places[:, 1])
    assert key[0] < 0.3
    np.testing.assert_allclose(key[1:], 1)
    assert 0.2 < sky[0] < 0.95
    assert sky[2] == 1


def test_shadows_are_those_of_brute_force() -> None:
    lighting = bake(stone(), stone(0.35, 0.2, 1.33))
    rng = np.random.default_rng(1)
    row, column = rng.integers(0, lighting.key_visible.shape, (300, 2)).T
    spacing = 2.5e-3
    points = np.stack([spacing * column, spacing * row, np.full(300, 1.4)])
    central = np.repeat(lighting.key[:, None], 300, axis=1)
    blocked = np.zeros(300, dtype=bool)
    for solid in (stone(), stone(0.35, 0.2, 1.33)):
        blocked |= np.isfinite(solid.intersect(points, central))
    visible = lighting.key_visible[row, column]
    assert blocked.sum() > 3
    # The light has a radius of five degrees, so that only the umbra and the open are certain.
    assert (visible[blocked] < 1).all()
    assert (visible[~blocked] > 0).all()


def test_a_solid_beyond_the_grid_throws_its_shadow_into_it_only() -> None:
    lighting = bake(stone(x=-0.5, y=-0.5))
    assert (lighting.key_visible == 1).all()
