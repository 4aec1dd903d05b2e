import numpy as np
import pytest

from kdtf import intervals


def test_mean_interval_golden():
    # Standard deviation 1, t(2; 0.975) = 4.302653, over sqrt(3).
    got = intervals.mean_interval([1.0, 2.0, 3.0])
    assert got["mean"] == 2.0 and got["count"] == 3
    assert got["interval"] == pytest.approx([2 - 2.484138, 2 + 2.484138], abs=1e-5)
    assert intervals.mean_interval([0.5, 0.5])["interval"] == [0.5, 0.5]


@pytest.mark.parametrize("call, message", [
    (lambda: intervals.mean_interval([1.0]), "at least two values"),
    (lambda: intervals.mean_interval([1.0, np.inf]), "finite"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
