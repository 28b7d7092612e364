"""Feed damaged files to every reader: the result must be a value or an AquaMVSError.

    python benchmarks/fuzz_readers.py --inputs 2000 --seed 0

Each reader runs in a process of its own, whose memory may grow by 2 GiB. An input that takes more
than five seconds of the processor, hangs, ends the process or raises anything else is a failure.
Inputs depend on the seed, the reader's name and the input's number alone, so that every failure can
be repeated.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from damage import damaged
from readers import READERS

from aquamvs.errors import AquaMVSError

_COLUMNS = ("inputs", "values", "refused", "failed", "seconds", "slowest_ms", "growth_MiB")
_MEMORY_GROWTH = 2 << 30
_SLOW_S = 5.0
_HANG_S = 30.0
"""When the process of a reader that does not come back is ended; Python's own alarm came first."""
_START_S = 300.0
"""Longest time that a process may take to load its packages and to read what is not damaged."""


@dataclass
class Outcome:
    """What became of a reader's inputs."""

    inputs: int = 0
    values: int = 0
    refusals: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    growth_mb: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)
    """What happened -> number of the first such input."""


class _TooSlow(BaseException):
    pass


def main() -> int:
    """Run the readers one after the other and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000, help="per reader")
    parser.add_argument("--seconds", type=float, default=60.0, help="at most, per reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--keep", type=Path, help="folder for the inputs that failed")
    options = parser.parse_args()
    print(f"{'reader':14s}" + "".join(f"{name:>12s}" for name in _COLUMNS))
    failed = False
    for name in options.readers.split(","):
        outcome = _fuzz(name, options)
        numbers = (outcome.inputs, outcome.values, outcome.refusals, len(outcome.failures))
        figures = (outcome.seconds, outcome.slowest_ms, outcome.growth_mb)
        print(
            f"{name:14s}"
            + "".join(f"{number:12d}" for number in numbers)
            + "".join(f"{figure:12.1f}" for figure in figures),
            flush=True,
        )
        for failure, index in outcome.failures.items():
            failed = True
            print(f"    input {index}: {failure}")
    return int(failed)


def _fuzz(name: str, options: argparse.Namespace) -> Outcome:
    """Run a reader in processes of its own until its inputs are used up."""
    context = multiprocessing.get_context("spawn")
    total, first = Outcome(), 0
    deadline = time.monotonic() + options.seconds
    while first < options.inputs and time.monotonic() < deadline:
        ours, theirs = context.Pipe()
        arguments = (name, first, options, deadline - time.monotonic(), theirs)
        process = context.Process(target=_work, args=arguments)
        process.start()
        theirs.close()
        index, outcome, ended = _watch(ours, first)
        process.kill()
        process.join()
        _add(total, outcome)
        if ended is not None:
            total.failures.setdefault(ended, index)
            total.inputs += 1
            _keep(options, name, index)
        first = index + 1
        if ended is None:
            break
    return total


def _watch(pipe: Connection, first: int) -> tuple[int, Outcome, str | None]:
    """Number of the last input, what became of all, and how the process ended if not as it must."""
    index, outcome = first, Outcome()
    while True:
        try:
            if not pipe.poll(_HANG_S if outcome.inputs else _START_S):
                return index, outcome, "hangs"
            message = pipe.recv()
        except EOFError:
            return index, outcome, "ends the process"
        if message is None:
            return index, outcome, None
        index, outcome = message


def _add(total: Outcome, part: Outcome) -> None:
    total.inputs += part.inputs
    total.values += part.values
    total.refusals += part.refusals
    total.seconds += part.seconds
    total.slowest_ms = max(total.slowest_ms, part.slowest_ms)
    total.growth_mb = max(total.growth_mb, part.growth_mb)
    for failure, index in part.failures.items():
        total.failures.setdefault(failure, index)


def _work(
    name: str, first: int, options: argparse.Namespace, seconds: float, pipe: Connection
) -> None:
    """The process of a reader: tells its number before each input, and None at the end."""
    reader = READERS[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        seeds = reader.seeds(folder)
        path = folder / f"input{reader.suffix}"
        for seed in seeds:
            path.write_bytes(seed)
            reader.read(path)  # what is not damaged must be read; this also warms caches up
        process = psutil.Process()
        start, size = time.monotonic(), process.memory_info()
        resource.setrlimit(resource.RLIMIT_AS, (size.vms + _MEMORY_GROWTH,) * 2)
        signal.signal(signal.SIGPROF, _alarm)
        outcome = Outcome()
        for index in range(first, options.inputs):
            outcome.seconds = time.monotonic() - start
            pipe.send((index, outcome))
            if outcome.seconds > seconds:
                break
            path.write_bytes(_input(name, seeds, options.seed, index))
            failure = _read(reader.read, path, outcome)
            if failure is not None and failure not in outcome.failures:
                outcome.failures[failure] = index
                _keep(options, name, index, path)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            outcome.growth_mb = max(0.0, peak - size.rss / 2**20)
        outcome.seconds = time.monotonic() - start
        pipe.send((options.inputs, outcome))
        pipe.send(None)


def _input(name: str, seeds: list[bytes], seed: int, index: int) -> bytes:
    return damaged(seeds, np.random.default_rng([seed, zlib.crc32(name.encode()), index]))


def _read(read: Any, path: Path, outcome: Outcome) -> str | None:
    """Read one input; the failure, if that is what it is."""
    outcome.inputs += 1
    start = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, _SLOW_S)
    try:
        read(path)
    except AquaMVSError:
        outcome.refusals += 1
    except _TooSlow:
        return f"takes more than {_SLOW_S:g} s of the processor"
    except BaseException as error:  # noqa: BLE001  (what this program is for)
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "aquamvs" in f.filename]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return f"{type(error).__name__} at {place}: {str(error)[:80]}"
    else:
        outcome.values += 1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        outcome.slowest_ms = max(outcome.slowest_ms, 1e3 * (time.process_time() - start))
    return None


def _alarm(*_: object) -> None:
    raise _TooSlow


def _keep(options: argparse.Namespace, name: str, index: int, path: Path | None = None) -> None:
    if options.keep is None:
        return
    options.keep.mkdir(parents=True, exist_ok=True)
    target = options.keep / f"{name}-{index}{READERS[name].suffix}"
    if path is not None:
        shutil.copyfile(path, target)
        return
    with tempfile.TemporaryDirectory() as place:
        seeds = READERS[name].seeds(Path(place))
    target.write_bytes(_input(name, seeds, options.seed, index))


if __name__ == "__main__":
    sys.exit(main())
