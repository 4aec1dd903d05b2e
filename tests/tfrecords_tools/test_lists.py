"""Photos named by lists: headers, delimiters, encodings, labels, and what is refused."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_folders import noise, saved

from tfrecords_tools.encoding import JpegEncoder
from tfrecords_tools.lists import from_lists


def photo_files(root, *names):
    for number, name in enumerate(names):
        (root / name).write_bytes(saved(noise(number), "JPEG"))


def test_lists_without_header_and_named_classes(tmp_path):
    photo_files(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "train.txt").write_text("a.jpg, 10, 4\nb.jpg, 2, 4\n\n")
    (tmp_path / "test.txt").write_text("c.jpg, 2, 4\n")
    (tmp_path / "classes.csv").write_text("Class Name,Class ID\nFig,10\nPear,2\nPlum,3\n")
    lists = {"train": tmp_path / "train.txt", "test": tmp_path / "test.txt"}
    assert from_lists(lists).classes == ("2", "10")  # by number, not by spelling
    listing = from_lists(lists, class_names=tmp_path / "classes.csv")
    photos = listing.photos
    assert listing.classes == ("Pear", "Plum", "Fig")
    assert [(p.id, p.split, p.label) for p in photos] == [
        ("a.jpg", "train", "Fig"),
        ("b.jpg", "train", "Pear"),
        ("c.jpg", "test", "Pear"),
    ]


def test_relative_paths_start_from_the_root(tmp_path):
    (tmp_path / "photos").mkdir()
    photo_files(tmp_path / "photos", "a.jpg")
    (tmp_path / "list.csv").write_text("path,label\na.jpg,fig\n")
    with pytest.raises(ValueError, match="1 of 1 listed photos do not exist.*--root"):
        from_lists({"": tmp_path / "list.csv"})
    photos = from_lists({"": tmp_path / "list.csv"}, root=tmp_path / "photos").photos
    assert Path(photos[0].source) == tmp_path / "photos" / "a.jpg"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "is empty"), ("path,label\na.jpg\n", "row 2: 1 fields"), (None, "no such list")],
)
def test_bad_lists(tmp_path, text, complaint):
    photo_files(tmp_path, "a.jpg")
    if text is not None:
        (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=complaint):
        from_lists({"train": tmp_path / "list.csv"})


def test_class_names_must_cover_the_labels(tmp_path):
    photo_files(tmp_path, "a.jpg")
    (tmp_path / "list.txt").write_text("a.jpg, 7\n")
    (tmp_path / "classes.csv").write_text("name,number\nFig,1\n")
    with pytest.raises(ValueError, match=r"does not name the labels \['7'\]"):
        from_lists({"train": tmp_path / "list.txt"}, class_names=tmp_path / "classes.csv")


def test_grocery_lists_name_every_photo(data_dir):
    root = data_dir / "grocery"
    lists = {split: root / f"{split}.txt" for split in ("train", "val", "test")}
    listing = from_lists(lists, root, root / "classes.csv")
    photos, classes = listing.photos, listing.classes
    assert Counter(p.split for p in photos) == {"train": 2640, "val": 296, "test": 1247}
    assert len(classes) == 81 and classes[:2] == ("Golden-Delicious", "Granny-Smith")
    photo = photos[-1]
    assert JpegEncoder()(photo) == Path(photo.source).read_bytes()


def listed(folder, text, encoding="utf-8", photos="abcd", **options):
    """`Listing` of a list of that text; photos a.jpg to d.jpg lie beside it."""
    for name in photos:
        (folder / f"{name}.jpg").touch()
    (folder / "list.csv").write_bytes(text.encode(encoding))
    return from_lists({"": folder / "list.csv"}, **options)


def labels(listing):
    return {photo.id: photo.label for photo in listing.photos}


MILK = {"a.jpg": "Milk, 1 l", "b.jpg": "fig"}


@pytest.mark.parametrize(
    "text",
    [
        'path,label\na.jpg,"Milk, 1 l"\nb.jpg,fig\n',
        'path, label\n"a.jpg", "Milk, 1 l"\n"b.jpg", "fig"\n',
        'a.jpg, "Milk, 1 l"\nb.jpg, fig\n',
        "Path;Label\na.jpg;Milk, 1 l\nb.jpg;fig\n",
        "filename\tlabel\na.jpg\tMilk, 1 l\nb.jpg\tfig\n",
        'a.jpg\t"Milk, 1 l"\nb.jpg\tfig\n',
        'path,class\r\na.jpg,"Milk, 1 l"\r\n\r\nb.jpg,fig\r\n,\r\n',
        ',path,label\n0,a.jpg,"Milk, 1 l"\n1,b.jpg,fig\n',
        'Unnamed: 0,FILE_NAME,Class\n0,a.jpg,"Milk, 1 l"\n1,b.jpg,fig\n',
        'label,path\n"Milk, 1 l",./a.jpg\nfig,b.jpg',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_that_are_understood(text, encoding, tmp_path):
    listing = listed(tmp_path, text, encoding)
    assert labels(listing) == MILK
    assert listing.classes == ("Milk, 1 l", "fig")
    assert all(photo.metadata == {} for photo in listing.photos)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,store\na.jpg,Milk, 1 l,north\n", "row 2: 4 fields, where row 1 has 3"),
        ("path,label,store\na.jpg,fig,x\n\nb.jpg,fig\n", "row 4: 2 fields.*'b.jpg, fig'"),
        ("a.jpg, fig\nb.jpg, Milk, 1 l\n", "row 2: 3 fields.*'b.jpg, Milk, 1 l'"),
        ('path,label\na.jpg,"fig\nb.jpg,fig\nc.jpg,fig\n', 'row 2: .*a.jpg,"fig'),
        ('path,label\na.jpg,"fig\nb.jpg,fig"\n', "row 2: a field holds a line break"),
        ('path,label\na.jpg,fig\nb.jpg,"fi"g"\n', "row 3: .*expected after"),
        ("path,label,label\na.jpg,fig,pear\n", "names the label twice, 'label' and 'label'"),
        ("path,class,category\na.jpg,fig,pear\n", "names the label twice, 'class' and 'category'"),
        ("path,label,store,store\na.jpg,fig,n,s\n", "names 'store' twice"),
        ("Bild,Klasse\na.jpg,fig\n", "row 1: neither a header.*'Bild, Klasse'"),
        ("path,Klasse\na.jpg,fig\n", "no photo has a label"),
        ("path,label,\na.jpg,fig,x\n", "column 3 of the header has no name"),
        ("path,label\n,fig\n", "row 2: the path is empty"),
        ("path,label\na.jpg,fig\n./a.jpg,fig\n", "row 3: 'a.jpg' is listed before, in .*row 2"),
        ("path,label\nz.jpg,fig\n", r"1 of 1 .*z.jpg \(.*list.csv, row 2\)"),
        ("path,label\na.jpg," + 140_000 * "x", "row 2: field larger than field limit"),
        ("path,label\na.jpg,f\0ig\n", "row 2: holds NUL characters"),
        ("path,label\n", "a header and no photo"),
        ("path,label,split\na.jpg,fig,trian\n", "row 2: a split is called 'trian': .*'train'"),
        ("path,label,split\na.jpg,fig,a/b\n", "row 2: a split is called 'a/b'"),
    ],
)
def test_lists_that_are_refused_name_file_and_row(text, message, tmp_path):
    with pytest.raises(ValueError, match=message) as refusal:
        listed(tmp_path, text)
    assert "list.csv" in str(refusal.value)


def test_other_encodings_are_refused_by_row(tmp_path):
    text = "path,label\na.jpg,fig\nb.jpg,K\u00e4se\n"
    with pytest.raises(ValueError, match="list.csv, row 3: byte 0xe4 is not UTF-8"):
        listed(tmp_path, text, "latin-1")
    with pytest.raises(ValueError, match="list.csv, row 1: holds NUL"):
        listed(tmp_path, text.replace("\u00e4", "ae"), "utf-16-le")
    (tmp_path / "names.csv").write_bytes("K\u00e4se,0".encode("latin-1"))
    with pytest.raises(ValueError, match="names.csv, row 1: byte 0xe4"):
        listed(tmp_path, "a.jpg,0", class_names=tmp_path / "names.csv")


def test_splits_of_a_list(tmp_path):
    text = "path,label,split\na.jpg,fig,Train\nb.jpg,fig,train\nc.jpg,fig,Validation\nd.jpg,fig,\n"
    listing = listed(tmp_path, text)
    assert [photo.split for photo in listing.photos] == ["train", "train", "val", ""]
    with pytest.raises(ValueError, match="row 4: says split 'Validation', in the list of train"):
        from_lists({"train": tmp_path / "list.csv"})


def test_a_column_beside_label_is_metadata_whatever_its_name(tmp_path):
    listing = listed(tmp_path, "path,label,class\na.jpg,fig,fruit\n")
    assert listing.photos[0].label == "fig" and listing.photos[0].metadata == {"class": "fruit"}


def test_spellings_of_unicode_are_one_class_and_one_value(tmp_path):
    text = "path,label,store\na.jpg,K\u00e4se,\u00d6st\nb.jpg,Ka\u0308se,O\u0308st\n"
    listing = listed(tmp_path, text)
    assert listing.classes == ("K\u00e4se",)
    assert {photo.metadata["store"] for photo in listing.photos} == {"\u00d6st"}


def test_numeric_labels_of_one_value_keep_their_order(tmp_path):
    text = "a.jpg,7\nb.jpg,007\nc.jpg,10\nd.jpg,010\n"
    listing = listed(tmp_path, text)
    assert listing.classes == ("007", "7", "010", "10")
    assert listing.notes[0] == "classes that differ in leading zeros only: '007', '7'"
    code = "import sys; from tfrecords_tools.lists import from_lists; "
    code += "print(from_lists({'': sys.argv[1]}).classes)"
    for seed in "123":
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "list.csv")],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        assert done.stdout.strip() == str(listing.classes)


@pytest.mark.parametrize("label", ["\u2460", "\u00b2", "\u0667"])
def test_digits_of_other_kinds_are_names(label, tmp_path):
    assert listed(tmp_path, f"a.jpg,{label}\nb.jpg,1").classes == ("1", label)
    (tmp_path / "names.csv").write_text("fig,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="does not name the labels"):
        from_lists({"": tmp_path / "list.csv"}, class_names=tmp_path / "names.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fig,1\nfig,2\n", "names.csv, row 2: 'fig' stands in row 1 too"),
        ("name,number\nfig,1\npear,01\n", "names.csv, row 3: 1 stands in row 2 too"),
        ("K\u00e4se,1\nKa\u0308se,2\n", "row 2: 'K\u00e4se' stands in row 1 too"),
        ("fig,1\npear,two\n", "row 2: expected a name and a number, got 'pear, two'"),
        ("fig,1\nMilk, 1 l,2\n", "row 2: 3 fields"),
    ],
)
def test_class_names_that_are_refused(text, message, tmp_path):
    (tmp_path / "names.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        listed(tmp_path, "a.jpg,1\n", class_names=tmp_path / "names.csv")


def test_numbers_are_named_whatever_their_zeros(tmp_path):
    (tmp_path / "names.csv").write_text("fig,07\npear,8\n", encoding="utf-8")
    listing = listed(tmp_path, "a.jpg,7\nb.jpg,007\nc.jpg,8", class_names=tmp_path / "names.csv")
    assert labels(listing) == {"a.jpg": "fig", "b.jpg": "fig", "c.jpg": "pear"}


NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=12
).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=4), st.sampled_from(",;\t"), st.booleans())
def test_what_a_csv_writer_writes_is_read(tmp_path_factory, names, delimiter, header):
    """Any label, quoted as the csv module does, comes back but for Unicode's spelling."""
    import csv
    import unicodedata

    folder = tmp_path_factory.mktemp("csv")
    photo_names = "abcd"[: len(names)]
    with open(folder / "list.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        rows = [(f"{photo}.jpg", name) for photo, name in zip(photo_names, names, strict=True)]
        writer.writerows([("path", "label"), *rows] if header else rows)
    for photo in photo_names:
        (folder / f"{photo}.jpg").touch()
    listing = from_lists({"": folder / "list.csv"})
    wanted = [unicodedata.normalize("NFC", name).strip() for name in names]
    assert [photo.label for photo in listing.photos] == wanted
    assert set(listing.classes) == set(wanted)
