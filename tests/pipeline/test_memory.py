"""Memory is predicted before a run, and kept: tiles shrink to fit the limit, and change nothing."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from aquamvs import Pipeline, PipelineConfig
from aquamvs.errors import ConfigError
from aquamvs.pathways import MatcherType, PipelineMode
from aquamvs.pipeline import predict_memory
from aquamvs.surface import TILE_SIDE, tile_memory

MEGABYTE = 1 << 20


def limited(dataset: Path, limit_gb: float | None, output: str = "output") -> Pipeline:
    path = dataset / "config.yaml"
    data = yaml.safe_load(path.read_text())
    data |= {"pipeline_mode": "surface", "output_dir": output}
    data["runtime"] = {"max_memory_gb": limit_gb}
    data["preprocessing"] = {"frame_stop": 1}
    path.write_text(yaml.safe_dump(data))
    return Pipeline(PipelineConfig.from_yaml(path))


def without_tiles_mb(dataset: Path) -> float:
    """What the process, the images and the maps take."""
    inputs = limited(dataset, None).inputs
    return predict_memory(inputs, threads=1).peak_mb - tile_memory(5, TILE_SIDE) / MEGABYTE


def test_without_a_limit_the_tiles_of_all_threads_count(dataset: Path) -> None:
    inputs = limited(dataset, None).inputs
    one, eight = (predict_memory(inputs, threads=threads) for threads in (1, 8))
    assert eight.peak_mb - one.peak_mb == pytest.approx(7 * tile_memory(5, TILE_SIDE) / MEGABYTE)
    assert (eight.tile_side, eight.workers) == (None, None)


def test_tiles_shrink_and_workers_wait_until_a_frame_fits(dataset: Path) -> None:
    whole_mb = without_tiles_mb(dataset)
    found = []
    for tiles_mb in (1000, 40, 20, 10, 3, 1.6):
        limit_mb = whole_mb + tiles_mb
        memory = predict_memory(limited(dataset, limit_mb / 1024).inputs, threads=16)
        assert memory.peak_mb <= limit_mb
        memory.check()
        found.append((memory.tile_side, memory.workers))
    assert found[0] == (TILE_SIDE, 16)
    assert found == sorted(found, key=lambda tiles: tiles[0], reverse=True)
    assert found[-1][0] < TILE_SIDE / 3
    assert found[-1][1] == 1
    refused = predict_memory(limited(dataset, (whole_mb - 1) / 1024).inputs, threads=16)
    with pytest.raises(ConfigError, match=r"more than runtime\.max_memory_gb"):
        refused.check()


def test_tiles_depend_on_the_limit_and_not_on_the_machine(dataset: Path) -> None:
    limit_gb = (without_tiles_mb(dataset) + 20) / 1024
    inputs = limited(dataset, limit_gb).inputs
    assert len({predict_memory(inputs, threads=n).tile_side for n in (1, 2, 16)}) == 1


def test_a_run_that_is_made_to_fit_gives_the_same_bytes(dataset: Path) -> None:
    limit_gb = (without_tiles_mb(dataset) + 3) / 1024
    free, tight = limited(dataset, None, "free"), limited(dataset, limit_gb, "tight")
    assert free.memory.tile_side is None
    assert tight.memory.tile_side < TILE_SIDE
    assert tight.memory.workers == 1
    results = {}
    for pipeline in (free, tight):
        assert not pipeline.run().failed
        root = pipeline.config.output_dir
        results[root.name] = {
            path.relative_to(root): path.read_bytes()
            for path in root.rglob("*")
            if path.is_file() and path.name != "report.json"
        }
    assert results["free"] == results["tight"]
    assert any(path.name == "height_map.npz" for path in results["free"])


def test_views_of_full_mode_wait_for_one_another_until_a_frame_fits(dataset: Path) -> None:
    def predicted(limit_gb: float | None, threads: int):
        inputs = limited(dataset, limit_gb).inputs
        config = inputs.config.model_copy(update={"pipeline_mode": PipelineMode.FULL})
        return predict_memory(dataclasses.replace(inputs, config=config), threads=threads)

    one, two = predicted(None, 1), predicted(None, 8)
    assert (one.workers, two.workers) == (1, 2)
    assert one.peak_mb < two.peak_mb
    assert str(two).endswith("2 views at a time")
    tight = predicted((one.peak_mb + 1) / 1024, 8)
    assert (tight.workers, tight.peak_mb) == (1, one.peak_mb)
    tight.check()


@pytest.mark.parametrize("mode", ["sparse", "full", "surface"])
def test_a_refusal_names_the_least_limit_that_would_do(dataset: Path, mode: str) -> None:
    def refusal(limit_gb: float) -> str | None:
        inputs = limited(dataset, limit_gb).inputs
        config = inputs.config.model_copy(update={"pipeline_mode": PipelineMode(mode)})
        try:
            predict_memory(dataclasses.replace(inputs, config=config), threads=1).check()
        except ConfigError as error:
            return str(error)
        return None

    message = refusal(0.1)
    assert message is not None
    least = float(re.search(r"raise it to (\S+) at least", message)[1])  # type: ignore[index]
    assert refusal(least) is None
    assert refusal(least - 0.02) is not None


@pytest.mark.parametrize("mode", ["sparse", "full"])
def test_larger_images_and_learned_matchers_are_predicted_to_take_more(
    dataset: Path, mode: str
) -> None:
    inputs = limited(dataset, None).inputs

    def peak(matcher: str) -> float:
        config = inputs.config.model_copy(
            update={"pipeline_mode": PipelineMode(mode), "matcher_type": MatcherType(matcher)}
        )
        return predict_memory(dataclasses.replace(inputs, config=config)).peak_mb

    assert peak("sift") < peak("lightglue") < peak("roma")
