"""A study: its plan, what is left of it, and its findings."""

import os
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from kdtf import files, formatting, teachers
from kdtf.pipeline import evaluation
from kdtf.pipeline.run_config import check_or_write
from kdtf.study import conditions, effects, view_cache
from kdtf.study.trainer import Trainer, build_student, split_student

# Measured on one core of a 2.5 GHz Xeon, for the first estimate: seconds to train on a photo.
TRAINING_SECONDS = 0.14e-6 * 3  # for each pixel of a whole student
FROZEN_FRACTION = 0.3  # what is left of it with blocks frozen


class Study:
    """A study's directory, data and plan.

    Args:
      directory: where everything goes.
      info: `kdtf.data.DatasetInfo` with splits train, val and test.
      settings: `StudyConfig`.
      teacher_paths: {name: .keras file}; the first is the base's.
      axes: names, of `conditions.AXES`.
      seeds: ints, at least two different ones.

    Raises:
      ValueError: axes, seeds or settings that do not fit together, or that differ from what the
        directory holds.
    """

    def __init__(self, directory, info, settings, teacher_paths, axes, seeds):
        if len(set(seeds)) < 2 or len(set(seeds)) < len(seeds):
            raise ValueError(f"an interval needs at least 2 different seeds, got {list(seeds)}")
        if "width" in axes and settings.weights:
            raise ValueError(
                f"the axis 'width' needs students that start at random, {settings.weights} fits "
                "one width: leave out the axis or --weights"
            )
        self.directory, self.info, self.settings = Path(directory), info, settings
        self.teacher_paths, self.seeds = teacher_paths, tuple(seeds)
        self.points = conditions.points(axes, list(teacher_paths))
        self.jobs = conditions.jobs(self.points, self.seeds)
        known = asdict(settings) | {"data_sha256": info.sha256()}
        check_or_write(self.directory / "config.json", known)
        self.results = self._finished()

    def plan(self):
        """Text: what is to be trained, and about how long it takes."""
        left = [job for job in self.jobs if job.name not in self.results]
        return (
            f"{len(self.points)} points, {len(self.jobs)} trainings, {len(left)} of them left "
            f"(about {formatting.duration(self._seconds(left))} on this machine, idle, and before "
            "that the teachers' views unless they are in the run directory)"
        )

    def run(self):
        """Trains what is left and writes the findings; returns `effects.measure`'s rows."""
        views = self._read_views()
        self._labels = {
            split: evaluation.read_truth(self.info, split).labels
            for split in ("train", "val", "test")
        }
        self._teachers = {
            name: float(np.mean(views[name]["test"].argmax(axis=1) == self._labels["test"]))
            for name in self.teacher_paths
        }
        trainer = Trainer(self.info, self.settings, views, self._labels)
        for number, job in enumerate(self.jobs):
            if job.name not in self.results:
                result = trainer.run(job)
                path = self.directory / "jobs" / f"{job.name}.json"
                files.write_json(path, result)
                self.results[job.name] = result
                left = [job for job in self.jobs if job.name not in self.results]
                print(
                    f"[{number + 1}/{len(self.jobs)}] {job.name}: top-1 "
                    f"{formatting.percent(result['metrics']['top1'])}, "
                    f"{formatting.duration(result['seconds'])}; about "
                    f"{formatting.duration(self._seconds(left))} left",
                    flush=True,
                )
                if self._point_ends_before(number + 1):
                    self.report()
        return self.report()

    def report(self):
        """Writes study.json, table.md and the curves of what is finished; returns the rows."""
        rows = effects.measure(self.points, self.results, self.seeds, self._labels["test"])
        study = {
            "settings": asdict(self.settings),
            "teachers": self._teachers,
            "test_examples": len(self._labels["test"]),
            "points": rows,
        }
        files.write_json(self.directory / "study.json", study)
        files.write_text(self.directory / "table.md", effects.table(rows))
        if any(row["gain"] is not None for row in rows):
            effects.draw(self.directory, rows)
        return rows

    def _point_ends_before(self, number):
        """Whether the job of this number, if there is one, is of another condition."""
        following = self.jobs[number : number + 1]
        return all(job.condition != self.jobs[number - 1].condition for job in following)

    def _read_views(self):
        settings, classes = self.settings, len(self.info.classes)

        def student():
            if not settings.frozen_blocks:
                return view_cache.pixels(settings.image_size)
            whole = build_student(settings, classes, 1.0, steps=1)
            trunk, _ = split_student(whole, settings.frozen_blocks)
            return view_cache.features(trunk)

        readers = {"student": student} | {
            name: lambda path=path: view_cache.logits(teachers.load([path]), classes)
            for name, path in self.teacher_paths.items()
        }
        return view_cache.read_views(
            self.directory / "views",
            self.info,
            readers,
            views=settings.views,
            view_size=settings.view_size,
        )

    def _finished(self):
        results = {}
        for job in self.jobs:
            path = self.directory / "jobs" / f"{job.name}.json"
            if path.exists():
                results[job.name] = files.read_json(path)
        return results

    def _seconds(self, left):
        """Seconds that jobs take at the pace of the last ten, or at one measured elsewhere."""
        settings = self.settings
        examples = self.info.split("train").examples
        photos = sum(
            settings.steps(examples, job.condition.length) * settings.batch_size for job in left
        )
        done = list(self.results.values())[-10:]
        if done:
            pace = np.median([result["seconds"] / result["photos"] for result in done])
        else:
            pace = TRAINING_SECONDS * settings.image_size**2
            pace *= FROZEN_FRACTION if settings.frozen_blocks else 1
        return float(photos * pace)
