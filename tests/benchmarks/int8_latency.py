"""Latency of the 8-bit student against float32 and against what the converter makes by itself.

    python tests/benchmarks/int8_latency.py [--image-size 224] [--classes 250] [--rounds 3]

One thread, one photo, `litert-benchmark`; the files take turns, so that a busy moment of the
machine hits all of them alike, and each figure is the median over rounds. Latency does not depend
on the values of weights, so they are random. Rows:

    float32             the float student
    int8                quantize_aware + to_tflite, image as int8
    int8, uint8 image   the same with one QUANTIZE in front
    int8, float image   the same, image as float32 0..255
    naive int8          the converter's post-training int8 of the same student: HARD_SWISH kept
    int8, ReLU only     every hard-swish replaced by ReLU: what no rewriting of it could beat
    int8, no gates      also without squeeze-and-excite: the convolutions alone
"""

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from kdtf import benchmark, export, quantize, students
from kdtf.export import runtime, subprocess_check
from kdtf.students import networks


def naive_int8(student, photos, path):
    """Post-training int8 as TensorFlow's guide does it."""

    module = tf.Module()
    module.weights = [variable.value for variable in student.variables]
    module.logits = tf.function(
        lambda image: {"logits": student(image, training=False)},
        autograph=False,
        input_signature=[tf.TensorSpec((1, *student.input_shape[1:]), name="image")],
    )
    with runtime.quiet(), tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": module.logits})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([photo[None]] for photo in photos)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        path.write_bytes(converter.convert())


def plain_student(classes, image_size, squeeze):
    """The student with ReLU for every hard-swish and, unless `squeeze`, without its gates."""
    activate = networks._Blocks.activate

    def relu(self, x, kind, name):
        return activate(self, x, "relu" if kind == "hard_swish" else kind, name)

    patches = [mock.patch.object(networks._Blocks, "activate", relu)]
    if not squeeze:
        skip = mock.patch.object(networks._Blocks, "squeeze_excite", lambda self, x, name: x)
        patches.append(skip)
    for patch in patches:
        patch.start()
    try:
        return students.mobilenet_v3_small(classes, image_size)
    finally:
        for patch in patches:
            patch.stop()


def settle(student, photos):
    """Batch-norm statistics of the photos: with an untrained student's all signals vanish."""
    for layer in student.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    student(photos, training=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--classes", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    keras.utils.set_random_seed(0)
    shape = (16, args.image_size, args.image_size, 3)
    photos = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    student = students.mobilenet_v3_small(args.classes, args.image_size)
    settle(student, photos)
    with tempfile.TemporaryDirectory() as folder:
        files = {}

        def path(name):
            files[name] = Path(folder) / f"{len(files)}.tflite"
            return files[name]

        export.to_tflite(student, path("float32"))
        quantized = quantize.quantize_aware(student, [photos])
        export.to_tflite(quantized, path("int8"))
        export.to_tflite(quantized, path("int8, uint8 image"), image=tf.uint8)
        export.to_tflite(quantized, path("int8, float image"), image=tf.float32)
        naive_int8(student, photos, path("naive int8"))
        for name, squeeze in (("int8, ReLU only", True), ("int8, no gates", False)):
            plain = plain_student(args.classes, args.image_size, squeeze)
            settle(plain, photos)
            export.to_tflite(quantize.quantize_aware(plain, [photos]), path(name))

        medians = {name: [] for name in files}
        for _ in range(args.rounds):
            for name, file in files.items():
                medians[name].append(benchmark.benchmark(file, repeats=1).p50_ms)
        print(
            f"{benchmark.device_name()}, one thread, {args.image_size} px, "
            f"{args.classes} classes, load {os.getloadavg()[0]:.1f}"
        )
        reference = statistics.median(medians["float32"])
        for name, values in medians.items():
            p50 = statistics.median(values)
            seen = subprocess_check.check_runs(files[name])
            outside = len(seen["nodes_outside"])
            print(
                f"{name:<18} {p50:6.2f} ms ({min(values):.2f} to {max(values):.2f}), "
                f"{p50 / reference:5.2f} of float32, {files[name].stat().st_size / 1e6:5.2f} MB, "
                f"{seen['delegate_partitions']} partitions, {outside} nodes outside XNNPACK"
            )
        ratio = statistics.median(medians["int8"]) / statistics.median(medians["naive int8"])
        print(f"int8 over naive int8: {ratio:.2f}")


if __name__ == "__main__":
    main()
