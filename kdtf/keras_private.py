"""What kdtf needs of Keras 3, tf_keras, tfmot and TensorFlow that they keep to themselves.

Everything here touches a private attribute, and nothing elsewhere does: a new release that has
lost one fails in tests/test_keras_private.py, which names it. Both Kerases are served without
importing tf_keras: where the two differ, the attribute that is there tells which one it is.
"""

import sys

import keras
import tensorflow as tf

# Graphs of functional models.


def layer_of(tensor):
    """The layer (in Keras 3 the operation) that a symbolic tensor of a model is the output of."""
    history = tensor._keras_history
    return history.operation if hasattr(history, "operation") else history.layer


def calls_of(model):
    """Every call that the graph of a functional model consists of, inputs first.

    Args:
      model: a functional or built Sequential model of either Keras.

    Returns:
      list of (layer, list of the symbolic tensors it reads); of an input layer the list is empty.
      A layer that is called twice is listed twice.
    """
    graph = getattr(model, "_functional", model)  # where a Sequential of Keras 3 keeps its graph
    nodes = [node for _, row in sorted(graph._nodes_by_depth.items(), reverse=True) for node in row]
    return [
        (node.operation, list(node.input_tensors))
        if hasattr(node, "operation")
        else (node.layer, list(node.keras_inputs))
        for node in nodes
    ]


def all_layers(model):
    """Iterator over a model and its layers, those of nested models and wrappers too."""
    return model._flatten_layers()


# Layers that tfmot wrapped.


def output_quantizers(layer):
    """List of the quantizers of a layer's output; empty where nothing rounds it."""
    return getattr(layer, "_output_quantizers", [])


def output_quantizer_variables(layer):
    """{name: variable} of the first quantizer of a layer's output; empty where there is none."""
    return getattr(layer, "_output_quantizer_vars", None) or {}


def quantized_weights(layer):
    """List of (variable, quantizer, {name: variable of the quantizer}) of a wrapped layer."""
    return layer._weight_vars


# Optimizers.


def is_built(optimizer):
    """Whether an optimizer of either Keras has its variables."""
    # tf_keras sets the attribute when it makes them.
    return getattr(optimizer, "built", getattr(optimizer, "_built", False))


def learning_rate(optimizer):
    """Scalar tensor or variable: the learning rate of the step to come.

    The public property means the last step in tf_keras and the next one in Keras 3.
    """
    rate = getattr(optimizer, "_learning_rate", None)  # tf_keras.optimizers.legacy has none
    return rate(optimizer.iterations) if callable(rate) else optimizer.learning_rate


# How Keras 3 adds up and reports losses.


def compiled_loss(model):
    """The loss that a model was compiled with, as called by Keras; None if it has none."""
    return model._compile_loss


def additional_loss(model, loss):
    """One of a model's `losses` as Keras adds it to the compiled loss."""
    return model._aggregate_additional_loss(loss)


def loss_tracker(model):
    """The metric "loss" of a compiled model."""
    return model._loss_tracker


class DistributedModel(keras.Model):
    """keras.Model whose own train and test steps report to `fit` from all replicas and hosts."""

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras would add up a first batch over the replicas, and fail where their shares differ
        # in size or lie on several hosts. To build metrics and losses one replica's share will do.
        strategy = self.distribute_strategy
        if iterator is not None and strategy.num_replicas_in_sync > 1:
            _, _, batches = next(iter(iterator))
            data_batch = keras.tree.map_structure(
                lambda values: strategy.experimental_local_results(values)[0], next(batches)
            )
            iterator = None
        super()._maybe_symbolic_build(iterator=iterator, data_batch=data_batch)

    def _make_function(self, step_function):
        if not is_on_many_hosts(self.distribute_strategy):
            return super()._make_function(step_function)
        # There Keras takes the mean of every log over its first axis, which scalars lack, and the
        # hosts, which wait for each other every time. So all logs travel as one row.
        shapes = {}

        def one_row(data):
            logs = step_function(data)
            shapes.update({name: value.shape for name, value in logs.items()})
            flat = [tf.reshape(tf.cast(value, tf.float32), [-1]) for value in logs.values()]
            return tf.concat(flat, axis=0)[tf.newaxis]

        function = super()._make_function(one_row)

        def logs_by_name(iterator):
            row = function(iterator)
            parts = tf.split(row, [shape.num_elements() for shape in shapes.values()])
            named = zip(shapes.items(), parts, strict=True)
            return {name: tf.reshape(part, shape) for (name, shape), part in named}

        return logs_by_name

    def _flatten_metrics_in_order(self, logs):
        # What `evaluate` and the steps on one batch return as a list.
        return super()._flatten_metrics_in_order(self.listed_logs(logs))

    def listed_logs(self, logs):
        """Those of the logs that belong into the list of results which Keras returns by default."""
        return logs

    def _get_metrics_result_or_logs(self, logs):
        # The exact metrics over all replicas and steps, of those names that the steps reported.
        metrics = self.get_metrics_result()
        return {name: metrics.get(name, value) for name, value in logs.items()}


def is_on_many_hosts(strategy):
    """Whether a tf.distribute strategy spreads a training over several hosts."""
    many = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    return many and strategy.extended._in_multi_worker_mode()


class Callback(keras.callbacks.Callback):
    """keras.callbacks.Callback that `fit` of tf_keras takes too; it has no hooks for batches."""

    # tf_keras asks its callbacks for these, and callbacks of Keras 3 have no answer.

    def _implements_train_batch_hooks(self):
        return False

    _implements_test_batch_hooks = _implements_predict_batch_hooks = _implements_train_batch_hooks


# What a callback may know and do of the `fit` that it belongs to.

# What callbacks of either Keras remember from epoch to epoch; a subclass counts as its parent.
REMEMBERED = {
    "EarlyStopping": ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
    "ModelCheckpoint": ("best", "_batches_seen_since_last_saving"),
}


def callbacks_of_fit(callback):
    """Callbacks of the `fit` that is calling one's hook, in order; [it] where there is no `fit`.

    Neither Keras tells a callback of the others, but their list is who calls it.
    """
    frame = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if type(caller).__name__ == "CallbackList" and callback in caller.callbacks:
            return list(caller.callbacks)
        frame = frame.f_back
    return [callback]


def start_at(model, epoch):
    """Lets the `fit` that is calling `on_train_begin` start at an epoch; None takes that back."""
    if hasattr(model, "_initial_epoch"):
        model._initial_epoch = epoch
    else:  # tf_keras
        model._training_state = None if epoch is None else _Counters(epoch)


class _Counters:
    """What tf_keras asks where to start, in the place of its BackupAndRestore."""

    def __init__(self, epoch):
        self._epoch = epoch

    def maybe_load_initial_counters_from_ckpt(self, steps_per_epoch, initial_epoch, mode=None):
        return self._epoch, 0


def leaves_averages(callback):
    """Whether a callback leaves a model with averaged weights between two epochs.

    `SwapEMAWeights(swap_on_epoch=True)` does, and in the last epoch it forgets the others.
    """
    return getattr(callback, "swap_on_epoch", False) and hasattr(callback, "_ema_weights_in_model")
