"""One job over several seeds: mean and interval of every figure, of gains and of what int8 costs.

    python recipes/sweep.py --seeds 0 1 2 --run-dir runs/grocery -- --data shards/ --teacher t.keras

`kdtf sweep` is the same. Cost: the number of seeds times that of recipes/distill.py.
"""

import sys

from kdtf.pipeline.commands.sweep import main

if __name__ == "__main__":
    sys.exit(main())
