"""One job over several seeds: differences seed by seed, and their verdict."""

import numpy as np
import pytest

from kdtf.pipeline import sweep


def results_with(top1):
    rows = {}
    for name, value in top1.items():
        figures = {figure: 0.5 for figure in sweep.FIGURES}
        rows[name] = figures | {"top1": value, "tail_top1": None}
    return {"models": rows}


def test_sweep_takes_differences_seed_by_seed():
    """Goldens: gains 1, 2 and 3 points; t(0.975, 2) = 4.302653, sd 1, half width 2.4841."""
    runs = [
        results_with({"teacher": 0.9, "baseline": b, "distilled": d, "distilled_int8": d - 0.01})
        for b, d in ((0.80, 0.81), (0.70, 0.72), (0.60, 0.63))
    ]
    summary = sweep.summarise(runs)
    assert list(summary["differences"]) == ["distilled - baseline", "distilled_int8 - distilled"]
    gain = summary["differences"]["distilled - baseline"]
    top1 = gain["figures"]["top1"]
    np.testing.assert_allclose(top1["mean"], 0.02)
    np.testing.assert_allclose(top1["interval"], [0.02 - 0.024841, 0.02 + 0.024841], atol=1e-6)
    assert gain["verdict"] == "no difference shown"
    assert (summary["seeds"], gain["needed_seeds"]) == (3, 5)
    table = sweep.table(summary)
    assert "told in 80% of the sweeps with 5 seeds" in table
    assert "tail_top1" not in summary["models"]["baseline"]
    assert "| distilled - baseline | 2.00 ± 2.48 |" in table
    assert "| distilled_int8 - distilled | -1.00 |" in table.replace(" ± 0.00", "")
    assert "- distilled_int8 - distilled: -1.00, -1.00, -1.00. **hurts**" in table


@pytest.mark.parametrize(("shift", "verdict"), [(0.05, "helps"), (-0.05, "hurts")])
def test_sweep_verdict(shift, verdict):
    runs = [
        results_with({"baseline": b, "distilled": b + shift + e})
        for b, e in ((0.8, 0.001), (0.7, 0.0), (0.6, -0.001))
    ]
    assert sweep.summarise(runs)["differences"]["distilled - baseline"]["verdict"] == verdict
