"""Data sets of TFRecord shards, and the batches that models are trained and measured on.

DatasetInfo         what `dataset.json` says of a data set
training_batches    shuffled, augmented, endless enough for a training
evaluation_batches  every photo of a split once, in order
select_inputs, steps_per_epoch, count_photos, read_examples
Augmentation        how views are drawn
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dataset_info": ["DatasetInfo", "MANIFEST", "Shard", "Split"],
        "batches": [
            "Example",
            "count_photos",
            "deserialize",
            "evaluation_batches",
            "photo_parser",
            "read_examples",
            "select_inputs",
            "serialize",
            "steps_per_epoch",
            "training_batches",
        ],
        "augment": ["Augmentation"],
    },
)
