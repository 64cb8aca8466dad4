"""Every document of a store, damaged in every way, before every command: success or words, never a traceback.

Nothing is written outside of the store and of what `--out` names, and nothing reaches a terminal raw.
"""

import contextlib
import io
import json
import os
import random
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.__main__ import main as analyse
from analysis.collect import read_results
from analysis.searches import read_searches
from lt_rebalance.cli.main import main
from lt_rebalance.commands import verification
from lt_rebalance.ground.text import make_console
from lt_rebalance.stages.progress import render_cells
from lt_rebalance.store.checkpoints import Checkpoint
from lt_rebalance.store.place import open_store
from lt_rebalance.store.presence import Note, write_note
from lt_rebalance.store.records import Failure, Record
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.tables import cells_frame, runs_frame
from tests.analysis.synthetic import Truth, make_store, plan_study
from tests.made_up import forge, make_search

PLAN = plan_study(
    cs=["1/2"], methods=["none", "oversample", "cgan"], generators=["mlp_cgan_relu"], num_seeds=1
)
GENERATOR, FAILED = next(iter(PLAN.stages)), PLAN.runs[-1].key
COMPLETE = PLAN.runs[0].key
HOSTILE: list[Any] = [
    *(None, True, False, -1, 0, 0.5, 3, 1e308, -1e308, 10**30, 2**63),
    *("", "x", "../../../../p/README", "/etc/passwd", ".hidden", "a\0b", "x" * 300),
    *(
        "\x1b[31mred\x1b]0;title\x07",
        "x\nplanned=9 complete=9",
        "\u202egnp.exe",
        "[red]x[/red]",
        "=1+1",
        "@x",
    ),
    *([], {}, [[]], [1], ["x"], {"x": 1}, {"file": "../x"}, [None] * 10),
]
TEXTS: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-1],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "garbage": lambda content: b"\xff\x00\x1b[31m" * 9,
    "nested": lambda content: b"[" * 100_000 + b"]" * 100_000,
    "nested less": lambda content: b'{"a":' * 400 + b"1" + b"}" * 400,
    "a list": lambda content: b"[1, 2]",
    "a number": lambda content: b"1e999",
    "nan": lambda content: content.replace(b":0", b":NaN").replace(b": 0", b": NaN"),
    "too large": lambda content: content.replace(b":1", b":1e999").replace(b": 1", b": 1e999"),
    "a name twice": lambda content: content.replace(b"{", b'{"state":1,"state":2,', 1),
    "half a character": lambda content: content.replace(b'"', b'"\\ud800', 1),
    "a byte-order mark": lambda content: b"\xef\xbb\xbf" + content,
}


def plant_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").write_text("x")


def plant_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nowhere")


def plant_circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def plant_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


FILES = {
    "a directory": plant_directory,
    "a link to nowhere": plant_link,
    "a link to itself": plant_circle,
    "a pipe": plant_pipe,
    "gone": Path.unlink,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every kind of document: finished, failed and running stages, a search, notes, a lease."""
    root = tmp_path_factory.mktemp("whole") / "store"
    store = make_store(root, PLAN, Truth(num_rounds=3))
    shutil.rmtree(root / "stages" / FAILED)
    stage = PLAN.runs[-1].stage
    words = {"error": "RuntimeError: no", "traceback": "Traceback:\n  x", "provenance": {"trial": "t"}}
    failure = Failure(key=FAILED, kind=stage.kind, stage=stage.to_dict(), cause="code", **words)
    store.note_error(failure)
    store.mark_failed(failure)
    store.save_checkpoint(FAILED, Checkpoint(round=1, content=b"state"))
    store.write_search("search", make_search("search"))
    store.note_member_error("search", 0, failure)
    write_note(store.files, Note(name="trial-x.json", title="x", keys=(FAILED,), driver="driver-x.json"))
    write_note(store.files, Note(name="driver-x.json", title="synthetic"))
    store.files.append(f"logs/{FAILED}.log", b"a line\nplanned=9\x1b[31m\n")
    store.files.replace("lease/000001.json", b'{"host":"h","pid":1,"pid_space":"","title":"x","attempt":"a"}')
    assert main(["tensorboard", str(root), "--no-server", "--json"]) == 0
    return root


DOCUMENTS = [
    *("store.json", "studies/synthetic.json", "searches/search/account.json"),
    *(f"stages/{COMPLETE}/result.json", f"stages/{GENERATOR}/result.json", f"stages/{FAILED}/failed.json"),
    *("stages/*/errors/*.json", "stages/*/samples-*.npy", "stages/*/checkpoints/*"),
    *("searches/search/errors/0/*.json", "running/trial-x.json", "running/driver-x.json"),
    *("lease/000001.json", f"logs/{FAILED}.log", "events/synthetic/*/*/*/*/*/ended"),
    "events/synthetic/*/*/*/*/*/events.out*",
]


class Case:
    """A copy of a store, with something about one file changed."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self.path = ""

    def find(self, pattern: str) -> Path:
        found = sorted(self.root.glob(pattern))
        assert found, pattern
        self.path = found[0].relative_to(self.root).as_posix()
        return found[0]


def list_paths(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*prefix, name)
        yield from list_paths(inner, (*prefix, name))


def alter(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return what was changed of a JSON document, and the document; every other record is sealed again."""
    values = json.loads(content)
    paths = list(list_paths(values))
    # Paths that differ in an index alone are of one kind.
    kinds: dict[tuple[Any, ...], tuple[Any, ...]] = {}
    for path in rng.sample(paths, len(paths)):
        kinds.setdefault(tuple("#" if isinstance(each, int) else each for each in path), path)
    path = rng.choice(sorted(kinds.values(), key=str))
    holder = values
    for part in path[:-1]:
        holder = holder[part]
    change = rng.choice(["replace", "replace", "replace", "remove", "add"])
    value = rng.choice(HOSTILE)
    if change == "replace":
        holder[path[-1]] = value
    elif change == "remove":
        del holder[path[-1]]
    else:
        holder[path[-1]] = {"\x1b[31m": value}
    is_record = "sha256" in values and rng.random() < 0.5
    return f"{change} {path}: {value!r}", forge(values) if is_record else json.dumps(values).encode()


def damage(case: Case, pattern: str, rng: random.Random, way: str | None = None) -> None:
    target = case.find(pattern)
    way = way or rng.choice(["values", "values", "values", *TEXTS, *FILES])
    case.name = f"{case.path}: {way}"
    if way in FILES:
        FILES[way](target)
    elif way in TEXTS or not case.path.endswith(".json"):
        target.write_bytes(TEXTS.get(way, TEXTS["garbage"])(target.read_bytes()))
    else:
        what, content = alter(target.read_bytes(), rng)
        case.name += f" {what}"
        target.write_bytes(content)


def show_sweep(plan: Plan, location: str) -> int:
    """Do what a sweep does before it runs anything: scan, count, show."""
    store = open_store(location, RESULTS_VERSION, create=True)
    ledger = Ledger(plan, store)
    ledger.pending()
    make_console().print(render_cells(cells_frame(runs_frame(ledger)), plan.study.name))
    print(ledger.summary())
    return 0


def collect(location: str) -> int:
    results = read_results(location, allow=("gaps",))
    for key in results.generators["key"]:
        results.read_samples(key)
    read_searches(*results.stores)
    return 0


def commands(root: Path, out: Path) -> dict[str, Callable[[], int]]:
    place = str(root)
    stages = {
        f"{name} {key[:4]}": lambda name=name, key=key: main([name, key[:12], "--storage", place])
        for name in ("show", "verify")
        for key in (COMPLETE, GENERATOR, FAILED)
    }
    return stages | {
        "status": lambda: main(["status", place]),
        "status --json": lambda: main(["status", place, "--json"]),
        "plan": lambda: main(["plan", place]),
        "show --log": lambda: main(["show", FAILED[:12], "--storage", place, "--log"]),
        "export": lambda: main(["export", place, "--out", str(out / "frame.csv")]),
        "gc": lambda: main(["gc", place, "--dry-run"]),
        "tensorboard": lambda: main(["tensorboard", place, "--no-server"]),
        "collect": lambda: collect(place),
        # These set aside what they cannot use, so that nothing after them would meet it.
        "retry": lambda: main(["retry", place, "--failed", "--dry-run"]),
        "sweep": lambda: show_sweep(PLAN, place),
    }


def list_tree(root: Path, *, but: Path) -> set[str]:
    return {str(path) for path in root.rglob("*") if but not in (path, *path.parents)}


def check(case: Case, command: str, run: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            code = run()
        except ValueError as error:  # those without a `main` of their own
            print(error)
            code = 2
    text = shown.getvalue()
    assert code in (0, 1, 2), (case.name, command)
    assert "Traceback (most recent" not in text, (case.name, command, text)
    raw = {each for each in text if not each.isprintable()} - {"\n"}
    assert not raw, (case.name, command, text)
    assert "\nplanned=9" not in text or "--log" in command, (case.name, command, text)
    if code == 2 and "stage" not in command:
        of_version = "holds results of version" in text
        named = Path(case.path).name in text or of_version or "no " in text
        assert named, (case.name, command, text)


Cases = list[tuple[str, str | None]]


def fuzz(cases: Cases, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "run_stage", lambda stage, store, data_dir: read(whole, stage.key))
    monkeypatch.setattr(verification, "load_dataset_once", lambda name, data_dir: None)
    monkeypatch.setenv("COLUMNS", "400")
    rng = random.Random(12)
    faults: list[str] = []
    for number, (pattern, way) in enumerate(cases):
        parent = tmp_path / str(number)
        case = Case(parent / "a" / "b" / "c" / "store", "")
        shutil.copytree(whole, case.root)
        out = parent / "out"
        out.mkdir()
        damage(case, pattern, rng, way)
        before = list_tree(tmp_path, but=case.root)
        for command, run in commands(case.root, out).items():
            try:
                check(case, command, run, monkeypatch)
            except Exception as error:
                faults.append(f"{case.name}, {command}: {''.join(traceback.format_exception(error)[-4:])}")
        after = list_tree(tmp_path, but=case.root) - {str(out / "frame.csv")}
        assert after == before, case.name
        shutil.rmtree(parent)
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:20])


def read(root: Path, key: str) -> Record:
    store = open_store(str(root), None, create=False)
    assert store is not None
    record = store.read_record(key)
    assert record is not None
    return record


@pytest.mark.slow
def test_damage_to_any_document_ends_no_command_in_a_traceback(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases: Cases = [(pattern, None) for pattern in DOCUMENTS]
    fuzz(cases + [(pattern, "values") for pattern in DOCUMENTS[:4]], whole, tmp_path, monkeypatch)


def test_search_that_names_a_path_makes_the_analysis_write_nowhere(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "a" / "b" / "c" / "store"
    shutil.copytree(whole, root)
    account = root / "searches" / "search" / "account.json"
    values = json.loads(account.read_bytes())
    values["search"]["name"] = "../../../../p/README"
    account.write_text(json.dumps(values))
    before = list_tree(tmp_path, but=root / "nothing")
    assert analyse([str(root), "--partial", "--out", str(tmp_path / "a" / "out")]) == 2
    assert "searches/search/account.json is damaged: search.name must be" in capsys.readouterr().err
    assert list_tree(tmp_path, but=root / "nothing") == before


def name_3_classes(study: dict[str, Any]) -> None:
    study["datasets"] = {name: {"class_names": ["a", "b", "c"]} for name in study["datasets"]}


def drop_cells(study: dict[str, Any]) -> None:
    study |= {"cells": [], "runs": [], "comparisons": []}


@pytest.mark.parametrize(
    ("alter_study", "words"),
    [
        (name_3_classes, "names 3 classes of "),
        (drop_cells, "is damaged: cells must be a list of at least one"),
    ],
)
def test_study_that_does_not_go_with_its_records_is_refused_by_its_file(
    alter_study: Callable[[dict[str, Any]], None],
    words: str,
    whole: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(whole, tmp_path / "store")
    (path,) = (tmp_path / "store" / "studies").iterdir()
    study = json.loads(path.read_bytes())
    alter_study(study)
    path.write_text(json.dumps(study))
    assert analyse([str(tmp_path / "store"), "--partial", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"studies/{path.name} {words}" in error and "Traceback" not in error


@pytest.mark.slow
def test_every_kind_of_damage_to_every_document_ends_no_command_in_a_traceback(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases: Cases = [(pattern, way) for pattern in DOCUMENTS for way in (*TEXTS, *FILES, *["values"] * 8)]
    fuzz(cases[::5], whole, tmp_path, monkeypatch)
