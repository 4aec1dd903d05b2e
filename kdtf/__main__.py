"""The console command `kdtf`: a command's module is imported when it is chosen.

kdtf COMMAND [OPTIONS]
kdtf COMMAND --help
"""

import importlib
import sys
from typing import NamedTuple

import kdtf
from kdtf import cli


class Command(NamedTuple):
    """Where a command's `main(argv)` is, and what it does."""

    module: str
    help: str


COMMANDS = {
    "distill": Command("kdtf.pipeline.commands.distill", "photos to a measured student, a report"),
    "teacher": Command("kdtf.pipeline.commands.teacher", "train a teacher, save it as one file"),
    "sweep": Command("kdtf.pipeline.commands.sweep", "distill with several seeds: intervals"),
    "retrain": Command(
        "kdtf.pipeline.commands.retrain", "train on from the deployed student; promote, roll back"
    ),
    "study": Command("kdtf.study.command", "when distillation helps: many conditions"),
    "build": Command("tfrecords_tools.build", "photos to TFRecord shards"),
    "validate": Command("tfrecords_tools.validate", "check shards, byte by byte"),
    "show": Command("tfrecords_tools.show", "a data set's numbers and contact sheet"),
    "cache-logits": Command("tfrecords_tools.cache_logits", "score views with a teacher, once"),
    "synthetic": Command("tfrecords_tools.synthetic", "draw a data set of shelf photos"),
    "throughput": Command("tfrecords_tools.throughput", "photos per second of the pipeline"),
}


def usage():
    """Text: what `kdtf` knows."""
    return "\n".join(
        [
            "usage: kdtf [-h] [--version] COMMAND [OPTIONS]",
            "",
            "Knowledge distillation for Keras and TensorFlow, from photos to a measured TFLite",
            "student.",
            "",
            "commands:",
            *(f"  {name:<14}{command.help}" for name, command in COMMANDS.items()),
            "",
            "kdtf COMMAND --help shows the options of a command.",
        ]
    )


def main(argv=None):
    """Runs the command that a command line names; returns its exit status, None for 0."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv:
        cli.refuse(["a command is required: kdtf --help lists them"])
    name, *rest = argv
    if name in cli.HELP:
        print(usage())
        return None
    if name == "--version":
        print(f"kdtf {kdtf.__version__}")
        return None
    if name not in COMMANDS:
        cli.refuse([f"{name}: unknown command{cli.nearest(name, COMMANDS)}"])
    return importlib.import_module(COMMANDS[name].module).main(rest)


if __name__ == "__main__":
    sys.exit(main())
