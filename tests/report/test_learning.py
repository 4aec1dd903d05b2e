"""The learning curves."""

from report_example import Page, example, written


def test_histories_with_gaps_and_single_epochs(tmp_path):
    results = example()
    results["history"] = {
        "baseline": {"val_accuracy": [0.5]},
        "distilled": {"label_loss": [None, 1.0]},
    }
    html, _ = written(tmp_path, results)
    alts = " ".join(Page(html).alts)
    assert "Validation accuracy by epoch: Baseline ends at 50.0 %." in alts
    assert "Label loss by epoch: Distilled ends at 1.000." in alts
    # A distilled student's whole loss holds the teacher's part: no stand-in for the label loss.
    results["history"] = {"distilled": {"loss": [2.0, 1.0]}}
    html, _ = written(tmp_path, results)
    assert "Label loss" not in " ".join(Page(html).alts)
