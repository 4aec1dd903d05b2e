"""Names that lists, models and files can hold."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtf.data import names

PLAIN = st.text("abcdefgXYZ059_", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["fig", ""], "class 1 is called ''"),
        (["fig", "  "], "class 1 is called '  '"),
        (["a\nb"], r"class 0 is called 'a\\nb', with the character '\\n'"),
        (["a\x0bb"], "line breaks or control"),
        (["a\u2028b"], "line breaks or control"),
        (["a\x85b"], "line breaks or control"),
        (["a\0b"], "line breaks or control"),
        (["a\udce4b"], "line breaks or control"),
        ([" fig"], "white space at its ends"),
        (["fig", "pear", "fig"], "class 2 is called 'fig', and so is class 0"),
        (["K\u00e4se", "Ka\u0308se"], "and so is class 0"),
    ],
)
def test_classes_that_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        names.check_classes(classes)


@given(st.text(max_size=6))
def test_a_class_that_passes_is_one_line(name):
    try:
        names.check_classes([name])
    except ValueError:
        return
    assert name.splitlines() == [name] and name.strip() == name and "\0" not in name
    name.encode("utf-8")


@pytest.mark.parametrize("name", ["Käse", "Milk, 1 l", "US$5", "苹果", "a/b", "(x)", "\U0001f34e"])
def test_classes_that_pass(name):
    names.check_classes([name])


@pytest.mark.parametrize("columns", [["region", "a.b", "cam-2", "2020", "_x"], []])
def test_columns_that_pass(columns):
    names.check_columns(columns)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["Größe (cm)"], "rename it to 'Grosse_cm'"),
        (["store region"], "rename it to 'store_region'"),
        (["a/b"], "rename it to 'a_b'"),
        (["苹果"], "rename it to 'column'"),
        ([""], "metadata column ''"),
        (["-x"], "rename it to 'x'"),
        (["Region", "region"], "'Region' and 'region' would be one input"),
        (["a-b", "x", "a_b"], "'a-b' and 'a_b' would be one input"),
    ],
)
def test_columns_that_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        names.check_columns(columns)


@given(PLAIN)
def test_a_proposal_is_taken(name):
    names.check_columns([names._proposed(f"({name}) ü")])


@pytest.mark.parametrize("text", ["train", "Train", "TRAINING", " train "])
def test_spellings_of_train(text):
    assert names.split_name(text) == "train" and names.is_split(text)


def test_other_splits():
    assert names.split_name("Valid") == names.split_name("validation") == "val"
    assert names.split_name("Hold_out") == "hold_out" and not names.is_split("Hold_out")
    for text in ("trian", "tests", "vall", "", "a/b", "a b", "\u00e4"):
        with pytest.raises(ValueError, match="a split is called"):
            names.split_name(text)


@given(st.text(max_size=5))
def test_a_stored_name_stays_as_it_is(name):
    once = names.normalized(name)
    assert names.normalized(once) == once and unicodedata.is_normalized("NFC", once)
