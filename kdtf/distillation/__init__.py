"""Training a student on labels and a teacher.

Distiller          a keras.Model that trains a student
FeatureLoss        a term between a layer of the teacher and one of the student
feature_extractor  a model that also gives the outputs of some of its layers
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "distiller": ["Distiller"],
        "features": ["FeatureLoss", "feature_extractor"],
    },
)
