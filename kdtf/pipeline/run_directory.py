"""A run's directory: where each of its files lies."""

from dataclasses import dataclass
from pathlib import Path

from kdtf import files


@dataclass(frozen=True)
class RunDirectory:
    """The paths of a run, and what its stages have taken.

    Models are `kdtf.results.Model`s.

    Attributes:
      path: pathlib.Path of the directory.
    """

    path: Path

    @property
    def config(self):
        """The settings that the run was begun with."""
        return self.path / "config.json"

    @property
    def data_facts(self):
        """Which data set the run was begun with."""
        return self.path / "data.json"

    @property
    def drawn_data(self):
        """Folder of the shards that the run draws where it is given none."""
        return self.path / "data"

    @property
    def cache_facts(self):
        """What the teacher's cached logits cost and saved."""
        return self.path / "cache.json"

    @property
    def stages(self):
        """Seconds of each stage."""
        return self.path / "stages.json"

    @property
    def results(self):
        """What was measured."""
        return self.path / "results.json"

    @property
    def initial_student(self):
        """The weights that both students start from."""
        return self.path / "models" / "initial.keras"

    @property
    def mistakes(self):
        """What the file that ships gets wrong."""
        return self.path / "evaluation" / "mistakes.json"

    @property
    def layer_errors(self):
        """What rounding does to each layer of the file that ships."""
        return self.path / "evaluation" / "layer_errors.json"

    @property
    def deploy(self):
        """Folder for the mobile team."""
        return self.path / "deploy"

    @property
    def promotion(self):
        """Checks of a promotion (`kdtf.pipeline.retrain`)."""
        return self.path / "promotion.json"

    @property
    def seen_examples(self):
        """Hashes of the examples that the student, and those it started from, were trained on."""
        return self.path / "seen_photos.npy"

    def keras_model(self, model):
        """The teacher trained here, or a float student."""
        return self.path / "models" / f"{model.key}.keras"

    def int8_weights(self, model):
        """Weights of a student after quantization-aware training."""
        return self.path / "models" / f"{model.key}.npz"

    def training_facts(self, model):
        """Curves of a model's training, and of a float student what it must be fed."""
        return self.path / "models" / f"{model.key}.json"

    def checkpoint(self, model):
        """State of a training that is under way."""
        return self.path / "checkpoints" / f"{model.key}.npz"

    def tflite(self, model):
        """The exported file."""
        return self.path / "tflite" / f"{model.key}.tflite"

    def export_facts(self, model):
        """How far the exported file is from Keras; written last, so that the export is complete."""
        return self.path / "tflite" / f"{model.key}.json"

    def logits(self, model):
        """What the exported file answers on validation and test images."""
        return self.path / "evaluation" / f"{model.key}.npz"

    def measures(self, model):
        """What was measured from these answers."""
        return self.path / "evaluation" / f"{model.key}.json"

    def latency(self, model):
        """The benchmark of the exported file."""
        return self.path / "evaluation" / f"{model.key}_latency.json"

    def tensorboard(self, model):
        """Folder where TensorBoard finds the model: what it shows is called after it."""
        return self.path / "tensorboard" / model.key

    def elapsed(self):
        """{stage: seconds}, in the order in which they first ended."""
        return files.read_json(self.stages) if self.stages.exists() else {}

    def add_elapsed(self, stage, seconds):
        """Adds to what a stage has taken, earlier calls included."""
        elapsed = self.elapsed()
        elapsed[stage] = round(elapsed.get(stage, 0.0) + seconds, 1)
        files.write_json(self.stages, elapsed)
