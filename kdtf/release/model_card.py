"""The card of a deploy folder: how a photo becomes the model's input, and what was measured."""

from kdtf import formatting, templating
from kdtf.data import photo_pixels
from kdtf.results import Metrics

MODEL, LABELS, CARD = "student_int8.tflite", "labels.txt", "model_card.md"
CALIBRATION = "calibration.json"
_WEAKEST = 5  # classes that the card names


def render(signature, labels, facts, calibration, hashes, size_bytes):
    """Text of model_card.md.

    Args:
      signature: dict of what the file takes and gives, under the names of the template.
      labels: names of the classes.
      facts: as of `bundle.write`.
      calibration: what calibration.json holds, or None.
      hashes: {name of a file of the folder: its sha256}.
      size_bytes: of the model's file.
    """
    measured = facts.get("model") or Metrics()
    device = _or(measured.benchmark.get("device"), "a machine without a name")
    return templating.render(
        CARD,
        **signature,
        span=_interval,
        model=MODEL,
        labels=LABELS,
        photo_pixels=photo_pixels.source(),
        values=_values(facts.get("metadata") or {}, signature["columns"]),
        calibration=calibration,
        calibration_file=CALIBRATION,
        crop=_or(facts.get("crop_fraction"), 0.875),
        measures=_measures(measured, size_bytes),
        confidence=formatting.confidence(measured.confidence),
        slices=_slices(measured.slices),
        weakest=_weakest(measured.recall or [], labels),
        device=device if measured.benchmark else None,
        gates=[
            {
                "name": gate.name,
                "limit": f"{gate.rule} {formatting.quantity(gate.limit, gate.unit)}",
                "value": formatting.quantity(gate.value, gate.unit),
                "result": "pass" if gate.passed else "**fail**",
            }
            for gate in facts.get("gates") or ()
        ],
        hashes=hashes,
        data_sha256=_or(facts.get("data_sha256"), "not recorded"),
        teacher_sha256=_or(facts.get("teacher_sha256"), "not recorded"),
        versions=sorted((facts.get("versions") or {}).items()),
    )


def _measures(measured, size_bytes):
    """Rows of the card's table: (measure, what it means, value, interval)."""

    def fraction(name, meaning, key):
        value, interval = getattr(measured, key), measured.intervals.get(key)
        return name, meaning, formatting.percent(value), _interval(interval)

    percent, ms, memory = formatting.percent, formatting.milliseconds, formatting.megabytes
    scaling, latency, bench = (
        measured.temperature_scaling,
        measured.latency_ms,
        measured.benchmark,
    )
    one, examples = "one photo, without preparing it", formatting.integer(measured.examples)
    return [
        fraction("Top-1", "share of test photos whose first answer is right", "top1"),
        fraction("Top-5", "share with the right class among the first five", "top5"),
        fraction("Macro F1", "every class counts the same", "macro_f1"),
        fraction("Tail top-1", "rarest classes", "tail_top1"),
        fraction(
            "Calibration error", "ECE: how far probabilities are from hit rates, on average", "ece"
        ),
        (
            "Calibration error, scaled",
            "the same with the temperature",
            percent(scaling.get("ece_after")),
            "",
        ),
        ("Test photos", "what the above was measured on", examples, ""),
        ("File size", "", memory(size_bytes), ""),
        ("Latency p50", one, ms(latency.get("p50")), ""),
        ("Latency p95", one, ms(latency.get("p95")), ""),
        ("Start", "opening the file, once", ms(bench.get("init_ms")), ""),
        ("Memory", "of the runtime with this file", memory(bench.get("memory_bytes")), ""),
        (
            "Measured on",
            "latency, start and memory",
            _or(bench.get("device"), formatting.NOT_MEASURED),
            "",
        ),
        ("Threads", "of that measurement", formatting.integer(bench.get("threads")), ""),
    ]


def _values(vocabularies, columns):
    """[(input, index, value)]: what the indices of metadata stand for, where that is known."""
    known = {f"meta_{column}": words for column, words in vocabularies.items()}
    return [
        (column, index, value)
        for column in columns
        if column in known
        for index, value in enumerate(["missing, or not in this table", *known[column]])
    ]


def _slices(slices):
    """Rows of the card's table, (slice, photos, top-1, interval, note); None if not measured."""
    if slices is None:
        return None
    return [
        (
            f"{column}: {_or(part['value'], 'missing')}",
            formatting.integer(part["examples"]),
            formatting.percent(part["top1"]),
            _interval(part["interval"]),
            "few photos" if part["low_support"] else "",
        )
        for column, parts in slices.items()
        for part in parts
    ]


def _weakest(recalls, labels):
    """[(class, recall)] of the classes least often recognised, the worst first."""
    measured = [
        (recall, label)
        for recall, label in zip(recalls, labels, strict=False)
        if recall is not None
    ]
    return [(label, formatting.percent(recall)) for recall, label in sorted(measured)[:_WEAKEST]]


def _interval(interval):
    if interval is None:
        return formatting.NOT_MEASURED
    return " to ".join(formatting.percent(end) for end in interval)


def _or(value, default):
    return default if value is None else value
