"""Losses of distillation: pure functions, one value per example, teacher first.

The Distiller weights and reduces them.

soft_target_kl             soft targets at a temperature (logits)
sigmoid_kl                 the same of labels by themselves, or of one logit
logit_mse                  logits as they are
dkd_loss                   the right class, and the others among themselves (decoupled)
dist_loss                  correlations instead of values (correlation)
standardized               any of these, of z-scores (standardization)
tempered_mean              an ensemble's logits as one teacher's
label_cross_entropy        labels, of which some may be missing (labels)
smoothed_cross_entropy     the same, smoothed: the control of every teacher
adjusted_cross_entropy     the same for a long tail (long_tail)
balanced_teacher           soft targets for a long tail
class_balanced_weights     weights of classes for a long tail
hint_mse                   features of a layer (features)
attention_loss             where a layer's features are strong
similarity_loss            which photos of a batch are alike (relations)
relational_distance_loss   distances between the photos of a batch
relational_angle_loss      angles between three photos of a batch
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "logits": ["logit_mse", "sigmoid_kl", "soft_target_kl", "tempered_mean"],
        "decoupled": ["dkd_loss"],
        "correlation": ["dist_loss"],
        "standardization": ["standardized"],
        "labels": ["label_cross_entropy", "smoothed_cross_entropy"],
        "long_tail": ["adjusted_cross_entropy", "balanced_teacher", "class_balanced_weights"],
        "features": ["attention_loss", "hint_mse"],
        "relations": ["relational_angle_loss", "relational_distance_loss", "similarity_loss"],
    },
)
