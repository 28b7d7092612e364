"""Small rigs and scenes; a scene is built once for all tests that only look at it."""

import pytest

from aquamvs.calibration import CalibrationData
from aquamvs.datasets import Scene, make_rig, make_scene


@pytest.fixture(scope="session")
def tiny_rig() -> CalibrationData:
    """Five cameras of 80 x 60: coarse enough to build and render a scene in a second."""
    return make_rig("small5", image_size=(80, 60))


@pytest.fixture(scope="session")
def small_rig() -> CalibrationData:
    return make_rig("small5", image_size=(200, 150))


@pytest.fixture(scope="session")
def bower(small_rig: CalibrationData) -> Scene:
    return make_scene("bower", seed=3, rig=small_rig)


@pytest.fixture(scope="session")
def boxes(small_rig: CalibrationData) -> Scene:
    return make_scene("boxes", seed=2, rig=small_rig)
