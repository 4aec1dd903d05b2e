"""Students in int8: calibration, quantization-aware training, and the graph that ships.

equalize         channels of one width, exactly
quantize_aware   the student with its rounding emulated, calibrated on batches
correct_biases   takes back the shift that rounding brings
QATDistiller     `kdtf.Distiller` for such a student
BatchNormFreeze  fixed statistics from an epoch on
save_weights, load_weights
folding          the graph that ships
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["folding"],
    submod_attrs={
        "qat_model": ["load_weights", "quantize_aware", "save_weights"],
        "distiller": ["BatchNormFreeze", "QATDistiller"],
        "equalization": ["equalize"],
        "bias_correction": ["correct_biases"],
    },
)
