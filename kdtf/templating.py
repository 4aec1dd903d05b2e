"""The templates of what is written for people: pages, Markdown, cards."""

from pathlib import Path

import jinja2

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=lambda name: name.endswith(".html"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
# Text within a cell of a Markdown table.
_ENVIRONMENT.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")


def render(name, **values):
    """Text of the template `name` of `kdtf/templates/`; a name it lacks raises.

    Args:
      name: of the file; in .html files values are escaped.
      values: what it prints.

    Raises:
      jinja2.UndefinedError: the template prints a value that was not given.
    """
    return _ENVIRONMENT.get_template(name).render(values)
