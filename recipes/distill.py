"""The whole job: photos to a distilled, exported, measured student, and a report.

    python recipes/distill.py                                  # drawn shelf photos, no download
    python recipes/distill.py --data shards/ --teacher teacher.keras --run-dir runs/2026-w47

A baseline student learns from labels, a distilled one from labels and the teacher (Hinton et al.,
2015, arXiv:1503.02531): same initial weights, batches, steps and schedule. Both are exported to
TFLite, and the exported files are what is evaluated and benchmarked. Everything lands in the run
directory; a killed run continues when the same command is given again.

The teacher scores `--views` views of each training photo once, and both students are trained on
these views, float and 8 bits; later runs with the same teacher and data find them scored. With
`--live-teacher` it scores a new view of every photo in every epoch. Training photos without a label
are the distilled student's, which learns them from the teacher; the baseline takes as many steps on
the others, in views of its own.

Cost: with no arguments 11 minutes on two cores. On 2,640 photos at 224 px four to six
minutes a student plus the teacher's forward passes. What it gave: docs/grocery.md.
"""

import sys

from kdtf.pipeline.distill import main

if __name__ == "__main__":
    sys.exit(main())
