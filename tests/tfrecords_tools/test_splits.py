"""Which split a photo goes to."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_folders import FRACTIONS

from tfrecords_tools.shards import Photo
from tfrecords_tools.splits import assign_splits, divide, parse_fractions


def unassigned(counts):
    return [
        Photo(f"{label}-{index}", None, "", label)
        for label, count in counts.items()
        for index in range(count)
    ]


def test_assign_splits_by_hand():
    photos = assign_splits(unassigned({"a": 10, "b": 20, "c": 1}), FRACTIONS)
    found = Counter((p.label, p.split) for p in photos)
    assert found == {
        ("a", "train"): 8, ("a", "val"): 1, ("a", "test"): 1,
        ("b", "train"): 16, ("b", "val"): 2, ("b", "test"): 2,
        ("c", "train"): 1,
    }  # fmt: skip


def test_remainders_add_up_over_classes():
    """Ten classes of five photos: half a photo each for val and test, five photos together."""
    photos = assign_splits(unassigned({f"c{i}": 5 for i in range(10)}), FRACTIONS)
    assert Counter(p.split for p in photos) == {"train": 40, "val": 5, "test": 5}


def test_photos_without_a_label_are_for_training():
    for fractions in (FRACTIONS, dict(reversed(FRACTIONS.items()))):
        photos = assign_splits(unassigned({"a": 10, None: 20}), fractions)
        assert {p.split for p in photos if p.label is None} == {"train"}
        assert Counter(p.split for p in photos if p.label) == {"train": 8, "val": 1, "test": 1}


def test_photos_with_a_split_keep_it():
    photos = [replace(p, split="test") for p in unassigned({"a": 4})] + unassigned({"b": 4})
    found = assign_splits(photos, {"train": 1.0})
    assert [p.split for p in found] == ["test"] * 4 + ["train"] * 4
    assert [p.id for p in found] == [p.id for p in photos]


@settings(max_examples=80, deadline=None)
@given(
    counts=st.dictionaries(st.sampled_from("abcdefghij"), st.integers(1, 40), min_size=1),
    weights=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    seed=st.integers(0, 5),
    data_=st.data(),
)
def test_assign_splits_properties(counts, weights, seed, data_):
    names = ["train", "val", "test"][: len(weights)]
    fractions = {n: w / sum(weights) for n, w in zip(names, weights, strict=True)}
    photos = unassigned(counts)
    found = assign_splits(photos, fractions, seed)
    assert [replace(p, split="") for p in found] == photos
    shuffled = data_.draw(st.permutations(photos))
    assert {p.id: p.split for p in assign_splits(shuffled, fractions, seed)} == {
        p.id: p.split for p in found
    }
    per_class = Counter((p.label, p.split) for p in found)
    for label, count in counts.items():
        assert per_class[label, "train"] >= 1
        if (
            count * fractions["train"] >= 1
        ):  # else the first split's one photo is taken from another
            for name, fraction in fractions.items():
                assert abs(per_class[label, name] - count * fraction) < 1 + 1e-9


def test_the_seed_of_the_splits_matters():
    photos = unassigned({"a": 40})
    first, second = (assign_splits(photos, FRACTIONS, seed) for seed in (0, 1))
    assert [p.split for p in first] != [p.split for p in second]


@pytest.mark.parametrize("fractions", [{"train": 0.8}, {"train": 1.2, "val": -0.2}])
def test_fractions_must_sum_to_one(fractions):
    with pytest.raises(ValueError, match="sum to 1"):
        assign_splits(unassigned({"a": 3}), fractions)


@pytest.mark.parametrize("zero", ["train", "val", "test"])
def test_a_split_of_fraction_zero_gets_nothing(zero):
    fractions = dict.fromkeys(("train", "val", "test"), 0.5) | {zero: 0.0}
    photos = assign_splits(unassigned({"a": 1, "b": 9, None: 3}), fractions)
    assert zero not in {photo.split for photo in photos}


def test_a_source_of_training_photos_only_is_divided():
    photos = [replace(p, split="train") for p in unassigned({"a": 10})]
    assert Counter(p.split for p in divide(photos, FRACTIONS)) == {"train": 8, "val": 1, "test": 1}
    assert divide(photos, None) == photos


def test_fractions_where_the_source_has_splits_are_refused():
    photos = [replace(p, split="train") for p in unassigned({"a": 3})]
    photos += [replace(p, split="test") for p in unassigned({"b": 2})]
    with pytest.raises(ValueError, match=r"\(test 2, train 3\): leave --split out"):
        divide(photos, FRACTIONS)
    with pytest.raises(ValueError, match="which split 4 of 9 photos.*--split train=0.8"):
        divide(photos + unassigned({"c": 4}), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train=0.2,Train=0.8", "names the split 'train' twice"),
        ("train=0.5,trian=0.5", "'trian': did you mean 'train'"),
        ("train=0.5,a/b=0.5", "a split is called 'a/b'"),
        ("train=nan,test=1", "sum to 1"),
        ("train=inf", "sum to 1"),
        ("train=0.5,=0.5", "a split is called ''"),
        ("train", "must be like"),
    ],
)
def test_fractions_that_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_fractions(text)


def test_fractions_in_other_spellings():
    fractions = parse_fractions("Train=0.8, validation=0.1, Testing=0.1")
    assert fractions == {"train": 0.8, "val": 0.1, "test": 0.1}
