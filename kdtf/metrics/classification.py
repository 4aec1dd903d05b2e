"""Measures of a classifier: NumPy in, plain numbers out.

Every function takes whole-split arrays. Scores and shares are fractions in [0, 1], losses are
in nats. Nothing here imports TensorFlow, so results can be recomputed from stored logits.
"""

import math

import numpy as np
import scipy.special
import sklearn.metrics

from kdtf.metrics import calibration
from kdtf.metrics.bootstrap import BootstrapStatistics
from kdtf.metrics.class_groups import head_classes, mid_classes, tail_classes
from kdtf.metrics.intervals import proportion_interval
from kdtf.metrics.predictions import (
    check_range,
    check_same_photos,
    checked,
    log_losses,
    squared_errors,
)


def top_k_accuracy(logits, labels, k):
    """Share of examples whose label is among the k largest logits.

    Equal logits rank by class number, lowest first, as argmax does: k = 1 is exactly
    `argmax(logits) == labels`, and a model that gives every class the same logit earns nothing.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
      k: 1 to classes.

    Returns:
      float in [0, 1].
    """
    logits, labels = checked(logits, labels)
    classes = logits.shape[1]
    if not 1 <= k <= classes:
        raise ValueError(f"k must be 1 to {classes} (the number of classes), got {k!r}")
    return float(np.mean(label_ranks(logits, labels) < k))


def label_ranks(logits, labels):
    """Int [examples]: how many classes come before the label; ties by class number, as argmax."""
    logits, labels = checked(logits, labels)
    own = logits[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(logits.shape[1])[None, :] < labels[:, None]
    return np.sum((logits > own) | ((logits == own) & earlier), axis=1)


def macro_f1_score(predictions, labels, classes):
    """Unweighted mean of the F1 score of every class that occurs in the labels.

    A class that is only predicted, never present, lowers the precision of none but itself and is
    left out: on a test split that lacks some of the classes the mean would otherwise be pulled
    down by classes that no prediction could get right. Computed by scikit-learn.

    Args:
      predictions: int [examples], class numbers.
      labels: int [examples], class numbers.
      classes: how many classes there are; numbers outside 0..classes-1 are refused.

    Returns:
      float in [0, 1].
    """
    predictions, labels = _checked_predictions(predictions, labels, classes)
    return float(
        sklearn.metrics.f1_score(
            labels, predictions, labels=np.unique(labels), average="macro", zero_division=0
        )
    )


def negative_log_likelihood(logits, labels):
    """Mean of -log softmax(logits)[label], in nats.

    Args:
      logits: float [examples, classes].
      labels: int [examples].

    Returns:
      float, at least 0.
    """
    return float(log_losses(logits, labels).mean())


def brier_score_loss(logits, labels):
    """Mean squared distance of softmax(logits) from the label's one-hot row (Brier, 1950).

    Summed over the classes: 0 is perfect, 2 the worst.

    Args:
      logits: float [examples, classes].
      labels: int [examples].

    Returns:
      float in [0, 2].
    """
    return float(squared_errors(logits, labels).mean())


def per_class_recall(predictions, labels, classes):
    """Share of each class's photos that got their label.

    Args:
      predictions: int [examples], class numbers.
      labels: int [examples], class numbers.
      classes: how many classes there are.

    Returns:
      float64 [classes]; NaN for a class without photos.
    """
    predictions, labels = _checked_predictions(predictions, labels, classes)
    photos = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels[predictions == labels], minlength=classes)
    return np.where(photos > 0, hits / np.maximum(photos, 1), np.nan)


def worst_decile_recall(predictions, labels, classes):
    """Mean recall of the tenth of the classes with the lowest, at least one class.

    Classes without photos are left out. The classes are chosen on the photos they are measured on,
    so with few photos a class the number is lower than those classes would do on new photos.

    Args:
      predictions: int [examples], class numbers.
      labels: int [examples], class numbers.
      classes: how many classes there are.

    Returns:
      float in [0, 1].
    """
    recall = per_class_recall(predictions, labels, classes)
    lowest = np.sort(recall[~np.isnan(recall)])
    return float(lowest[: math.ceil(len(lowest) / 10)].mean())


def teacher_agreement(teacher_logits, student_logits):
    """How far a student answers as its teacher does (Stanton et al., 2021, arXiv:2106.05945).

    Args:
      teacher_logits: float [examples, classes].
      student_logits: float [examples, classes], the same photos in the same order.

    Returns:
      dict of top1_agreement (share of photos with the same first answer) and kl (mean
      KL(teacher || student) of the softmaxes, nats).
    """
    check_same_photos(teacher_logits=teacher_logits, student_logits=student_logits)
    teacher, first = checked(teacher_logits, np.argmax(teacher_logits, axis=-1))
    student, _ = checked(student_logits, first)
    p, q = (scipy.special.log_softmax(logits, axis=1) for logits in (teacher, student))
    return {
        "top1_agreement": float(np.mean(student.argmax(axis=1) == first)),
        "kl": float((np.exp(p) * (p - q)).sum(axis=1).mean()),
    }


def evaluate(logits, labels, train_counts, confidence=0.95):
    """All measures of one model on one split, ready for results.json.

    Shares of photos have Wilson's interval, macro-F1 and the losses the bootstrap's; classwise ECE
    and the worst decile have none, the latter because it is chosen on the photos it is measured on.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
      train_counts: int [classes], training photos of each class: they decide head, mid and tail.
      confidence: of the intervals, in (0, 1).

    Returns:
      dict of
        examples: int.
        top1, top5: float; top5 is 1.0 with fewer than five classes.
        head_top1, mid_top1, tail_top1: float, None where the split has no photo of such a class.
        macro_f1, worst_decile_recall: float.
        nll, brier: float, proper scoring losses.
        ece, ece_equal_mass, classwise_ece: float, 15 bins.
        intervals: {measure: [low, high]} of top1, top5, head_top1, mid_top1, tail_top1, macro_f1,
          nll, brier, ece and ece_equal_mass; a measure that is None has none.
        confidence: float.
        recall: list [classes] of float, None for a class without photos.
        reliability: list as `calibration.reliability_curve` returns it.
    """
    logits, labels = checked(logits, labels)
    classes = logits.shape[1]
    hits = correct_by_group(logits, labels, train_counts)
    predictions = logits.argmax(axis=1)
    intervals = BootstrapStatistics(logits, labels).intervals(confidence)
    values = {name: float(right.mean()) if len(right) else None for name, right in hits.items()}
    values |= {
        "macro_f1": macro_f1_score(predictions, labels, classes),
        "nll": negative_log_likelihood(logits, labels),
        "brier": brier_score_loss(logits, labels),
        "ece": calibration.expected_calibration_error(logits, labels),
        "ece_equal_mass": calibration.expected_calibration_error(logits, labels, equal_mass=True),
    }
    intervals |= {
        name: proportion_interval(right.sum(), len(right), confidence)
        for name, right in hits.items()
        if len(right)
    }
    recall = per_class_recall(predictions, labels, classes)
    return values | {
        "worst_decile_recall": worst_decile_recall(predictions, labels, classes),
        "classwise_ece": calibration.classwise_calibration_error(logits, labels),
        "examples": len(labels),
        "intervals": intervals,
        "confidence": confidence,
        "recall": [None if np.isnan(share) else float(share) for share in recall],
        "reliability": calibration.reliability_curve(logits, labels, confidence=confidence),
    }


def correct_by_group(logits, labels, train_counts):
    """Which photos each measure that is a share of photos counts as right.

    Args:
      logits: float [examples, classes].
      labels: int [examples].
      train_counts: int [classes], training photos of each class.

    Returns:
      dict of bool arrays: top1 and top5 [examples]; head_top1, mid_top1 and tail_top1, only the
      photos of those classes, in order.
    """
    logits, labels = checked(logits, labels)
    classes = logits.shape[1]
    if np.shape(train_counts) != (classes,):
        raise ValueError(
            f"train_counts has shape {np.shape(train_counts)}, the logits have {classes} classes: "
            "pass one count for each class"
        )
    right = logits.argmax(axis=1) == labels
    parts = {"head": head_classes, "mid": mid_classes, "tail": tail_classes}
    return {"top1": right, "top5": label_ranks(logits, labels) < 5} | {
        f"{part}_top1": right[np.isin(labels, chosen(train_counts))]
        for part, chosen in parts.items()
    }


def _checked_predictions(predictions, labels, classes):
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if predictions.shape != labels.shape or labels.ndim != 1 or not len(labels):
        raise ValueError(
            "predictions and labels must be two non-empty vectors of one length, got shapes "
            f"{predictions.shape} and {labels.shape}"
        )
    check_range("predictions", predictions, classes)
    check_range("labels", labels, classes)
    return predictions, labels
