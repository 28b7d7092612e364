"""The figures that the site draws of itself, and the README's."""

import io
import re
import subprocess
import sys
from pathlib import Path

import figures
import numpy as np
import pytest
from PIL import Image

from aquamvs.visualization import figure_png

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = "".join(path.read_text("utf-8") for path in DOCS.rglob("*.md"))


def colours(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as picture:
        return len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0))


@pytest.mark.slow
@pytest.mark.parametrize("name", figures.__all__)
def test_figure_of_the_site_shows_something_and_is_used(name: str) -> None:
    assert colours(figure_png(getattr(figures, name)())) > 50
    assert re.search(rf"^:::\{{drawn\}} {name}$", PAGES, re.MULTILINE)


def blurred(path: Path) -> np.ndarray:
    """What is left where single pixels are not looked at: rounding may differ between machines."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").reduce(4), dtype=float)


@pytest.mark.slow
def test_the_readme_figure_shows_what_the_engine_does_today(tmp_path: Path) -> None:
    target = tmp_path / "readme.jpg"
    program = [sys.executable, str(DOCS / "readme_figure.py")]
    subprocess.run([*program, "--out", str(target)], check=True, timeout=500)
    assert colours(target.read_bytes()) > 1000
    difference = np.abs(blurred(target) - blurred(DOCS / "_static" / "readme.jpg"))
    stale = "stale; `python docs/readme_figure.py` draws it anew"
    assert difference.mean() < 1, stale  # another engine's map of errors: about 6 of 255
