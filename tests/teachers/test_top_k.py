"""Logits in few bytes: goldens by hand, bounds that hold, what float16 can."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kdtf.teachers import top_k

ROWS = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 3), st.integers(3, 40)),
    elements=st.floats(-30, 30, width=32),
)


def real_shaped(rows=200, classes=1000, seed=0):
    """Logits like a trained classifier's: a few high, a long tail of noise."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, classes))
    logits[:, :20] += rng.exponential(4, (rows, 20))
    return np.take_along_axis(logits, rng.random(logits.shape).argsort(-1), -1)


def test_golden_of_six_classes_two_kept():
    """Probabilities 8, 4, 1, 1, 1, 1 sixteenths: the rest sums up to half of the largest."""
    logits = np.log([[1, 8, 1, 4, 1, 1]]) + 5
    encoded = top_k.encode(logits, 2)
    np.testing.assert_allclose(encoded.largest, [np.log(8) + 5], rtol=5e-4)
    np.testing.assert_array_equal(encoded.classes, [[1, 3]])
    assert encoded.classes.dtype == np.uint8
    np.testing.assert_allclose(encoded.logits, [[0, -np.log(2)]], rtol=5e-4)
    np.testing.assert_allclose(encoded.rest, [-np.log(2)], rtol=5e-4)
    probs = scipy.special.softmax(top_k.decode(encoded, 6), -1)
    np.testing.assert_allclose(probs * 16, [[1, 8, 1, 4, 1, 1]], rtol=1e-3)


def test_golden_of_an_uneven_rest_at_another_temperature():
    """Kept 9; rest 4 and 0, decoded as 2 and 2. T = 2 takes roots: tail 2/5, decoded 0.4853."""
    logits = np.log([[9.0, 4.0, 1e-30]])
    encoded = top_k.encode(logits, 1)
    decoded, other = top_k.tail_bounds(encoded, 3, 2.0)
    np.testing.assert_allclose(decoded, [np.sqrt(8) / (3 + np.sqrt(8))], rtol=1e-3)
    np.testing.assert_allclose(other, [2 / 5], rtol=1e-3)  # all of the rest on one class
    of_kept, of_all = top_k.tempered_error(logits, 1, 2.0)
    np.testing.assert_allclose(of_kept, decoded - 2 / 5, rtol=3e-3)
    # classes: 3/5, 2/5, 0 against 0.5147, 0.2426, 0.2426
    np.testing.assert_allclose(of_all, [np.sqrt(2) / (3 + np.sqrt(8))], rtol=3e-3)


def test_ties_go_to_the_lower_class():
    np.testing.assert_array_equal(top_k.encode(np.zeros((1, 5)), 3).classes, [[0, 1, 2]])


@pytest.mark.parametrize(("classes", "dtype"), [(2, "uint8"), (256, "uint8"), (257, "uint16")])
def test_class_numbers_take_the_fewest_bytes(classes, dtype):
    assert top_k.class_dtype(classes) == np.dtype(dtype)
    encoded = top_k.encode(np.arange(float(classes))[np.newaxis], 1)
    assert encoded.classes.dtype == dtype and encoded.classes[0, 0] == classes - 1


@pytest.mark.parametrize(
    ("classes", "wanted", "kept"),
    [
        (10, 64, 10),
        (81, 64, 81),
        (81, 53, 53),
        (81, 54, 81),  # 3 x 53 + 2 = 161 < 162 bytes
        (1000, 499, 499),
        (1000, 500, 1000),  # 4 x 499 + 2 = 1998 < 2000
    ],
)
def test_all_are_kept_where_that_takes_no_more_bytes(classes, wanted, kept):
    assert top_k.kept(classes, wanted) == kept


def test_ruled_out_classes_stay_so():
    logits = np.array([[1.0, -np.inf, 3.0, -np.inf]])
    for k in (4, 2):
        decoded = top_k.decode(top_k.encode(logits, k), 4)
        np.testing.assert_array_equal(np.isinf(decoded), np.isinf(logits))


@pytest.mark.parametrize(
    ("logits", "k", "message"),
    [
        ([[np.nan, 1.0]], 1, "is nan"),
        ([[np.inf, 1.0]], 1, "is inf"),
        ([[-np.inf, -np.inf]], 1, "is -inf"),
        ([[1e6, 1.0]], 1, "1000000.0: logits must be numbers within float16's range"),
        ([[0.0, 1.0]], 3, "k must be from 1 to 2"),
    ],
)
def test_what_cannot_be_stored_is_refused(logits, k, message):
    with pytest.raises(ValueError, match=message):
        top_k.encode(np.array(logits), k)
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        top_k.kept(10, 0)
    with pytest.raises(ValueError, match="2 to 65,536 classes can be stored, got 70,000"):
        top_k.class_dtype(70_000)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.data())
def test_kept_logits_and_the_tail_come_back(logits, data):
    classes = logits.shape[-1]
    k = data.draw(st.integers(1, classes))
    encoded = top_k.encode(logits, k)
    decoded = top_k.decode(encoded, classes).numpy()
    top = logits.max(-1, keepdims=True)
    allowed = 2.0**-11 * (np.abs(top) + np.abs(logits - top)) * 1.001 + 1e-6
    if k == classes:
        np.testing.assert_array_less(np.abs(decoded - logits), allowed)
        return
    rows = np.arange(len(logits))[:, np.newaxis]
    kept = encoded.classes.astype(int)
    assert np.all(np.abs(decoded - logits)[rows, kept] <= allowed[rows, kept])
    mask = np.ones(logits.shape, bool)
    mask[rows, kept] = False
    left_out = np.where(mask, logits, -np.inf).max(-1)
    assert np.all(logits[rows, kept].min(-1) >= left_out - 1e-12)  # differences are compared
    rest = [scipy.special.logsumexp(np.where(mask, z, -np.inf), -1) for z in (logits, decoded)]
    tolerance = 2.0**-11 * (np.abs(top[:, 0]) + np.abs(rest[0] - top[:, 0])) * 1.001 + 1e-5
    assert np.all(np.abs(rest[0] - rest[1]) <= tolerance)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.data(), st.floats(0.25, 16))
def test_the_tail_lies_within_its_bounds(logits, data, temperature):
    k = data.draw(st.integers(1, logits.shape[-1] - 1))
    encoded = top_k.encode(logits, k)
    ends = np.sort(top_k.tail_bounds(encoded, logits.shape[-1], temperature), axis=0)
    probs = scipy.special.softmax(logits / temperature, -1)
    tail = 1 - np.take_along_axis(probs, encoded.classes.astype(int), -1).sum(-1)
    slack = 0.06 / temperature  # float16: 2**-11 of differences of up to 60
    assert np.all(ends[0] - slack <= tail) and np.all(tail <= ends[1] + slack)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_the_error_is_within_its_bound_and_falls_with_k(temperature):
    logits = real_shaped()
    errors = []
    for k in (4, 16, 64, 256, 1000):
        of_kept, of_all = top_k.tempered_error(logits, k, temperature)
        errors.append(of_all.mean())
        if k < 1000:
            low, high = np.sort(top_k.tail_bounds(top_k.encode(logits, k), 1000, temperature), 0)
            assert np.all(of_kept <= high - low + 2e-3)
            assert np.all(of_kept <= of_all + 1e-12)
    assert np.all(np.diff(errors) < 0) and errors[-1] < 5e-4
    if temperature == 1.0:
        assert top_k.tempered_error(logits, 16, 1.0)[0].max() < 2e-3
