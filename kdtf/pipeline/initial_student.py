"""What both students start from, and what a student must be fed."""

import keras

from kdtf import files, students
from kdtf.pipeline.batches import steps_per_epoch
from kdtf.students import warm_start


def describe_inputs(info, config):
    """What a student must be fed, and what its answers mean, as JSON holds it.

    Args:
      info: `data.DatasetInfo`.
      config: `DistillConfig`.

    Returns:
      {"classes": names in the order of the logits, "metadata": {column: words} or None,
      "image_size": pixels}.
    """
    return {
        "classes": info.classes,
        "metadata": info.metadata if _metadata(info, config) else None,
        "image_size": config.image_size,
    }


def write_initial_student(run, config, info):
    """Builds and saves the student that both start from, unless that is done.

    Args:
      run: `RunDirectory`.
      config: `DistillConfig`.
      info: `data.DatasetInfo`.

    Returns:
      path of the file.
    """
    path = run.initial_student
    if path.exists():
        return path
    keras.utils.set_random_seed(config.seed)
    student = students.mobilenet_v3_small(
        len(info.classes),
        config.image_size,
        metadata=_metadata(info, config),
        weights=None if config.warm_start else config.weights,
        bn_momentum=students.batch_norm_momentum(steps_per_epoch(info, config) * config.epochs),
    )
    if config.warm_start:
        metadata = describe_inputs(info, config)["metadata"]
        mapped = warm_start.load(student, config.warm_start, info.classes, metadata)
        print(f"both students start from {config.warm_start}: {mapped.summary()}")
    with files.atomic_write(path) as partial:
        student.save(partial)
    return path


def _metadata(info, config):
    return info.vocabulary_sizes() if config.student == "metadata" else None
