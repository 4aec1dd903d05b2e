"""The Keras models of a run, each loaded once by a process."""

import keras

from kdtf import quantize
from kdtf.results import TEACHER


class RunModels:
    """The models of a run, by `kdtf.results.Model`.

    Args:
      run: `RunDirectory`; a student is asked for after it was trained.
      teacher: Keras model.
      batches: `Batches`, on whose training images students are calibrated.
    """

    def __init__(self, run, teacher, batches):
        self._run, self._batches = run, batches
        self._float32, self._int8 = {TEACHER.role: teacher}, {}

    def float32(self, model):
        """The teacher or the float student that a model was made from."""
        if model.role not in self._float32:
            path = self._run.keras_model(model.at("float32"))
            self._float32[model.role] = keras.models.load_model(path, compile=False)
        return self._float32[model.role]

    def equalized(self, model):
        """The float student of a model in the form in which it is rounded."""
        return quantize.equalize(self.float32(model), self._batches.calibration())

    def calibrated(self, model):
        """A new 8-bit form of the float student of a model, before any training for it."""
        network = quantize.quantize_aware(self.equalized(model), self._batches.calibration())
        quantize.correct_biases(network, self._batches.correction())
        return network

    def int8(self, model):
        """The student of a model after quantization-aware training."""
        if model not in self._int8:
            path = self._run.int8_weights(model)
            self._int8[model] = quantize.load_weights(self.float32(model), path)
        return self._int8[model]

    def keep_int8(self, model, network):
        """Takes a student that was just trained, so that it need not be loaded."""
        self._int8[model] = network

    def to_export(self, model):
        """What a model's file is made from."""
        if model.precision == "int8":
            return self.int8(model)
        if model.precision == "ptq_int8":
            return self.calibrated(model)
        return self.float32(model)
