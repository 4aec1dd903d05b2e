"""What the exported files answer: stored so that it can be measured again."""

import json

import numpy as np
import pytest

from kdtf import data
from kdtf.pipeline import evaluation
from kdtf.pipeline.run_directory import RunDirectory
from kdtf.results import MODELS


def test_what_was_measured_can_be_measured_again(run, shards):
    """The stored logits and labels are those of the figures, in the order of the photos."""
    truths = {split: evaluation.read_truth(shards, split) for split in evaluation.SPLITS}
    assert set(truths["test"].columns) == set(shards.metadata) != set()
    run = RunDirectory(run)
    for model in MODELS:
        measured = json.loads(run.measures(model).read_text())
        with np.load(run.logits(model)) as stored:
            logits = {split: stored[f"{split}_logits"] for split in evaluation.SPLITS}
            for split, truth in truths.items():
                np.testing.assert_array_equal(stored[f"{split}_labels"], truth.labels)
                assert logits[split].dtype == np.float32
        again = evaluation.summarise(logits, truths, shards.split("train").class_counts)
        assert again["metrics"]["ece"] == pytest.approx(measured["metrics"]["ece"], abs=1e-9)
        assert again["predictions"] == measured["predictions"]
        assert np.mean(measured["correct"]) == measured["metrics"]["top1"]
        assert measured["ids"] == [each.id for each in data.read_examples(shards, "test")]
