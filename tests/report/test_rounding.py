"""What eight bits cost."""

from kdtf import results
from kdtf.report import rounding
from kdtf.results import Metrics

LAYERS = [
    {
        "layer": f"layer_{number}",
        "position": number,
        "snr_db": snr_db,
        "error_rms": 0.01,
        "low": -1.0,
        "high": 4.0,
    }
    for number, snr_db in ((3, 12.3), (1, 30.0), (2, None))
]


def test_the_noisiest_layers_are_listed_and_the_change_told():
    models = {results.DISTILLED: Metrics(top1=0.8), results.SHIPPED: Metrics(top1=0.785)}
    section = rounding.rounding_section(models, LAYERS)
    assert section.words[-1].endswith("the 8-bit file against the float file: −1.5 points.")
    (table,) = section.tables
    assert [row[2].text for row in table.rows] == ["12.3", "30.0", "exact"]
    assert len(rounding.rounding_section({}, LAYERS).words) == 1
    assert rounding.rounding_section(models, None) is None
