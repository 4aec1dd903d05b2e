"""What a model takes, and how a batch is made to fit it."""

import re

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
      model: a Keras 3 or tf_keras model, or a SavedModel's signature; anything without declared
        inputs gets `batch` as it is.
      batch: a tensor, a list of tensors, a dict of columns, or these nested as the model's inputs
        are. Sparse and ragged tensors stay what they are, if the model declares so.

    Returns:
      What to call the model with; for a signature a dict of its keywords.

    Raises:
      ValueError: a column that the model declares and the batch lacks; another nesting.
    """
    declared = declared_inputs(model)
    if declared is None:
        return batch
    if isinstance(declared, dict):
        if not isinstance(batch, dict):
            if not is_signature(model) or len(declared) > 1:
                return batch
            batch = dict.fromkeys(declared, batch)
        return _fit_structure(model, batch, declared)
    if isinstance(batch, dict):
        batch = _columns_of_list(model, batch, declared)
    elif not isinstance(batch, (list, tuple)):
        batch = [batch]
    fitted = _fit_structure(model, batch, declared)
    return fitted[0] if len(fitted) == 1 and _is_tensor(declared[0]) else fitted


def declared_inputs(model):
    """A model's symbolic input tensors; None for what declares none.

    Returns:
      A dict or list of them, nested as the model was built. Of a SavedModel's signature, which
      takes keywords only, the dict of its tf.TensorSpecs by keyword.
    """
    if is_signature(model):
        return dict(model.structured_input_signature[1])
    if hasattr(model, "structured_input_signature"):  # its `inputs` are its variables too
        return None
    try:
        inputs = model.inputs
        struct = getattr(model, "input", None)
    except AttributeError:
        return None
    if isinstance(struct, dict):
        return dict(struct)
    if not isinstance(inputs, (list, tuple)) or not all(hasattr(i, "dtype") for i in inputs):
        return None
    is_nested = isinstance(struct, (list, tuple)) and not all(map(_is_tensor, struct))
    return list(struct if is_nested else inputs) or None


def is_signature(model):
    """Whether a model is a function that takes its tensors by keyword only, as signatures do."""
    signature = getattr(model, "structured_input_signature", None)
    return bool(signature) and not signature[0] and bool(signature[1])


def is_functional(model):
    """Whether a model is a keras.Model whose graph is known: functional or built Sequential."""
    return isinstance(model, keras.Model) and bool(getattr(model, "outputs", None))


def _is_tensor(spec):
    return hasattr(spec, "dtype")


def _columns_of_list(model, batch, declared):
    if len(declared) == 1 and _is_tensor(declared[0]) and declared[0].name not in batch:
        return [_column(model, batch, "image")]
    return keras.tree.map_structure(lambda spec: _column(model, batch, spec.name), declared)


def _column(model, batch, key):
    if key not in batch and is_signature(model):  # whose names hold letters, digits and _ only
        batch = {re.sub(r"\W", "_", column): values for column, values in batch.items()}
    if key not in batch:
        raise ValueError(
            f"{_label(model)} takes the input {key!r}, which the batch lacks; its columns are "
            f"{sorted(batch)}"
        )
    return batch[key]


def _label(model):
    name = getattr(model, "name", None)
    if is_signature(model):
        return f"signature {name.decode() if isinstance(name, bytes) else name!r}"
    return f"model {name!r}"


def _fit_structure(model, batch, declared):
    """The tensors that a structure of specs names, each made to fit; dicts may hold more."""
    if _is_tensor(declared):
        return _fit(batch, declared)
    if isinstance(declared, dict) and isinstance(batch, dict):
        if is_signature(model) and len(declared) == 1 and not declared.keys() & batch.keys():
            (key,) = declared
            batch = {key: _column(model, batch, "image")}
        return {
            key: _fit_structure(model, _column(model, batch, key), spec)
            for key, spec in declared.items()
        }
    is_list = isinstance(declared, (list, tuple)) and isinstance(batch, (list, tuple))
    if not is_list or len(declared) != len(batch):
        raise ValueError(
            f"{_label(model)} takes the inputs {_outline(declared)}, the batch is "
            f"{_outline(batch)}: nest the batch as the model was built"
        )
    fitted = [_fit_structure(model, *pair) for pair in zip(batch, declared, strict=True)]
    return tuple(fitted) if isinstance(declared, tuple) else fitted


def _outline(structure):
    """A structure with the names of its keys only, for messages."""
    if isinstance(structure, dict):
        return "{" + ", ".join(f"{k!r}: {_outline(v)}" for k, v in structure.items()) + "}"
    if isinstance(structure, (list, tuple)):
        return "[" + ", ".join(map(_outline, structure)) + "]"
    return "a tensor"


def _fit(value, spec):
    if value is None:  # an optional input
        return None
    dtype = tf.as_dtype(spec.dtype)
    if isinstance(value, tf.SparseTensor) and not getattr(spec, "sparse", False):
        value = tf.sparse.to_dense(value)
    if isinstance(value, (tf.SparseTensor, tf.RaggedTensor)):
        return tf.cast(value, dtype) if value.dtype != dtype else value
    value = tf.convert_to_tensor(value)
    shape = spec.shape
    rank = shape.rank if isinstance(shape, tf.TensorShape) else len(shape)
    is_image = value.shape.rank == rank == 4 and value.shape[-1] == shape[-1]
    size = tuple(shape)[1:3] if is_image else ()
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
