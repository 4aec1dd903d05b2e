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
    "distill": Command("kdtf.pipeline.commands.distill", "teacher, students, int8 files, a report"),
    "teacher": Command("kdtf.pipeline.commands.teacher", "train a teacher"),
    "sweep": Command("kdtf.pipeline.commands.sweep", "distill over several seeds: intervals"),
    "retrain": Command(
        "kdtf.pipeline.commands.retrain", "every week: train on, compare, promote or not"
    ),
    "study": Command("kdtf.study.command", "when distillation helps, condition by condition"),
    "build": Command("tfrecords_tools.build", "images and labels to TFRecord shards"),
    "validate": Command("tfrecords_tools.validate", "check a data set of shards"),
    "show": Command("tfrecords_tools.show", "a contact sheet and a table of a data set"),
    "cache-logits": Command("tfrecords_tools.cache_logits", "a teacher's logits beside the shards"),
    "synthetic": Command("tfrecords_tools.synthetic", "draw shelf photos to start with"),
    "throughput": Command("tfrecords_tools.throughput", "images/s of the input pipeline"),
}


def usage():
    """Text: what `kdtf` knows."""
    return "\n".join(
        [
            "usage: kdtf [-h] [--version] COMMAND [OPTIONS]",
            "",
            "Knowledge distillation for Keras and TensorFlow, from photos to a measured",
            "TFLite student.",
            "",
            "commands:",
            *(f"  {name:<14}{command.help}" for name, command in COMMANDS.items()),
            "",
            "kdtf COMMAND --help shows the options of a command.",
        ]
    )


def main(argv=None):
    """Exit status of a command line; None is 0, as `sys.exit` has it."""
    argv = list(sys.argv[1:] if argv is None else argv)
    command, *rest = argv or ["--help"]
    if command in cli.HELP:
        print(usage())
        return 0
    if command == "--version":
        print(kdtf.__version__)
        return 0
    if command not in COMMANDS:
        hint = cli.nearest(command, COMMANDS) or f"choose of {', '.join(COMMANDS)}"
        print(f"error: no command {command!r}: {hint}", file=sys.stderr)
        return 2
    return importlib.import_module(COMMANDS[command].module).main(rest)


if __name__ == "__main__":
    sys.exit(main())
