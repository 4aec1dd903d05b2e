"""What whole-split logits say about each photo; what they and the labels must be.

NumPy only. Bad input is refused with both sides named.
"""

import numpy as np
import scipy.special


def top_label(logits, labels):
    """Probability of the predicted class, and whether it is the label.

    Args:
      logits: float [examples, classes].
      labels: int [examples].

    Returns:
      (confidence float64 [examples] in (0, 1], correct bool [examples]).
    """
    logits, labels = checked(logits, labels)
    confidence = np.exp(scipy.special.log_softmax(logits, axis=1).max(axis=1))
    return confidence, logits.argmax(axis=1) == labels


def log_losses(logits, labels):
    """Float64 [examples]: -log softmax(logits)[label] of each photo, in nats.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
    """
    logits, labels = checked(logits, labels)
    log_probs = scipy.special.log_softmax(logits, axis=1)
    return -log_probs[np.arange(len(labels)), labels]


def squared_errors(logits, labels):
    """Float64 [examples]: squared distance of softmax(logits) from the label's one-hot row, 0 to 2.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
    """
    logits, labels = checked(logits, labels)
    probs = scipy.special.softmax(logits, axis=1)
    probs[np.arange(len(labels)), labels] -= 1.0
    return (probs**2).sum(axis=1)


def checked(logits, labels):
    """Logits as float64 [examples, classes] and integer labels [examples], or ValueError."""
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if logits.ndim != 2 or labels.ndim != 1 or len(logits) != len(labels) or not logits.size:
        raise ValueError(
            "expected logits [examples, classes] and labels [examples] with at least one example, "
            f"got shapes {logits.shape} and {labels.shape}"
        )
    check_range("labels", labels, logits.shape[1])
    broken = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(broken):
        raise ValueError(
            f"{len(broken)} of {len(logits)} examples have logits that are not finite, the first "
            f"is example {broken[0]}: the model diverged or its file is broken"
        )
    check_no_probs(logits)
    return logits, labels


def check_no_probs(logits):
    """ValueError where every row adds up to 1: probabilities, whose softmax says something else.

    Rows of a single 1 among zeros pass: an answer, which argmax reads alike.

    Args:
      logits: float64 [examples, classes]; an 8-bit file's probabilities are rounded to 1/256.
    """
    classes = logits.shape[1]
    if classes < 2 or logits.min() < 0 or logits.max() > 1:
        return
    rounded = classes / 512
    if (np.abs(logits.sum(axis=1) - 1) > max(0.01, min(rounded, 0.1))).any():
        return
    if (logits.max(axis=1) == 1).all():
        return
    raise ValueError(
        f"expected logits, got probabilities: all {len(logits)} rows are in 0 to 1 and add up to "
        "1. Pass what comes before the softmax, or np.log(probabilities)"
    )


def check_same_photos(**logits):
    """ValueError unless two models' logits, given by name, have one shape."""
    (one, first), (other, second) = ((name, np.shape(each)) for name, each in logits.items())
    if first != second:
        raise ValueError(
            f"{one} have shape {first}, {other} {second}: pass the same photos and classes"
        )


def check_range(name, numbers, classes):
    """ValueError where class numbers are no integers in 0..classes-1; numbers is int [examples]."""
    if not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(f"{name} must be class numbers of an integer type, got {numbers.dtype}")
    if numbers.min() < 0 or numbers.max() >= classes:
        raise ValueError(
            f"{name} must be in 0..{classes - 1}, got {numbers.min()} to {numbers.max()}: model "
            "and data disagree about the classes"
        )
