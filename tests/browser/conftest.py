"""A real browser and a server for the built site; skipped, with the reason, where either lacks."""

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aquamvs.benchmark import save_html_report
from aquamvs.benchmark.results import (
    Accuracy,
    BenchmarkResult,
    PathwayResult,
    StageTiming,
    Status,
    SurfaceAccuracy,
    Timing,
)
from aquamvs.pathways import Stage

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docs" / "_build" / "html"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# Without a GPU WebGL is drawn in software; a container has no sandbox of its own to build.
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
             "--enable-unsafe-swiftshader", "--hide-scrollbars")  # fmt: skip


def missing(reason: str) -> None:
    """Skip, or fail where the environment promises a browser (continuous integration)."""
    if os.environ.get("AQUAMVS_BROWSER") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """The system's Chromium, without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        missing(f"no browser is installed ({', '.join(PROGRAMS)}); apt-get install chromium")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield opened
        opened.close()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Requests are no output of the tests."""


def serve(folder: Path) -> Iterator[str]:
    """Address of a server of a folder, on the loopback interface only."""
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Address of the built site."""
    if not (SITE / "index.html").is_file():
        missing("the site is not built; run `tox run -e docs`")
    yield from serve(SITE)


@pytest.fixture
def report(tmp_path: Path) -> Iterator[str]:
    """Address of a folder with a benchmark's HTML report."""
    errors = SurfaceAccuracy(
        median_abs_m=1e-3, rms_m=2e-3, coverage=0.9, median_over_limit=1.5, rms_over_limit=4.0
    )
    good = PathwayResult(
        pathway_name="Surface sweep",
        status=Status.OK,
        timing=Timing({Stage.SURFACE_SWEEP: StageTiming(1500.0, 0.0, 0.0)}),
        point_count=5000,
        accuracy=Accuracy(depth=errors),
    )
    bad = PathwayResult(pathway_name="RoMa + full", status=Status.FAILED, error="no weights")
    result = BenchmarkResult(
        results=[good, bad], frame=0, config_path=Path("config.yaml"), output_dir=tmp_path
    )
    save_html_report(result, tmp_path)
    yield from serve(tmp_path)
