"""Every pathway on a device that is not the processor."""

from collections.abc import Iterator

import pytest
import torch
from kornia.feature import LightGlue
from torch import Tensor

from aquamvs import Pipeline, PipelineConfig
from aquamvs.datasets import SceneOptions, write_dataset
from aquamvs.pathways import MatcherType, PipelineMode
from aquamvs.pipeline import Reconstruction, reconstruct
from aquamvs.types import UndistortedViews
from tests.simulated_device import operations_begun, simulated_device


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PipelineConfig:
    folder = write_dataset(
        tmp_path_factory.mktemp("data") / "small",
        rig="small5",
        scene_kind="bower",
        seed=0,
        image_size=(200, 150),
        options=SceneOptions(depth=0.3),
    )
    return PipelineConfig.from_yaml(folder / "config.yaml")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with simulated_device(monkeypatch) as name:
        monkeypatch.setitem(LightGlue.pruning_keypoint_thresholds, name, -1)
        yield name


def reconstructed(config: PipelineConfig, mode: str, matcher: str, device: str) -> Reconstruction:
    """From three cameras."""
    runtime = config.runtime.model_copy(update={"device": device})  # not checked: it is not known
    config = config.model_copy(
        update={
            "pipeline_mode": PipelineMode(mode),
            "matcher_type": MatcherType(matcher),
            "runtime": runtime,
        }
    )
    views = Pipeline(config).inputs.read_views(0)
    return reconstruct(UndistortedViews(views.frame, views.views[:3]), config)


def geometry(made: Reconstruction) -> Tensor:
    """Depth maps, or points where there are none, in the processor's memory."""
    if made.depth_maps:
        return torch.stack([depth_map.depth.cpu() for depth_map in made.depth_maps])
    return made.cloud.points.cpu()


@pytest.mark.parametrize(
    ("mode", "matcher"),
    [
        ("surface", "sift"),
        ("full", "sift"),
        ("sparse", "sift"),
        ("sparse", "lightglue"),
        ("sparse", "roma"),
    ],
)
def test_a_pathway_gives_on_a_device_what_it_gives_on_the_processor(
    config: PipelineConfig, mode: str, matcher: str, device: str
) -> None:
    expected = geometry(reconstructed(config, mode, matcher, "cpu"))
    made = reconstructed(config, mode, matcher, device)
    assert made.cloud.points.device.type == device
    found = geometry(made)
    assert found.shape == expected.shape
    known = torch.isfinite(expected)
    assert (known != torch.isfinite(found)).float().mean() < 0.005
    both = known & torch.isfinite(found)
    assert both.any()
    assert (found - expected)[both].abs().quantile(0.95) < 2e-4


def test_a_sweep_begins_few_operations_on_a_device(config: PipelineConfig, device: str) -> None:
    """To begin one takes a GPU longer than the work on thousands of cells.

    A fifth of them is the choice between the two surfaces of a jump.
    """
    before = operations_begun()
    reconstructed(config, "surface", "sift", device)
    assert operations_begun() - before < 50_000
