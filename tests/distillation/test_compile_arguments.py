"""What `compile` of both Distillers takes and refuses."""

import functools

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
import tf_keras
from both_kerases import BOTH, CLASSES, compiled, distiller, examples, hard, other, step, student

from kdtf import losses

WEIGHTS = np.float32([0, 1, 2, 5, 1, 0, 3, 2])


def absolute(teacher_logits, student_logits, temperature):
    return tf.reduce_sum(tf.abs(teacher_logits - student_logits), axis=-1)


# Labels by themselves


@BOTH
@pytest.mark.parametrize(
    "loss",
    [
        lambda k: k.losses.BinaryCrossentropy(from_logits=True),
        lambda k: k.losses.BinaryFocalCrossentropy(from_logits=True),
        lambda k: functools.partial(k.losses.binary_crossentropy, from_logits=True),
        lambda k: [k.losses.BinaryCrossentropy(from_logits=True)],
        lambda k: {"logits": k.losses.BinaryCrossentropy(from_logits=True)},
        lambda k: tf.nn.sigmoid_cross_entropy_with_logits,
    ],
)
def test_binary_losses_are_refused_beside_a_softmax_over_the_classes(k, loss):
    soft = functools.partial(losses.soft_target_kl)
    for kwargs in ({}, {"alpha": lambda step: 0.5}, {"distillation_loss": soft}):
        with pytest.raises(ValueError, match="takes each label by itself .* with alpha="):
            compiled(k, loss=loss(k), **kwargs)


@BOTH
def test_binary_losses_serve_alone_and_beside_a_loss_of_ones_own(k):
    labels = np.eye(CLASSES, dtype="float32")[examples()[1]] + np.float32([0, 0, 1])
    loss = k.losses.BinaryCrossentropy(from_logits=True)
    alone = compiled(k, loss=loss, alpha=0)
    logits = np.asarray(alone.student(examples()[0]))
    want = np.mean(np.logaddexp(0, logits) - logits * labels)
    np.testing.assert_allclose(step(alone, y=labels)["loss"], want, rtol=1e-5)
    step(compiled(k, loss=loss, distillation_loss=absolute), y=labels)
    with pytest.raises(ValueError, match="takes each label by itself"):
        alone.alpha = 0.5
    assert alone.alpha == 0


@BOTH
@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"jit_compile": True}])
def test_labels_of_several_classes_are_refused_whatever_the_loss(k, how):
    def loss(labels, logits):
        return tf.reduce_mean((labels - logits) ** 2, axis=-1)

    labels = np.eye(CLASSES, dtype="float32")[examples()[1]]
    step(compiled(k, loss=loss, compiled=how), y=labels)
    labels[3, :2] = 1
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match="several classes"):
        step(compiled(k, loss=loss, compiled=how), y=labels)
    step(compiled(k, loss=loss, compiled=how, distillation_loss=absolute), y=labels)


# The other Keras


@BOTH
@pytest.mark.parametrize(
    "loss",
    [
        hard,
        lambda k: k.losses.SparseCategoricalCrossentropy(),
        lambda k: k.losses.MeanSquaredError(),
        lambda k: k.losses.MeanSquaredError,
        lambda k: k.losses.sparse_categorical_crossentropy,
        lambda k: functools.partial(k.losses.categorical_crossentropy, from_logits=True),
        lambda k: [hard(k)],
        lambda k: {"logits": hard(k)},
        lambda k: type("Mine", (k.losses.Loss,), {"call": lambda self, y, logits: logits[:, 0]})(),
    ],
)
def test_losses_of_the_other_keras_are_refused(k, loss):
    with pytest.raises(ValueError, match=f"^loss holds .*pass that of {k.__name__}$"):
        compiled(k, loss=loss(other(k)))


@BOTH
def test_metrics_and_optimizers_of_the_other_keras_are_refused(k):
    accuracy = other(k).metrics.SparseCategoricalAccuracy()
    for name in ("metrics", "weighted_metrics"):
        with pytest.raises(ValueError, match=f"{name} holds SparseCategoricalAccuracy of"):
            compiled(k, compiled={name: ["accuracy", accuracy]})
    with pytest.raises(ValueError, match="optimizer holds SGD of"):
        distiller(k).compile(other(k).optimizers.SGD(), hard(k))


@BOTH
def test_class_weights_count(k):
    (x, y), weights = examples(), np.float32([1, 2, 10])
    made = compiled(k)
    logits = np.asarray(made.student(x))
    per_example = reference.cross_entropy(y, logits)
    logs = step(made, class_weight=dict(enumerate(weights)))
    np.testing.assert_allclose(logs["label_loss"], np.mean(per_example * weights[y]), rtol=1e-5)


# Probabilities


@BOTH
@pytest.mark.parametrize(
    "loss",
    [
        lambda k: k.losses.SparseCategoricalCrossentropy(),
        lambda k: k.losses.CategoricalCrossentropy,
        lambda k: functools.partial(k.losses.categorical_crossentropy, label_smoothing=0.1),
        lambda k: {"logits": "sparse_categorical_crossentropy"},
        lambda k: k.losses.KLDivergence(),
        lambda k: "kl_divergence",
    ],
)
def test_the_advice_on_losses_of_probabilities_is_one_that_works(k, loss):
    advice = f"{k.__name__}.losses.SparseCategoricalCrossentropy(from_logits=True)"
    with pytest.raises(ValueError, match="expects probabilities") as refusal:
        compiled(k, loss=loss(k))
    assert str(refusal.value).endswith(f"pass {advice}")
    compiled(k, loss=eval(advice, {"keras": keras, "tf_keras": tf_keras}))
    with pytest.raises(ValueError, match="loss is None") as refusal:
        compiled(k, loss=None)
    assert advice in str(refusal.value)


@pytest.mark.parametrize("name", ["Dice", "Tversky", "CategoricalGeneralizedCrossEntropy"])
def test_losses_of_probabilities_without_the_argument_are_refused(name):
    with pytest.raises(ValueError, match="expects probabilities"):
        compiled(keras, loss=getattr(keras.losses, name)())


# By output name


@BOTH
@pytest.mark.parametrize("wrap", [lambda value: {"logits": value}, lambda value: [value]])
def test_what_is_given_by_output_is_the_only_outputs(k, wrap):
    (x, y), options = examples(), {"loss_weights": wrap(2.0)}
    metrics = {"metrics": ["accuracy"]}
    plain = compiled(k, compiled=metrics)
    made = compiled(k, loss=wrap(hard(k)), compiled=options | {"metrics": wrap(["accuracy"])})
    want = step(plain, x, y, WEIGHTS)
    got = step(made, x, wrap(y) if k is tf_keras else y, WEIGHTS)
    assert got["label_loss"] == pytest.approx(2 * want["label_loss"], rel=1e-6)
    assert got["distillation_loss"] == pytest.approx(want["distillation_loss"], rel=1e-6)
    assert got["accuracy"] == want["accuracy"]


@BOTH
def test_other_outputs_are_refused_by_name(k):
    for loss in ({"logit": hard(k)}, {"logits": hard(k), "features": "mse"}):
        with pytest.raises(ValueError, match="loss is given for the outputs .* is 'logits'"):
            compiled(k, loss=loss)
    with pytest.raises(ValueError, match="loss has 2 entries, but the student one output"):
        compiled(k, loss=[hard(k), "mse"])
    with pytest.raises(ValueError, match=r"metrics is given for the outputs \['head'\]"):
        compiled(k, compiled={"metrics": {"head": ["accuracy"]}})


# Lists of results


@BOTH
@pytest.mark.parametrize(
    "metrics", [{}, {"metrics": ["accuracy"]}, {"metrics": ["mse"], "weighted_metrics": ["mae"]}]
)
def test_lists_of_results_are_those_of_plain_keras(k, metrics):
    x, y = examples()
    y = np.eye(CLASSES, dtype="float32")[y]
    loss = k.losses.CategoricalCrossentropy(from_logits=True)
    made = compiled(k, loss=loss, rate=0.0, compiled=metrics, log_agreement=True)
    plain = student(k)
    plain.compile(k.optimizers.SGD(0.0), loss, **metrics)
    for call in ("evaluate", "test_on_batch"):
        kwargs = {"verbose": 0} if call == "evaluate" else {}
        want = getattr(plain, call)(x, y, sample_weight=WEIGHTS, **kwargs)
        got = getattr(made, call)(x, y, sample_weight=WEIGHTS, **kwargs)
        assert np.shape(got) == np.shape(want)
        np.testing.assert_allclose(got, want, rtol=1e-6)
    assert np.shape(made.train_on_batch(x, y)) == np.shape(plain.train_on_batch(x, y))
    everything = made.evaluate(x, y, verbose=0, return_dict=True)
    assert {"loss", "label_loss", "teacher_agreement"} <= set(everything)
