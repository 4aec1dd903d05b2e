"""Students of every kind, quantization-aware."""

import types

import keras
import pytest
from int8_students import STUDENTS, call, photos, quantized, realistic, small, swish


@pytest.fixture(scope="module", params=STUDENTS)  # tests of one student run together
def made(request, tmp_path_factory):
    """A student, its quantization-aware model, and what both say; `file` writes it once."""
    keras.utils.set_random_seed(0)
    student = realistic(STUDENTS[request.param]())
    before = student.get_weights()
    model = quantized(student)
    batch = photos(student, count=6, seed=2)
    path = tmp_path_factory.mktemp("made") / "int8.tflite"
    return types.SimpleNamespace(
        name=request.param,
        student=student,
        before=before,
        model=model,
        batch=batch,
        want=call(student, batch),
        emulated=call(model, batch),
        path=path,
    )


@pytest.fixture(scope="module")
def tiny():
    student = realistic(small(swish))
    model, batch = quantized(student), photos(student, seed=2)
    return types.SimpleNamespace(model=model, batch=batch, emulated=call(model, batch))
