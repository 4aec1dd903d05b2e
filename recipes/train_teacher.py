"""Trains a teacher on a data set of shards and saves it as one `.keras` file.

    python recipes/train_teacher.py --data shards/ --out teacher.keras --backbone mobilenet_v2 \
        --weights imagenet --epochs 12

`kdtf teacher` is the same. Cost: on two cores, 2,640 photos and 9 epochs of EdgeTPU-0.75 at 288 px
took 18 minutes. What it gave: docs/grocery.md.
"""

import sys

from kdtf.pipeline.commands.teacher import main

if __name__ == "__main__":
    sys.exit(main())
