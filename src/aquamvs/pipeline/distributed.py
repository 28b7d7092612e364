"""Many frames at once on Dask distributed (extra ``dask``): one frame is one task.

A worker that dies costs the frame that it was at, which Dask gives to another worker; a frame that
has ended several workers is given up (Dask's ``distributed.scheduler.allowed-failures``).
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

import torch

from ..config import PipelineConfig
from ..errors import AquaMVSError, ConfigError
from .outputs import frame_folder
from .reconstruct import check_settings
from .runner import FrameStatus, Pipeline, RunSummary, Told, tell_nobody

if TYPE_CHECKING:
    from distributed import Client, Future

_CONNECT_TIMEOUT_S = 30
_HERE = "127.0.0.1"
_GIGABYTE = 1 << 30
_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"


@contextmanager
def connect(
    *, scheduler: str | None = None, workers: int | None = None, max_memory_gb: float | None = None
) -> Iterator[Client]:
    """A client of a running scheduler, or of workers started on this machine.

    Args:
        scheduler: Address of a Dask scheduler, such as ``tcp://host:8786``. Its workers need this
            version of AquaMVS and see the same files under the same paths.
        workers: Number of processes to start here instead; they end with the block.
        max_memory_gb: Memory at which a process started here is ended and its frame retried, GiB.

    Yields:
        The client.

    Raises:
        ConfigError: Dask is not installed, both or neither are asked for, or the scheduler does not
            answer.

    Example:
        >>> from aquamvs.pipeline import connect
        >>> with connect(workers=1) as client:
        ...     len(client.scheduler_info()["workers"])
        1
    """
    if (scheduler is None) == (workers is None):
        raise ConfigError("give either the address of a scheduler or a number of workers")
    if workers is not None and workers < 1:
        raise ConfigError(f"the number of workers is {workers}; expected 1 or more")
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError:
        raise ConfigError(
            'running frames in parallel needs Dask; install the extra: pip install "aquamvs[dask]"'
        ) from None
    if workers is None:
        try:
            client = Client(scheduler, timeout=_CONNECT_TIMEOUT_S)
        except (OSError, ValueError) as error:  # OSError: no answer; ValueError: no address
            raise ConfigError(
                f"no Dask scheduler answers at {scheduler}: {error}; start one with `dask "
                "scheduler`, or use --workers"
            ) from None
        with client:
            yield client
        return
    with (
        _own_messages_only(),
        dask.config.set({_ENVIRONMENT: _worker_environment(dask.config.get(_ENVIRONMENT))}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host=_HERE,
            dashboard_address=f"{_HERE}:0",  # any free port, for this machine only
            memory_limit=0 if max_memory_gb is None else int(max_memory_gb * _GIGABYTE),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _worker_environment(defaults: Mapping[str, object]) -> dict[str, object]:
    """Dask's environment for workers, without its order to give memory back at once.

    A frame takes and frees large arrays all the time, and each would get its pages from the system
    anew.
    """
    return {name: value for name, value in defaults.items() if name != "MALLOC_TRIM_THRESHOLD_"}


@contextmanager
def _own_messages_only() -> Iterator[None]:
    """Keep Dask's log of starts and ends from the screen: the frames' table says what matters."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def run_distributed(
    pipeline: Pipeline,
    client: Client,
    *,
    resume: bool = True,
    threads: int | None = None,
    told: Told = tell_nobody,
) -> RunSummary:
    """Reconstruct every selected frame on a client's workers.

    Args:
        pipeline: The run, whose inputs have been checked here.
        client: See :func:`connect`.
        resume: See :meth:`Pipeline.run`.
        threads: Of each frame; what the worker's environment says (Dask: one) when absent.
        told: Told of every frame that has ended.

    Returns:
        What became of each frame, in order; the files are those of :meth:`Pipeline.run`, byte for
        byte but for the reports' times.

    Raises:
        ConfigError: Settings do not fit together, or a package that they need is not installed.
        WeightsError: A matcher's weights are missing and cannot be downloaded, or do not fit.

    Example:
        >>> from aquamvs.pipeline import Pipeline, connect, run_distributed
        >>> with connect(workers=1) as client:
        ...     summary = run_distributed(Pipeline(config), client, resume=False)
        >>> [frame.status for frame in summary.frames]
        ['done']
    """
    from distributed import as_completed

    check_settings(pipeline.config)
    frames = list(pipeline.inputs.frames())
    statuses: dict[int, FrameStatus] = {}

    def record(status: FrameStatus) -> None:
        statuses[status.frame] = status
        status.log()
        told(status, len(statuses), len(frames))

    for frame in frames:
        skipped = pipeline.finished(frame) if resume else None
        if skipped is not None:
            record(skipped)
    config = pipeline.config.model_dump_json()
    run = uuid4().hex  # a scheduler that outlives the run must not answer from an earlier one
    tasks = {
        client.submit(
            reconstruct_frame,
            config,
            frame,
            resume=resume,
            threads=threads,
            key=f"aquamvs-frame-{frame}-{run}",
            pure=False,
        ): frame
        for frame in frames
        if frame not in statuses
    }
    for task in as_completed(list(tasks)):
        record(_status(task, tasks[task], pipeline))
    return RunSummary(tuple(statuses[frame] for frame in frames))


def _status(task: Future, frame: int, pipeline: Pipeline) -> FrameStatus:
    if task.status == "finished":
        status: FrameStatus = task.result()
        return status
    folder = frame_folder(pipeline.config.output_dir, frame)
    reason = f"the scheduler gave it up ({task.status})"
    if task.status == "error":
        error = task.exception()
        if type(error).__name__ != "KilledWorker":
            return FrameStatus.unforeseen(frame, folder.root, error)
        reason = "every worker that was given it died (out of memory? see max_memory_gb)"
    return FrameStatus(frame, "failed", folder.root, error=reason)


def reconstruct_frame(config: str, frame: int, *, resume: bool, threads: int | None) -> FrameStatus:
    """The task of one frame, run by a worker.

    Args:
        config: The configuration with absolute paths, as JSON.
        frame: Frame number.
        resume: Leave the frame alone if it is finished, by an earlier run or by a worker that died
            after its last file.
        threads: See :func:`run_distributed`.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        return _worker_pipeline(config, threading.get_ident()).attempt(frame, resume=resume)
    except AquaMVSError as error:  # a worker that sees other files than the process that asks it
        output_dir = PipelineConfig.model_validate_json(config).output_dir
        folder = frame_folder(output_dir, frame)
        return FrameStatus(frame, "failed", folder.root, error=str(error))


@functools.lru_cache(maxsize=8)
def _worker_pipeline(config: str, thread: int) -> Pipeline:
    """The inputs, opened once per thread of a worker: an open video serves one reader."""
    del thread
    return Pipeline(PipelineConfig.model_validate_json(config))
