"""What distillation gained under each condition of a study: intervals, a table, curves."""

import numpy as np

from kdtf import files, formatting, plotting
from kdtf.metrics import comparison, intervals
from kdtf.study import conditions

# Measures whose gain is reported beside top-1; of nll and ece less is better.
MEASURES = (
    "head_top1",
    "mid_top1",
    "tail_top1",
    "macro_f1",
    "nll",
    "ece",
    "nll_scaled",
    "ece_scaled",
)
TITLES = {
    "label_fraction": "Labelled fraction of the photos",
    "unlabelled": "Labelled fraction, other photos added",
    "label_noise": "Fraction of wrong labels",
    "length": "Training length",
    "width": "Student width",
    "teacher": "Teacher",
}
# What `measure` knows of a point of which two seeds have finished.
_GAIN = ("baseline", "distilled", "gain", "over_seeds", "over_photos", "measures", "verdict")
_HEADS = (
    "axis",
    "value",
    "seeds",
    "baseline",
    "distilled",
    "gain",
    "over seeds",
    "over photos",
    "head",
    "tail",
    "NLL",
    "ECE",
    "verdict",
)


def measure(planned, results, seeds, labels, confidence=0.95):
    """The gain at each point, distilled minus baseline, over the seeds that both have finished.

    Args:
      planned: `conditions.Point`s.
      results: {job's name: what its file holds}.
      seeds: ints.
      labels: int [test examples].
      confidence: of the intervals.

    Returns:
      list of dict, one for each point, of axis, value, seeds (those finished), baseline and
      distilled (mean top-1), gain (mean), over_seeds (`comparison.seed_difference`: another seed on
      these photos), over_photos (`intervals.mean_interval` of each photo's gain, the mean over the
      seeds: other photos with these students), measures ({name: `intervals.mean_interval` over
      seeds of its difference}) and verdict: "helps" or "hurts" where both intervals exclude 0.
      With fewer than two finished seeds all but axis, value and seeds are None.
    """
    rows = []
    for point in planned:
        pairs = _finished_pairs(point.condition, results, seeds)
        row = {"axis": point.axis, "value": point.value, "seeds": [b["seed"] for b, _ in pairs]}
        gain = _gain(pairs, labels, confidence) if len(pairs) > 1 else dict.fromkeys(_GAIN)
        rows.append(row | gain)
    return rows


def _finished_pairs(condition, results, seeds):
    """[what the files of baseline and distilled student hold], of each seed that has both."""
    pairs = []
    for seed in seeds:
        names = [conditions.Job(name, condition, seed).name for name in conditions.STUDENTS]
        if all(name in results for name in names):
            pairs.append([results[name] for name in names])
    return pairs


def _gain(pairs, labels, confidence):
    top1 = np.array([[run["metrics"]["top1"] for run in pair] for pair in pairs])
    right = np.array([[run["predictions"] for run in pair] for pair in pairs]) == labels
    each_photo = (right[:, 1].astype(float) - right[:, 0]).mean(axis=0)
    over_seeds = comparison.seed_difference(top1[:, 0], top1[:, 1], confidence)
    over_photos = intervals.mean_interval(each_photo, confidence)
    measured = [name for name in MEASURES if all(name in p[0]["metrics"] for p in pairs)]
    return {
        "baseline": float(top1[:, 0].mean()),
        "distilled": float(top1[:, 1].mean()),
        "gain": over_seeds["difference"],
        "over_seeds": over_seeds,
        "over_photos": over_photos,
        "measures": {
            name: intervals.mean_interval(
                [after["metrics"][name] - before["metrics"][name] for before, after in pairs],
                confidence,
            )
            for name in measured
        },
        "verdict": comparison.verdict(over_seeds["interval"], over_photos["interval"]),
    }


def table(rows):
    """Markdown: one line for each point; gains in percentage points, NLL and ECE as they are."""
    lines = ["| " + " | ".join(_HEADS) + " |", "|---" * len(_HEADS) + "|"]
    for row in ordered(rows):
        cells = [row["axis"].replace("_", " "), _value(row["value"]), str(len(row["seeds"]))]
        if row["gain"] is None:
            cells += [formatting.NOT_MEASURED] + [""] * (len(_HEADS) - len(cells) - 1)
        else:
            parts = row["measures"]
            cells += [
                formatting.percent(row["baseline"]),
                formatting.percent(row["distilled"]),
                formatting.points(row["gain"]),
                formatting.ends(row["over_seeds"]["interval"]),
                formatting.ends(row["over_photos"]["interval"]),
                *(
                    formatting.points(parts[name]["mean"]) if name in parts else ""
                    for name in ("head_top1", "tail_top1")
                ),
                *(f"{parts[name]['mean']:+.3f}" for name in ("nll", "ece")),
                row["verdict"],
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def ordered(rows):
    """The rows by axis, in the axes' order, numbers ascending."""
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    return [
        row
        for axis in axes
        for row in sorted(
            (row for row in rows if row["axis"] == axis),
            key=lambda row: row["value"] if not isinstance(row["value"], str) else 0,
        )
    ]


def draw(folder, rows):
    """Writes the curves of all measured axes: `gains.png` of top-1, `parts.png` of the frequent,
    middling and rare classes (`metrics.correct_by_group`). Where one of these is missing, there is
    no `parts.png`.
    """
    measured = [row for row in ordered(rows) if row["gain"] is not None]
    files.write_bytes(folder / "gains.png", plotting.png(_draw_top1, measured))
    parts = {"head_top1", "mid_top1", "tail_top1"}
    if all(parts <= set(row["measures"]) for row in measured):
        files.write_bytes(folder / "parts.png", plotting.png(_draw_parts, measured))


def _draw_top1(figure, colours, rows):
    for panel, places, points in _panels(figure, colours, rows):
        _whiskers(
            panel,
            places,
            [row["over_seeds"]["interval"] for row in points],
            color=colours["grid"],
            linewidth=7,
            label="95 % over seeds",
        )
        _whiskers(
            panel,
            places,
            [row["over_photos"]["interval"] for row in points],
            color=colours["distilled"],
            linewidth=2,
            label="95 % over photos",
        )
        _curve(
            panel,
            places,
            points,
            [row["gain"] for row in points],
            color=colours["distilled"],
            marker="o",
            markersize=5,
        )
    figure.axes[0].legend(frameon=False, fontsize=8)


def _draw_parts(figure, colours, rows):
    parts = (
        ("head", "teacher", "s", -0.2),
        ("mid", "other", "^", 0),
        ("tail", "baseline", "o", 0.2),
    )
    for panel, places, points in _panels(figure, colours, rows):
        for part, colour, marker, aside in parts:
            gains = [row["measures"][f"{part}_top1"] for row in points]
            _whiskers(
                panel,
                places + aside,
                [gain["interval"] for gain in gains],
                color=colours[colour],
                linewidth=1.5,
            )
            _curve(
                panel,
                places + aside,
                points,
                [gain["mean"] for gain in gains],
                color=colours[colour],
                marker=marker,
                markersize=5,
                label=f"{part}, 95 % over seeds",
            )
    figure.axes[0].legend(frameon=False, fontsize=8)


def _panels(figure, colours, rows):
    """Yields for each axis its panel, the places of its points, and the points."""
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    columns = min(3, len(axes))
    lines = -(-len(axes) // columns)
    figure.set_size_inches(3.4 * columns, 2.9 * lines)
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for panel in panels[len(axes) :]:
        panel.set_axis_off()
    for number, (panel, axis) in enumerate(zip(panels, axes, strict=False)):
        points = [row for row in rows if row["axis"] == axis]
        places = np.arange(len(points))
        panel.axhline(0, color=colours["ink"], linewidth=1, linestyle=":")
        yield panel, places, points
        panel.set_xticks(places, [_tick(axis, row["value"]) for row in points])
        panel.set_xlim(-0.5, len(points) - 0.5)
        panel.set_title(TITLES[axis], fontsize=11)
        if number % columns == 0:
            panel.set_ylabel("gain in top-1, points")


def _whiskers(panel, places, ends, **style):
    panel.vlines(places, *(100 * np.array(ends).T), **style)


def _curve(panel, places, points, gains, **style):
    # Between two teachers there is nothing to draw a line through.
    named = any(isinstance(row["value"], str) for row in points)
    panel.plot(places, 100 * np.array(gains), linestyle="" if named else "-", **style)


def _tick(axis, value):
    if isinstance(value, str):
        return value
    return f"{value:.2g}×" if axis in ("length", "width") else formatting.share(value)


def _value(value):
    return value if isinstance(value, str) else f"{value:.3g}"
