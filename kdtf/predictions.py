"""What whole-split logits and labels must be: checked once, and refused with both sides named."""

import numpy as np


def checked(logits, labels):
    """Logits as float64 [examples, classes] and integer labels [examples], or ValueError."""
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.ndim != 1 or len(logits) != len(labels) or not logits.size:
        raise ValueError(
            "expected logits [examples, classes] and labels [examples] with at least one example, "
            f"got shapes {logits.shape} and {labels.shape}")
    check_range("labels", labels, logits.shape[1])
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise ValueError(
            f"{len(broken)} of {len(logits)} examples have logits that are not finite, the first "
            f"is example {broken[0]}: the model diverged or its file is broken")
    return logits, labels


def check_range(name, numbers, classes):
    """ValueError where class numbers are no integers in 0..classes-1; numbers is int [examples]."""
    if not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"{name} must be class numbers of an integer type, got {numbers.dtype}")
    if numbers.min() < 0 or numbers.max() >= classes:
        raise ValueError(
            f"{name} must be in 0..{classes - 1}, got {numbers.min()} to {numbers.max()}: model "
            "and data disagree about the classes")
