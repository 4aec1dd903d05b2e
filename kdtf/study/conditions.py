"""What a study trains: conditions, jobs in a good order, and which labels a job may see."""

from dataclasses import asdict, dataclass, replace

import numpy as np

STUDENTS = ("baseline", "distilled")
# Values of each axis, the most telling first: a study that is stopped early has those.
AXES = {
    "label_fraction": (0.1, 0.25, 0.05, 0.5),
    "unlabelled": (0.1, 0.25, 0.05, 0.5),
    "label_noise": (0.4, 0.2, 0.1),
    "length": (1 / 3, 3.0),
    "width": (0.5, 2.0),
    "teacher": (),
}
_UNLABELLED = -1


@dataclass(frozen=True)
class Condition:
    """Under what a pair of students is trained.

    Attributes:
      label_fraction: fraction of the training photos whose labels may be used, in (0, 1].
      unlabelled: whether the other photos are added with the teacher's logits alone.
      label_noise: fraction of the labels replaced by a wrong one, in [0, 1].
      length: steps over those of the base.
      width: channel multiplier of the student.
      teacher: name of the teacher.
    """

    teacher: str
    label_fraction: float = 1.0
    unlabelled: bool = False
    label_noise: float = 0.0
    length: float = 1.0
    width: float = 1.0


@dataclass(frozen=True)
class Job:
    """One training: which student, under which condition, with which seed."""

    student: str
    condition: Condition
    seed: int

    @property
    def seen(self):
        """The condition as this student meets it: a baseline can't learn from unlabelled photos."""
        if self.student == "baseline":
            return replace(self.condition, unlabelled=False)
        return self.condition

    @property
    def name(self):
        """Of its file: settings that a baseline does not feel are not in it."""
        condition = asdict(self.seen)
        if self.student == "baseline":
            del condition["teacher"], condition["unlabelled"]
        parts = [f"{key}={_text(condition[key])}" for key in sorted(condition)]
        return "_".join([self.student, *parts, f"seed={self.seed}"])


@dataclass(frozen=True)
class Point:
    """A value of an axis and the condition it stands for."""

    axis: str
    value: float | str
    condition: Condition


def points(axes, teachers):
    """Every axis's `Point`s, the base among them, one point of each axis in turn.

    Args:
      axes: names, keys of `AXES`, the most important first.
      teachers: names of the teachers; the first is the base's, the others are points of "teacher".

    Raises:
      ValueError: an unknown axis, or "teacher" with a single teacher.
    """
    unknown = sorted(set(axes) - set(AXES))
    if unknown:
        raise ValueError(f"unknown axes {unknown}: choose of {', '.join(AXES)}")
    if "teacher" in axes and len(teachers) < 2:
        raise ValueError(
            f"the axis 'teacher' compares teachers, got only {teachers[0]!r}: give --teacher "
            "several files, or leave the axis out"
        )
    base = Condition(teachers[0])
    columns = []
    for axis in axes:
        if axis == "teacher":
            column = [Point(axis, name, Condition(name)) for name in teachers]
        elif axis == "unlabelled":
            column = [
                Point(axis, value, replace(base, label_fraction=value, unlabelled=True))
                for value in AXES[axis]
            ]
        else:
            standard = getattr(base, axis)
            column = [
                Point(axis, value, replace(base, **{axis: value}))
                for value in (standard, *AXES[axis])
            ]
        columns.append(column)
    longest = max(len(column) for column in columns)
    return [column[row] for row in range(longest) for column in columns if row < len(column)]


def jobs(planned, seeds):
    """Every `Job` that `Point`s need, once, in their order, the seeds of a point side by side."""
    by_name = {}
    for point in planned:
        for seed in seeds:
            for student in STUDENTS:
                job = Job(student, point.condition, seed)
                by_name.setdefault(job.name, job)
    return list(by_name.values())


def labelled_subset(labels, fraction, seed):
    """Which photos keep their label: the same fraction of each class, at least one photo of each.

    With one seed, a smaller fraction's photos are among a larger one's.

    Args:
      labels: int [examples].
      fraction: in (0, 1].
      seed: int.

    Returns:
      bool [examples].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1], got {fraction!r}")
    rng = np.random.default_rng([seed, 1])
    kept = np.zeros(len(labels), bool)
    for number in np.unique(labels):
        photos = rng.permutation(np.flatnonzero(labels == number))
        kept[photos[: max(1, round(fraction * len(photos)))]] = True
    return kept


def noisy_labels(labels, classes, noise, seed):
    """Labels of which a fraction, the same in each class, is replaced by any other class.

    Classes too small for the fraction lose one photo more or less, by lot. With one seed, the
    labels that a smaller fraction replaces are among those of a larger one, with the same wrong
    class.

    Args:
      labels: int [examples].
      classes: number of classes, at least 2.
      noise: in [0, 1].
      seed: int.

    Returns:
      int [examples].
    """
    if not 0 <= noise <= 1:
        raise ValueError(f"noise must be in [0, 1], got {noise!r}")
    rng = np.random.default_rng([seed, 2])
    wrong = (labels + rng.integers(1, classes, len(labels))) % classes
    noisy = np.array(labels)
    for number in np.unique(labels):
        photos = rng.permutation(np.flatnonzero(labels == number))
        replaced = photos[: int(noise * len(photos) + rng.uniform())]
        noisy[replaced] = wrong[replaced]
    return noisy


def visible_labels(labels, classes, condition, seed):
    """The labels that a student under a `Condition` learns from.

    Args:
      labels: int [examples], the true ones.
      classes: number of classes.
      condition: a `Condition`.
      seed: int.

    Returns:
      (labels int [examples], -1 where there is none; bool [examples], which photos are used).
    """
    noisy = noisy_labels(labels, classes, condition.label_noise, seed)
    kept = labelled_subset(labels, condition.label_fraction, seed)
    used = np.ones(len(labels), bool) if condition.unlabelled else kept
    return np.where(kept, noisy, _UNLABELLED), used


def schedule(used, views, steps, batch_size, seed):
    """Which photo and which of its views stand where in a training's batches.

    Every photo comes once before any comes again, each time in the next of its views.

    Args:
      used: bool [examples].
      views: number of views of each photo.
      steps: number of batches.
      batch_size: photos in a batch.
      seed: int.

    Returns:
      (photo int32 [steps, batch_size], view int32 [steps, batch_size]).
    """
    rng = np.random.default_rng([seed, 3])
    photos = np.flatnonzero(used)
    first = rng.integers(0, views, len(photos))
    places = steps * batch_size
    rounds = -(-places // len(photos))
    order = np.concatenate([rng.permutation(len(photos)) for _ in range(rounds)])[:places]
    passes = np.arange(places) // len(photos)
    view = (first[order] + passes) % views
    shape = (steps, batch_size)
    return np.int32(photos[order]).reshape(shape), np.int32(view).reshape(shape)


def _text(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
