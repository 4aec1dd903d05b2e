"""Knowledge distillation for Keras and TensorFlow: train small students on large teachers.

    Distiller  a keras.Model that trains a student on labels and a teacher
    losses, metrics, data, students, teachers, quantize, export, benchmark, callbacks, ...

Each wing's docstring lists what it offers. Importing kdtf imports nothing heavy.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "benchmark",
        "callbacks",
        "data",
        "distillation",
        "export",
        "losses",
        "metrics",
        "pipeline",
        "quantize",
        "release",
        "report",
        "results",
        "students",
        "study",
        "teachers",
    ],
    submod_attrs={"distillation": ["Distiller"]},
)
__all__ += ["__version__"]
