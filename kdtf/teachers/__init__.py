"""Teachers: classifiers with a backbone, ensembles, and their logits on disk.

applications_backbone, keras_cv_backbone, saved_backbone, classifier
load, load_members, ensemble, members, fingerprint
image_size, columns, named_inputs  what a model must be fed
CachedLogits                       a teacher's logits for the views a student will see
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "models": [
            "BACKBONES",
            "applications_backbone",
            "classifier",
            "columns",
            "ensemble",
            "fingerprint",
            "image_size",
            "keras_cv_backbone",
            "load",
            "load_members",
            "members",
            "named_inputs",
            "saved_backbone",
            "set_batch_norm_momentum",
        ],
        "cached_logits": ["CachedLogits"],
    },
)
