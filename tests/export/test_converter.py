import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter

from kdtf import export
from kdtf.export import flatbuffer, runtime

ROOT = pathlib.Path(__file__).parents[2]


def with_metadata(k, seed=0):
    """Image and two columns; the keys of the dict are not in the order of the inputs."""
    k.utils.set_random_seed(seed)
    image = k.Input((16, 16, 3), name="image")
    region = k.Input((), dtype="int32", name="meta_region")
    camera = k.Input((), dtype="int32", name="meta_camera")
    x = k.layers.Rescaling(1 / 127.5, -1)(image)
    x = k.layers.Conv2D(6, 3, activation="relu")(x)
    x = k.layers.GlobalAveragePooling2D()(k.layers.BatchNormalization()(x))
    x = k.layers.Concatenate()(
        [x, k.layers.Embedding(5, 3)(region), k.layers.Embedding(4, 2)(camera)]
    )
    return k.Model(
        {"image": image, "meta/region": region, "meta/camera": camera}
        if k is keras
        else {"image": image, "meta_region": region, "meta_camera": camera},
        k.layers.Dense(7)(x),
    )


def plain(k=keras, seed=0, dtype=None):
    k.utils.set_random_seed(seed)
    image = k.Input((16, 16, 3), name="image")
    x = k.layers.Conv2D(6, 3, activation="relu", dtype=dtype)(image)
    x = k.layers.GlobalAveragePooling2D(dtype=dtype)(x)
    return k.Model(image, k.layers.Dense(7, dtype=dtype)(x), name="plain")


def photos(count=5, seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, 16, 16, 3)).astype("float32")


def batch(count=5):
    return {
        "image": photos(count),
        "meta/region": np.arange(count) % 5,
        "meta/camera": (np.arange(count) * 3 + 1) % 4,
        "meta/region/missing": np.zeros(count, "float32"),
        "a/first/key": np.zeros(count, "float32"),
        "teacher_logits": np.zeros((count, 7)),
    }


@pytest.fixture(scope="module")
def model():
    return plain()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    return export.to_tflite(model, tmp_path_factory.mktemp("export") / "plain.tflite")


def test_file_has_the_promised_signature(file):
    interpreter = Interpreter(model_path=str(file))
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["image"], "outputs": ["logits"]}
    }
    (image,) = interpreter.get_input_details()
    assert image["shape_signature"].tolist() == [1, 16, 16, 3] and image["dtype"] == np.float32
    (logits,) = interpreter.get_output_details()
    assert logits["shape_signature"].tolist() == [1, 7] and logits["dtype"] == np.float32


def test_predict_is_the_model(model, file):
    images = photos(6)
    want = model.predict(images, verbose=0)
    np.testing.assert_allclose(runtime.predict(file, images), want, rtol=1e-4, atol=1e-3)
    for form in (
        {"image": images},
        [images[:2], images[2:5], images[5:]],
        [({"image": images[:4]}, np.zeros(4)), ({"image": images[4:]}, np.zeros(2))],
        tf.data.Dataset.from_tensor_slices(({"image": images}, np.zeros(6))).batch(4),
        (lambda: (images[i : i + 1] for i in range(6)))(),
    ):
        got = runtime.predict(file, form, num_threads=2)
        assert got.dtype == np.float32 and got.shape == (6, 7)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3)


def test_progress_counts_every_example(model, file):
    seen = []
    runtime.predict(file, [photos(3), photos(2)], progress=seen.append)
    assert sum(seen) == 5
    export.compare_with_keras(model, file, [photos(3)], progress=seen.append)
    assert sum(seen) == 8


def test_batches_are_read_one_at_a_time(file):
    """Memory must not grow with the photos: a batch is done before the next is asked for."""
    done, asked = [], []

    def batches():
        for _ in range(3):
            asked.append(len(done))
            yield photos(2)

    runtime.predict(file, batches(), progress=done.append)
    assert asked == [0, 2, 4]


@pytest.mark.parametrize("k", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_metadata_reaches_the_right_input(k, tmp_path):
    model = with_metadata(k)
    model.set_weights([w + 0.3 * (i + 1) for i, w in enumerate(model.get_weights())])
    path = export.to_tflite(model, tmp_path / "meta.tflite")
    (signature,) = Interpreter(model_path=str(path)).get_signature_list().values()
    assert sorted(signature["inputs"]) == ["image", "meta_camera", "meta_region"]
    got = export.compare_with_keras(model, path, [batch(5), batch(2)])
    assert got["examples"] == 7 and got["argmax_agreement"] == 1 and got["max_abs_error"] < 1e-4
    # By hand: the embeddings are looked up with their own column.
    logits = runtime.predict(path, batch(5))
    swapped = batch(5) | {"meta/region": np.array([1, 0, 3, 2, 4])}
    assert np.abs(logits - runtime.predict(path, swapped)).max(1)[[0, 1, 2, 3]].min() > 1e-3
    np.testing.assert_array_equal(logits[4], runtime.predict(path, swapped)[4])


@pytest.mark.parametrize("policy", ["mixed_float16", "float16", "mixed_bfloat16"])
def test_half_precision_models_convert_as_float32(policy, tmp_path):
    half = plain(dtype=policy)
    path = export.to_tflite(half, tmp_path / "half.tflite")
    full = plain()
    full.set_weights([w.astype("float32") for w in half.get_weights()])
    np.testing.assert_allclose(
        runtime.predict(path, photos()), full.predict(photos(), verbose=0), rtol=1e-4, atol=1e-3
    )
    assert export.compare_with_keras(half, path, photos())["max_abs_error"] < 1e-3
    assert "CAST" not in flatbuffer.builtin_ops(path)
    assert {layer.dtype_policy.name for layer in half.layers[1:]} == {policy}  # Unchanged.


def test_parity_golden(model, file):
    shifted = plain()
    weights = model.get_weights()
    weights[-1] = weights[-1] + np.array([0.5] + [0.0] * 6, "float32")
    shifted.set_weights(weights)
    got = export.compare_with_keras(shifted, file, [photos(3), photos(4)])
    assert got["max_abs_error"] == pytest.approx(0.5, abs=1e-3) and got["examples"] == 7
    weights[-1] = weights[-1] + np.array([0, 0, 1e6, 0, 0, 0, 0], "float32")
    shifted.set_weights(weights)
    want = np.mean(runtime.predict(file, photos()).argmax(1) == 2)
    assert export.compare_with_keras(shifted, file, photos())["argmax_agreement"] == want < 1


def test_builtin_ops_in_order(file):
    names = flatbuffer.builtin_ops(file)
    assert names[0] == "CONV_2D" and names[-1] == "FULLY_CONNECTED"
    assert all(name.isupper() for name in names)


def test_mobilenet_v3_small_of_keras_applications(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV3Small(
        weights=None,
        classes=81,
        include_preprocessing=True,
        classifier_activation=None,
        input_shape=(96, 96, 3),
    )
    # Initial weights let almost nothing through: give the logits a size worth comparing.
    model.set_weights([w * 4 if w.ndim == 4 else w for w in model.get_weights()])
    path = export.to_tflite(model, tmp_path / "mobilenet.tflite")
    names = flatbuffer.builtin_ops(path)
    assert names.count("HARD_SWISH") == 19 and names.count("DEPTHWISE_CONV_2D") == 11
    images = np.random.default_rng(0).uniform(0, 255, (3, 96, 96, 3)).astype("float32")
    logits = runtime.predict(path, images)
    got = export.compare_with_keras(model, path, images)
    assert got["max_abs_error"] < 1e-4 * max(1, np.abs(logits).max())
    assert got["argmax_agreement"] == 1 and np.ptp(logits) > 1e-3


def test_imagenet_weights_on_real_photos(data_dir, weights_dir, tmp_path):
    model = keras.applications.MobileNetV3Small(
        weights=None, classifier_activation=None, input_shape=(224, 224, 3)
    )
    with np.load(weights_dir / "mobilenet_v3_small_imagenet.npz") as arrays:
        model.set_weights([arrays[name] for name in arrays.files])
    path = export.to_tflite(model, tmp_path / "imagenet.tflite")
    files = sorted((data_dir / "grocery" / "test").rglob("*.jpg"))[::300]
    images = np.stack(
        [
            keras.utils.img_to_array(keras.utils.load_img(file, target_size=(224, 224)))
            for file in files
        ]
    )
    got = export.compare_with_keras(model, path, {"image": images})
    assert got["examples"] == len(files) >= 5
    assert got["argmax_agreement"] == 1 and got["max_abs_error"] < 1e-4


@pytest.mark.parametrize(
    "function, name",
    [
        (tf.math.erfinv, "CUSTOM:Erfinv"),
        (
            lambda x: tf.strings.to_number(tf.strings.as_string(x)),
            "CUSTOM:AsString, CUSTOM:StringTo",
        ),
    ],
)
def test_operators_outside_the_builtins_are_named(function, name, tmp_path):
    inputs = keras.Input((4,), name="image")
    model = keras.Model(
        inputs, keras.layers.Lambda(function, output_shape=(4,))(inputs), name="odd"
    )
    with pytest.raises(ValueError, match=f"odd needs operators.*{name}"):
        export.to_tflite(model, tmp_path / "odd.tflite")
    assert not list(tmp_path.iterdir())


def test_failed_conversion_quotes_what_was_printed(tmp_path, monkeypatch, capfd):
    def fail(folder):
        os.write(2, b"from C++: the reason\n")
        print("from Python")
        raise TypeError("conversion failed")

    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_saved_model", fail)
    with pytest.raises(RuntimeError, match="(?s)conversion failed.*from C.*") as caught:
        export.to_tflite(plain(), tmp_path / "x.tflite")
    assert "from C++: the reason" in str(caught.value) and "from Python" in str(caught.value)
    assert not list(tmp_path.iterdir()) and capfd.readouterr() == ("", "")


def test_a_failed_write_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "student.tflite"
    path.write_bytes(b"the old one")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        export.to_tflite(model, path)
    assert path.read_bytes() == b"the old one" and list(tmp_path.iterdir()) == [path]


def test_nothing_is_printed(tmp_path):
    """In a fresh process, where TensorFlow and XNNPACK have not yet said their first words."""
    code = """
import sys, keras, tensorflow as tf
tf.zeros(1)
x = keras.Input((8, 8, 3), name="image")
model = keras.Model(x, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(
    keras.layers.Conv2D(4, 3)(x))))
model(tf.zeros((1, 8, 8, 3)))
from kdtf import export
from kdtf.export import runtime
for stream in (sys.stdout, sys.stderr):
    print("<start>", file=stream, flush=True)
path = export.to_tflite(model, sys.argv[1])
runtime.predict(path, tf.ones((2, 8, 8, 3)))
for stream in (sys.stdout, sys.stderr):
    print("<end>", file=stream, flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.tflite")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"},
    )
    assert done.returncode == 0, done.stderr
    for said in (done.stdout, done.stderr):
        assert said.split("<start>")[1].split("<end>")[0].strip() == ""


def test_smaller_weights(tmp_path):
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Conv2D(64, 3, activation="relu")(image)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(64, 3, activation="relu")(x))
    model = keras.Model(image, keras.layers.Dense(7)(x))
    full = export.to_tflite(model, tmp_path / "full.tflite", weights=tf.float32)
    want = runtime.predict(full, photos())
    for dtype, size, tolerance in ((tf.float16, 0.5, 1e-2), (tf.int8, 0.25, 3e-2)):
        less = export.to_tflite(model, tmp_path / "less.tflite", weights=dtype)
        assert less.stat().st_size == pytest.approx(size * full.stat().st_size, rel=0.15)
        assert 0 < np.abs(runtime.predict(less, photos()) - want).max() < tolerance * np.ptp(want)
        (signature,) = Interpreter(model_path=str(less)).get_signature_list().values()
        assert signature == {"inputs": ["image"], "outputs": ["logits"]}


def test_probabilities_of_a_float_model(model, file, tmp_path):
    path = export.to_tflite(model, tmp_path / "p.tflite", probabilities=True)
    got, logits = runtime.predict(path, photos()), runtime.predict(file, photos())
    np.testing.assert_allclose(got, tf.nn.softmax(logits), atol=1e-6)


@pytest.mark.parametrize(
    "weights, tolerance", [(tf.float32, 1e-6), (tf.float16, 2e-3), (tf.int8, 1e-6)]
)
def test_a_temperature_is_folded_into_the_logits(weights, tolerance, tmp_path):
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(64, 3)(image))
    model = keras.Model(image, keras.layers.Dense(40, bias_initializer="normal")(x))
    cold, warm = (
        export.to_tflite(model, tmp_path / f"{t}.tflite", weights=weights, logit_temperature=t)
        for t in (1.0, 2.7)
    )
    assert flatbuffer.builtin_ops(warm) == flatbuffer.builtin_ops(cold)
    assert warm.stat().st_size == pytest.approx(cold.stat().st_size, abs=256)
    want = runtime.predict(cold, photos()) / 2.7
    np.testing.assert_allclose(
        runtime.predict(warm, photos()), want, atol=tolerance * np.abs(want).max()
    )
    if weights == tf.float32:
        got = export.compare_with_keras(model, warm, photos(), logit_temperature=2.7)
        assert got["max_abs_error"] < 1e-3 * np.abs(want).max()
        probable = export.to_tflite(
            model, tmp_path / "p.tflite", logit_temperature=2.7, probabilities=True
        )
        np.testing.assert_allclose(
            runtime.predict(probable, photos()), tf.nn.softmax(want), atol=1e-5
        )


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(file, temperature):
    with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
        flatbuffer.with_temperature(file.read_bytes(), temperature)


def test_logits_that_cannot_hold_a_temperature_are_refused(tmp_path):
    image = keras.Input((16, 16, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(7, 3)(image))
    relu = keras.layers.Dense(7, activation="relu")(x)
    for output, kind in ((x, "MEAN"), (relu, "FULLY_CONNECTED")):
        with pytest.raises(ValueError, match=f"'logits' from a {kind}: a temperature can be"):
            export.to_tflite(
                keras.Model(image, output), tmp_path / "x.tflite", logit_temperature=2.0
            )
    probable = export.to_tflite(keras.Model(image, x), tmp_path / "p.tflite", probabilities=True)
    with pytest.raises(ValueError, match="'probabilities' from a SOFTMAX"):
        flatbuffer.with_temperature(probable.read_bytes(), 2.0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"image": tf.uint8}, "image=uint8 has no meaning for plain, a float model"),
        ({"weights": tf.int16}, "weights must be one of float32, float16, int8, got int16"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(model, arguments, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.to_tflite(model, tmp_path / "x.tflite", **arguments)
    assert not list(tmp_path.iterdir())


def two_outputs():
    x = keras.Input((4,), name="image")
    return keras.Model(x, [x, keras.layers.Dense(2)(x)], name="two")


def free_size():
    x = keras.Input((None, None, 3), name="image")
    return keras.Model(x, keras.layers.GlobalAveragePooling2D()(x), name="free")


def long_integers():
    x = keras.Input((4,), dtype="int64", name="ids")
    return keras.Model(x, keras.layers.Lambda(lambda v: tf.cast(v, "float32"), (4,))(x))


@pytest.mark.parametrize(
    "build, message",
    [
        (two_outputs, r"two returns \[\(None, 4\), \(None, 2\)\], expected one output"),
        (free_size, r"'image' of free has shape \(None, None, None, 3\)"),
        (long_integers, "'ids'.*is int64"),
    ],
)
def test_models_that_do_not_fit_are_refused(build, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.to_tflite(build(), tmp_path / "x.tflite")


@pytest.mark.parametrize(
    "inputs, message",
    [
        (np.zeros((2, 8, 8, 3), "float32"), r"\('N', 16, 16, 3\), got \(2, 8, 8, 3\)"),
        (np.zeros((16, 16, 3), "float32"), r"got \(16, 16, 3\)"),
        (np.zeros((0, 16, 16, 3), "float32"), "no examples"),
        ([], "no examples"),
        ({"photo": photos()}, r"needs input image; the batch holds \['photo'\]"),
        (photos().astype("complex64"), "is float32, got complex64"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(file, inputs, message):
    with pytest.raises(ValueError, match=message):
        runtime.predict(file, inputs)


def test_metadata_inputs_that_do_not_fit_are_refused(tmp_path):
    path = export.to_tflite(with_metadata(keras), tmp_path / "meta.tflite")
    with pytest.raises(ValueError, match="'meta_region'.*is int32, got float32"):
        runtime.predict(path, batch() | {"meta/region": np.zeros(5, "float32")})
    with pytest.raises(ValueError, match="differ in their number of examples.*'image': 4"):
        runtime.predict(path, batch() | {"image": photos(4)})
    with pytest.raises(ValueError, match="pass a dict"):
        runtime.predict(path, photos())


def test_files_that_are_none_are_refused(model, tmp_path):
    with pytest.raises(FileNotFoundError, match="no TFLite file"):
        runtime.predict(tmp_path / "none.tflite", photos())
    (tmp_path / "text.tflite").write_text("a text of some length")
    with pytest.raises(ValueError, match="is not a TFLite file"):
        flatbuffer.builtin_ops(tmp_path / "text.tflite")


def test_parity_refuses_what_is_not_finite(file):
    broken = plain()
    broken.set_weights([w * np.nan for w in broken.get_weights()])
    with pytest.raises(ValueError, match="the Keras model returned logits.*example 0"):
        export.compare_with_keras(broken, file, photos())
    with pytest.raises(ValueError, match="no examples"):
        export.compare_with_keras(broken, file, [])


@pytest.mark.parametrize(
    "scale",
    [
        lambda x: x / 255,
        lambda x: x / 127.5 - 1,
        lambda x: (x - x.mean()) / x.std(),
        lambda x: (x / 255).astype("float16"),
    ],
)
@pytest.mark.parametrize("form", [lambda x: x, lambda x: {"image": x}, lambda x: [(x, 0)]])
def test_scaled_photos_are_refused(file, scale, form):
    with pytest.raises(ValueError, match="takes images of 0..255, these are .*pass them unscaled"):
        runtime.predict(file, form(scale(photos())))


@pytest.mark.parametrize(
    "image",
    [
        lambda x: np.zeros_like(x),
        lambda x: np.ones_like(x),
        lambda x: (x > 128).astype("uint8"),
        lambda x: x - 9.5,  # an interpolation may swing beyond the range
        lambda x: np.concatenate([x[:1] / 255, x[1:]]),  # one photo all but black
    ],
)
def test_dark_photos_are_photos(file, image):
    assert np.isfinite(runtime.predict(file, image(photos()))).all()
