"""What a model gets wrong after an epoch, as pictures (PNG bytes) and a table for TensorBoard.

Shapes: logits float [examples, classes], labels int [examples], names: list of str [classes].
"""

import re

import numpy as np
import scipy.special

from kdtf import formatting, metrics, plotting
from kdtf.metrics import calibration, displays
from kdtf.metrics.predictions import checked, log_losses, top_label

_SHOWN_CLASSES = 20
_TABLE_ROWS = 50
_COLUMNS = 4
_NAME_LENGTH = 20


def confusion_figure(logits, labels, names):
    """Confusion matrix; of more than 20 classes those in the most mistakes, and the others in one.

    Drawn by `metrics.draw_confusion`.
    """
    logits, labels = checked(logits, labels)
    counts, shown = confusion_counts(logits.argmax(axis=1), labels, len(names))
    rows = [names[number] for number in shown]
    heading = f"{len(labels):,} photos, {len(names)} classes"
    if len(shown) < len(names):
        rows.append("others")
        heading += f": the {len(shown)} in the most mistakes"
    return plotting.png(_draw_confusion, counts, rows, heading)


def confusion_counts(predictions, labels, classes, most=_SHOWN_CLASSES):
    """Photos by label (rows) and prediction (columns), of at most `most` classes and the rest.

    Args:
      predictions: int [examples].
      labels: int [examples].
      classes: how many classes there are.
      most: classes that keep a row and a column of their own.

    Returns:
      (int [shown, shown], or [shown + 1, shown + 1] where the last stands for all other classes;
      int [shown], class numbers in ascending order: those with the most mistakes, as label or as
      prediction, of equals the lower number).
    """
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    # Never a whole matrix: of ten thousand classes that is a gigabyte.
    shown, place, size = np.arange(classes), np.arange(classes), classes
    if classes > most:
        wrong = predictions != labels
        mistakes = sum(
            np.bincount(each[wrong], minlength=classes) for each in (labels, predictions)
        )
        shown = np.sort(np.argsort(-mistakes, kind="stable")[:most])
        place, size = np.full(classes, most), most + 1
        place[shown] = np.arange(most)
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, (place[labels], place[predictions]), 1)
    return counts, shown


def reliability_figure(logits, labels):
    """Accuracy against confidence in 15 bins, with 95 % intervals, and the share of photos each."""
    curve = calibration.reliability_curve(logits, labels)
    return plotting.png(displays.draw_reliability, curve, "distilled")


def hardest(logits, labels, count):
    """Int [count]: positions of the photos with the largest loss, the largest first."""
    return np.argsort(-log_losses(logits, labels), kind="stable")[:count]


def hardest_figure(images, logits, labels, names):
    """Photos with what they are, what they were taken for, and the probabilities of both.

    Args:
      images: uint8 [photos, height, width, 1 or 3], those of the logits' rows.
    """
    probs = scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
    captions = []
    for row, label in zip(probs, labels, strict=True):
        answer = row.argmax()
        captions.append(
            f"is {formatting.shortened(names[label], _NAME_LENGTH)}, {row[label]:.0%}\n"
            f"said {formatting.shortened(names[answer], _NAME_LENGTH)}, {row[answer]:.0%}"
        )
    return plotting.png(_draw_photos, images, captions)


def recall_table(logits, labels, names):
    """Markdown: recall of each class, the lowest first, and what its photos were taken for.

    At most 50 classes; the last line counts those left out.
    """
    logits, labels = checked(logits, labels)
    predictions = logits.argmax(axis=1)
    recall = metrics.per_class_recall(predictions, labels, len(names))
    photos = np.bincount(labels, minlength=len(names))
    present = np.flatnonzero(photos)
    order = present[np.argsort(recall[present], kind="stable")]
    lines = ["| class | recall | photos | most often taken for |", "|---|---|---|---|"]
    for number in order[:_TABLE_ROWS]:
        wrong = predictions[(labels == number) & (predictions != number)]
        taken = np.bincount(wrong, minlength=len(names))
        answer = f"{_literal(names[taken.argmax()])} ({taken.max()})" if len(wrong) else ""
        name = _literal(names[number])
        lines.append(f"| {name} | {recall[number]:.0%} | {photos[number]} | {answer} |")
    left = [f"{len(order) - _TABLE_ROWS} classes with a recall as high or higher"] * (
        len(order) > _TABLE_ROWS
    )
    left += [f"{len(names) - len(present)} classes without a photo here"] * (
        len(present) < len(names)
    )
    if left:
        lines += ["", "Left out: " + ", ".join(left) + "."]
    return "\n".join(lines)


def _literal(name):
    """A name that Markdown shows as it is, in one cell of a table."""
    return re.sub(r"[^\w\s.,;:()/+-]|_", lambda sign: f"&#{ord(sign[0])};", " ".join(name.split()))


def measures(logits, labels, classes):
    """{name: number} of macro_f1, worst_decile_recall, ece and nll; see `kdtf.metrics`."""
    predictions = np.argmax(logits, axis=1)
    confidence, right = top_label(logits, labels)
    return {
        "accuracy": float(right.mean()),
        "mean_confidence": float(confidence.mean()),
        "macro_f1": metrics.macro_f1_score(predictions, labels, classes),
        "worst_decile_recall": metrics.worst_decile_recall(predictions, labels, classes),
        "ece": calibration.expected_calibration_error(logits, labels),
        "nll": metrics.negative_log_likelihood(logits, labels),
    }


def _draw_confusion(figure, colours, counts, names, heading):
    displays.draw_confusion(figure, colours, counts, names)
    figure.axes[0].set_title(heading, fontsize=9)


def _draw_photos(figure, colours, images, captions):
    rows = -(-len(images) // _COLUMNS)
    figure.set_size_inches(1.75 * _COLUMNS, 2.15 * rows)
    places = figure.subplots(rows, _COLUMNS, squeeze=False).flat
    for axes in places:
        axes.set_axis_off()
    for axes, picture, caption in zip(figure.axes, images, captions, strict=False):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set_title(caption, fontsize=7)
