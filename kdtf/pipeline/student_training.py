"""How students are trained, in float and in 8 bits, and how a killed training goes on."""

import keras
import tensorflow as tf
import tf_keras

import kdtf
from kdtf import files, losses, quantize
from kdtf.callbacks import EpochCheckpoint, TensorBoardFigures
from kdtf.pipeline import history, schedules
from kdtf.pipeline.initial_student import describe_inputs, write_initial_student
from kdtf.results import DISTILLED

LOOKS = 5  # at a student's mistakes while it trains, about


def train_student(run, config, info, teacher, batches, student):
    """Trains and saves a float student, unless that is done; both start from the same weights.

    Args:
      run: `RunDirectory`.
      config: `DistillConfig`.
      info: `data.DatasetInfo`.
      teacher: `Teacher`.
      batches: `Batches`.
      student: `kdtf.results.Model`, a float one.
    """
    path = run.keras_model(student)
    if path.exists():
        return
    initial = write_initial_student(run, config, info)
    keras.utils.set_random_seed(config.seed)  # before loading: dropout draws its seed there
    network = keras.models.load_model(initial, compile=False)
    trained = distiller(
        network,
        config,
        batches.steps,
        distilled=student.role == DISTILLED.role,
        teacher=_online_teacher(teacher, config, student),
    )
    curves = fit(trained, run, student, batches, config.epochs)
    facts = {"history": history.to_json(curves), **describe_inputs(info, config)}
    files.write_json(run.training_facts(student), facts)
    with files.atomic_write(path) as partial:
        trained.save(partial)
    run.checkpoint(student).unlink()


def train_int8(run, config, teacher, batches, student, network):
    """Trains a calibrated student in 8 bits, its teacher still helping, and saves its weights.

    Args:
      run: `RunDirectory`.
      config: `DistillConfig`.
      teacher: `Teacher`.
      batches: `Batches`.
      student: `kdtf.results.Model`, an int8 one.
      network: what `RunModels.calibrated` returns; its weights change.
    """
    trained = int8_distiller(
        network,
        config,
        batches.steps,
        distilled=student.role == DISTILLED.role,
        teacher=_online_teacher(teacher, config, student),
    )
    freeze = quantize.BatchNormFreeze(config.qat_freeze_epoch)
    # Epochs go on counting where the float training ended: the next views follow.
    facts = train_or_keep_calibrated(
        trained,
        batches.validation(),
        lambda: fit(trained, run, student, batches, config.qat_epochs, config.epochs, [freeze]),
    )
    files.write_json(run.training_facts(student), facts)
    quantize.save_weights(network, run.int8_weights(student))
    run.checkpoint(student).unlink()


def fit(distiller, run, student, batches, epochs, epochs_before=0, callbacks=()):
    """Trains from where a killed run left off.

    Args:
      distiller: compiled.
      run: `RunDirectory`, for the checkpoint and TensorBoard.
      student: `kdtf.results.Model`.
      batches: `Batches`.
      epochs: of this training.
      epochs_before: of the training before, in views of which this one's follow.
      callbacks: more of them, list.

    Returns:
      {curve: values by epoch}, epochs of killed runs included.
    """
    checkpoint = EpochCheckpoint(run.checkpoint(student))
    first_epoch = checkpoint.restore(distiller)
    training = batches.training(student, epochs_before + first_epoch, epochs_before + epochs)
    validation = batches.validation()
    figures = TensorBoardFigures(
        run.tensorboard(student),
        validation,
        batches.classes,
        every=max(1, epochs // LOOKS),
        epochs_before=epochs_before,
    )
    if first_epoch < epochs:
        distiller.fit(
            training,
            epochs=epochs,
            initial_epoch=first_epoch,
            steps_per_epoch=batches.steps,
            validation_data=validation,
            callbacks=[figures, *callbacks, checkpoint],
            shuffle=False,
        )
    return checkpoint.history


def distiller(student, config, steps, *, distilled, teacher=None):
    """A compiled `kdtf.Distiller` of a float student.

    Args:
      student: Keras 3 model.
      config: `DistillConfig`.
      steps: of an epoch.
      distilled: whether it learns from a teacher, or from labels alone.
      teacher: asked in every step; None: its logits come with the batch.
    """
    built = kdtf.Distiller(student, **_soft_targets(config, distilled, teacher))
    schedule = schedules.cosine_schedule(config.learning_rate, steps, config.epochs)
    built.compile(
        keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay),
        losses.label_cross_entropy,
        metrics=[_accuracy(keras)],
    )
    return built


def int8_distiller(model, config, steps, *, distilled, teacher=None):
    """A compiled `quantize.QATDistiller` of a quantization-aware student; arguments as above."""
    built = quantize.QATDistiller(model, **_soft_targets(config, distilled, teacher))
    # Labels that are all but learnt by heart give Adam noise to follow; a teacher does not.
    rate = config.qat_learning_rate if distilled else config.qat_label_learning_rate
    # Without its warm-up, Adam's first steps would undo the calibration.
    schedule = schedules.cosine_schedule(rate, steps, config.qat_epochs, tf_keras.optimizers)
    built.compile(
        tf_keras.optimizers.Adam(schedule),
        losses.label_cross_entropy,
        metrics=[_accuracy(tf_keras)],
        weighted_metrics=[],  # else tf_keras warns that batches carry weights
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
    curves = fit()
    after = curves["val_label_loss"][-1]
    kept = "trained" if after <= before else "calibrated"
    if kept == "calibrated":
        model.set_weights(calibrated)
    print(f"validation loss {before:.3f} calibrated, {after:.3f} trained: {kept} student kept")
    return {
        "history": history.to_json(curves),
        "calibrated_val_loss": history.finite_or_none(before),
        "kept": kept,
    }


def _online_teacher(teacher, config, student):
    """What a Distiller asks in every step; None: cached logits come with the batch, or none."""
    if student.role != DISTILLED.role or not config.online_teacher:
        return None
    return teacher.for_distiller()


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
