"""Records: what is written is read, by Python and by TensorFlow's graphs."""

import numpy as np
import pytest
import tensorflow as tf

from kdtf import data
from kdtf.data import examples

EXAMPLES = (
    data.Example("a/1", b"\xff\xd8jpeg", 7, {"region": "nörd", "camera": "c"}),
    data.Example("b", b"x", None, {}),
    data.Example("c", b"y", 0, {"region": "unheard of"}),
)


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_round_trip(example):
    assert data.deserialize(data.serialize(example)) == example


def test_a_record_without_its_photo_is_refused():
    empty = tf.train.Example().SerializeToString()
    with pytest.raises(ValueError, match="no 'image/encoded'"):
        data.deserialize(empty)


def test_parsing_a_batch_looks_metadata_up_in_the_vocabulary(tmp_path):
    info = data.DatasetInfo(tmp_path, ("fig",), {"region": ("ost", "nörd"), "camera": ()}, {})
    parse = tf.function(data.example_parser(info, ["region"]))
    x, label = parse(tf.constant([data.serialize(example) for example in EXAMPLES]))
    assert set(x) == {"image", "id", "meta/region", "meta/region/missing"}
    assert x["image"].numpy().tolist() == [example.encoded for example in EXAMPLES]
    assert x["id"].numpy().tolist() == [example.id.encode() for example in EXAMPLES]
    np.testing.assert_array_equal(x["meta/region"], [2, 0, 0])
    np.testing.assert_array_equal(x["meta/region/missing"], [0, 1, 1])
    np.testing.assert_array_equal(label, [7, -1, 0])
    assert (x["meta/region"].dtype, label.dtype) == (tf.int32, tf.int32)


def test_an_unknown_column_is_refused(tmp_path):
    info = data.DatasetInfo(tmp_path, ("fig",), {"region": ("ost",)}, {})
    with pytest.raises(ValueError, match="no metadata column 'shop', only region"):
        data.example_parser(info, ["shop"])


def test_the_labels_alone():
    batch = tf.constant([data.serialize(example) for example in EXAMPLES])
    np.testing.assert_array_equal(examples.example_labels(batch), [7, -1, 0])
