"""The sections of a report: for each question its words, tables and drawings."""

from typing import NamedTuple

from kdtf import formatting
from kdtf.report import charts, diagrams, photos
from kdtf.report.charts import dig

# The students that a report is about: the first pair that a run has.
_PAIRS = (("baseline_int8", "distilled_int8"), ("baseline", "distilled"))
_MOST_LAYERS = 8
_MORE = {"higher": "higher is better", "lower": "lower is better"}


class Cell(NamedTuple):
    """Text of a table's cell, the value it is sorted by (None: last), and small print."""

    text: str
    value: float | str | None = None
    more: str = ""


class Table(NamedTuple):
    """A table: caption, heads as (label, small print), rows of `Cell`s, the first one its name."""

    caption: str
    heads: list[tuple[str, str]]
    rows: list[list[Cell]]
    folded: bool = False


class Section(NamedTuple):
    """A part of the page; key is its anchor."""

    key: str
    heading: str
    words: list[str]
    drawings: list = []
    tables: list = []
    zoom: dict | None = None
    pairs: list = []
    galleries: list = []


def compared(models):
    """(baseline, distilled): names of the pair of students that a report is about."""
    return next((pair for pair in _PAIRS if pair[1] in models), _PAIRS[-1])


def build(results, mistakes, layers):
    """The sections that a run has figures for.

    Args:
      results: results.json, its models in the order of the report.
      mistakes: as `mistakes.choose` returns it, its photos with id and jpeg (base64), or None.
      layers: list of dict of a `layer_errors.LayerError`, snr_db None where exact, or None.

    Returns:
      list of `Section`.
    """
    models, verdict = results["models"], shipped_verdict(results)
    pair = {name: models[name] for name in ("teacher", *compared(models)) if models.get(name)}
    names = [each["name"] for each in results.get("classes") or []]
    built = [
        _models(models, results.get("gates") or []),
        _learning(results.get("history") or {}),
        _calibration(pair),
        _selective(pair),
        _frequency(pair, verdict, results.get("classes") or []),
        _slices(verdict),
        _rounding(models, layers),
        mistakes and _confusion(mistakes, names),
        mistakes and _disagreements(mistakes, names),
    ]
    return [section for section in built if section]


def shipped_verdict(results):
    """The verdict on the pair of students that a report is about."""
    return results.get("verdict_int8") or results.get("verdict") or {}


def measures(models):
    """{heading: Table} of all models, a row for each."""

    def column(label, more, form, *keys):
        intervals = [dig(model, "intervals", *keys) for model in models.values()]
        values = [dig(model, *keys) for model in models.values()]
        return (label, more), [
            Cell(
                form(value),
                value if formatting.known(value) else None,
                _interval(interval, form) if interval and formatting.known(value) else "",
            )
            for value, interval in zip(values, intervals, strict=True)
        ]

    up, down = _MORE["higher"], _MORE["lower"]
    groups = {
        "How often it is right": [
            column("Top-1", up, formatting.percent, "top1"),
            column("Top-5", up, formatting.percent, "top5"),
            column("Macro F1", "every class counts the same", formatting.percent, "macro_f1"),
            column("Head top-1", "most frequent classes", formatting.percent, "head_top1"),
            column("Tail top-1", "rarest classes", formatting.percent, "tail_top1"),
            column(
                "Worst tenth",
                "mean recall of the worst classes",
                formatting.percent,
                "worst_decile_recall",
            ),
            column(
                "Like the teacher",
                "same answer",
                formatting.percent,
                "teacher_agreement",
                "top1_agreement",
            ),
            column("Test photos", "", formatting.integer, "examples"),
        ],
        "How far its confidence can be trusted": [
            column("Calibration error", f"ECE, {down}", formatting.percent, "ece"),
            column("ECE, equal bins", down, formatting.percent, "ece_equal_mass"),
            column("Log loss", f"NLL in nats, {down}", formatting.decimal, "nll"),
            column("Brier score", down, formatting.decimal, "brier"),
            column(
                "Temperature",
                "fitted on validation photos",
                formatting.formatter("{:.2f}"),
                "temperature_scaling",
                "temperature",
            ),
            column("ECE with it", down, formatting.percent, "temperature_scaling", "ece_after"),
        ],
        "How small and quick it is": [
            column("File size", "", formatting.megabytes, "size_bytes"),
            column("Parameters", "", formatting.integer, "parameters"),
            column("Latency p50", "", formatting.milliseconds, "latency_ms", "p50"),
            column("Latency p95", "", formatting.milliseconds, "latency_ms", "p95"),
            column("Threads", "of the benchmark", formatting.integer, "benchmark", "threads"),
            column(
                "Load of the machine",
                "when measured",
                formatting.formatter("{:.2f}"),
                "benchmark",
                "load_average",
            ),
            column(
                "File against Keras", "same class", formatting.percent, "parity", "argmax_agreement"
            ),
            column(
                "File against Keras",
                "largest logit error",
                formatting.scientific,
                "parity",
                "max_abs_error",
            ),
        ],
    }
    tables = {}
    for caption, columns in groups.items():
        heads, cells = zip(*columns, strict=True)
        rows = [
            [Cell(formatting.title(name), formatting.title(name)), *row]
            for name, row in zip(models, zip(*cells, strict=True), strict=True)
        ]
        tables[caption] = Table(caption, [("Model", ""), *heads], rows)
    return tables


def _models(models, gates):
    return Section(
        "models",
        "Models",
        [
            "Every figure is of an exported file, on the same test photos. Small print: 95 % "
            "intervals, which cover the choice of test photos."
        ],
        charts.draw_tradeoffs(models, gates) + charts.draw_bars(models),
        list(measures(models).values()),
    )


def _learning(history):
    drawings = charts.draw_learning(history)
    words = [] if drawings else [f"Learning curves: {formatting.NOT_MEASURED}."]
    return Section("learning", "Learning curves", words, drawings)


def _calibration(pair):
    drawings = [
        diagrams.draw_reliability(name, model["reliability"], model.get("ece"))
        for name, model in pair.items()
        if model.get("reliability")
    ]
    if not drawings:
        return None
    return Section(
        "calibration",
        "Can its confidence be trusted?",
        [
            "When a model says 80 %, it should be right in 80 % of such cases: on the dotted line. "
            "Below it the model is too sure of itself. A temperature, fitted on validation photos, "
            "corrects that without changing any answer."
        ],
        drawings,
    )


def _selective(pair):
    measured = {name: model for name, model in pair.items() if model.get("selective")}
    if not measured:
        return None
    name = list(measured)[-1]
    rows = []
    for each in measured[name]["selective"]["thresholds"]:
        reached = each["threshold"] is not None
        rows.append(
            [
                Cell(formatting.share(each["target_accuracy"]), each["target_accuracy"]),
                Cell(
                    formatting.share(each["threshold"]) if reached else "none reaches it",
                    each["threshold"],
                ),
                Cell(
                    formatting.percent(each.get("coverage")) if reached else "none",
                    each.get("coverage"),
                ),
                Cell(
                    formatting.percent(each.get("accuracy")) if reached else "none",
                    each.get("accuracy"),
                    _interval(each.get("interval"), formatting.percent),
                ),
            ]
        )
    return Section(
        "ask",
        "When to ask a person",
        [
            "Below a threshold the answer is not given and a person looks. Thresholds were chosen "
            "on validation photos; what they give was measured on test photos."
        ],
        [diagrams.draw_selective(measured)],
        [
            Table(
                f"Thresholds of {formatting.title(name)}",
                [
                    ("To be right in", "aim"),
                    ("Answer from", "calibrated confidence"),
                    ("Answered", "of the test photos"),
                    ("Right among these", "measured"),
                ],
                rows,
            )
        ],
    )


def _frequency(pair, verdict, classes):
    students = [name for name in pair if name != "teacher"]
    drawings, tables, words = [], [], []
    if any(formatting.known(model.get("tail_top1")) for model in pair.values()):
        drawings.append(diagrams.draw_frequency(pair))
    difference = dig(verdict, "differences", "tail_top1")
    if difference:
        words.append(
            f"On the rarest classes distillation changed top-1 by "
            f"{formatting.points(difference['difference'])} points "
            f"({formatting.span(difference['interval'])})."
        )
    recalls = [pair[name].get("recall") for name in students]
    if classes and len(recalls) == 2 and all(recalls):
        drawings.append(diagrams.draw_class_gains(classes, *recalls))
        rows = []
        for each, before, after in zip(classes, *recalls, strict=True):
            gain = None if None in (before, after) else after - before
            rows.append(
                [
                    Cell(each["name"], each["name"]),
                    *(
                        Cell(f"{each[key]:,}", each[key])
                        for key in ("train_examples", "test_examples")
                    ),
                    *(Cell(formatting.percent(value), value) for value in (before, after)),
                    Cell(
                        formatting.NOT_MEASURED if gain is None else formatting.points(gain), gain
                    ),
                ]
            )
        rows.sort(key=lambda row: (row[4].value is None, row[4].value))
        tables.append(
            Table(
                f"Recall of all {len(rows)} classes",
                [
                    ("Class", ""),
                    ("Training photos", ""),
                    ("Test photos", ""),
                    *((formatting.title(name), "recall") for name in students),
                    ("Gain", "points"),
                ],
                rows,
                folded=True,
            )
        )
    return (
        Section("tail", "Frequent and rare classes", words, drawings, tables)
        if (drawings)
        else None
    )


def _slices(verdict):
    columns = verdict.get("slices") or {}
    if not columns:
        return None
    rows, worse = [], []
    for column, found in columns.items():
        for row in found:
            name = f"{column}: {row['value'] or 'missing'}"
            if row["verdict"] == "hurts" and not row["small"]:
                worse.append(name)
            rows.append(
                [
                    Cell(name, name),
                    Cell(
                        f"{row['examples']:,}",
                        row["examples"],
                        "few photos" if row["small"] else "",
                    ),
                    Cell(
                        formatting.points(row["difference"]),
                        row["difference"],
                        formatting.span(row["interval"]),
                    ),
                    Cell(row["verdict"], row["verdict"]),
                ]
            )
    words = [
        f"Distilled against baseline within each of {len(rows)} groups of test photos. By chance "
        "alone about one group in twenty seems to differ: a difference is a reason to look.",
        f"Worse in: {'; '.join(worse)}."
        if worse
        else "No group with enough photos got worse beyond chance.",
    ]
    return Section(
        "slices",
        "Shops, cameras, light: where does it change?",
        words,
        [diagrams.draw_slices(column, found) for column, found in columns.items()],
        [
            Table(
                "All groups",
                [("Group", ""), ("Test photos", ""), ("Gain", "points, interval"), ("Verdict", "")],
                rows,
                folded=True,
            )
        ],
    )


def _rounding(models, layers):
    if not layers:
        return None
    words = [
        "Eight-bit numbers are coarse. How far each layer of the shipped file is from the same "
        "layer of the float student, on a few validation photos."
    ]
    top1 = {name: dig(models.get(name), "top1") for name in ("distilled", "distilled_int8")}
    if all(formatting.known(value) for value in top1.values()):
        change = top1["distilled_int8"] - top1["distilled"]
        words.append(
            f"Top-1 of the 8-bit file against the float file: {formatting.points(change)} points."
        )
    rows = [
        [
            Cell(f"{number}.\u00a0{row['layer']}", number),
            Cell(f"{row['position']}", row["position"]),
            Cell("exact" if row["snr_db"] is None else f"{row['snr_db']:.1f}", row["snr_db"]),
            Cell(f"{row['error_rms']:.3g}", row["error_rms"]),
            Cell(f"{row['low']:.3g} to {row['high']:.3g}", row["high"] - row["low"]),
        ]
        for number, row in enumerate(layers[:_MOST_LAYERS], start=1)
    ]
    return Section(
        "rounding",
        "What eight bits cost, layer by layer",
        words,
        [diagrams.draw_layers(layers)],
        [
            Table(
                f"The {len(rows)} noisiest layers",
                [
                    ("Layer", "noisiest first"),
                    ("Place", "from the input"),
                    ("Signal over noise", "dB, higher is better"),
                    ("Error", "rms"),
                    ("Values", "of the float layer"),
                ],
                rows,
            )
        ],
    )


def _confusion(mistakes, names):
    wrong = mistakes["teacher_only"]["count"] + mistakes["neither"]
    count = sum(found for *_, found in mistakes["confusion"])
    pairs = photos.confused_pairs(mistakes, names)
    return Section(
        "confusion",
        "What is taken for what",
        [
            f"The {formatting.title(mistakes['student']).lower()} student errs on {wrong:,} of "
            f"{count:,} test photos."
        ],
        [diagrams.draw_confusion(mistakes["confusion"], len(names))],
        zoom=photos.zoomed(mistakes, names) if pairs else None,
        pairs=pairs,
    )


def _disagreements(mistakes, names):
    counts = [
        mistakes[key] if isinstance(mistakes[key], int) else mistakes[key]["count"]
        for key in ("both", "teacher_only", "student_only", "neither")
    ]
    both, teacher, student, neither = (f"{count:,}" for count in counts)
    return Section(
        "examples",
        "Student against teacher, photo by photo",
        [
            f"Both are right on {both} photos, only the teacher on {teacher}, only the student on "
            f"{student}, neither on {neither}. Shown are the mistakes made with most confidence, "
            "two of a kind at most."
        ],
        galleries=photos.galleries(mistakes, names),
    )


def _interval(interval, form):
    if interval is None:
        return ""
    low, high = map(form, interval)
    return f"{low.removesuffix(' %')} to {high}"
