"""A small results.json, the report of one, and what stands on its page."""

import json
from html.parser import HTMLParser

from kdtf import report
from kdtf.release import check_gates
from kdtf.results import DISTILLED, Results


def measured(top1, **more):
    return {
        "top1": top1,
        "top5": 0.97,
        "macro_f1": 0.8,
        "head_top1": 0.9,
        "tail_top1": 0.7,
        "ece": 0.05,
        "nll": 0.654321,
        "examples": 2485,
        "parameters": 1529968,
        "size_bytes": 4_087_136,
        "latency_ms": {"p50": 0.84, "p95": 0.95},
        "benchmark": {"device": "Test CPU", "threads": 1, "load_average": 0.4},
        "parity": {"max_abs_error": 1.2e-5, "argmax_agreement": 1.0, "examples": 256},
        **more,
    }


def gates(models):
    """Gates of the float student, as results.json holds them."""
    run = Results.from_json({"models": models})
    return [gate.to_json() for gate in check_gates(run.models, DISTILLED)]


def example():
    models = {
        "distilled": measured(0.841),
        "baseline": measured(0.816),
        "teacher": measured(0.889, size_bytes=None, latency_ms=None, benchmark=None, parity=None),
    }
    return {
        "models": models,
        "gates": gates(models),
        "verdict": {
            "verdict": "helps",
            "difference": 0.025,
            "interval": [0.013, 0.037],
            "p_value": 0.00004,
            "test_examples": 2485,
            "seeds": 1,
        },
        "history": {
            "baseline": {"loss": [2.0, 1.0], "val_accuracy": [0.5, 0.801]},
            "distilled": {
                "loss": [9.0, 5.0],
                "label_loss": [2.1, 0.9],
                "val_accuracy": [0.55, 0.823],
            },
        },
        "stages": [{"name": "train", "seconds": 421}, {"name": "read", "seconds": 3.21}],
        "environment": {"tensorflow": "2.21.0"},
    }


def written(folder, results, config=None):
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "config.json").write_text(json.dumps(config or {"epochs": 10, "opt": {"lr": 0.001}}))
    path = report.write(folder)
    return path.read_text(), (folder / "report.md").read_text()


class Page(HTMLParser):
    """Collects tags, images, what drawings are said to show, and the rows of the tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.images, self.alts, self.rows, self.in_cell = [], [], [], [], False
        self.ids, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        if tag == "img":
            self.images.append(attributes)
        if tag == "svg":
            assert attributes["role"] == "img"
            self.alts.append(attributes["aria-label"])
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if attributes.get("href") else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data):
        if self.in_cell:
            self.rows[-1][-1] += data.strip()
