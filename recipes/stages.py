"""The stages of the main job: what each reads, writes and leaves out when it stands complete."""

import functools
import json
import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import train_teacher
from tqdm import tqdm

import kdtf
from kdtf import benchmark, data, export, files, metrics, report, students, teachers
from kdtf.checkpoint import EpochCheckpoint
from tfrecords_tools import synthetic
from tfrecords_tools.shards import file_sha256

STUDENTS = ("baseline", "distilled")
PARITY_PHOTOS = 64


@dataclass(frozen=True)
class Config:
    """What decides a run; written to `config.json`, compared when a run is continued."""

    data: str | None = None
    teacher: tuple[str, ...] = ("train",)
    student: str = "none"
    image_size: int = 224
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    temperature: float = 4.0
    alpha: float = 0.7
    weights: str | None = "imagenet"
    seed: int = 0


EMBEDDED = Config(image_size=96, epochs=10, weights=None)
EMBEDDED_DATA = {"classes": 40, "photos": 3000, "size": 128, "examples_per_shard": 128}
EMBEDDED_TEACHER = train_teacher.Config(
    backbone="resnet14_v2", image_size=96, epochs=10, mixup=0.0, cutmix=0.0
)
REAL_TEACHER = train_teacher.Config(backbone="mobilenet_v2", weights="imagenet")


class Run:
    """One run: its directory, settings and data; each method is a stage.

    A stage whose outputs stand complete is not run again.
    """

    def __init__(self, directory, config):
        self.directory = Path(directory)
        self.config = config
        self.seconds = {}
        self._remember(self.directory / "config.json", asdict(config))

    def spend(self, stage, seconds):
        """Adds to what a stage has cost, earlier calls included."""
        path = self.directory / "stages.json"
        self.seconds = json.loads(path.read_text()) if path.exists() else {}
        self.seconds[stage] = round(self.seconds.get(stage, 0.0) + seconds, 1)
        self._write_json(path, self.seconds)

    def prepare_data(self):
        """Opens the shards, or draws the embedded set."""
        if self.config.data is None:
            folder = self.directory / "data"
            if not (folder / data.MANIFEST).exists():
                synthetic.synthesize(folder, seed=0, workers=os.cpu_count(), **EMBEDDED_DATA)
            self.info = data.DatasetInfo.load(folder)
        else:
            self.info = data.DatasetInfo.load(self.config.data)
        for split in ("train", "val", "test"):
            self.info.split(split)
        self.steps = data.steps_per_epoch(self.info, "train", self.config.batch_size)
        self.metadata = (
            self.info.vocabulary_sizes() if self.config.student == "metadata" else None
        )

    def prepare_teacher(self):
        """Loads the given teacher, or trains one."""
        path = self.directory / "models" / "teacher.keras"
        if self.config.teacher != ("train",):
            self.teacher = teachers.load(self.config.teacher)
            self._check_teacher_classes(self.config.teacher)
        elif path.exists():
            self.teacher = teachers.load([path])
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            settings = EMBEDDED_TEACHER if self.config.data is None else REAL_TEACHER
            settings = replace(settings, seed=self.config.seed)
            self.teacher, _ = train_teacher.train(self.info, settings, path)
        classes = self.teacher.output_shape[-1]
        if classes != len(self.info.classes):
            raise ValueError(
                f"the teacher has {classes} classes, {self.info.directory} has "
                f"{len(self.info.classes)}: train a teacher on these classes"
            )

    def train_student(self, name):
        """Trains the student called `name`; both start from the same saved weights."""
        path = self.directory / "models" / f"{name}.keras"
        if path.exists():
            return
        config = self.config
        initial = self._initial_student()
        keras.utils.set_random_seed(config.seed)  # before loading: dropout draws its seed there
        student = keras.models.load_model(initial, compile=False)
        distiller = kdtf.Distiller(
            student,
            teacher=self.teacher if name == "distilled" else None,
            alpha=config.alpha if name == "distilled" else 0.0,
            temperature=config.temperature,
        )
        schedule = train_teacher.cosine_schedule(config.learning_rate, self.steps, config.epochs)
        distiller.compile(
            keras.optimizers.AdamW(schedule, weight_decay=config.weight_decay),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )
        checkpoint = EpochCheckpoint(self.directory / "checkpoints" / f"{name}.npz")
        first_epoch = checkpoint.restore(distiller)
        batches = data.training_batches(
            self.info,
            "train",
            config.batch_size,
            max(config.image_size, image_size(self.teacher)),
            seed=config.seed,
            epochs=config.epochs,
            first_epoch=first_epoch,
            columns=self._columns(),
        )
        validation = data.evaluation_batches(
            self.info, "val", config.batch_size, config.image_size, columns=self._columns()
        )
        board = keras.callbacks.TensorBoard(
            self.directory / "tensorboard" / name, write_graph=False, update_freq=10
        )
        if first_epoch < config.epochs:
            distiller.fit(
                batches,
                epochs=config.epochs,
                initial_epoch=first_epoch,
                steps_per_epoch=self.steps,
                validation_data=validation,
                callbacks=[checkpoint, board],
                shuffle=False,
            )
        self._write_json(path.with_suffix(".json"), {"history": checkpoint.history})
        with files.replacing(path) as partial:
            distiller.save(partial)
        checkpoint.path.unlink()

    def export(self, name):
        """Model to float TFLite, compared with Keras on validation photos."""
        path = self._tflite(name)
        facts = path.with_suffix(".json")
        if facts.exists():
            return
        model = self._model(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        export.to_tflite(model, path)
        photos = self._photos("val", model).unbatch().take(PARITY_PHOTOS).batch(16)
        with tqdm(total=PARITY_PHOTOS, unit="photo", desc=f"{name}: Keras against TFLite") as bar:
            parity = export.parity(model, path, photos, progress=bar.update)
        self._write_json(facts, {"parity": parity, "parameters": model.count_params()})

    def evaluate(self, name):
        """The exported file over the whole test split."""
        path = self.directory / "evaluation" / f"{name}.json"
        if path.exists():
            return
        examples = self.info.split("test").examples
        with tqdm(total=examples, unit="photo", desc=f"{name}: test split") as bar:
            logits = export.predict(
                self._tflite(name),
                self._photos("test", self._model(name)),
                num_threads=os.cpu_count(),
                progress=bar.update,
            )
        counts = self.info.split("train").class_counts
        measured = metrics.evaluate(logits, self._test_labels, counts)
        predictions = np.argmax(logits, axis=-1).tolist()
        self._write_json(path, {"metrics": measured, "predictions": predictions})

    def measure_latency(self, name):
        """Latency of the exported file, one thread."""
        path = self.directory / "evaluation" / f"{name}_latency.json"
        if not path.exists():
            self._write_json(path, asdict(benchmark.benchmark(self._tflite(name))))

    def report(self):
        """results.json from what the stages left, and the report from that."""
        models, predictions, history = {}, {}, {}
        for name in ("teacher", *STUDENTS):
            evaluation = self._read_json(f"evaluation/{name}.json")
            latency = self._read_json(f"evaluation/{name}_latency.json")
            models[name] = {
                **evaluation["metrics"],
                **self._read_json(f"tflite/{name}.json"),
                "size_bytes": self._tflite(name).stat().st_size,
                "latency_ms": {"p50": latency["p50_ms"], "p95": latency["p95_ms"]},
                "benchmark": latency,
            }
            predictions[name] = np.asarray(evaluation["predictions"])
            facts = self.directory / "models" / f"{name}.json"
            if facts.exists():
                history[name] = json.loads(facts.read_text())["history"]
        labels = self._test_labels
        verdict = metrics.paired_difference(
            predictions["baseline"] == labels, predictions["distilled"] == labels
        )
        results = {
            "models": models,
            "gates": report.gates(models),
            "verdict": verdict | {"seeds": 1},
            "environment": self._environment(),
            "history": history,
            "stages": [{"name": name, "seconds": s} for name, s in self.seconds.items()],
        }
        self._write_json(self.directory / "results.json", results)
        self.results, self.page = results, report.write(self.directory)

    @functools.cached_property
    def _test_labels(self):
        return data.labels(self.info, "test")

    def _initial_student(self):
        path = self.directory / "models" / "initial.keras"
        if not path.exists():
            keras.utils.set_random_seed(self.config.seed)
            student = students.mobilenet_v3_small(
                len(self.info.classes),
                self.config.image_size,
                metadata=self.metadata,
                weights=self.config.weights,
                bn_momentum=students.batch_norm_momentum(self.steps * self.config.epochs),
            )
            with files.replacing(path) as partial:
                student.save(partial)
        return path

    def _model(self, name):
        if name == "teacher":
            return self.teacher
        return keras.models.load_model(self.directory / "models" / f"{name}.keras", compile=False)

    def _tflite(self, name):
        return self.directory / "tflite" / f"{name}.tflite"

    def _columns(self):
        taken = set(self.metadata or ()) | set(_columns_of(self.teacher))
        return tuple(column for column in self.info.metadata if column in taken)

    def _photos(self, split, model):
        return data.evaluation_batches(
            self.info, split, 16, image_size(model), columns=_columns_of(model)
        )

    def _check_teacher_classes(self, paths):
        for path in paths:
            facts = Path(path).with_suffix(".json")
            known = json.loads(facts.read_text()).get("classes") if facts.exists() else None
            if known is not None and tuple(known) != self.info.classes:
                raise ValueError(
                    f"{path} was trained on other classes ({len(known)}, the first {known[0]!r}) "
                    f"than {self.info.directory} holds ({len(self.info.classes)}, the first "
                    f"{self.info.classes[0]!r}), or in another order: train a teacher on these"
                )

    def _environment(self):
        return {
            "kdtf": kdtf.__version__,
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "device": benchmark.device_name(),
            "cores": os.cpu_count(),
            "data": str(self.info.directory),
            "data_sha256": file_sha256(self.info.directory / data.MANIFEST),
            "finished": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        }

    def _remember(self, path, settings):
        settings = json.loads(json.dumps(settings))
        if path.exists():
            earlier = json.loads(path.read_text())
            changed = [k for k in settings if earlier.get(k) != settings[k]]
            if changed:
                was = {key: earlier.get(key) for key in changed}
                now = {key: settings[key] for key in changed}
                raise ValueError(
                    f"{self.directory} holds a run with {was}, this one has {now}: choose another "
                    "--run-dir, or give the same settings to continue"
                )
        else:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._write_json(path, settings)

    def _read_json(self, name):
        return json.loads((self.directory / name).read_text())

    def _write_json(self, path, value):
        files.write_text(path, json.dumps(value, indent=1) + "\n")


def _columns_of(model):
    inputs = teachers.named_inputs(model)
    return tuple(key.removeprefix("meta/") for key in inputs if key != "image")


def image_size(model):
    """Side in pixels of the images that a model takes."""
    return teachers.named_inputs(model)["image"].shape[1]
