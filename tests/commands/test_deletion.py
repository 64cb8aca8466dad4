"""Deletion over random stores: what is owned stays, nothing outside is touched, the living are left alone."""

import contextlib
import functools
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lt_rebalance.cli import gc
from lt_rebalance.cli.main import main
from lt_rebalance.ground.values import LARGEST_S
from lt_rebalance.search.account import SearchBudget
from lt_rebalance.search.files import make_account
from lt_rebalance.search.journal import open_journal
from lt_rebalance.search.search import Rung, Search
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.lease import DIRECTORY, Holder, Lease
from lt_rebalance.store.presence import Note
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from tests.made_up import make_up
from tests.mostly_slow import mostly_slow
from tests.places import BucketPlace, DirectoryPlace, Place
from tests.search.test_search_journal import rung
from tests.store.test_store import CELL, EXECUTION, KEY, make_failure

LEASES = ("none", "released", "dead", "stale", "unreadable", "link", "held here", "held elsewhere")
ENDS = ("complete", "pruned", "diverged", "failed", "running")


@pytest.fixture(autouse=True)
def _quick_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command watch a lease for a moment only; the sweeps of these stores renew theirs faster."""
    monkeypatch.setattr(gc, "Lease", functools.partial(Lease, beat_s=0.05, stale_s=0.6))


@pytest.fixture(scope="module")
def plans(small_protocol: Protocol, cpu_execution: Execution) -> list[Plan]:
    """Return the plans of two studies that share a generator."""
    common = {"dataset": "fashion_mnist_mini", "c": "1/2"}
    cgan = make_cell(small_protocol, method="cgan", generator="small_mlp_cgan_leaky", **common)
    plain = make_cell(small_protocol, method="none", generator=None, **common)
    studies = (
        Study(name="one", cells=(plain, cgan), seeds=(0, 1)),
        Study(name="other", cells=(cgan,), seeds=(1, 2)),
    )
    return [compile_study(study, cpu_execution) for study in studies]


def open_at(location: str) -> Store:
    store = open_store(location, RESULTS_VERSION, create=True)
    assert store is not None
    return store


def add_search(store: Store, search: Search) -> dict[str, AnyStage]:
    """Let a search run trials to all ends; its account is of before the last. Return the stages it owns."""
    with open_journal(search, store) as journal:
        journal.enqueue(search.untuned)
        for end in ENDS:
            budget = SearchBudget(trials=9)
            store.write_search(search.name, make_account(search, "?", budget, journal.trials(), {}))
            number = journal.begin()
            for round_index in search.rung_rounds[: 1 if end == "running" else None]:
                journal.note_rung(number, rung(round_index, 0.1, 0.2))
            if end != "running":
                journal.settle(number, end)
        ladders = [search.ladder(trial.values) for trial in journal.trials()]
    assert len(ladders) == len(ENDS)
    return list_stages(rung for ladder in ladders for rung in ladder)


def list_stages(rungs: Iterable[Rung]) -> dict[str, AnyStage]:
    """Return the stages of rungs, and those on which they build, by key."""
    stages: list[AnyStage] = [stage for each in rungs for group in each.groups for stage in group]
    found = [each for stage in stages for each in (stage, getattr(stage, "generator_stage", None))]
    return {stage.key: stage for stage in found if stage is not None}


class RandomStore:
    """A store with owners, orphans, leftovers, foreign files and links, and what of it is garbage."""

    def __init__(
        self, place: Place, draw: random.Random, owned: dict[str, AnyStage], outside: Path | None
    ) -> None:
        self.place, self.draw, self.owned, self.outside = place, draw, owned, outside
        self.garbage: set[str] = set()
        """all that gc may delete with orphans"""
        self.orphans: set[str] = set()
        """the part of it that gc may delete only with orphans"""
        self.is_linked: set[str] = set()
        """keys of stages that are behind a link"""

    def fill(self) -> None:
        for key in self.draw.sample(sorted(self.owned), k=min(len(self.owned), 8)):
            self.add_stage(self.owned[key])
        for _ in range(self.draw.randrange(4)):
            key = self.add_stage(self.draw_orphan())
            self.orphans.add(f"stages/{key}")
            if self.draw.random() < 0.5:
                self.place.write(f"logs/{key}.log", b"words")
                self.orphans.add(f"logs/{key}.log")
        self.add_notes()
        self.add_foreign()
        if isinstance(self.place, DirectoryPlace):
            self.add_writes(self.place.root)
            if self.outside is not None:
                self.add_links(self.place.root, self.outside)
        self.garbage |= self.orphans

    def draw_orphan(self) -> AnyStage:
        """Return a stage that nothing owns."""
        return CELL.stage(self.draw.randrange(2**31), EXECUTION)

    def add_stage(self, stage: AnyStage) -> str:
        key = stage.key
        is_finished = self.draw.random() < 0.5
        self.place.write(f"stages/{key}/errors/0000-a.json", make_failure(key).to_json())
        if is_finished:
            self.place.write(f"stages/{key}/result.json", make_up(stage).to_json())
        leftovers = ["checkpoints", "failed.json", f"weights-{'0' * 12}.safetensors"]
        for name in self.draw.sample(leftovers, k=self.draw.randrange(4)):
            path = f"stages/{key}/{name}"
            inside = f"/000001-{'0' * 64}.safetensors" if name == "checkpoints" else ""
            self.place.write(path + inside, make_failure(key).to_json())
            is_mixed = name == "checkpoints" and self.draw.random() < 0.3
            if is_mixed:
                self.place.write(f"{path}/mine", b"foreign")
            if is_finished:
                self.garbage.add(path + inside if is_mixed else path)
        if self.draw.random() < 0.3:
            self.place.write(f"stages/{key}/notes of mine.txt", b"foreign")
        return key

    def add_notes(self) -> None:
        common: dict[str, Any] = {"title": "t", "keys": (KEY,), "beat_s": self.draw.choice([0.0, LARGEST_S])}
        for name, pid in (("dead", find_ended_pid()), ("garbled", -1)):
            content = json.dumps({"name": "../../store.json", **common, "pid": pid, "host": "h"})
            if name == "dead":
                note = Note(name="dead", pid=pid, **common)
                content = json.dumps({**vars(note), "name": "../store.json"})
                self.garbage.add("running/dead")
            self.place.write(f"running/{name}", content.encode())

    def add_foreign(self) -> None:
        known = [
            *(
                "stages/.DS_Store",
                ".DS_Store",
                "searches/.DS_Store",
                "studies/._one.json",
                "running/.DS_Store",
            ),
            *("stages/backup/result.json", "lost+found/x", "stages/notes.txt", "logs/mine.log", "mine/x"),
        ]
        for path in self.draw.sample(known, k=5):
            self.place.write(path, b"foreign")
        if isinstance(self.place, BucketPlace):
            for key in ("stages/", "", f"stages//x/{'0' * 64}", "stages/../stages/x", f"stages/{'0' * 63}/"):
                self.place.write(key, b"")

    def add_writes(self, root: Path) -> None:
        for name in ("old", "fresh"):
            path = root / "tables" / f".writing-{name}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"half")
        os.utime(root / "tables" / ".writing-old", (1, 1))
        self.garbage.add("tables/.writing-old")

    def add_links(self, root: Path, outside: Path) -> None:
        """Add links from the store to files outside it that look like garbage."""
        for kind in self.draw.sample(["events", "stage", "checkpoints", "write", "loop", "orphan"], k=4):
            key = f"{self.draw.getrandbits(256):064x}"
            if kind == "events" and not (root / "events").exists():
                (root / "events").symlink_to(outside)
            elif kind == "loop" and not (root / "events").is_symlink():
                (root / "events").mkdir()
                (root / "events" / "loop").symlink_to(root / "events")
            elif kind in ("stage", "orphan"):
                key = key if kind == "orphan" else min(self.owned, default=key)
                if not (root / "stages" / key).exists():
                    (root / "stages").mkdir(exist_ok=True)
                    (root / "stages" / key).symlink_to(outside / "stage")
                    if key not in self.owned:
                        self.orphans.add(f"stages/{key}")
            elif kind == "checkpoints":
                stage = self.draw_orphan()
                key = stage.key
                self.place.write(f"stages/{key}/result.json", make_up(stage).to_json())
                (root / "stages" / key / "checkpoints").symlink_to(outside / "stage" / "checkpoints")
                self.orphans.add(f"stages/{key}")
                self.garbage.add(f"stages/{key}/checkpoints")
            elif kind == "write":
                (root / "tables" / "linked").symlink_to(outside)


def find_ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def make_outside(path: Path) -> Path:
    """Return a directory full of what would be garbage in a store."""
    (path / "stage" / "checkpoints").mkdir(parents=True)
    (path / "stage" / "checkpoints" / f"000001-{'0' * 64}.safetensors").write_bytes(b"1")
    (path / "no-such-study" / "seed-0").mkdir(parents=True)
    (path / "no-such-study" / "seed-0" / "events.out.tfevents.0").write_bytes(b"1")
    (path / ".writing-old").write_bytes(b"1")
    os.utime(path / ".writing-old", (1, 1))
    return path


def snapshot(root: Path, *, without: str = "") -> dict[str, Any]:
    """Return all that can be seen of every file, directory and link below a root."""
    found: dict[str, Any] = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            relative = path.relative_to(root).as_posix()
            if without and relative.split("/")[0] == without:  # its files come and go
                continue
            status = path.lstat()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[relative] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
    return found


@contextlib.contextmanager
def lease_of(kind: str, place: Place, store: Store) -> Iterator[None]:
    """Leave the lease of a sweep in a store, or let a sweep hold it while the block runs."""
    path = f"{DIRECTORY}/000007.json"
    stranger = {"title": "theirs", "host": "elsewhere", "pid": 42, "pid_space": "another"}
    if kind == "held here":
        with Lease(store.files, store.location, "live", beat_s=0.05):
            yield
        return
    contents: dict[str, bytes] = {
        "released": Holder(title="t", is_released=True).to_json(),
        "dead": Holder(title="t", pid=find_ended_pid()).to_json(),
        "stale": Holder(**stranger).to_json(),
        "held elsewhere": Holder(**stranger).to_json(),
        "unreadable": b'{"title": 3, "pid": "x", "is_released": "yes"}',
    }
    if kind in contents:
        place.write(path, contents[kind])
    elif kind == "link" and isinstance(place, DirectoryPlace):
        (place.root / DIRECTORY).mkdir()
        (place.root / path).symlink_to("nowhere")
    stop = threading.Event()

    def beat() -> None:
        beats = 0
        while not stop.wait(0.05):
            beats += 1
            store.files.replace(path, Holder(**stranger, beats=beats).to_json())

    thread = threading.Thread(target=beat)
    if kind == "held elsewhere":
        thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            if kind == "held elsewhere":  # a busy machine may make its heartbeats slow
                patch.setattr(gc, "Lease", functools.partial(Lease, beat_s=0.05, stale_s=60))
            yield
    finally:
        stop.set()
        if thread.ident is not None:
            thread.join()


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = main(["gc", *arguments, "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}


def paths_of(answer: dict[str, Any]) -> set[str]:
    return {each["path"] for each in answer["garbage"]}


def without_inner(paths: set[str]) -> set[str]:
    return {path for path in paths if not any(path.startswith(f"{other}/") for other in paths)}


@pytest.fixture(scope="module")
def searches(
    small_search: Search, small_cgan_search: Search, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[dict[str, bytes], dict[str, AnyStage]]]:
    """Return two searches: the files of each, and the stages that it owns."""
    found = []
    for search in (small_search, small_cgan_search):
        place = DirectoryPlace(tmp_path_factory.mktemp(search.name) / "store")
        owned = add_search(open_at(place.location), search)
        files = {path: content for path, content in place.read_all().items() if path.startswith("searches/")}
        found.append((files, owned))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seed", mostly_slow(range(24), 6))
def test_gc_of_a_random_directory_deletes_garbage_and_nothing_else(
    seed: int,
    plans: list[Plan],
    searches: list[tuple[dict[str, bytes], dict[str, AnyStage]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    draw = random.Random(seed)
    outside = make_outside(tmp_path / "outside")
    real, linked = tmp_path / "real", tmp_path / "store"
    real.mkdir()
    linked.symlink_to(real)
    place = DirectoryPlace(draw.choice([real, linked]))
    store = open_at(place.location)
    owned: dict[str, AnyStage] = {}
    for plan in draw.sample(plans, k=draw.randrange(3)):
        store.write_study(describe_plan(plan))
        owned |= plan.stages
    for files, stages in draw.sample(searches, k=draw.randrange(3)):
        for path, content in files.items():
            torn = b'{"op_code": 4, "work' if path.endswith("journal.jsonl") and seed % 2 else b""
            place.write(path, content + torn)
        owned |= stages
    made = RandomStore(place, draw, owned, outside)
    made.fill()
    orphans = draw.random() < 0.7
    expected = without_inner(made.garbage if orphans else made.garbage - made.orphans)
    kind = LEASES[seed % len(LEASES)]
    options = [place.location, *(["--orphans"] if orphans else [])]
    with lease_of(kind, place, store):
        before, before_outside = snapshot(real, without=DIRECTORY), snapshot(outside)
        code, answer = ask(capsys, *options, "--dry-run")
        assert code == 0 and paths_of(answer) == expected
        assert snapshot(real, without=DIRECTORY) == before
        code, answer = ask(capsys, *options)
        assert snapshot(outside) == before_outside
        if kind.startswith("held"):
            assert code == 2 and snapshot(real, without=DIRECTORY) == before
            return
    assert code == (1 if answer["left"] else 0) and paths_of(answer) == expected
    after = snapshot(real, without=DIRECTORY)
    gone = {path for path in before if any(path == each or path.startswith(f"{each}/") for each in expected)}
    assert set(before) - set(after) == gone and set(after) <= set(before)
    for path in set(after) & {path for path, seen in before.items() if seen[3]}:
        assert after[path] == before[path]
    assert paths_of(ask(capsys, *options)[1]) == set()


@pytest.mark.usefixtures("s3")
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_gc_of_a_random_bucket_deletes_garbage_and_nothing_else(
    seed: int,
    plans: list[Plan],
    small_cgan_search: Search,
    capsys: pytest.CaptureFixture[str],
) -> None:
    draw = random.Random(seed)
    place = BucketPlace("störe")
    store = open_at(place.location)
    place.client.put_object(Bucket=place.bucket, Key="störe.json", Body=b"beside it")
    store.write_study(describe_plan(plans[0]))
    owned = plans[0].stages | add_search(store, small_cgan_search)
    made = RandomStore(place, draw, owned, None)
    made.fill()
    kind = ("stale", "held elsewhere", "unreadable")[seed]

    def see() -> dict[str, bytes]:
        return {path: each for path, each in place.read_all().items() if not path.startswith(DIRECTORY)}

    with lease_of(kind, place, store):
        before = see()
        code, answer = ask(capsys, place.location, "--orphans", "--dry-run")
        assert code == 0 and paths_of(answer) == without_inner(made.garbage) and see() == before
        code, answer = ask(capsys, place.location, "--orphans")
        if kind.startswith("held"):
            assert code == 2 and see() == before
            return
    assert code == 0 and paths_of(answer) == without_inner(made.garbage)
    gone = {path for path in before for each in made.garbage if f"{path}/".startswith(f"{each}/")}
    assert see() == {path: content for path, content in before.items() if path not in gone}
    assert paths_of(ask(capsys, place.location, "--orphans")[1]) == set()
