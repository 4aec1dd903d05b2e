"""When does distillation help? Pairs of students under many conditions, and the gain of each.

    python recipes/when_it_helps.py --data shards/ --teacher teacher.keras weak.keras \
        --weights mobilenet_v3_small_imagenet.npz --frozen-blocks 8 --run-dir runs/when

Along each axis one thing changes: the share of labelled photos, the same with all other photos
added through the teacher alone, the share of wrong labels, the length of training, the student's
width, the teacher. A baseline student learns from the labels, a distilled one from labels and
teacher (Hinton et al., 2015, arXiv:1503.02531): same start, photos, views, order and steps. All
settings are fixed beforehand; the test photos are looked at once, to measure.

Each training is a file in `<run-dir>/jobs`; given the same command again, a killed study continues,
and more axes, seeds or teachers may be added. `study.json`, `table.md`, `gains.png` (top-1) and
`parts.png` (head, mid and tail classes) are written whenever a point is complete.

Cost: the teacher looks at `views` views of each photo once. A training costs what the printed plan
says; --frozen-blocks 8 makes it several times cheaper. What it gave: docs/when_it_helps.md.
"""

import sys

from kdtf.study.study import main

if __name__ == "__main__":
    sys.exit(main())
