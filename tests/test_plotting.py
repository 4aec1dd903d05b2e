import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdtf import plotting


def draw(figure, colours, height):
    axes = figure.subplots()
    axes.plot(
        [0, 1], [0, height], "o", color=colours["distilled"], gid=plotting.hint('a < "b" & c')
    )
    axes.set_xlabel("label <b>")


@pytest.fixture(scope="module")
def drawing():
    return plotting.drawing("One & only", 'shows "this"', draw, 2.0, note="small")


def test_markup_is_whole_and_told(drawing):
    root = ElementTree.fromstring(drawing.svg)
    assert root.tag == "svg" and root.get("aria-label") == 'shows "this"'
    assert root.get("role") == "img" and root.get("viewBox") and not root.get("width")
    assert [each.text for each in root.iter("title")] == ['a < "b" & c']
    assert "label <b>" in [each.text for each in root.iter("text")]
    assert (drawing.heading, drawing.note) == ("One & only", "small")


def test_colours_are_the_pages(drawing):
    assert "var(--chart-distilled, #0072b2)" in drawing.svg
    left = re.sub(r"var\(--chart-\w+, #\w+\)", "", drawing.svg)
    assert not re.search("|".join(plotting.THEMES["light"].values()), left)
    assert set(plotting.THEMES["light"]) == set(plotting.THEMES["dark"])
    for colours in plotting.THEMES.values():
        assert len(set(colours.values())) == len(colours)


def test_names_within_a_drawing_are_its_own(drawing):
    ids = re.findall(r' id="([^"]+)"', drawing.svg)
    assert ids and all(each.startswith("one-only-") for each in ids)
    links = re.findall(r'(?:href="#|url\(#)([^")]+)', drawing.svg)
    assert links and set(links) <= set(ids)
    assert "http" not in drawing.svg


def test_same_data_same_picture(drawing):
    assert plotting.drawing("One & only", 'shows "this"', draw, 2.0, note="small") == drawing
    assert plotting.png(draw, 2.0) == plotting.png(draw, 2.0) != plotting.png(draw, 3.0)


def contrast(one, two):
    """Contrast ratio of two colours (WCAG 2.2)."""

    def luminance(colour):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        parts = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return sum(
            part * weight for part, weight in zip(parts, (0.2126, 0.7152, 0.0722), strict=True)
        )

    dark, light = sorted((luminance(one), luminance(two)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme, card", [("light", "#ffffff"), ("dark", "#1b1f24")])
def test_colours_stand_out_from_their_card(theme, card):
    for name, colour in plotting.THEMES[theme].items():
        least = {"grid": 1, "ink": 7, "soft": 4.5}.get(name, 4.5)
        assert contrast(colour, card) >= least, (name, contrast(colour, card))


NAMES = [
    "Ba$$in",
    "US$5",
    "$5 or $6",
    "a_{b}^2$",
    r"\frac{1}{2}$\alpha$",
    'x id="y"',
    "url(#a)",
    'href="#b"',
    "xlink:href",
    "#0072b2",
    'width="5pt"',
    "a > b <svg --> c",
    "%d {0} {}",
]


def draw_name(figure, colours, name):
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "o", gid=plotting.hint(name), label=name)
    axes.set_xticks([0, 1], [name, name])
    axes.set_ylabel(name)
    axes.set_title(name)
    axes.text(0.5, 0.5, name)
    figure.legend()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_drawn_as_it_is_written(name):
    root = ElementTree.fromstring(plotting.drawing(f"Gain by {name}", name, draw_name, name).svg)
    assert [each.text for each in root.iter("text")].count(name) == 6
    assert [each.text for each in root.iter("title")] == [name]
    assert root.get("aria-label") == name
    assert plotting.png(draw_name, name).startswith(b"\x89PNG")


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_any_name_is_drawn_as_it_is_written(name):
    root = ElementTree.fromstring(plotting.drawing(name, name, draw_name, name).svg)
    assert [each.text for each in root.iter("title")] == [name]
    assert name in [each.text for each in root.iter("text")]


def test_headings_that_differ_in_signs_alone_have_ids_of_their_own():
    ids = [
        set(re.findall(r' id="([^"]+)"', plotting.drawing(heading, "", draw, 1.0).svg))
        for heading in ("Gain by shop_a!", "Gain by shop_a?", "Gain by Shop_a!")
    ]
    assert all(ids) and not ids[0] & ids[1] and not ids[0] & ids[2]
