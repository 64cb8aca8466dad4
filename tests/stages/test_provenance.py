"""Checks that a result names the code that made it, and says "unknown" rather than something else."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lt_rebalance.cluster.rungs import RungTrainable, rung_trial_config
from lt_rebalance.cluster.trainable import trial_config
from lt_rebalance.search.search import Search
from lt_rebalance.stages import provenance
from lt_rebalance.stages.machine import describe_machine
from lt_rebalance.stages.provenance import (
    COMMIT_VARIABLE,
    driver_source,
    find_mismatch,
    hash_source,
    own_source,
    package_version,
    source_of_result,
)
from lt_rebalance.store import open_store
from lt_rebalance.store.records import Record
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage
from lt_rebalance.trainables.trainables import CNNTrainable

COMMIT = "c0ffee" * 6 + "c0de"
UNKNOWN = {"commit": None, "is_dirty": None}
IDENTITY = {
    f"GIT_{role}_{what}": "someone@example.org"
    for role in ("AUTHOR", "COMMITTER")
    for what in ("NAME", "EMAIL")
}


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)


def git(root: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(root), **IDENTITY}
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def make_package(root: Path) -> Path:
    """Return a small package of our name below a directory."""
    package = root / "lt_rebalance"
    (package / "data").mkdir(parents=True)
    for name in ("__init__.py", "stages.py", "data/__init__.py"):
        (package / name).write_text(f"# {name}\n")
    (package / "data" / "images.bin").write_bytes(b"\0")
    return package


def make_repository(root: Path, *, tracks: str = ".") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "README.md").write_text("a project\n")
    (root / ".gitignore").write_text(".venv/\nresults/\nscratch.py\n")
    git(root, "init", "--quiet")
    git(root, "add", "README.md", ".gitignore", tracks)
    git(root, "commit", "--quiet", "-m", "all")
    return root


def source_of(package: Path) -> dict[str, object]:
    own_source.cache_clear()
    source = own_source(package)
    assert source["source_sha256"] == hash_source(package)
    return {name: source[name] for name in ("commit", "is_dirty")}


def test_checkout_names_its_commit_and_only_changes_that_matter_are_changes(tmp_path: Path) -> None:
    package = make_package(tmp_path / "project")
    root = make_repository(tmp_path / "project")
    clean = {"commit": git(root, "rev-parse", "HEAD"), "is_dirty": False}
    assert source_of(package) == clean
    (root / "results").mkdir()
    (root / "results" / "x.py").write_text("")
    (root / "notes.txt").write_text("mine")
    (root / "sweep_of_mine.py").write_text("")
    (package / "data" / "cache.bin").write_bytes(b"")
    (root / "README.md").write_text("no code\n")
    assert source_of(package) == clean
    (root / "README.md").write_text("a project\n")
    for name, content in {"stages.py": "changed\n", "new.py": "", "scratch.py": "ignored by git\n"}.items():
        before = (package / name).read_bytes() if (package / name).exists() else None
        (package / name).write_text(content)
        assert source_of(package) == clean | {"is_dirty": True}, name
        (package / name).unlink()
        if before is not None:
            (package / name).write_bytes(before)
    git(root, "update-index", "--refresh")
    assert source_of(package) == clean


@pytest.mark.parametrize("flag", ["assume-unchanged", "skip-worktree"])
def test_files_that_git_was_told_to_pass_over_are_not_said_to_be_unchanged(tmp_path: Path, flag: str) -> None:
    package = make_package(tmp_path / "project")
    root = make_repository(tmp_path / "project")
    git(root, "update-index", f"--{flag}", "README.md")  # no code
    assert source_of(package)["is_dirty"] is False
    git(root, "update-index", f"--{flag}", "lt_rebalance/stages.py")
    (package / "stages.py").write_text("changed\n")
    assert source_of(package) == {"commit": git(root, "rev-parse", "HEAD"), "is_dirty": None}
    (package / "new.py").touch()
    assert source_of(package)["is_dirty"] is True


def test_reading_writes_nothing_into_the_repository(tmp_path: Path) -> None:
    package = make_package(tmp_path / "project")
    root = make_repository(tmp_path / "project")
    os.utime(package / "stages.py", (1, 1))  # git would refresh its index
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert source_of(package)["is_dirty"] is False
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_installed_copy_does_not_name_the_repository_around_it(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "other")
    for place in (".venv/lib/python3.11/site-packages", "untracked"):
        package = make_package(root / place)
        assert source_of(package) == UNKNOWN
        assert hash_source(package) is not None


def test_copy_that_another_repository_tracks_is_told_by_its_commit(tmp_path: Path) -> None:
    package = make_package(tmp_path / "other" / "vendored")
    root = make_repository(tmp_path / "other")
    assert source_of(package) == {"commit": git(root, "rev-parse", "HEAD"), "is_dirty": False}


def test_repository_without_a_commit_and_directory_without_one_are_unknown(tmp_path: Path) -> None:
    package = make_package(tmp_path / "project")
    assert source_of(package) == UNKNOWN
    git(tmp_path / "project", "init", "--quiet")
    git(tmp_path / "project", "add", ".")
    assert source_of(package) == UNKNOWN


def test_variables_of_git_do_not_answer_for_another_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_package(tmp_path / "other")
    other = make_repository(tmp_path / "other")
    alone, tracked = make_package(tmp_path / "alone"), make_package(tmp_path / "project")
    root = make_repository(tmp_path / "project")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert source_of(alone) == UNKNOWN
    assert source_of(tracked) == {"commit": git(root, "rev-parse", "HEAD"), "is_dirty": False}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_repository_of_another_owner_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = make_package(tmp_path / "project")
    root = make_repository(tmp_path / "project")
    for path in (root, *root.rglob("*")):
        os.chown(path, 54321, 54321)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert source_of(package) == UNKNOWN


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = make_package(tmp_path / "project")
    make_repository(tmp_path / "project")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert source_of(package) == UNKNOWN


def test_hash_is_of_names_and_contents_of_python_files(tmp_path: Path) -> None:
    first, second = make_package(tmp_path / "first"), make_package(tmp_path / "second")
    assert hash_source(first) == hash_source(second)
    (second / "data" / "images.bin").write_bytes(b"other")
    (second / "__pycache__").mkdir()
    (second / "__pycache__" / "stages.cpython-311.pyc").write_bytes(b"compiled")
    assert hash_source(first) == hash_source(second)
    (second / "stages.py").rename(second / "steps.py")
    assert hash_source(first) != hash_source(second)
    (second / "steps.py").rename(second / "stages.py")
    (second / "stages.py").write_text("# other\n")
    assert hash_source(first) != hash_source(second)
    assert hash_source(tmp_path / "nothing") is None


def test_version_is_that_of_the_files_that_run(tmp_path: Path) -> None:
    assert package_version() == "0.1.0"
    package = make_package(tmp_path / "project")
    assert package_version(package) is None  # and not that of the copy that is installed
    metadata = tmp_path / "project" / "lt_rebalance-7.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lt_rebalance\nVersion: 7\n")
    assert package_version(package) == "7"
    (tmp_path / "project" / "pyproject.toml").write_text('[project]\nname = "lt_rebalance"\nversion = "8"\n')
    assert package_version(package) == "8"
    (tmp_path / "project" / "pyproject.toml").write_text("not toml")
    assert package_version(package) == "7"


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the process run a package that came without its repository."""
    package = make_package(tmp_path / "sent")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    own_source.cache_clear()
    return package


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, UNKNOWN),
        ("", UNKNOWN),
        (COMMIT, {"commit": COMMIT, "is_dirty": False}),
        (f"{COMMIT}-dirty", {"commit": COMMIT, "is_dirty": True}),
    ],
)
@pytest.mark.usefixtures("sent")
def test_who_sends_code_without_its_repository_may_name_its_commit(
    value: str | None, expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is not None:
        monkeypatch.setenv(COMMIT_VARIABLE, value)
    source = driver_source()
    assert {name: source[name] for name in expected} == expected
    assert json.loads(json.dumps(source)) == source


@pytest.mark.parametrize(
    "value", ["main", "c0ffee", f"{COMMIT}+", f"{COMMIT.upper()}", "unknown", f" {COMMIT}"]
)
@pytest.mark.usefixtures("sent")
def test_variable_that_holds_no_commit_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMIT_VARIABLE, value)
    with pytest.raises(ValueError, match=f"{COMMIT_VARIABLE} must be a whole commit.*git describe"):
        driver_source()


def test_variable_says_nothing_where_git_can_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = make_package(tmp_path / "project")
    root = make_repository(tmp_path / "project")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    monkeypatch.setenv(COMMIT_VARIABLE, f"{COMMIT}-dirty")
    source = driver_source()
    assert (source["commit"], source["is_dirty"]) == (git(root, "rev-parse", "HEAD"), False)


def test_commit_of_the_driver_is_that_of_a_worker_with_the_same_files_alone(sent: Path) -> None:
    source = hash_source(sent)
    driver = {"commit": COMMIT, "is_dirty": True, "source_sha256": source, "host": "head", "directory": "/x"}
    assert source_of_result(driver) == {"commit": COMMIT, "is_dirty": True, "source_sha256": source}
    assert find_mismatch(driver) is None
    other = driver | {"source_sha256": "0" * 64}
    assert source_of_result(other) == UNKNOWN | {"source_sha256": source}
    assert source_of_result(None) == UNKNOWN | {"source_sha256": source}
    assert str(find_mismatch(other)).startswith("this worker, on ")
    # The main process's own files, changed while it runs.
    here = driver_source() | {"source_sha256": "0" * 64, "commit": COMMIT}
    assert find_mismatch(here) is None
    assert source_of_result(here)["commit"] is None


def make_step_of(trainable: CNNTrainable | RungTrainable) -> dict[str, object]:
    while not (result := trainable.step())["done"]:
        pass
    return dict(result)


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[[], str]:
    def make() -> str:
        store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
        assert store is not None
        return store.location

    return make


def read_records(location: str) -> list[Record]:
    store = open_store(location, RESULTS_VERSION, create=False)
    assert store is not None
    records = [store.load_record(key) for key in store.list_keys()]
    assert records
    return [record for record in records if record is not None]


def test_code_of_the_driver_travels_with_the_trial(
    classifier_stage: ClassifierStage, make_store: Callable[[], str]
) -> None:
    driver = driver_source() | {"commit": COMMIT, "is_dirty": True}
    location = make_store()
    make_step_of(CNNTrainable(trial_config([classifier_stage], location, None, driver=driver)))
    (record,) = read_records(location)
    assert record.provenance["commit"] == COMMIT and record.provenance["is_dirty"] is True
    assert record.provenance["source_sha256"] == driver["source_sha256"]
    assert "source_sha256" not in json.dumps(record.deterministic())


def test_code_of_the_driver_travels_with_the_trial_of_a_search(
    small_search: Search, make_store: Callable[[], str]
) -> None:
    location = make_store()
    config = rung_trial_config(small_search.ladder(small_search.untuned), ["macro_f1"], location, None)
    config["driver"] |= {"commit": COMMIT, "is_dirty": False}
    make_step_of(RungTrainable(config))
    assert {record.provenance["commit"] for record in read_records(location)} == {COMMIT}


def test_worker_with_other_code_than_its_driver_trains_nothing_and_says_so(
    classifier_stage: ClassifierStage, make_store: Callable[[], str]
) -> None:
    driver = driver_source() | {"source_sha256": "0" * 64, "host": "head"}
    result = make_step_of(CNNTrainable(trial_config([classifier_stage], make_store(), None, driver=driver)))
    assert result["outcome"] == "blocked"
    assert "runs other code than the main process" in str(result["reason"])
    assert "put the same code on every node" in str(result["reason"])


def test_what_is_not_known_of_a_machine_is_null(
    classifier_stage: ClassifierStage, sent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lt_rebalance.stages.machine.DESCRIBED_PACKAGES", ("no_such_package",))
    made = describe_machine(classifier_stage.execution)
    assert made["commit"] is None and made["is_dirty"] is None
    assert made["versions"]["no_such_package"] is None
    assert made["source_sha256"] == hash_source(sent)


def test_own_package_is_found_where_it_lies() -> None:
    assert (provenance.PACKAGE / "stages" / "base.py").exists()
    assert shutil.which("git") is None or driver_source()["source_sha256"] == hash_source(provenance.PACKAGE)
