"""A run's models as TFLite files."""

import tensorflow as tf
from tqdm import tqdm

from kdtf import export, files

PARITY_EXAMPLES = 64
_WEIGHTS = {"dynamic_range": tf.int8, "float16": tf.float16}  # others as the model has them


def export_model(run, models, batches, model, network=None):
    """Writes a model's TFLite file and compares it with Keras, unless that is done.

    Args:
      run: `RunDirectory`.
      models: `RunModels`.
      batches: `Batches`; the comparison is made on validation images.
      model: `kdtf.results.Model`.
      network: the Keras model to export, by default that of `RunModels.to_export`.
    """
    if run.export_facts(model).exists():
        return
    if network is None:
        network = models.to_export(model)
    path = run.tflite(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    export.to_tflite(network, path, weights=_WEIGHTS.get(model.precision))
    float32 = models.float32(model)
    examples = batches.measuring("val", float32).unbatch().take(PARITY_EXAMPLES).batch(16)
    title = f"{model.key}: Keras against TFLite"
    with tqdm(total=PARITY_EXAMPLES, unit="photo", desc=title) as bar:
        parity = export.compare_with_keras(network, path, examples, progress=bar.update)
    facts = {"parity": parity, "parameters": float32.count_params()}
    files.write_json(run.export_facts(model), facts)
