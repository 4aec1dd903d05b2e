"""When does distillation help? Pairs of students under many conditions, and the gain of each.

    python recipes/when_it_helps.py --data shards/ --teacher teacher.keras weak.keras \
        --weights mobilenet_v3_small_imagenet.npz --frozen-blocks 8 --run-dir runs/when

`kdtf study` is the same. Cost: the teacher looks at `views` views of each photo once. A training
costs what the printed plan says; --frozen-blocks 8 makes it several times cheaper. What it gave:
docs/when_it_helps.md.
"""

import sys

from kdtf.study.command import main

if __name__ == "__main__":
    sys.exit(main())
