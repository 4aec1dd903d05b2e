"""When to ask a person: answers below a confidence are not given.

Coverage is the share of photos that are answered, risk the share of wrong answers among them.
"""

import numpy as np

from kdtf.metrics.intervals import proportion_interval


def risk_coverage_curve(confidence, correct):
    """Risk at every coverage (El-Yaniv and Wiener, 2010; Geifman and El-Yaniv, arXiv:1705.08500).

    Photos of one confidence are answered together: no threshold tells them apart.

    Args:
      confidence: float [examples], probability of the predicted class.
      correct: bool [examples].

    Returns:
      dict of float64 arrays [distinct confidences], most confident first: threshold (answer where
      the confidence is at least this), coverage and risk.
    """
    confidence, correct = _checked(confidence, correct)
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    last = np.append(ordered[1:] != ordered[:-1], True)  # of the photos of one confidence
    answered = np.arange(1, len(order) + 1)
    wrong = np.cumsum(~correct[order])
    return {
        "threshold": ordered[last],
        "coverage": answered[last] / len(order),
        "risk": (wrong / answered)[last],
    }


def area_under_risk_coverage(confidence, correct):
    """AURC, the mean risk over all coverages (Geifman et al., 2019, arXiv:1805.08206).

    Lower is better; a model whose confidence says nothing has its error rate as AURC.

    Args:
      confidence: float [examples].
      correct: bool [examples].

    Returns:
      float in [0, 1]: the mean over k of the risk among the k most confident photos, where photos
      of one confidence count as in their mean order.
    """
    curve = risk_coverage_curve(confidence, correct)
    examples = len(np.asarray(correct))
    answered = np.rint(curve["coverage"] * examples)
    wrong = np.rint(curve["risk"] * answered)
    # Within photos of one confidence the wrong ones are spread evenly.
    every = np.arange(1, examples + 1)
    steady = np.interp(every, np.append(0, answered), np.append(0, wrong))
    return float(np.mean(steady / every))


def confidence_threshold(confidence, correct, accuracy):
    """Lowest threshold at which the answers given are right often enough.

    Chosen on validation photos; `answered` then tells what it is worth on test photos.

    Args:
      confidence: float [examples].
      correct: bool [examples].
      accuracy: smallest share of right answers among those given, in (0, 1].

    Returns:
      float, to be compared with >=; None where no threshold reaches the accuracy.
    """
    if not 0 < accuracy <= 1:
        raise ValueError(f"accuracy must be in (0, 1], got {accuracy!r}")
    curve = risk_coverage_curve(confidence, correct)
    enough = np.flatnonzero(1 - curve["risk"] >= accuracy - 1e-12)
    return float(curve["threshold"][enough[-1]]) if len(enough) else None


def answered(confidence, correct, threshold, interval_confidence=0.95):
    """What is left when photos below a threshold go to a person.

    Args:
      confidence: float [examples].
      correct: bool [examples].
      threshold: answers of at least this confidence are given.
      interval_confidence: of the interval, in (0, 1).

    Returns:
      dict of coverage (share of photos answered), accuracy of the answers given and its interval
      ([low, high], Wilson's), both None where none is given, and examples (photos answered).
    """
    confidence, correct = _checked(confidence, correct)
    given = correct[confidence >= threshold]
    return {
        "coverage": len(given) / len(correct),
        "accuracy": float(given.mean()) if len(given) else None,
        "interval": proportion_interval(given.sum(), len(given), interval_confidence),
        "examples": len(given),
    }


def _checked(confidence, correct):
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct)
    if confidence.shape != correct.shape or correct.ndim != 1 or not len(correct):
        raise ValueError(
            "confidence and correct must be two non-empty vectors over the same photos, got shapes "
            f"{confidence.shape} and {correct.shape}"
        )
    if correct.dtype != bool:
        raise ValueError(f"correct must be bool (prediction == label), got {correct.dtype}")
    if not np.isfinite(confidence).all():
        raise ValueError("confidence must be finite: the model diverged or its file is broken")
    return confidence, correct
