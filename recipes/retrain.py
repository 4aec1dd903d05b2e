"""Every week: train on from the deployed student, compare with it, promote only what is no worse.

    python recipes/retrain.py --registry registry/ --run-dir runs/2026-w48 \
        -- --data shards/ --teacher teacher.keras
    python recipes/retrain.py --registry registry/ --rollback       # to the version before
    python recipes/retrain.py --registry registry/ --list           # checks every hash too

`kdtf retrain` is the same. Cost: that of recipes/distill.py, and one more file on the test photos.
"""

import sys

from kdtf.pipeline.commands.retrain import main

if __name__ == "__main__":
    sys.exit(main())
