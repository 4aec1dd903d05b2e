"""Teachers: classifiers with a backbone, ensembles, and their logits on disk.

applications_backbone (one of BACKBONES), keras_cv_backbone, saved_backbone, classifier
load, load_members, ensemble, members
fingerprint                        a hash of a model's weights
image_size, columns, named_inputs  what a model must be fed
set_batch_norm_momentum            of every batch norm in a model
cache_logits                       writes teachers' logits for the views that a student will see
CachedLogits                       opens them, for `data.training_batches(cached_logits=...)`
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
            "fingerprint",
            "image_size",
            "keras_cv_backbone",
            "named_inputs",
            "saved_backbone",
            "set_batch_norm_momentum",
        ],
        "ensembles": ["ensemble", "load", "load_members", "members"],
        "cached_logits": ["CachedLogits"],
        "logit_writer": ["cache_logits"],
    },
)
