"""Data sets of TFRecord shards, and the batches that models are trained and measured on.

A data set is a directory: `dataset.json` and, per split, shards of examples (`kdtf.data.examples`).

DatasetInfo         what `dataset.json` (`MANIFEST`) says: classes, vocabularies, `Split`s,
                    `Shard`s, `Duplicate`s across splits
training_batches    shuffled, augmented, endless enough for a training
evaluation_batches  every example of a split once, in order
steps_per_epoch     batches of an epoch; `count_examples`, the examples that it has
select_inputs       keeps of a batch what a model takes
Augmentation        how views are drawn
Example             one record; `serialize`, `deserialize`, `read_examples`, `example_parser`
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "dataset_info": ["DatasetInfo", "Duplicate", "MANIFEST", "Shard", "Split"],
        "examples": ["Example", "deserialize", "example_parser", "read_examples", "serialize"],
        "batches": [
            "count_examples",
            "evaluation_batches",
            "select_inputs",
            "steps_per_epoch",
            "training_batches",
        ],
        "augment": ["Augmentation"],
    },
)
