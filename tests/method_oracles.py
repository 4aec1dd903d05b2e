"""NumPy oracles of the methods, in float64 and mostly loops, written from the papers' formulas."""

import itertools

import numpy as np
import scipy.special
from reference import soft_target_kl


def float64(*arrays):
    return [np.asarray(array, "float64") for array in arrays]


def sigmoid_kl(teacher, student, temperature):
    """T**2 times the mean over logits of KL(Bernoulli || Bernoulli)."""
    p, q = (scipy.special.expit(a / temperature) for a in float64(teacher, student))
    terms = scipy.special.rel_entr(p, q) + scipy.special.rel_entr(1 - p, 1 - q)
    return temperature**2 * terms.mean(-1)


def logit_mse(teacher, student):
    teacher, student = float64(teacher, student)
    return ((teacher - student) ** 2).mean(-1)


def dkd(teacher, student, temperature, labels, target, others):
    """Equations 5 to 7 of arXiv:2203.08679, photo by photo."""
    losses = []
    for t, s, label in zip(*float64(teacher, student), labels, strict=True):
        p, q = scipy.special.softmax(t / temperature), scipy.special.softmax(s / temperature)
        b_t, b_s = (np.array([each[label], 1 - each[label]]) for each in (p, q))
        hat_t, hat_s = (np.delete(each, label) / (1 - each[label]) for each in (p, q))
        tckd = (b_t * np.log(b_t / b_s)).sum()
        nckd = (hat_t * np.log(hat_t / hat_s)).sum()
        losses.append(temperature**2 * (target * tckd + others * nckd))
    return np.array(losses)


def dist(teacher, student, temperature, between, within):
    """Equations 6 to 10 of arXiv:2205.10536: Pearson distances of rows and of columns."""
    p, q = (scipy.special.softmax(a / temperature, -1) for a in float64(teacher, student))
    rows = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)]
    columns = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)]
    return temperature**2 * (between * np.array(rows) + within * np.mean(columns))


def standardized(logits):
    """Algorithm 1 of arXiv:2403.01427, without the temperature."""
    (logits,) = float64(logits)
    return (logits - logits.mean(-1, keepdims=True)) / logits.std(-1, keepdims=True)


def standardized_kl(teacher, student, temperature):
    return soft_target_kl(standardized(teacher), standardized(student), temperature)


def smoothed_cross_entropy(labels, logits, smoothing):
    (logits,) = float64(logits)
    classes = logits.shape[-1]
    target = (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes
    return -(target * scipy.special.log_softmax(logits, -1)).sum(-1)


def attention(teacher, student):
    """Section 3.1 of arXiv:1612.03928 with p = 2, the mean instead of the norm, equal sizes."""
    losses = []
    for t, s in zip(*float64(teacher, student), strict=True):
        maps = [(a**2).sum(-1).ravel() for a in (t, s)]
        maps = [a / np.linalg.norm(a) for a in maps]
        losses.append(((maps[0] - maps[1]) ** 2).mean())
    return np.array(losses)


def similarity(teacher, student):
    """Equations 1 to 4 of arXiv:1907.09682; a scalar."""
    matrices = []
    for features in float64(teacher, student):
        rows = features.reshape(len(features), -1)
        gram = rows @ rows.T
        matrices.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
    return ((matrices[0] - matrices[1]) ** 2).sum() / len(teacher) ** 2


def _smooth_l1(difference):
    size = abs(difference)
    return 0.5 * size**2 if size < 1 else size - 0.5


def relational_distance(teacher, student):
    """Equations 6 to 8 of arXiv:1904.05068, the mean over all pairs; a scalar."""
    count = len(teacher)
    matrices = []
    for features in float64(teacher, student):
        rows = features.reshape(count, -1)
        d = np.array([[np.linalg.norm(a - b) for b in rows] for a in rows])
        matrices.append(d / d[d > 0].mean())
    return sum(map(_smooth_l1, (matrices[0] - matrices[1]).ravel())) / count**2


def relational_angle(teacher, student):
    """Equations 9 and 10 of arXiv:1904.05068, the mean over all triplets; a scalar."""
    count = len(teacher)
    rows = [each.reshape(count, -1) for each in float64(teacher, student)]

    def cosine(rows, j, i, k):
        sides = rows[j] - rows[i], rows[k] - rows[i]
        lengths = [np.linalg.norm(side) for side in sides]
        return sides[0] @ sides[1] / np.prod(lengths) if all(lengths) else 0.0

    triplets = itertools.product(range(count), repeat=3)
    return sum(_smooth_l1(cosine(rows[0], *t) - cosine(rows[1], *t)) for t in triplets) / count**3


def adjusted_cross_entropy(labels, logits, counts, strength):
    """Equation 10 of arXiv:2007.07314: log(1 + sum over others of (pi'/pi)**tau exp(f' - f))."""
    (logits,) = float64(logits)
    prior = np.asarray(counts) / np.sum(counts)
    losses = []
    for row, label in zip(logits, labels, strict=True):
        ratios = (prior / prior[label]) ** strength * np.exp(row - row[label])
        losses.append(np.log(1 + np.delete(ratios, label).sum()))
    return np.array(losses)


def balanced_kl(teacher, student, temperature, counts, strength):
    """Soft targets reweighted by frequency**-strength and normalised."""
    p, q = (scipy.special.softmax(a / temperature, -1) for a in float64(teacher, student))
    p = p * np.asarray(counts, "float64") ** -strength
    p /= p.sum(-1, keepdims=True)
    return temperature**2 * scipy.special.rel_entr(p, q).sum(-1)


def numerical_gradient(function, values, step=1e-5):
    """Central differences of a float64 scalar function of an array."""
    values = np.asarray(values, "float64")
    gradient = np.zeros_like(values)
    for place in np.ndindex(values.shape):
        ends = []
        for sign in (1, -1):
            moved = values.copy()
            moved[place] += sign * step
            ends.append(function(moved))
        gradient[place] = (ends[0] - ends[1]) / (2 * step)
    return gradient
