"""The stages of the main job: what each reads, writes and leaves out when it stands complete."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import keras
import tensorflow as tf
from tqdm import tqdm

from kdtf import benchmark, data, export, files, quantize, report, students, teachers
from kdtf.callbacks.checkpoint import EpochCheckpoint
from kdtf.callbacks.tensorboard import TensorBoardFigures
from kdtf.pipeline import config as settings
from kdtf.pipeline import hparams, logit_cache, student_training, teacher_training, versions
from kdtf.pipeline.batches import Batches, steps_per_epoch
from kdtf.pipeline.config import (
    EMBEDDED_DATA,
    EMBEDDED_TEACHER,
    INT8,
    MODELS,
    PACKAGES,
    REAL_TEACHER,
    SHIPPED,
)
from kdtf.pipeline.evaluation import Evaluation
from kdtf.pipeline.run_config import check_or_write
from kdtf.release import bundle
from kdtf.students import warm_start
from tfrecords_tools import synthetic

LOOKS = 5  # at a student's mistakes while it trains, about
PARITY_PHOTOS = 64


class Run:
    """One run: its directory, settings and data; each method is a stage.

    A stage whose outputs stand complete is not run again.
    """

    def __init__(self, directory, config):
        self.directory = Path(directory)
        self.config = config
        self.seconds = {}
        self.cached = self.cache_facts = None
        self._students, self._quantized = {}, {}
        check_or_write(self.directory / "config.json", asdict(config))

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
        data.count_examples(self.info, "train", unlabelled="skip")
        for split in ("val", "test"):
            data.count_examples(self.info, split)
        check_or_write(self.directory / "data.json", {"data_sha256": self.info.sha256()})
        self.evaluation = Evaluation(self.directory / "evaluation", self.info)
        self.steps = steps_per_epoch(self.info, self.config)
        self.metadata = self.info.vocabulary_sizes() if self.config.student == "metadata" else None

    def prepare_teacher(self):
        """Loads the given teacher, or trains one."""
        path = self.directory / "models" / "teacher.keras"
        trained_here = self.config.teacher == ("train",)
        paths = [path] if trained_here else self.config.teacher
        if trained_here and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            settings = EMBEDDED_TEACHER if self.config.data is None else REAL_TEACHER
            settings = replace(settings, seed=self.config.seed)
            teacher_training.train(self.info, settings, path)
        self.members = teachers.load_members(paths, self.info.classes)
        self.teacher = self.members[0] if len(paths) == 1 else teachers.ensemble(self.members)
        self.batches = Batches(self.info, self.config, self.teacher)
        self.forward_s = logit_cache.forward_seconds(self.teacher)

    def cache_logits(self):
        """Opens the teacher's cached logits, or writes them."""
        self.cached, scored = logit_cache.cache(self.info, self.members, self.config)
        path = self.directory / "cache.json"  # of this run, earlier calls included
        scored += json.loads(path.read_text())["images_scored"] if path.exists() else 0
        self.cache_facts = logit_cache.facts(
            self.info, self.config, self.cached, scored, self.forward_s
        )
        self._write_json(path, self.cache_facts)

    def train_student(self, name):
        """Trains the student called `name`; both start from the same saved weights."""
        path = self.directory / "models" / f"{name}.keras"
        if path.exists():
            return
        config = self.config
        initial = self._initial_student()
        keras.utils.set_random_seed(config.seed)  # before loading: dropout draws its seed there
        student = keras.models.load_model(initial, compile=False)
        distiller = student_training.distiller(
            student,
            config,
            self.steps,
            distilled=name == "distilled",
            teacher=self._live_teacher(name),
        )
        history = self._fit(distiller, name, 0, config.epochs)
        self._write_json(path.with_suffix(".json"), {"history": history, **self._described()})
        with files.atomic_write(path) as partial:
            distiller.save(partial)
        self._checkpoint(name).unlink()

    def train_int8(self, name):
        """Quantization-aware training of the trained student `name`, its teacher still helping."""
        path = self.directory / "models" / f"{name}_int8.npz"
        if path.exists():
            return
        config = self.config
        model = self._calibrated(name)
        if name == "distilled":
            self._export(model, "distilled_ptq_int8")
        distiller = student_training.int8_distiller(
            model,
            config,
            self.steps,
            distilled=name == "distilled",
            teacher=self._live_teacher(name),
        )
        freeze = quantize.BatchNormFreeze(config.qat_freeze_epoch)
        # Epochs go on counting where the float training ended: the next views follow.
        facts = student_training.train_or_keep_calibrated(
            distiller,
            self.batches.validation(),
            lambda: self._fit(distiller, f"{name}_int8", config.epochs, config.qat_epochs, freeze),
        )
        self._write_json(path.with_suffix(".json"), facts)
        quantize.save_weights(model, path)
        self._quantized[name] = model
        self._checkpoint(f"{name}_int8").unlink()

    def export(self, name):
        """Model to TFLite, compared with Keras on validation photos."""
        if name == "distilled_ptq_int8" and not self._facts(name).exists():
            self._export(self._calibrated("distilled"), name)
        elif not self._facts(name).exists():
            weights = {"dynamic_range": tf.int8, "float16": tf.float16}
            self._export(self._model(name), name, weights.get(name.partition("_")[2]))

    def _export(self, model, name, weights=None):
        path = self._tflite(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        export.to_tflite(model, path, weights=weights)
        photos = self._photos("val", name).unbatch().take(PARITY_PHOTOS).batch(16)
        with tqdm(total=PARITY_PHOTOS, unit="photo", desc=f"{name}: Keras against TFLite") as bar:
            parity = export.compare_with_keras(model, path, photos, progress=bar.update)
        parameters = self._float_model(name).count_params()
        self._write_json(self._facts(name), {"parity": parity, "parameters": parameters})

    def evaluate(self, name):
        """The exported file over the whole validation and test splits."""
        self.evaluation.measure(name, self._tflite(name), lambda split: self._photos(split, name))

    def examine(self):
        """What the file that ships gets wrong: photo by photo, and layer by layer."""
        self.evaluation.collect_mistakes(SHIPPED)
        photos = self._photos("val", SHIPPED)
        self.evaluation.measure_layers(
            SHIPPED, lambda: self._equalized(SHIPPED), self._tflite(SHIPPED), photos
        )

    def measure_latency(self, name):
        """Latency of the exported file, one thread, here or on the phone that was named."""
        path = self.directory / "evaluation" / f"{name}_latency.json"
        if not path.exists():
            config = self.config
            measured = benchmark.benchmark(
                self._tflite(name),
                binary=config.benchmark_binary,
                adb=config.adb,
                taskset=config.taskset,
            )
            self._write_json(path, asdict(measured))

    def report(self):
        """results.json from what the stages left, and the report from that."""
        models, history = {}, {}
        for name in MODELS:
            latency = self._read_json(f"evaluation/{name}_latency.json")
            models[name] = {
                **self.evaluation.row(name),
                **self._read_json(f"tflite/{name}.json"),
                "size_bytes": self._tflite(name).stat().st_size,
                "latency_ms": {"p50": latency["p50_ms"], "p95": latency["p95_ms"]},
                "benchmark": latency,
            }
            facts = self.directory / "models" / f"{name}.json"
            if facts.exists():
                history[name] = json.loads(facts.read_text())["history"]
        results = {
            "models": models,
            "classes": self.evaluation.classes(),
            "gates": report.gates(models, SHIPPED),
            "verdict": self.evaluation.compare(*settings.STUDENTS),
            "verdict_int8": self.evaluation.compare(*INT8),
            "environment": versions.environment(self.info)
            | {"teacher_sha256": teachers.fingerprint(self.teacher)},
            "history": history,
            "cached_logits": self.cache_facts,
            "stages": [{"name": name, "seconds": s} for name, s in self.seconds.items()],
        }
        self._write_json(self.directory / "results.json", results)
        known = results["environment"]
        facts = {
            "model": models[SHIPPED],
            "gates": results["gates"],
            "metadata": self._described()["metadata"],
            "data_sha256": known["data_sha256"],
            "teacher_sha256": known["teacher_sha256"],
            "versions": {name: known[name] for name in PACKAGES},
        }
        bundle.write(self.directory / "deploy", self._tflite(SHIPPED), self.info.classes, facts)
        hparams.write(self.directory, asdict(self.config), models)
        self.results, self.page = results, report.write(self.directory)

    def _fit(self, distiller, name, first_view, epochs, *callbacks):
        """Trains from where a killed run left off; the curves, earlier epochs' included."""
        checkpoint = EpochCheckpoint(self._checkpoint(name))
        first_epoch = checkpoint.restore(distiller)
        batches = self.batches.training(
            name, first_view + first_epoch, first_view + epochs, self.cached
        )
        validation = self.batches.validation()
        board = TensorBoardFigures(
            hparams.folder(self.directory, name),
            validation,
            self.info.classes,
            every=max(1, epochs // LOOKS),
            epochs_before=first_view,
        )
        if first_epoch < epochs:
            distiller.fit(
                batches,
                epochs=epochs,
                initial_epoch=first_epoch,
                steps_per_epoch=self.steps,
                validation_data=validation,
                callbacks=[board, *callbacks, checkpoint],
                shuffle=False,
            )
        return checkpoint.history

    def _live_teacher(self, name):
        if name == "baseline" or not self.config.online_teacher:
            return None
        return self.teacher if len(self.members) == 1 else teachers.members(self.members)

    def _calibrated(self, name):
        """The student `name` in 8 bits before any training for it."""
        model = quantize.quantize_aware(self._equalized(name), self.batches.calibration())
        quantize.correct_biases(model, self.batches.correction())
        return model

    def _equalized(self, name):
        """The float student of `name` in the form in which it is rounded."""
        return quantize.equalize(self._float_model(name), self.batches.calibration())

    def _initial_student(self):
        path = self.directory / "models" / "initial.keras"
        if not path.exists():
            keras.utils.set_random_seed(self.config.seed)
            student = students.mobilenet_v3_small(
                len(self.info.classes),
                self.config.image_size,
                metadata=self.metadata,
                weights=None if self.config.warm_start else self.config.weights,
                bn_momentum=students.batch_norm_momentum(self.steps * self.config.epochs),
            )
            if self.config.warm_start:
                mapped = warm_start.load(
                    student,
                    self.config.warm_start,
                    self.info.classes,
                    self._described()["metadata"],
                )
                print(f"both students start from {self.config.warm_start}: {mapped.summary()}")
            with files.atomic_write(path) as partial:
                student.save(partial)
        return path

    def _described(self):
        """What a student must be fed, and what its answers mean."""
        return {
            "classes": self.info.classes,
            "metadata": self.info.metadata if self.metadata else None,
            "image_size": self.config.image_size,
        }

    def _model(self, name):
        if name not in INT8:
            return self._float_model(name)
        student = name.removesuffix("_int8")
        if student not in self._quantized:
            path = self.directory / "models" / f"{name}.npz"
            self._quantized[student] = quantize.load_weights(self._float_model(name), path)
        return self._quantized[student]

    def _float_model(self, name):
        if name == "teacher":
            return self.teacher
        student = name.partition("_")[0]
        if student not in self._students:
            path = self.directory / "models" / f"{student}.keras"
            self._students[student] = keras.models.load_model(path, compile=False)
        return self._students[student]

    def _checkpoint(self, name):
        return self.directory / "checkpoints" / f"{name}.npz"

    def _facts(self, name):
        return self._tflite(name).with_suffix(".json")

    def _tflite(self, name):
        return self.directory / "tflite" / f"{name}.tflite"

    def _photos(self, split, name):
        return self.batches.measuring(split, self._float_model(name))

    def _read_json(self, name):
        return json.loads((self.directory / name).read_text())

    def _write_json(self, path, value):
        files.write_json(path, value)
