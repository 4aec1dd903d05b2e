"""A teacher's logits in few bytes: the largest k as float16, and what the others sum up to.

Of a view's logits z over C classes are kept: the largest, M, as float16; the k largest as float16
differences z_i - M with their class numbers; and R = log(sum of exp(z_j - M) over the rest) as
float16. Where that takes no fewer bytes than all C differences, these are kept instead.

**Exact at T = 1.** Softmax over the k classes and one bucket for all others follows from what is
kept: exp(z_i - M) against exp(R), to float16 accuracy (a relative error of at most 2**-11 in each
difference and in R).

**At other temperatures** the rest's sum of exp(z_j / T) is not known. `decode` spreads the rest
evenly, log((C - k)) below R for each class, which is exact at T = 1 and the largest sum that R
allows at T > 1 (the smallest at T < 1): the function x**(1/T) is concave (convex). The least
even spread that the order of logits allows puts the rest on as few classes as possible, each at
the smallest kept logit. The truth lies between the two; `tail_bounds` gives both from what is
stored. Ratios between kept classes are exact at every T: all their probabilities err by the same
factor. So the total variation distance between true and decoded probabilities, over the kept
classes and the bucket, is the difference of the bucket's two masses, at most that of the bounds.

With all classes kept, every T is exact to float16 accuracy.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Encoded(NamedTuple):
    """What is kept of logits [..., C].

    Attributes:
      largest: float16 [...], M.
      logits: float16 [..., k] in falling order, or [..., C] in class order; minus M.
      classes: uint8 or uint16 [..., k], or None where all classes are kept.
      rest: float16 [...], R, or None where all classes are kept.
    """

    largest: np.ndarray
    logits: np.ndarray
    classes: np.ndarray | None = None
    rest: np.ndarray | None = None


def class_dtype(classes):
    """np.uint8 or np.uint16: the smallest that numbers so many classes.

    Raises:
      ValueError: more than 65,536 classes, or fewer than 2.
    """
    if not 2 <= classes <= 2**16:
        raise ValueError(f"logits of 2 to {2**16:,} classes can be stored, got {classes:,}")
    return np.min_scalar_type(classes - 1).type


def kept(classes, top_k):
    """How many logits are kept: `top_k`, or all `classes` where that takes no more bytes.

    Raises:
      ValueError: top_k < 1, or a number of classes that cannot be stored.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k!r}")
    bytes_of_top_k = top_k * (2 + class_dtype(classes)().nbytes) + 2
    return top_k if top_k < classes and bytes_of_top_k < 2 * classes else classes


def encode(logits, k):
    """Keeps k logits of every row; ties go to the lower class number.

    Args:
      logits: float [..., C]; a class that is ruled out may be -inf.
      k: 1 to C; with C all are kept, in class order.

    Returns:
      An `Encoded` of NumPy arrays.

    Raises:
      ValueError: NaN, +inf, no finite logit in a row, or one beyond float16's 65,504.
    """
    logits = np.asarray(logits, np.float64)
    classes = logits.shape[-1]
    if not 1 <= k <= classes:
        raise ValueError(f"k must be from 1 to {classes}, the number of classes, got {k!r}")
    largest = logits.max(-1, keepdims=True)
    if not np.all(np.abs(largest) <= np.finfo(np.float16).max):  # NaN too
        raise ValueError(
            f"a largest logit is {largest[~(np.abs(largest) <= 65504)][0]}: logits must be numbers "
            "within float16's range, -65504 to 65504"
        )
    logits = np.maximum(logits - largest, np.where(np.isinf(logits), -np.inf, -65504.0))
    largest = largest[..., 0].astype(np.float16)
    if k == classes:
        return Encoded(largest, logits.astype(np.float16))
    order = np.argsort(-logits, axis=-1, kind="stable")
    ranked = np.take_along_axis(logits, order, -1)
    with np.errstate(divide="ignore"):
        rest = np.log(np.exp(ranked[..., k:]).sum(-1))
    return Encoded(
        largest,
        ranked[..., :k].astype(np.float16),
        order[..., :k].astype(class_dtype(classes)),
        np.where(np.isinf(rest), -np.inf, np.maximum(rest, -65504.0)).astype(np.float16),
    )


def decode(encoded, classes):
    """Logits of all classes, those not kept sharing evenly what they sum up to.

    Args:
      encoded: `Encoded` of tensors or arrays with leading axes [...].
      classes: C.

    Returns:
      float32 tensor [..., C].
    """
    largest = tf.cast(encoded.largest, tf.float32)[..., tf.newaxis]
    kept_logits = tf.cast(encoded.logits, tf.float32)
    if encoded.classes is None:
        return largest + kept_logits
    k = encoded.logits.shape[-1]
    rest = tf.cast(encoded.rest, tf.float32) - np.float32(np.log(classes - k))
    rows = tf.reshape(rest, [-1, 1])
    dense = tf.repeat(rows, classes, axis=1)
    row_numbers = tf.repeat(tf.range(tf.shape(rows)[0])[:, tf.newaxis], k, axis=1)
    numbers = tf.reshape(tf.cast(encoded.classes, tf.int32), [-1, k])
    where = tf.stack([row_numbers, numbers], axis=-1)
    dense = tf.tensor_scatter_nd_update(dense, where, tf.reshape(kept_logits, [-1, k]))
    shape = tf.concat([tf.shape(kept_logits)[:-1], [classes]], axis=0)
    return largest + tf.ensure_shape(tf.reshape(dense, shape), [*kept_logits.shape[:-1], classes])


def tail_bounds(encoded, classes, temperature):
    """Between which the rest's probability at a temperature lies, as far as is stored.

    Args:
      encoded: `Encoded` of arrays [...], with a rest.
      classes: C.
      temperature: T > 0.

    Returns:
      (decoded, other): float64 [...] each, the probability of all classes that are not kept, as
      `decode` spreads them, and with the least even spread, float16's rounding included. At T = 1
      they are equal but for that.
    """
    kept_logits = encoded.logits.astype(np.float64)
    rest = encoded.rest.astype(np.float64)
    others = classes - kept_logits.shape[-1]
    kept_sum = np.exp(kept_logits / temperature).sum(-1)
    even = np.exp(np.log(others) + (rest - np.log(others)) / temperature)
    # n classes at the smallest kept logit, one with what remains.
    smallest = np.maximum(kept_logits[..., -1], -65504.0)  # for -inf, were it ruled out
    # What was rounded may have been so much smaller (larger), and a class fewer (more) full.
    rounding = 2.0**-11 * (np.abs(np.maximum(rest, -65504.0)) + np.abs(smallest))
    rest = rest - rounding if temperature > 1 else rest + rounding
    full = np.minimum(np.floor(np.exp(rest - smallest)), others)
    remainder = np.maximum(np.exp(rest) - full * np.exp(smallest), 0.0)
    uneven = full * np.exp(smallest / temperature) + remainder ** (1 / temperature)
    return even / (even + kept_sum), uneven / (uneven + kept_sum)


def tempered_error(logits, k, temperature):
    """Total variation distance between a teacher's tempered probabilities and what is decoded.

    Args:
      logits: float [..., C].
      k: how many are kept.
      temperature: T > 0.

    Returns:
      (kept, all): float64 [...] each: over the k classes and one bucket for the rest, which
      `tail_bounds` bounds; and over all C classes, the rest's even spread included.
    """
    logits = np.asarray(logits, np.float64)
    encoded = encode(logits, k)
    decoded = decode(encoded, logits.shape[-1]).numpy().astype(np.float64)
    true_probs, probs = _softmax(logits / temperature), _softmax(decoded / temperature)
    gaps = np.abs(true_probs - probs)
    if encoded.classes is None:
        return gaps.sum(-1) / 2, gaps.sum(-1) / 2
    numbers = encoded.classes.astype(np.int64)
    of_kept = np.take_along_axis(gaps, numbers, -1).sum(-1)
    masses = [np.take_along_axis(p, numbers, -1).sum(-1) for p in (true_probs, probs)]
    return (of_kept + np.abs(masses[0] - masses[1])) / 2, gaps.sum(-1) / 2


def _softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
