"""Models that end in probabilities where logits are needed."""

# What may stand between the layer that makes the logits and the model's output.
_PASS_THROUGH = {"Activation", "Cast", "Dropout", "Flatten", "Identity", "Reshape"}


_PROBABILITIES = {"softmax", "sigmoid"}


def refuse_probabilities(model, role):
    """Raises a ValueError if a Keras model ends in a softmax or sigmoid.

    Looks at the last layer of a functional or Sequential model (Keras 3 or tf_keras), through
    nested models and layers that only pass values on; of a subclassed model, at the layer it
    created last. Any other callable cannot be looked into.
    """
    last = _last_layer(model)
    name = getattr(getattr(last, "activation", None), "__name__", "")
    kind = type(last).__name__
    if kind == "TFOpLambda":
        kind = last.symbol.rpartition(".")[-1]
    found = _PROBABILITIES & {name, kind.lower()}
    if found:
        raise ValueError(
            f"{role} {model.name!r} ends in a {found.pop()} (layer {last.name!r}), but logits are "
            "needed: the loss would take the softmax of a softmax. Build the last layer with "
            "activation=None; the weights can stay"
        )


def _last_layer(model):
    if not getattr(model, "outputs", None):
        layers = getattr(model, "layers", None) or [None]
        # Without a graph the order of creation is all there is; gates are often sigmoids.
        activation = getattr(getattr(layers[-1], "activation", None), "__name__", "")
        return layers[-1] if activation != "sigmoid" else None
    layer = _maker(model.outputs[0])
    while getattr(layer, "outputs", None) or _passes_on(layer):
        layer = _maker(layer.outputs[0] if getattr(layer, "outputs", None) else layer.input)
    return layer


def _maker(tensor):
    history = tensor._keras_history
    return getattr(history, "operation", None) or history.layer


def _passes_on(layer):
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    return type(layer).__name__ in _PASS_THROUGH and activation == "linear"
