"""Partners and weights of mixed views."""

import numpy as np
import pytest
import tensorflow as tf
from noise_shards import write_photos

from kdtf.data import views


@pytest.fixture(scope="module")
def info(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


def test_partners_are_another_record_of_the_shard(info):
    path, shard = info.paths("train")[0], info.split("train").shards[0]
    records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    shifts = set()
    for number in range(12):
        dataset = views.partners(path, shard.file, shard.examples, number, seed=0)
        found = list(dataset.as_numpy_iterator())
        shift = records.index(found[0])
        assert found == records[shift:] + records[:shift] and shift > 0
        shifts.add(shift)
    assert len(shifts) > 2


def test_shares_follow_their_beta_distribution():
    """Of Beta(b, b) the mean is 1/2 and the variance 1 / (4 (2 b + 1))."""
    for beta in (0.4, 1.0):
        ids = tf.strings.as_string(tf.range(2000))
        shares = tf.function(views.mix_weights)(ids, 0, 7, beta).numpy()
        np.testing.assert_allclose(tf.reduce_mean(shares), 0.5, atol=0.03)
        np.testing.assert_allclose(np.var(shares), 1 / (4 * (2 * beta + 1)), rtol=0.1)
