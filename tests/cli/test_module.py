"""``python -m aquamvs``."""

import subprocess
import sys


def test_the_package_runs_as_a_module() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "aquamvs", "--version"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0
    assert shown.stdout.startswith("aquamvs ")
