"""Whether an exported file says what the Keras model says."""

import numpy as np
import tensorflow as tf

from kdtf.export import converter, runtime


def compare_with_keras(model, path, batches, num_threads=1, progress=None, logit_temperature=1.0):
    """Compares a .tflite file with the Keras model it came from, on real photos.

    The model runs in float32 and in inference mode, as it was exported.

    Args:
      model: the Keras model.
      path: file written by `to_tflite`.
      batches: as `inputs` of `export.predict`.
      num_threads: threads of the interpreter.
      progress: as in `export.predict`.
      logit_temperature: that the file was written with.

    Returns:
      dict of max_abs_error (float, logits), argmax_agreement (fraction of examples) and
      examples (int).

    Raises:
      ValueError: no examples, or logits that are not finite on either side.
    """
    runner = runtime.Runner(path, num_threads)
    error, agreed, examples = 0.0, 0, 0
    with converter.in_float32(model):
        for batch in runtime.batches_of(batches):
            rows = runner.rows(batch)
            if not rows:
                continue
            named = {name: tf.concat([row[name] for row in rows], 0) for name in rows[0]}
            logits = np.asarray(converter.call(model, named), dtype=np.float32)
            expected = logits / logit_temperature
            for row, want in zip(rows, expected, strict=True):
                got = runner(row)
                for side, values in (("the Keras model", want), (str(path), got)):
                    if not np.isfinite(values).all():
                        raise ValueError(
                            f"{side} returned logits that are not finite for example {examples}"
                        )
                error = max(error, float(np.abs(got - want).max()))
                agreed += int(got.argmax() == want.argmax())
                examples += 1
                if progress is not None:
                    progress(1)
    if not examples:
        raise ValueError(f"no examples to compare {path} on: batches is empty")
    return {"max_abs_error": error, "argmax_agreement": agreed / examples, "examples": examples}
