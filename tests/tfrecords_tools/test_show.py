"""The contact sheet and the table of a data set."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from kdtf import data
from tfrecords_tools import show
from tfrecords_tools.encoding import to_jpeg
from tfrecords_tools.shards import Photo, write_dataset

COLOURS = {"blue": (20, 40, 220), "green": (30, 200, 40), "red": (230, 30, 30)}


class Swatch:
    """A flat photo of the colour that `source` names."""

    def __repr__(self):
        return "Swatch()"

    def __call__(self, photo):
        return to_jpeg(Image.new("RGB", (40, 20), photo.source))


@pytest.fixture(scope="module")
def info(tmp_path_factory):
    counts = {"red": 6, "green": 3, "blue": 1}
    photos = [
        Photo(
            f"{name}-{index}",
            COLOURS[name],
            "train",
            name,
            {"store_region": "north"} if index % 2 == 0 else {},
        )
        for name, count in counts.items()
        for index in range(count)
    ]
    photos += [Photo(f"plain-{index}", (90, 90, 90), "train") for index in range(2)]
    photos += [Photo("t", COLOURS["red"], "test", "red")]
    out = tmp_path_factory.mktemp("show") / "set"
    return write_dataset(
        out, photos, Swatch(), classes=sorted(counts), workers=1, examples_per_shard=4
    )[0]


def names(examples):
    return [example.id.split("-")[0] for example in examples]


def test_photos_are_spread_over_the_classes(info):
    assert names(show.choose_examples(info, "train", 4)) == ["blue", "green", "red", "plain"]
    chosen = names(show.choose_examples(info, "train", 8))
    assert {name: chosen.count(name) for name in set(chosen)} == {
        "blue": 1, "plain": 2, "green": chosen.count("green"), "red": chosen.count("red"),
    }  # fmt: skip
    assert chosen.count("green") + chosen.count("red") == 5
    assert abs(chosen.count("green") - chosen.count("red")) <= 1
    assert len(show.choose_examples(info, "train", 500)) == 12


def test_choice_follows_the_seed_and_nothing_else(info):
    first = [e.id for e in show.choose_examples(info, "train", 5, seed=1)]
    assert first == [e.id for e in show.choose_examples(info, "train", 5, seed=1)]
    others = [
        [e.id for e in show.choose_examples(info, "train", 5, seed=seed)] for seed in range(2, 8)
    ]
    assert any(other != first for other in others)


def test_choice_does_not_depend_on_the_order_of_the_shards(info):
    split = info.splits["train"]
    turned = split._replace(shards=split.shards[::-1])
    other = data.DatasetInfo(info.directory, info.classes, info.metadata, {"train": turned})
    for seed in range(3):
        forwards = [e.id for e in show.choose_examples(info, "train", 6, seed=seed)]
        assert forwards == [e.id for e in show.choose_examples(other, "train", 6, seed=seed)]


def test_only_the_named_classes(info):
    assert names(show.choose_examples(info, "train", 48, ["green"])) == ["green"] * 3
    assert set(names(show.choose_examples(info, "train", 48, ["red", "blue"]))) == {"red", "blue"}


def test_sheet_shows_the_photos_in_class_order(info):
    sheet = np.asarray(show.contact_sheet(info, "train", 3, ["red", "green", "blue"]))
    width = show.TILE + 2 * show.MARGIN
    assert sheet.shape[1] == 3 * width
    for column, name in enumerate(("blue", "green", "red")):
        middle = sheet[show.MARGIN + show.TILE // 2, column * width + width // 2]
        np.testing.assert_allclose(middle, COLOURS[name], atol=12)


def test_photos_keep_their_proportions(info):
    sheet = np.asarray(show.contact_sheet(info, "train", 1, ["red"]).convert("L"))
    tile = sheet[show.MARGIN :, show.MARGIN : show.MARGIN + show.TILE][: show.TILE]
    rows = (tile < 200).mean(1) > 0.9
    assert abs(rows.sum() - show.TILE / 2) <= 2  # 40 x 20 pixels: half as high as wide


def captions(monkeypatch, info, *arguments):
    written = []
    real = show.ImageDraw.Draw

    def spying(image):
        pen = real(image)
        text = pen.text
        pen.text = lambda corner, words, *rest: (written.append(words), text(corner, words, *rest))
        return pen

    monkeypatch.setattr(show.ImageDraw, "Draw", spying)
    show.contact_sheet(info, *arguments)
    return written


def test_captions_name_class_and_metadata_and_dash_what_is_missing(monkeypatch, info):
    written = captions(monkeypatch, info, "train", 100)
    assert written.count("red") == 6 and written.count("unlabelled") == 2
    assert written.count("store_region: north") == 3 + 2 + 1
    assert written.count("store_region: -") == 6


def test_long_captions_are_cut_to_the_tile():
    font = show.ImageFont.load_default(11)
    short = show._fit("Extraordinarily-Long-Category-Name-Of-Something", font)
    assert short.endswith("...") and font.getlength(short) <= show.TILE
    assert show._fit("Apple", font) == "Apple"


def test_every_character_of_a_caption_can_be_printed():
    font = show.ImageFont.load_default(11)
    assert font.getmask(show.DASH).getbbox() != font.getmask("\U0001f999").getbbox()


def test_table(info):
    text = show.table(info)
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert lines["train"][1] == "12" and lines["train"][-4:] == ["3", "1", "6", "2"]
    assert lines["test"][1] == "1" and lines["test"][-1] == "0"
    assert lines["red"] == ["red", "6", "1"]
    assert lines["blue"] == ["blue", "1", "0"]
    assert lines["store_region"] == ["store_region", "1", "train", "50.0%,", "test", "100.0%"]


def test_table_of_many_classes_is_cut_in_the_middle(info):
    split = data.Split((), tuple(range(40)), {})
    classes = tuple(f"c{index:02d}" for index in range(40))
    text = show.table(data.DatasetInfo(info.directory, classes, {}, {"train": split}))
    assert "... 24 more" in text
    assert "c39" in text and "c00" in text and "c20" not in text


def test_bad_requests_are_named(info):
    with pytest.raises(ValueError, match="no class 'gren'.*blue, green, red"):
        show.contact_sheet(info, "train", classes=["gren"])
    with pytest.raises(ValueError, match="no split 'val'"):
        show.contact_sheet(info, "val")
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        show.contact_sheet(info, "train", 0)
    with pytest.raises(ValueError, match="no photo to show"):
        show.contact_sheet(info, "test", classes=["blue"])


def test_command_line(info, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    show.main([str(info.directory), "--split", "test", "--out", str(out), "--count", "5"])
    assert "3 classes" in capsys.readouterr().out
    with Image.open(io.BytesIO(out.read_bytes())) as sheet:
        assert sheet.format == "PNG" and sheet.width == show.TILE + 2 * show.MARGIN
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    for wrong, message in (
        ([str(info.directory), "--split", "dev"], "--split dev: .* has no split 'dev'"),
        ([str(info.directory), "--classes", "gren"], "--classes gren: .* no class 'gren'"),
        ([str(tmp_path)], ".* does not exist"),
        ([str(info.directory), "--out", "sheet.unknown"], "--out sheet.unknown: cannot be written"),
    ):
        with pytest.raises(SystemExit) as end:
            show.main(["--out", str(out), *wrong])
        assert end.value.code == 2
        assert re.match(f"error: {message}.*\\n$", capsys.readouterr().err)
