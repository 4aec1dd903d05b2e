"""When a new file may take the deployed one's place."""

import numpy as np
import pytest

from kdtf.release import promotion
from kdtf.release.promotion import Answers, Tolerance

CLASSES = ("milk", "juice", "melon", "plum")
COUNTS = [100, 80, 60, 10]  # plum is the tail


def answers(predictions, classes=CLASSES):
    """Logits that say these class numbers, 3.0 against 0."""
    return Answers(3.0 * np.eye(len(classes))[np.asarray(predictions)], classes)


def wrong_at(labels, positions):
    predictions = labels.copy()
    predictions[list(positions)] = (labels[list(positions)] + 1) % 4
    return predictions


@pytest.fixture
def labels():
    return np.arange(400) % 4


def check(found, name):
    (one,) = [each for each in found.checks if each.name.startswith(name)]
    return one


def names_that_fail(found):
    return [each.name for each in found.checks if not each.passed]


def test_the_same_answers_pass_everything(labels):
    found = promotion.compare(answers(labels), answers(labels), labels, COUNTS, {})
    assert [each.name for each in found.checks] == [
        f"{name}, new minus deployed" for name in ("Top-1", "Macro-F1", "Top-1, tail")
    ]
    assert names_that_fail(found) == [] and found.examples == 400
    assert all(each.value == 0 for each in found.checks)


@pytest.mark.parametrize("mistakes, passed", [(4, True), (5, False)])
def test_overall_is_judged_by_what_was_measured(labels, mistakes, passed):
    """400 photos, tolerance 1 %: four more mistakes are at the limit, five beyond."""
    new = wrong_at(labels, range(0, 4 * mistakes, 4))
    found = promotion.compare(answers(labels), answers(new), labels, COUNTS, {})
    overall = check(found, "Top-1, new")
    assert (overall.value, overall.limit) == (pytest.approx(-mistakes / 400), -0.01)
    assert overall.passed is passed and overall.examples == 400
    low, high = overall.interval
    assert low < overall.value < high
    assert overall.p_value == pytest.approx(2 * 0.5**mistakes)  # McNemar's, exact


def test_a_slice_that_falls_is_named_while_the_whole_gains(labels):
    shops = ["north" if number < 100 else "south" for number in range(400)]
    old = wrong_at(labels, range(100, 160))
    new = wrong_at(labels, range(0, 30))
    found = promotion.compare(answers(old), answers(new), labels, COUNTS, {"shop": shops})
    assert check(found, "Top-1, new").value == pytest.approx(30 / 400)
    assert names_that_fail(found) == ["Top-1, shop = 'north', new minus deployed"]
    assert check(found, "Top-1, shop = 'north'").examples == 100


def test_the_tail_counts_by_itself(labels):
    tail = np.flatnonzero(labels == 3)
    found = promotion.compare(
        answers(wrong_at(labels, range(0, 160, 4))),
        answers(wrong_at(labels, tail[:20])),
        labels,
        COUNTS,
        {},
    )
    assert check(found, "Top-1, new").passed
    assert names_that_fail(found) == ["Top-1, tail, new minus deployed"]


def test_a_drop_that_chance_explains_is_refused_only_when_strict(labels):
    light = ["dim" if number < 40 else "bright" for number in range(400)]
    new = wrong_at(labels, [0, 4])  # two of 40: 5 % in the slice, 0.5 % in all
    arguments = answers(labels), answers(new), labels, COUNTS, {"light": light}
    lenient = promotion.compare(*arguments)
    dim = check(lenient, "Top-1, light = 'dim'")
    assert dim.value == pytest.approx(-0.05) and dim.passed
    assert dim.note == "below the limit, but so few photos do not show a drop"
    strict = promotion.compare(*arguments, tolerance=Tolerance(strict=True))
    assert names_that_fail(strict) == ["Top-1, light = 'dim', new minus deployed"]


def test_small_slices_are_listed_not_judged(labels):
    shops = ["corner" if number < 29 else None for number in range(400)]
    new = wrong_at(labels, [])
    found = promotion.compare(answers(labels), answers(new), labels, COUNTS, {"shop": shops})
    assert found.not_judged == [{"name": "shop = 'corner'", "examples": 29}]
    assert check(found, "Top-1, shop = missing").examples == 371


def test_photos_of_new_classes_do_not_hide_a_drop(labels):
    """The deployed file cannot know plums: the new file's right plums would be a gain of 25 %."""
    deployed = answers(labels % 3, ("juice", "milk", "melon"))
    deployed = Answers(deployed.logits[:, [1, 0, 2]], ("juice", "milk", "melon"))
    new = wrong_at(labels, range(0, 40, 4))
    found = promotion.compare(deployed, answers(new), labels, COUNTS, {})
    assert (found.examples, found.new_class_examples) == (300, 100)
    assert found.differences is None
    assert check(found, "Top-1, new").value == pytest.approx(-10 / 300)
    assert names_that_fail(found) == ["Top-1, new minus deployed"]


def test_classes_are_matched_by_name(labels):
    order = [2, 0, 3, 1]
    deployed = Answers(answers(labels).logits[:, order], tuple(CLASSES[i] for i in order))
    found = promotion.compare(deployed, answers(labels), labels, COUNTS, {})
    assert all(each.value == 0 for each in found.checks)
    assert found.differences["nll"]["difference"] == pytest.approx(0)


def test_photos_that_were_trained_on_are_left_out(labels):
    """The deployed file knows the first 100 by heart; on the others both are equal."""
    seen = np.arange(400) < 100
    new = wrong_at(labels, range(0, 100))
    judged = promotion.compare(answers(labels), answers(new), labels, COUNTS, {})
    assert not check(judged, "Top-1, new").passed
    found = promotion.compare(answers(labels), answers(new), labels, COUNTS, {}, seen)
    assert names_that_fail(found) == []
    assert (found.examples, found.seen_examples) == (300, 100)


def test_equal_files_are_rarely_refused_for_a_part():
    """A/A: 12 slices and the tail, at most 5 % by construction; 200 draws, so up to 17 (p 0.01)."""
    rng = np.random.default_rng(0)
    refused = 0
    old_classes = (*CLASSES, "gone")  # spares the bootstrap
    for _ in range(200):
        labels = rng.integers(0, 4, 1200)
        columns = {
            name: [str(value) for value in rng.integers(0, 6, 1200)] for name in ("shop", "light")
        }
        pair = []
        for _ in range(2):
            hard = rng.random(1200) < 0.2
            pair.append(np.where(hard, (labels + 1) % 4, labels))
        parts = promotion.compare(
            answers(pair[0], old_classes),
            answers(pair[1]),
            labels,
            COUNTS,
            columns,
            tolerance=Tolerance(part=0.0),
        ).checks[1:]
        assert len(parts) == 13
        refused += not all(each.passed for each in parts)
    assert refused <= 17


def test_bad_input(labels):
    same = answers(labels)
    with pytest.raises(ValueError, match="deployed is about 399 photos, labels about 400"):
        promotion.compare(answers(labels[:-1]), same, labels, COUNTS, {})
    other = same._replace(classes=tuple("abcd"))
    with pytest.raises(ValueError, match="none of 400 test photos is left .* 400 are of classes"):
        promotion.compare(other, same, labels, COUNTS, {})
    with pytest.raises(ValueError, match="overall tolerance must be a fraction in .* got 1"):
        Tolerance(overall=1)
    with pytest.raises(ValueError, match="examples must be at least 1, got 0"):
        Tolerance(examples=0)
