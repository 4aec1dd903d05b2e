"""The models beside each other."""

from kdtf import results
from kdtf.report import models
from kdtf.results import Gate, Metrics, Model, Results

ROWS = {
    results.DISTILLED: Metrics(top1=0.8, size_bytes=7_000_000, latency_ms={"p95": 1.0}),
    results.SHIPPED: Metrics(top1=0.79, size_bytes=2_000_000, intervals={"top1": [0.77, 0.81]}),
    Model("other_student"): Metrics(top1=0.5, size_bytes=1_000_000),
}


def test_each_measure_has_its_interval_or_says_that_it_is_missing():
    tables = models.measure_tables(ROWS)
    _, shipped, other = tables["How often it is right"].rows
    assert shipped[1] == ("79.0 %", 0.79, "77.0 to 81.0 %")
    assert other[1] == ("50.0 %", 0.5, "") and other[0].text == "Other student"
    assert shipped[2] == ("not measured", None, "")


def test_limits_are_those_of_the_gates_whatever_their_headings():
    """One model's latency alone makes no picture of it."""
    gate = Gate(results.FILE_SIZE, "No larger than", "<", 5e6, "bytes", 2e6, True)
    (limited,) = models.draw_tradeoffs(Results(ROWS, gates=(gate,)))
    (free,) = models.draw_tradeoffs(Results(ROWS))
    assert limited.note.endswith("Dotted: the limits of the release gates.")
    assert free.note == "Up and to the left is better."
    assert limited.svg.count("stroke-dasharray") == free.svg.count("stroke-dasharray") + 1
    assert "Other student: 50.0 %, 1.00 MB" in limited.alt


def test_a_latency_of_a_busy_machine_is_marked():
    rows = {
        results.DISTILLED: Metrics(benchmark={"load_average": 3.7, "busy": True}),
        results.SHIPPED: Metrics(benchmark={"load_average": 0.2, "busy": False}),
        Model("other_student"): Metrics(benchmark={"load_average": 0.4}),  # of earlier versions
    }
    cells = [
        cell
        for table in models.measure_tables(rows).values()
        for row in table.rows
        for (head, _), cell in zip(table.heads, row, strict=True)
        if head == "Load of the machine"
    ]
    assert [(cell.text, cell.more) for cell in cells] == [
        ("3.70", "busy: latency may be too high"),
        ("0.20", ""),
        ("0.40", ""),
    ]
