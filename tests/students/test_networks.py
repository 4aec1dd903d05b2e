import json
from functools import cache, partial

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdtf import students

REGIONS_AND_CAMERAS = {"region": 3, "camera": 2}


@pytest.fixture(params=["keras", "tf_keras"])
def any_keras(request):
    return pytest.importorskip(request.param)


@pytest.fixture
def mixed_float16(any_keras):
    any_keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    any_keras.mixed_precision.set_global_policy("float32")


def narrow(classes=5, **kwargs):
    return students.mobilenet_v3_small(classes, 32, width=0.25, **kwargs)


def images(size, batch=3, channels=3):
    """Coarse random patches: white noise would average out to the same features everywhere."""
    patches = np.random.default_rng(0).uniform(0, 255, (batch, 3, 3, channels))
    nearest = np.arange(size) * 3 // size
    return patches[:, nearest[:, None], nearest].astype("float32")


def metadata_batch(student_size=32):
    return {
        "image": images(student_size),
        "meta/region": np.array([0, 3, 1], "int32"),
        "meta/camera": np.array([2, 0, 1], "int32"),
    }


def random_weights(model, seed=0):
    """Weights of every kind far from their initial values; images still differ in the logits."""
    rng = np.random.default_rng(seed)

    def draw(weight):
        shape, name = tuple(weight.shape), weight.name
        if "variance" in name or "gamma" in name:
            return rng.uniform(0.5, 1.5, shape)
        if len(shape) == 4:
            fan_in = shape[0] * shape[1] * (1 if shape[3] == 1 else shape[2])
            return rng.normal(0, 1.4 * fan_in**-0.5, shape)
        return rng.normal(0, 0.3, shape)

    return [draw(weight).astype("float32") for weight in model.weights]


def image_layers(student):
    return [
        layer
        for layer in student.layers
        if layer.weights and not layer.name.startswith(("embedding_", "fusion_"))
    ]


# ---- the same network as keras.applications


@cache
def keras_application(width, size):
    """keras.applications' model with random weights, and its logits of `images(size)`."""
    model = keras.applications.MobileNetV3Small(
        (size, size, 3), alpha=width, weights=None, classes=7, classifier_activation=None
    )
    model.set_weights(random_weights(model))
    return model, np.asarray(model(images(size)))


@pytest.mark.parametrize("width, size", [(1.0, 64), (0.75, 33), (1.25, 32)])
def test_mobilenet_equals_keras_applications(any_keras, width, size):
    reference, want = keras_application(width, size)
    assert want.std(axis=0).min() > 0.05  # the images are told apart, so equality means something
    student = students.mobilenet_v3_small(7, size, width=width, keras=any_keras)
    assert len(student.weights) == 210
    assert student.count_params() == reference.count_params()
    assert [tuple(w.shape) for w in student.weights] == [w.shape for w in reference.weights]
    assert [layer.name for layer in student.layers if layer.weights] == [
        layer.name for layer in reference.layers if layer.weights
    ]
    student.set_weights(reference.get_weights())
    np.testing.assert_allclose(np.asarray(student(images(size))), want, atol=1e-4)


def test_real_weights_give_the_probabilities_of_keras_applications(weights_dir):
    path = weights_dir / "mobilenet_v3_small_imagenet.npz"
    student = students.mobilenet_v3_small(1000, weights=path)
    reference = keras.applications.MobileNetV3Small((224, 224, 3), weights=None)
    with np.load(path) as archive:
        reference.set_weights([archive[name] for name in archive.files])
    batch = images(224, batch=2)
    batch[1] = np.linspace(0, 255, 224)[:, None]
    want = np.asarray(reference(batch))
    assert want.max() > 0.05  # trained weights have an opinion; 1/1000 would be none
    np.testing.assert_allclose(keras.ops.softmax(student(batch)), want, atol=1e-4)


def test_hard_activations_are_the_papers(any_keras):
    student = narrow(keras=any_keras)
    x = np.array([[-4.0, -3.0, -1.0, 0.0, 1.0, 3.0, 4.0]], "float32")
    swish = student.get_layer("conv_hard_swish")(x)
    sigmoid = student.get_layer("expanded_conv_squeeze_excite_hard_sigmoid")(x)
    np.testing.assert_allclose(swish, [[0, 0, -1 / 3, 0, 2 / 3, 3, 4]], rtol=1e-6)
    np.testing.assert_allclose(sigmoid, [[0, 0, 1 / 3, 1 / 2, 2 / 3, 1, 1]], rtol=1e-6)


# ---- layers, names, options


@pytest.mark.parametrize(
    "build, batch",
    [
        (narrow, images(32)),
        (partial(narrow, metadata=REGIONS_AND_CAMERAS), metadata_batch()),
        (partial(students.tiny_cnn, 10), images(28, channels=1)),
        (students.cifar_cnn, images(32)),
    ],
    ids=["mobilenet", "mobilenet_metadata", "tiny", "cifar"],
)
def test_named_layers_only_and_the_same_arrays_in_both_kerases(build, batch):
    tf_keras = pytest.importorskip("tf_keras")
    student, twin = build(), build(keras=tf_keras)
    names = [layer.name for layer in student.layers]
    assert names == [layer.name for layer in build().layers]  # automatic names count up
    assert set(names) == {layer.name for layer in twin.layers}
    for model, library in (student, "keras"), (twin, "tf_keras"):
        for layer in model.layers:  # arithmetic on bare tensors would show up as one of these
            assert type(layer).__module__.split(".")[0] == library
            assert not type(layer).__name__.endswith(("Lambda", "Operation"))
    assert [layer.name for layer in student.layers if layer.weights] == [
        layer.name for layer in twin.layers if layer.weights
    ]
    assert [w.shape for w in student.weights] == [tuple(w.shape) for w in twin.weights]
    weights = random_weights(student)
    student.set_weights(weights)
    twin.set_weights(weights)
    np.testing.assert_allclose(np.asarray(student(batch)), np.asarray(twin(batch)), atol=1e-4)


def test_tf_keras_student_can_be_cloned():
    tf_keras = pytest.importorskip("tf_keras")
    student = narrow(keras=tf_keras)
    clone = tf_keras.models.clone_model(student)
    clone.set_weights(student.get_weights())
    np.testing.assert_array_equal(clone(images(32)), student(images(32)))


def test_momentum_and_dropout_reach_their_layers():
    student = narrow(bn_momentum=0.93, dropout=0.4)
    norms = [layer for layer in student.layers if layer.name.endswith("_bn")]
    assert len(norms) == 34
    assert {layer.momentum for layer in norms} == {0.93}
    assert student.get_layer("dropout").rate == 0.4
    for small in students.tiny_cnn(10, bn_momentum=0.93), students.cifar_cnn(bn_momentum=0.93):
        assert small.get_layer(index=3).momentum == 0.93


def test_small_networks_have_the_promised_size(any_keras):
    tiny = students.tiny_cnn(10, keras=any_keras)
    assert tiny.count_params() == 9_610
    assert tiny(images(28, channels=1)).shape == (3, 10)
    cifar = students.cifar_cnn(keras=any_keras)
    assert cifar.count_params() == 99_450
    assert cifar(images(32)).shape == (3, 10)
    # Filters 8, 16, 32, 64: 24,408 in kernels, 480 in batch norms, 650 in the classifier.
    assert students.cifar_cnn(width=0.5, keras=any_keras).count_params() == 25_538


def test_images_are_scaled_to_plus_minus_one(any_keras):
    for student in students.tiny_cnn(2, keras=any_keras), students.cifar_cnn(keras=any_keras):
        scaled = student.get_layer("rescaling")(np.array([[0.0, 127.5, 255.0]], "float32"))
        np.testing.assert_allclose(scaled, [[-1.0, 0.0, 1.0]], atol=1e-6)


def test_logits_stay_float32_under_mixed_precision(any_keras, mixed_float16):
    for student in (
        narrow(keras=any_keras),
        students.tiny_cnn(10, 32, channels=3, keras=any_keras),
        students.cifar_cnn(keras=any_keras),
    ):
        assert student.get_layer(index=2).compute_dtype == "float16"
        student.set_weights(random_weights(student))
        logits = student(images(32))
        assert logits.dtype == "float32"
        # Not float16 numbers in a float32 coat.
        assert (np.asarray(logits) != np.asarray(logits).astype("float16")).any()
    with_metadata = narrow(metadata=REGIONS_AND_CAMERAS, keras=any_keras)
    assert with_metadata(metadata_batch()).dtype == "float32"


# ---- metadata


def test_metadata_branch_starts_as_a_no_op(any_keras):
    any_keras.utils.set_random_seed(3)
    plain = narrow(keras=any_keras)
    any_keras.utils.set_random_seed(3)
    student = narrow(metadata=REGIONS_AND_CAMERAS, keras=any_keras)
    image_weights = [w for layer in image_layers(student) for w in layer.get_weights()]
    assert len(image_weights) == 210
    for ours, theirs in zip(image_weights, plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(student(metadata_batch()), plain(images(32)))


def test_metadata_logits_match_numpy(any_keras):
    student = narrow(metadata=REGIONS_AND_CAMERAS, keras=any_keras)
    student.set_weights(random_weights(student))
    plain = narrow(keras=any_keras)
    plain.set_weights([w for layer in image_layers(student) for w in layer.get_weights()])
    batch = metadata_batch()
    tables = {
        column: student.get_layer(f"embedding_{column}").get_weights()[0]
        for column in REGIONS_AND_CAMERAS
    }
    assert tables["region"].shape == (4, 8) and tables["camera"].shape == (3, 8)
    embedded = [tables[c][batch[f"meta/{c}"]] for c in ("camera", "region")]
    kernel, bias = student.get_layer("fusion_hidden").get_weights()
    assert kernel.shape == (16, 32)
    hidden = np.maximum(np.concatenate(embedded, axis=-1) @ kernel + bias, 0)
    branch = hidden @ student.get_layer("fusion_logits").get_weights()[0]
    assert np.abs(branch).max() > 0.1
    want = np.asarray(plain(batch["image"])) + branch
    np.testing.assert_allclose(student(batch), want, atol=1e-5)
    np.testing.assert_allclose(student.predict(batch, verbose=0), want, atol=1e-4)


def test_metadata_trains_from_its_zero_start(any_keras):
    student = narrow(metadata={"region": 2}, keras=any_keras)
    student.compile(
        any_keras.optimizers.SGD(1.0),
        any_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    before = student.get_layer("embedding_region").get_weights()[0]
    batch = {"image": images(32), "meta/region": np.array([1, 1, 0], "int32")}
    student.train_on_batch(batch, np.array([0, 1, 2]))
    assert np.abs(student.get_layer("fusion_logits").get_weights()[0]).max() > 0
    student.train_on_batch(batch, np.array([0, 1, 2]))
    moved = (student.get_layer("embedding_region").get_weights()[0] != before).any(axis=-1)
    np.testing.assert_array_equal(moved, [True, True, False])  # row 2 was not in the batch


def test_order_of_columns_does_not_matter():
    student = narrow(metadata={"region": 3, "camera": 2})
    student.set_weights(random_weights(student))
    twin = narrow(metadata={"camera": 2, "region": 3})
    twin.set_weights(student.get_weights())
    np.testing.assert_array_equal(student(metadata_batch()), twin(metadata_batch()))


# ---- weights


def save_npz(path, arrays):
    np.savez(path, **{f"{index:03d}": array for index, array in enumerate(arrays)})
    return path


def assert_same_body(student, source, except_for=("logits",)):
    for layer in source.layers:
        if layer.name not in except_for:
            for ours, theirs in zip(
                student.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True
            ):
                np.testing.assert_array_equal(ours, theirs)


def test_npz_loads_in_order_and_keeps_a_fresh_head(any_keras, tmp_path):
    source, batch = students.tiny_cnn(9), images(28, channels=1)
    source.set_weights(random_weights(source))
    path = save_npz(tmp_path / "source.npz", source.get_weights())
    same_head = students.tiny_cnn(9, keras=any_keras)
    assert students.load_weights(same_head, path) == []
    np.testing.assert_allclose(same_head(batch), source(batch), atol=1e-4)
    other_head = students.tiny_cnn(5, keras=any_keras)
    fresh = other_head.get_layer("logits").get_weights()
    assert students.load_weights(other_head, str(path)) == ["logits"]
    assert_same_body(other_head, source)
    for before, after in zip(fresh, other_head.get_layer("logits").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_warm_start_from_last_weeks_student(any_keras, tmp_path):
    last_week = narrow(metadata=REGIONS_AND_CAMERAS)
    last_week.set_weights(random_weights(last_week))
    path = tmp_path / "student.keras"
    last_week.save(path)
    student = narrow(metadata=REGIONS_AND_CAMERAS, weights=path, keras=any_keras)
    np.testing.assert_allclose(student(metadata_batch()), last_week(metadata_batch()), atol=1e-4)
    more_classes = narrow(classes=6, metadata=REGIONS_AND_CAMERAS, keras=any_keras)
    assert set(students.load_weights(more_classes, path)) == {"logits", "fusion_logits"}
    assert_same_body(more_classes, last_week, except_for=("logits", "fusion_logits"))


@pytest.mark.parametrize("suffix", [".npz", ".keras"])
def test_metadata_student_starts_from_a_plain_one(tmp_path, suffix):
    plain = narrow()
    plain.set_weights(random_weights(plain))
    path = tmp_path / f"plain{suffix}"
    save_npz(path, plain.get_weights()) if suffix == ".npz" else plain.save(path)
    student = narrow(metadata=REGIONS_AND_CAMERAS)
    branch = {"embedding_region", "embedding_camera", "fusion_hidden", "fusion_logits"}
    assert set(students.load_weights(student, path)) == branch
    np.testing.assert_array_equal(student(metadata_batch()), plain(images(32)))


def test_small_networks_warm_start_too(tmp_path):
    source = students.tiny_cnn(10)
    source.save(tmp_path / "tiny.keras")
    student = students.tiny_cnn(7)
    assert students.load_weights(student, tmp_path / "tiny.keras") == ["logits"]
    assert_same_body(student, source)


def test_imagenet_weights_come_from_keras_applications(any_keras, monkeypatch):
    asked = {}
    source = students.mobilenet_v3_small(1000, 32, width=0.75)
    source.set_weights(random_weights(source))

    def application(**kwargs):
        asked.update(kwargs)
        return source

    monkeypatch.setattr(any_keras.applications, "MobileNetV3Small", application)
    student = students.mobilenet_v3_small(
        5, 32, width=0.75, metadata=REGIONS_AND_CAMERAS, weights="imagenet", keras=any_keras
    )
    assert asked == {"input_shape": (224, 224, 3), "alpha": 0.75, "weights": "imagenet"}
    assert_same_body(student, source)


def test_misfits_are_refused_and_change_nothing(tmp_path):
    student = narrow(metadata=REGIONS_AND_CAMERAS)
    before = student.get_weights()

    def refused(path, *words):
        with pytest.raises(ValueError) as error:
            students.load_weights(student, path)
        for word in words:
            assert word in str(error.value)

    arrays = narrow().get_weights()
    wide = students.mobilenet_v3_small(5, 32, width=0.75)
    save_npz(tmp_path / "wide.npz", wide.get_weights())
    refused(tmp_path / "wide.npz", "'expanded_conv_project'", "(1, 1, 16, 16)", "(1, 1, 16, 8)")
    refused(save_npz(tmp_path / "top.npz", arrays[:206]), "206", "210")
    head = [*arrays[:-2], np.zeros((1, 1, 512, 5), "float32"), arrays[-1]]
    refused(save_npz(tmp_path / "head.npz", head), "'logits'", "(1, 1, 512, 5)", "(1, 1, 1024, 5)")
    students.tiny_cnn(5).save(tmp_path / "tiny.keras")
    refused(tmp_path / "tiny.keras", "separable_1_depthwise", "not in the student")
    narrow(metadata={"region": 3}).save(tmp_path / "one.keras")
    refused(tmp_path / "one.keras", "['embedding_camera']", "not in the file")
    narrow(metadata={"region": 4, "camera": 2}).save(tmp_path / "vocabulary.keras")
    refused(tmp_path / "vocabulary.keras", "'embedding_region'", "(5, 8)", "(4, 8)")
    for old, new in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    student.save(tmp_path / "metadata.keras")
    with pytest.raises(ValueError, match="'embedding_region'.*not in the student"):
        students.load_weights(narrow(), tmp_path / "metadata.keras")


def test_unknown_and_missing_files_are_refused(tmp_path):
    student = students.tiny_cnn(10)
    with pytest.raises(ValueError, match=r"'imagnet'; expected .npz or .keras"):
        students.load_weights(student, "imagnet")
    with pytest.raises(FileNotFoundError, match="gone.npz"):
        students.load_weights(student, tmp_path / "gone.npz")


@pytest.mark.parametrize("metadata", [None, REGIONS_AND_CAMERAS])
def test_saved_students_load_without_this_package(tmp_path, metadata, recwarn):
    student = narrow(metadata=metadata)
    student.set_weights(random_weights(student))
    assert not [w for w in recwarn if "must match the names" in str(w.message)]
    student.save(tmp_path / "student.keras")
    assert "kdtf" not in json.dumps(student.get_config())
    loaded = keras.saving.load_model(tmp_path / "student.keras", custom_objects={})
    batch = images(32) if metadata is None else metadata_batch()
    np.testing.assert_array_equal(loaded(batch), student(batch))


# ---- batch-norm momentum


@pytest.mark.parametrize(
    "steps, want", [(1, 0.9), (410, 0.9), (500, 0.9), (1_000, 0.95), (5_000, 0.99), (10**6, 0.99)]
)
def test_batch_norm_momentum_golden(steps, want):
    assert students.batch_norm_momentum(steps) == pytest.approx(want)


@given(st.integers(1, 10**9), st.integers(0, 10**6))
def test_batch_norm_momentum_grows_and_forgets_the_start(steps, more):
    momentum = students.batch_norm_momentum(steps)
    assert 0.9 <= momentum <= students.batch_norm_momentum(steps + more) <= 0.99
    if steps >= 50:
        assert momentum**steps < 0.01


def stripes(rng, count, size=16):
    """Noisy stripes of random phase, horizontal (0), vertical (1), rising (2) or falling (3)."""
    labels = rng.integers(0, 4, count)
    row, column = np.mgrid[:size, :size]
    axes = np.stack([row, column, row + column, row - column])
    phases = rng.uniform(0, 2 * np.pi, (count, 1, 1))
    waves = np.sign(np.sin(2 * np.pi / 8 * axes[labels] + phases))
    pixels = np.clip(127.5 + 60 * waves + rng.normal(0, 30, waves.shape), 0, 255)
    return pixels[..., None].astype("float32"), labels


def test_short_training_needs_a_momentum_that_fits_its_steps():
    steps, rng = 60, np.random.default_rng(0)
    train, test = stripes(rng, 32 * steps), stripes(rng, 400)

    def trained_and_test_accuracy(momentum):
        keras.utils.set_random_seed(0)
        student = students.tiny_cnn(4, 16, bn_momentum=momentum)
        student.compile(
            keras.optimizers.Adam(3e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        history = student.fit(*train, batch_size=32, epochs=1, verbose=0).history
        return history["accuracy"][-1], student.evaluate(*test, verbose=0)[1]

    # Training sees the batch's own statistics, so it goes well in both cases; inference tells.
    trained, tested = trained_and_test_accuracy(0.999)
    assert trained > 0.85 and tested < 0.4
    trained, tested = trained_and_test_accuracy(students.batch_norm_momentum(steps))
    assert trained > 0.85 and tested > 0.95


# ---- refusals


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: students.mobilenet_v3_small(1), "classes must be >= 2, got 1"),
        (lambda: students.mobilenet_v3_small(5, 31), "image_size must be >= 32 pixels, got 31"),
        (lambda: students.mobilenet_v3_small(5, 32, width=0), "width must be > 0, got 0"),
        (lambda: narrow(metadata={}), "metadata is empty"),
        (lambda: narrow(metadata={"region": 0}), "'region'.* must be >= 1, got 0"),
        (lambda: students.tiny_cnn(1), "classes must be >= 2, got 1"),
        (lambda: students.tiny_cnn(2, 7), "image_size must be >= 8 pixels, got 7"),
        (lambda: students.tiny_cnn(2, channels=0), "channels must be >= 1, got 0"),
        (lambda: students.cifar_cnn(1), "classes must be >= 2, got 1"),
        (lambda: students.cifar_cnn(2, width=0), "width must be > 0, got 0"),
        (lambda: students.cifar_cnn(2, 7), "image_size must be >= 8 pixels, got 7"),
        (lambda: students.batch_norm_momentum(0), "steps must be >= 1, got 0"),
    ],
)
def test_out_of_range_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
