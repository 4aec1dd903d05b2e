"""Output of TensorFlow Lite's benchmark_model as recorded, and stand-ins for programs."""

# An AM62X running TensorFlow Lite 2.20: TexasInstruments/processor-sdk-doc, source/linux/
# Foundational_Components/Machine_Learning/tflite.rst, shortened.
XNNPACK = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Graph: [/usr/share/oob-demo-assets/models/ssd_mobilenet_v2_coco.tflite]
INFO: Use xnnpack: [1]
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: XNNPACK delegate created.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the \
delegate w/ 1 delegate kernels.
INFO: The input model file size (MB): 67.3128
INFO: Initialized session in 614.333ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if \
exceeding 150 seconds.
INFO: count=1 curr=905463 p5=905463 median=905463 p95=905463
INFO: Running benchmark for at least 50 iterations and at least 1 seconds but terminate if \
exceeding 150 seconds.
INFO: count=50 first=900416 curr=898333 min=898007 max=906121 avg=899641 std=1549 p5=898333 \
median=899281 p95=904305
INFO: Inference timings in us: Init: 614333, First inference: 905463, Warmup (avg): 905463, \
Inference (avg): 899641
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only \
APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your \
discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=146.363 overall=150.141
"""
# The same page, with --use_xnnpack=false.
NO_DELEGATE = """\
INFO: Use xnnpack: [0]
INFO: The input model file size (MB): 67.3128
INFO: Initialized session in 5.579ms.
INFO: count=1 curr=1357602 p5=1357602 median=1357602 p95=1357602

INFO: count=50 first=1249964 curr=1240143 min=1238588 max=1252566 avg=1.24027e+06 std=2565 \
p5=1238753 median=1239807 p95=1247415

INFO: Inference timings in us: Init: 5579, First inference: 1357602, Warmup (avg): 1.3576e+06, \
Inference (avg): 1.24027e+06
INFO: Memory footprint delta from the start of the tool (MB): init=6.36328 overall=109.832
"""
# With the measured line of an earlier state of that page, when the tool printed no percentiles.
OLD = XNNPACK.replace(" p5=905463 median=905463 p95=905463", "").replace(
    XNNPACK[XNNPACK.index("count=50") : XNNPACK.index("INFO: Inference timings")],
    "count=50 first=605745 curr=618849 min=568228 max=722188 avg=602943 std=27690\n\n",
)
# The other two sentences about the delegate: tflite/tools/benchmark/benchmark_tflite_model.cc.
COMPLETE = XNNPACK.replace(
    "partially executed by the delegate w/ 1 delegate kernels",
    "completely executed by the delegate",
)
REFUSED = NO_DELEGATE + (
    "INFO: Though XNNPACK delegate is explicitly applied, the model graph "
    "will not be executed by the delegate.\n"
)


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def calls(tmp_path, name):
    log = tmp_path / f"{name}.log"
    return log.read_text().splitlines() if log.exists() else []
