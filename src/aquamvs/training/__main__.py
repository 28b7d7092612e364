"""``python -m aquamvs.training MODEL``: train a bundled model from seeds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from ..errors import AquaMVSError
from .dense import train_dense
from .lightglue import train_lightglue
from .loop import Run

TRAINERS: Mapping[str, Callable[[Run], Path]] = {"lightglue": train_lightglue, "dense": train_dense}
"""Model -> its training, which returns the weights' file. A new model is one line here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m aquamvs.training", description=__doc__)
    parser.add_argument("model", choices=TRAINERS)
    parser.add_argument("--out", type=Path, required=True, help="folder of log, state and result")
    parser.add_argument("--work", type=Path, help="folder that keeps the rendered scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="another length than the shipped weights'")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    run = Run(
        out=options.out,
        work=options.work,
        seed=options.seed,
        steps=options.steps,
        device=options.device,
        report=lambda line: print(line, flush=True),
    )
    try:
        path = TRAINERS[options.model](run)
    except AquaMVSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    run.report(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
