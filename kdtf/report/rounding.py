"""What eight bits cost, layer by layer."""

from kdtf import formatting, results
from kdtf.plotting import drawing, hint
from kdtf.report.table import Cell, Section, Table

_MOST_LAYERS = 8
_MARKED = 5  # layers numbered in the picture
_CLEAN_DB = 60  # above it a layer is drawn at it: an idle one would flatten all others


def rounding_section(models, layers):
    """Section of each layer's rounding noise, or None where it was not measured.

    Args:
      models: {`results.Model`: `results.Metrics`}.
      layers: list of dict of an `export.layer_errors.LayerError`, worst first, snr_db None where
        exact; or None.
    """
    if not layers:
        return None
    words = [
        "Eight-bit numbers are coarse. How far each layer of the shipped file is from the same "
        "layer of the float student, on a few validation photos."
    ]
    before, after = (
        models[model].top1 if model in models else None
        for model in (results.DISTILLED, results.SHIPPED)
    )
    if formatting.known(before) and formatting.known(after):
        change = after - before
        words.append(
            f"Top-1 of the 8-bit file against the float file: {formatting.points(change)} points."
        )
    rows = [
        [
            Cell(f"{number}.\u00a0{row['layer']}", number),
            Cell(f"{row['position']}", row["position"]),
            Cell("exact" if row["snr_db"] is None else f"{row['snr_db']:.1f}", row["snr_db"]),
            Cell(f"{row['error_rms']:.3g}", row["error_rms"]),
            Cell(f"{row['low']:.3g} to {row['high']:.3g}", row["high"] - row["low"]),
        ]
        for number, row in enumerate(layers[:_MOST_LAYERS], start=1)
    ]
    return Section(
        "rounding",
        "What eight bits cost, layer by layer",
        words,
        [draw_layers(layers)],
        [
            Table(
                f"The {len(rows)} noisiest layers",
                [
                    ("Layer", "noisiest first"),
                    ("Place", "from the input"),
                    ("Signal over noise", "dB, higher is better"),
                    ("Error", "rms"),
                    ("Values", "of the float layer"),
                ],
                rows,
            )
        ],
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
