"""TFLite files: written, opened, compared with their Keras models.

to_tflite           a float or quantization-aware model as a file
compare_with_keras  how far the file's answers are from the model's
compare_layers      what rounding does to each layer
predict             a file's answers for batches; `Runner`, for one image after the other
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "converter": ["to_tflite"],
        "parity": ["compare_with_keras"],
        "layer_errors": ["compare_layers"],
        "runtime": ["Runner", "predict"],
    },
)
