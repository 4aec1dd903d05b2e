"""What ends a step of both Distillers, and that no weight has moved by then."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from both_kerases import BOTH, CLASSES, ROWS, compiled, examples, step
from small_models import in_new_process

from kdtf import losses
from kdtf.distillation.features import FeatureLoss

ENDED = (tf.errors.InvalidArgumentError, ValueError)
WAYS = pytest.mark.parametrize(
    "how", [{}, {"run_eagerly": True}, {"jit_compile": True}], ids=["graph", "eager", "xla"]
)
EAGER = {"run_eagerly": True}


def constant(row, count=None):
    """A teacher that gives every photo the same logits, for the third one `row`."""

    def teacher(x):
        rows = tf.shape(x)[0] if count is None else count
        logits = tf.tile([[0.0, 1.0, 2.0]], [rows, 1])
        return tf.where((tf.range(rows) == 2)[:, tf.newaxis], tf.constant([row]), logits)

    return teacher


def fails(made, match, *args, moved=False):
    before = [np.array(weight) for weight in made.student.get_weights()]
    with pytest.raises(ENDED, match=match):
        step(made, *args)
    if not moved:
        for old, new in zip(before, made.student.get_weights(), strict=True):
            np.testing.assert_array_equal(new, old)


@BOTH
@pytest.mark.parametrize(
    ("row", "how"),
    [
        ([np.nan, 0, 0], {}),
        ([np.nan, 0, 0], {"jit_compile": True}),
        ([np.nan, 0, 0], EAGER),
        ([0, np.inf, 0], EAGER),
        ([-np.inf] * 3, EAGER),
    ],
    ids=["graph", "xla", "eager", "inf", "none"],
)
def test_unusable_teacher_logits_end_the_step(k, how, row):
    made = compiled(k, constant(row), compiled=how)
    fails(made, "teacher logits hold NaN", moved="jit_compile" in how)
    with pytest.raises(ENDED, match="teacher logits hold NaN"):  # not only the first time
        made.fit(*examples(), verbose=0)


@BOTH
def test_the_message_counts_the_rows(k):
    fails(compiled(k, constant([np.nan] * 3), compiled=EAGER), r"first:'\n1\n8\n2$")


@BOTH
@pytest.mark.parametrize("how", [EAGER, {"jit_compile": True}], ids=["eager", "xla"])
def test_a_teacher_may_rule_classes_out(k, how):
    logs = step(compiled(k, constant([-np.inf, 1, 2]), compiled=how))
    assert np.isfinite(list(logs.values())).all()


@BOTH
def test_unusable_cached_logits_members_and_half_floats_end_the_step(k):
    x, y = examples()
    logits = np.zeros((ROWS, CLASSES), "float32")
    logits[5, 1] = np.nan
    fails(compiled(k, None), "hold NaN", {"image": x, "teacher_logits": logits})
    fails(compiled(k, lambda x: tf.constant(logits)[:, tf.newaxis]), "hold NaN")
    fails(compiled(k, lambda x: tf.cast(1e6 * tf.ones([ROWS, CLASSES]), tf.float16)), "hold NaN")
    # A teacher of weight 0 is not asked.
    step(compiled(k, lambda x: tf.constant(logits), alpha=0))


@BOTH
@pytest.mark.parametrize("how", [EAGER, {"jit_compile": True}], ids=["eager", "xla"])
def test_agreement_with_an_unusable_teacher_is_not_measured(k, how):
    made = compiled(k, constant([np.nan] * 3), alpha=0, log_agreement=True, compiled=how)
    with pytest.raises(ENDED, match="teacher logits hold NaN"):
        made.evaluate(*examples(), verbose=0)


@WAYS
def test_unusable_teacher_features_end_the_step(how):
    def teacher(x):
        return tf.zeros([ROWS, CLASSES]), {"hidden": tf.fill([ROWS, 5], np.float32(np.inf))}

    hint = FeatureLoss("hidden", "hidden", losses.hint_mse)
    made = compiled(keras, teacher, feature_losses=[hint], compiled=how)
    fails(made, "features of layer hidden hold NaN or infinity", moved="jit_compile" in how)


@BOTH
@pytest.mark.parametrize("how", [EAGER, {}], ids=["eager", "graph"])
def test_fewer_rows_than_photos_are_not_broadcast(k, how):
    made = compiled(k, constant([0.0, 1, 2], count=1), compiled=how)
    fails(made, "teacher logits must have one row for each photo")
    one = compiled(
        k, distillation_loss=lambda t, s, _: tf.reduce_mean(t - s)[tf.newaxis], compiled=how
    )
    fails(one, "distillation_loss must have one row for each photo")


def unknown(values, shape=None):
    """A teacher of whose output TensorFlow knows the given shape, or nothing."""

    def teacher(x):
        logits = tf.numpy_function(lambda batch: values, [x], tf.float32)
        logits.set_shape(shape)
        return logits

    return teacher


@BOTH
@pytest.mark.parametrize("shape", [None, [None, None], [None, CLASSES]])
def test_teachers_of_unknown_shape_train_as_others_do(k, shape):
    logits = np.random.default_rng(0).normal(size=(ROWS, CLASSES)).astype("float32")
    made, expected = compiled(k, unknown(logits, shape)), compiled(k, lambda x: tf.constant(logits))
    assert step(made) == pytest.approx(step(expected), rel=1e-6)
    for one, other in zip(made.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@BOTH
@pytest.mark.parametrize("shape", [(ROWS, 1), (ROWS, CLASSES + 1), (ROWS, 2, CLASSES), (CLASSES,)])
def test_teachers_of_unknown_and_wrong_shape_are_refused(k, shape):
    made = compiled(k, unknown(np.zeros(shape, "float32")), compiled={})
    fails(made, "shape_of_teacher_logits")


@BOTH
def test_columns_of_unknown_shape_train(k):
    x, y = examples()

    def unshaped(image, label):
        logits = tf.numpy_function(
            lambda x: np.zeros((len(x), CLASSES), "float32"), [image], "float32"
        )
        return {"image": image, "teacher_logits": logits}, label

    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4).map(unshaped)
    assert data.element_spec[0]["teacher_logits"].shape.rank is None
    history = compiled(k, None).fit(data, verbose=0).history
    assert np.isfinite(history["distillation_loss"]).all()


@BOTH
def test_shapes_that_are_known_to_be_wrong_are_refused_at_once(k):
    with pytest.raises(ValueError, match=r"\[batch, members, classes\]; got shape \(8,\)"):
        step(compiled(k, lambda x: tf.zeros([ROWS]), compiled=EAGER))
    with pytest.raises(ValueError, match="teacher has 4 classes, student has 3"):
        step(compiled(k, lambda x: tf.zeros([ROWS, 4]), compiled=EAGER))


@BOTH
def test_schedules_out_of_range_end_the_step(k):
    for value in (1.5, -0.5, float("nan")):
        made = compiled(k, alpha=lambda step, value=value: value)
        fails(made, "the alpha schedule must return a number from 0 to 1")
    for value in (0.0, -1.0, float("inf"), float("nan")):
        made = compiled(k, temperature=lambda step, value=value: value)
        fails(made, "the temperature schedule must return a number > 0")
    graph = compiled(k, alpha=lambda step: tf.cast(step, tf.float32) - 1, compiled={})
    fails(graph, "the alpha schedule must return a number from 0 to 1")


def test_one_bad_row_of_one_replica_ends_the_step():
    in_new_process("""
        import tensorflow as tf
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
        import keras, numpy as np
        import both_kerases as b
        nan = np.full((1, b.CLASSES), np.nan, "float32")
        for poisoned in (False, True):
            with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
                teacher = lambda x: tf.where(x[:, :1] > 90, nan, tf.zeros([1, b.CLASSES]))
                made = b.compiled(keras, teacher, compiled={})
                x, y = b.examples()
                if poisoned:
                    x[-1, 0] = 100
                try:
                    made.fit(x, y, verbose=0)
                    assert not poisoned
                except tf.errors.InvalidArgumentError as error:
                    assert poisoned and "hold NaN" in str(error), error
    """)
