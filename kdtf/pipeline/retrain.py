"""Every week: train on from the deployed student, compare with it, promote only what is no worse.

    python recipes/retrain.py --registry registry/ --run-dir runs/2026-w48 \\
        -- --data shards/ --teacher teacher.keras
    python recipes/retrain.py --registry registry/ --rollback       # to the version before
    python recipes/retrain.py --registry registry/ --list           # checks every hash too

Everything after `--` goes to recipes/distill.py. Both its students start from the deployed one,
class by class by name (`--cold-start`: from --weights), so its verdict is about this week's
training only. The new 8-bit file and the deployed one then answer the same test photos. It is
promoted, copied into the registry with its hashes, if all release gates pass and neither top-1, nor
the tail, nor any slice, nor macro-F1 falls by more than the tolerance. Test photos that one of the
two files was trained on, because splits were drawn anew, are left out of the comparison: this needs
photo ids that mean the same photo every week.

Exit status: 0 promoted, or deployed already by an earlier call; 3 trained and measured, but not
promoted; 4 another retraining of this registry is under way; 1 an error, 2 a wrong command line. A
killed run continues when the same command is given again. `<run-dir>/promotion.json` holds the
checks.

Cost: that of recipes/distill.py, and one more file on the test photos.
"""

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from kdtf import data, files, formatting
from kdtf.pipeline import deployed, distill, reporting, run_config, seen_examples, teacher_training
from kdtf.pipeline.run_directory import RunDirectory
from kdtf.release import bundle, promotion
from kdtf.release.registry import BusyError, Registry
from kdtf.results import SHIPPED

PROMOTED, NOT_PROMOTED, BUSY = 0, 3, 4
STUDENT = "student.keras"
_METRICS = ("top1", "macro_f1", "tail_top1", "ece", "nll", "examples", "intervals")


def retrain(store, run_dir, config, tolerance, cold_start=False):
    """Trains, compares, and promotes or not.

    Args:
      store: a `Registry`.
      run_dir: directory for everything the run writes.
      config: a `Config`; without a warm_start it gets the deployed student's.
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


def parse(argv=None):
    """The command line; `config` in it is a `distill.Config` where a run is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--registry", required=True, metavar="DIR", help="folder of the promoted versions")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--run-dir", help="train, compare, promote; a new directory every week")
    what.add_argument(
        "--rollback",
        nargs="?",
        type=int,
        const=0,
        metavar="VERSION",
        help="deploy an earlier version again (default: the one before)",
    )
    what.add_argument("--list", action="store_true", help="show and check all versions")
    default = promotion.Tolerance()
    add(
        "--tolerance",
        type=float,
        default=default.overall,
        help="largest drop of top-1, fraction (default: %(default)s)",
    )
    add(
        "--part-tolerance",
        type=float,
        default=default.part,
        help="largest drop in the tail, a slice and macro-F1, where it is shown (default: "
        "%(default)s)",
    )
    add(
        "--part-photos",
        type=int,
        default=default.examples,
        help="parts with fewer photos are not judged (default: %(default)s)",
    )
    add(
        "--strict",
        action="store_true",
        help="refuse a larger drop in a part even where chance explains it",
    )
    add("--cold-start", action="store_true", help="start from --weights, not the deployed student")
    add("rest", nargs="*", metavar="-- ARGUMENT", help="for recipes/distill.py")
    args = parser.parse_args(argv)
    if args.run_dir is None and args.rest:
        parser.error(f"{' '.join(args.rest)}: only --run-dir takes arguments for distill.py")
    if any(argument.split("=")[0] == "--run-dir" for argument in args.rest):
        parser.error("--run-dir goes before `--`: it is this program's too")
    if args.run_dir is not None:
        _, args.config = distill.parse(args.rest)
        if args.cold_start and args.config.warm_start:
            parser.error(f"--cold-start and --warm-start {args.config.warm_start}: give one")
    return args


def main(argv=None):
    """Exit status of a command line."""
    args = parse(argv)
    store = Registry(args.registry)
    with teacher_training.report_errors():
        if args.list:
            text, whole = listed(store)
            print(text)
            return 0 if whole else 1
        if args.rollback is not None:
            entry = store.roll_back(args.rollback or None)
            print(f"Deployed: version {entry['version']}, {store.folder / entry['folder']}")
            return 0
        tolerance = promotion.Tolerance(
            args.tolerance, args.part_tolerance, args.part_photos, strict=args.strict
        )
        try:
            return retrain(store, args.run_dir, args.config, tolerance, args.cold_start)
        except BusyError as error:
            print(f"error: {error}", file=sys.stderr)
            return BUSY


if __name__ == "__main__":
    sys.exit(main())
