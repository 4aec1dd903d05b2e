"""What may ship, and what has: gates, promotion, the registry of versions, the folder for a phone.

Registry            promoted versions and rollback
Tolerance, compare  whether a new file may take the deployed one's place
bundle              the deploy folder
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "registry": ["BusyError", "Registry"],
        "promotion": ["Answers", "Tolerance", "compare"],
    },
)
