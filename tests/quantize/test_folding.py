"""The graph that ships: what the int8 file computes and how it is laid out."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from int8_students import call, head, photos, quantized, realistic, small

from kdtf import export, layer_graph
from kdtf.export import flatbuffer, runtime, subprocess_check

LINEAR = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
INT8, INT32, FLOAT32 = (schema.TensorType.INT8, schema.TensorType.INT32, schema.TensorType.FLOAT32)


@pytest.fixture(scope="module")
def file(made):
    if made.name == "cifar_cnn":
        pytest.skip("its operators are a part of tiny_cnn's")
    return export.to_tflite(made.model, made.path)


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
    seen = subprocess_check.check_runs(file)
    outside = ["GATHER"] * {"metadata": 2, "one column": 1}.get(made.name, 0)
    assert seen["nodes_outside"] == outside and seen["delegate_partitions"] == 1
    assert [one["dtype"] for one in seen["inputs"] if len(one["shape"]) == 4] == ["int8"]


def test_every_operator_is_int8(made, file):
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
        type(layer_graph.unwrapped(layer)).__name__ in ("Conv2D", "DepthwiseConv2D", "Dense")
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


@pytest.mark.parametrize(("image", "outside"), [(tf.uint8, ["QUANTIZE"]), (tf.float32, [])])
def test_image_types(tiny, image, outside, tmp_path):
    path = export.to_tflite(tiny.model, tmp_path / "x.tflite", image=image)
    largest, mean = error_share(path, tiny.batch, tiny.emulated)
    assert largest < 0.03 and mean < 0.01
    seen = subprocess_check.check_runs(path)
    assert seen["nodes_outside"] == outside and seen["delegate_partitions"] == 1
    assert seen["inputs"][0]["dtype"] == image.name


def test_probabilities(tiny, tmp_path):
    path = export.to_tflite(tiny.model, tmp_path / "x.tflite", probabilities=True)
    assert flatbuffer.builtin_ops(path)[-1] == "SOFTMAX"
    assert subprocess_check.check_runs(path)["nodes_outside"] == []
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
    assert subprocess_check.check_runs(warm)["nodes_outside"] == []
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
        assert subprocess_check.check_runs(path)["nodes_outside"] == []
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
