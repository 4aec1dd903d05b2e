import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from kdtf.metrics import intervals, selective_prediction

CONFIDENCE = np.array([0.9, 0.6, 0.8, 0.6, 0.95])
CORRECT = np.array([True, True, False, False, True])


def test_risk_coverage_golden():
    got = selective_prediction.risk_coverage_curve(CONFIDENCE, CORRECT)
    assert got["threshold"].tolist() == [0.95, 0.9, 0.8, 0.6]
    assert got["coverage"].tolist() == pytest.approx([0.2, 0.4, 0.6, 1.0])
    assert got["risk"].tolist() == pytest.approx([0, 0, 1 / 3, 2 / 5])


def test_aurc_golden():
    # Risks of the first k: 0, 0, 1/3, then 1.5/4 (one of two equals is wrong, half each), 2/5.
    assert selective_prediction.area_under_risk_coverage(CONFIDENCE, CORRECT) == pytest.approx(
        (0 + 0 + 1 / 3 + 1.5 / 4 + 2 / 5) / 5, abs=1e-12
    )
    assert selective_prediction.area_under_risk_coverage(np.full(5, 0.5), CORRECT) == pytest.approx(
        0.4
    )


def test_aurc_matches_a_loop():
    rng = np.random.default_rng(0)
    confidence = rng.random(300)
    correct = rng.random(300) < confidence
    wrong = ~correct[np.argsort(-confidence)]
    want = np.mean([wrong[: k + 1].mean() for k in range(300)])
    got = selective_prediction.area_under_risk_coverage(confidence, correct)
    assert got == pytest.approx(want, abs=1e-12)
    assert got < selective_prediction.area_under_risk_coverage(rng.random(300), correct)


def test_threshold_and_what_it_answers():
    assert selective_prediction.confidence_threshold(CONFIDENCE, CORRECT, 1.0) == 0.9
    assert selective_prediction.confidence_threshold(CONFIDENCE, CORRECT, 2 / 3) == 0.8
    assert selective_prediction.confidence_threshold(CONFIDENCE, CORRECT, 0.6) == 0.6
    assert selective_prediction.confidence_threshold(CONFIDENCE, ~CORRECT, 0.9) is None
    assert selective_prediction.answered(CONFIDENCE, CORRECT, 0.8) == {
        "coverage": 0.6,
        "accuracy": pytest.approx(2 / 3),
        "examples": 3,
        "interval": intervals.proportion_interval(2, 3),
    }
    assert selective_prediction.answered(CONFIDENCE, CORRECT, 0.99) == {
        "coverage": 0.0,
        "accuracy": None,
        "examples": 0,
        "interval": None,
    }


@hypothesis.settings(deadline=None, max_examples=60, derandomize=True)
@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=40),
    st.floats(0.05, 1.0),
)
def test_threshold_keeps_its_promise_on_its_own_photos(pairs, accuracy):
    confidence = np.array([pair[0] / 9 for pair in pairs])
    correct = np.array([pair[1] for pair in pairs])
    threshold = selective_prediction.confidence_threshold(confidence, correct, accuracy)
    reached = [
        cut for cut in np.unique(confidence) if correct[confidence >= cut].mean() >= accuracy
    ]
    assert threshold == (min(reached) if reached else None)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: selective_prediction.risk_coverage_curve([0.5], [1]), "must be bool"),
        (
            lambda: selective_prediction.risk_coverage_curve([0.5], np.ones(2, bool)),
            r"\(1,\) and \(2,\)",
        ),
        (lambda: selective_prediction.answered([np.nan], np.ones(1, bool), 0.5), "must be finite"),
        (
            lambda: selective_prediction.confidence_threshold([0.5], np.ones(1, bool), 90),
            "accuracy must be in",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
