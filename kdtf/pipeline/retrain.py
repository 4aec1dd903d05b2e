"""Every week: train on from the deployed student, compare, promote only what is no worse."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from kdtf import data, files, formatting
from kdtf.pipeline import distill, evaluation
from kdtf.pipeline.config import PACKAGES, SHIPPED
from kdtf.release import bundle, promotion

PROMOTED, NOT_PROMOTED = 0, 3
STUDENT, DESCRIPTION = "student.keras", "student.json"
SEEN = "seen_photos.npy"
_METRICS = ("top1", "macro_f1", "tail_top1", "ece", "nll", "examples", "intervals")


def retrain(store, run_dir, config, tolerance, cold_start=False):
    """Trains, compares, and promotes or not.

    Args:
      store: a `Registry`.
      run_dir: directory for everything the run writes.
      config: a `DistillConfig`; without a warm_start it gets the deployed student's.
      tolerance: a `promotion.Tolerance`.
      cold_start: start from config.weights.

    Returns:
      `PROMOTED` or `NOT_PROMOTED`.

    Raises:
      BusyError: another process retrains for this registry.
    """
    run_dir = Path(run_dir)
    with store.lock("retraining"):
        if not cold_start and config.warm_start is None:
            config = replace(config, warm_start=_warm_start(store, run_dir))
        results, page = distill.distill(run_dir, config)
        print(distill.summary(results, page))
        known = _promoted_before(store, run_dir)
        if known is not None:
            return known
        info = data.DatasetInfo.load(config.data or run_dir / "data")
        return _judge(store, run_dir, config, tolerance, info, results)


def _warm_start(store, run_dir):
    """The deployed student's file; a run that has begun goes on as it began."""
    begun = run_dir / "config.json"
    if begun.exists():
        return json.loads(begun.read_text()).get("warm_start")
    deployed = store.deployed()
    return str(store.verified(deployed["version"]) / STUDENT) if deployed else None


def _promoted_before(store, run_dir):
    """Exit status where this very file is a version already, else None."""
    sha256 = files.file_sha256(run_dir / "deploy" / bundle.MODEL)
    state = store.read()
    for entry in state["versions"]:
        if entry["files"][bundle.MODEL]["sha256"] == sha256:
            version = entry["version"]
            if version == state["deployed"]:
                print(f"\nThis run's file is deployed already, as version {version}.")
                return PROMOTED
            print(
                f"\nNot promoted: this run's file is version {version}, in whose place version "
                f"{state['deployed']} is deployed. `--rollback {version}` deploys it again."
            )
            return NOT_PROMOTED
    return None


def _judge(store, run_dir, config, tolerance, info, results):
    deployed = store.deployed()
    seen = _trained_on(info, config.warm_start)
    with files.atomic_write(run_dir / SEEN) as partial:
        np.save(partial, seen)
    compared = None
    if deployed:
        folder = store.verified(deployed["version"])
        print(f"\nThe deployed file, version {deployed['version']}, on the same test photos:")
        compared = _compare(folder, run_dir, info, seen, tolerance)
    checks = results["gates"] + (compared["checks"] if compared else [])
    passed = all(check["passed"] for check in checks)
    record = {
        "passed": passed,
        "deployed": deployed and deployed["version"],
        "tolerance": asdict(tolerance),
        "gates": results["gates"],
        "comparison": compared,
    }
    files.write_json(run_dir / "promotion.json", record)
    print(table(record))
    if not passed:
        failed = sum(not check["passed"] for check in checks)
        print(f"\nNot promoted: {failed} of {len(checks)} checks failed.")
        return NOT_PROMOTED
    entry = store.promote(
        _sources(run_dir), _facts(run_dir, config, results, record), record["deployed"]
    )
    print(f"\nPromoted: version {entry['version']}, {store.folder / entry['folder']}")
    return PROMOTED


def table(record):
    """Text for the terminal: every check with its value, limit and result."""
    lines = ["", "Checks for promotion"]
    compared = record["comparison"]
    for check in record["gates"] + (compared["checks"] if compared else []):
        value, limit = (
            formatting.quantity(check[key], check["unit"]) for key in ("value", "limit")
        )
        line = f"{'pass' if check['passed'] else 'FAIL'}  {check['name']}: {value} "
        line += f"(limit {check['rule']} {limit}"
        if check.get("interval"):
            low, high = (formatting.quantity(end, check["unit"]) for end in check["interval"])
            line += f"; interval {low} to {high}, {formatting.count(check['examples'], 'photo')}"
        lines.append(line + ")" + (f", {check['note']}" if check.get("note") else ""))
    if compared is None:
        return "\n".join([*lines, "Nothing is deployed yet: the gates alone decide."])
    lines.append(f"Compared on {formatting.count(compared['examples'], 'test photo')}.")
    for key, why in (
        ("new_class_examples", "are of classes that the deployed file does not know"),
        ("seen_examples", "were in the training of one of the two: keep splits from week to week"),
    ):
        if compared[key]:
            lines.append(f"Left out: {compared[key]:,}, which {why}.")
    if compared["not_judged"]:
        names = ", ".join(f"{part['name']} ({part['examples']})" for part in compared["not_judged"])
        lines.append(f"Not judged, too few photos: {names}.")
    if compared["differences"] is None:
        lines.append("Macro-F1 was not compared: the classes have changed.")
    return "\n".join(lines)


def _compare(folder, run_dir, info, seen, tolerance):
    truth = evaluation.read_truth(info, "test")
    with np.load(run_dir / "evaluation" / f"{SHIPPED}.npz") as stored:
        candidate = promotion.Answers(stored["test_logits"], info.classes)
    seen = np.union1d(seen, np.load(folder / SEEN))
    return promotion.compare(
        _answers(folder, info),
        candidate,
        truth.labels,
        info.split("train").class_counts,
        truth.columns,
        np.isin(_hashes(truth.ids), seen),
        tolerance,
    )


def _answers(folder, info):
    """What a promoted version says of this week's test photos, fed as in its own week."""
    described = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    words = {name: tuple(known) for name, known in (described["metadata"] or {}).items()}
    batches = data.evaluation_batches(
        replace(info, metadata=words), "test", 16, described["image_size"], columns=tuple(words)
    )
    logits = evaluation.answers(folder / bundle.MODEL, batches, info.split("test"), folder.name)
    return promotion.Answers(logits, tuple(described["classes"]))


def _trained_on(info, warm_start):
    """Hashes of the photos that a student, and those it started from, were trained on."""
    seen = np.unique(_hashes(example.id for example in data.read_examples(info, "train")))
    if warm_start is None:
        return seen
    earlier = Path(warm_start).with_name(SEEN)
    if not earlier.exists():
        print(f"\nWhat {warm_start} was trained on is not known: no {earlier}.")
        return seen
    return np.union1d(seen, np.load(earlier))


def _hashes(ids):
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(b"".join(digests), np.uint64)


def _sources(run_dir):
    student = run_dir / "models" / SHIPPED.removesuffix("_int8")
    return {path.name: path for path in sorted((run_dir / "deploy").iterdir())} | {
        STUDENT: student.with_suffix(".keras"),
        DESCRIPTION: student.with_suffix(".json"),
        SEEN: run_dir / SEEN,
    }


def _facts(run_dir, config, results, record):
    row, known = results["models"][SHIPPED], results["environment"]
    return {
        "run": str(run_dir),
        "metrics": {name: row[name] for name in _METRICS},
        "promotion": record,
        "teacher_sha256": known["teacher_sha256"],
        "data_sha256": known["data_sha256"],
        "warm_start": config.warm_start,
        "versions": {name: known[name] for name in PACKAGES},
    }


def listed(store):
    """(text with a line per version, the deployed one marked; whether all files are whole)."""
    state, lines, whole = store.read(), [], True
    for entry in state["versions"]:
        mark = "*" if entry["version"] == state["deployed"] else " "
        model, facts = entry["files"][bundle.MODEL], entry["facts"]
        line = f"{mark} {entry['version']:>4}  {entry['promoted']}  {model['sha256'][:12]}  "
        line += f"{formatting.percent(facts['metrics']['top1'])} top-1  {facts['run']}"
        try:
            store.verified(entry["version"])
        except ValueError as error:
            whole = False
            line += f"\n        DAMAGED: {error}"
        lines.append(line)
    return "\n".join(lines or ["No version yet."]), whole
