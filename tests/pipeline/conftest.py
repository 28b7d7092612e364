"""A tiny rendered dataset, shared by the tests that only read it."""

import shutil
from pathlib import Path

import pytest

from aquamvs.datasets import SceneOptions, write_dataset


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames of five cameras, 200 x 150."""
    return write_dataset(
        tmp_path_factory.mktemp("data") / "tiny",
        rig="small5",
        scene_kind="bower",
        seed=0,
        frames=2,
        image_size=(200, 150),
        options=SceneOptions(depth=0.3),
    )


@pytest.fixture
def dataset(pristine: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    folder = tmp_path / "dataset"
    shutil.copytree(pristine, folder)
    return folder
