"""Learning rates over a training."""

import keras


def cosine_schedule(learning_rate, steps, epochs, optimizers=keras.optimizers):
    """Learning rate by step: up linearly for one epoch (at most half the training), then a cosine.

    Args:
      learning_rate: the peak.
      steps: steps of an epoch.
      epochs: of the whole training; the rate ends at 0.
      optimizers: `optimizers` of the Keras that trains, Keras 3 or tf_keras.
    """
    warmup = min(steps, steps * epochs // 2)
    return optimizers.schedules.CosineDecay(
        0.0, steps * epochs - warmup, warmup_target=learning_rate, warmup_steps=warmup
    )
