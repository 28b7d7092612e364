"""Fixtures shared by every area."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from aquamvs.datasets import SceneOptions, write_dataset
from aquamvs.numerics import acceleration

# The same code passes or fails alike on every run; `tox run -e fuzz` is what looks for new cases.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def _single_thread() -> None:
    """Two cores run two pytest workers; more threads each would only contend."""
    torch.set_num_threads(1)


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where numba is missing."""
    monkeypatch.setattr(acceleration.importlib.util, "find_spec", lambda _: None)


@pytest.fixture(params=["compiled", "tensors"])
def engine(request: pytest.FixtureRequest) -> None:
    """Once with the compiled kernels and once without."""
    if request.param == "tensors":
        request.getfixturevalue("without_kernels")


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One frame of five cameras, 200 x 150, with ground truth."""
    return write_dataset(
        tmp_path_factory.mktemp("data") / "tiny",
        rig="small5",
        scene_kind="bower",
        seed=0,
        image_size=(200, 150),
        options=SceneOptions(depth=0.3),
    )
