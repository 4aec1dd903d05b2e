"""How the recipe trains: schedules, and what it keeps of 8-bit training."""

import numpy as np
import pytest

from kdtf import quantize, students
from kdtf.pipeline import student_training
from kdtf.pipeline.config import DistillConfig


class Student:
    """Weights that a training changes."""

    def __init__(self):
        self.weights = [np.zeros(2)]

    def get_weights(self):
        return [value.copy() for value in self.weights]

    def set_weights(self, weights):
        self.weights = weights


class Trained:
    """Stands for a distiller whose calibrated student has a validation loss of 1."""

    def __init__(self):
        self.student = Student()

    def evaluate(self, validation, **options):
        assert (validation, options["return_dict"]) == ("validation", True)
        return {"label_loss": 1.0}


@pytest.mark.parametrize(
    ("after", "kept"), [(0.9, "trained"), (1.0, "trained"), (1.1, "calibrated")]
)
def test_training_that_made_the_student_worse_is_taken_back(after, kept, capsys):
    distiller = Trained()

    def fit():
        distiller.student.weights[0] += 1.0
        return {"val_label_loss": [0.5, after]}  # the last epoch counts

    facts = student_training.train_or_keep_calibrated(distiller, "validation", fit)
    assert facts["kept"] == kept
    assert facts["calibrated_val_loss"] == 1.0
    assert facts["history"]["val_label_loss"][-1] == after
    expected = 1.0 if kept == "trained" else 0.0
    np.testing.assert_array_equal(distiller.student.weights[0], expected)
    assert f"{kept} student kept" in capsys.readouterr().out


def test_labels_alone_train_more_gently_and_both_rates_rise_first():
    student = students.tiny_cnn(3)
    photos = np.random.default_rng(0).uniform(0, 255, (4, *student.input_shape[1:]))
    model = quantize.quantize_aware(student, [photos.astype("float32")])
    config = DistillConfig(qat_epochs=3, qat_learning_rate=0.3, qat_label_learning_rate=0.1)
    for distilled, peak in ((True, 0.3), (False, 0.1)):
        distiller = student_training.int8_distiller(model, config, 10, distilled=distilled)
        rates = [float(distiller.optimizer._learning_rate(step)) for step in range(31)]
        assert rates[0] == 0.0
        assert np.argmax(rates) == 10
        assert max(rates) == pytest.approx(peak)
        assert rates[30] == pytest.approx(0.0, abs=1e-7)
        assert (distiller._alpha == 0.0) is not distilled
