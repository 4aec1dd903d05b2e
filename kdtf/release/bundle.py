"""The folder that a mobile team gets: the 8-bit file, its labels, and a card that tells the rest.

bundle.write("out/deploy", "out/student_int8.tflite", info.classes, facts)
"""

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from kdtf.export import flatbuffer, runtime
from kdtf.metrics import calibration
from kdtf.release import model_card
from kdtf.release.model_card import CALIBRATION, CARD, LABELS, MODEL
from kdtf.results import Metrics

_FACTS = {
    "model",
    "gates",
    "metadata",
    "data_sha256",
    "teacher_sha256",
    "versions",
    "sha256",
    "crop_fraction",
}
_BYTES = {
    np.int8: "the bytes minus 128, as int8 (the same as flipping each byte's top bit)",
    np.uint8: "the bytes as they are, 0 to 255",
    np.float32: "the bytes as float32, 0.0 to 255.0",
}


def write(folder, tflite_path, labels, facts):
    """Writes student_int8.tflite, labels.txt and model_card.md, all of them or nothing.

    Where a temperature is known, calibration.json holds it, and the thresholds below which a person
    should be asked; the card's program uses the temperature.

    The card says how a photo becomes the model's input, holds a Python program that needs only
    ai-edge-litert and Pillow, and lists what was measured.

    Args:
      folder: where to write; an earlier folder of these files is replaced.
      tflite_path: 8-bit file written by `export.to_tflite`.
      labels: names of the classes, in the order of the model's output.
      facts: dict of what is known about the file; what is left out or None reads "not measured".
        model: the file's `results.Metrics`.
        gates: the `results.Gate`s, as `check_gates` returns them.
        metadata: {column: vocabulary} of the inputs besides the photo.
        data_sha256: of the manifest of the data it was trained and measured on.
        teacher_sha256: `teachers.fingerprint` of the teacher it learned from.
        versions: {package: version} that it was made with.
        sha256: of the file that was measured, hexadecimal.
        crop_fraction: of `augment.evaluation_view` in the measurement, 0.875 by default.

    Returns:
      pathlib.Path of the folder.

    Raises:
      FileNotFoundError: there is no file at tflite_path.
      ValueError: labels are not as many as the file's classes, or one is empty or has a line break;
        the file is not 8-bit, does not take one square image, or is not the one that was measured;
        facts has an unknown key; folder holds other files.
    """
    folder, labels = Path(folder).resolve(), list(labels)
    unknown = facts.keys() - _FACTS
    if unknown:
        raise ValueError(f"facts has unknown keys {sorted(unknown)}, expected {sorted(_FACTS)}")
    content = runtime.read(tflite_path)
    sha256 = hashlib.sha256(content).hexdigest()
    if facts.get("sha256") not in (None, sha256):
        raise ValueError(
            f"{tflite_path} has sha256 {sha256}, but facts are about {facts['sha256']}: measure "
            "the file that ships"
        )
    if not flatbuffer.linear_scales(content):
        raise ValueError(
            f"{tflite_path} computes nothing in 8 bits: export a model of quantize.quantize_aware"
        )
    signature = _signature(tflite_path, content)
    _check_labels(labels, signature["classes"], tflite_path)
    names = "".join(f"{label}\n" for label in labels).encode()
    hashes = {MODEL: sha256, LABELS: hashlib.sha256(names).hexdigest()}
    scaling = _calibration(facts.get("model") or Metrics())
    card = model_card.render(signature, labels, facts, scaling, hashes, len(content))
    with _replacing_folder(folder, {MODEL, LABELS, CARD, CALIBRATION}) as partial:
        (partial / MODEL).write_bytes(content)
        (partial / LABELS).write_bytes(names)
        (partial / CARD).write_bytes(card.encode())
        if scaling:
            text = json.dumps(scaling, indent=1) + "\n"
            (partial / CALIBRATION).write_bytes(text.encode())
    return folder


def _calibration(measured):
    """What calibration.json holds: temperature, and thresholds of softmax(logits / temperature).

    Where the validation photos show no temperature it is 1 and says so; thresholds of one that an
    earlier version took all the same are left out.
    """
    scaling = measured.temperature_scaling
    if not scaling:
        return None
    thresholds = measured.selective.get("thresholds") or []
    given = [each for each in thresholds if each["threshold"] is not None]
    if calibration.is_calibrated(scaling):
        return {"temperature": scaling["temperature"], "thresholds": given}
    given = given if scaling["temperature"] == 1 else []
    return {"temperature": 1.0, "calibrated": False, "thresholds": given}


def _signature(path, content):
    """What the file takes and gives: dict for the card."""
    with runtime.quiet():
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
        run = interpreter.get_signature_runner()
    inputs, outputs = run.get_input_details(), run.get_output_details()
    shapes = {name: tuple(map(int, wanted["shape"])) for name, wanted in inputs.items()}
    images = [name for name, shape in shapes.items() if len(shape) == 4]
    if len(images) != 1 or shapes[images[0]][1] != shapes[images[0]][2]:
        raise ValueError(f"{path} takes {shapes}, expected one square image [1, side, side, 3]")
    (image,) = images
    kind, channels = inputs[image]["dtype"], shapes[image][3]
    if channels not in (1, 3) or kind not in _BYTES:
        raise ValueError(
            f"{path} takes an image of {channels} channels of {np.dtype(kind).name}, expected 1 or "
            f"3 of {', '.join(np.dtype(each).name for each in _BYTES)}"
        )
    if list(outputs) not in (["logits"], ["probabilities"]):
        raise ValueError(f"{path} returns {list(outputs)}, expected logits or probabilities")
    ((output, given),) = outputs.items()
    return {
        "image": image,
        "shape": list(shapes[image]),
        "dtype": np.dtype(kind).name,
        "bytes": _BYTES[kind],
        "size": shapes[image][1],
        "channels": channels,
        "columns": sorted(set(inputs) - {image}),
        "output": output,
        "classes": int(given["shape"][-1]),
    }


def _check_labels(labels, classes, path):
    if len(labels) != classes:
        raise ValueError(
            f"{path} has {classes} classes, labels has {len(labels)} names: pass the classes it "
            "was trained on, in their order"
        )
    for index, label in enumerate(labels):
        if not isinstance(label, str) or label.splitlines() != [label]:
            raise ValueError(
                f"label {index} is {label!r}: labels.txt holds one name a line, so it must not be "
                "empty or have a line break"
            )


@contextlib.contextmanager
def _replacing_folder(folder, names):
    """Context of a folder beside `folder` that takes its place at the end, unless it raises."""
    if folder.exists():
        if not folder.is_dir():
            raise ValueError(f"{folder} is a file: choose another folder")
        others = sorted({path.name for path in folder.iterdir()} - names)
        if others:
            raise ValueError(
                f"{folder} also holds {', '.join(others[:5])}, which would be lost: choose a "
                "folder of its own"
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (
        folder.with_name(f".{kind}-{os.getpid()}-{folder.name}") for kind in ("partial", "old")
    )
    try:
        partial.mkdir()
        yield partial
        # A folder cannot be renamed over one that holds files.
        if folder.exists():
            folder.rename(old)
        try:
            partial.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
