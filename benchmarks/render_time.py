"""Time and memory of rendering the example dataset.

Run ``python benchmarks/render_time.py [SCALE ...]``. Scales are ``small``, ``medium`` and ``full``
(all of them when none is given). The figures include the scene, the images, the ground truth and
all files. Targets on 2 cores: small under 15 s, full under 180 s.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from aquamvs.datasets import ExampleScale, make_example


def main(scales: list[str]) -> None:
    print(f"{os.cpu_count()} processors")
    print("| scale | wall s | CPU s | peak memory MiB | size MiB |")
    print("|---|---|---|---|---|")
    for scale in scales or list(ExampleScale):
        with tempfile.TemporaryDirectory() as folder:
            wall, cpu = time.perf_counter(), time.process_time()
            out = make_example(Path(folder) / "example", scale=scale)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        # Linux counts in KiB; the peak is that of the process so far, so scales go upwards.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| {scale} | {wall:.1f} | {cpu:.1f} | {peak:.0f} | {size / 2**20:.1f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
