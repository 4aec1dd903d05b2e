"""The main job: teacher, students, 8 bits, files, measures and report of one run directory.

DistillConfig, TeacherConfig  what decides a run, and a teacher
RunDirectory          where each file of a run lies
Truth, read_truth     what is known about the images that files are measured on
Evaluation            what the exported files answer, and what is measured from that
distill.distill       the whole job
retrain.retrain       the job of every week: train on, compare with what is deployed, promote
teacher_training.train
sweep                 the job over several seeds
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["distill", "retrain", "sweep", "teacher_training"],
    submod_attrs={
        "config": ["DistillConfig", "TeacherConfig"],
        "evaluation": ["Evaluation", "Truth", "read_truth"],
        "run_directory": ["RunDirectory"],
    },
)
