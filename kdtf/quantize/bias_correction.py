"""Biases moved so that rounding leaves every channel's mean where it was."""

import collections

import tensorflow as tf
import tf_keras

from kdtf import layer_graph, model_inputs
from kdtf.quantize import fake_quant


def correct_biases(model, batch):
    """Bias correction of a quantization-aware model (Nagel et al., 2019, arXiv:1906.04721).

    Rounding shifts whole channels: inputs behind a ReLU have a large mean, which multiplies the
    errors of kernels, and ranges cut off tails. Layer by layer, in order, the mean over photos and
    positions of what rounding changed is taken off the bias (of the batch norm where there is one);
    the layers that follow see the corrected outputs. The model is changed: with rounding switched
    off it no longer equals the float student.

    Args:
      model: what `quantize.quantize_aware` gave, not yet trained.
      batch: tensor or dict of columns; 128 training photos in the views of evaluation will do.
        Layers' outputs are held only while they are still read.
    """
    fed = model_inputs.prepare_inputs(model, batch)
    fed = fed if isinstance(fed, dict) else {model.input_names[0]: fed}
    exact = {key.replace("/", "_"): value for key, value in fed.items()}
    rounded = dict(exact)
    nodes = layer_graph.nodes(model)
    unread = collections.Counter(source for node in nodes.values() for source in node.inputs)
    for name, node in nodes.items():
        if name in exact:
            continue
        expected, exact[name] = _called(node, [exact[source] for source in node.inputs], "off")
        inputs = [rounded[source] for source in node.inputs]
        actual, rounded[name] = _called(node, inputs, "on")
        bias = _bias(node.inner)
        if bias is not None and not _feeds_batch_norm(node, nodes):
            shift = tf.reduce_mean(expected - actual, list(range(expected.shape.rank - 1)))
            bias.assign_add(shift)
            _, rounded[name] = _called(node, inputs, "on")
        for source in node.inputs:
            unread[source] -= 1
            if not unread[source]:
                del exact[source], rounded[source]


def _feeds_batch_norm(node, nodes):
    return any(
        isinstance(nodes[name].inner, fake_quant.FreezableBatchNormalization)
        for name in node.consumers
    )


def _called(node, inputs, mode):
    """(what a layer gives before its output is rounded, and after)."""
    joins = isinstance(node.inner, tf_keras.layers.Concatenate)
    inputs = inputs if joins or len(inputs) > 1 else inputs[0]
    with fake_quant.quantization_mode(mode):
        # Calling the wrapper also puts the kernel of this mode in place.
        rounded = node.layer(inputs, training=False)
        return node.inner.call(inputs), rounded


def _bias(layer):
    if isinstance(layer, fake_quant.FreezableBatchNormalization):
        return layer.beta
    return layer.bias if getattr(layer, "use_bias", False) else None
