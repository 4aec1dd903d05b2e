"""What a run measured: `results.json` as types, written and read here alone.

    results.read("runs/2026-w47").models[results.SHIPPED].top1
    results.to_frame(["runs/2026-w46", "runs/2026-w47"])  # a row for each model of each run

One file: what is written, how it is read, and what older files meant by it change together.
"""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path

from kdtf import files

FILE = "results.json"
SCHEMA_VERSION = 2
# What a gate is about, whatever its heading says.
TOP1, TEACHER_FRACTION, FILE_SIZE, LATENCY = "top1", "teacher_fraction", "file_size", "latency_p95"
_PRECISIONS = {
    "float32": "",
    "int8": "int8",
    "ptq_int8": "ptq int8",
    "dynamic_range": "dynamic range",
    "float16": "float16",
}


@dataclass(frozen=True)
class Model:
    """Which of a run's models: whose part it plays, and in which numbers its file computes.

    Attributes:
      role: "teacher", "baseline" or "distilled".
      precision: "float32"; "int8" (quantization-aware training), "ptq_int8" (calibrated only),
        "dynamic_range" or "float16".
    """

    role: str
    precision: str = "float32"

    @classmethod
    def from_key(cls, key):
        """The model of a key of results.json; a key that kdtf does not write is a role."""
        return next((model for model in MODELS if model.key == key), cls(key))

    @property
    def key(self):
        """Its name in results.json and in file names, such as "distilled_int8"."""
        return self.role if self.precision == "float32" else f"{self.role}_{self.precision}"

    @property
    def title(self):
        """Its name for people, such as "Distilled int8"."""
        precision = _PRECISIONS.get(self.precision, self.precision)
        return f"{self.role.replace('_', ' ')} {precision}".strip().capitalize()

    def at(self, precision):
        """The model of the same role in another precision."""
        return Model(self.role, precision)


TEACHER = Model("teacher")
BASELINE, DISTILLED = STUDENTS = (Model("baseline"), Model("distilled"))
INT8 = (BASELINE.at("int8"), DISTILLED.at("int8"))
# Other ways to a small file, for comparison: none of them is trained for it.
POST_TRAINING = tuple(DISTILLED.at(each) for each in ("ptq_int8", "dynamic_range", "float16"))
MODELS = (TEACHER, *STUDENTS, *INT8, *POST_TRAINING)
SHIPPED = DISTILLED.at("int8")


class _Record:
    """A dataclass whose fields are the keys of a JSON object; keys it does not know are in more."""

    @classmethod
    def from_json(cls, raw):
        """The record of a JSON object; what is null or left out was not measured."""
        names = {each.name for each in fields(cls)} - {"more"}
        known = {key: value for key, value in raw.items() if key in names and value is not None}
        return cls(**known, more={key: raw[key] for key in raw if key not in names})

    def to_json(self):
        """The JSON object; null where a thing was not measured."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        more = values.pop("more")
        empty = {each.name for each in fields(self) if each.default_factory is dict}
        return {k: None if k in empty and not v else v for k, v in values.items()} | more


@dataclass(frozen=True)
class Metrics(_Record):
    """What was measured of one model's file on the test split; fractions, nats, bytes, ms.

    A number is None, a mapping empty, where it was not measured.

    Attributes:
      examples: photos measured on; confidence: of the intervals.
      top1 to classwise_ece, recall, reliability: as `metrics.evaluate` returns them.
      intervals: {measure: [low, high]}.
      temperature_scaling: as `metrics.temperature_scaling` returns it.
      selective: aurc, curve and thresholds, of when to ask a person.
      slices: as `metrics.slice_accuracy` returns it; {} where nothing is known about the photos.
      teacher_agreement: as `metrics.teacher_agreement` returns it.
      parity: of the file with Keras, as `export.compare_with_keras` returns it.
      latency_ms: {"p50", "p95"}; benchmark: how it was measured, as `benchmark.benchmark` does.
      more: what other programs have added to the row.
    """

    examples: int | None = None
    top1: float | None = None
    top5: float | None = None
    head_top1: float | None = None
    mid_top1: float | None = None
    tail_top1: float | None = None
    macro_f1: float | None = None
    worst_decile_recall: float | None = None
    nll: float | None = None
    brier: float | None = None
    ece: float | None = None
    ece_equal_mass: float | None = None
    classwise_ece: float | None = None
    intervals: dict = field(default_factory=dict)
    confidence: float | None = None
    recall: list | None = None
    reliability: list | None = None
    temperature_scaling: dict = field(default_factory=dict)
    selective: dict = field(default_factory=dict)
    slices: dict | None = None
    teacher_agreement: dict = field(default_factory=dict)
    parity: dict = field(default_factory=dict)
    parameters: int | None = None
    size_bytes: int | None = None
    latency_ms: dict = field(default_factory=dict)
    benchmark: dict = field(default_factory=dict)
    more: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Gate(_Record):
    """One limit of a release, and whether it was kept.

    Attributes:
      kind: `TOP1`, `TEACHER_FRACTION`, `FILE_SIZE`, `LATENCY`, or None for another.
      name: its heading.
      rule: ">=" or "<".
      unit: of limit and value: "fraction", "bytes" or "ms".
      value: None where not measured.
      passed: False where not measured.
    """

    kind: str | None = None
    name: str = ""
    rule: str | None = None
    limit: float | None = None
    unit: str | None = None
    value: float | None = None
    passed: bool = False
    more: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison(_Record):
    """The distilled student against the baseline, on the same test photos.

    Attributes:
      verdict: "helps", "hurts" or "no difference shown".
      difference: of top-1, distilled minus baseline, fraction; interval: [low, high].
      p_value: of McNemar's exact test.
      seeds: trainings of each student.
      differences: of all measures, as `metrics.paired_bootstrap` returns them.
      slices: as `metrics.slice_differences` returns them.
      The others: as `metrics.paired_difference` returns them.
    """

    verdict: str | None = None
    difference: float | None = None
    interval: list | None = None
    confidence: float = 0.95
    p_value: float | None = None
    only_baseline: int | None = None
    only_distilled: int | None = None
    test_examples: int | None = None
    needed_test_examples: int | None = None
    power: float | None = None
    seeds: int = 1
    needed_seeds: int | None = None
    differences: dict | None = None
    slices: dict | None = None
    more: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """All that a run measured.

    Attributes:
      models: {Model: Metrics}.
      classes: list of dict of name, train_examples and test_examples, in the order of the logits.
      gates: tuple of Gate.
      verdict, verdict_int8: Comparison of the float and of the 8-bit students, or None.
      environment: versions, machine and data.
      history: {Model: {logged name: list of a number or None for each epoch}}.
      cached_logits: what the teacher's logits cost and saved, or None.
      stages: list of dict of name and seconds.
      more: what other programs have added.
    """

    models: dict
    classes: list = field(default_factory=list)
    gates: tuple = ()
    verdict: Comparison | None = None
    verdict_int8: Comparison | None = None
    environment: dict = field(default_factory=dict)
    history: dict = field(default_factory=dict)
    cached_logits: dict | None = None
    stages: list = field(default_factory=list)
    more: dict = field(default_factory=dict)

    @property
    def pair(self):
        """(baseline, distilled): the `Model`s that a report is about, 8-bit where there are any."""
        return INT8 if INT8[1] in self.models else STUDENTS

    @property
    def comparison(self):
        """The `Comparison` that a report is about; None where none was made."""
        return self.verdict_int8 or self.verdict

    def gate(self, kind):
        """The gate of a kind, or None."""
        return next((gate for gate in self.gates if gate.kind == kind), None)

    @classmethod
    def from_json(cls, raw):
        """The results of a JSON object; one without schema_version is of version 1.

        Raises:
          ValueError: it holds no models, is broken, or was written by a newer version.
        """
        version = raw.get("schema_version", 1)
        if version not in range(1, SCHEMA_VERSION + 1):
            raise ValueError(
                f"schema_version is {version!r}, this kdtf reads 1 to {SCHEMA_VERSION}: read it "
                "with a kdtf as new as the one that wrote it"
            )
        if not raw.get("models"):
            raise ValueError(
                f'there are no "models", only {sorted(raw)}: let the run finish its evaluation '
                "first"
            )
        _check_finite(raw)
        try:
            raw = _upgraded(raw) if version == 1 else raw
            models = {_model(key, row): _metrics(row) for key, row in raw["models"].items()}
            order = {model: place for place, model in enumerate(MODELS)}
            parts = {key: raw[key] for key in _PLAIN if raw.get(key) is not None}
            for key in ("verdict", "verdict_int8"):
                parts[key] = Comparison.from_json(raw[key]) if raw.get(key) else None
            return cls(
                dict(sorted(models.items(), key=lambda m: (order.get(m[0], len(order)), m[0].key))),
                gates=tuple(Gate.from_json(gate) for gate in raw.get("gates") or ()),
                history={Model.from_key(k): v or {} for k, v in (raw.get("history") or {}).items()},
                more={key: value for key, value in raw.items() if key not in _KEYS},
                **parts,
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"these are not the results of a run: {error!r}") from error

    def to_json(self):
        """The JSON object that `from_json` reads."""
        verdicts = {"verdict": self.verdict, "verdict_int8": self.verdict_int8}
        return {
            "schema_version": SCHEMA_VERSION,
            "models": {
                model.key: {"role": model.role, "precision": model.precision} | row.to_json()
                for model, row in self.models.items()
            },
            "gates": [gate.to_json() for gate in self.gates],
            **{key: comparison and comparison.to_json() for key, comparison in verdicts.items()},
            "history": {model.key: epochs for model, epochs in self.history.items()},
            **{key: getattr(self, key) for key in _PLAIN},
        } | self.more


# What goes into the file as it is.
_PLAIN = ("classes", "environment", "cached_logits", "stages")
_KEYS = {*_PLAIN, "schema_version", "models", "gates", "verdict", "verdict_int8", "history"}


def read(path):
    """`Results` of a run.

    Args:
      path: the run's directory, or its results.json.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is broken, holds a number that is not finite, or was written by a newer
        version; names the file.
    """
    path = Path(path)
    path = path / FILE if path.is_dir() else path
    raw = read_object(path)
    try:
        return Results.from_json(raw)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write(path, results):
    """Writes `Results` as JSON, whole or not at all.

    Raises:
      ValueError: a number is not finite.
    """
    files.write_json(path, results.to_json())


def read_object(path):
    """Dict of a JSON object that a run has left.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not a JSON object; names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}: is this a finished run?")
    content = files.read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a JSON object")
    return content


def to_frame(runs):
    """The measures of several runs as a table.

    Args:
      runs: list of run directories (str or pathlib.Path) or `Results`.

    Returns:
      pandas.DataFrame, a row for each model of each run: run (the directory as given, or the place
      in the list), role, precision, and the measures that are numbers, NaN where not measured;
      those within a mapping by their path, such as "latency_ms.p95", the ends of an interval as
      "intervals.top1.low" and "intervals.top1.high".
    """
    import pandas

    rows = []
    for place, run in enumerate(runs):
        name, measured = (place, run) if isinstance(run, Results) else (str(run), read(run))
        for model, metrics in measured.models.items():
            row = {"run": str(name), "role": model.role, "precision": model.precision}
            rows.append(row | dict(_numbers(metrics.to_json())))
    return pandas.DataFrame(rows)


def _numbers(tree, prefix=""):
    """(path, number) of what is measured in nested mappings."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{key}.")
        elif prefix == "intervals." and value is not None:
            yield from zip((f"{prefix}{key}.low", f"{prefix}{key}.high"), value, strict=True)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", value


def _model(key, row):
    row = row or {}
    return Model(row["role"], row["precision"]) if "role" in row else Model.from_key(key)


def _metrics(row):
    identity = ("role", "precision")
    return Metrics.from_json({k: v for k, v in (row or {}).items() if k not in identity})


_LOGS_1 = {
    "hard_loss": "label_loss",
    "soft_loss": "distillation_loss",
    "val_hard_loss": "val_label_loss",
}
_SLICE_1 = {"small": "low_support"}


def _upgraded(raw):
    """Results of version 1 as they are written now."""
    gates = [dict(gate) for gate in raw.get("gates") or ()]
    kinds = {"bytes": FILE_SIZE, "ms": LATENCY}
    fractions = iter((TOP1, TEACHER_FRACTION))  # they stood in this order
    for gate in gates:
        unit = gate.get("unit")
        gate.setdefault("kind", next(fractions, None) if unit == "fraction" else kinds.get(unit))
    history = {
        key: _renamed(each or {}, _LOGS_1) for key, each in (raw.get("history") or {}).items()
    }
    models = {key: _with_support(row) for key, row in raw["models"].items()}
    verdicts = {key: _with_support(raw.get(key)) for key in ("verdict", "verdict_int8")}
    return raw | verdicts | {"models": models, "gates": gates, "history": history}


def _with_support(record):
    if not record or not record.get("slices"):
        return record
    slices = record["slices"].items()
    return record | {
        "slices": {column: [_renamed(row, _SLICE_1) for row in rows] for column, rows in slices}
    }


def _renamed(record, names):
    return {names.get(key, key): value for key, value in record.items()}


def _check_finite(tree, place=""):
    if isinstance(tree, float) and not math.isfinite(tree):
        raise ValueError(f"{place} is {tree}: the training diverged or the file is broken")
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            _check_finite(value, f"{place}.{key}" if place else str(key))
