"""Studies: many pairs of students under many conditions, and what distillation gained.

conditions      Condition, Job: what a pair of students is trained under, and one training
StudyConfig     what every training has in common
Trainer         trains and measures students, from views in memory
read_views      the views, and what teachers say about them, each by a `Reader`
Study           a study's directory, plan and run
effects         the gains: intervals, a table, curves
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["conditions", "effects"],
    submod_attrs={
        "conditions": ["Condition", "Job"],
        "config": ["StudyConfig"],
        "study": ["Study"],
        "trainer": ["Trainer"],
        "view_cache": ["Reader", "read_views"],
    },
)
