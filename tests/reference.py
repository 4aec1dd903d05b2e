"""NumPy oracles, in float64, written from the papers and not from the code under test."""

import numpy as np
import scipy.special


def soft_target_kl(teacher_logits, student_logits, temperature):
    """T**2 KL(softmax(t/T) || softmax(s/T)), float64 [batch] (arXiv:1503.02531)."""
    teacher, student = (np.asarray(a, "float64") for a in (teacher_logits, student_logits))
    teacher_probs = scipy.special.softmax(teacher / temperature, axis=-1)
    student_probs = scipy.special.softmax(student / temperature, axis=-1)
    return temperature**2 * scipy.special.rel_entr(teacher_probs, student_probs).sum(axis=-1)


def soft_target_kl_gradient(teacher_logits, student_logits, temperature):
    """The gradient of `soft_target_kl` by the student's logits: T (q - p), float64."""
    teacher, student = (np.asarray(a, "float64") for a in (teacher_logits, student_logits))
    return temperature * (
        scipy.special.softmax(student / temperature, axis=-1)
        - scipy.special.softmax(teacher / temperature, axis=-1)
    )


def cross_entropy(labels, logits):
    """-log softmax(logits)[label], float64 [batch]."""
    log_probs = scipy.special.log_softmax(np.asarray(logits, "float64"), axis=-1)
    return -np.take_along_axis(log_probs, np.asarray(labels)[:, None], axis=-1)[:, 0]


def cross_entropy_gradient(labels, logits):
    """The gradient of `cross_entropy` by the logits: softmax - one-hot, float64."""
    probs = scipy.special.softmax(np.asarray(logits, "float64"), axis=-1)
    return probs - np.eye(probs.shape[-1])[np.asarray(labels)]


def hint_mse(teacher_features, student_features):
    """Mean squared difference over all axes but the first, float64 [batch] (arXiv:1412.6550)."""
    teacher, student = (np.asarray(a, "float64") for a in (teacher_features, student_features))
    return ((teacher - student) ** 2).reshape(len(teacher), -1).mean(axis=-1)


def weighted_mean(values, sample_weight=None):
    """Sum of weight * value over the batch, divided by the batch size (not by the weights)."""
    values = np.asarray(values, "float64")
    weight = np.ones_like(values) if sample_weight is None else np.asarray(sample_weight)
    return (weight * values).sum() / len(values)
