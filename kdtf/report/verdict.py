"""Did distillation pay: the headline, the verdict in words, and its drawing."""

from kdtf import formatting
from kdtf.plotting import drawing, hint

_HEADLINES = {
    "helps": "Distillation helped",
    "hurts": "Distillation made the student worse",
    "no difference shown": "No difference shown",
}
_MEANINGS = {
    "helps": "With the teacher's help the same small model recognises more products.",
    "hurts": "With the teacher's help the same small model recognises fewer products.",
}
_UNDECIDED = (
    "This test set cannot tell the two apart: any difference inside the interval may be the true "
    "one."
)


def headline(comparison):
    """The verdict in a few words.

    Args:
      comparison: a `results.Comparison`, or None.
    """
    return _HEADLINES.get(comparison and comparison.verdict, "Not compared")


def tone(comparison):
    """Which look the verdict has: "good", "bad" or "neutral"."""
    return {"helps": "good", "hurts": "bad"}.get(comparison and comparison.verdict, "neutral")


def verdict_text(run):
    """The verdict with its numbers.

    Args:
      run: a `results.Results`.
    """
    comparison = run.comparison
    if not comparison or comparison.difference is None:
        return "The run holds no paired comparison of the distilled student with the baseline."
    baseline, distilled = (
        formatting.percent(run.models[model].top1 if model in run.models else None)
        for model in run.pair
    )
    bits = " 8-bit" if run.pair[1].precision == "int8" else ""
    numbers = (
        f"On the same {comparison.test_examples:,} test photos the distilled{bits} student gets "
        f"{distilled} right, the baseline student {baseline}: a difference of "
        f"{formatting.points(comparison.difference)} percentage points "
        f"({formatting.confidence(comparison.confidence)} {formatting.span(comparison.interval)}, "
        f"exact McNemar p {formatting.p_value(comparison.p_value)})."
    )
    return f"{numbers} {_MEANINGS.get(comparison.verdict, _UNDECIDED)}"


def caution_text(run):
    """What the verdict does not say."""
    comparison = run.comparison
    if not comparison:
        return ""
    seeds = comparison.seeds
    words = f"{seeds} training runs ({seeds} seeds) of each student."
    if seeds == 1:
        words = (
            "One training run (1 seed) of each student. The interval covers which photos "
            "happened to be in the test set, not how much results vary from seed to seed."
        )
    needed = comparison.needed_test_examples
    if comparison.verdict == "no difference shown" and needed:
        words += (
            f" If the difference seen were the true one, about {needed:,} test photos would "
            f"be needed to show it, with a chance of {formatting.share(comparison.power)}."
        )
    photos, labels = (run.environment.get(f"training_{what}") for what in ("photos", "labels"))
    if None not in (photos, labels) and labels < photos:
        words += (
            f" Of {photos:,} training photos {labels:,} have a label: from the others the "
            "distilled student learned through the teacher, the baseline not at all."
        )
    return words


def draw_gains(comparisons):
    """`Drawing` of the gain in top-1 with its interval, a row for each pair of students.

    Args:
      comparisons: {which students, in words: `results.Comparison`, or None where not made}.

    Returns:
      None where none was made.
    """
    rows = [
        (name, comparison.verdict, comparison.difference, *comparison.interval)
        for name, comparison in comparisons.items()
        if comparison and comparison.difference is not None
    ]
    if not rows:
        return None
    text = "; ".join(
        f"{name} {formatting.points(difference)} points, {formatting.span(interval)}, {verdict}"
        for name, verdict, difference, *interval in rows
    )
    return drawing(
        "Gain in top-1, percentage points", f"Distilled minus baseline: {text}.", draw_forest, rows
    )


def draw_forest(figure, colours, rows):
    """Differences and their intervals, one under the other, around a line at none.

    Args:
      figure: a matplotlib figure.
      colours: {name: colour}.
      rows: list of (name, verdict, difference, low, high), the numbers fractions, the last two None
        where unknown. The colour is the verdict's: an interval that just excludes 0 is not enough
        where the test of `comparison.paired_difference` says otherwise.
    """
    figure.set_size_inches(4.6, 0.95 + 0.33 * len(rows))
    axes = figure.subplots()
    axes.axvline(0, color=colours["ink"], linewidth=1, linestyle=":")
    for position, (name, verdict, difference, low, high) in enumerate(rows):
        colour = colours[{"helps": "good", "hurts": "bad"}.get(verdict, "soft")]
        text = f"{name}: {formatting.points(difference)} points"
        if low is not None:
            text += f", {formatting.span((low, high))}"
            axes.plot(
                [100 * low, 100 * high],
                [position] * 2,
                color=colour,
                linewidth=3,
                solid_capstyle="butt",
            )
        axes.plot(100 * difference, position, "o", color=colour, markersize=8, gid=hint(text))
        axes.text(
            1.02,
            position,
            formatting.points(difference),
            va="center",
            transform=axes.get_yaxis_transform(),
        )
    reach = 115 * max([0.005, *(abs(bound or 0) for row in rows for bound in row[2:])])
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [formatting.shortened(name) for name, *_ in rows])
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("← baseline better\u00a0\u00a0\u00a0\u00a0 distilled better →")
