"""The whole page of a run, as a browser shows it."""

import io
import re

import browser
import numpy as np
import PIL.Image
import pytest
import small_run

from kdtf import report

SECTIONS = [
    "models",
    "learning",
    "calibration",
    "ask",
    "tail",
    "slices",
    "rounding",
    "confusion",
    "examples",
    "made",
]
# What reaches further right than the window, unless its own box scrolls.
OVERFLOWING = """[...document.querySelectorAll("body *")].filter(each =>
    each.getBoundingClientRect().right > document.documentElement.clientWidth + 1
    && !each.closest(".scroll, svg"))
    .map(each => each.outerHTML.slice(0, 80))"""
FIRST_CELLS = """[...document.querySelectorAll("#models table")[0].tBodies[0].rows]
    .map(row => [row.cells[0].textContent, row.cells[1].dataset.value])"""
# Pairs of labels of one drawing that cover each other.
COVERED = """[...document.querySelectorAll("figure svg")].flatMap(svg => {
    const boxes = [...svg.querySelectorAll("text")].filter(each => each.textContent.trim())
        .map(each => [each.textContent, each.getBoundingClientRect()]);
    return boxes.flatMap(([one, a], place) => boxes.slice(place + 1).filter(([, b]) =>
        Math.min(a.right, b.right) - Math.max(a.left, b.left) > 2 &&
        Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4).map(([two]) => [one, two]))})"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "w47"
    results = small_run.write(folder)
    return report.write(folder), results


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    """A browser that has opened the page, as wide as a desktop's."""
    with browser.Browser(tmp_path_factory.mktemp("profile")) as opened:
        opened.show(1280, 900)
        opened.open(run[0].resolve().as_uri())
        yield opened


def shades(png):
    """How many different colours a picture has, and its mean brightness."""
    with PIL.Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB"))
    return len(np.unique(pixels.reshape(-1, 3), axis=0)), pixels.mean()


def test_page_is_modest_and_whole(run):
    path, results = run
    text = path.read_text()
    assert path.stat().st_size < 3_000_000
    assert [each for each in re.findall(r'<section id="(\w+)"', text)] == SECTIONS
    assert text.count("<svg") == 18 and text.count("data:image/jpeg;base64,") > 30
    assert not re.search(r"\bNone\b|\bnan\b|\binf\b", text.partition("<script>")[0])
    for each in results.classes:
        assert each["name"] in text


def test_nothing_is_fetched_and_nothing_complains(run, page):
    assert page.requests() == [run[0].resolve().as_uri()]
    assert page.complaints() == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_everything_is_visible_on_any_screen(page, width, dark):
    page.show(width, 900, dark=dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERFLOWING) == []
    for key in SECTIONS:
        height = page.evaluate(f"document.getElementById('{key}').getBoundingClientRect().height")
        assert height > 100, key
    assert page.evaluate("[...document.images].every(each => each.naturalWidth > 20 && each.alt)")
    colours, brightness = shades(page.screenshot())
    assert colours > 100 and (brightness < 90) == dark


def test_labels_of_drawings_do_not_cover_each_other(page):
    page.show(390, 900)
    assert page.evaluate(COVERED) == []


def test_paper_is_light_and_as_wide_as_the_sheet(page):
    page.show(794, 1123, dark=True, media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 794
    assert shades(page.screenshot())[1] > 200
    assert page.call("Page.printToPDF")["data"].startswith("JVBERi")


def test_tables_sort_by_click_and_by_key(page):
    page.show(1280, 900)
    before = page.evaluate(FIRST_CELLS)
    button = "document.querySelectorAll('#models table')[0].tHead.rows[0].cells[1].children[0]"
    page.evaluate(f"{button}.click()")
    values = [float(value) for _, value in page.evaluate(FIRST_CELLS)]
    assert values == sorted(values, reverse=True)
    page.evaluate(f"{button}.focus()")
    for kind in ("keyDown", "keyUp"):
        page.call(
            "Input.dispatchKeyEvent",
            type=kind,
            key="Enter",
            code="Enter",
            text="\r",
            windowsVirtualKeyCode=13,
        )
    assert [value for _, value in page.evaluate(FIRST_CELLS)] == sorted(
        (value for _, value in before), key=float
    )
    assert page.evaluate(f"{button}.parentNode.ariaSort") == "ascending"


def test_a_tap_on_a_point_tells_what_it_is(page):
    page.evaluate(
        "document.querySelector('#models .hint path, #models .hint use')"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    told = page.evaluate("document.querySelector('#models output').textContent")
    assert re.fullmatch(r"Teacher: \d\d\.\d %, 9\.40 MB", told)
