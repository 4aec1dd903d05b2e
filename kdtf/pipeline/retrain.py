"""Every week: train on from the deployed student, compare, promote only what is no worse."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from kdtf import data, files, formatting
from kdtf.pipeline import deployed, distill, reporting, run_config, seen_examples
from kdtf.pipeline.run_directory import RunDirectory
from kdtf.release import bundle
from kdtf.results import SHIPPED

PROMOTED, NOT_PROMOTED = 0, 3
STUDENT = "student.keras"
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
      ValueError: the directory holds a run of other settings or of another format.
    """
    run = RunDirectory(Path(run_dir))
    with store.lock("retraining"):
        if not cold_start and config.warm_start is None:
            config = replace(config, warm_start=_warm_start(store, run))
        results, page = distill.distill(run_dir, config)
        print(reporting.summary(results, page))
        status = _promoted_before(store, run)
        if status is not None:
            return status
        info = data.DatasetInfo.load(config.data or run.drawn_data)
        return _judge(store, run, config, tolerance, info, results)


def _warm_start(store, run):
    """The deployed student's file; a run that has begun goes on as it began."""
    if run.config.exists():
        return run_config.read(run.config)["warm_start"]
    entry = store.deployed()
    return str(store.verified(entry["version"]) / STUDENT) if entry else None


def _promoted_before(store, run):
    """Exit status where this very file is a version already, else None."""
    sha256 = files.file_sha256(run.deploy / bundle.MODEL)
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


def _judge(store, run, config, tolerance, info, results):
    before = store.deployed()
    seen = seen_examples.trained_on(info, config.warm_start)
    with files.atomic_write(run.seen_examples) as partial:
        np.save(partial, seen)
    compared = None
    if before:
        folder = store.verified(before["version"])
        print(f"\nThe deployed file, version {before['version']}, on the same test photos:")
        compared = deployed.compare_with_deployed(folder, run, info, seen, tolerance)
    checks = results["gates"] + (compared["checks"] if compared else [])
    passed = all(check["passed"] for check in checks)
    record = {
        "passed": passed,
        "deployed": before and before["version"],
        "tolerance": asdict(tolerance),
        "gates": results["gates"],
        "comparison": compared,
    }
    files.write_json(run.promotion, record)
    print(table(record))
    if not passed:
        failed = sum(not check["passed"] for check in checks)
        print(f"\nNot promoted: {failed} of {len(checks)} checks failed.")
        return NOT_PROMOTED
    entry = store.promote(_sources(run), _facts(run, config, results, record), record["deployed"])
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


def _sources(run):
    student = SHIPPED.at("float32")
    return {path.name: path for path in sorted(run.deploy.iterdir())} | {
        STUDENT: run.keras_model(student),
        deployed.DESCRIPTION: run.training_facts(student),
        seen_examples.FILE: run.seen_examples,
    }


def _facts(run, config, results, record):
    row, environment = results["models"][SHIPPED.key], results["environment"]
    return {
        "run": str(run.path),
        "metrics": {name: row[name] for name in _METRICS},
        "promotion": record,
        "teacher_sha256": environment["teacher_sha256"],
        "data_sha256": environment["data_sha256"],
        "warm_start": config.warm_start,
        "versions": {name: environment[name] for name in reporting.PACKAGES},
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
