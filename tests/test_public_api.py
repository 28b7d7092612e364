"""The public names that scripts and tutorials rely on, compared with a snapshot."""

import importlib
import json
from pathlib import Path

SNAPSHOT = Path(__file__).parent / "public_api.json"
MODULES = (
    "aquamvs",
    "aquamvs.benchmark",
    "aquamvs.calibration",
    "aquamvs.cli",
    "aquamvs.datasets",
    "aquamvs.dense",
    "aquamvs.evaluation",
    "aquamvs.fusion",
    "aquamvs.io",
    "aquamvs.matching",
    "aquamvs.meshing",
    "aquamvs.pipeline",
    "aquamvs.projection",
    "aquamvs.surface",
    "aquamvs.triangulation",
    "aquamvs.viewer",
    "aquamvs.visualization",
)


def public_api() -> dict[str, list[str]]:
    return {name: sorted(importlib.import_module(name).__all__) for name in MODULES}


def test_the_public_api_is_the_snapshot() -> None:
    """After a wanted change: ``python tests/test_public_api.py`` writes the snapshot anew."""
    assert public_api() == json.loads(SNAPSHOT.read_text())


def test_every_public_name_exists() -> None:
    for module, names in public_api().items():
        for name in names:
            assert getattr(importlib.import_module(module), name) is not None, f"{module}.{name}"


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(public_api(), indent=2) + "\n")
