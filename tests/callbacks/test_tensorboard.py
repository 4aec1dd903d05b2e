"""What TensorBoard reads of a training, in both Kerases, continued and not."""

import io
import re

import keras
import killing
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import tf_keras
from small_models import training_photos
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

import kdtf
from kdtf import metrics, quantize
from kdtf.callbacks import checkpoint, event_files, figures, tensorboard
from kdtf.metrics import calibration

CLASSES = 3
NAMES = ["red", "green", "blue"]
SIZES = {"scalars": 0, "images": 0, "tensors": 0, "histograms": 0}


def small_student(seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, -1.0, name="rescaling")(image)
    x = keras.layers.Conv2D(4, 3, name="conv")(x)
    x = keras.layers.Activation("relu", name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(CLASSES, name="logits")(x), name="small")


def compiled(other_keras, alpha=0.5):
    """A Distiller of one of the two Kerases, its learning rate halved at every step of four."""
    x, y = training_photos()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(6)
    teacher = small_student(seed=7)
    library = tf_keras if other_keras else keras
    student = small_student()
    if other_keras:
        model = quantize.QATDistiller(quantize.quantize_aware(student, [x]), teacher, alpha=alpha)
    else:
        model = kdtf.Distiller(student, teacher, alpha=alpha)
    decay = library.optimizers.schedules.ExponentialDecay(0.1, 4, 0.5)
    model.compile(
        library.optimizers.SGD(decay),
        library.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[library.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    return model, data


def read(folder):
    found = EventAccumulator(str(folder), size_guidance=SIZES)
    found.Reload()
    return found


def values(found, tag):
    """{step: value} of a scalar; a step that stands twice fails."""
    points = [(event.step, event.tensor_proto) for event in found.Tensors(tag)]
    assert len({step for step, _ in points}) == len(points)
    return {step: tf.make_ndarray(proto) for step, proto in points}


@pytest.fixture(scope="module", params=[False, True], ids=["keras", "tf_keras"])
def trained(request, tmp_path_factory):
    """(run folder, model, history, data) of two epochs that follow three elsewhere."""
    folder = tmp_path_factory.mktemp("board") / "distilled"
    model, data = compiled(request.param)
    callback = tensorboard.TensorBoardFigures(
        folder, data, NAMES, max_photos=10, hardest=5, epochs_before=3
    )
    history = model.fit(
        data, epochs=2, validation_data=data, callbacks=[callback], verbose=0
    ).history
    return folder, model, history, data


def test_scalars_are_what_fit_logged(trained):
    folder, model, history, _ = trained
    found = read(folder)
    assert {"loss", "label_loss", "distillation_loss", "accuracy", "val_loss"} <= set(history)
    for name, logged in history.items():
        split = "validation" if name.startswith("val_") else "train"
        seen = values(found, f"{name.removeprefix('val_')}/{split}")
        assert list(seen) == [4, 5]
        np.testing.assert_allclose(list(seen.values()), logged, rtol=1e-6)


def test_the_schedule_is_that_of_the_last_step(trained):
    folder, _, _, data = trained
    steps = len(data)
    want = {4: 0.1 * 0.5 ** (steps / 4), 5: 0.1 * 0.5 ** (2 * steps / 4)}
    found = read(folder)
    assert values(found, "schedule/learning_rate") == pytest.approx(want)
    assert values(found, "schedule/alpha") == {4: 0.5, 5: 0.5}
    assert values(found, "schedule/temperature") == {4: 4.0, 5: 4.0}


def test_the_photos_are_measured_as_metrics_measures_them(trained):
    folder, model, _, data = trained
    found = read(folder)
    x, y = next(iter(data.unbatch().batch(10)))
    logits, labels = np.asarray(model(x, training=False)), y.numpy()
    want = {
        "accuracy": np.mean(logits.argmax(axis=1) == labels),
        "ece": calibration.expected_calibration_error(logits, labels),
        "nll": metrics.negative_log_likelihood(logits, labels),
        "macro_f1": metrics.macro_f1_score(logits.argmax(axis=1), labels, CLASSES),
    }
    for name, value in want.items():
        assert values(found, f"validation_photos/{name}")[5] == pytest.approx(value, rel=1e-4)
    table = values(found, "validation_photos/recall_table")[5]
    assert table.item().decode() == figures.recall_table(logits, labels, NAMES)
    buckets = values(found, "validation_photos/recall")[5]
    assert buckets[:, 2].sum() == len(NAMES)


def test_pictures_are_those_of_the_last_epoch(trained):
    folder, model, _, data = trained
    found = read(folder)
    x, y = (part.numpy() for part in next(iter(data.unbatch().batch(10))))
    logits = np.asarray(model(x, training=False))
    worst = figures.hardest(logits, y, 5)
    want = figures.hardest_figure(x[worst].astype(np.uint8), logits[worst], y[worst], NAMES)
    for name in ("confusion_matrix", "reliability", "hardest"):
        seen = values(found, f"validation_photos/{name}")
        assert list(seen) == [4, 5]
        width, height, png = seen[5]
        opened = PIL.Image.open(io.BytesIO(png))
        assert opened.size == (int(width), int(height)) and len(opened.getcolors(2**20)) > 20
        if name == "hardest":
            difference = np.asarray(opened, float) - np.asarray(PIL.Image.open(io.BytesIO(want)))
            assert np.abs(difference).mean() < 1


def test_the_graph_has_a_node_for_each_layer(trained):
    folder, model, _, _ = trained
    nodes = {node.name: node for node in read(folder).Graph().node}
    assert list(nodes["logits"].input) == ["pool"]
    assert nodes["conv"].op == "Conv2D" and nodes["image"].op == "InputLayer"
    sizes = [dim.size for dim in nodes["conv"].attr["_output_shapes"].list.shape[0].dim]
    assert sizes == [-1, 6, 6, 4]
    assert {name for node in nodes.values() for name in node.input} <= set(nodes)
    assert len(nodes) == len(model.student.layers)


def test_a_continued_training_has_every_step_once(tmp_path, monkeypatch):
    """Killed after the board wrote epoch 2 and before the checkpoint did: epoch 2 comes again."""
    save = checkpoint.EpochCheckpoint.on_epoch_end

    def save_or_die(self, epoch, logs=None):
        if epoch == 1:
            raise killing.Killed
        save(self, epoch, logs)

    def fit(folder):
        model, data = compiled(other_keras=False)
        kept = checkpoint.EpochCheckpoint(folder / "state.npz")
        first = kept.restore(model)
        callbacks = [tensorboard.TensorBoardFigures(folder / "run", data, NAMES, every=2), kept]
        model.fit(
            data,
            epochs=3,
            initial_epoch=first,
            validation_data=data,
            verbose=0,
            callbacks=callbacks,
            shuffle=False,
        )
        return kept.history

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.EpochCheckpoint, "on_epoch_end", save_or_die)
        with pytest.raises(killing.Killed):
            fit(tmp_path)
    assert list(values(read(tmp_path / "run"), "loss/train")) == [1, 2]
    (written,) = (tmp_path / "run").iterdir()
    with written.open("ab") as file:
        file.write(b"half a record")
    history = fit(tmp_path)
    found = read(tmp_path / "run")
    seen = values(found, "loss/train")
    assert list(seen) == [1, 2, 3]
    np.testing.assert_allclose(list(seen.values()), history["loss"], rtol=1e-6)
    # Every second epoch, and the last.
    assert list(values(found, "validation_photos/nll")) == [2, 3]
    assert found.Graph().node


def test_labels_alone_have_no_temperature_and_broken_logits_are_told(tmp_path):
    model, data = compiled(other_keras=False, alpha=0.0)
    model.student.get_layer("logits").bias.assign([np.nan] * CLASSES)
    model.fit(
        data, epochs=1, verbose=0, callbacks=[tensorboard.TensorBoardFigures(tmp_path, data, NAMES)]
    )
    found = read(tmp_path)
    assert "schedule/temperature" not in found.Tags()["tensors"]
    assert values(found, "schedule/alpha") == {1: 0.0}
    told = values(found, "validation_photos/diverged")[1].item().decode()
    assert told == "12 of 12 photos have logits that are not finite."


def test_an_outcome_takes_the_place_of_the_one_before(tmp_path):
    log = event_files.EventLog(tmp_path, 1)
    log.add(1, [event_files.scalar("loss/train", 2.0)])
    log.close()
    for top1 in (0.5, 0.75):
        tensorboard.write_hparams(
            tmp_path,
            "w47 distilled",
            {"model": "distilled", "seed": 3, "adb": None},
            {"test/top1": top1, "test/tail_top1": None},
        )
    found = read(tmp_path)
    assert values(found, "test/top1") == {0: 0.75}
    assert values(found, "loss/train") == {1: 2.0}
    assert "test/tail_top1" not in found.Tags()["tensors"]
    contents = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(contents).session_start_info
    assert start.group_name == "w47 distilled"
    assert start.hparams["model"].string_value == "distilled"
    assert start.hparams["seed"].number_value == 3 and "adb" not in start.hparams
    assert len(list(tmp_path.glob("*.outcome"))) == 1
    assert not list(tmp_path.glob(".partial*"))


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no classes"):
        tensorboard.TensorBoardFigures(tmp_path, photos=[])
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        tensorboard.TensorBoardFigures(tmp_path, every=0)


def fitted(photos, folder, epochs=2):
    model, data = compiled(other_keras=False, alpha=0.0)
    callback = tensorboard.TensorBoardFigures(folder, photos, NAMES)
    return model.fit(data, epochs=epochs, verbose=0, callbacks=[callback]).history


def test_photos_that_are_read_once_are_refused(tmp_path):
    x, y = training_photos()
    for once in (iter([(x, y)]), ((x, y) for _ in range(3)), map(tuple, [(x, y)])):
        with pytest.raises(ValueError, match=r"read only once \((list_iterator|generator|map)\)"):
            tensorboard.TensorBoardFigures(tmp_path, once, NAMES)


def read_once(x, y):
    """A data set that can be iterated again, to no avail."""
    batches = iter([(x, y)])
    spec = tf.TensorSpec(x.shape, x.dtype), tf.TensorSpec(y.shape, y.dtype)
    return tf.data.Dataset.from_generator(lambda: batches, output_signature=spec)


@pytest.mark.parametrize(
    "photos, message",
    [
        (lambda x, y: [], "photos are empty"),
        (lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).take(0).batch(4), "are empty"),
        (read_once, "can be read only once"),
        (lambda x, y: [(x, y), (x, y + 1)], "labels of photos must be in 0..2, got 0 to 3"),
        (lambda x, y: [(x, np.eye(3)[y])], r"shape \(12, 3\), expected class numbers"),
    ],
)
def test_photos_that_cannot_be_measured_are_refused_before_work(tmp_path, photos, message):
    model, data = compiled(other_keras=False, alpha=0.0)
    before = model.student.get_weights()
    callback = tensorboard.TensorBoardFigures(tmp_path, photos(*training_photos()), NAMES)
    with pytest.raises(ValueError, match=message):
        model.fit(data, epochs=1, verbose=0, callbacks=[callback])
    for one, other in zip(before, model.student.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_photos_that_run_out_cost_their_pictures_alone(tmp_path):
    x, y = training_photos()
    batches = iter([(x, y)] * 3)  # two are looked at before work
    spec = tf.TensorSpec(x.shape, x.dtype), tf.TensorSpec(y.shape, y.dtype)
    photos = tf.data.Dataset.from_generator(lambda: batches, output_signature=spec).take(1)
    with pytest.warns(UserWarning, match="no pictures of this epoch"):
        history = fitted(photos, tmp_path)
    assert len(history["loss"]) == 2
    found = read(tmp_path)
    assert list(values(found, "validation_photos/accuracy")) == [1]
    assert list(values(found, "validation_photos/missing")) == [2]


@pytest.mark.parametrize("name", ["F1+", "acc [test]", "a.b", "p(x)", "top|5", "50 %", "val_ratio"])
def test_the_chart_of_a_measure_shows_it_and_no_other(name):
    logs = {name: 1.0, f"val_{name}": 2.0, "other": 1.0, "val_other": 2.0}
    tags = {tensorboard._tag(each, logs): value for each, value in logs.items()}
    assert tags[f"{name}/train"] == 1 and tags[f"{name}/validation"] == 2
    content = tensorboard._overlays(logs).value[0].tensor.string_val[0]
    charts = layout_pb2.Layout.FromString(content).category[0].chart
    (pattern,) = next(chart for chart in charts if chart.title == name).multiline.tag
    assert {tag for tag in tags if re.match(pattern, tag)} == {
        f"{name}/train",
        f"{name}/validation",
    }
