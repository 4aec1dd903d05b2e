"""Promotion and the way back, also where a process dies in between or two come at once."""

import hashlib
import json
import multiprocessing

import killing
import pytest

from kdtf.release import registry
from kdtf.release.registry import BusyError, Registry


@pytest.fixture
def three(tmp_path):
    """A registry of versions 1 to 3; the model of version n is b"model n"."""
    store = Registry(tmp_path / "registry")
    for number in (1, 2, 3):
        promote(store, tmp_path, f"model {number}", number - 1 or None)
    return store


def promote(store, folder, text, replaces):
    model, labels = folder / "candidate.tflite", folder / "candidate.txt"
    model.write_text(text)
    labels.write_text("milk\n")
    sources = {"model.tflite": model, "labels.txt": labels}
    return store.promote(sources, {"run": f"runs/{text}"}, replaces)


def deployed_text(store):
    return (store.verified(store.deployed()["version"]) / "model.tflite").read_text()


def test_an_empty_registry(tmp_path):
    store = Registry(tmp_path / "none")
    assert store.deployed() is None and store.read()["versions"] == []
    with pytest.raises(ValueError, match="nothing is deployed"):
        store.roll_back()
    with pytest.raises(ValueError, match="no version 1, only an empty registry"):
        store.verified(1)


def test_what_is_written(three):
    state = json.loads((three.folder / "registry.json").read_text())
    assert state["deployed"] == 3
    entry = state["versions"][1]
    assert entry["files"]["model.tflite"] == {
        "sha256": hashlib.sha256(b"model 2").hexdigest(),
        "size_bytes": 7,
    }
    assert (entry["version"], entry["replaced"], entry["facts"]) == (2, 1, {"run": "runs/model 2"})
    assert entry["promoted"].endswith("+00:00")
    assert sorted(path.name for path in three.folder.iterdir() if path.name[0] != ".") == [
        "0001",
        "0002",
        "0003",
        "registry.json",
    ]
    assert deployed_text(three) == "model 3"


def test_roll_back_and_on(three, tmp_path):
    assert three.roll_back()["version"] == 2 and deployed_text(three) == "model 2"
    assert three.roll_back()["version"] == 1  # what version 2 replaced, not 3
    with pytest.raises(ValueError, match="version 1 in .* replaced none: name the version"):
        three.roll_back()
    assert three.roll_back(3)["version"] == 3 and deployed_text(three) == "model 3"
    with pytest.raises(ValueError, match="version 3 is deployed in .* already"):
        three.roll_back(3)
    with pytest.raises(ValueError, match="no version 9, only 1, 2, 3"):
        three.roll_back(9)
    three.roll_back(1)
    assert promote(three, tmp_path, "model 4", 1)["version"] == 4
    assert three.roll_back()["version"] == 1
    history = [(event["action"], event["version"]) for event in three.read()["history"]]
    assert history[3:] == [
        ("rolled back", 2),
        ("rolled back", 1),
        ("rolled back", 3),
        ("rolled back", 1),
        ("promoted", 4),
        ("rolled back", 1),
    ]


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda folder: (folder / "model.tflite").write_text("model x"), "has sha256 .* restore"),
        (lambda folder: (folder / "labels.txt").unlink(), "holds model.tflite: restore the folder"),
        (lambda folder: (folder / "new.txt").write_text(""), "holds labels.txt, model.tflite, new"),
    ],
)
def test_a_damaged_version_is_not_gone_back_to(three, damage, message):
    damage(three.folder / "0002")
    with pytest.raises(ValueError, match=message):
        three.roll_back()
    assert three.deployed()["version"] == 3 and len(three.read()["history"]) == 3
    assert three.roll_back(1)["version"] == 1


@pytest.mark.parametrize("moment", ["shutil.copyfile", "_check_files", "files.write_text"])
def test_a_process_that_dies_leaves_what_was_deployed(three, tmp_path, monkeypatch, moment):
    def die(*args, **kwargs):
        raise killing.Killed

    before = (three.folder / "registry.json").read_bytes()
    with monkeypatch.context() as patch:
        # A killed process tidies nothing up either.
        patch.setattr("kdtf.release.registry.shutil.rmtree", lambda *args, **kwargs: None)
        patch.setattr(f"kdtf.release.registry.{moment}", die)
        with pytest.raises(killing.Killed):
            promote(three, tmp_path, "never", 3)
    assert (three.folder / "registry.json").read_bytes() == before
    assert deployed_text(three) == "model 3"
    assert promote(three, tmp_path, "model 4", 3)["version"] == 4
    assert deployed_text(three) == "model 4"
    assert not list(three.folder.glob(".partial*"))


def test_a_copy_that_went_wrong_is_not_promoted(three, tmp_path, monkeypatch):
    def half(source, target):
        target.write_text(source.read_text()[:3])

    monkeypatch.setattr(registry.shutil, "copyfile", half)
    with pytest.raises(ValueError, match="has sha256"):
        promote(three, tmp_path, "model 4", 3)
    assert deployed_text(three) == "model 3" and not (three.folder / "0004").exists()


def test_another_version_was_deployed_meanwhile(three, tmp_path):
    three.roll_back()
    with pytest.raises(ValueError, match="version 2 is deployed .* compared with version 3: run"):
        promote(three, tmp_path, "model 4", 3)
    with pytest.raises(ValueError, match="version 2 is deployed .* compared with no version"):
        promote(three, tmp_path, "model 4", None)
    assert deployed_text(three) == "model 2"


def test_missing_sources(three, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        three.promote({"a": tmp_path / "nowhere"}, {}, 3)
    with pytest.raises(ValueError, match="at least one file"):
        three.promote({}, {}, 3)
    assert deployed_text(three) == "model 3" and not list(three.folder.glob(".partial*"))


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is not a registry"),
        ("[]", "is not a registry"),
        ('{"format": 2, "versions": [], "deployed": null}', "has format 2, this version reads 1"),
        ('{"format": 1, "versions": [], "deployed": 7}', "names version 7 as deployed, but holds"),
    ],
)
def test_a_broken_registry_is_not_overwritten(tmp_path, text, message):
    store = Registry(tmp_path)
    (tmp_path / "registry.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        promote(store, tmp_path, "model 1", None)
    assert (tmp_path / "registry.json").read_text() == text


def hold(folder, held, release):
    with Registry(folder).lock("retraining"):
        held.set()
        release.wait(30)


def test_two_at_once(tmp_path):
    context = multiprocessing.get_context("fork")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, held, release))
    other.start()
    assert held.wait(30)
    store = Registry(tmp_path)
    with pytest.raises(BusyError, match=rf"retraining is under way in .* process {other.pid} on"):
        with store.lock("retraining"):
            pass
    promote(store, tmp_path, "model 1", None)  # another lock: an emergency need not wait
    other.kill()  # the lock goes with its process
    other.join()
    with store.lock("retraining"):
        pass
