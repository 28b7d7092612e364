"""The training loop that all models share: seeded, scheduled in steps, resumable, logging."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import DataError
from ..io import atomic_path
from ..matching.checkpoints import read_tensors

CHECKPOINT = "checkpoint.pt"
"""State of an unfinished run, in its output folder."""

LOG = "log.jsonl"
"""One line of figures per report, in the output folder."""

_CLIP = 1.0
"""Largest norm of a step's gradient."""

Loss = Callable[[nn.Module, int], tuple[Tensor, Mapping[str, float]]]
"""Loss of a step, which depends on its number and nothing else, and figures for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run.

    Attributes:
        out: Folder of checkpoint, log and result.
        work: Folder of rendered scenes, kept between runs; None renders them anew.
        seed: Of initial weights and of the sequence of pairs.
        steps: Length of the schedule; None takes the model's own.
        device: Where the network is trained.
        report: Called with every line of the log.

    Example:
        >>> from pathlib import Path
        >>> from aquamvs.training.loop import Run
        >>> Run(out=Path("trained"), steps=20).device
        'cpu'
    """

    out: Path
    work: Path | None = None
    seed: int = 0
    steps: int | None = None
    device: str = "cpu"
    report: Callable[[str], None] = print


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """AdamW with a linear warm-up and a cosine decay, and an average of the weights.

    Attributes:
        steps: Length.
        learning_rate: At the end of the warm-up.
        warmup: Steps of the warm-up.
        weight_decay: AdamW's.
        average: Decay per step of the exponential moving average of the weights, which is what a
            run results in.
        save_every: Steps between checkpoints.
        report_every: Steps between lines of the log.

    Example:
        >>> from aquamvs.training.loop import Schedule
        >>> schedule = Schedule(steps=100, learning_rate=1e-3, warmup=10)
        >>> [round(schedule.factor(step), 2) for step in (0, 9, 50, 100)]
        [0.1, 0.98, 0.5, 0.0]
    """

    steps: int
    learning_rate: float
    warmup: int = 200
    weight_decay: float = 0.01
    average: float = 0.999
    save_every: int = 250
    report_every: int = 50

    def factor(self, step: int) -> float:
        """Learning rate of a step over the largest one."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        fall = torch.pi * min(1.0, step / self.steps)
        return rise * (0.5 + 0.5 * float(torch.cos(torch.tensor(fall))))


def save_weights(network: nn.Module, path: Path, *, leave_out: Sequence[str] = ()) -> None:
    """Write a network's tensors in half precision, as safetensors; the file appears whole.

    Args:
        network: Trained.
        path: File.
        leave_out: Tensors that loading does not need.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from aquamvs.training.loop import save_weights
        >>> save_weights(torch.nn.Linear(3, 2), Path("line.safetensors"))
        >>> Path("line.safetensors").stat().st_size < 1000
        True
    """
    from safetensors.torch import save_file

    state = {
        name: tensor.half().cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if name not in leave_out
    }
    with atomic_path(path) as temporary:
        save_file(state, temporary)


def train(network: nn.Module, loss: Loss, schedule: Schedule, run: Run) -> nn.Module:
    """Train a network, going on where an interrupted run of the same folder stopped.

    Args:
        network: With its initial weights, on the run's device.
        loss: Of a step.
        schedule: Length and learning rates.
        run: Folder, seed and device.

    Returns:
        The network with the averaged weights, in evaluation mode.

    Raises:
        DataError: The folder's checkpoint belongs to another schedule or seed.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from aquamvs.training.loop import Run, Schedule, train
        >>> line = torch.nn.Linear(1, 1)
        >>> x = torch.linspace(-1, 1, 9)[:, None]
        >>> schedule = Schedule(steps=60, learning_rate=0.3, warmup=1, average=0.5)
        >>> quiet = Run(out=Path("line"), report=lambda line: None)
        >>> def loss(network, step):
        ...     return (network(x) - 2 * x).square().mean(), {}
        >>> fitted = train(line, loss, schedule, quiet)
        >>> bool(abs(fitted.weight - 2) < 0.1)
        True
    """
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    step = _resume(network, optimizer, average, schedule, run)
    seconds, figures = time.monotonic(), _Mean()
    network.train()
    while step < schedule.steps:
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * schedule.factor(step)
        value, extra = loss(network, step)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
        optimizer.step()
        step += 1
        _follow(average, network, min(schedule.average, step / (step + 10)))
        figures.add({"loss": float(value.detach()), **extra})
        if step % schedule.report_every == 0 or step == schedule.steps:
            line = {"step": step, **figures.take(), "seconds": round(time.monotonic() - seconds, 1)}
            _log(run, line)
        if step % schedule.save_every == 0 or step == schedule.steps:
            _save(network, optimizer, average, step, schedule, run)
    network.load_state_dict(average)
    return network.eval()


class _Mean:
    """Means of figures since they were last taken."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, figures: Mapping[str, float]) -> None:
        self._count += 1
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        means = {name: round(value / self._count, 4) for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


@torch.no_grad()
def _follow(average: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            average[name].lerp_(tensor, 1 - decay)
        else:
            average[name].copy_(tensor)


def _log(run: Run, line: Mapping[str, float]) -> None:
    text = json.dumps(line)
    run.report(text)
    run.out.mkdir(parents=True, exist_ok=True)
    with (run.out / LOG).open("a", encoding="utf-8") as stream:
        stream.write(text + "\n")


def _identity(schedule: Schedule, run: Run) -> str:
    return json.dumps(
        {"seed": run.seed, "steps": schedule.steps, "learning_rate": schedule.learning_rate}
    )


def _save(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Mapping[str, Tensor],
    step: int,
    schedule: Schedule,
    run: Run,
) -> None:
    with atomic_path(run.out / CHECKPOINT) as temporary:
        torch.save(
            {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": dict(average),
                "step": step,
                "identity": _identity(schedule, run),
            },
            temporary,
        )


def _resume(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    schedule: Schedule,
    run: Run,
) -> int:
    """Step to go on with; 0 where the folder holds no checkpoint."""
    path = run.out / CHECKPOINT
    if not path.is_file():
        return 0
    content = read_tensors(path)
    expected = _identity(schedule, run)
    if content.get("identity") != expected:
        raise DataError(
            f"{path} belongs to another run ({content.get('identity')}; this one is {expected}): "
            "choose another folder, or delete it to start anew"
        )
    network.load_state_dict(content["network"])  # type: ignore[arg-type]
    optimizer.load_state_dict(content["optimizer"])  # type: ignore[arg-type]
    average.update(content["average"])  # type: ignore[call-overload]
    run.report(f"going on at step {content['step']}")
    return int(content["step"])  # type: ignore[call-overload, no-any-return]
