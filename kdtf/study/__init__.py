"""Studies: many pairs of students under many conditions, and what distillation gained.

Condition, Job  what a pair of students is trained under, and one training
Trainer         trains and measures students, from views in memory
read_views      the views, and what teachers say about them
Study           a study's directory, plan and run
effects         the gains: intervals, a table, curves
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["conditions", "effects"],
    submod_attrs={
        "conditions": ["Condition", "Job"],
        "study": ["Study"],
        "trainer": ["Settings", "Trainer"],
        "view_cache": ["Reader", "read_views"],
    },
)
