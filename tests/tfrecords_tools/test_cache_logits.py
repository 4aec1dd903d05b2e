"""The command line that caches logits: killed and continued, on workers, refused."""

import importlib.util
import signal
import subprocess
import sys
import time

import pytest
from noise_shards import PHOTOS, small_teacher, write_photos

from kdtf import teachers
from tfrecords_tools import cache_logits


@pytest.fixture(scope="module")
def info(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def teacher():
    return small_teacher(1)


@pytest.fixture(scope="module")
def cached(info, teacher):
    cache, scored = teachers.cache_logits(info, [teacher], views=3, batch_size=4, seed=5)
    assert scored == 3 * PHOTOS
    return cache


KILLED = """
import os, signal, sys
from kdtf import files
from kdtf.teachers import logit_writer
from tfrecords_tools import cache_logits

write_shard = logit_writer.write_shard
def die_in_the_second(path, info, settings, shard, score, progress):
    if shard == 1:
        def die(images):  # as the writer would: its file is half there
            with files.atomic_write(path) as partial:
                partial.write_bytes(b"half a shard")
                os.kill(os.getpid(), signal.SIGKILL)
        progress = die
    return write_shard(path, info, settings, shard, score, progress)
logit_writer.write_shard = die_in_the_second
cache_logits.main(sys.argv[1:])
"""


def test_command_line_killed_and_continued(info, teacher, cached, tmp_path):
    """SIGKILL in the second of four shards: the first is kept, the rest written, nothing left."""
    teacher.save(tmp_path / "teacher.keras")
    out = tmp_path / "logits"
    arguments = ["--data", str(info.directory), "--teacher", str(tmp_path / "teacher.keras")]
    arguments += ["--views", "3", "--batch-size", "4", "--seed", "5", "--out", str(out)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    left = {path.name for path in out.iterdir()}
    first, second = (shard.file for shard in cached.shards[:2])
    assert first in left and second not in left and "logits.json" not in left
    assert [name for name in left if "partial" in name]
    stamp = (out / first).stat().st_mtime_ns
    time.sleep(0.01)
    cache_logits.main(arguments)
    assert (out / first).stat().st_mtime_ns == stamp
    for shard in cached.shards:
        assert (out / shard.file).read_bytes() == (cached.directory / shard.file).read_bytes()
    assert len(list(out.iterdir())) == len(cached.shards) + 1


def test_command_line_help_and_errors(info, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cache_logits.main(["--help"])
    assert stop.value.code == 0
    assert "--views" in capsys.readouterr().out
    missing = ["--data", str(info.directory), "--teacher", str(tmp_path / "none.keras")]
    for argv, message in (
        (missing, f"--teacher {tmp_path / 'none.keras'}: no such file"),
        ([*missing, "--mixup", "-1"], "--mixup -1: must be at least 0"),
        ([*missing[:2], "--split", "dev"], "--teacher: is required"),
        ([*missing, "--runner"], "--runner: needs a value"),
    ):
        with pytest.raises(SystemExit) as stop:
            cache_logits.main(argv)
        assert stop.value.code == 2
        assert f"error: {message}" in capsys.readouterr().err


@pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="Apache Beam is not installed: pip install 'kdtf[beam]'",
)
def test_two_worker_processes_of_beam_write_the_same_bytes(info, teacher, tmp_path, capsys):
    teacher.save(tmp_path / "teacher.keras")
    arguments = ["--data", str(info.directory), "--teacher", str(tmp_path / "teacher.keras")]
    arguments += ["--views", "2", "--batch-size", "4"]
    cache_logits.main([*arguments, "--out", str(tmp_path / "local")])
    beam = ["--runner", "DirectRunner", "--direct_num_workers", "2"]
    beam += ["--direct_running_mode", "multi_processing"]
    cache_logits.main([*arguments, "--out", str(tmp_path / "beam"), *beam])
    assert f"{2 * PHOTOS} images scored now" in capsys.readouterr().out.splitlines()[-1]
    local, beam = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        for folder in ("local", "beam")
    )
    assert beam == local
