"""The settings of a run directory: written when it is begun, compared when it is continued."""

import json

from kdtf import files

# Of everything in a run directory; the first had no number in config.json.
FORMAT = 2


def check_or_write(path, settings):
    """Writes settings to a JSON file of a run directory, or checks that the file says the same.

    Args:
      path: pathlib.Path; its folder is made where it is missing.
      settings: dict that JSON can hold; where it has a "format", so must the file.

    Raises:
      ValueError: the directory holds a run of another format or with other settings; names both
        sides.
    """
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        files.write_json(path, settings)
        return
    earlier = read(path) if "format" in settings else files.read_json(path)
    changed = [key for key in settings if earlier.get(key) != settings[key]]
    if changed:
        was = {key: earlier.get(key) for key in changed}
        now = {key: settings[key] for key in changed}
        raise ValueError(
            f"{path.parent} holds a run with {was}, this one has {now}: choose another "
            "--run-dir, or give the same settings to continue"
        )


def read(path):
    """The settings in a run's `config.json`.

    Raises:
      FileNotFoundError: no run was begun.
      ValueError: the run was begun in another format.
    """
    settings = files.read_json(path)
    earlier = settings.get("format", 1)
    if earlier != FORMAT:
        raise ValueError(
            f"{path.parent} holds a run in format {earlier}, this version of kdtf reads and writes "
            f"format {FORMAT}: choose another --run-dir, or finish the run with the version of "
            "kdtf that began it"
        )
    return settings
