import numpy as np
import pytest

from kdtf.metrics import intervals


def test_mean_interval_golden():
    # Standard deviation 1, t(2; 0.975) = 4.302653, over sqrt(3).
    got = intervals.mean_interval([1.0, 2.0, 3.0])
    assert got["mean"] == 2.0 and got["count"] == 3
    assert got["interval"] == pytest.approx([2 - 2.484138, 2 + 2.484138], abs=1e-5)
    assert intervals.mean_interval([0.5, 0.5])["interval"] == [0.5, 0.5]


def test_share_interval_golden():
    # Wilson: centre (9 + 1.920729) / 13.841459, half width 1.959964 sqrt(.9 + .960365) / 13.841459
    # (n p (1 - p) = .9, z^2 / 4 = .960365).
    assert intervals.proportion_interval(9, 10) == pytest.approx(
        [0.788987 - 0.193137, 0.788987 + 0.193137], abs=2e-6
    )
    assert intervals.proportion_interval(10, 10)[0] == pytest.approx(10 / 13.841459)
    assert intervals.proportion_interval(0, 0) is None


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: intervals.proportion_interval(3, 2), "hits must be 0 to 2"),
        (lambda: intervals.proportion_interval(1, 2, 95), "confidence must be between 0 and 1"),
        (lambda: intervals.mean_interval([1.0]), "at least two values"),
        (lambda: intervals.mean_interval([1.0, np.inf]), "finite"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
