import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image

from kdtf import export, layer_graph, plotting, quantize, students
from kdtf.export import layer_errors
from kdtf.export.layer_errors import LayerError

IMAGE_TYPES = (tf.int8, tf.uint8, tf.float32)


def photos(count=8, size=16, channels=1):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, channels)).astype("float32")


def lively_tiny_cnn():
    """A tiny_cnn whose batch norms have offsets, so that no layer is a multiple of another."""
    keras.utils.set_random_seed(1)
    student = students.tiny_cnn(4, image_size=16)
    rng = np.random.default_rng(1)
    for layer in student.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.beta.assign(rng.uniform(0.2, 1.0, layer.beta.shape))
    return student


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    student = lively_tiny_cnn()
    quantized = quantize.quantize_aware(student, [photos()])
    path = export.to_tflite(quantized, tmp_path_factory.mktemp("tiny") / "tiny.tflite")
    return student, quantized, path


def by_name(errors):
    return {error.layer: error for error in errors}


def assert_worst_first(errors):
    ratios = [error.snr_db for error in errors]
    assert ratios == sorted(ratios)


@pytest.mark.parametrize("image", [None, *IMAGE_TYPES])
def test_numbers_worked_by_hand(tmp_path, image):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 1), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="rescaling")(inputs)
    x = keras.layers.Flatten(name="flat")(x)
    student = keras.Model(inputs, keras.layers.Dense(3, name="logits")(x))
    kernel, bias = student.get_layer("logits").get_weights()
    bias += np.float32([0.1, -0.2, 0.3])
    student.get_layer("logits").set_weights([kernel, bias])
    batch = photos(64, size=4)
    quantized = quantize.quantize_aware(student, [batch])
    low, high = layer_graph.output_range(quantized.get_layer("logits"))

    flat = np.float64(batch).reshape(64, 16)
    wanted = (flat / 127.5 - 1) @ kernel + bias
    step = np.abs(kernel).max(0) / 127
    y = ((flat - 128) / 127.5) @ (np.round(kernel / step) * step) + bias
    step = (high - low) / 255
    zero = np.round(-low / step)
    got = (np.clip(np.round(y / step) + zero, 0, 255) - zero) * step
    noise = np.mean((got - wanted) ** 2)

    made = (
        quantized
        if image is None
        else export.to_tflite(quantized, tmp_path / "x.tflite", image=image)
    )
    (error,) = layer_errors.compare_layers(student, made, batch)
    assert (error.layer, error.position) == ("logits", 3)
    # A file's bias is rounded as well, which moves a few values by a level.
    tolerance = 1e-3 if image is None else 0.03
    assert error.error_rms == pytest.approx(np.sqrt(noise), rel=tolerance)
    assert error.snr_db == pytest.approx(
        10 * np.log10(np.mean(wanted**2) / noise), abs=10 * tolerance
    )
    assert error.low == pytest.approx(wanted.min(), rel=1e-4)
    assert error.high == pytest.approx(wanted.max(), rel=1e-4)


def test_model_and_file_tell_the_same(tiny):
    student, quantized, path = tiny
    of_model = layer_errors.compare_layers(student, quantized, photos())
    of_file = layer_errors.compare_layers(student, str(path), photos())
    rounded = {layer.name for layer in quantized.layers if layer_graph.output_range(layer)}
    assert {"conv_relu", "separable_3_pointwise_relu", "avg_pool", "logits"} <= rounded
    assert by_name(of_model).keys() == by_name(of_file).keys() == rounded
    for errors in (of_model, of_file):
        assert_worst_first(errors)
        assert all(20 < error.snr_db < 60 for error in errors), errors
    for name, error in by_name(of_file).items():
        assert error.snr_db == pytest.approx(by_name(of_model)[name].snr_db, abs=3), name
    # All that a layer's row says of the float student is the same.
    for one, other in zip(
        sorted(of_model, key=lambda e: e.layer), sorted(of_file, key=lambda e: e.layer), strict=True
    ):
        assert (one.position, one.low, one.high) == (other.position, other.low, other.high)


def test_photo_order_and_a_batch_of_one(tiny):
    student, _, path = tiny
    single = [layer_errors.compare_layers(student, path, photos()[i : i + 1]) for i in range(8)]
    whole = by_name(layer_errors.compare_layers(student, path, photos()))
    for name, error in whole.items():
        mean = np.mean([by_name(errors)[name].error_rms ** 2 for errors in single])
        assert error.error_rms == pytest.approx(np.sqrt(mean), rel=1e-5), name


@pytest.mark.parametrize("name", ["separable_2_pointwise_relu", "logits"])
def test_a_collapsed_range_comes_out_worst(tmp_path, name):
    student = lively_tiny_cnn()
    quantized = quantize.quantize_aware(student, [photos()])
    before = by_name(layer_errors.compare_layers(student, quantized, photos()))
    variables = quantized.get_layer(name)._output_quantizer_vars
    for end in ("low", "high"):
        variables[end].assign(variables[end] * 0.02)
    path = export.to_tflite(quantized, tmp_path / "collapsed.tflite")
    for made in (quantized, path):
        errors = layer_errors.compare_layers(student, made, photos())
        assert errors[0].layer == name
        assert errors[0].snr_db < 3 < before[name].snr_db - 20
        for error in errors:
            if error.position < errors[0].position:  # what comes before it is as it was
                assert error.snr_db == pytest.approx(before[error.layer].snr_db, abs=3)


def test_hard_swish_is_compared_in_the_unit_of_the_student(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3), name="image")
    layers = keras.layers
    x = layers.Rescaling(1 / 127.5, -1.0, name="rescaling")(inputs)
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(x)
    x = layers.BatchNormalization(name="conv_bn")(x)
    x = layers.Activation("hard_swish", name="conv_hard_swish")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    student = keras.Model(inputs, layers.Dense(4, name="logits")(x))
    batch = photos(size=12, channels=3)
    quantized = quantize.quantize_aware(student, [batch])
    path = export.to_tflite(quantized, tmp_path / "swish.tflite")
    of_model = by_name(layer_errors.compare_layers(student, quantized, batch))
    of_file = by_name(layer_errors.compare_layers(student, path, batch))
    assert of_file.keys() == {"conv_hard_swish", "pool", "logits"}
    assert of_model.keys() == of_file.keys() | {"conv_bn"}
    for name, error in of_file.items():
        assert error.snr_db == pytest.approx(of_model[name].snr_db, abs=3), name


def test_refusals(tiny, tmp_path):
    student, quantized, path = tiny
    plain = export.to_tflite(student, tmp_path / "float.tflite")
    with pytest.raises(ValueError, match="float.tflite has no rounded layer in common with tiny"):
        layer_errors.compare_layers(student, plain, photos())
    with pytest.raises(ValueError, match="no rounded layer in common .*, found none"):
        layer_errors.compare_layers(student, student, photos())
    other = students.cifar_cnn(4, image_size=16)
    with pytest.raises(ValueError, match="no rounded layer in common with cifar_cnn"):
        layer_errors.compare_layers(
            keras.Model(other.input, other.get_layer("conv_3_relu").output, name="cifar_cnn"),
            quantized,
            photos(channels=3),
        )
    with pytest.raises(FileNotFoundError, match="missing.tflite"):
        layer_errors.compare_layers(student, tmp_path / "missing.tflite", photos())
    with pytest.raises(ValueError, match="'conv_relu' gave values that are not finite"):
        layer_errors.compare_layers(student, quantized, photos() * np.nan)


ERRORS = [
    LayerError("first", 1, 41.25, 0.001234, -1.0, 2.5),
    LayerError("middle", 4, 8.04, 0.5, 0.0, 6.0),
    LayerError("same", 5, math.inf, 0.0, 0.0, 6.0),
    LayerError("last", 9, -3.06, 12.0, -20.123, 17.0),
]


def test_table_is_markdown_worst_first():
    assert layer_errors.table(ERRORS).splitlines() == [
        "| layer | SNR, dB | error, rms | float output |",
        "|---|---:|---:|---:|",
        "| last | -3.1 | 12 | -20.1 to 17 |",
        "| middle | 8.0 | 0.5 | 0 to 6 |",
        "| first | 41.2 | 0.00123 | -1 to 2.5 |",
        "| same | exact | 0 | 0 to 6 |",
    ]


def test_plot_shows_the_network_from_top_to_bottom():
    figure, colours = Figure(), plotting.THEMES["light"]
    many = [dataclasses.replace(ERRORS[0], layer=f"l{i}", position=20 + i) for i in range(5)]
    layer_errors._draw(figure, colours, [*ERRORS[::-1], *many])
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        "first",
        "middle",
        "same",
        "last",
        *(f"l{i}" for i in range(5)),
    ]
    assert axes.yaxis_inverted()
    assert [text.get_text() for text in axes.texts][:4] == ["41.2", "8.0", "exact", "-3.1"]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths[:4] == [41.25, 8.04, 41.25, -3.06]
    bold = [t.get_text() for t in axes.get_yticklabels() if t.get_fontweight() == "bold"]
    assert bold == ["first", "middle", "last", "l0", "l1"]  # five; of equals the earlier


@pytest.mark.parametrize("count", [1, 100])
def test_plot_is_a_png_with_room_for_every_layer(tmp_path, count):
    errors = [
        LayerError(f"a_layer_of_some_length_{i}", i, 30.0 + i % 7, 0.1, 0.0, 1.0)
        for i in range(count)
    ]
    path = layer_errors.plot(errors, tmp_path / "new" / "errors.png")
    assert [file.name for file in path.parent.iterdir()] == ["errors.png"]
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.height > count * 15 and image.width > 800


def test_plot_of_nothing_but_exact_or_silent_layers(tmp_path):
    silent = LayerError("silent", 0, -math.inf, 0.1, 0.0, 0.0)
    layer_errors.plot([silent, ERRORS[2]], tmp_path / "x.png")


def test_plot_refusals(tmp_path):
    with pytest.raises(ValueError, match="errors is empty"):
        layer_errors.plot([], tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"must end in \.png, got '.*x\.jpg'"):
        layer_errors.plot(ERRORS, tmp_path / "x.jpg")
