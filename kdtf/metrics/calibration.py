"""How far a classifier's probabilities are from the shares that come true, and one cure.

Every function takes whole-split arrays and imports no TensorFlow. A bin of equal width holds
confidences in (b / bins, (b + 1) / bins]; bins of equal mass hold the same number of photos, up to
photos of one confidence, which stay together.
"""

import math

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats

from kdtf.metrics.intervals import proportion_interval
from kdtf.metrics.predictions import checked, log_losses, top_label

BINS = 15
_COLDEST, _HOTTEST = 0.05, 20.0


def bin_numbers(confidence, bins=BINS, equal_mass=False):
    """Which bin each confidence belongs to.

    Args:
      confidence: float [examples] in [0, 1].
      bins: at least 1.
      equal_mass: bins of as many photos each instead of equal width.

    Returns:
      int [examples], 0 to bins - 1.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins!r}")
    if not equal_mass:
        return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    # The first photos of all bins but the first, sized as np.array_split sizes them.
    size, longer = divmod(len(confidence), bins)
    firsts = np.cumsum([size + 1] * longer + [size] * (bins - longer))[:-1]
    edges = np.sort(confidence)[firsts[firsts < len(confidence)]]
    return np.searchsorted(edges, confidence, side="right")


def expected_calibration_error(logits, labels, bins=BINS, equal_mass=False):
    """Mean gap between confidence and accuracy of the predicted class, weighted by bin size.

    Naeini et al. (2015, AAAI), Guo et al. (2017, arXiv:1706.04599); with bins of equal mass
    Nguyen and O'Connor (2015, arXiv:1508.05154), which does not leave most bins nearly empty.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
      bins: number of groups, at least 1.
      equal_mass: bins of as many photos each instead of equal width.

    Returns:
      float in [0, 1].
    """
    confidence, correct = top_label(logits, labels)
    group = bin_numbers(confidence, bins, equal_mass)
    gap = np.bincount(group, weights=correct - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(correct))


def classwise_calibration_error(logits, labels, bins=BINS):
    """Classwise ECE (Kull et al., 2019, arXiv:1910.12656), bins of equal width.

    The calibration error of each class's probability over all photos, averaged over the classes:
    it also sees probabilities of classes that were not predicted.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
      bins: number of groups, at least 1.

    Returns:
      float in [0, 1].
    """
    logits, labels = checked(logits, labels)
    examples, classes = logits.shape
    probs = scipy.special.softmax(logits, axis=1)
    group = bin_numbers(probs, bins) + bins * np.arange(classes)
    probs[np.arange(examples), labels] -= 1.0
    gap = np.bincount(group.ravel(), weights=probs.ravel(), minlength=bins * classes)
    return float(np.abs(gap).sum() / (examples * classes))


def reliability_curve(logits, labels, bins=BINS, equal_mass=False, confidence=0.95):
    """Accuracy against confidence of the predicted class (Niculescu-Mizil and Caruana, 2005).

    Args:
      logits: float [examples, classes].
      labels: int [examples].
      bins: number of groups, at least 1.
      equal_mass: bins of as many photos each instead of equal width.
      confidence: of the intervals, in (0, 1).

    Returns:
      list of dict, one for each bin with photos, least confident first: confidence (mean of its
      photos), accuracy, interval of the accuracy ([low, high]), examples.
    """
    stated, correct = top_label(logits, labels)
    group = bin_numbers(stated, bins, equal_mass)
    rows = []
    for number in np.unique(group):
        inside = group == number
        hits, examples = int(correct[inside].sum()), int(inside.sum())
        rows.append(
            {
                "confidence": float(stated[inside].mean()),
                "accuracy": hits / examples,
                "interval": proportion_interval(hits, examples, confidence),
                "examples": examples,
            }
        )
    return rows


def fit_temperature(logits, labels):
    """Temperature of least negative log likelihood (Guo et al., 2017, arXiv:1706.04599).

    Fitted on validation photos, never on test photos. Where every photo is right the likelihood
    grows without end as T falls, where logits say nothing as T rises: T stays in 0.05 to 20, and
    `shows_temperature` tells whether it means anything.

    Args:
      logits: float [examples, classes].
      labels: int [examples].

    Returns:
      float T; softmax(logits / T) is calibrated, and the order of the classes unchanged.
    """
    logits, labels = checked(logits, labels)
    logits = logits - logits.max(axis=1, keepdims=True)
    own = logits[np.arange(len(labels)), labels]

    def slope(log_t):  # of the loss along 1/T, in which it is convex
        probs = scipy.special.softmax(logits / math.exp(log_t), axis=1)
        return float(np.mean((probs * logits).sum(axis=1) - own))

    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    if slope(high) >= 0:
        return _HOTTEST
    if slope(low) <= 0:
        return _COLDEST
    return math.exp(scipy.optimize.brentq(slope, low, high, xtol=1e-12))


def shows_temperature(logits, labels, temperature):
    """Whether photos show their fitted temperature, rather than 1 or an end of 0.05 to 20.

    Each of the three must be less likely than the fitted one by a likelihood-ratio test at 95 %:
    forty photos that are all right would have any model be sure of itself without limit.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
      temperature: what `fit_temperature` gave for them.
    """
    logits, labels = checked(logits, labels)
    losses = [log_losses(logits / t, labels).sum() for t in (1.0, _COLDEST, _HOTTEST, temperature)]
    return bool(min(losses[:3]) - losses[3] > scipy.stats.chi2.ppf(0.95, 1) / 2)


def temperature_scaling(val_logits, val_labels, test_logits, test_labels):
    """Fits a temperature on validation photos and measures on test photos what it changes.

    Args:
      val_logits: float [validation examples, classes].
      val_labels: int [validation examples].
      test_logits: float [test examples, classes].
      test_labels: int [test examples].

    Returns:
      dict of temperature (1 where the validation photos do not show another, `shows_temperature`),
      ece_before, ece_after, nll_before, nll_after (test photos; nats), all float, val_examples
      (int) and calibrated (bool, whether they show one).
    """
    temperature = fit_temperature(val_logits, val_labels)
    calibrated = shows_temperature(val_logits, val_labels, temperature)
    temperature = temperature if calibrated else 1.0
    test_logits = np.asarray(test_logits, np.float64)
    measured = {"temperature": temperature}
    for when, logits in (("before", test_logits), ("after", test_logits / temperature)):
        measured[f"ece_{when}"] = expected_calibration_error(logits, test_labels)
        measured[f"nll_{when}"] = float(log_losses(logits, test_labels).mean())
    return measured | {"val_examples": len(val_labels), "calibrated": calibrated}


def is_calibrated(scaling):
    """Whether what `temperature_scaling` returned holds a temperature that photos have shown.

    Earlier versions did not ask, and gave an end of the range where there was none.
    """
    return scaling.get("calibrated", _COLDEST < scaling["temperature"] < _HOTTEST)
