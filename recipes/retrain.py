"""Every week: train on from the deployed student, compare with it, promote only what is no worse.

    python recipes/retrain.py --registry registry/ --run-dir runs/2026-w48 \
        -- --data shards/ --teacher teacher.keras
    python recipes/retrain.py --registry registry/ --rollback       # to the version before
    python recipes/retrain.py --registry registry/ --list           # checks every hash too

Everything after `--` goes to recipes/distill.py. Both its students start from the deployed one,
class by class by name (`--cold-start`: from --weights), so its verdict is about this week's
training only. The new 8-bit file and the deployed one then answer the same test photos. It is
promoted, copied into the registry with its hashes, if all release gates pass and neither top-1, nor
the tail, nor any slice, nor macro-F1 falls by more than the tolerance. Test photos that one of the
two files was trained on, because splits were drawn anew, are left out of the comparison: this needs
photo ids that mean the same photo every week.

Exit status: 0 promoted, or deployed already by an earlier call; 3 trained and measured, but not
promoted; 4 another retraining of this registry is under way; 1 an error, 2 a wrong command line. A
killed run continues when the same command is given again. `<run-dir>/promotion.json` holds the
checks.

Cost: that of recipes/distill.py, and one more file on the test photos.
"""

import sys

from kdtf.pipeline.retrain import main

if __name__ == "__main__":
    sys.exit(main())
