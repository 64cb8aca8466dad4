"""Foreign files are ignored, names follow one rule, and every loop ends even if the quarantine fails."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lt_rebalance.cli.main import main
from lt_rebalance.ground.names import MAX_NAME_BYTES, check_name, is_foreign
from lt_rebalance.search.journal import open_journal
from lt_rebalance.search.search import Search
from lt_rebalance.stages.kinds import open_run
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.store.checkpoints import Checkpoint
from lt_rebalance.store.lease import Lease
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage
from lt_rebalance.training.configs import Execution
from tests.made_up import make_search, make_study, make_up
from tests.tiny import TINY

FOREIGN = [".DS_Store", "lost+found", "Thumbs.db", "._x", ".nfs0001", "x.json~", ".x.json.swp", "desktop.ini"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert opened is not None
    return opened


@pytest.fixture
def stage(small_protocol: Protocol, cpu_execution: Execution) -> ClassifierStage:
    cell = make_cell(small_protocol, dataset=TINY, c="1/2", method="undersample", generator=None)
    return cell.stage(0, cpu_execution)


# Names


@pytest.mark.parametrize(
    "name",
    [
        *("mine~", "lost+found", "Thumbs.db", "desktop.ini"),
        "",
        ".",
        "..",
        ".x",
        "a/b",
        "../x",
        "a\\b",
        "a\0b",
        "a\nb",
        "\x1b[31m",
        "a\u202eb",
        "x" * 201,
        5,
        None,
    ],
)
def test_name_that_could_lead_elsewhere_or_be_shown_otherwise_is_refused(name: object) -> None:
    with pytest.raises(ValueError, match="a study's name must be a plain file name"):
        check_name("a study's name", name)


@pytest.mark.parametrize("name", ["full grid", "röot", "a.b", "x" * MAX_NAME_BYTES, "C=7-9"])
def test_plain_name_is_taken(name: str) -> None:
    assert check_name("a name", name) == name


@pytest.mark.parametrize("inside", ["../../../../p/README", "other", "", 5])
def test_name_inside_a_document_is_that_of_its_file(inside: object, store: Store) -> None:
    values = make_study("study").to_plain() | {"study": inside}
    store.files.replace("studies/study.json", json.dumps(values).encode())
    with pytest.raises(StoreError, match=r"studies/study\.json is damaged: study must be"):
        store.load_study("study")
    account = make_search("search")
    account["search"]["name"] = inside
    store.write_search("search", account)
    with pytest.raises(StoreError, match=r"searches/search/account\.json is damaged: search\.name must be"):
        store.load_search("search")


def test_confirmation_that_leads_elsewhere_is_refused(store: Store) -> None:
    store.write_search("search", make_search("search", confirmation="../x"))
    with pytest.raises(StoreError, match=r"account\.json is damaged: confirmation must be"):
        store.load_search("search")


# Foreign files


@pytest.mark.parametrize("name", FOREIGN)
def test_directory_that_holds_only_a_foreign_file_becomes_a_store(name: str, tmp_path: Path) -> None:
    assert is_foreign(name)
    (tmp_path / name).write_bytes(b"")
    assert open_store(str(tmp_path), RESULTS_VERSION, create=True) is not None


def test_directory_that_holds_anything_else_does_not(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_bytes(b"")
    with pytest.raises(StoreError, match=r"not a store \(it holds 'thesis\.tex'\)"):
        open_store(str(tmp_path), RESULTS_VERSION, create=True)


def test_foreign_files_anywhere_change_nothing_that_commands_show(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    study = make_study("study")
    store.write_study(study)
    store.write_search("search", make_search("search"))
    key = study.runs[0].key
    store.save_checkpoint(key, Checkpoint(round=1, content=b"x"))

    def show() -> str:
        for command in (["status"], ["plan"], ["gc", "--dry-run"]):
            assert main([command[0], store.location, *command[1:]]) == 0
        found = [store.list_keys(), store.list_studies(), store.list_searches(), store.count_errors(key)]
        return f"{capsys.readouterr().out} {found} {store.load_checkpoint(key)} {store.list_quarantine()}"

    before = show()
    root = Path(store.location)
    for directory in ("stages", "studies", "searches", "running", "lease", "events", "logs", "quarantine"):
        (root / directory).mkdir(exist_ok=True)
        for name in FOREIGN:
            (root / directory / name).write_bytes(b"foreign")
        (root / directory / ".Trashes").mkdir()
    (root / "stages" / "not a key").mkdir()
    for directory in ("checkpoints", "errors"):
        (root / "stages" / key / directory).mkdir(exist_ok=True)
        for name in (*FOREIGN, "zzz", "999999-x.safetensors"):
            (root / "stages" / key / directory / name).write_bytes(b"foreign")
    assert show() == before
    store.save_checkpoint(key, Checkpoint(round=2, content=b"y"))
    store.save_checkpoint(key, Checkpoint(round=3, content=b"z"))
    assert store.load_checkpoint(key) == Checkpoint(round=3, content=b"z")


# Loops


def leave_where_it_is(self: Store, damage: object) -> None:
    """Stand for a quarantine that does nothing."""


def make_directory(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def make_circle(path: Path) -> None:
    path.symlink_to(path)


def make_garbage(path: Path) -> None:
    path.write_bytes(b"garbage")


IN_THE_WAY = [make_directory, make_link, make_circle, make_garbage, os.mkfifo]


@pytest.mark.parametrize("put", IN_THE_WAY)
def test_commit_sets_aside_what_is_in_its_way_or_says_what_is(
    put: Callable[[Path], None], store: Store, stage: ClassifierStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(store.location) / "stages" / stage.key / "result.json"
    path.parent.mkdir(parents=True)
    put(path)
    with monkeypatch.context() as context:
        context.setattr(Store, "_quarantine", leave_where_it_is)
        with pytest.raises(StoreError, match=rf"stages/{stage.key}/result\.json cannot be written"):
            store.commit(make_up(stage))
    assert store.load_record(stage.key) is None
    assert len(store.list_quarantine()) == 1
    assert store.commit(make_up(stage))
    assert store.read_record(stage.key) == make_up(stage)


def test_place_of_a_stage_that_is_taken_is_named(store: Store, stage: ClassifierStage) -> None:
    (Path(store.location) / "stages").mkdir()
    (Path(store.location) / "stages" / stage.key).symlink_to("nowhere")
    with pytest.raises(StoreError, match=f"stages/{stage.key}/.* cannot be written"):
        store.commit(make_up(stage))
    with pytest.raises(StoreError, match=f"stages/{stage.key}/.* cannot be written"):
        store.save_checkpoint(stage.key, Checkpoint(round=1, content=b"x"))


def test_useless_checkpoints_are_tried_once_each_though_none_can_be_set_aside(
    store: Store, stage: ClassifierStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "_quarantine", leave_where_it_is)
    for round_ in (1, 2):
        store.save_checkpoint(stage.key, Checkpoint(round=round_, content=b"no safetensors"))
    run = open_run([stage], store, None)
    assert [lane.round for lane in run.lanes] == [0]


@pytest.mark.slow
@pytest.mark.parametrize("put", [make_directory, make_link, make_circle])
def test_lease_that_cannot_be_read_counts_as_stale_in_the_end(
    put: Callable[[Path], None], store: Store
) -> None:
    (Path(store.location) / "lease").mkdir()
    put(Path(store.location) / "lease" / "000007.json")
    with Lease(store.files, store.location, "test", stale_s=0.5):
        assert "000008.json" in store.files.list("lease")


# Journals


def test_torn_line_inside_a_journal_is_named_and_at_its_end_tolerated(
    store: Store, small_search: Search
) -> None:
    def open_again() -> None:
        with open_journal(small_search, store):
            pass

    with open_journal(small_search, store) as journal:
        journal.begin()
    path = Path(store.location) / "searches" / small_search.name / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "wor')
    with open_journal(small_search, store) as journal:
        assert len(journal.trials()) == 1
    first, *rest = whole.splitlines(keepends=True)
    for torn, line in ((b'{"op_code": 4, "wor\n', 2), (b"[]\n", 2), (b"\xff\n", 2)):
        path.write_bytes(first + torn + b"".join(rest))
        with pytest.raises(
            StoreError, match=rf"journal\.jsonl, line {line}: not an operation .* run the search"
        ):
            open_again()
    path.write_bytes(whole + b'{"op_code": 99}\n{"op_code": 5, "trial_id": 77}\n')
    with pytest.raises(StoreError, match=r"journal\.jsonl is not the journal of a search"):
        open_again()
