"""Who owns a stage: studies and searches that can be read; and nobody deletes beside the living."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lt_rebalance.store.store
from lt_rebalance.cli.main import main
from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.ground.errors import LeaseLostError
from lt_rebalance.ground.values import LARGEST_S
from lt_rebalance.search.account import SearchBudget
from lt_rebalance.search.files import make_account
from lt_rebalance.search.journal import open_journal
from lt_rebalance.search.owners import OWNERS, list_owned
from lt_rebalance.search.search import Search
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.lease import Holder, Lease, find_holder
from lt_rebalance.studies.stage import RESULTS_VERSION
from tests.commands.test_deletion import add_search, list_stages, paths_of, snapshot
from tests.made_up import make_up
from tests.places import DirectoryPlace, Place
from tests.search.test_search_journal import rung
from tests.store.test_store import CELL, EXECUTION, KEY, make_checkpoint, make_record

ROOT = Path(__file__).parents[2]
ORPHAN = KEY
HOLD = """
import sys, time
from pathlib import Path
from lt_rebalance.files.filesystem import LocalFilesystem
from lt_rebalance.store.lease import Lease
with Lease(LocalFilesystem(Path(sys.argv[1])), "the store", "small", beat_s=0.1):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def store(place: Place) -> Store:
    opened = open_store(place.location, RESULTS_VERSION, create=True)
    assert opened is not None
    return opened


@pytest.fixture
def directory(tmp_path: Path) -> Store:
    opened = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert opened is not None
    return opened


def begin_and_stop(store: Store, search: Search) -> dict[str, list[str]]:
    """Leave a search as SIGTERM does in its first trial: a rung is finished, the account is of the start.

    Return the keys of the stages that it trained, and those of the rest of the trial.
    """
    budget = SearchBudget(trials=2)
    store.write_search(search.name, make_account(search, "?", budget, [], {}))
    with open_journal(search, store) as journal:
        journal.enqueue(search.untuned)
        number = journal.begin()
        journal.note_rung(number, rung(search.rung_rounds[0], 0.1, 0.2))
        first, *later = search.ladder(journal.trials()[number].values)
    finished, to_come = list_stages([first]), list_stages(later)
    for stage in finished.values():
        store.commit(make_up(stage))
    store.save_checkpoint(next(iter(to_come)), make_checkpoint(1))
    return {"finished": [*finished], "to come": [*to_come]}


@pytest.mark.slow
def test_rungs_of_a_search_that_was_stopped_are_its_own_and_stay(
    small_search: Search, small_cgan_search: Search, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    keys: dict[str, str] = {}
    finished: list[str] = []
    for search in (small_search, small_cgan_search):
        kept = begin_and_stop(store, search)
        finished += kept["finished"]
        keys |= dict.fromkeys([*kept["finished"], *kept["to come"]], f"search {search.name}")
    store.commit(make_record(ORPHAN))
    assert list_owned(store) == keys
    before = {key for key in store.list_keys() if key in keys}
    assert main(["gc", store.location, "--orphans", "--json"]) == 0
    assert paths_of(json.loads(capsys.readouterr().out)) == {f"stages/{ORPHAN}"}
    assert set(store.list_keys()) == before >= set(finished)


@pytest.mark.slow
def test_trials_in_flight_and_at_every_end_own_all_their_rungs(small_search: Search, store: Store) -> None:
    assert set(list_owned(store)) == set()
    assert set(list_owned(store) | dict.fromkeys(add_search(store, small_search))) == set(list_owned(store))


def test_generators_on_which_the_trials_of_a_search_build_are_its_own(
    small_search: Search, small_cgan_search: Search, directory: Store
) -> None:
    search = dataclasses.replace(
        small_search,
        base=dataclasses.replace(small_cgan_search.base, classifier=small_search.base.classifier),
    )
    kept = begin_and_stop(directory, search)
    generators = {stage.generator_stage for stage in search.ladder(search.untuned)[0].groups[0]}
    keys = {generator.key for generator in generators if generator is not None}
    assert len(keys) == 2 and keys <= set(kept["finished"]) and keys <= set(list_owned(directory))


def test_every_directory_of_a_store_is_known_to_own_stages_or_not() -> None:
    layout = re.findall(r"^    ([a-z]+)/", lt_rebalance.store.store.__doc__ or "", flags=re.MULTILINE)
    own_nothing = {
        *("events", "images", "lease", "logs", "quarantine"),
        *("running", "segments", "sessions", "stages", "tables"),
    }
    assert set(layout) == {*OWNERS, *own_nothing} and not own_nothing & set(OWNERS)


def spoil_version(account: dict[str, Any]) -> None:
    account["results_version"] -= 1


def spoil_field(account: dict[str, Any]) -> None:
    account["search"]["base"]["classifier"]["momentum"] = 1


def spoil_rungs(account: dict[str, Any]) -> None:
    account["rung_rounds"] = [1]


def spoil_trials(account: dict[str, Any]) -> None:
    account["trials"] = 3


@pytest.mark.parametrize("spoil", [spoil_version, spoil_field, spoil_rungs, spoil_trials])
def test_search_of_which_this_code_cannot_tell_the_stages_keeps_all_orphans(
    spoil: Any, small_search: Search, directory: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_and_stop(directory, small_search)
    account = directory.load_search("small")
    spoil(account)
    directory.write_search("small", account)
    refuses_orphans(directory, "searches/small/account.json", capsys)


@pytest.mark.parametrize(
    ("path", "content", "named"),
    [
        ("searches/small/account.json", b"{", "searches/small/account.json"),
        ("searches/small/account.json", None, "searches/small"),
        ("searches/small/journal.jsonl", b'{"op_code":\n{}\n', "searches/small/journal.jsonl"),
        ("searches/small/journal.jsonl", b'{"op_code": 5}\n', "searches/small/journal.jsonl"),
        ("searches/small/journal/00000000.json", b"[]", "searches/small/journal.jsonl"),
        ("studies/other.json", b"{}", "studies/other.json"),
        ("studies/other.json", b'{"study": "other"', "studies/other.json"),
        ("studies/other.json/file", b"", "studies/other.json"),
    ],
)
def test_owner_that_cannot_be_read_keeps_all_orphans(
    path: str,
    content: bytes | None,
    named: str,
    small_search: Search,
    directory: Store,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begin_and_stop(directory, small_search)
    if content is None:
        directory.files.remove(path)
    else:
        directory.files.replace(path, content)
    refuses_orphans(directory, named, capsys)


def test_owner_that_is_a_link_to_nowhere_keeps_all_orphans(
    directory: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(directory.location) / "studies").mkdir()
    (Path(directory.location) / "studies" / "gone.json").symlink_to("nowhere")
    refuses_orphans(directory, "studies/gone.json", capsys)


def refuses_orphans(store: Store, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Check that orphans are refused with a file, and that all stays, also what is one."""
    store.commit(make_record(ORPHAN))
    before = snapshot(Path(store.location), without="lease")
    for option in ([], ["--dry-run"]):
        assert main(["gc", store.location, "--orphans", *option]) == 2
        assert named in capsys.readouterr().err
    assert snapshot(Path(store.location), without="lease") == before
    assert find_holder(store.files) is None


# Beside the living


@pytest.fixture
def stranger(directory: Store) -> Iterator[None]:
    """Let a search hold the lease in a space of processes of its own, as in a container."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no space of processes can be made here: that takes root")
    command += [sys.executable, "-c", HOLD, directory.location]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield
        process.communicate("")


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("options", [[], ["--orphans"]])
def test_gc_beside_a_search_in_another_space_of_processes_deletes_nothing(
    options: list[str], small_search: Search, directory: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = find_holder(directory.files)
    assert holder is not None and not holder.is_visible
    finished = begin_and_stop(directory, small_search)["finished"]
    directory.save_checkpoint(finished[0], make_checkpoint(1))
    directory.commit(make_record(ORPHAN))
    before = snapshot(Path(directory.location), without="lease")
    assert main(["gc", directory.location, *options]) == 2
    refusal = capsys.readouterr().err
    assert "is in use: small, process 1 on" in refusal and refusal.endswith(
        "; wait for its end, or name another store\n"
    )
    assert main(["gc", "--dry-run", directory.location]) == 0
    assert "; gc would be refused while it is at work" in capsys.readouterr().err
    assert snapshot(Path(directory.location), without="lease") == before


def test_gc_whose_lease_is_taken_over_stops_before_the_next_deletion(
    directory: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = sorted((CELL.stage(seed, EXECUTION) for seed in range(4)), key=lambda stage: stage.key)
    keys = [stage.key for stage in stages]
    for stage in stages:
        directory.commit(make_up(stage))
    remove_tree = LocalFilesystem.remove_tree

    def remove_and_lose(files: LocalFilesystem, path: str) -> None:
        remove_tree(files, path)
        if path.endswith(keys[1]):
            files.create("lease/000002.json", Holder(title="next", host="elsewhere").to_json())

    monkeypatch.setattr(LocalFilesystem, "remove_tree", remove_and_lose)
    assert main(["gc", directory.location, "--orphans"]) == 1
    assert "was taken over by another process" in capsys.readouterr().err
    assert directory.list_keys() == keys[2:]


def test_lease_is_confirmed_only_as_long_as_it_is_the_newest(directory: Store) -> None:
    with Lease(directory.files, directory.location, "gc") as lease:
        lease.confirm()
        directory.files.remove("lease/000001.json")
        with pytest.raises(LeaseLostError):
            lease.confirm()


@pytest.mark.parametrize("name", ["1.json", "0000001.json", "٠٠٠٠٠١.json", "000000.json", "x.json"])
def test_lease_under_a_name_that_no_driver_gives_is_none(name: str, tmp_path: Path) -> None:
    DirectoryPlace(tmp_path).write(f"lease/{name}", b"{}")
    files = LocalFilesystem(tmp_path)
    assert find_holder(files) is None
    with Lease(files, "the store", "gc"):
        assert "000001.json" in files.list("lease")


class ListedAndNotThere(LocalFilesystem):
    """A directory that lists what it does not have, as a network may for long."""

    num_reads = 0

    def read(self, path: str) -> bytes:
        self.num_reads += 1
        assert self.num_reads < 10, "it is asked again and again"
        raise FileNotFoundError(path)


def test_lease_that_is_listed_and_not_there_is_not_waited_for_in_a_loop(tmp_path: Path) -> None:
    DirectoryPlace(tmp_path).write("lease/000001.json", b"{}")
    holder = find_holder(ListedAndNotThere(tmp_path))
    assert holder is not None and "cannot be read" in holder.title


def test_note_is_deleted_under_the_name_of_its_file(
    directory: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    note = {
        "name": "../store.json",
        "title": "t",
        "keys": [KEY],
        "host": "elsewhere",
        "pid": 1,
        "pid_space": "another",
    }
    directory.files.replace("running/lost.json", json.dumps({**note, "beat_s": LARGEST_S}).encode())
    assert main(["gc", directory.location, "--json"]) == 0
    assert paths_of(json.loads(capsys.readouterr().out)) == {"running/lost.json"}
    assert directory.files.list("running") == [] and directory.files.read("store.json")


def test_owners_are_read_without_a_change(small_search: Search, directory: Store) -> None:
    begin_and_stop(directory, small_search)
    before = snapshot(Path(directory.location))
    opened = open_store(directory.location, None, create=False, is_read_only=True)
    assert opened is not None and list_owned(opened) == list_owned(directory) != {}
    assert snapshot(Path(directory.location)) == before
