"""Trains a teacher on a data set of shards and saves it as one `.keras` file.

    python recipes/train_teacher.py --data shards/ --out teacher.keras --backbone mobilenet_v2 \
        --weights imagenet --epochs 12

Fine-tuning with label smoothing (Szegedy et al., 2015, arXiv:1512.00567), MixUp
(arXiv:1710.09412) and CutMix (arXiv:1905.04899) by keras-cv on half of the batches, AdamW under
a cosine schedule with one epoch of warm-up, and a moving average of the weights. A killed run
continues when the same command is given again.

Cost: on two cores, 2,640 photos and 9 epochs of EdgeTPU-0.75 at 288 px took 18 minutes. What it
gave: docs/grocery.md.
"""

import sys

from kdtf.pipeline.teacher_training import main

if __name__ == "__main__":
    sys.exit(main())
