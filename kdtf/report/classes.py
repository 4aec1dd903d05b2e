"""Frequent and rare classes: where does distillation change something?"""

from kdtf import formatting, metrics, results
from kdtf.plotting import drawing, hint, model_colour
from kdtf.report.table import Cell, Section, Table

_MARKERS = {results.TEACHER.role: "D", results.BASELINE.role: "s", results.DISTILLED.role: "o"}


def classes_section(models, comparison, classes):
    """Section of head, middle and tail, and of each class; None where nothing was measured.

    Args:
      models: {`results.Model`: `results.Metrics`} of the teacher and the pair of students.
      comparison: `results.Comparison` of the pair, or None.
      classes: as of `results.Results`.
    """
    students = [model for model in models if model != results.TEACHER]
    drawings, tables, words = [], [], []
    if any(formatting.known(measured.tail_top1) for measured in models.values()):
        drawings.append(draw_frequency(models))
    difference = ((comparison and comparison.differences) or {}).get("tail_top1")
    if difference:
        words.append(
            f"On the rarest classes distillation changed top-1 by "
            f"{formatting.points(difference['difference'])} points "
            f"({formatting.span(difference['interval'])})."
        )
    recalls = [models[model].recall for model in students]
    if classes and len(recalls) == 2 and all(recalls):
        drawings.append(draw_class_gains(classes, *recalls))
        tables.append(_recall_table(students, classes, *recalls))
    if not drawings:
        return None
    return Section("tail", "Frequent and rare classes", words, drawings, tables)


def _recall_table(students, classes, before, after):
    rows = [_recall_row(*each) for each in zip(classes, before, after, strict=True)]
    rows.sort(key=lambda row: (row[4].value is None, row[4].value))
    return Table(
        f"Recall of all {len(rows)} classes",
        [
            ("Class", ""),
            ("Training photos", ""),
            ("Test photos", ""),
            *((model.title, "recall") for model in students),
            ("Gain", "points"),
        ],
        rows,
        folded=True,
    )


def _recall_row(each, before, after):
    gain = None if None in (before, after) else after - before
    return [
        Cell(each["name"], each["name"]),
        *(Cell(f"{each[key]:,}", each[key]) for key in ("train_examples", "test_examples")),
        *(Cell(formatting.percent(value), value) for value in (before, after)),
        Cell(formatting.NOT_MEASURED if gain is None else formatting.points(gain), gain),
    ]


def draw_frequency(models):
    """`Drawing` of top-1 on frequent, middling and rare classes.

    Args:
      models: {`results.Model`: `results.Metrics`}.
    """
    text = "; ".join(
        f"{model.title} "
        + ", ".join(f"{part} {formatting.percent(top1)}" for part, top1, _ in _parts(measured))
        for model, measured in models.items()
    )
    return drawing(
        "Top-1 by how common a class is",
        f"Top-1 by frequency: {text}.",
        _draw_frequency,
        models,
        note="Head: the most frequent classes, 58 % of the training photos. Tail: the rarest, at "
        "most 20 %. Bars: 95 % intervals.",
    )


def _parts(measured):
    """(part, top-1, interval or None) of head, mid and tail."""
    intervals = measured.intervals
    return (
        ("head", measured.head_top1, intervals.get("head_top1")),
        ("mid", measured.mid_top1, intervals.get("mid_top1")),
        ("tail", measured.tail_top1, intervals.get("tail_top1")),
    )


def _draw_frequency(figure, colours, models):
    figure.set_size_inches(4.6, 3.2)
    axes = figure.subplots()
    for number, (model, measured) in enumerate(models.items()):
        colour, marker = model_colour(colours, model), _MARKERS.get(model.role, "^")
        shift = 0.18 * (number - (len(models) - 1) / 2)
        places, values = [], []
        for place, (part, value, interval) in enumerate(_parts(measured)):
            if not formatting.known(value):
                continue
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
                marker,
                color=colour,
                markersize=7,
                gid=hint(f"{model.title}, {part}: {formatting.percent(value)}"),
            )
            places.append(place + shift)
            values.append(100 * value)
        axes.plot(places, values, "-", color=colour, linewidth=0.8, alpha=0.7)
        axes.plot([], [], marker, color=colour, label=model.title)
    axes.set_xticks(range(3), ["head", "mid", "tail"])
    axes.set_xlim(-0.5, 2.5)
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
