"""Ranges of 8-bit activations: the grid, and how calibration chooses it."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kdtf.quantize import observer as observer_module


def test_fake_quantize_by_hand():
    # 2 bits from -1 to 1: steps of 2/3, and 0 at level 2 of 0..3, so the grid is -4/3 to 2/3.
    got = observer_module.fake_quantize(
        np.array([-9.0, -1.0, -0.4, 0.0, 0.3, 0.4, 9.0]), -1.0, 1.0, bits=2
    )
    np.testing.assert_allclose(got, np.array([-4, -4, -2, 0, 0, 2, 2]) / 3, atol=1e-12)


def test_squared_error_by_hand():
    # Steps of 1 from 0: errors 0.25, 0 and 5 (saturated).
    assert observer_module.squared_error(np.array([2.25, 7.0, 260.0]), 0.0, 255.0) == pytest.approx(
        (0.0625 + 25) / 3
    )


@settings(max_examples=30, deadline=None)
@given(low=st.floats(-50, -0.01), high=st.floats(0.01, 50), seed=st.integers(0, 1000))
def test_fake_quantize_is_tensorflows(low, high, seed):
    scale = (high - low) / 255
    values = np.random.default_rng(seed).uniform(1.5 * low, 1.5 * high, 200).astype("float32")
    # Ties are rounded up there and to even here.
    assume(abs(-low / scale % 1 - 0.5) > 1e-3)
    values = values[abs(values / scale % 1 - 0.5) > 1e-2]
    want = tf.quantization.fake_quant_with_min_max_args(values, low, high)
    np.testing.assert_allclose(
        observer_module.fake_quantize(values, low, high), want, atol=2e-5 * (high - low)
    )


def observed(*batches, **limits):
    observer = observer_module.RangeObserver()
    for batch in batches:
        observer.update(np.asarray(batch, "float32"))
    return observer.range(**limits)


def test_an_outlier_is_given_up():
    values = np.append(np.random.default_rng(0).normal(size=1_000_000), 20.0)
    low, high = observed(values)
    assert high < 10 and low < -3
    full = observer_module.squared_error(values, values.min(), values.max())
    assert observer_module.squared_error(values, low, high) < 0.6 * full


def test_an_extreme_that_is_worth_its_levels_is_kept():
    values = np.append(np.random.default_rng(0).normal(size=1000), [20.0] * 5)
    assert observed(values)[1] > 19


def test_an_even_spread_is_kept_whole():
    low, high = observed(np.linspace(-2, 3, 4001))
    assert (low, high) == pytest.approx((-2, 3), rel=0.03)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30))
def test_range_contains_zero_spans_enough_and_beats_the_full_range(values):
    low, high = observed(values)
    assert low <= 0 <= high and high - low >= observer_module.SMALLEST_SPAN * (1 - 1e-6)
    whole = min(*values, 0.0), max(*values, 0.0)
    assume(whole[1] - whole[0] > 4 * observer_module.SMALLEST_SPAN)
    values = np.float32(values)
    assert (
        observer_module.squared_error(values, low, high)
        <= observer_module.squared_error(values, *whole) + 1e-9
    )


def test_batches_count_alike_and_extremes_of_all_are_seen():
    batches = [np.linspace(0, 1, 500), np.linspace(-4, 0, 500), np.linspace(0, 5, 500)]
    want = observed(np.concatenate(batches))
    assert observed(*batches) == want and want == pytest.approx((-4, 5), rel=0.05)
    assert observed(*batches[::-1]) == pytest.approx(want, rel=1e-6)


def test_a_large_batch_is_sampled_everywhere():
    values = np.zeros(100_000)
    values[-10_000:] = 1.0
    assert observed(values)[1] == pytest.approx(1.0, rel=1e-6)


def test_limits_are_respected():
    values = np.linspace(-10, 10, 2001)
    low, high = observed(values, low_limit=-3.0, high_limit=6.0)
    assert -3 <= low <= -2.5 and 5 <= high <= 6
    assert observed(values, low_limit=0.0)[0] == 0.0


@pytest.mark.parametrize("values", [[0.0, 0.0], [0.01, 0.02], [-0.02, 0.0]])
def test_a_dead_layer_gets_the_smallest_span(values):
    low, high = observed(values)
    assert high - low == pytest.approx(observer_module.SMALLEST_SPAN) and low == min(0.0, low)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_values_that_are_not_finite(bad):
    with pytest.raises(ValueError, match="not finite"):
        observer_module.RangeObserver().update(np.float32([1.0, bad]))


def test_refuses_to_guess_from_nothing():
    with pytest.raises(ValueError, match="no calibration batch"):
        observer_module.RangeObserver().range()
