"""Frames on Dask workers: the bytes of a serial run, and a dead worker costs its frame only."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from distributed import Client, LocalCluster

from aquamvs import Pipeline, PipelineConfig
from aquamvs.errors import ConfigError
from aquamvs.pipeline import connect, run_distributed


def products(folder: Path) -> dict[str, bytes]:
    """All files of a run but the reports, whose times differ."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "report.json"
    }


def configured(dataset: Path, output: str) -> PipelineConfig:
    path = dataset / "config.yaml"
    changes = {"output_dir": output, "pipeline_mode": "surface"}
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))
    return PipelineConfig.from_yaml(path)


@pytest.fixture
def client() -> Iterator[Client]:
    with connect(workers=2) as found:
        yield found


def test_workers_write_the_bytes_of_a_serial_run_and_resume_it(
    dataset: Path, client: Client
) -> None:
    serial = Pipeline(configured(dataset, "serial"))
    serial.run()
    together = Pipeline(configured(dataset, "together"))
    told: list[tuple[int, int]] = []
    summary = run_distributed(
        together, client, told=lambda _, ended, total: told.append((ended, total))
    )
    assert [frame.status for frame in summary.frames] == ["done", "done"]
    assert told == [(1, 2), (2, 2)]
    assert products(together.config.output_dir) == products(serial.config.output_dir)
    assert [f.status for f in run_distributed(together, client).frames] == ["skipped", "skipped"]


def kill_workers_at(
    client: Client, frame: int, times: int, killed: list[int], stop: threading.Event
) -> None:
    """Kill every worker that is seen at a frame, at most so many times."""
    while len(killed) < times and not stop.is_set():
        processing = client.processing()
        for nanny in client.cluster.workers.values():
            keys = processing.get(nanny.worker_address, ())
            busy = any(f"aquamvs-frame-{frame}-" in str(key) for key in keys)
            if busy and nanny.pid is not None and nanny.pid not in killed:
                killed.append(nanny.pid)
                os.kill(nanny.pid, signal.SIGKILL)
        time.sleep(0.05)


@pytest.mark.parametrize(("times", "status"), [(1, "done"), (10, "failed")])
def test_a_dead_worker_costs_only_its_frame_which_is_retried(
    dataset: Path, client: Client, times: int, status: str
) -> None:
    pipeline = Pipeline(configured(dataset, "killed"))
    killed: list[int] = []
    stop = threading.Event()
    killer = threading.Thread(target=kill_workers_at, args=(client, 0, times, killed, stop))
    killer.start()
    summary = run_distributed(pipeline, client)
    stop.set()
    killer.join()
    assert [frame.status for frame in summary.frames] == [status, "done"]
    if status == "done":
        assert len(killed) == 1
        serial = Pipeline(configured(dataset, "serial"))
        serial.run()
        assert products(pipeline.config.output_dir) == products(serial.config.output_dir)
    else:
        assert len(killed) > 1
        assert "every worker that was given it died" in str(summary.frames[0].error)


def test_a_scheduler_of_its_own_is_used_by_its_address(dataset: Path) -> None:
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        connect(scheduler=cluster.scheduler_address) as client,
    ):
        pipeline = Pipeline(configured(dataset, "elsewhere"))
        image = sorted((dataset / "images" / "cam1").iterdir())[0]
        image.write_bytes(image.read_bytes()[:100])
        summary = run_distributed(pipeline, client)
    assert [frame.status for frame in summary.frames] == ["failed", "done"]
    assert image.name in str(summary.frames[0].error)


@pytest.mark.parametrize("wishes", [{}, {"workers": 2, "scheduler": "tcp://x:1"}, {"workers": 0}])
def test_contradictory_wishes_are_refused(wishes: dict[str, object]) -> None:
    with pytest.raises(ConfigError), connect(**wishes):  # type: ignore[arg-type]
        pytest.fail("there is nothing to connect to")


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aquamvs.pipeline.distributed._CONNECT_TIMEOUT_S", 1)
    with (
        pytest.raises(ConfigError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"),
        connect(scheduler="tcp://127.0.0.1:9"),
    ):
        pytest.fail("there is nothing to connect to")
