"""A run's results as a page for people.

write  report.html, report.md and report_curves.png of a run directory

`page` puts it together; a file for each section holds its words, tables and drawings.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"page": ["write"]})
