"""Drawings: as a PNG file, or as SVG within a page, whose colours and font it takes."""

import html
import io
import re
import zlib
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by people with any colour vision; no two alike in a theme.
THEMES = {
    "light": {
        "ink": "#1b1f24",
        "soft": "#59616b",
        "grid": "#d5d9de",
        "teacher": "#6b7280",
        "baseline": "#c44e00",
        "distilled": "#0072b2",
        "other": "#00805c",
        "good": "#0b6b3a",
        "bad": "#a3160f",
    },
    "dark": {
        "ink": "#e6e8eb",
        "soft": "#a9b0ba",
        "grid": "#3a4048",
        "teacher": "#a3a9b3",
        "baseline": "#f0a35e",
        "distilled": "#56b4e9",
        "other": "#2ecfa0",
        "good": "#6fdc9e",
        "bad": "#ff9c93",
    },
}
_HINT = "hint:"


class Drawing(NamedTuple):
    """A picture of a page: heading, what it shows in words, SVG markup, and a note below."""

    heading: str
    alt: str
    svg: str
    note: str = ""


def drawing(heading, alt, draw, *data, note=""):
    """`Drawing` of draw(figure, colours, *data); it needs no script and fetches nothing.

    The colours are the page's custom properties `--chart-<name>`, with those of the light theme to
    fall back on. The same data always gives the same markup.

    Args:
      heading: str, which no other drawing of the page has.
      alt: what the drawing shows, for those who cannot see it.
      draw: function of a matplotlib figure, {name of `THEMES`: colour} and data. An artist whose
        gid is `hint(text)` shows that text when pointed at.
      note: str.
    """
    text = _save(
        draw,
        "svg",
        data,
        {"svg.fonttype": "none"},
        transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
    text = text.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    words = re.sub(r"\W+", "-", heading).strip("-").lower()
    unique = f"{words}-{zlib.crc32(heading.encode()):x}"
    # Tags alone: names and other text may look like anything.
    text = re.sub(r"<!--.*?-->|<[^>]*>", lambda tag: _tag(tag[0], unique), text, flags=re.DOTALL)
    text = text.replace("<svg", f'<svg role="img" aria-label="{html.escape(alt)}"', 1)
    return Drawing(heading, alt, re.sub(r"\s*\n\s*", "\n", text).strip(), note)


def model_colour(colours, model):
    """The colour of a `results.Model`: its role decides."""
    return colours.get(model.role, colours["other"])


def hint(text):
    """The gid by which an artist tells more when pointed at."""
    return _HINT + text


def png(draw, *data):
    """One drawing as bytes of a PNG file, light; the same data always gives the same bytes."""
    return _save(draw, "png", data, {}, dpi=120, facecolor="#ffffff")


def _tag(tag, unique):
    """A tag of matplotlib's SVG as a page needs it; ids begin with `unique`."""
    hinted = re.fullmatch(rf"<g id=([\"']){_HINT}(.*)\1>", tag, flags=re.DOTALL)
    if hinted:
        return f'<g class="hint"><title>{hinted[2]}</title>'
    tag = re.sub(r' xmlns(:\w+)?="[^"]*"| (width|height)="[\d.]+pt"', "", tag)
    tag = tag.replace("xlink:href", "href")
    tag = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{unique}-", tag)
    for name, colour in THEMES["light"].items():
        tag = tag.replace(colour, f"var(--chart-{name}, {colour})")
    return tag


def _save(draw, kind, data, settings, **options):
    colours = THEMES["light"]
    ink = {
        key: colours["ink"]
        for key in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    }
    with matplotlib.rc_context(
        {
            **ink,
            **settings,
            "font.size": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.facecolor": "none",
            "svg.hashsalt": "kdtf",
            "text.parse_math": False,  # a name may hold any number of dollars
        }
    ):
        figure = Figure(layout="constrained")
        draw(figure, colours, *data)
        file = io.BytesIO()
        figure.savefig(file, format=kind, **options)
    return file.getvalue()
