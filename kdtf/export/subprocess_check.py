"""Whether a .tflite file runs at all and what the runtime makes of it, seen in a child process."""

import json
import signal
import subprocess
import sys

# Run apart from the caller: some files end the process that opens them, inside the runtime.
_INFERENCES = """
import json, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
rng = np.random.default_rng(0)
inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
# Left open, a size is 1 here, and what runs on one pixel says nothing of a photo. The batch may be.
open_sizes = {wanted["name"]: wanted["shape_signature"].tolist() for wanted in inputs
              if (wanted["shape_signature"][1:] < 0).any()}
if open_sizes:
    print(json.dumps({"open_sizes": open_sizes}))
    sys.exit()
results = []
for top in (0, 128, 255):
    for wanted in inputs:
        if np.issubdtype(wanted["dtype"], np.floating):
            values = rng.uniform(0, top, wanted["shape"])
        elif np.prod(wanted["shape"]) > 1:
            limit = np.iinfo(wanted["dtype"])
            values = rng.uniform(0, top, wanted["shape"]).round() + max(limit.min, -128)
        else:
            values = np.zeros(wanted["shape"])
        interpreter.set_tensor(wanted["index"], values.astype(wanted["dtype"]))
    interpreter.invoke()
    results.append(np.concatenate([
        np.ravel(interpreter.get_tensor(out["index"])).astype("float64") for out in outputs]))

# The list of nodes keeps those a delegate took over, unmarked, and appends the delegate's own.
# Going back from the outputs, a tensor that a delegate's node yields came from it; any other
# was computed by the original node, which therefore still runs.
nodes = interpreter._get_ops_details()
taken = [node for node in nodes if node["op_name"] == "DELEGATE"]
maker = {tensor: node for node in nodes if node["op_name"] != "DELEGATE"
         for tensor in node["outputs"].tolist()}
maker.update((tensor, node) for node in taken for tensor in node["outputs"].tolist())
pending, running = [out["index"] for out in outputs], {}
while pending:
    node = maker.get(pending.pop())
    if node is not None and node["index"] not in running:
        running[node["index"]] = node["op_name"]
        pending.extend(node["inputs"].tolist())

# Fused activations clamp an infinity to the largest float.
print(json.dumps({
    "finite": bool((np.abs(results) < np.finfo("float32").max).all()),
    "constant": all((result == results[0]).all() for result in results),
    "delegate_partitions": len(taken),
    "nodes_outside": [name for _, name in sorted(running.items()) if name != "DELEGATE"],
    "inputs": [{"shape": wanted["shape"].tolist(), "dtype": np.dtype(wanted["dtype"]).name}
               for wanted in inputs],
}))
"""

_LOADING = """
import sys
from ai_edge_litert.interpreter import Interpreter
Interpreter(model_path=sys.argv[1], num_threads=1).allocate_tensors()
"""


def check_runs(path, timeout_s=600):
    """Runs a .tflite file on three different inputs in a child process.

    Args:
      path: .tflite file.
      timeout_s: limit for the child, seconds.

    Returns:
      dict:
        finite, constant: True and False for every file that gets this far.
        delegate_partitions: pieces the graph was cut into for XNNPACK; 0 where it took none.
        nodes_outside: list of op names in the order of the graph, such as ["GATHER"]: nodes the
          outputs depend on that XNNPACK left to the runtime's own kernels. Of the main graph
          only, not of the bodies of control flow.
        inputs: list of {"shape": list of int, "dtype": name}, in the order of the graph.

    Raises:
      ValueError: the file kills the runtime or is rejected by it, leaves the size of an input open,
        returns values that are not finite, or returns the same values for all three inputs.
      RuntimeError: no answer within timeout_s.
    """
    done = run_child([sys.executable, "-c", _INFERENCES, str(path)], timeout_s)
    if done.returncode:
        raise ValueError(f"{path} does not run: {failure(done)}")
    facts = json.loads(done.stdout.splitlines()[-1])
    if "open_sizes" in facts:
        sizes = ", ".join(f"{name!r} {shape}" for name, shape in facts["open_sizes"].items())
        raise ValueError(
            f"{path} leaves sizes of its inputs open (-1): {sizes}. Export it for one fixed size, "
            "only the batch may be open"
        )
    if not facts["finite"]:
        raise ValueError(f"{path} returns values that are not finite: its latency means nothing")
    if facts["constant"]:
        raise ValueError(
            f"{path} returns the same values for three different inputs: its latency means nothing"
        )
    return facts


def check_loads(path, timeout_s=600):
    """Lets a child process open a .tflite file and lay out its tensors.

    Raises:
      ValueError: the runtime rejects the file, or dies of it.
      RuntimeError: no answer within timeout_s seconds.
    """
    done = run_child([sys.executable, "-c", _LOADING, str(path)], timeout_s)
    if done.returncode:
        raise ValueError(f"{path} cannot be opened: {failure(done)}")


def run_child(command, timeout_s):
    """subprocess.CompletedProcess with text; RuntimeError after timeout_s seconds."""
    try:
        return subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(
            f"no result within {timeout_s} s: raise timeout_s or lower runs"
        ) from error


def failure(done):
    """How a child process ended, with the last lines that it printed."""
    if done.returncode < 0:
        cause = f"it was killed by {signal.Signals(-done.returncode).name} inside the runtime"
    else:
        cause = f"exit status {done.returncode}"
    last_lines = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
    return f"{cause}\n{last_lines}".rstrip()
