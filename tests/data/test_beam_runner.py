"""Apache Beam: the same shards as without it, from two worker processes; what can go wrong."""

import importlib.util
import os
import re
import sys
import time
from pathlib import Path

import pytest
from photo_folders import FRACTIONS, contents, folder_of_photos

from kdtf.data import beam_runner
from tfrecords_tools import build

TWO_PROCESSES = [
    "DirectRunner", "--direct_num_workers", "2", "--direct_running_mode", "multi_processing"
]  # fmt: skip
needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="Apache Beam is not installed: pip install 'kdtf[beam]'",
)


@needs_beam
def test_build_in_two_worker_processes_gives_the_same_bytes(tmp_path, monkeypatch, capsys):
    folder_of_photos(tmp_path / "in", {"fig": 7, "pear": 5})
    monkeypatch.chdir(tmp_path)
    build.build("in", "local", split_fractions=FRACTIONS, workers=1, examples_per_shard=3)
    arguments = ["--source", "in", "--split", "train=0.8,val=0.1,test=0.1"]
    arguments += ["--examples-per-shard", "3", "--out", "beam"]
    build.main([*arguments, "--runner", *TWO_PROCESSES])
    assert contents(tmp_path / "beam") == contents(tmp_path / "local")
    assert "2 classes" in capsys.readouterr().out


def meet(item):
    """Notes its process and waits until another process has done so too."""
    folder, number = item
    (Path(folder) / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(Path(folder).iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    return number, len(list(Path(folder).iterdir()))


@needs_beam
def test_two_processes_share_the_work(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.path.dirname(__file__), *sys.path]))
    met = tmp_path / "met"
    met.mkdir()
    engine = beam_runner.Engine(TWO_PROCESSES, tmp_path / "new" / "out")
    results = engine(meet, [(str(met), number) for number in range(12)])
    assert results == [(number, 2) for number in range(12)]
    assert str(os.getpid()) not in {path.name for path in met.iterdir()}
    assert list((tmp_path / "new" / "out").iterdir()) == []


def refuse_odd(number):
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def number_of(item):
    return item + 1


@needs_beam
def test_the_way_of_cluster_runners(tmp_path):
    """Beam's own job service takes the pipeline as Flink's and Spark's do."""
    service = ["PortableRunner", "--job_endpoint", "embed", "--environment_type", "LOOPBACK"]
    assert beam_runner.Engine(service, tmp_path)(number_of, range(5)) == [1, 2, 3, 4, 5]


def give_up(number):
    raise OSError(f"no disk for {number}")


def lose(pattern):
    """Deletes what other work items have written or are to read."""
    for path in Path(pattern).parent.glob(f".beam-*/{Path(pattern).name}"):
        path.unlink()


@needs_beam
def test_results_and_failures(tmp_path):
    (tmp_path / ".beam-killed").mkdir()
    (tmp_path / ".beam-killed" / "0.item").touch()
    engine = beam_runner.Engine(["DirectRunner"], tmp_path)
    assert engine(refuse_odd, range(4, 40, 2)) == list(range(4, 40, 2))
    with pytest.raises(ValueError, match="^3 is odd$"):
        engine(refuse_odd, [2, 3, 4, 5])
    with pytest.raises(Exception, match="no disk for 7"):
        engine(give_up, [7])
    with pytest.raises(Exception, match="is not to be seen on this worker: --out must be on"):
        engine(lose, [str(tmp_path / "*.item")] * 2)
    with pytest.raises(FileNotFoundError, match="has finished, but .*[0-9].result is not there"):
        engine(lose, [str(tmp_path / "*.result")] * 9)
    assert list(tmp_path.iterdir()) == []


@needs_beam
def test_bad_photos_are_named_before_work_begins(tmp_path):
    root = folder_of_photos(tmp_path / "in", {"fig": 4})
    (root / "fig" / "2.jpg").write_text("ripe")
    options = {"split_fractions": {"train": 1.0}, "examples_per_shard": 1}
    with pytest.raises(ValueError, match=r"1 of 4 .*\n.*fig/2\.jpg is not a photo that Pillow"):
        build.build(root, tmp_path / "out", runner=["DirectRunner"], **options)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".unfinished.json"]
    folder_of_photos(root, {"fig": 4})
    build.build(root, tmp_path / "out", workers=1, **options)
    build.build(root, tmp_path / "local", workers=1, **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


@needs_beam
@pytest.mark.parametrize("options", [[], ["--direct_num_workers", "2"]])
def test_a_runner_has_a_name(tmp_path, options):
    with pytest.raises(ValueError, match="the runner's name must come first"):
        beam_runner.Engine(options, tmp_path)


@needs_beam
def test_a_runner_has_its_own_workers(tmp_path):
    root = folder_of_photos(tmp_path / "in", {"fig": 1})
    with pytest.raises(ValueError, match="workers=3 is for this machine's processes"):
        build.build(
            root, tmp_path / "out", split_fractions=FRACTIONS, workers=3, runner=["DirectRunner"]
        )


def test_without_beam_the_error_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    root = folder_of_photos(tmp_path / "in", {"fig": 1})
    arguments = ["--source", str(root), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        build.main([*arguments, "--runner", "DirectRunner"])
    assert end.value.code == 2 and not (tmp_path / "out").exists()
    assert re.match(r"error: --runner .*pip install 'kdtf\[beam\]'", capsys.readouterr().err)


@needs_beam
def test_a_runner_that_beam_does_not_know_is_refused_before_anything_is_written(tmp_path, capsys):
    root = folder_of_photos(tmp_path / "in", {"fig": 1})
    arguments = ["--source", str(root), "--out", str(tmp_path / "out"), "--runner"]
    for runner, message in (
        (["DirectRuner", "--workers", "2"], "DirectRuner --workers 2: Beam knows no such runner"),
        (["--direct_num_workers", "2"], "--direct_num_workers 2: the runner's name must come"),
    ):
        with pytest.raises(SystemExit) as end:
            build.main([*arguments, *runner])
        assert end.value.code == 2 and not (tmp_path / "out").exists()
        assert capsys.readouterr().err.startswith(f"error: --runner {message}")
