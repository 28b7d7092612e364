"""Peak memory of a frame, predicted before the run and measured in it.

python benchmarks/memory_prediction.py DATASET/config.yaml [CONFIG ...] [--mode surface]
    [--matcher sift] [--limit GIB]

Each run is a process of its own, so that nothing is left over from the one before. A run that the
prediction refuses has no row.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from aquamvs import PipelineConfig
from aquamvs.pathways import MatcherType, PipelineMode


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--mode", choices=list(PipelineMode), default=PipelineMode.SURFACE)
    parser.add_argument("--matcher", choices=list(MatcherType), default=MatcherType.SIFT)
    parser.add_argument("--grid-resolution", type=float)
    parser.add_argument("--limit", type=float, metavar="GIB", help="runtime.max_memory_gb")
    options = parser.parse_args()
    print(
        f"{'mode':8s} {'predicted_MiB':>14s} {'measured_MiB':>13s} {'ratio':>6s}  dataset: stages"
    )
    for path in options.configs:
        with tempfile.TemporaryDirectory() as place:
            config = _configured(path, options, Path(place))
            found = json.loads(
                subprocess.run(  # noqa: S603
                    [sys.executable, "-m", "aquamvs", "run", str(config), "--json"],
                    stdout=subprocess.PIPE,
                    check=True,
                ).stdout
            )
            report = json.loads(
                (Path(found["frames"][0]["output_dir"]) / "report.json").read_text()
            )
        peaks = {
            name: stage["peak_memory_mb"] for name, stage in report["timing"]["stages"].items()
        }
        measured, predicted = max(peaks.values()), found["predicted_peak_memory_mb"]
        stages = ", ".join(f"{name} {peak:.0f}" for name, peak in peaks.items())
        print(
            f"{options.mode:8s} {predicted:14.0f} {measured:13.0f} {predicted / measured:6.2f}  "
            f"{path.parent.name}: {stages}",
            flush=True,
        )
    return 0


def _configured(path: Path, options: argparse.Namespace, folder: Path) -> Path:
    """A copy of a configuration: first frame, wanted mode, results into a folder of its own."""
    config = PipelineConfig.from_yaml(path)
    sections = {
        "reconstruction": config.reconstruction.model_copy(
            update={"grid_resolution": options.grid_resolution}
        ),
        "preprocessing": config.preprocessing.model_copy(
            update={"frame_start": 0, "frame_stop": 1}
        ),
        "runtime": config.runtime.model_copy(update={"max_memory_gb": options.limit}),
    }
    changed = config.model_copy(
        update={
            "pipeline_mode": PipelineMode(options.mode),
            "matcher_type": MatcherType(options.matcher),
            "output_dir": folder / "output",
            **sections,
        }
    )
    changed.to_yaml(folder / "config.yaml")
    return folder / "config.yaml"


if __name__ == "__main__":
    sys.exit(main())
