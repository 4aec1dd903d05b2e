"""What a training step finds wrong with its batch while it runs, and how it says so."""

import tensorflow as tf

from kdtf.distillation import validation

_KINDS = 8  # of messages, at most


class StepChecks:
    """Conditions inside a step: one that fails ends the step before a weight moves.

    XLA drops assertions. There each failure is counted in a variable, which is read after every
    call of the compiled function: the weights have moved by then, but nobody trains on.

    Args:
      is_in_xla: function that says whether the step is being compiled by XLA.
    """

    def __init__(self, is_in_xla):
        self._is_in_xla = is_in_xla
        self._messages = []
        self._failures = None
        self._asserted = []

    def teacher_logits(self, teacher_logits, logits):
        """Teacher logits [batch, (members,) classes] of the student's classes, all usable.

        Those of unknown rank are no ensemble's. -inf rules a class out, but not all of them.
        """
        validation.check_teacher_logits(teacher_logits.shape, logits.shape)
        shape = [None] * ((teacher_logits.shape.rank or 2) - 1) + [logits.shape[-1]]
        teacher_logits = tf.ensure_shape(teacher_logits, shape, name="shape_of_teacher_logits")
        finite = tf.math.is_finite(teacher_logits)
        rows = tf.reduce_all(finite | (teacher_logits == -float("inf")), -1)
        rows &= tf.reduce_any(finite, -1)
        usable = (
            tf.reduce_all(rows),
            "teacher logits hold NaN, +inf, or -inf for every class, so the loss would be NaN: "
            "look at the weights of the teacher and at its input",
            "; unusable rows, of, the first:",
            tf.reduce_sum(tf.cast(~rows, tf.int32)),
            tf.size(rows),
            tf.argmin(tf.cast(tf.reshape(rows, [-1]), tf.int32)),
        )
        self._require(usable, _same_batch("teacher logits", teacher_logits, logits))
        return teacher_logits

    def teacher_features(self, name, features):
        """Takes features of a layer of the teacher, all finite."""
        self._require(
            (
                tf.reduce_all(tf.math.is_finite(features)),
                f"teacher features of layer {name} hold NaN or infinity, so the loss would be "
                "NaN: look at the weights of the teacher and at its input",
            ),
        )

    def per_example(self, name, values, logits):
        """Losses [batch], one for each row of the logits."""
        values = tf.convert_to_tensor(values)
        if values.shape.rank not in (None, 1):
            raise ValueError(
                f"{name} must return one loss per example, float [batch]; got shape "
                f"{tuple(values.shape)}: leave the mean over the batch to the Distiller"
            )
        values = tf.ensure_shape(values, [None], name="shape_of_losses")
        self._require(_same_batch(name, values, logits))
        return values

    def scalar(self, name, value, is_valid, range_text):
        """What a schedule returned, float32 [] in its range."""
        value = tf.cast(value, tf.float32)
        if value.shape.rank not in (None, 0):
            raise ValueError(
                f"{name} schedule must return a scalar, got shape {tuple(value.shape)}"
            )
        message = f"the {name} schedule must return a number {range_text}"
        self._require((is_valid(value), message, "; got", value))
        return value

    def one_label(self, labels, logits):
        """Takes labels, of which no row of [batch, classes] adds up to more than one class."""
        shape = tf.TensorShape(getattr(labels, "shape", []))
        if shape.rank != 2 or shape[-1] != logits.shape[-1]:
            return
        sums = tf.reduce_sum(tf.cast(labels, tf.float32), -1)
        message = (
            "labels of several classes for one photo, but the soft targets are a softmax over the "
            "classes: train with alpha=0, or pass a distillation_loss for each label by itself"
        )
        largest = tf.reduce_max(sums)
        self._require((~(largest > 1.01), message, "; largest sum:", largest))

    def watched(self, function):
        """A step function of Keras under XLA, that raises after a call in which a check failed.

        Raises:
          ValueError: by the function, with the message of the check.
        """
        if self._failures is None:
            self._failures = tf.Variable(
                tf.zeros([_KINDS], tf.int32),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )

        def watch(iterator):
            logs = function(iterator)
            counts = tf.convert_to_tensor(self._failures).numpy()
            if counts.any():
                self._failures.assign(tf.zeros_like(counts))
                failed = [
                    text for text, count in zip(self._messages, counts, strict=False) if count
                ]
                raise ValueError(
                    f"{'; '.join(failed)} (weights have moved: start again from the last saved "
                    "ones; with jit_compile=False the step ends before they do)"
                )
            return logs

        return watch

    def start(self):
        """Begins a step, or the tracing of one."""
        self._asserted = []

    def gated(self, value):
        """A tensor to be used only where all conditions of the step hold."""
        with tf.control_dependencies(self._asserted):
            return tf.identity(value)

    def _require(self, *conditions):
        """Takes conditions (bool [], message, *tensors) into the step."""
        for holds, message, *data in conditions:
            if self._is_in_xla():
                if message not in self._messages:
                    self._messages.append(message)
                kind = self._messages.index(message) % _KINDS
                failure = tf.one_hot(kind, _KINDS, dtype=tf.int32) * tf.cast(~holds, tf.int32)
                self._failures.assign_add(failure)
                continue
            assertion = tf.debugging.Assert(holds, [message, *data], 5)
            if assertion is not None:  # None in eager mode
                self._asserted.append(assertion)


def _same_batch(name, values, logits):
    """Condition: as many rows as the student's logits; a single one would be broadcast."""
    rows, expected = tf.shape(values)[0], tf.shape(logits)[0]
    message = f"{name} must have one row for each photo of the batch"
    return tf.equal(rows, expected), message, "; rows, photos:", rows, expected
