"""The throughput tool: its three pipelines run, and its table divides the right way round."""

import pytest

from tfrecords_tools import synthetic, throughput
from tfrecords_tools.throughput import Speed


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("set") / "shards"
    synthetic.synthesize(out, classes=3, photos=40, size=48, workers=1)
    return out


def test_table_by_hand():
    speeds = {
        "decode": [Speed(1000.0, 2.0), Speed(500.0, 4.0), Speed(600.0, 4.0)],
        "kdtf": [Speed(900.0, 4.0), Speed(400.0, 5.0), Speed(300.0, 8.0)],
        "keras": [Speed(300.0, 8.0), Speed(400.0, 10.0), Speed(100.0, 24.0)],
    }
    row = throughput.table(speeds)[2].split()
    # speed against decode 0.9, 0.8, 0.5; against keras 3, 1, 3; CPU 0.5, 0.8, 0.5; 2, 2, 3
    want = ["kdtf", "400", "300", "to", "900", "0.80", "3.00", "5", "0.50", "2.00"]
    assert row == want


def test_command_line(dataset, capsys):
    throughput.main(
        [str(dataset), "--image-size", "32", "--batch-size", "8", "--rounds", "1"]
        + ["--seconds", "0.01"]
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["decode", "kdtf", "keras"]
    assert all(float(line.split()[1]) > 0 for line in lines[2:])


def test_wrong_requests_are_named(dataset, tmp_path, capsys):
    for wrong, message in (
        ([str(dataset), "--split", "tset"], "no split 'tset'"),
        ([str(tmp_path)], "does not exist"),
        ([], "DIRECTORY: is required"),
    ):
        with pytest.raises(SystemExit) as end:
            throughput.main(wrong)
        assert end.value.code == 2 and message in capsys.readouterr().err
