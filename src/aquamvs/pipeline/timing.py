"""Time and memory of each stage."""

from __future__ import annotations

import ctypes
import logging
import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import torch

from ..pathways import Stage

_LOGGER = logging.getLogger(__name__)
_SAMPLING_INTERVAL_S = 0.02
_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class StageTiming:
    """What one stage took.

    Attributes:
        wall_time_ms: Elapsed time.
        cpu_time_ms: Processor time of all threads of this process.
        peak_memory_mb: Largest resident memory of the process during the stage, MiB (sampled every
            20 ms); on CUDA the largest device memory allocated is added.

    Example:
        >>> from aquamvs.pipeline import StageTiming
        >>> timing = StageTiming(wall_time_ms=2000.0, cpu_time_ms=3000.0, peak_memory_mb=512.0)
        >>> timing.cpu_time_ms / timing.wall_time_ms  # processors at work
        1.5
    """

    wall_time_ms: float
    cpu_time_ms: float
    peak_memory_mb: float


@dataclass(frozen=True, slots=True)
class Timing:
    """What a pathway took.

    Attributes:
        stages: Stage name (:class:`aquamvs.pathways.Stage`) to its cost, in the order of execution.

    Example:
        >>> from aquamvs.pipeline import StageTiming, Timing
        >>> from aquamvs.pathways import Stage
        >>> fusion = StageTiming(wall_time_ms=20.0, cpu_time_ms=30.0, peak_memory_mb=512.0)
        >>> Timing({Stage.FUSION: fusion, Stage.SURFACE: fusion}).total_time_ms
        40.0
    """

    stages: dict[str, StageTiming] = field(default_factory=dict)

    @property
    def total_time_ms(self) -> float:
        """Sum of the stages' wall times; NaN when no stage ran."""
        if not self.stages:
            return math.nan
        return sum(stage.wall_time_ms for stage in self.stages.values())

    @property
    def peak_memory_mb(self) -> float:
        """Largest of the stages' peaks, MiB; NaN when no stage ran."""
        return max((stage.peak_memory_mb for stage in self.stages.values()), default=math.nan)


class StageRecorder:
    """Measures stages; a stage that is entered twice adds up.

    Example:
        >>> from aquamvs.pipeline import StageRecorder
        >>> from aquamvs.pathways import Stage
        >>> recorder = StageRecorder()
        >>> with recorder.stage(Stage.FUSION):
        ...     total = sum(range(1000))
        >>> [stage.value for stage in recorder.timing.stages]
        ['fusion']
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)
        self._stages: dict[str, StageTiming] = {}

    @property
    def timing(self) -> Timing:
        """What has been measured so far."""
        return Timing(dict(self._stages))

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Measure the body as (part of) a stage; a body that raises is not counted."""
        cuda = self._device.type == "cuda"
        if cuda:
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        wall, cpu = time.perf_counter(), time.process_time()
        with _MemorySampler() as memory:
            yield
            if cuda:
                torch.cuda.synchronize(self._device)
        peak = memory.peak_bytes
        if cuda:
            peak += torch.cuda.max_memory_allocated(self._device)
        _return_freed_memory()
        seconds = time.perf_counter() - wall
        _LOGGER.debug("%s: %.2f s, peak memory %.0f MiB", name, seconds, peak / _MEGABYTE)
        before = self._stages.get(name, StageTiming(0.0, 0.0, 0.0))
        self._stages[name] = StageTiming(
            before.wall_time_ms + 1e3 * seconds,
            before.cpu_time_ms + 1e3 * (time.process_time() - cpu),
            max(before.peak_memory_mb, peak / _MEGABYTE),
        )


def _return_freed_memory() -> None:
    """Give the system what the stage has freed: glibc would keep it for good."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class _MemorySampler:
    """Samples the resident memory of this process in a thread."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._process = psutil.Process()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _read(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLING_INTERVAL_S):
            self._read()

    def __enter__(self) -> _MemorySampler:
        self._read()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._read()
