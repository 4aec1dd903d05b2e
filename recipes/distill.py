"""The whole job: photos to a distilled, exported, measured student, and a report.

    python recipes/distill.py                                  # drawn shelf photos, no download
    python recipes/distill.py --data shards/ --teacher teacher.keras --run-dir runs/2026-w47

`kdtf distill` is the same. Cost: with no arguments 11 minutes on two cores. On 2,640 photos at
224 px four to six minutes a student plus the teacher's forward passes. What it gave:
docs/grocery.md.
"""

import sys

from kdtf.pipeline.commands.distill import main

if __name__ == "__main__":
    sys.exit(main())
