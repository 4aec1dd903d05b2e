"""Teachers' logits of a batch of views, the same whatever else is in the batch."""

import numpy as np
import tensorflow as tf

from kdtf.teachers.ensembles import members
from kdtf.teachers.models import columns


class Scorer:
    """Function of a batch of views to the logits of models, float32 [batch, models, classes].

    Batches are filled up to `batch_size`, because the last digits of a convolution depend on it:
    so a photo's logits do not depend on how many photos a shard has left.

    Args:
      models: Keras models of raw 0..255 images and of columns of `info`.
      info: `data.DatasetInfo`.
      batch_size: the most views that a batch may have.

    Attributes:
      batch_size: as given.
      columns: the metadata columns that a batch needs.

    Raises:
      ValueError: a model takes a column that the data set lacks.
    """

    def __init__(self, models, info, batch_size):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size!r}")
        self.batch_size = batch_size
        taken = {column for model in models for column in columns(model)}
        self.columns = tuple(sorted(taken))
        info.vocabulary_sizes(self.columns)
        self._logits = tf.function(members(models))

    def __call__(self, batch):
        examples = len(batch["id"])
        rows = np.minimum(np.arange(self.batch_size), examples - 1)
        filled = {name: tf.gather(column, rows) for name, column in batch.items() if name != "id"}
        return self._logits(filled).numpy()[:examples]
