"""Knowledge distillation for Keras and TensorFlow: train small students on large teachers."""

__version__ = "0.1.0"
__all__ = ["Distiller", "__version__"]


def __getattr__(name):
    # Importing kdtf.metrics must not cost importing TensorFlow.
    if name == "Distiller":
        from kdtf.distiller import Distiller

        return Distiller
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
