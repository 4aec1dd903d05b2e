"""Pictures of why: calibration, risk, frequency, slices, rounding and confusion."""

import numpy as np

from kdtf import formatting, metrics
from kdtf.plotting import drawing, hint
from kdtf.report.charts import draw_forest

_MARKED = 5  # layers numbered in the picture
_CLEAN_DB = 60  # above it a layer is drawn at it: an idle one would flatten all others
_PARTS = ("head", "mid", "tail")
_MARKERS = {"teacher": "D", "baseline": "s", "distilled": "o"}


def draw_reliability(name, curve, ece):
    """`Drawing` of how often a model is right at each confidence it states.

    Args:
      name: of the model.
      curve: as `calibration.reliability_curve` returns it.
      ece: fraction, or None.
    """
    gap = sum(row["examples"] * (row["confidence"] - row["accuracy"]) for row in curve)
    photos = sum(row["examples"] for row in curve)
    text = (
        f"calibration error {formatting.percent(ece)}; on average it is too "
        f"{'sure' if gap > 0 else 'unsure'} of itself by {abs(100 * gap / photos):.1f} points."
    )
    return drawing(
        f"Reliability: {formatting.title(name)}",
        f"Reliability of {formatting.title(name)}: {text}",
        plot_reliability,
        curve,
        name.partition("_")[0],
        note=text[0].upper() + text[1:],
    )


def plot_reliability(figure, colours, curve, student):
    """Draws a reliability diagram for `canvas.drawing` and `canvas.png`.

    Args:
      figure, colours: as canvas gives them.
      curve: as `calibration.reliability_curve` returns it.
      student: name of a colour, or any other name.
    """
    figure.set_size_inches(4.6, 3.9)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    colour = colours.get(student, colours["other"])
    axes.plot([0, 100], [0, 100], ":", color=colours["ink"], linewidth=1)
    sure = [100 * row["confidence"] for row in curve]
    axes.plot(sure, [100 * row["accuracy"] for row in curve], "-", color=colour, linewidth=1)
    for x, row in zip(sure, curve, strict=True):
        axes.plot(
            [x, x],
            [100 * bound for bound in row["interval"]],
            color=colour,
            linewidth=1.5,
            alpha=0.6,
        )
        axes.plot(
            x,
            100 * row["accuracy"],
            "o",
            color=colour,
            markersize=6,
            gid=hint(
                f"says {row['confidence']:.0%}, right {row['accuracy']:.0%}, "
                f"{formatting.count(row['examples'], 'photo')}"
            ),
        )
    axes.set_ylim(-2, 102)
    axes.set_ylabel("right, %")
    axes.grid(color=colours["grid"], linewidth=0.6)
    below.bar(sure, [row["examples"] for row in curve], 5, color=colour)
    below.set_ylabel("photos")
    below.set_xlabel("confidence, %")
    below.set_xlim(0, 102)


def draw_selective(models):
    """`Drawing` of how often answers are right when a person gets the least confident photos.

    Args:
      models: {name: row of results.json with selective}.
    """
    told = []
    for name, model in models.items():
        curve = model["selective"]["curve"]
        risk = np.interp(0.8, curve["coverage"], curve["risk"])
        told.append(f"{formatting.title(name)} {formatting.percent(1 - risk)}")
    return drawing(
        "Right answers when the model may pass",
        f"Share of right answers when the most confident 80 % of the photos are answered: "
        f"{', '.join(told)}.",
        _draw_selective,
        models,
        note="From right to left: the less confident photos go to a person.",
    )


def _draw_selective(figure, colours, models):
    figure.set_size_inches(4.6, 3.3)
    axes = figure.subplots()
    for name, model in models.items():
        curve = model["selective"]["curve"]
        student = name.partition("_")[0]
        axes.plot(
            100 * np.asarray(curve["coverage"]),
            100 - 100 * np.asarray(curve["risk"]),
            {"baseline": "--", "teacher": ":"}.get(student, "-"),
            linewidth=2,
            color=colours.get(student, colours["other"]),
            label=formatting.title(name),
        )
    axes.set_xlim(0, 100)
    axes.set_xlabel("photos answered, %")
    axes.set_ylabel("right among them, %")
    axes.grid(color=colours["grid"], linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9.5)


def draw_frequency(models):
    """`Drawing` of top-1 on frequent, middling and rare classes.

    Args:
      models: {name: row of results.json}.
    """
    told = "; ".join(
        f"{formatting.title(name)} "
        + ", ".join(f"{part} {formatting.percent(model.get(f'{part}_top1'))}" for part in _PARTS)
        for name, model in models.items()
    )
    return drawing(
        "Top-1 by how common a class is",
        f"Top-1 by frequency: {told}.",
        _draw_frequency,
        models,
        note="Head: the most frequent classes, 58 % of the training photos. Tail: the rarest, at "
        "most 20 %. Bars: 95 % intervals.",
    )


def _draw_frequency(figure, colours, models):
    figure.set_size_inches(4.6, 3.2)
    axes = figure.subplots()
    for number, (name, model) in enumerate(models.items()):
        student = name.partition("_")[0]
        colour = colours.get(student, colours["other"])
        shift = 0.18 * (number - (len(models) - 1) / 2)
        places, values = [], []
        for place, part in enumerate(_PARTS):
            value = model.get(f"{part}_top1")
            if not formatting.known(value):
                continue
            interval = (model.get("intervals") or {}).get(f"{part}_top1")
            if interval:
                axes.plot(
                    [place + shift] * 2,
                    [100 * bound for bound in interval],
                    color=colour,
                    linewidth=2,
                    alpha=0.6,
                )
            axes.plot(
                place + shift,
                100 * value,
                _MARKERS.get(student, "^"),
                color=colour,
                markersize=7,
                gid=hint(f"{formatting.title(name)}, {part}: {formatting.percent(value)}"),
            )
            places.append(place + shift)
            values.append(100 * value)
        axes.plot(places, values, "-", color=colour, linewidth=0.8, alpha=0.7)
        axes.plot([], [], _MARKERS.get(student, "^"), color=colour, label=formatting.title(name))
    axes.set_xticks(range(len(_PARTS)), ["head", "mid", "tail"])
    axes.set_xlim(-0.5, len(_PARTS) - 0.5)
    axes.set_ylabel("top-1, %")
    axes.grid(axis="y", color=colours["grid"], linewidth=0.6)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9.5)


def draw_class_gains(classes, baseline, distilled):
    """`Drawing` of each class's gain in recall against its training photos.

    Args:
      classes: list of dict of name, train_examples and test_examples.
      baseline: list [classes] of recall, None for a class without test photos.
      distilled: the same of the distilled student.
    """
    points = [
        (each["name"], each["train_examples"], after - before)
        for each, before, after in zip(classes, baseline, distilled, strict=True)
        if None not in (before, after)
    ]
    better, worse = (sum(1 for *_, gain in points if sign * gain > 0) for sign in (1, -1))
    tail = {
        classes[number]["name"]
        for number in metrics.tail_classes([each["train_examples"] for each in classes])
    }
    text = f"{better} of {len(points)} classes gained, {worse} lost."
    return drawing(
        "Gain of each class by its training photos",
        f"Gain in recall by class: {text}",
        _draw_class_gains,
        points,
        tail,
        note=f"{text} Filled: classes of the tail. The table below has the names.",
    )


def _draw_class_gains(figure, colours, points, tail):
    figure.set_size_inches(4.6, 3.2)
    axes = figure.subplots()
    axes.axhline(0, color=colours["ink"], linewidth=1, linestyle=":")
    for name, photos, gain in points:
        axes.plot(
            max(photos, 0.5),
            100 * gain,
            "o",
            color=colours["distilled"],
            markersize=6,
            markerfacecolor=colours["distilled"] if name in tail else "none",
            alpha=0.75,
            gid=hint(
                f"{name}: {formatting.points(gain)} points, "
                f"{formatting.count(photos, 'training photo')}"
            ),
        )
    axes.set_xscale("log")
    counts = [max(photos, 0.5) for _, photos, _ in points]
    bases = (1, 2, 3, 5, 7) if max(counts) < 12 * min(counts) else (1, 2, 5)
    shown = [
        base * 10**power
        for power in range(7)
        for base in bases
        if min(counts) <= base * 10**power <= max(counts)
    ]
    axes.set_xticks(shown, [f"{value:,}" for value in shown])
    axes.minorticks_off()
    axes.set_xlabel("training photos of the class")
    axes.set_ylabel("gain in recall, points")
    axes.grid(color=colours["grid"], linewidth=0.6)


def draw_slices(column, rows, most=14):
    """`Drawing` of the gain in each of a column's largest slices.

    Args:
      column: name of the metadata column.
      rows: as `slices.slice_differences` returns them for the column.
      most: slices at most.
    """
    shown = [
        (
            f"{row['value'] or 'missing'} ({row['examples']:,})",
            row["verdict"],
            row["difference"],
            *row["interval"],
        )
        for row in rows[:most]
    ]
    told = "; ".join(f"{name} {formatting.points(difference)}" for name, _, difference, *_ in shown)
    left = "" if len(rows) <= most else f" The {most} largest of {len(rows)}."
    return drawing(
        f"Gain by {column}",
        f"Gain in top-1 by {column}, points: {told}.",
        draw_forest,
        shown,
        note=f"In brackets: test photos. Bars: 95 % intervals.{left}",
    )


def draw_layers(layers):
    """`Drawing` of each layer's signal-to-noise ratio, from input to output.

    Args:
      layers: list of dict of layer, position and snr_db (None where exact), worst first.
    """
    worst = [row["layer"] for row in layers[:_MARKED]]
    return drawing(
        "Rounding noise by layer",
        f"Signal over rounding noise of {len(layers)} layers; worst first: {', '.join(worst)}.",
        _draw_layers,
        layers,
        note="Higher is better; 20 dB is an error of a tenth. Where the line falls suddenly, an "
        "error is made; the worst are red and numbered as in the table.",
    )


def _draw_layers(figure, colours, layers):
    figure.set_size_inches(4.6, 3.1)
    axes = figure.subplots()
    ordered = sorted(
        (row["position"], min(row["snr_db"], _CLEAN_DB))
        for row in layers
        if row["snr_db"] is not None
    )
    axes.plot(*zip(*ordered, strict=True), "-", color=colours["distilled"], linewidth=1.2)
    numbered = []
    for number, row in enumerate(layers, start=1):
        if row["snr_db"] is None:
            continue
        marked = number <= _MARKED
        axes.plot(
            row["position"],
            min(row["snr_db"], _CLEAN_DB),
            "o",
            markersize=6 if marked else 3,
            color=colours["bad" if marked else "distilled"],
            gid=hint(f"{row['layer']}: {row['snr_db']:.1f} dB"),
        )
        # Neighbours' numbers would cover each other.
        alone = all(abs(row["position"] - each) > 0.05 * len(layers) for each in numbered)
        if marked and alone:
            numbered.append(row["position"])
            axes.annotate(
                str(number),
                (row["position"], row["snr_db"]),
                (0, -5),
                va="top",
                ha="center",
                textcoords="offset points",
                fontsize=10,
            )
    low, high = (bound(value for _, value in ordered) for bound in (min, max))
    axes.set_ylim(low - 0.15 * (high - low) - 1, high + 1)
    axes.axhline(20, color=colours["ink"], linewidth=1, linestyle=":")
    axes.set_xlabel("layers, input to output")
    axes.set_ylabel("signal over noise, dB")
    axes.grid(color=colours["grid"], linewidth=0.6)


def draw_confusion(confusion, classes):
    """`Drawing` of the whole confusion matrix: right answers on the diagonal, mistakes off it.

    Args:
      confusion: list of [label, predicted class, photos].
      classes: how many there are.
    """
    shares = np.zeros((classes, classes))
    for label, answer, photos in confusion:
        shares[label, answer] = photos
    wrong = int(shares.sum() - np.trace(shares))
    cells = int(np.count_nonzero(shares) - np.count_nonzero(np.diag(shares)))
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
    return drawing(
        "Confusion matrix",
        f"Confusion matrix of {classes} classes: {formatting.count(wrong, 'mistake')} in "
        f"{formatting.count(cells, 'cell')} off the diagonal.",
        _draw_confusion,
        shares,
        note="Row: the label. Column: the answer. The stronger a cell, the more of its label's "
        "photos; mistakes are orange.",
    )


def _draw_confusion(figure, colours, shares):
    figure.set_size_inches(4.6, 4.4)
    axes = figure.subplots()
    classes = len(shares)
    # One colour each that stands out on white and on black; the share is its opacity.
    image = np.zeros((classes, classes, 4))
    image[..., :3] = _rgb("#e0661a")
    image[np.arange(classes), np.arange(classes), :3] = _rgb("#2f81c7")
    image[..., 3] = np.where(shares > 0, 0.25 + 0.75 * np.sqrt(shares), 0)
    axes.imshow(image, interpolation="none")
    axes.set_xlabel("answer (class number)")
    axes.set_ylabel("label (class number)")
    for side in ("top", "right"):
        axes.spines[side].set_visible(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.get_major_locator().set_params(integer=True)


def _rgb(colour):
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
