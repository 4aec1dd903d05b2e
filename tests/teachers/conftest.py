"""What is cached once for the tests of a file."""

import pytest
from noise_shards import PHOTOS, small_teacher, write_photos

from kdtf import teachers


@pytest.fixture(scope="module")
def info(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def teacher():
    return small_teacher(1)


@pytest.fixture(scope="module")
def cached(info, teacher):
    cache, scored = teachers.cache_logits(info, [teacher], views=3, batch_size=4, seed=5)
    assert scored == 3 * PHOTOS
    return cache
