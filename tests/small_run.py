"""A run directory such as recipes/distill.py leaves, with drawn logits: nothing is trained."""

import base64
import io
import json

import numpy as np
import PIL.Image

from kdtf import metrics, report
from kdtf.metrics import comparison, error_analysis, slices
from kdtf.pipeline import evaluation

CLASSES = 12
PHOTOS = 400
# Name, how much its logits know, file size in bytes, latency p95 in ms.
MODELS = (
    ("teacher", 3.0, 9_400_000, 6.1),
    ("baseline", 1.5, 6_400_000, 0.83),
    ("distilled", 1.9, 6_400_000, 0.84),
    ("baseline_int8", 1.4, 2_080_000, 0.52),
    ("distilled_int8", 1.8, 2_080_000, 0.51),
    ("distilled_ptq_int8", 1.7, 2_080_000, 0.53),
    ("distilled_dynamic_range", 1.8, 2_300_000, 0.9),
    ("distilled_float16", 1.9, 3_300_000, 0.85),
)


def write(folder):
    """Writes the files that `report.write` reads, and returns results.json as a dict."""
    rng = np.random.default_rng(0)
    counts = np.maximum(2, 400 * 0.6 ** np.arange(CLASSES)).astype(int)
    names = [f"Shelf {number // 4}, carton with a long name {number}" for number in range(CLASSES)]
    truths, noise = {}, {}
    for split in ("val", "test"):
        labels = np.arange(PHOTOS) % CLASSES
        shops = [[None, "harbour", "hills"][each] for each in rng.integers(0, 3, PHOTOS)]
        lights = ["daylight" if each else "dim" for each in rng.random(PHOTOS) < 0.05]
        truths[split] = evaluation.Truth(
            [f"{split}-{place}.jpg" for place in range(PHOTOS)],
            labels,
            {"store_region": shops, "lighting_bucket": lights},
        )
        noise[split] = rng.normal(size=(PHOTOS, CLASSES))
    logits = {}
    for name, knows, *_ in MODELS:
        logits[name] = {
            split: np.float32(
                0.8 * noise[split]
                + 0.6 * rng.normal(size=(PHOTOS, CLASSES))
                + knows * np.eye(CLASSES)[truth.labels] * (1 - 0.03 * truth.labels[:, None])
            )
            for split, truth in truths.items()
        }
    labels = truths["test"].labels
    models = {}
    for name, _, size, p95 in MODELS:
        row = evaluation.summarise(logits[name], truths, counts)["metrics"]
        models[name] = row | {
            "teacher_agreement": metrics.teacher_agreement(
                logits["teacher"]["test"], logits[name]["test"]
            ),
            "parameters": 1_529_968,
            "size_bytes": size,
            "latency_ms": {"p50": 0.9 * p95, "p95": p95},
            "benchmark": {"device": "Test CPU", "threads": 1, "load_average": 0.4},
            "parity": {"max_abs_error": 1.2e-5, "argmax_agreement": 1.0, "examples": 64},
        }
    results = {
        "models": models,
        "classes": [
            {"name": name, "train_examples": int(count), "test_examples": int(photos)}
            for name, count, photos in zip(names, counts, np.bincount(labels), strict=True)
        ],
        "gates": report.gates(models, "distilled_int8"),
        "verdict": _compared(logits["baseline"], logits["distilled"], truths["test"], counts),
        "verdict_int8": _compared(
            logits["baseline_int8"], logits["distilled_int8"], truths["test"], counts
        ),
        "environment": {"tensorflow": "2.21.0", "device": "Test CPU"},
        "history": {
            "baseline": {"loss": [2.0, 1.2, 0.9], "val_accuracy": [0.5, 0.7, 0.78]},
            "distilled": {
                "loss": [9, 5, 4],
                "label_loss": [2.1, 1.1, 0.8],
                "val_accuracy": [0.55, 0.74, 0.81],
            },
            "baseline_int8": {"loss": [0.95], "val_accuracy": [0.77]},
            "distilled_int8": {"loss": [4], "label_loss": [0.85], "val_accuracy": [0.8]},
        },
        "stages": [{"name": "distilled", "seconds": 421}],
    }
    found = error_analysis.summarize(
        logits["teacher"]["test"], logits["distilled_int8"]["test"], labels
    )
    for photo in found["photos"]:
        photo |= {
            "id": truths["test"].ids[photo["position"]],
            "jpeg": base64.b64encode(_jpeg(photo["label"])).decode(),
        }
    layers = [
        {
            "layer": f"block_{number}_depthwise",
            "position": number,
            "snr_db": None
            if number == 0
            else float(30 - 20 * (40 <= number < 44) + 3 * rng.normal()),
            "error_rms": 0.01,
            "low": -1.0,
            "high": 4.0,
        }
        for number in range(60)
    ]
    layers.sort(key=lambda row: np.inf if row["snr_db"] is None else row["snr_db"])
    (folder / "evaluation").mkdir(parents=True)
    for name, content in (
        ("results", results),
        ("config", {"epochs": 3, "temperature": 4.0}),
        ("evaluation/mistakes", {"student": "distilled_int8", **found}),
        ("evaluation/layer_errors", {"student": "distilled_int8", "layers": layers}),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return results


def _compared(baseline, distilled, truth, counts):
    pair = [each["test"] for each in (baseline, distilled)]
    right = [logits.argmax(axis=1) == truth.labels for logits in pair]
    return comparison.paired_difference(*right) | {
        "seeds": 1,
        "differences": comparison.paired_bootstrap(*pair, truth.labels, counts),
        "slices": slices.slice_differences(*right, truth.columns),
    }


def _jpeg(label):
    file = io.BytesIO()
    shade = tuple(int(value) for value in np.random.default_rng(label).integers(0, 255, 3))
    PIL.Image.new("RGB", (64, 48), shade).save(file, "JPEG")
    return error_analysis.thumbnail(file.getvalue())
