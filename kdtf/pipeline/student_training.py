"""How students are trained: Distillers with optimizer, schedule and loss, for both Kerases."""

import keras
import tensorflow as tf
import tf_keras

import kdtf
from kdtf import losses, quantize
from kdtf.pipeline import teacher_training


def distiller(student, config, steps, *, distilled, teacher=None):
    """A compiled `kdtf.Distiller` of a float student.

    Args:
      student: Keras 3 model.
      config: `settings.Config`.
      steps: of an epoch.
      distilled: whether a teacher is heard, or labels alone.
      teacher: asked in every step; None: its logits come with the batch.
    """
    built = kdtf.Distiller(student, **_soft_targets(config, distilled, teacher))
    schedule = teacher_training.cosine_schedule(config.learning_rate, steps, config.epochs)
    built.compile(
        keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay),
        losses.label_cross_entropy,
        metrics=[_accuracy(keras)],
    )
    return built


def int8_distiller(model, config, steps, *, distilled, teacher=None):
    """A compiled `quantize.Distiller` of a quantization-aware student; arguments as above."""
    built = quantize.QATDistiller(model, **_soft_targets(config, distilled, teacher))
    # Labels that are all but learnt by heart give Adam noise to follow; a teacher does not.
    rate = config.qat_learning_rate if distilled else config.qat_label_learning_rate
    total = steps * config.qat_epochs
    warmup = min(steps, total // 2)  # Adam's first steps would undo the calibration
    schedule = tf_keras.optimizers.schedules.CosineDecay(
        0.0, total - warmup, warmup_target=rate, warmup_steps=warmup
    )
    built.compile(
        tf_keras.optimizers.Adam(schedule),
        losses.label_cross_entropy,
        metrics=[_accuracy(tf_keras)],
    )
    return built


def train_or_keep_calibrated(distiller, validation, fit):
    """Trains an 8-bit student, and takes it back where calibration alone was better.

    Args:
      distiller: what `int8_distiller` gave, its student calibrated.
      validation: batches; the loss on their labels decides.
      fit: function that trains the distiller and returns its history {name: values by epoch}.

    Returns:
      {"history", "calibrated_val_loss", "kept": "trained" or "calibrated"}.
    """
    model = distiller.student
    calibrated = model.get_weights()
    before = distiller.evaluate(validation, verbose=0, return_dict=True)["label_loss"]
    history = fit()
    after = history["val_label_loss"][-1]
    kept = "trained" if after <= before else "calibrated"
    if kept == "calibrated":
        model.set_weights(calibrated)
    print(f"validation loss {before:.3f} calibrated, {after:.3f} trained: {kept} student kept")
    return {"history": history, "calibrated_val_loss": before, "kept": kept}


def _accuracy(keras):
    """The metric "accuracy" of the photos with a label, of either Keras."""

    class Accuracy(keras.metrics.SparseCategoricalAccuracy):
        def update_state(self, labels, logits, sample_weight=None):
            labelled = tf.cast(tf.reshape(labels, [-1]) >= 0, tf.float32)
            return super().update_state(labels, logits, labelled)

    return Accuracy(name="accuracy")


def _soft_targets(config, distilled, teacher):
    alpha = config.alpha if distilled else 0.0
    return {"teacher": teacher, "alpha": alpha, "temperature": config.temperature}
