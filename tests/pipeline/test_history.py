"""Curves as JSON holds them."""

import json
import math

from kdtf import files
from kdtf.pipeline import history


def test_what_is_not_finite_is_null(tmp_path):
    curves = {"loss": [1.5, math.nan, math.inf], "accuracy": [0.25, 0.5, 0.0]}
    files.write_json(tmp_path / "curves.json", history.to_json(curves))
    assert json.loads((tmp_path / "curves.json").read_text()) == {
        "loss": [1.5, None, None],
        "accuracy": [0.25, 0.5, 0.0],
    }
    assert history.finite_or_none(-math.inf) is None and history.finite_or_none(2.0) == 2.0
