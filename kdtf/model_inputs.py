"""What a model takes, and how a batch is made to fit it."""

import keras
import tensorflow as tf


def prepare_inputs(model, batch):
    """The inputs that a model declares, taken from a batch and made to fit.

    A dict is reduced to the model's own columns: Keras flattens dicts in the order of their keys,
    so that one key too many shifts the others. A model with a single tensor input takes the column
    of that input's name, else "image". Images (channels last) whose height and width differ
    from the declared ones are resized, bilinear and antialiased when they shrink; then everything
    is cast to its declared dtype (rounded on the way to integers).

    Args:
      model: a Keras 3 or tf_keras model; anything without declared inputs gets `batch` as it is.
      batch: a tensor, a list of tensors, or a dict of columns.

    Returns:
      What to call the model with.

    Raises:
      ValueError: a column that the model declares and the batch lacks.
    """
    declared = declared_inputs(model)
    if declared is None:
        return batch
    if isinstance(declared, dict):
        if not isinstance(batch, dict):
            return batch
        return {key: _fit(_column(model, batch, key), spec) for key, spec in declared.items()}
    if isinstance(batch, dict):
        if len(declared) == 1 and declared[0].name not in batch:
            batch = [_column(model, batch, "image")]
        else:
            batch = [_column(model, batch, spec.name) for spec in declared]
    elif not isinstance(batch, (list, tuple)):
        batch = [batch]
    fitted = [_fit(value, spec) for value, spec in zip(batch, declared, strict=True)]
    return fitted[0] if len(fitted) == 1 else fitted


def declared_inputs(model):
    """Dict or list of a model's symbolic input tensors; None for what declares none."""
    try:
        inputs = model.inputs
        struct = getattr(model, "input", None)
    except AttributeError:
        return None
    if isinstance(struct, dict):
        return dict(struct)
    if not isinstance(inputs, (list, tuple)) or not all(hasattr(i, "dtype") for i in inputs):
        return None
    return list(inputs) or None


def is_functional(model):
    """Whether a model is a keras.Model whose graph is known: functional or built Sequential."""
    return isinstance(model, keras.Model) and bool(getattr(model, "outputs", None))


def _column(model, batch, key):
    if key not in batch:
        raise ValueError(
            f"model {model.name!r} takes the input {key!r}, which the batch lacks; its columns are "
            f"{sorted(batch)}"
        )
    return batch[key]


def _fit(value, spec):
    value = tf.convert_to_tensor(value)
    dtype = tf.as_dtype(spec.dtype)
    size = tuple(spec.shape)[1:3]
    is_image = value.shape.rank == len(spec.shape) == 4 and value.shape[-1] == spec.shape[-1]
    if is_image and None not in size and tuple(value.shape[1:3]) != size:
        value = _resize(value, size)
    if value.dtype.is_floating and dtype.is_integer:
        return tf.saturate_cast(tf.round(value), dtype)
    return tf.cast(value, dtype) if value.dtype != dtype else value


def _resize(images, size):
    if None in tuple(images.shape[1:3]):
        return tf.image.resize(images, size, antialias=True)
    # The antialiasing op does not compile under XLA. It is linear and separable, so two small
    # matrices, made by the op itself, do the same.
    with tf.init_scope():
        rows, columns = (
            tf.image.resize(tf.eye(old)[:, None, :], (new, 1), antialias=True)[:, 0].numpy()
            for old, new in zip(images.shape[1:3], size, strict=True)
        )
    return tf.einsum("yh,bhwc,xw->byxc", rows, tf.cast(images, tf.float32), columns)
