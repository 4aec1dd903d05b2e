"""One job over several seeds: mean and interval of every figure, of gains and of what 8 bits cost.

    python recipes/sweep.py --seeds 0 1 2 --run-dir runs/grocery -- --data shards/ --teacher t.keras

Everything after `--` goes to recipes/distill.py. Each seed has its own run directory
`<run-dir>/seed-<n>`; `summary.md` and `summary.json` beside them hold the table. The interval is
Student's t over seeds; differences are taken seed by seed, since both students of a seed share
their start and batches. A killed sweep continues when the same command is given again.
TensorBoard's tab of HParams has a row for each model of each seed (`tensorboard --logdir
<run-dir>`).

Cost: the number of seeds times that of recipes/distill.py.
"""

import sys

from kdtf.pipeline.sweep import main

if __name__ == "__main__":
    sys.exit(main())
