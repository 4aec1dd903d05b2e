"""Class weights as a list and as Keras has them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtf.data import class_weights

WEIGHTS = st.floats(0, 1e6, allow_subnormal=False)


@given(st.dictionaries(st.integers(0, 6), WEIGHTS))
def test_a_dict_is_what_keras_makes_of_it(weights):
    """In `fit(class_weight=)` of Keras 3 a class that is left out weighs 1."""
    want = [weights.get(number, 1.0) for number in range(7)]
    if not any(np.float32(want)):
        with pytest.raises(ValueError, match="all 0"):
            class_weights.as_vector(weights, 7)
        return
    got = class_weights.as_vector(weights, 7)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.float32(want))
    np.testing.assert_array_equal(class_weights.as_vector(want, 7), got)


def test_numbers_of_numpy_are_numbers():
    got = class_weights.as_vector({np.int64(1): np.float32(0.5)}, 3)
    np.testing.assert_array_equal(got, [1, 0.5, 1])
    np.testing.assert_array_equal(class_weights.as_vector(np.array([1, 0, 2]), 3), [1, 0, 2])
    np.testing.assert_array_equal(class_weights.as_vector(None, 2), [1, 1])


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -0.5, -float("inf"), "2", None, [1.0], True, 1e39]
)
@pytest.mark.parametrize("kind", [lambda value: {1: value}, lambda value: [1.0, value, 1.0]])
def test_what_is_no_weight_is_refused_by_its_class(kind, value):
    with pytest.raises(ValueError, match="gives class 1 the weight"):
        class_weights.as_vector(kind(value), 3)


@pytest.mark.parametrize("key", [3, -1, "0", "apple", 1.0, None, True])
def test_keys_that_are_no_class_are_refused(key):
    with pytest.raises(ValueError, match=f"the key {key!r}, expected class numbers from 0 to 2"):
        class_weights.as_vector({key: 2.0}, 3)


@pytest.mark.parametrize("weights", [[1.0], [1.0] * 4, []])
def test_another_number_of_weights_is_refused(weights):
    with pytest.raises(ValueError, match=f"has {len(weights)} entries, .* 3 classes"):
        class_weights.as_vector(weights, 3)
