"""The command `kdtf`: every job of the package by name; `kdtf COMMAND --help` has its arguments."""

import difflib
import importlib
import os
import sys

import kdtf

COMMANDS = {  # command: (module with `main(argv)`, what it does)
    "distill": ("kdtf.pipeline.distill", "teacher, two students, int8 files, a report"),
    "teacher": ("kdtf.pipeline.teacher_training", "train a teacher"),
    "sweep": ("kdtf.pipeline.sweep", "distill over several seeds: means and intervals"),
    "retrain": ("kdtf.pipeline.retrain", "every week: train on, compare, promote or not"),
    "study": ("kdtf.study.study", "when distillation helps, condition by condition"),
    "build": ("tfrecords_tools.build", "images and labels to TFRecord shards"),
    "validate": ("tfrecords_tools.validate", "check a data set of shards"),
    "show": ("tfrecords_tools.show", "a contact sheet and a table of a data set"),
    "cache-logits": ("tfrecords_tools.cache_logits", "a teacher's logits beside the shards"),
    "synthetic": ("tfrecords_tools.synthetic", "draw shelf photos to start with"),
    "throughput": ("tfrecords_tools.throughput", "images/s of the input pipeline"),
}


def usage():
    """Text: the commands, a line each."""
    lines = ["usage: kdtf COMMAND [ARGUMENTS]   (kdtf COMMAND --help has its arguments)", ""]
    lines += [f"  {name:<14}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(lines)


def main(argv=None):
    """Exit status of a command line."""
    command, *arguments = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if command in ("-h", "--help"):
        print(usage())
        return 0
    if command == "--version":
        print(kdtf.__version__)
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose of {', '.join(COMMANDS)}"
        print(f"error: no command {command!r}: {hint}", file=sys.stderr)
        return 2
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.argv[0] = f"kdtf {command}"  # what argparse calls the program
    return importlib.import_module(COMMANDS[command][0]).main(arguments)


if __name__ == "__main__":
    sys.exit(main())
