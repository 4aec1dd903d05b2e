"""What stands in .tflite files, and how it is changed: operators, scales, the last layers."""

import copy

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from kdtf.export.runtime import read

CUSTOM = "CUSTOM:"
_LINEAR = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_FLOATS = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
_BUILTIN = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)
}


def builtin_ops(path):
    """Names of the operators of a .tflite file, one for each node, in the file's order.

    Args:
      path: .tflite file.

    Returns:
      list of str such as "CONV_2D"; an operator that is not builtin reads "CUSTOM:<its name>".
    """
    return operators_of(read(path))


def linear_scales(content):
    """What the int8 convolutions and matrix products of a file rescale by.

    Args:
      content: bytes of a .tflite file.

    Returns:
      list of (layer name, float64 [channels] of input scale * kernel scale / output scale, int32
      [channels] bias, empty where there is none), one for each such operator, in the file's order.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    scales_by_layer = []
    for graph in file.subgraphs:
        for node in graph.operators:
            if _name(file, node) not in _LINEAR:
                continue
            x, kernel = (graph.tensors[index] for index in node.inputs[:2])
            y = graph.tensors[node.outputs[0]]
            if kernel.type != schema.TensorType.INT8 or x.type != schema.TensorType.INT8:
                continue
            scales = [np.float64(tensor.quantization.scale) for tensor in (x, kernel, y)]
            bias = np.zeros(0, np.int32)
            if len(node.inputs) > 2 and node.inputs[2] >= 0:
                buffer = file.buffers[graph.tensors[node.inputs[2]].buffer]
                bias = np.frombuffer(bytes(buffer.data), np.int32)
            name = y.name.decode().partition("/")[0]
            scales_by_layer.append((name, scales[0] * scales[1] / scales[2], bias))
    return scales_by_layer


def with_softmax(content):
    """Bytes of the file whose output "logits" has become "probabilities", by a float32 softmax.

    The converter would make the softmax of int8 logits an int8 one, with levels 1/256 apart and
    outside XNNPACK.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = file.subgraphs
    (logits,) = graph.outputs
    probabilities = copy.deepcopy(graph.tensors[logits])
    probabilities.name = b"probabilities"
    graph.tensors.append(probabilities)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SOFTMAX
    code.version = 1
    file.operatorCodes.append(code)
    softmax = schema.OperatorT()
    softmax.opcodeIndex = len(file.operatorCodes) - 1
    softmax.inputs, softmax.outputs = [logits], [len(graph.tensors) - 1]
    softmax.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
    softmax.builtinOptions = schema.SoftmaxOptionsT()
    softmax.builtinOptions.beta = 1.0
    graph.operators.append(softmax)
    graph.outputs = softmax.outputs
    (output,) = file.signatureDefs[0].outputs
    output.name, output.tensorIndex = b"probabilities", softmax.outputs[0]
    return _packed(file)


def with_temperature(content, temperature):
    """Bytes of the file whose logits are divided by a temperature (arXiv:1706.04599), at no cost.

    The last matrix product's kernel and bias hold the division. Of an int8 file only the scales
    change, the integers stay; of a float16 file the numbers are rounded to float16 once more.

    Args:
      content: bytes of a file that `export.to_tflite` wrote, its output "logits".
      temperature: T > 0.

    Raises:
      ValueError: T is not a positive number; the output is not "logits", or not the plain result
        of a FULLY_CONNECTED with weights of its own.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be a finite number > 0, got {temperature!r}")
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = file.subgraphs
    (output,) = file.signatureDefs[0].outputs
    makers = {index: node for node in graph.operators for index in node.outputs}

    def origin(index):
        """The tensor behind a DEQUANTIZE, or the tensor itself."""
        while index in makers and _name(file, makers[index]) == "DEQUANTIZE":
            (index,) = makers[index].inputs
        return index

    last = origin(graph.outputs[0])
    kind = _name(file, makers[last]) if last in makers else "input"
    if (
        output.name != b"logits"
        or kind != "FULLY_CONNECTED"
        or (makers[last].builtinOptions.fusedActivationFunction)
    ):
        raise ValueError(
            f"the file returns {output.name.decode()!r} from a {kind}: a temperature can be folded "
            "into logits that a Dense layer without activation returns"
        )
    weights = [origin(index) for index in makers[last].inputs[1:] if index >= 0]
    uses = [index for node in graph.operators for index in node.inputs]
    buffers = [tensor.buffer for tensor in graph.tensors]
    for index in weights:
        tensor = graph.tensors[index]
        shared = uses.count(index) > 1 or buffers.count(tensor.buffer) > 1
        if index in makers or shared:
            raise ValueError(
                f"the last layer's {tensor.name.decode()!r} is computed or used elsewhere too: a "
                "temperature cannot be folded into it"
            )
        if tensor.type in _FLOATS:
            data = file.buffers[tensor.buffer].data
            numbers = np.frombuffer(bytes(data), _FLOATS[tensor.type])
            divided = (np.float64(numbers) / temperature).astype(numbers.dtype)
            file.buffers[tensor.buffer].data = np.frombuffer(divided.tobytes(), np.uint8)
        else:
            _divide_scales(tensor, temperature)
    if graph.tensors[last].type == schema.TensorType.INT8:
        _divide_scales(graph.tensors[last], temperature)
    return _packed(file)


def _divide_scales(tensor, factor):
    scales = np.float64(tensor.quantization.scale) / factor
    tensor.quantization.scale = scales.astype(np.float32)


def with_lookups_first(content):
    """Bytes of the file whose GATHERs come before all else.

    XNNPACK leaves lookups out. In the middle of the nodes they cut what it takes in two.
    """
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    (graph,) = file.subgraphs
    # Lookups of metadata read inputs and tables only, so they may run before anything.
    made = {index for node in graph.operators for index in node.outputs}
    graph.operators.sort(
        key=lambda node: _name(file, node) != "GATHER" or bool(made & {*node.inputs})
    )
    return _packed(file)


def operators_of(content):
    """Names of the operators of a .tflite file's bytes, as `builtin_ops` gives them."""
    file = schema.ModelT.InitFromPackedBuf(content, 0)
    return [_name(file, node) for graph in file.subgraphs for node in graph.operators]


def _packed(file):
    builder = flatbuffers.Builder(1024)
    builder.Finish(file.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _name(file, node):
    return _builtin(file.operatorCodes[node.opcodeIndex])


def _builtin(code):
    # Files older than schema version 3a keep the number in the deprecated field.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == schema.BuiltinOperator.CUSTOM:
        return CUSTOM + (code.customCode or b"?").decode()
    return _BUILTIN[number]
