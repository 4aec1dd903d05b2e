import hashlib
import json
import os
import re
import subprocess
import sys
import venv

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kdtf import export, quantize, results, students
from kdtf.data import augment
from kdtf.export import runtime
from kdtf.release import bundle, check_gates
from kdtf.results import Metrics
from tfrecords_tools.encoding import JpegEncoder

COLOURS = {"red apple": (200, 40, 40), "green pear": (40, 180, 60), "blue plum": (50, 60, 190)}
SIZE = 32
FACTS = {
    "model": Metrics(
        top1=0.8412,
        macro_f1=0.8123,
        examples=2485,
        size_bytes=1,
        intervals={"top1": [0.826, 0.855]},
        recall=[0.91, None, 0.425],
        slices={
            "shop": [
                {
                    "value": "north | hall",
                    "examples": 2470,
                    "top1": 0.85,
                    "interval": [0.83, 0.86],
                    "low_support": False,
                },
                {
                    "value": None,
                    "examples": 15,
                    "top1": 0.6,
                    "interval": [0.36, 0.8],
                    "low_support": True,
                },
            ]
        },
        latency_ms={"p50": 0.84, "p95": 0.953},
        benchmark={"device": "Test | CPU", "threads": 1, "init_ms": 3.21},
    ),
    "gates": check_gates({results.SHIPPED: Metrics(top1=0.95, size_bytes=2e6)}),
    "data_sha256": "ab" * 32,
    "teacher_sha256": "cd" * 32,
    "versions": {"tensorflow": "2.21.0", "keras": "3.12.0"},
}


def coloured(colour, size, rng):
    noise = rng.normal(0, 25, (size, size, 3))
    return np.clip(np.asarray(colour) + noise + rng.normal(0, 15, 3), 0, 255).round()


@pytest.fixture(scope="module")
def trained():
    """A quantization-aware student that tells three colours apart."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    labels = np.arange(96) % 3
    x = np.float32([coloured(list(COLOURS.values())[label], SIZE, rng) for label in labels])
    student = students.cifar_cnn(3, image_size=SIZE, bn_momentum=0.8)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(2e-3), loss)
    student.fit(x, labels, batch_size=32, epochs=6, verbose=0)
    return quantize.quantize_aware(student, [x])


@pytest.fixture(scope="module")
def model(trained, tmp_path_factory):
    return export.to_tflite(trained, tmp_path_factory.mktemp("model") / "any_name.tflite")


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """Python of a new environment that holds ai-edge-litert and Pillow, and what they need."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "ai-edge-litert>=2.3,<3",
            "pillow>=11,<14",
        ],
        capture_output=True,
        text=True,
        env=bare_environment(),
    )
    if done.returncode:
        pytest.skip(f"no packages to be had: {done.stderr.strip()[-300:]}")
    return python


def bare_environment():
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def program(folder):
    """The card's Python program, saved as the card says."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / bundle.CARD).read_text(), re.S)
    path = folder / "example.py"
    path.write_text(code)
    return path


def camera_photo(colour, path):
    """A landscape JPEG with its camera on the side; only the middle square has the colour."""
    pixels = np.zeros((120, 160, 3)) + (90, 90, 90)
    rng = np.random.default_rng(1)
    pixels[:, 28:132] = coloured(colour, 120, rng)[:, :104]
    upright = Image.fromarray(pixels.astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn to the right
    upright.transpose(Image.Transpose.ROTATE_90).save(path, "JPEG", quality=95, exif=exif)


def softmax(logits):
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def answers(python, code, photo):
    done = subprocess.run(
        [python, code, photo], capture_output=True, text=True, env=bare_environment()
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    return {name: float(probability) for probability, name in lines}


def expected(path, photo):
    """Probabilities by kdtf's own pipeline: upright JPEG, view of evaluation, file."""
    encoded = JpegEncoder().encode(photo.read_bytes())
    view = augment.evaluation_view(tf.constant(encoded), SIZE)
    return softmax(runtime.predict(path, view[None].numpy())[0])


def test_a_deploy_folder_works_with_nothing_but_litert_and_pillow(bare_python, model, tmp_path):
    installed = subprocess.run(
        [bare_python, "-m", "pip", "list", "--format=freeze"],
        capture_output=True,
        text=True,
        env=bare_environment(),
    ).stdout.lower()
    assert "ai-edge-litert" in installed.replace("_", "-") and "pillow" in installed
    assert "tensorflow" not in installed and "keras" not in installed and "kdtf" not in installed
    folder = bundle.write(tmp_path / "deploy", model, COLOURS, FACTS)
    code = program(folder)
    for index, (name, colour) in enumerate(COLOURS.items()):
        photo = tmp_path / f"{index}.jpg"
        camera_photo(colour, photo)
        printed = answers(bare_python, code, photo)
        wanted = expected(model, photo)
        assert next(iter(printed)) == name == list(COLOURS)[wanted.argmax()]
        assert list(printed.values()) == sorted(printed.values(), reverse=True)
        for label, probability in zip(COLOURS, wanted, strict=True):
            assert printed[label] == pytest.approx(probability, abs=0.02)


@pytest.mark.parametrize(
    "options", [{"image": tf.uint8}, {"image": tf.float32}, {"probabilities": True}]
)
def test_the_card_fits_every_kind_of_8_bit_file(trained, tmp_path, options):
    path = export.to_tflite(trained, tmp_path / "x.tflite", **options)
    folder = bundle.write(tmp_path / "deploy", path, COLOURS, {})
    photo = tmp_path / "photo.jpg"
    camera_photo(COLOURS["green pear"], photo)
    printed = answers(sys.executable, program(folder), photo)
    logits_or_probabilities = runtime.predict(
        path,
        augment.evaluation_view(tf.constant(JpegEncoder().encode(photo.read_bytes())), SIZE)[
            None
        ].numpy(),
    )[0]
    wanted = (
        logits_or_probabilities
        if options.get("probabilities")
        else softmax(logits_or_probabilities)
    )
    assert next(iter(printed)) == "green pear"
    for label, probability in zip(COLOURS, wanted, strict=True):
        assert printed[label] == pytest.approx(probability, abs=0.02)


@pytest.mark.parametrize(
    "width, height, orientation",
    [(160, 120, 1), (120, 161, 6), (97, 131, 8), (40, 30, 3), (33, 37, 5), (500, 333, 1)],
)
def test_the_card_prepares_photos_as_evaluation_does(model, tmp_path, width, height, orientation):
    folder = bundle.write(tmp_path / "deploy", model, COLOURS, {})
    functions = program(folder).read_text().partition("\nlabels = ")[0]
    space = {"__file__": str(folder / "example.py")}
    exec(functions, space)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = tmp_path / "photo.jpg"
    image.save(photo, "JPEG", quality=95, exif=exif)
    # Turned without loss, so that only the geometry is compared.
    with Image.open(photo) as opened:
        upright = np.asarray(opened)
    upright = {
        1: upright,
        3: upright[::-1, ::-1],
        5: upright.swapaxes(0, 1),
        6: upright.swapaxes(0, 1)[:, ::-1],
        8: upright.swapaxes(0, 1)[::-1],
    }[orientation]
    short = min(upright.shape[:2])
    side = round(short * 0.875)
    top, left = ((length - side) // 2 for length in upright.shape[:2])
    square = upright[top : top + side, left : left + side].astype(np.float32)
    wanted = tf.image.resize(square, (SIZE, SIZE), antialias=True).numpy()
    got = space["prepared"](photo)
    assert got.dtype == np.int8 and got.shape == (1, SIZE, SIZE, 3)
    assert np.abs(got[0] + 128.0 - wanted).max() <= 1.01  # Pillow rounds between its two passes
    if orientation == 1:
        view = augment.evaluation_view(tf.constant(photo.read_bytes()), SIZE).numpy()
        # At its right edge a crop is decoded without the colours beyond.
        assert np.abs(got[0] + 128.0 - view)[:, :-2].max() <= 1.01


def many_formats():
    """{name: file} of a smooth photo in the formats and modes that users have."""
    y, x = np.mgrid[0 : 1 : 40 * 1j, 0 : 1 : 48 * 1j]
    colour = Image.fromarray((np.stack([x, y, 0.5 + 0 * x], -1) * 255).astype(np.uint8))
    clear = Image.fromarray((255 * (1 - x) * y).astype(np.uint8))
    grey = colour.convert("L")
    turned = Image.Exif()
    turned[0x0112] = 6
    transparent, grey_transparent = colour.copy(), grey.copy()
    transparent.putalpha(clear)
    grey_transparent.putalpha(clear)
    wide = (x * 65535).astype(np.uint16)
    return {
        "rgb.png": (colour, {}),
        "turned.jpg": (colour, {"quality": 95, "exif": turned}),
        "grey.jpg": (grey, {"quality": 95}),
        "rgba.png": (transparent, {}),
        "la.png": (grey_transparent, {}),
        "palette.png": (colour.quantize(8), {"transparency": 0}),
        "key.png": (colour.quantize(8).convert("RGB"), {"transparency": (16, 16, 16)}),
        "wide.png": (Image.fromarray(wide), {}),
        "dark.png": (Image.fromarray((x * 200).astype(np.uint16)), {}),
        "wide.tif": (Image.fromarray(wide), {"exif": turned}),
        "float.tif": (Image.fromarray(x.astype(np.float32)), {}),
        "bits.png": (grey.convert("1"), {}),
        "cmyk.jpg": (colour.convert("CMYK"), {"quality": 95}),
    }


@pytest.mark.parametrize("name", many_formats())
def test_the_card_sees_every_format_as_building_does(model, tmp_path, name):
    folder = bundle.write(tmp_path / "deploy", model, COLOURS, {})
    space = {"__file__": str(folder / "example.py")}
    exec(program(folder).read_text().partition("\nlabels = ")[0], space)
    image, options = many_formats()[name]
    image.save(tmp_path / name, **options)
    encoded = JpegEncoder().encode((tmp_path / name).read_bytes())
    view = augment.evaluation_view(tf.constant(encoded), SIZE).numpy()
    difference = np.abs(space["prepared"](tmp_path / name)[0] + 128.0 - view)[:, :-2]
    # What building re-encodes, JPEG changes a little; hard edges the most.
    has_edges = name in ("bits.png", "palette.png", "key.png")
    assert difference.mean() < 4 and difference.max() < (60 if has_edges else 12)


SCALED = {
    "model": Metrics(
        temperature_scaling={"temperature": 1.7, "ece_after": 0.0123},
        selective={
            "thresholds": [
                {
                    "target_accuracy": 0.95,
                    "threshold": 0.8125,
                    "coverage": 0.75,
                    "accuracy": 0.96,
                    "interval": [0.94, 0.97],
                    "examples": 300,
                },
                {"target_accuracy": 0.99, "threshold": None},
            ]
        },
    )
}


@pytest.mark.parametrize("probabilities", [False, True])
def test_the_temperature_is_stored_and_used(trained, tmp_path, probabilities):
    path = export.to_tflite(trained, tmp_path / "x.tflite", probabilities=probabilities)
    folder = bundle.write(tmp_path / "deploy", path, COLOURS, SCALED)
    assert json.loads((folder / "calibration.json").read_text()) == {
        "temperature": 1.7,
        "thresholds": SCALED["model"].selective["thresholds"][:1],
    }
    card = (folder / bundle.CARD).read_text().splitlines()
    assert "| 95 % | 0.8125 | 75.0 % | 96.0 % | 94.0 % to 97.0 % |" in card
    assert "| Calibration error, scaled | the same with the temperature | 1.2 % |  |" in card
    photo = tmp_path / "photo.jpg"
    camera_photo(COLOURS["red apple"], photo)
    printed = answers(sys.executable, program(folder), photo)
    plain = export.to_tflite(trained, tmp_path / "plain.tflite")
    view = augment.evaluation_view(tf.constant(JpegEncoder().encode(photo.read_bytes())), SIZE)
    wanted = softmax(runtime.predict(plain, view[None].numpy())[0] / 1.7)
    for label, probability in zip(COLOURS, wanted, strict=True):
        assert printed[label] == pytest.approx(probability, abs=0.02)
    (folder / "example.py").unlink()
    # Without a temperature no file of an earlier one is left.
    bundle.write(folder, path, COLOURS, {})
    assert not (folder / "calibration.json").exists()


@pytest.mark.parametrize(
    "scaling, kept",
    [
        ({"temperature": 1.0, "calibrated": False}, 1),
        ({"temperature": 0.05}, 0),  # of an earlier version, which took what nothing had shown
    ],
)
def test_no_temperature_is_shipped_that_was_not_shown(model, tmp_path, scaling, kept):
    measured = Metrics(temperature_scaling=scaling, selective=SCALED["model"].selective)
    folder = bundle.write(tmp_path / "deploy", model, COLOURS, {"model": measured})
    assert json.loads((folder / "calibration.json").read_text()) == {
        "temperature": 1.0,
        "calibrated": False,
        "thresholds": SCALED["model"].selective["thresholds"][:kept],
    }
    card = (folder / bundle.CARD).read_text()
    assert "Not calibrated" in card and "nearer to how often" not in card
    assert "0.05" not in card.partition("## Example")[0]


def test_files_and_facts(model, tmp_path):
    content = model.read_bytes()
    folder = bundle.write(
        tmp_path / "deploy", model, COLOURS, FACTS | {"sha256": hashlib.sha256(content).hexdigest()}
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "labels.txt",
        "model_card.md",
        "student_int8.tflite",
    ]
    assert (folder / "student_int8.tflite").read_bytes() == content
    names = (folder / "labels.txt").read_bytes()
    assert names == b"red apple\ngreen pear\nblue plum\n"
    card = (folder / "model_card.md").read_text()
    for line in (
        "| `image` | `[1, 32, 32, 3]` | int8 | the photo, prepared as below |",
        "| Top-1 | share of test photos whose first answer is right | 84.1 % | 82.6 % to 85.5 % |",
        "| Macro F1 | every class counts the same | 81.2 % | not measured |",
        "| Tail top-1 | rarest classes | not measured | not measured |",
        "| Test photos | what the above was measured on | 2,485 |  |",
        f"| File size |  | {len(content) / 1e6:.2f} MB |  |",
        "| Latency p95 | one photo, without preparing it | 0.95 ms |  |",
        "| Start | opening the file, once | 3.21 ms |  |",
        "| Memory | of the runtime with this file | not measured |  |",
        "| Measured on | latency, start and memory | Test \\| CPU |  |",
        "| shop: north \\| hall | 2,470 | 85.0 % | 83.0 % to 86.0 % |  |",
        "| shop: missing | 15 | 60.0 % | 36.0 % to 80.0 % | few photos |",
        "| blue plum | 42.5 % |",
        "| red apple | 91.0 % |",
        "| Top-1 accuracy | >= 92.00 % | 95.00 % | pass |",
        "| File size | < 20.00 MB | 2.00 MB | pass |",
        f"| sha256 of `student_int8.tflite` | {hashlib.sha256(content).hexdigest()} |",
        f"| sha256 of the data's manifest | {'ab' * 32} |",
        f"| sha256 of the teacher's weights | {'cd' * 32} |",
        f"| sha256 of `labels.txt` | {hashlib.sha256(names).hexdigest()} |",
        "| keras | 3.12.0 |",
    ):
        assert line in card.splitlines(), line
    assert re.search(r"\| Calibration error \| .* \| not measured \| not measured \|", card)
    assert card.index("| blue plum | 42.5 %") < card.index("| red apple | 91.0 %")
    assert "| green pear |" not in card
    assert re.search(r"\| p95 latency on .* \| < 25.00 ms \| not measured \| \*\*fail\*\* \|", card)
    assert "Latency was measured on Test | CPU" in card
    assert "minus 128" in card and "0.875 of the photo's shorter side" in card
    for table in (block for block in card.split("\n\n") if block.startswith("|")):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def test_nothing_known_is_not_measured(model, tmp_path):
    card = (bundle.write(tmp_path / "d", model, COLOURS, {}) / "model_card.md").read_text()
    rows = [line for line in card.splitlines() if "| not measured |" in line]
    assert len(rows) == 13  # all but the size of the file
    for what in ("Thresholds", "Slices", "Shares by class"):
        assert f"{what}: not measured." in card.splitlines()
    assert card.count("not recorded") == 2  # data and teacher
    assert "No release gates were checked." in card and "Latency was not measured." in card
    assert "None" not in card and "nan" not in card


def test_metadata_columns_are_told_and_fed(tmp_path):
    keras.utils.set_random_seed(0)
    student = students.mobilenet_v3_small(3, 32, width=0.35, metadata={"region": 2, "camera": 3})
    none = np.zeros(2, np.int32)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    batch = {"image": pixels, "meta/region": none, "meta/camera": none}
    path = export.to_tflite(quantize.quantize_aware(student, [batch]), tmp_path / "x.tflite")
    folder = bundle.write(tmp_path / "deploy", path, COLOURS, {})
    card = (folder / bundle.CARD).read_text()
    assert "| `meta_region` | `[1]` | int32 | index of what is known" in card
    assert "What the values of meta_camera, meta_region stand for" in card
    photo = tmp_path / "photo.jpg"
    camera_photo(COLOURS["blue plum"], photo)
    printed = answers(sys.executable, program(folder), photo)
    assert printed.keys() == COLOURS.keys()
    assert sum(printed.values()) == pytest.approx(1, abs=1e-3)
    (folder / "example.py").unlink()
    words = {"region": ("north", "south"), "camera": ("a", "b|c", "d"), "shop": ("x",)}
    bundle.write(folder, path, COLOURS, {"metadata": words})
    card = (folder / bundle.CARD).read_text()
    for row in (
        "`meta_region` | 0 | missing, or not in this table",
        "`meta_region` | 2 | south",
        "`meta_camera` | 2 | b\\|c",
    ):
        assert f"| {row} |" in card.splitlines()
    assert "meta_shop" not in card and "What the values of" not in card


def test_an_earlier_folder_is_replaced_whole(model, tmp_path):
    folder = bundle.write(tmp_path / "a" / "deploy", model, COLOURS, {})
    assert bundle.write(folder, folder / bundle.MODEL, ["a", "b", "c"], {}) == folder
    assert (folder / "labels.txt").read_text() == "a\nb\nc\n"
    assert [path.name for path in folder.parent.iterdir()] == ["deploy"]


def test_a_failure_leaves_the_earlier_folder(model, tmp_path, monkeypatch):
    folder = bundle.write(tmp_path / "deploy", model, COLOURS, {})
    rename = bundle.Path.rename

    def fail(self, target):
        if self.name.startswith(".partial"):
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(bundle.Path, "rename", fail)
    with pytest.raises(OSError, match="no"):
        bundle.write(folder, model, ["a", "b", "c"], {})
    assert (folder / "labels.txt").read_text() == "red apple\ngreen pear\nblue plum\n"
    assert [path.name for path in tmp_path.iterdir()] == ["deploy"]


@pytest.mark.parametrize(
    "labels, message",
    [
        (["a", "b"], "has 3 classes, labels has 2 names"),
        (["a", "b", "c", "d"], "has 3 classes, labels has 4 names"),
        (["a", "b\nc", "d"], r"label 1 is 'b\\nc'"),
        (["a", "b\u2028", "d"], "label 1 is "),
        (["a", "", "d"], "label 1 is ''"),
        (["a", "b", 3], "label 2 is 3"),
    ],
)
def test_labels_that_do_not_fit(model, tmp_path, labels, message):
    with pytest.raises(ValueError, match=message):
        bundle.write(tmp_path / "deploy", model, labels, {})
    assert not list(tmp_path.iterdir())


def test_refusals(model, tmp_path):
    with pytest.raises(ValueError, match=r"unknown keys \['top1'\], expected \["):
        bundle.write(tmp_path / "deploy", model, COLOURS, {"top1": 0.9})
    with pytest.raises(ValueError, match="but facts are about 1234: measure the file that ships"):
        bundle.write(tmp_path / "deploy", model, COLOURS, {"sha256": "1234"})
    with pytest.raises(FileNotFoundError, match="missing.tflite"):
        bundle.write(tmp_path / "deploy", tmp_path / "missing.tflite", COLOURS, {})
    plain = export.to_tflite(students.cifar_cnn(3), tmp_path / "float.tflite")
    with pytest.raises(ValueError, match="float.tflite computes nothing in 8 bits"):
        bundle.write(tmp_path / "deploy", plain, COLOURS, {})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ValueError, match="also holds thesis.txt, which would be lost"):
        bundle.write(tmp_path / "mine", model, COLOURS, {})
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    with pytest.raises(ValueError, match="float.tflite is a file"):
        bundle.write(plain, model, COLOURS, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["float.tflite", "mine"]
