"""What is compiled before a pathway's time is taken."""

import importlib
from pathlib import Path

import pytest

from aquamvs.benchmark import run_benchmark
from aquamvs.benchmark.warmup import compile_kernels
from aquamvs.pathways import PipelineMode

numba = pytest.importorskip("numba")

KERNELS = (
    "dense.kernels",
    "fusion.kernels",
    "numerics.filter_kernels",
    "numerics.height_kernels",
    "numerics.plane_kernels",
    "numerics.sampling_kernels",
    "projection.kernels",
    "surface.kernels",
    "surface.projection_kernels",
    "surface.quality_kernels",
    "surface.ray_kernels",
    "surface.relief_kernels",
    "surface.search_kernels",
)


def compiled_variants() -> dict[str, int]:
    """Argument types for which each kernel is compiled or loaded."""
    return {
        f"{module}.{name}": len(value.signatures)
        for module in KERNELS
        for name, value in vars(importlib.import_module(f"aquamvs.{module}")).items()
        if isinstance(value, numba.core.dispatcher.Dispatcher)
    }


@pytest.mark.parametrize(
    ("pathway", "mode"),
    [("Surface sweep", PipelineMode.SURFACE), ("SIFT + full", PipelineMode.FULL)],
)
def test_a_timed_pathway_compiles_nothing(
    pathway: str, mode: PipelineMode, tiny_dataset: Path, tmp_path: Path
) -> None:
    # Reading and undistorting the views stand before the clock already.
    run_benchmark(tiny_dataset / "config.yaml", pathways=["SIFT + sparse"], output_dir=tmp_path)
    compile_kernels(mode)
    before = compiled_variants()
    assert sum(before.values()) > 0
    run_benchmark(tiny_dataset / "config.yaml", pathways=[pathway], output_dir=tmp_path)
    assert compiled_variants() == before
