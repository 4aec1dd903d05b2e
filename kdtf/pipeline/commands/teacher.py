"""Trains a teacher on a data set of shards and saves it as one `.keras` file.

    kdtf teacher --data shards/ --out teacher.keras --backbone mobilenet_v2 \\
        --weights imagenet --epochs 12

Fine-tuning with label smoothing (Szegedy et al., 2015, arXiv:1512.00567), MixUp
(arXiv:1710.09412) and CutMix (arXiv:1905.04899) by keras-cv on half of the batches, AdamW under
a cosine schedule with one epoch of warm-up, and a moving average of the weights. A killed run
continues when the same command is given again.

Cost: on two cores, 2,640 photos and 9 epochs of EdgeTPU-0.75 at 288 px took 18 minutes. What it
gave: docs/grocery.md.
"""

from dataclasses import dataclass
from typing import Annotated

from kdtf import cli, files
from kdtf.arguments import Argument
from kdtf.data import DatasetInfo
from kdtf.pipeline.config import Data, TeacherConfig


def check_out(path):
    """Refuses what no `.keras` file can be written to."""
    if not path.endswith(".keras"):
        raise ValueError("must be a file whose name ends in .keras")
    files.check_new_file(path)


@dataclass(frozen=True)
class TeacherArguments:
    """What a command line says besides the configuration."""

    data: Data
    """directory with dataset.json and shards"""
    out: Annotated[str, Argument("FILE", check_out)]
    """the .keras file to write"""


def main(argv=None):
    """Trains, or goes on training, a teacher."""
    arguments, config = cli.parse(argv, "kdtf teacher", __doc__, TeacherArguments, TeacherConfig)
    from kdtf.pipeline import teacher_training

    with cli.report_errors():
        info = DatasetInfo.load(arguments.data)
        model, history = teacher_training.train(info, config, arguments.out)
    accuracy = history["val_accuracy"][-1]
    print(f"{arguments.out}: {model.count_params():,} parameters, val accuracy {accuracy:.4f}")
