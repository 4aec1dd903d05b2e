"""Teachers: backbones with heads, metadata, weights, ensembles; deterministic in inference."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdtf import export, teachers
from kdtf.pipeline import teacher_training


def small_backbone(channels=4, size=32, seed=0):
    keras.utils.set_random_seed(seed)
    image = keras.Input((size, size, 3), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(channels, 3, strides=4)(x)
    x = keras.layers.BatchNormalization()(x)
    return keras.Model(image, x, name=f"small_{seed}")


def images(size=32, count=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 255, (count, size, size, 3)).astype("float32")


def test_classifier_gives_logits_and_takes_the_momentum():
    model = teachers.classifier(small_backbone(), 5, bn_momentum=0.93)
    assert model.output_shape == (None, 5)
    momenta = [
        layer.momentum
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert momenta == [0.93]


def test_metadata_changes_the_answer():
    model = teachers.classifier(small_backbone(), 5, metadata={"region": 3, "camera": 2})
    photo = images(count=1)

    def answer(region, camera):
        x = {"image": photo, "meta/region": np.array([region], "int32")}
        return model(x | {"meta/camera": np.array([camera], "int32")}).numpy()

    assert np.abs(answer(0, 0) - answer(3, 0)).max() > 1e-6
    assert np.abs(answer(0, 0) - answer(0, 2)).max() > 1e-6


def test_ensemble_is_the_mean_of_its_members_at_their_own_sizes(tmp_path):
    first = teachers.classifier(small_backbone(size=32, seed=1), 5, dropout=0.5)
    second = teachers.classifier(
        small_backbone(size=48, seed=2), 5, dropout=0.5, metadata={"region": 3}
    )
    photos = images(48)
    region = np.array([0, 1, 3], "int32")
    shrunk = keras.ops.image.resize(photos, (32, 32), antialias=True)
    want = (first(shrunk) + second({"image": photos, "meta/region": region})).numpy() / 2
    model = teachers.ensemble([first, second])
    x = {"image": photos, "meta/region": region}
    # Called as a user would, without `training`: a layer inside must not turn dropout on.
    np.testing.assert_allclose(model(x), want, atol=1e-5)
    model.save(tmp_path / "e.keras")
    np.testing.assert_allclose(teachers.load([tmp_path / "e.keras"])(x), want, atol=1e-5)


def test_an_ensemble_of_two_sizes_can_be_exported(tmp_path):
    members = [teachers.classifier(small_backbone(size=n, seed=n), 5) for n in (32, 48)]
    model = teachers.ensemble(members)
    export.to_tflite(model, tmp_path / "e.tflite")
    assert (
        export.compare_with_keras(model, tmp_path / "e.tflite", images(48))["max_abs_error"] < 1e-4
    )


def test_loading_several_files_makes_an_ensemble(tmp_path):
    paths = []
    for seed in (1, 2):
        paths.append(tmp_path / f"{seed}.keras")
        teachers.classifier(small_backbone(seed=seed), 5).save(paths[-1])
    alone = [teachers.load([path])(images()) for path in paths]
    np.testing.assert_allclose(teachers.load(paths)(images()), (alone[0] + alone[1]) / 2, atol=1e-5)


def test_saved_backbone_is_cut_at_its_pooling_and_resized(tmp_path):
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(6, 3, strides=4)(image)
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    head = keras.layers.Softmax()(keras.layers.Flatten()(keras.layers.Conv2D(9, 1)(pooled)))
    whole = keras.Model(image, head)
    whole.save(tmp_path / "whole.keras")
    body = teachers.saved_backbone(tmp_path / "whole.keras", 32)
    features = keras.Model(image, pooled)(images() / 127.5 - 1)
    np.testing.assert_allclose(body(images()), features, atol=1e-5)
    larger = teachers.classifier(teachers.saved_backbone(tmp_path / "whole.keras", 64), 4)
    assert larger(images(64)).shape == (3, 4)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large", "efficientnet_v2_b0"])
def test_applications_backbones_take_raw_images(name):
    body = teachers.applications_backbone(name, 32)
    model = teachers.classifier(body, 3)
    assert model(images()).shape == (3, 3)


def test_weights_file_gives_the_published_model(weights_dir):
    path = weights_dir / "mobilenet_v2_imagenet.npz"
    body = teachers.applications_backbone("mobilenet_v2", 96, path)
    whole = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3))
    with np.load(path) as archive:
        whole.set_weights([archive[name] for name in archive.files])
    features = keras.Model(whole.input, whole.layers[-3].output)
    np.testing.assert_allclose(
        body(images(96)), features(images(96) / 127.5 - 1), rtol=1e-3, atol=1e-3
    )


def test_weights_of_another_model_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"array 0 has shape \(3, 3\), .* needs \(3, 3, 3, 32\)"):
        teachers.applications_backbone("mobilenet_v2", 32, tmp_path / "w.npz")


def test_keras_cv_backbone_saves_and_loads(tmp_path):
    model = teachers.classifier(teacher_training.resnet_v2("resnet14_v2", 32), 4)
    model.save(tmp_path / "t.keras")
    np.testing.assert_allclose(
        teachers.load([tmp_path / "t.keras"])(images()), model(images()), atol=1e-5
    )


def test_a_fingerprint_is_of_the_weights(tmp_path):
    teacher = teachers.classifier(small_backbone(), 5)
    teacher.save(tmp_path / "t.keras")
    (again,) = teachers.load_members([tmp_path / "t.keras"], "abcde")
    assert teachers.fingerprint(again) == teachers.fingerprint(teacher)
    kernel = again.get_layer("logits").kernel
    kernel.assign(tf.tensor_scatter_nd_add(kernel, [[0, 0]], [1e-6]))
    assert teachers.fingerprint(again) != teachers.fingerprint(teacher)
    with pytest.raises(TypeError, match="a hash of weights"):
        teachers.fingerprint(lambda x: x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: teachers.applications_backbone("resnet", 32), "'resnet': choose one of mobilen"),
        (lambda: teachers.classifier(small_backbone(), 1), "classes must be at least 2, got 1"),
        (lambda: teachers.ensemble([small_backbone()]), "at least 2 members, got 1"),
        (
            lambda: teachers.ensemble([teachers.classifier(small_backbone(), n) for n in (3, 4)]),
            r"\[3, 4\] classes",
        ),
        (lambda: teachers.load(["nowhere.keras"]), "nowhere.keras does not exist"),
        (lambda: teachers.set_batch_norm_momentum(small_backbone(), 1.0), "momentum .* 1.0"),
    ],
)
def test_wrong_requests_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_label_mixing_keeps_label_mass_and_shapes():
    """About half of the batches are mixed; each row of labels still sums to 1."""
    mix = teacher_training.mix_labels(4, mixup=0.4, cutmix=1.0, seed=0)
    label = np.array([0, 1, 2, 3], "int32")
    weight = np.ones(4, "float32")
    mixed = 0
    for _ in range(30):
        x, y, w = mix({"image": tf.constant(images(count=4))}, label, weight)
        assert x["image"].shape == (4, 32, 32, 3)
        np.testing.assert_allclose(y.numpy().sum(1), 1, atol=1e-5)
        mixed += int((y.numpy().max(1) < 0.999).any())
    assert 6 <= mixed <= 24
