import json

import hypothesis
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kdtf import metrics
from kdtf.metrics import calibration

# No deadline: how fast the machine is tells nothing about the numbers.
any_of = hypothesis.settings(deadline=None, max_examples=60, derandomize=True)

# Three classes with probabilities given as logs, so that every number below is exact by hand.
PROBS = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])
LABELS = np.array([0, 2, 0, 1])


@st.composite
def classified(draw):
    """Whole-numbered logits, exact under shifts, and labels."""
    examples, classes = draw(st.integers(1, 30)), draw(st.integers(2, 8))
    logits = draw(hnp.arrays(np.float64, (examples, classes), elements=st.integers(-6, 6)))
    labels = draw(hnp.arrays(np.int64, examples, elements=st.integers(0, classes - 1)))
    return logits, labels


def test_top_k_golden():
    logits = np.log(PROBS)
    assert metrics.top_k_accuracy(logits, LABELS, 1) == 0.5  # right, wrong, right, wrong
    # Photo 1: class 2 is second. Photo 3: classes 0 and 1 tie for second, 0 comes first.
    assert metrics.top_k_accuracy(logits, LABELS, 2) == 0.75
    assert metrics.top_k_accuracy(logits, LABELS, 3) == 1.0


def test_top_k_gives_a_constant_model_nothing():
    logits = np.zeros((4, 4))
    assert metrics.top_k_accuracy(logits, np.arange(4), 1) == 0.25
    assert metrics.top_k_accuracy(logits, np.arange(4), 2) == 0.5


@any_of
@hypothesis.given(classified())
def test_top_1_is_argmax_and_top_k_grows(sample):
    logits, labels = sample
    scores = [metrics.top_k_accuracy(logits, labels, k + 1) for k in range(logits.shape[1])]
    assert scores[0] == np.mean(logits.argmax(1) == labels)
    assert scores == sorted(scores) and scores[-1] == 1.0


def test_top_k_matches_sklearn():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(200, 9)), rng.integers(0, 9, 200)
    for k in (1, 3, 5):
        assert metrics.top_k_accuracy(logits, labels, k) == pytest.approx(
            sklearn.metrics.top_k_accuracy_score(labels, logits, k=k, labels=range(9))
        )


def test_macro_f1_golden():
    # Class 0: precision 2/3, recall 1, F1 0.8. Class 1: precision 1, recall 1/2, F1 2/3.
    # Class 2 is predicted once but present nowhere: left out.
    predictions, labels = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 0])
    # Class 0: precision 2/3, recall 2/3, F1 2/3. Class 1: precision 1, recall 1/2, F1 2/3.
    assert metrics.macro_f1_score(predictions, labels, 3) == pytest.approx(2 / 3)
    assert metrics.macro_f1_score(predictions[:4], labels[:4], 3) == pytest.approx(
        (0.8 + 2 / 3) / 2
    )


def test_macro_f1_matches_numpy():
    rng = np.random.default_rng(1)
    predictions, labels = rng.integers(0, 6, 100), rng.integers(1, 5, 100)
    scores = []
    for number in np.unique(labels):
        hit = np.sum((predictions == number) & (labels == number))
        scores.append(2 * hit / (np.sum(predictions == number) + np.sum(labels == number)))
    assert metrics.macro_f1_score(predictions, labels, 6) == pytest.approx(np.mean(scores))


def test_negative_log_likelihood():
    logits = np.log(PROBS)
    want = -np.log([0.7, 0.3, 0.5, 0.2]).mean()
    assert metrics.negative_log_likelihood(logits, LABELS) == pytest.approx(want)
    assert metrics.negative_log_likelihood(logits, LABELS) == pytest.approx(
        sklearn.metrics.log_loss(LABELS, PROBS)
    )
    assert metrics.negative_log_likelihood([[1e4, 0.0]], [1]) == pytest.approx(1e4)


@any_of
@hypothesis.given(classified(), st.integers(-50, 50), st.randoms(use_true_random=False))
def test_shift_and_order_do_not_matter(sample, shift, random):
    logits, labels = sample
    counts = np.arange(logits.shape[1]) + 1
    order = random.sample(range(len(labels)), len(labels))
    want = metrics.evaluate(logits, labels, counts)
    got = metrics.evaluate(logits[order] + shift, labels[order], counts)
    numbers = [name for name, value in want.items() if isinstance(value, float)]
    assert len(numbers) >= 9
    assert {name: got[name] for name in numbers} == pytest.approx(
        {name: want[name] for name in numbers}, abs=1e-9
    )
    assert got["recall"] == want["recall"]


@pytest.mark.parametrize(
    "counts, head, tail",
    [
        ([50, 30, 10, 6, 4], [0, 1], [2, 3, 4]),  # 80 >= 58; 4 + 6 + 10 = 20 %
        ([4, 50, 10, 30, 6], [1, 3], [0, 2, 4]),  # the same, in another order
        ([58, 21, 21], [0], [2]),  # 58 is enough; 21 > 20, but one it must be
        ([10] * 10, [0, 1, 2, 3, 4, 5], [8, 9]),  # balanced: ties by number
        ([50, 50], [0], [1]),  # one is always left over for the tail
        ([1, 99], [1], [0]),
        ([100, 0, 0], [0], [1, 2]),  # never seen in training
        ([29, 21], [0], [1]),  # 0.58 * 50 is 28.999999999999996
        ([3], [0], []),
    ],
)
def test_head_and_tail(counts, head, tail):
    assert metrics.head_classes(counts).tolist() == head
    assert metrics.tail_classes(counts).tolist() == tail


@any_of
@hypothesis.given(st.lists(st.integers(0, 1000), min_size=2, max_size=60).filter(any))
def test_head_and_tail_hold_what_they_say(counts):
    counts = np.array(counts)
    head, tail = metrics.head_classes(counts), metrics.tail_classes(counts)
    assert not set(head) & set(tail) and len(head) and len(tail)
    assert counts[head].min() >= counts[tail].max()
    if len(tail) > 1:
        assert counts[tail].sum() <= 0.2 * counts.sum() * (1 + 1e-9)
    if len(head) < len(counts) - 1:
        assert counts[head].sum() >= 0.58 * counts.sum() * (1 - 1e-9)
    if len(head) > 1:  # Smallest such set.
        assert counts[head].sum() - counts[head].min() < 0.58 * counts.sum()


def test_evaluate_golden():
    got = metrics.evaluate(np.log(PROBS), LABELS, [60, 30, 10])
    # Head is class 0 (both right), tail is class 2 (photo 1, wrong), class 1 (photo 3, wrong) mid.
    assert {name: value for name, value in got.items() if isinstance(value, float | int)} == {
        "top1": 0.5,
        "top5": 1.0,
        "macro_f1": pytest.approx(1 / 3),
        "examples": 4,
        "ece": calibration.expected_calibration_error(np.log(PROBS), LABELS),
        "ece_equal_mass": calibration.expected_calibration_error(
            np.log(PROBS), LABELS, equal_mass=True
        ),
        "classwise_ece": calibration.classwise_calibration_error(np.log(PROBS), LABELS),
        "nll": metrics.negative_log_likelihood(np.log(PROBS), LABELS),
        "brier": metrics.brier_score_loss(np.log(PROBS), LABELS),
        "head_top1": 1.0,
        "mid_top1": 0.0,
        "tail_top1": 0.0,
        "worst_decile_recall": 0.0,
        "confidence": 0.95,
    }
    assert got["recall"] == [1.0, 0.0, 0.0]
    assert got["reliability"] == calibration.reliability_curve(np.log(PROBS), LABELS)
    # Wilson by hand: (2 + 1.92073) / (4 + 3.84146) -+ 1.959964 sqrt(1 + .960365) / 7.84146.
    assert got["intervals"]["top1"] == pytest.approx([0.5 - 0.349962, 0.5 + 0.349962], abs=1e-5)
    assert json.loads(json.dumps(got)) == got


def test_evaluate_without_a_photo_of_the_tail():
    got = metrics.evaluate(np.log(PROBS[[0, 2]]), LABELS[[0, 2]], [60, 30, 10])
    assert got["tail_top1"] is None and got["head_top1"] == 1.0
    assert "tail_top1" not in got["intervals"] and got["recall"] == [1.0, None, None]


def test_intervals_hold_their_measures():
    rng = np.random.default_rng(5)
    logits, labels = rng.normal(size=(300, 12)), rng.integers(0, 12, 300)
    logits[np.arange(300), labels] += 2
    got = metrics.evaluate(logits, labels, rng.integers(1, 90, 12))
    assert set(got["intervals"]) == {
        "top1",
        "top5",
        "head_top1",
        "mid_top1",
        "tail_top1",
        "macro_f1",
        "nll",
        "brier",
        "ece",
        "ece_equal_mass",
    }
    for name, (low, high) in got["intervals"].items():
        assert low < got[name] < high and high - low < 0.5, name
    wider = metrics.evaluate(logits, labels, [1] * 12, confidence=0.99)["intervals"]
    for name in ("top1", "macro_f1", "nll", "ece"):
        low, high = got["intervals"][name]
        assert wider[name][0] < low and wider[name][1] > high


def test_brier_score():
    # Photo 0: .3^2 + .2^2 + .1^2 = .14; 1: .1^2 + .6^2 + .7^2 = .86; 2: .38; 3: .04 + .64 + .36.
    assert metrics.brier_score_loss(np.log(PROBS), LABELS) == pytest.approx(
        (0.14 + 0.86 + 0.38 + 1.04) / 4
    )
    assert metrics.brier_score_loss(np.log(PROBS), LABELS) == pytest.approx(
        sklearn.metrics.brier_score_loss(LABELS, PROBS, scale_by_half=False), abs=1e-12
    )


def test_recall_matches_sklearn():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 24, 300)
    predictions = np.where(rng.random(300) < 0.7, labels, rng.integers(0, 25, 300))
    got = metrics.per_class_recall(predictions, labels, 25)
    want = sklearn.metrics.recall_score(labels, predictions, labels=range(24), average=None)
    np.testing.assert_allclose(got[:24], want, atol=1e-12)
    assert np.isnan(got[24])
    # 24 classes are present, 3 of them are a tenth, rounded up.
    assert metrics.worst_decile_recall(predictions, labels, 25) == pytest.approx(
        np.sort(want)[:3].mean(), abs=1e-12
    )


def test_mid_classes_are_the_rest():
    assert metrics.mid_classes([50, 30, 10, 6, 4]).tolist() == []
    assert metrics.mid_classes([10] * 10).tolist() == [6, 7]


def test_teacher_agreement():
    uniform = np.zeros((4, 3))
    got = metrics.teacher_agreement(np.log(PROBS), uniform)
    # Photos 0 and 2 are class 0 for both; KL(p || uniform) = log 3 - entropy(p).
    entropy = -(PROBS * np.log(PROBS)).sum(1).mean()
    assert got == {"top1_agreement": 0.5, "kl": pytest.approx(np.log(3) - entropy, abs=1e-12)}
    same = metrics.teacher_agreement(uniform + 7, uniform)
    assert same == {"top1_agreement": 1.0, "kl": pytest.approx(0)}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.top_k_accuracy([[1.0, 2.0]], [0], 3), "k must be 1 to 2"),
        (lambda: metrics.top_k_accuracy([[1.0, 2.0]], [2], 1), "0..1, got 2 to 2"),
        (lambda: metrics.top_k_accuracy([[1.0, 2.0]], [0.0], 1), "integer type, got float64"),
        (lambda: metrics.top_k_accuracy([[1.0, 2.0]], [0, 1], 1), r"\(1, 2\) and \(2,\)"),
        (lambda: metrics.negative_log_likelihood([[1.0, np.nan]], [0]), "1 of 1 examples"),
        (lambda: metrics.macro_f1_score([3], [0], 3), "predictions must be in 0..2"),
        (lambda: metrics.head_classes([0, 0]), "at least one photo"),
        (lambda: metrics.head_classes([1, 2], fraction=0), "fraction must be"),
        (lambda: metrics.teacher_agreement([[1.0, 2.0]], [[1.0]]), r"\(1, 2\).*\(1, 1\)"),
        (lambda: metrics.teacher_agreement([[1.0, np.inf]], [[1.0, 0.0]]), "not finite"),
        (lambda: metrics.per_class_recall([3], [0], 3), "predictions must be in 0..2"),
        (lambda: metrics.evaluate([[1.0, 2.0]], [0], [1, 2, 3]), r"shape \(3,\).*2 classes"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
