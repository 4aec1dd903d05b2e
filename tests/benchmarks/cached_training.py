"""Distilled training with cached logits beside training without a teacher and with a live one.

    python tests/benchmarks/cached_training.py [--pair small|phone] [--steps 20] [--rounds 3]

Each row trains the same student on the same drawn photos and views, from TFRecord shards to the
optimizer's step. Rows take turns, and each figure is the median over rounds of the images per
second of `fit`, so that a busy moment of the machine hits all of them alike; ratios are those of
the medians. Pairs:

    small   cifar_cnn (0.1 M parameters) and a ResNetV2 of 5.9 M at 32 px
    phone   mobilenet_v3_small at 224 px and an EfficientNetV2-B0

Rows:

    supervised        plain Keras, labels only
    cached            kdtf.Distiller, cached logits of the same views
    live              kdtf.Distiller, the teacher asked in every step
    keras, live       keras.distillation.Distiller with KLDivergence, its correct setting
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

from kdtf import Distiller, benchmark, data, students, teachers
from tfrecords_tools import synthetic

BATCH, CLASSES, T = 32, 10, 4.0


def small():
    """(student, teacher, image size)"""
    import keras_cv

    backbone = keras_cv.models.ResNetV2Backbone(
        stackwise_filters=[84, 168, 336],
        stackwise_blocks=[2, 2, 2],
        stackwise_strides=[1, 2, 2],
        include_rescaling=True,
        input_shape=(32, 32, 3),
    )
    teacher = teachers.classifier(teachers.keras_cv_backbone(backbone, 32), CLASSES)
    return students.cifar_cnn(CLASSES), teacher, 32


def phone():
    """(student, teacher, image size)"""
    backbone = teachers.applications_backbone("efficientnet_v2_b0", 224)
    return (students.mobilenet_v3_small(CLASSES, 224), teachers.classifier(backbone, CLASSES), 224)


PAIRS = {"small": small, "phone": phone}


def compiled(model, **options):
    model.compile(
        keras.optimizers.SGD(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )
    return model


def keras_distiller(student, teacher):
    loss = keras.distillation.LogitsDistillation(loss=keras.losses.KLDivergence(), temperature=T)
    return keras.distillation.Distiller(
        teacher=teacher, student=student, distillation_losses=loss, student_loss_weight=0.3
    )


def seconds(model, batches, steps):
    """Seconds of one `fit` of so many steps, traced and warmed up before."""
    started = time.perf_counter()
    model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)
    return time.perf_counter() - started


def measure(pair, steps, rounds, folder):
    """{row: images per second of each round}, and the parameters of student and teacher."""
    student, teacher, size = PAIRS[pair]()
    photos = max(2 * BATCH, steps * BATCH)
    synthetic.synthesize(
        folder / "data", classes=CLASSES, photos=int(photos * 1.5), size=max(size, 48)
    )
    info = data.DatasetInfo.load(folder / "data")
    cached, _ = teachers.cache_logits(
        info, [teacher], views=1, image_size=size, out=folder / "logits"
    )

    def batches(cached_logits=None):
        return data.training_batches(
            info, "train", BATCH, size, seed=0, epochs=1_000_000, cached_logits=cached_logits
        )

    def images():
        return batches().map(data.select_inputs(student))

    def start():
        return keras.models.clone_model(student)

    rows = {
        "supervised": (compiled(start()), images()),
        "cached": (compiled(Distiller(start(), temperature=T)), batches(cached)),
        "live": (compiled(Distiller(start(), teacher, temperature=T)), images()),
        "keras, live": (compiled(keras_distiller(start(), teacher)), images()),
    }
    for model, feed in rows.values():
        seconds(model, feed, 2)
    found = {name: [] for name in rows}
    for _ in range(rounds):
        for name, (model, feed) in rows.items():
            found[name].append(steps * BATCH / seconds(model, feed, steps))
    return found, (student.count_params(), teacher.count_params())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pair", choices=sorted(PAIRS), nargs="+", default=sorted(PAIRS))
    parser.add_argument("--steps", type=int, default=20, help="of each row in a round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for pair in args.pair:
        with tempfile.TemporaryDirectory() as folder:
            found, parameters = measure(pair, args.steps, args.rounds, Path(folder))
        medians = {name: statistics.median(values) for name, values in found.items()}
        print(
            f"{pair}: student {parameters[0] / 1e6:.2f} M, teacher {parameters[1] / 1e6:.2f} M "
            f"parameters; {benchmark.device_name()}, {os.cpu_count()} cores, load "
            f"{os.getloadavg()[0]:.1f}"
        )
        for name, values in found.items():
            print(
                f"  {name:<12} {medians[name]:8.1f} images/s ({min(values):.1f} to "
                f"{max(values):.1f}), {medians[name] / medians['supervised']:.2f} of supervised"
            )
        for name in ("live", "keras, live"):
            print(f"  cached over {name}: {medians['cached'] / medians[name]:.2f}")


if __name__ == "__main__":
    main()
