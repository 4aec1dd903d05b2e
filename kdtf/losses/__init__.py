"""Losses of distillation: pure functions, one value per example, teacher first.

The Distiller weights and reduces them.

soft_target_kl       soft targets at a temperature (logits)
tempered_mean        an ensemble's logits as one teacher's (logits)
label_cross_entropy  labels, of which some may be missing (labels)
hint_mse             features of a layer (features)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "logits": ["soft_target_kl", "tempered_mean"],
        "labels": ["label_cross_entropy"],
        "features": ["hint_mse"],
    },
)
