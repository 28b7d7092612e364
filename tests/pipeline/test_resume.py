"""A run that is killed, or finds no room, and is started again ends as if nothing had happened."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from long_runs import (
    configure,
    finished,
    kill_after,
    leftovers,
    products,
    start,
    statuses,
    survive,
)

from aquamvs import Pipeline, PipelineConfig


@pytest.fixture
def run(dataset: Path) -> tuple[Path, Path, dict[str, bytes]]:
    """A configuration, its output folder, and what an undisturbed run writes there."""
    config = configure(dataset / "config.yaml", pipeline_mode="surface", output_dir="output")
    output = dataset / "output"
    Pipeline(PipelineConfig.from_yaml(config)).run()
    truth = products(output)
    shutil.rmtree(output)
    return config, output, truth


@pytest.mark.slow
def test_kills_at_random_moments_leave_whole_files_and_change_nothing(
    run: tuple[Path, Path, dict[str, bytes]],
) -> None:
    moments = np.random.default_rng(7).uniform(1, 12, 3).tolist()
    survived, tried = survive(*run, [0.0, *moments])
    assert survived == tried >= 1


@pytest.mark.slow
def test_a_kill_between_two_frames_costs_nothing_that_was_finished(
    run: tuple[Path, Path, dict[str, bytes]],
) -> None:
    config, output, truth = run
    process = start(config)
    while not finished(output):
        assert process.poll() is None
    kill_after(process, 0.0)
    leftover = output / "frame_000001" / "mesh" / ".surface.4711.tmp.ply"
    leftover.parent.mkdir(parents=True, exist_ok=True)
    leftover.write_bytes(b"half a mesh of a process that was killed")
    assert statuses(start(config)) == ["skipped", "done"]
    assert products(output) == truth
    assert not leftovers(output)


@pytest.mark.slow
def test_a_full_disk_fails_the_frames_and_room_completes_them(
    run: tuple[Path, Path, dict[str, bytes]],
) -> None:
    config, output, truth = run
    process = start(config, largest_file=100_000)
    assert statuses(process) == ["failed", "failed"]
    assert process.returncode == 1
    assert not leftovers(output)
    assert statuses(start(config)) == ["done", "done"]
    assert products(output) == truth
