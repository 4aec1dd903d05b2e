"""What may ship, and what has: gates, promotion, the registry of versions, the folder for a phone.

check_gates         whether a student keeps the limits of a release
compare, Tolerance  whether a new file may take the deployed one's place, by the `Answers` of both
Registry            promoted versions and rollback; `BusyError` where another process has it
bundle              the deploy folder
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["bundle"],
    submod_attrs={
        "gates": ["check_gates"],
        "promotion": ["Answers", "Tolerance", "compare"],
        "registry": ["BusyError", "Registry"],
    },
)
