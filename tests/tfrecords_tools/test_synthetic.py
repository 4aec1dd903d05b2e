"""Drawn shelf photos: the tail, the splits, the seed, and pixels that mean something."""

import dataclasses
import io
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kdtf import data
from tfrecords_tools import shards, synthetic, validate
from tfrecords_tools.drawing import cameras, labels, packages, produce, products, shelves

SMALL = {"classes": 12, "photos": 160, "size": 48, "seed": 3, "examples_per_shard": 40}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return synthetic.synthesize(tmp_path_factory.mktemp("drawn") / "set", workers=1, **SMALL)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# --- the tail and the splits ---------------------------------------------------------------------


@pytest.mark.parametrize("photos", [3_000, 20_000])
def test_top_20_of_250_classes_hold_58_per_cent(photos):
    counts = synthetic.long_tail(250, photos, 5)
    assert abs(counts[:20].sum() / photos - 0.58) < 0.002
    assert counts.sum() == photos and counts.min() >= 5


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 120), st.integers(0, 3_000), st.integers(1, 7))
def test_long_tail_is_exact_falling_and_has_its_head(classes, extra, fewest):
    head = max(1, round(0.08 * classes))
    photos = int(np.ceil(fewest * (classes - head) / 0.42)) + 1 + extra
    counts = synthetic.long_tail(classes, photos, fewest)
    assert counts.shape == (classes,)
    assert counts.sum() == photos
    assert counts.min() >= fewest
    assert (np.diff(counts) <= 0).all()
    assert abs(counts[:head].sum() - 0.58 * photos) <= 2


def test_too_few_photos_are_refused_with_the_number_needed():
    with pytest.raises(ValueError, match=r"2000 photos are too few for 250 classes.*at least 2740"):
        synthetic.long_tail(250, 2_000, 5)
    synthetic.long_tail(250, 2_740, 5)


def test_divide_by_hand():
    fractions = {"train": 0.8, "val": 0.1, "test": 0.1}
    assert synthetic.divide(5, fractions) == {"train": 3, "val": 1, "test": 1}
    assert synthetic.divide(8, fractions) == {"train": 6, "val": 1, "test": 1}
    assert synthetic.divide(30, fractions) == {"train": 24, "val": 3, "test": 3}
    assert synthetic.divide(5, {"train": 0.1, "val": 0.45, "test": 0.45})["train"] == 3


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 400), st.integers(1, 8), st.integers(1, 8), st.integers(1, 8))
def test_divide_keeps_the_sum_and_the_least(count, train, val, test):
    total = train + val + test
    fractions = {"train": train / total, "val": val / total, "test": test / total}
    given_ = synthetic.divide(count, fractions)
    assert sum(given_.values()) == count
    assert given_["train"] >= 3 and given_["val"] >= 1 and given_["test"] >= 1
    if min(fractions.values()) * count >= 3:
        assert all(
            abs(given_[name] - fraction * count) < 1 + 1e-9 for name, fraction in fractions.items()
        )


def test_every_class_is_in_every_split(drawn):
    fewest = {name: min(split.class_counts) for name, split in drawn.splits.items()}
    assert list(fewest) == ["train", "val", "test"]
    assert fewest["train"] >= 3 and fewest["val"] >= 1 and fewest["test"] >= 1
    assert sum(split.examples for split in drawn.splits.values()) == 160


# --- metadata ------------------------------------------------------------------------------------


def planned(photos=20_000, missing=0.08):
    return synthetic.plan(250, photos, 0, synthetic.FRACTIONS, missing)


def test_eight_per_cent_of_each_field_are_missing_independently():
    photos = planned()
    absent = np.array(
        [
            [
                column not in photo.metadata
                for column in ("store_region", "camera_type", "lighting_bucket")
            ]
            for photo in photos
        ]
    )
    np.testing.assert_allclose(absent.mean(0), 0.08, atol=0.008)
    # Of independent fields 0.08 ** 2 are missing together.
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs((absent[:, a] & absent[:, b]).mean() - 0.0064) < 0.0025
    assert all(photo.metadata.keys() for photo in planned(3_000, 0.0))


def test_metadata_are_the_circumstances_of_the_photo():
    for photo in planned(3_000):
        shot = photo.source
        circumstances = {
            "store_region": shot.region,
            "camera_type": shot.camera,
            "lighting_bucket": shot.lighting,
        }
        assert photo.metadata.items() <= circumstances.items()
        assert shot.region in shelves.REGIONS
        assert shot.camera in cameras.CAMERAS
        assert shot.lighting in cameras.LIGHTINGS
    assert len(shelves.REGIONS) == 12


def test_regions_tell_a_little_about_the_class():
    photos = planned()
    classes = sorted({photo.label for photo in photos})
    regions = list(shelves.REGIONS)
    joint = np.zeros((len(classes), len(regions)))
    for photo in photos:
        joint[classes.index(photo.label), regions.index(photo.source.region)] += 1
    joint = joint[joint.sum(1) >= 100]  # information is overestimated where photos are few
    joint /= joint.sum()
    chance = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    filled = joint > 0
    information = (joint[filled] * np.log(joint[filled] / chance[filled])).sum()
    assert 0.1 < information < 1.0  # nats; knowing the class outright would be over 3


# --- determinism ---------------------------------------------------------------------------------


def test_workers_do_not_change_a_byte(drawn, tmp_path):
    again = synthetic.synthesize(tmp_path / "set", workers=2, **SMALL)
    assert contents(again.directory) == contents(drawn.directory)


def test_the_seed_changes_the_photos(drawn, tmp_path):
    other = synthetic.synthesize(tmp_path / "set", workers=1, **{**SMALL, "seed": 4})
    assert other.classes != drawn.classes
    hashes = {shard.sha256 for split in drawn.splits.values() for shard in split.shards}
    assert not hashes & {shard.sha256 for split in other.splits.values() for shard in split.shards}


def test_a_photo_depends_on_its_shot_only():
    photos = {photo.id: photo for photo in synthetic.plan(12, 160, 0, synthetic.FRACTIONS, 0.1)}
    photographer = synthetic.ShelfPhotographer(12, 48, 0)
    forwards = {name: photographer(photo) for name, photo in list(photos.items())[:8]}
    for cache in (products.art, products.assortment, products.neighbours):
        cache.cache_clear()
    backwards = {name: photographer(photos[name]) for name in reversed(forwards)}
    assert forwards == backwards
    assert len(set(forwards.values())) == 8


def test_every_photo_of_the_same_product_is_another():
    photographer = synthetic.ShelfPhotographer(12, 48, 0)
    shots = [synthetic.Shot(n, 4, "north", "tablet", "dim") for n in range(12)]
    photos = {photographer(shards.Photo(str(shot.number), shot, "train")) for shot in shots}
    assert len(photos) == 12


def test_the_photographer_names_its_settings():
    assert repr(synthetic.ShelfPhotographer(12, 48, 5)) == (
        "ShelfPhotographer(classes=12, size=48, seed=5)"
    )


def test_result_is_sound_and_the_right_size(drawn):
    assert validate.validate(drawn.directory) == []
    for example in data.read_examples(drawn, "val"):
        with Image.open(io.BytesIO(example.encoded)) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (48, 48))


def test_ids_do_not_betray_the_class():
    photos = sorted(planned(3_000), key=lambda photo: photo.id)
    neighbours = np.mean([a.label == b.label for a, b in zip(photos, photos[1:], strict=False)])
    share = np.array(list(Counter(photo.label for photo in photos).values())) / len(photos)
    assert neighbours < 2 * (share**2).sum()


# --- the assortment ------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 12, 250, 700])
def test_assortment_has_distinct_names_and_look_alikes(classes):
    stock = products.assortment(classes, 0)
    assert len({product.name for product in stock}) == len(stock) == classes
    assert [product.name for product in stock] == sorted(product.name for product in stock)
    sizes = Counter(product.family for product in stock)
    assert max(sizes.values()) <= 6
    if classes >= 12:
        assert len(stock) / len(sizes) >= 2.5


def test_siblings_share_all_but_the_flavour():
    families = {}
    for product in products.assortment(250, 0):
        if isinstance(product.design, labels.Design):
            families.setdefault(product.family, []).append(product)
    for siblings in families.values():
        kept = {
            dataclasses.replace(
                s.design, flavour="", accent=(), content=(), icon=labels.drop, style=0
            )
            for s in siblings
        }
        assert len(kept) == 1
        assert len({sibling.paint for sibling in siblings}) == 1
        assert len({sibling.design.flavour for sibling in siblings}) == len(siblings)


def test_siblings_look_different_and_strangers_more_so():
    stock = [p for p in products.assortment(250, 0) if p.paint is packages.carton]

    def distance(a, b):
        first, second = (np.asarray(products.art(p, 0, 60), np.float64) for p in (a, b))
        return np.abs(first - second).mean()

    alike = [distance(a, b) for a in stock for b in stock if a.family == b.family and a < b]
    strange = [distance(a, b) for a in stock for b in stock if a.family < b.family]
    assert min(alike) > 0.3
    assert np.median(strange) > 1.5 * np.median(alike)


def test_shops_put_like_beside_like():
    stock = products.assortment(60, 0)
    for number, product in enumerate(stock):
        beside = products.neighbours(60, 0, number)
        loose = product.paint is produce.heap
        assert {other.paint is produce.heap for other in beside} == {loose}
        assert np.mean([other.paint is product.paint for other in beside]) >= 0.4


@pytest.mark.parametrize("kind", products.KINDS, ids=lambda kind: f"{kind[0]}-{kind[1].__name__}")
def test_every_package_is_a_solid_picture(kind):
    noun, paint, flavours = kind
    for layout in labels.LAYOUTS:
        colour, icon = products.FLAVOURS[flavours[0]]
        design = labels.Design(
            "Nova", noun, flavours[0], (30, 60, 160), labels.WHITE, colour, colour, icon, layout, 5
        )
        for yaw in products.TURNS:
            art = paint(design, yaw)
            assert art.mode == "RGBA"
            assert 0.3 * packages.PIXELS < art.height <= packages.PIXELS
            alpha = np.asarray(art)[..., 3]
            assert alpha[art.height // 2, art.width // 2] > 240
            assert (alpha > 128).mean() > 0.5


def test_every_flavour_on_sale_exists():
    assert {flavour for kind in products.KINDS for flavour in kind[2]} <= set(products.FLAVOURS)


def test_revolve_by_hand():
    """A wrap whose middle column is red: red is seen in the middle, mirrored shade at its sides."""
    flat = np.zeros((20, 80, 3), np.uint8)
    flat[:, 39:41] = (200, 0, 0)
    art = packages.revolve(
        Image.fromarray(flat), lambda y: np.ones_like(y), 40, 20, gloss=0.0, bulge=0.0
    )
    seen = np.asarray(art)
    assert seen[10, 19:21, 0].min() > 150
    assert seen[10, :15, 0].max() == seen[10, 25:, 0].max() == 0
    assert (seen[1:-1, 1:-1, 3] == 255).all()
    narrow = packages.revolve(
        Image.fromarray(flat), lambda y: np.full_like(y, 0.5), 40, 20, gloss=0.0, bulge=0.0
    )
    assert np.asarray(narrow)[10, :9, 3].max() == 0 == np.asarray(narrow)[10, 31:, 3].max()
    assert np.asarray(narrow)[10, 12:28, 3].min() == 255


# --- light and cameras ---------------------------------------------------------------------------

PLAIN = cameras.Camera(1.0, 0.0, 0.0, 0.0, 1.0, 1.0, (90, 91))
EVEN = cameras.Lighting((1.0, 1.0, 1.0), (1.0, 1.0), 0.0, 0.0)


class Calm:
    """A generator without surprises: no shake, no defocus, no spread."""

    def random(self):
        return 0.99

    def uniform(self, low, high):
        return (low + high) / 2

    def normal(self, mean, spread, size=None):
        return np.full(size, mean + 0.0) if spread < 0.5 else np.array([1.0, 0.0])

    def integers(self, low, high):
        return low

    def standard_normal(self, shape, dtype):
        return np.random.default_rng(0).standard_normal(shape, dtype)


def grey(level=120, size=40):
    return Image.new("RGB", (size, size), (level,) * 3)


def photo(camera=PLAIN, lighting=EVEN, tint=(1, 1, 1), scene=None):
    image, _ = cameras.photograph(scene or grey(), tint, lighting, camera, Calm())
    return np.asarray(image, np.float64)


def test_a_perfect_camera_in_even_light_changes_nothing():
    scene = products.art(products.assortment(12, 0)[0], 0, 60).convert("RGB").resize((40, 40))
    np.testing.assert_allclose(photo(scene=scene), np.asarray(scene), atol=1)


def test_light_by_hand():
    warm = EVEN._replace(colour=(1.2, 1.0, 0.5), exposure=(0.4, 0.6))
    np.testing.assert_allclose(photo(lighting=warm)[20, 20], [72, 60, 30], atol=1)
    np.testing.assert_allclose(photo(tint=(0.5, 1, 1))[20, 20], [60, 120, 120], atol=1)


def test_every_trait_of_a_camera_shows():
    corner = photo(PLAIN._replace(vignette=0.5))
    assert corner[0, 0, 0] < 0.6 * corner[20, 20, 0]
    noisy = photo(PLAIN._replace(noise=8.0))
    assert 4 < noisy.std() < 14
    red = Image.new("RGB", (40, 40), (200, 60, 60))
    dull = photo(PLAIN._replace(saturation=0.0), scene=red)[20, 20]
    np.testing.assert_allclose(dull, dull.mean(), atol=1)
    np.testing.assert_allclose(photo(PLAIN._replace(warmth=1.25))[20, 20], [150, 120, 96], atol=1)
    lines = grey()
    lines.paste((255, 255, 255), (0, 0, 40, 20))
    for column in range(0, 40, 2):
        lines.paste((0, 0, 0), (column, 0, column + 1, 20))
    assert photo(PLAIN._replace(detail=0.5), scene=lines)[2:18].std() < 0.2 * np.std(lines)
    edge = grey()
    edge.paste((160, 160, 160), (20, 0, 40, 40))
    sharp = photo(PLAIN._replace(sharpening=1.0), scene=edge)
    assert sharp.max() > 163 and sharp.min() < 117


def test_smear_by_hand():
    dot = np.zeros((9, 9, 3), np.float32)
    dot[4, 4] = 90
    smeared = cameras._smear(dot, 3.0, 0.0)
    assert smeared.sum() == pytest.approx(270)
    assert (smeared[4, :, 0] > 0).sum() == 3
    assert smeared[:4].sum() == smeared[5:].sum() == 0


def test_circumstances_change_the_pixels():
    """The same scene from the same random numbers, under each light and before each camera."""
    stock = products.assortment(12, 0)

    def pixels(region="centre", lighting="daylight", camera="phone-flagship"):
        rng = np.random.default_rng(7)
        region = shelves.REGIONS[region]
        scene = shelves.draw(stock[5], stock, region, 64, rng)
        light, device = cameras.LIGHTINGS[lighting], cameras.CAMERAS[camera]
        image, _ = cameras.photograph(scene, region.tint, light, device, rng)
        return np.asarray(image, np.float64)

    for variants in (
        [pixels(region=name) for name in shelves.REGIONS],
        [pixels(lighting=name) for name in cameras.LIGHTINGS],
        [pixels(camera=name) for name in cameras.CAMERAS],
    ):
        for index, first in enumerate(variants):
            for second in variants[index + 1 :]:
                assert np.abs(first - second).mean() > 1.0
    assert pixels(lighting="dim").mean() < 0.75 * pixels().mean()


def test_the_product_is_in_the_middle():
    """Two scenes that differ in the product only differ in the middle more than at the rim."""
    stock = products.assortment(60, 0)
    cartons = [p for p in stock if p.paint is packages.carton]
    inner, outer = [], []
    for seed in range(12):
        scenes = [
            np.asarray(
                shelves.draw(
                    product,
                    stock,
                    shelves.REGIONS["centre"],
                    64,
                    np.random.default_rng(seed),
                ),
                np.float64,
            )
            for product in (cartons[0], cartons[-1])
        ]
        change = np.abs(scenes[0] - scenes[1]).mean(-1)
        inner.append(change[24:40, 24:40].mean())
        rim = np.ones_like(change, bool)
        rim[8:-8, 8:-8] = False
        outer.append(change[rim].mean())
    assert np.mean(inner) > 2 * np.mean(outer)


# --- bad input and the command line --------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [{"classes": 1}, {"size": 16}, {"seed": -1}, {"missing": 1.0}, {"photos": 30}],
)
def test_bad_arguments_are_refused(tmp_path, bad):
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=str(value).replace(".", r"\.")):
        synthetic.synthesize(tmp_path / "set", **{**SMALL, **bad})
    assert not (tmp_path / "set").exists(), name


@pytest.mark.parametrize("fractions", [{"train": 0.5, "val": 0.4}, {"train": 1.0, "val": 0.0}])
def test_bad_fractions_are_refused(tmp_path, fractions):
    with pytest.raises(ValueError, match="sum to 1"):
        synthetic.synthesize(tmp_path / "set", split_fractions=fractions, **SMALL)


def test_command_line(tmp_path, capsys):
    out = tmp_path / "set"
    arguments = ["--out", str(out), "--classes", "4", "--photos", "60", "--size", "32"]
    synthetic.main([*arguments, "--workers", "1", "--split", "train=0.7,test=0.3"])
    assert "4 classes" in capsys.readouterr().out
    assert list(data.DatasetInfo.load(out).splits) == ["train", "test"]
    with pytest.raises(SystemExit, match="already holds a data set"):
        synthetic.main([*arguments, "--workers", "1"])


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        synthetic.main(["--help"])
    assert stop.value.code == 0
    assert "--photos" in capsys.readouterr().out
