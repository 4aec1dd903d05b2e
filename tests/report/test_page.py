import base64
import hashlib
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from kdtf import report


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


def example():
    models = {
        "distilled": measured(0.841),
        "baseline": measured(0.816),
        "teacher": measured(0.889, size_bytes=None, latency_ms=None, benchmark=None, parity=None),
    }
    return {
        "models": models,
        "gates": report.gates(models),
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def reports(folder):
    return written(folder, example())


def test_verdict_stands_in_plain_words_on_top(reports):
    for text in reports:
        assert (
            "On the same 2,485 test photos the distilled student gets 84.1 % right, the baseline "
            "student 81.6 %: a difference of +2.5 percentage points (95 % interval +1.3 to +3.7, "
            "exact McNemar p "
        ) in text
        assert "Distillation helped" in text
        assert "1 seed" in text and "not how much results vary from seed to seed" in text
        assert text.index("Distillation helped") < text.index("Release gates")
        assert text.index("2 of 4 release gates failed: Top-1 accuracy; Share of") < text.index(
            "Release gates"
        )


@pytest.mark.parametrize(
    "verdict, headline, meaning",
    [
        ("hurts", "Distillation made the student worse", "recognises fewer products"),
        ("no difference shown", "No difference shown", "cannot tell the two apart"),
    ],
)
def test_other_verdicts(tmp_path, verdict, headline, meaning):
    results = example()
    results["verdict"] |= {"verdict": verdict, "difference": -0.004, "p_value": 0.4217}
    for text in written(tmp_path, results):
        assert headline in text and meaning in text
        assert "−0.4 percentage points" in text and "p = 0.422" in text


def test_students_that_learned_from_different_photos_are_said_to_have(tmp_path):
    results = example()
    for labels in (264, 2640):
        results["environment"] = {"training_photos": 2640, "training_labels": labels}
        for text in written(tmp_path, results):
            told = "Of 2,640 training photos 264 have a label" in text
            assert told == (labels == 264) == ("the baseline not at all" in text)


def test_tables_hold_every_number(reports):
    html, markdown = reports
    rows = Page(html).rows
    assert ["Model", "Top-1higher is better", "Top-5higher is better"] in [row[:3] for row in rows]
    for row in (
        ["Teacher", "88.9 %", "97.0 %", "80.0 %", "90.0 %", "70.0 %"],
        ["Distilled", "84.1 %"],
        ["Baseline", "5.0 %", "not measured", "0.654"],
        ["Teacher", "not measured", "1,529,968", "not measured"],
        ["Baseline", "4.09 MB", "1,529,968", "0.84 ms", "0.95 ms", "1", "0.40", "100.0 %"],
    ):
        assert row in [found[: len(row)] for found in rows], row
    for row in (
        ["p95 latency on Test CPU, 1 thread", "< 25.00 ms", "0.95 ms", "✓ pass"],
        ["Top-1 accuracy", "≥ 92.00 %", "84.10 %", "✗ fail"],
        ["train", "7 min 1 s"],
        ["read", "3.2 s"],
        ["epochs", "10"],
        ["opt.lr", "0.001"],
        ["tensorflow", "2.21.0"],
    ):
        assert row in rows, row
    assert "| Top-1 (higher is better) | 88.9 % | 81.6 % | 84.1 % |" in markdown
    assert "| Top-1 accuracy | ≥ 92.00 % | 84.10 % | **fail** |" in markdown
    assert "![" in markdown and "(report_curves.png)" in markdown


def test_markdown_tables_are_rectangular(tmp_path):
    results = example()
    results["environment"] = {"odd": "a | b\nc"}
    _, markdown = written(tmp_path, results)
    tables = [block for block in markdown.split("\n\n") if block.startswith("|")]
    assert len(tables) == 7
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_page_fetches_nothing_and_every_drawing_is_told(reports):
    html, _ = reports
    page = Page(html)
    assert not {"link", "iframe", "object"} & set(page.tags) and page.tags.count("script") == 1
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src "
        f"'sha256-{digest}'"
    ) in html
    assert "(prefers-color-scheme: dark)" in html and "@media print" in html
    assert 'name="viewport"' in html
    assert not re.search(r"https?:|url\((?!#)|src=\"(?!data:)", html)
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert len(page.alts) == 9 and all(len(alt) > 20 for alt in page.alts)
    for drawing in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert ElementTree.fromstring(drawing).tag == "svg"
    alts = " ".join(page.alts)
    assert "Baseline ends at 80.1 %, Distilled ends at 82.3 %" in alts
    # The baseline's loss is that on labels; the distilled student's whole loss (5.0) is not drawn.
    assert "Baseline ends at 1.000, Distilled ends at 0.900" in alts
    assert "File size, MB: Teacher not measured, Baseline 4.09 MB" in alts
    assert "float files +2.5 points, interval +1.3 to +3.7" in alts


def test_curves_picture_is_beside_the_markdown(folder, reports):
    assert (folder / "report_curves.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "report.html",
        "report.md",
        "report_curves.png",
        "results.json",
    ]


def test_same_results_same_report(folder, reports):
    assert written(folder, example()) == reports


def test_what_was_not_measured_says_so(tmp_path):
    models = {"distilled": {"top1": None}, "baseline": {}, "teacher": None}
    html, markdown = written(
        tmp_path,
        {"models": models, "gates": report.gates(models), "verdict": None, "history": None},
    )
    for text in (html, markdown):
        assert "no paired comparison" in text and "Not compared" in text
        assert "4 of 4 release gates failed" in text
        assert not re.search(r"None|\bnan\b|null", text)
    assert ["Teacher"] + ["not measured"] * 8 in Page(html).rows
    assert not Page(html).images and not Page(html).alts


def test_histories_with_gaps_and_single_epochs(tmp_path):
    results = example()
    results["history"] = {
        "baseline": {"val_accuracy": [0.5]},
        "distilled": {"label_loss": [None, 1.0]},
    }
    html, _ = written(tmp_path, results)
    alts = " ".join(Page(html).alts)
    assert "Validation accuracy by epoch: Baseline ends at 50.0 %." in alts
    assert "Loss on labels by epoch: Distilled ends at 1.000." in alts
    # A distilled student's whole loss holds the teacher's part: no stand-in for the loss on labels.
    results["history"] = {"distilled": {"loss": [2.0, 1.0]}}
    html, _ = written(tmp_path, results)
    assert "Loss on labels" not in " ".join(Page(html).alts)


def test_text_from_outside_is_escaped(tmp_path):
    results = example()
    results["environment"] = {"<script>alert(1)</script>": "<img src=x>"}
    html, _ = written(tmp_path, results, {"data": "</table><b>"})
    assert "<script>alert" not in html and "<img src=x>" not in html and "</table><b>" not in html


@pytest.mark.parametrize("name", ["results.json", "config.json"])
def test_missing_and_broken_files_are_named(tmp_path, name):
    for other in ("results.json", "config.json"):
        (tmp_path / other).write_text(json.dumps({"models": {"baseline": {}}}))
    (tmp_path / name).write_text("[1]")
    with pytest.raises(ValueError, match=f"{name} holds a list, expected a JSON object"):
        report.write(tmp_path)
    (tmp_path / name).write_text("{")
    with pytest.raises(ValueError, match=f"{name} is not JSON"):
        report.write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no {name} in"):
        report.write(tmp_path)


def test_results_without_models_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no \"models\", only \['stages'\]"):
        written(tmp_path, {"stages": []})


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    results = {"models": {"baseline": {}}}
    before = written(tmp_path, results)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write(tmp_path)
    assert ((tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()) == before
    assert len(list(tmp_path.iterdir())) == 5


def test_gates_golden():
    models = {"teacher": {"top1": 0.96}, "distilled": measured(0.93)}
    assert report.gates(models) == [
        {
            "name": "Top-1 accuracy",
            "rule": ">=",
            "limit": 0.92,
            "unit": "fraction",
            "value": 0.93,
            "passed": True,
        },
        {
            "name": "Share of the teacher's top-1",
            "rule": ">=",
            "limit": 0.95,
            "unit": "fraction",
            "value": 0.93 / 0.96,
            "passed": True,
        },
        {
            "name": "File size",
            "rule": "<",
            "limit": 20e6,
            "unit": "bytes",
            "value": 4_087_136,
            "passed": True,
        },
        {
            "name": "p95 latency on Test CPU, 1 thread",
            "rule": "<",
            "limit": 25.0,
            "unit": "ms",
            "value": 0.95,
            "passed": True,
        },
    ]


@pytest.mark.parametrize(
    "student, passed",
    [
        ({"top1": 0.92, "size_bytes": 19_999_999, "latency_ms": {"p95": 24.99}}, [True] * 4),
        (
            {"top1": 0.9199, "size_bytes": 20e6, "latency_ms": {"p95": 25.0}},
            [False, True, False, False],
        ),
        ({"top1": 0.87}, [False] * 4),
        ({"top1": float("nan"), "size_bytes": None, "latency_ms": {"p95": None}}, [False] * 4),
    ],
)
def test_gates_at_their_limits(student, passed):
    rows = report.gates({"teacher": {"top1": 0.92}, "distilled": student}, device="phone")
    assert [row["passed"] for row in rows] == passed
    assert all((row["value"] is None) == row["name"].endswith("(not measured)") for row in rows)
    assert rows[3]["name"].startswith("p95 latency on phone")


def test_gates_of_another_student_and_other_limits():
    models = {
        "teacher": {"top1": 0.9},
        "distilled": measured(0.8),
        "distilled_int8": measured(0.79, size_bytes=1),
    }
    rows = report.gates(
        models,
        student="distilled_int8",
        top1_limit=0.7,
        teacher_share_limit=0.9,
        size_limit_bytes=1,
        p95_limit_ms=0.5,
    )
    assert [row["value"] for row in rows] == [0.79, 0.79 / 0.9, 1, 0.95]
    assert [row["passed"] for row in rows] == [True, False, False, False]
    with pytest.raises(ValueError, match="no model 'student'.*'distilled'"):
        report.gates(models, student="student")


def test_a_near_miss_does_not_read_like_a_pass(tmp_path):
    results = example()
    results["gates"] = report.gates({"teacher": {"top1": 1.0}, "distilled": measured(0.9496)})
    html, _ = written(tmp_path, results)
    assert ["Share of the teacher's top-1", "≥ 95.00 %", "94.96 %", "✗ fail"] in Page(html).rows
