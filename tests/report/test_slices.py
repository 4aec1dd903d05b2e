"""Where distillation changes something."""

from kdtf.report import slices
from kdtf.results import Comparison


def slice_of(verdict, examples, low_support):
    return {
        "value": None,
        "examples": examples,
        "low_support": low_support,
        "difference": -0.1,
        "interval": [-0.2, -0.01],
        "verdict": verdict,
    }


def test_slices_that_got_worse_are_named_unless_they_are_small():
    columns = {"shop": [slice_of("hurts", 300, False)], "light": [slice_of("hurts", 9, True)]}
    section = slices.slices_section(Comparison(slices=columns))
    assert section.words[-1] == "Worse in: shop: missing."
    columns["shop"][0]["verdict"] = "no difference shown"
    section = slices.slices_section(Comparison(slices=columns))
    assert section.words[-1] == "No group with enough photos got worse beyond chance."


def test_without_slices_there_is_no_section():
    assert slices.slices_section(None) is None
    assert slices.slices_section(Comparison(slices={})) is None


def test_names_with_dollars_are_drawn_as_they_are():
    columns = {"price in $": [slice_of("hurts", 300, False) | {"value": "US$5 or $$"}]}
    section = slices.slices_section(Comparison(slices=columns))
    assert ">US$5 or $$ (300)<" in section.drawings[0].svg
