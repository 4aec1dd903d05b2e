"""What a run prints of its stages."""

import pytest

from kdtf.pipeline import estimates
from kdtf.pipeline.config import EMBEDDED, DistillConfig
from kdtf.pipeline.progress import Progress
from kdtf.pipeline.run_directory import RunDirectory
from kdtf.results import BASELINE, DISTILLED


def test_stages_are_numbered_and_what_they_took_is_kept(tmp_path, capsys):
    run = RunDirectory(tmp_path)
    progress = Progress(run, total=2)
    with progress.stage(estimates.Stage("data", "open shards")):
        pass
    with pytest.raises(ZeroDivisionError), progress.stage(estimates.Stage("cache", "write", 90)):
        raise ZeroDivisionError
    assert capsys.readouterr().out == (
        "\n[1/2] data: open shards (seconds)\n\n[2/2] cache: write (about 1.5 min on two cores)\n"
    )
    assert list(run.elapsed()) == ["data"]


def test_stages_say_what_they_do(shards, config):
    drawn = estimates.data_stage(EMBEDDED)
    assert drawn.what == "draw 2,400 shelf photos" and drawn.seconds == 2400 * 0.008
    assert estimates.data_stage(config) == ("data", f"open {config.data}", 0)
    trained = estimates.teacher_stage(EMBEDDED, shards)
    assert trained.what == "train resnet14_v2, 12 epochs at 96 px"
    named = estimates.teacher_stage(config, shards)
    assert named == ("teacher", f"load {config.teacher[0]}", 0)


def test_a_teacher_in_every_step_takes_its_time(shards):
    cached, live = DistillConfig(data="d"), DistillConfig(data="d", online_teacher=True)
    images = shards.split("train").examples
    for student, times in ((BASELINE, 0), (DISTILLED, cached.epochs)):
        stages = [
            estimates.student_stage(config, shards, student, 0.5) for config in (cached, live)
        ]
        assert stages[0].name == student.key
        assert stages[1].seconds - stages[0].seconds == pytest.approx(0.5 * times * images)
    stages = [estimates.int8_stage(config, shards, 0.5) for config in (cached, live)]
    added = stages[1].seconds - stages[0].seconds
    assert added == pytest.approx(0.5 * cached.qat_epochs * images)
