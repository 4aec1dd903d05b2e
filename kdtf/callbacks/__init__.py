"""Callbacks of a training, for Keras 3 and tf_keras.

EpochCheckpoint     exact resume after a killed process
TensorBoardFigures  curves, confusion, reliability and the hardest photos in TensorBoard
write_hparams       a row of TensorBoard's tab of HParams
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoint": ["EpochCheckpoint"],
        "tensorboard": ["TensorBoardFigures", "write_hparams"],
    },
)
