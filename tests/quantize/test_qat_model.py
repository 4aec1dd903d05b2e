"""Quantization-aware students: what they compute, and the 8-bit files made of them."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert import schema_py_generated as schema

from kdtf import export, model_inputs, quantize, students
from kdtf.export import flatbuffer, runtime, subprocess_check
from kdtf.quantize import fake_quant, folding
from kdtf.students import networks

LINEAR = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
INT8, INT32, FLOAT32 = (schema.TensorType.INT8, schema.TensorType.INT32, schema.TensorType.FLOAT32)


def photos(student, count=32, seed=0):
    """Columns with blobs of light, so that means differ from photo to photo."""
    rng = np.random.default_rng(seed)
    columns = {}
    for tensor in student.inputs:
        if tensor.name == "image":
            coarse = rng.uniform(0, 255, (count, 4, 4, tensor.shape[-1])).astype("float32")
            columns["image"] = tf.image.resize(coarse, tensor.shape[1:3]).numpy().round()
        else:
            columns[tensor.name.replace("meta_", "meta/")] = np.arange(count, dtype="int32") % 4
    return columns


def realistic(student, seed=0):
    """The student with weights of the kind that training leaves: every term matters."""
    rng = np.random.default_rng(seed)
    for layer in student.layers:
        weights = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            weights[0] = rng.uniform(0.5, 1.5, weights[0].shape)
            weights[1] = rng.normal(0, 0.5, weights[1].shape)
            layer.momentum = 0.0
        elif "logits" in layer.name:
            weights = [
                rng.normal(0, w.shape[-2] ** -0.5 if w.ndim > 1 else 0.5, w.shape) for w in weights
            ]
        layer.set_weights(weights)
    student(model_inputs.prepare_inputs(student, photos(student)), training=True)  # the statistics
    return student


def quantized(student):
    return quantize.quantize_aware(student, [photos(student), (photos(student, seed=1), None)])


def call(model, batch):
    return np.asarray(model(model_inputs.prepare_inputs(model, batch), training=False))


def folded_float(model, batch):
    rows = []
    for i in range(len(batch["image"])):
        row = {name.replace("/", "_"): tf.constant(x[i : i + 1]) for name, x in batch.items()}
        rows.append(
            folding.logits(model, row | {"image": row["image"] - 127.5}, quantized=False)[0]
        )
    return np.stack(rows)


def small(body, size=8, seed=0):
    """A student of a few layers: body(rescaled image) -> logits."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="rescaling")(image)
    return keras.Model(image, body(x), name="small")


def head(x, classes=4):
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.layers.Dense(classes, name="logits")(x)


def mobilenet(**options):
    """Each kind of block once: 4 of 11, because converting takes as long as there are layers."""
    with pytest.MonkeyPatch.context() as patch:
        blocks = networks._SMALL_BLOCKS
        patch.setattr(networks, "_SMALL_BLOCKS", (blocks[0], *blocks[2:5]))
        return students.mobilenet_v3_small(5, 32, width=0.35, **options)


STUDENTS = {
    "tiny_cnn": lambda: students.tiny_cnn(10),
    "cifar_cnn": students.cifar_cnn,
    "mobilenet": mobilenet,
    "metadata": lambda: mobilenet(metadata={"region": 3, "cam": 4}),
}


@pytest.fixture(scope="module", params=STUDENTS)  # tests of one student run together
def made(request, tmp_path_factory):
    """A student, its quantization-aware model, and what both say; `file` writes it once."""
    keras.utils.set_random_seed(0)
    student = realistic(STUDENTS[request.param]())
    before = student.get_weights()
    model = quantized(student)
    batch = photos(student, count=6, seed=2)
    path = tmp_path_factory.mktemp("made") / "int8.tflite"
    return types.SimpleNamespace(
        name=request.param,
        student=student,
        before=before,
        model=model,
        batch=batch,
        want=call(student, batch),
        emulated=call(model, batch),
        path=path,
    )


@pytest.fixture(scope="module")
def file(made):
    if made.name == "cifar_cnn":
        pytest.skip("its operators are a part of tiny_cnn's")
    return export.to_tflite(made.model, made.path)


# The emulation


def test_without_rounding_it_is_the_student(made):
    with fake_quant.quantization_mode("off"):
        np.testing.assert_allclose(call(made.model, made.batch), made.want, atol=1e-4)


def test_folded_without_rounding_is_the_student(made):
    np.testing.assert_allclose(folded_float(made.model, made.batch), made.want, atol=1e-4)


def test_rounding_costs_a_little(made):
    error = np.abs(made.emulated - made.want).max() / np.ptp(made.want)
    assert 1e-4 < error < 0.15


def test_weights_are_the_students_by_name(made):
    for layer in made.student.layers:
        found = {}
        if layer.weights:
            for variable in made.model.get_layer(layer.name).weights:
                found[variable.name.split("/")[-1].split(":")[0]] = variable.numpy()
        for weight in layer.weights:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            np.testing.assert_array_equal(found["depthwise_" * depthwise + weight.name], weight)


def test_the_student_is_not_changed(made):
    for one, other in zip(made.student.get_weights(), made.before, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(call(made.student, made.batch), made.want)


def rounded_kernel(kernel, axis):
    """Symmetric, 127 steps up to the largest weight of each channel."""
    others = tuple(i for i in range(kernel.ndim) if i != axis)
    scale = np.abs(np.float64(kernel)).max(others, keepdims=True) / 127
    return np.round(kernel / scale) * scale


@pytest.mark.parametrize(("shape", "axis"), [((3, 3, 4, 6), 3), ((3, 3, 6, 1), 2), ((5, 6), 1)])
def test_kernels_are_symmetric_per_channel(shape, axis):
    """A hundredfold difference between channels costs the small ones nothing."""
    span = [1] * len(shape)
    span[axis] = 6
    channels = np.geomspace(0.01, 1, 6).reshape(span)
    kernel = (np.random.default_rng(0).normal(size=shape) * channels).astype("float32")
    got = fake_quant.Kernel(axis)(tf.constant(kernel), True, {}).numpy()
    np.testing.assert_allclose(got, rounded_kernel(kernel, axis), atol=1e-6 * channels.max())
    relative = np.abs(got - kernel) / channels
    assert relative.max() < 0.02


def test_a_kernel_of_zeros_stays_zero():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 3)).astype("float32")
    kernel[..., 1] = 0
    got = fake_quant.Kernel(3)(tf.constant(kernel), True, {}).numpy()
    assert np.isfinite(got).all() and not got[..., 1].any() and got[..., 0].any()


def test_layers_use_their_rounded_kernel():
    """The oracle of a whole layer, for a convolution and a depthwise one."""

    def body(x):
        x = keras.layers.Conv2D(5, 3, name="conv", use_bias=False)(x)
        x = keras.layers.DepthwiseConv2D(3, name="depthwise", use_bias=False)(x)
        return head(x)

    student = small(body)
    rng = np.random.default_rng(0)
    for name, shape in (("conv", (3, 3, 3, 5)), ("depthwise", (3, 3, 5, 1))):
        span = np.geomspace(0.01, 1, 5).reshape((5, 1) if name == "depthwise" else (5,))
        student.get_layer(name).set_weights([rng.normal(size=shape) * span])
    model = quantized(student)
    for name, axis, convolve in (
        ("conv", 3, tf.nn.conv2d),
        ("depthwise", 2, tf.nn.depthwise_conv2d),
    ):
        wrapper = model.get_layer(name)
        x = rng.normal(size=(1, 6, 6, wrapper.input.shape[-1])).astype("float32")
        kernel = rounded_kernel(student.get_layer(name).get_weights()[0], axis)
        want = convolve(x, kernel.astype("float32"), [1, 1, 1, 1], "VALID").numpy()
        low, high = folding.output_range(wrapper)
        inside = np.clip(want, low, high)
        got = wrapper(x, training=False).numpy()
        assert np.abs(got - inside).max() <= 1.01 * (high - low) / 255


def test_ranges_of_activations_come_from_calibration():
    student = small(lambda x: head(keras.layers.Conv2D(3, 1, activation="relu", name="conv")(x)))
    student.get_layer("conv").set_weights([2 * np.eye(3).reshape(1, 1, 3, 3), np.zeros(3)])
    dark, bright = np.full((2, 8, 8, 3), 100.0), np.full((2, 8, 8, 3), 255.0)
    model = quantize.quantize_aware(student, [dark, bright])
    assert folding.output_range(model.get_layer("conv")) == pytest.approx((0, 2), abs=0.05)


# Graphs that our own students do not have


def hard_swish_after_add(x):
    x = keras.layers.Conv2D(3, 1, name="conv")(x)
    x = keras.layers.Add(name="add")([x, keras.layers.Conv2D(3, 1, name="conv_b")(x)])
    return head(keras.layers.Activation("hard_swish", name="act")(x))


def add_of_three(x):
    branches = [keras.layers.Conv2D(3, 1, name=f"conv_{i}")(x) for i in range(3)]
    return head(keras.layers.Add(name="add")(branches))


def multiply_of_three(x):
    branches = [keras.layers.Conv2D(3, 1, name=f"conv_{i}")(x) for i in range(3)]
    return head(keras.layers.Multiply(name="mul")(branches))


def pooled_pixels(x):
    return head(x)


def concatenated_after_add(x):
    y = keras.layers.Activation("hard_swish")(keras.layers.Add()([x, x]))
    return head(keras.layers.Concatenate()([x, y]))


def dilated(x):
    return head(keras.layers.Conv2D(3, 3, dilation_rate=2, name="conv")(x))


def grouped(x):
    return head(keras.layers.Conv2D(6, 3, groups=3, name="conv")(x))


def normalised_after_relu(x):
    x = keras.layers.Conv2D(3, 1, activation="relu", name="conv")(x)
    return head(keras.layers.BatchNormalization(name="late_bn")(x))


def normalised_pixels(x):
    x = keras.layers.BatchNormalization(name="early_bn")(x)
    return head(keras.layers.Conv2D(3, 1, name="conv")(x))


def gated_pool(x):
    x = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = keras.layers.Activation("hard_sigmoid", name="gate")(x)
    return head(keras.layers.Conv2D(3, 1, name="conv")(x))


def two_readers_of_a_convolution(x):
    x = keras.layers.Conv2D(3, 1, name="conv")(x)
    y = keras.layers.BatchNormalization(name="bn")(x)
    return head(keras.layers.Add()([x, y]))


@pytest.mark.parametrize(
    "body",
    [
        hard_swish_after_add,
        add_of_three,
        multiply_of_three,
        pooled_pixels,
        concatenated_after_add,
        dilated,
        grouped,
        normalised_after_relu,
        normalised_pixels,
        gated_pool,
        two_readers_of_a_convolution,
    ],
)
def test_other_graphs_are_computed_right_or_refused(body):
    student = small(body)
    rng = np.random.default_rng(1)
    student.set_weights([w + rng.uniform(0, 0.5, w.shape) for w in student.get_weights()])
    try:
        model = quantized(student)
    except ValueError as error:
        assert "layer '" in str(error)
        return
    batch = photos(student, count=2)
    want = call(student, batch)
    with fake_quant.quantization_mode("off"):
        np.testing.assert_allclose(call(model, batch), want, atol=1e-4)
    np.testing.assert_allclose(folded_float(model, batch), want, atol=1e-4)


# Refusals


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras.layers.LayerNormalization(name="norm"), "'norm' is a LayerNormalization"),
        (keras.layers.Activation("gelu", name="act"), "'act' has the activation 'gelu'"),
        (
            keras.layers.Conv2D(3, 1, activation="tanh", name="conv"),
            "'conv' has the activation 'tanh'",
        ),
        (keras.layers.Rescaling(1 / 255, name="again"), "'again' rescales by 0.0039.* and 0"),
    ],
)
def test_refuses_layers_without_an_8_bit_form(layer, message):
    with pytest.raises(ValueError, match=message):
        quantized(small(lambda x: head(layer(x))))


def test_refuses_models_without_a_graph():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="must be a functional Keras 3 model.*Subclassed"):
        quantize.quantize_aware(Subclassed(), [])


def test_refuses_calibration_on_nothing_or_on_nan():
    student = small(head)
    with pytest.raises(ValueError, match="no calibration batch"):
        quantize.quantize_aware(student, [])
    with pytest.raises(ValueError, match="not finite"):
        quantize.quantize_aware(student, [np.full((1, 8, 8, 3), np.nan, "float32")])


# The 8-bit file


def nodes(path):
    """[(operator, input tensors, output tensors)] of a file, and the file."""
    file = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    (graph,) = file.subgraphs
    found = []
    for name, node in zip(flatbuffer.builtin_ops(path), graph.operators, strict=True):
        ins, outs = (
            [graph.tensors[i] for i in side if i >= 0] for side in (node.inputs, node.outputs)
        )
        found.append((name, ins, outs))
    return found, file


def error_share(path, batch, emulated):
    """Largest and mean difference to the emulation, as shares of the logits' range."""
    difference = np.abs(runtime.predict(path, batch) - emulated) / np.ptp(emulated)
    return difference.max(), difference.mean()


def test_the_file_says_what_the_emulation_says(made, file):
    largest, mean = error_share(file, made.batch, made.emulated)
    assert largest < 0.03 and mean < 0.01


def test_xnnpack_takes_the_whole_graph(made, file):
    seen = subprocess_check.probe(file)
    outside = ["GATHER", "GATHER"] if made.name == "metadata" else []
    assert seen["nodes_outside"] == outside and seen["delegate_partitions"] == 1
    assert [one["dtype"] for one in seen["inputs"] if len(one["shape"]) == 4] == ["int8"]


def test_every_operator_is_8_bit(made, file):
    found, _ = nodes(file)
    names = [name for name, _, _ in found]
    assert "HARD_SWISH" not in names and names.count("DEQUANTIZE") == 1
    assert names[-1] == "DEQUANTIZE" and "QUANTIZE" not in names
    for name, ins, outs in found[:-1]:
        types_seen = {tensor.type for tensor in ins[:2] + outs} - (
            {INT32} if name in ("GATHER", "RESHAPE", "MEAN") else set()
        )
        assert types_seen == {INT8}, name
    if made.name in ("mobilenet", "metadata"):
        assert {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MUL", "MEAN"} <= set(names)


def test_weights_are_symmetric_with_a_scale_per_channel(made, file):
    found, content = nodes(file)
    linear = [(name, ins) for name, ins, _ in found if name in LINEAR]
    count = sum(
        type(folding.unwrapped(layer)).__name__ in ("Conv2D", "DepthwiseConv2D", "Dense")
        for layer in made.model.layers
    )
    assert len(linear) == count
    for name, (_, kernel, bias) in linear:
        channels = kernel.shape[3 if name == "DEPTHWISE_CONV_2D" else 0]
        assert kernel.type == INT8 and not np.any(kernel.quantization.zeroPoint)
        assert len(kernel.quantization.scale) == channels and bias.type == INT32
        values = np.frombuffer(bytes(content.buffers[kernel.buffer].data), np.int8)
        assert values.min() >= -127 and np.abs(values.astype(int)).max() == 127


def test_the_signature(made, file):
    runner = runtime.Interpreter(model_path=str(file)).get_signature_runner()
    assert set(runner.get_input_details()) == {tensor.name for tensor in made.student.inputs}
    ((name, logits),) = runner.get_output_details().items()
    assert name == "logits" and logits["dtype"] == np.float32


def swish(x):
    """One convolution, batch norm and hard-swish: converts in a moment."""
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", use_bias=False, name="conv")(x)
    x = keras.layers.BatchNormalization(name="bn")(x)
    return head(keras.layers.Activation("hard_swish", name="act")(x))


@pytest.fixture(scope="module")
def tiny():
    student = realistic(small(swish))
    model, batch = quantized(student), photos(student, seed=2)
    return types.SimpleNamespace(model=model, batch=batch, emulated=call(model, batch))


@pytest.mark.parametrize(("image", "outside"), [(tf.uint8, ["QUANTIZE"]), (tf.float32, [])])
def test_image_types(tiny, image, outside, tmp_path):
    path = export.to_tflite(tiny.model, tmp_path / "x.tflite", image=image)
    largest, mean = error_share(path, tiny.batch, tiny.emulated)
    assert largest < 0.03 and mean < 0.01
    seen = subprocess_check.probe(path)
    assert seen["nodes_outside"] == outside and seen["delegate_partitions"] == 1
    assert seen["inputs"][0]["dtype"] == image.name


def test_probabilities(tiny, tmp_path):
    path = export.to_tflite(tiny.model, tmp_path / "x.tflite", probabilities=True)
    assert flatbuffer.builtin_ops(path)[-1] == "SOFTMAX"
    assert subprocess_check.probe(path)["nodes_outside"] == []
    runner = runtime.Interpreter(model_path=str(path)).get_signature_runner()
    assert list(runner.get_output_details()) == ["probabilities"]
    got = runtime.predict(path, tiny.batch)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(got, tf.nn.softmax(tiny.emulated), atol=0.02)


def test_a_temperature_changes_scales_only(tiny, tmp_path):
    cold, warm = (
        export.to_tflite(tiny.model, tmp_path / f"{t}.tflite", logit_temperature=t)
        for t in (1.0, 1.7)
    )
    assert subprocess_check.probe(warm)["nodes_outside"] == []
    np.testing.assert_allclose(
        1.7 * runtime.predict(warm, tiny.batch), runtime.predict(cold, tiny.batch), rtol=1e-6
    )


def test_arguments_that_belong_to_the_other_kind_are_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match="weights=float16 has no meaning.*quantization-aware"):
        export.to_tflite(tiny.model, tmp_path / "x.tflite", weights=tf.float16)
    with pytest.raises(ValueError, match="image must be one of int8, uint8, float32, got int16"):
        export.to_tflite(tiny.model, tmp_path / "x.tflite", image=tf.int16)
    assert not list(tmp_path.iterdir())


def test_a_bias_that_is_the_same_for_all_channels(tmp_path):
    """The converter would give all of them the integer of the first channel's scale."""
    student = small(lambda x: head(keras.layers.Conv2D(4, 1, name="conv")(x)))
    rng = np.random.default_rng(0)
    kernel = rng.choice([-1, 1], (1, 1, 3, 4)) * np.geomspace(1, 0.01, 4)
    student.get_layer("conv").set_weights([kernel, np.full(4, 0.5)])
    student.get_layer("logits").set_weights([np.eye(4), np.full(4, -0.25)])
    model, batch = quantized(student), photos(student, seed=2)
    path = export.to_tflite(model, tmp_path / "x.tflite")
    found, content = nodes(path)
    for want, (_, (x, kernel, bias), _) in zip(
        (0.5, -0.25), [node for node in found if node[0] in LINEAR], strict=True
    ):
        scale = np.float64(x.quantization.scale) * kernel.quantization.scale
        stored = np.frombuffer(bytes(content.buffers[bias.buffer].data), np.int32)
        np.testing.assert_allclose(stored * scale, want, rtol=0.01)
    assert error_share(path, batch, call(model, batch))[0] < 0.02


def squeezed(x):
    x = keras.layers.Conv2D(6, 3, use_bias=False, name="conv")(x)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Activation("relu", name="relu")(x)
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = keras.layers.Conv2D(4, 1, name="reduce")(gate)
    gate = keras.layers.Activation("relu", name="reduce_relu")(gate)
    gate = keras.layers.Conv2D(6, 1, name="expand")(gate)
    gate = keras.layers.Activation("hard_sigmoid", name="gate")(gate)
    return head(keras.layers.Multiply(name="mul")([x, gate]))


def dead_convolution(student):
    """Channel 0 is a constant, channel 1 nothing at all, channel 2 the same by its kernel."""
    gamma, beta, mean, variance = student.get_layer("bn").get_weights()
    gamma[:2] = beta[1] = 0
    student.get_layer("bn").set_weights([gamma, beta, mean, variance])
    (kernel,) = student.get_layer("conv").get_weights()
    kernel[..., 2] = 0
    student.get_layer("conv").set_weights([kernel])


def dead_squeeze(student):
    kernel, bias = student.get_layer("reduce").get_weights()
    student.get_layer("reduce").set_weights([kernel, np.full_like(bias, -1000)])


def all_dead(student):
    _, beta, mean, variance = student.get_layer("bn").get_weights()
    student.get_layer("bn").set_weights([0 * beta, 0 * beta - 1, mean, variance])


@pytest.mark.parametrize("kill", [dead_convolution, dead_squeeze, all_dead])
def test_dead_channels_work_or_are_refused(kill, tmp_path):
    """Never a file that ends the process that opens it."""
    student = realistic(small(squeezed))
    kill(student)
    model, batch = quantized(student), photos(student, seed=2)
    emulated = call(model, batch)
    try:
        path = export.to_tflite(model, tmp_path / "x.tflite")
    except ValueError as error:
        assert "layer '" in str(error) and not list(tmp_path.iterdir())
        return
    if kill is not all_dead:  # which says the same of every photo
        assert subprocess_check.probe(path)["nodes_outside"] == []
    got = runtime.predict(path, batch)
    assert np.abs(got - emulated).max() < 0.03 * max(np.ptp(emulated), np.abs(emulated).max())


@pytest.mark.parametrize("name", ["logits", "conv"])
def test_a_collapsed_range_is_refused_by_the_layers_name(name, tmp_path):
    model = quantized(small(lambda x: head(keras.layers.Conv2D(3, 1, name="conv")(x))))
    ends = model.get_layer(name)._output_quantizer_vars
    ends["low"].assign(0.0)
    ends["high"].assign(1e-9)
    with pytest.raises(ValueError, match=f"layer '{name}' of small would rescale by"):
        export.to_tflite(model, tmp_path / "x.tflite")
    assert not list(tmp_path.iterdir())


def test_a_bias_that_dwarfs_its_kernel_comes_out_right(tmp_path):
    """At the kernel's own scale it would not fit into 32 bits."""
    student = small(lambda x: head(keras.layers.Conv2D(3, 1, name="conv")(x)))
    kernel, _ = student.get_layer("conv").get_weights()
    kernel[..., 0] *= 1e-9
    student.get_layer("conv").set_weights([kernel, np.array([1.0, 0.0, 0.5])])
    model, batch = quantized(student), photos(student, count=4, seed=2)
    path = export.to_tflite(model, tmp_path / "x.tflite")
    assert error_share(path, batch, call(model, batch))[0] < 0.02


# Keeping and restoring


def test_saved_weights_and_ranges_come_back(tiny, tmp_path):
    path = tmp_path / "qat.npz"
    quantize.save_weights(tiny.model, path)
    restored = quantize.load_weights(small(swish, seed=9), path)
    np.testing.assert_array_equal(call(restored, tiny.batch), tiny.emulated)
    with pytest.raises(ValueError, match="qat.npz holds"):
        quantize.load_weights(small(head), path)


def test_models_are_told_apart(tiny):
    assert folding.is_quantized(tiny.model)
    assert not folding.is_quantized(tf_keras.Sequential([tf_keras.layers.Dense(2)]))
