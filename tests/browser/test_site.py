"""The site and the benchmark's report as a browser shows them, at the width of a desk and a phone.

They work without a network: a request to another host is a fault.
"""

import html
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest
from PIL import Image

from .conftest import SITE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

WIDTHS = {"desk": 1280, "phone": 390}
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
PAGES = [page for page in PAGES if not page.startswith(("_static", "_modules"))]

NOT_BLANK = """image => {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 64;
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0, 64, 64);
  const pixels = context.getImageData(0, 0, 64, 64).data;
  const colours = new Set();
  for (let i = 0; i < pixels.length; i += 4) colours.add(pixels.slice(i, i + 4).join());
  return colours.size;
}"""
"""How many colours an image or canvas shows, shrunk to 64 x 64."""

pytestmark = pytest.mark.timeout(300)


class Watched:
    """A page that keeps what goes wrong on it."""

    def __init__(self, page: "Page", home: str) -> None:
        self.page, self.home = page, home
        self.faults: list[str] = []
        page.on("console", lambda m: m.type == "error" and self.faults.append(m.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("requestfailed", lambda r: self.faults.append(f"{r.url} {r.failure}"))
        page.on("response", lambda r: r.status >= 400 and self.faults.append(f"{r.url} {r.status}"))
        page.route("**/*", self._answer)

    def _answer(self, route: "Route") -> None:
        if route.request.url.startswith((self.home, "data:", "blob:")):
            route.continue_()
        else:
            self.faults.append(f"asks for {route.request.url}")
            route.fulfill(status=200, body="")

    def open(self, path: str) -> "Page":
        self.page.goto(f"{self.home}/{path}", wait_until="load")
        return self.page


@pytest.fixture
def watch(browser: "Browser") -> Iterator[Callable[..., Watched]]:
    opened: list[Any] = []

    def make(home: str, *, width: int = 1280, scheme: str = "light") -> Watched:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        opened.append(context)
        return Watched(context.new_page(), home)

    yield make
    for context in opened:
        context.close()


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("path", PAGES or ["the site is not built"])
def test_page_loads_clean_shows_its_figures_and_fits_the_width(
    site: str, watch: Callable[..., Watched], path: str, width: int
) -> None:
    watched = watch(site, width=width)
    page = watched.open(path)
    for image in page.query_selector_all("img"):
        address = image.get_attribute("src") or ""
        if urlsplit(address).netloc or not image.is_visible():
            continue
        image.scroll_into_view_if_needed()
        page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image)
        assert image.evaluate(NOT_BLANK) > 1, f"{address} is blank"
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 1, f"{path} is {wide} px wider than a window of {width} px"
    assert watched.faults == []


def test_links_within_the_site_lead_somewhere(site: str, watch: Callable[..., Watched]) -> None:
    watched = watch(site)
    anchors: dict[str, set[str]] = {}
    links: list[tuple[str, str]] = []
    for path in PAGES:
        page = watched.open(path)
        anchors[path] = set(page.eval_on_selector_all("[id]", "all => all.map(e => e.id)"))
        found = page.eval_on_selector_all("a[href]", "all => all.map(a => a.href)")
        links += [(path, link) for link in found if link.startswith(site)]
    dead = set()
    for path, link in links:
        address, fragment = urldefrag(link)
        target = unquote(urlsplit(address).path).lstrip("/") or "index.html"
        if not (SITE / target).is_file():
            dead.add(f"{path}: {link}")
        elif fragment and target in anchors and unquote(fragment) not in anchors[target]:
            dead.add(f"{path}: {link} (no such place on the page)")
    assert len(links) > 100
    assert not dead


def test_the_reference_describes_every_public_name(site: str) -> None:
    del site  # says whether it is built
    text = "".join(path.read_text("utf-8") for path in (SITE / "api").glob("*.html"))
    public = json.loads((SITE.parents[2] / "tests" / "public_api.json").read_text("utf-8"))
    del public["aquamvs"]  # its names are those of other modules
    names = [f"{module}.{name}" for module, names in public.items() for name in names]
    assert [name for name in names if f'id="{name}"' not in text] == []


def test_signatures_are_as_one_would_type_them(site: str) -> None:
    del site  # says whether it is built
    text = "".join(path.read_text("utf-8") for path in (SITE / "api").glob("*.html"))
    heads = re.findall(r'<dt class="sig.*?</dt>', text, re.DOTALL)
    signatures = [html.unescape(re.sub("<[^>]+>", "", head)) for head in heads]
    assert len(signatures) > 300
    assert [each for each in signatures if re.search(r"~|<(factory|function|built-in)", each)] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_lie_on_a_light_card_in_either_theme(
    site: str, watch: Callable[..., Watched], scheme: str
) -> None:
    page = watch(site, scheme=scheme).open("theory/refraction.html")
    ground = page.eval_on_selector("img.figure-card", "i => getComputedStyle(i).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
    body = page.evaluate("getComputedStyle(document.body).backgroundColor")
    channels = [int(value) for value in re.findall(r"\d+", body)[:3]]
    assert (sum(channels) < 380) == (scheme == "dark")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_formulas_are_drawn_in_the_colour_of_the_text(
    site: str, watch: Callable[..., Watched], width: int, scheme: str
) -> None:
    watched = watch(site, width=width, scheme=scheme)
    page = watched.open("theory/uncertainty.html")
    text = page.evaluate("getComputedStyle(document.querySelector('article p')).color")
    wanted = tuple(int(value) for value in re.findall(r"\d+", text)[:3])
    formulas = page.query_selector_all("svg[role=img][aria-label]")
    assert len(formulas) > 4
    for formula in formulas:
        shown = Image.open(io.BytesIO(formula.screenshot())).convert("RGB")
        nearest = min(
            max(abs(have - want) for have, want in zip(pixel, wanted, strict=True))
            for _, pixel in shown.getcolors(shown.width * shown.height)
        )
        assert nearest < 60, f"{formula.get_attribute('aria-label')} is not drawn"
    assert watched.faults == []


def test_a_request_to_another_host_would_be_noticed(
    site: str, watch: Callable[..., Watched]
) -> None:
    watched = watch(site)
    page = watched.open("index.html")
    page.evaluate(
        "address => new Promise(done => {"
        "const image = new Image(); image.onload = image.onerror = () => done(); "
        "image.src = address; })",
        "https://example.org/badge.svg",
    )
    assert watched.faults == ["asks for https://example.org/badge.svg"]


def test_the_3d_view_draws_and_turns(site: str, watch: Callable[..., Watched]) -> None:
    watched = watch(site)
    page = watched.open("tutorial/notebook.html")
    canvas = page.wait_for_selector(".aquamvs-view canvas")
    assert canvas is not None
    canvas.scroll_into_view_if_needed()
    assert canvas.evaluate(NOT_BLANK) > 50
    before = canvas.evaluate("c => c.toDataURL()")
    canvas.focus()
    page.keyboard.press("ArrowLeft")
    turned = canvas.evaluate("c => c.toDataURL()")
    assert turned != before
    page.click(".aquamvs-view button[data-view=above]")
    assert canvas.evaluate("c => c.toDataURL()") not in (before, turned)
    assert watched.faults == []


@pytest.mark.parametrize("path", ["tutorial/change.html", "tutorial/refraction.html"])
def test_the_slider_turns_the_pages_of_a_flip_book(
    site: str, watch: Callable[..., Watched], path: str
) -> None:
    page = watch(site).open(path)
    shown = ".aquamvs-flip img:not([hidden])"
    assert len(page.query_selector_all(shown)) == 1
    first = page.get_attribute(shown, "src")
    page.eval_on_selector(
        ".aquamvs-flip input", "s => { s.value = 0; s.dispatchEvent(new Event('input')); }"
    )
    assert len(page.query_selector_all(shown)) == 1
    assert page.get_attribute(shown, "src") != first
    label = page.inner_text(".aquamvs-flip output")
    assert label == page.get_attribute(shown, "data-label")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_the_benchmark_report_loads_clean(
    report: str, watch: Callable[..., Watched], width: int, scheme: str
) -> None:
    watched = watch(report, width=width, scheme=scheme)
    page = watched.open("benchmark.html")
    images = page.query_selector_all("img")
    assert len(images) >= 3
    for image in images:
        assert image.evaluate(NOT_BLANK) > 1
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wide <= 1
    assert "no weights" in page.inner_text("body")
    assert watched.faults == []


def test_a_blank_figure_would_be_noticed(watch: Callable[..., Watched], tmp_path: Path) -> None:
    page = watch("about:").page
    page.set_content(
        '<img id=blank src=\'data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" '
        'width="9" height="9"><rect width="9" height="9" fill="white"/></svg>\'>'
    )
    page.wait_for_function("document.querySelector('#blank').complete")
    assert page.eval_on_selector("#blank", NOT_BLANK) == 1
