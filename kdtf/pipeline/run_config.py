"""The settings of a run directory: written when it is begun, compared when it is continued."""

import json

from kdtf import files


def check_or_write(path, settings):
    """Writes settings to a JSON file of a run directory, or checks that the file says the same.

    Args:
      path: pathlib.Path; its folder is made where it is missing.
      settings: dict that JSON can hold.

    Raises:
      ValueError: the directory holds a run with other settings; names both sides.
    """
    settings = json.loads(json.dumps(settings))
    if not path.exists():
        files.write_json(path, settings)
        return
    earlier = json.loads(path.read_text())
    changed = [key for key in settings if earlier.get(key) != settings[key]]
    if changed:
        was = {key: earlier.get(key) for key in changed}
        now = {key: settings[key] for key in changed}
        raise ValueError(
            f"{path.parent} holds a run with {was}, this one has {now}: choose another "
            "--run-dir, or give the same settings to continue"
        )
