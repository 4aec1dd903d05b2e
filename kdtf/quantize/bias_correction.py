"""Biases moved so that rounding leaves every channel's mean where it was."""

import collections

import tensorflow as tf

from kdtf import model_inputs
from kdtf.quantize import fake_quant, folding


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
    followers = {layer.name: set() for layer in model.layers}
    unread = collections.Counter()
    for layer in model.layers:
        unread.update(folding.sources(layer))
        for name in folding.sources(layer):
            followers[name].add(type(folding.unwrapped(layer)))
    for layer in model.layers:
        if layer.name in exact:
            continue
        names = folding.sources(layer)
        wanted, exact[layer.name] = _called(layer, [exact[name] for name in names], "off")
        inputs = [rounded[name] for name in names]
        got, rounded[layer.name] = _called(layer, inputs, "on")
        bias = _bias(folding.unwrapped(layer))
        if bias is not None and fake_quant.FreezableBatchNormalization not in followers[layer.name]:
            bias.assign_add(tf.reduce_mean(wanted - got, list(range(wanted.shape.rank - 1))))
            _, rounded[layer.name] = _called(layer, inputs, "on")
        for name in names:
            unread[name] -= 1
            if not unread[name]:
                del exact[name], rounded[name]


def _called(layer, inputs, mode):
    """(what a layer gives before its output is rounded, and after)."""
    inner = folding.unwrapped(layer)
    inputs = inputs[0] if len(inputs) == 1 and type(inner).__name__ != "Concatenate" else inputs
    with fake_quant.quantization_mode(mode):
        after = layer(inputs, training=False)  # which also puts the kernel of this mode in place
        return inner.call(inputs), after


def _bias(layer):
    if isinstance(layer, fake_quant.FreezableBatchNormalization):
        return layer.beta
    return layer.bias if getattr(layer, "use_bias", False) else None
