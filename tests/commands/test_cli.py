"""The command lt-rebalance on small stores: what it answers, in words and in JSON, and its exit codes."""

import contextlib
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import analysis.__main__
from analysis.collect import collect, read_results
from lt_rebalance.cli.completion import list_commands
from lt_rebalance.cli.main import main
from lt_rebalance.cli.parser import make_parser
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.lease import find_holder
from lt_rebalance.store.presence import Note, write_note
from lt_rebalance.store.study_document import StudyRun
from tests.store.test_store import make_checkpoint, make_failure

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "store"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Answer]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Return what calls the command in this process."""

    def call_(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(code=code, out=captured.out, err=captured.err)

    return call_


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A copy of the small real store: 12 runs and 3 generators, all complete."""
    shutil.copytree(GOLDEN, tmp_path / "store")
    return open_golden(tmp_path / "store")


def open_golden(root: Path) -> Store:
    store = open_store(str(root), None, create=False)
    assert store is not None
    return store


def list_runs(store: Store) -> tuple[StudyRun, ...]:
    return store.load_study("full_grid-quick").runs


def take_result(store: Store, key: str) -> None:
    (Path(store.location) / "stages" / key / "result.json").unlink()


# Status


def test_status_of_a_finished_study(call: Call, store: Store) -> None:
    answer = call("status", store.location)
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert lines[0] == "full_grid-quick: planned=12 complete=12 failed=0 diverged=0 missing=0"
    assert lines[1] == "stages done: classifier 12 of 12, generator 3 of 3; nothing is left to run"
    assert "sound, C = 1/2" in map(str.rstrip, lines)
    (row,) = (line for line in lines if line.startswith("  oversample "))
    assert "3/3" in row and "0.673" in row and " left" not in row
    assert lines[-2:] == [
        f"one stage: lt-rebalance show {store.location} lists all with their keys",
        f"report, with a test of every difference: python -m analysis {store.location} "
        "--study full_grid-quick",
    ]


def test_status_names_who_runs_what_failed_and_what_is_lost(call: Call, store: Store) -> None:
    first, second, third = (run.key for run in list_runs(store)[:3])
    for key in (first, second, third):
        take_result(store, key)
    store.mark_failed(make_failure(first, "ValueError: wrong [size]"))
    write_note(store.files, Note(name="driver-here.json", title="full_grid-quick"))
    common = {"driver": "driver-here.json", "round": 1, "num_rounds": 2}
    write_note(store.files, Note(name="trial-b.json", title="the second", keys=(second,), **common))
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    write_note(
        store.files, Note(name="trial-c.json", title="the third", keys=(third,), pid=dead.pid, **common)
    )
    text = call("status", store.location, "--rate", "2").out
    assert "planned=12 complete=9 failed=1 diverged=0 missing=2" in text
    assert f"sweep at work: process {os.getpid()} on " in text
    assert "running: the second on " in text and "round 1 of 2" in text
    assert "lost: the third on " in text
    assert "failed: sound 1/2 none seed 0: ValueError: wrong [size]" in text
    assert "; price " in text
    (status,) = call("status", store.location, "--json").json
    assert status["runs"]["failed"] == 1 and len(status["cells"]) == 4
    title, reason = "sound 1/2 none seed 0", "ValueError: wrong [size]"
    assert status["failed"] == [{"key": first, "title": title, "reason": reason}]
    assert status["running"][0]["keys"] == [second] and status["running"][0]["is_straggler"] is False
    assert status["spending"]["device_hours_left"] > 0


@pytest.mark.parametrize("width", [None, 60])
def test_status_cuts_no_line_in_a_log_nor_on_a_narrow_terminal(
    call: Call, store: Store, width: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = list_runs(store)[0].key
    take_result(store, key)
    reason = "ValueError: " + " ".join(str(number) for number in range(100))
    store.mark_failed(make_failure(key, reason))
    if width is None:
        lines = call("status", store.location).out.splitlines()
        assert any(line.endswith(reason) for line in lines)
        return
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", call("status", store.location).out)
    *lines, _, _ = shown.splitlines()  # two commands, which are pasted whole
    assert max(map(len, lines)) <= width
    assert reason in " ".join(shown.split())


def test_columns_sets_the_width_where_there_is_no_terminal(
    call: Call, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out = "No room for: macro F1, dead class."
    assert left_out not in call("status", store.location).out
    monkeypatch.setenv("COLUMNS", "60")
    assert left_out in call("status", store.location).out


def test_status_watched_without_a_terminal_ends_when_nothing_is_left(call: Call, store: Store) -> None:
    answer = call("status", "--watch", store.location)
    assert answer.out.splitlines() == [
        "full_grid-quick: planned=12 complete=12 failed=0 diverged=0 missing=0; nothing is left to run"
    ]


@pytest.mark.slow
def test_looking_needs_neither_torch_nor_ray_nor_pandas(store: Store) -> None:
    key = list_runs(store)[0].key
    for command in (["status"], ["show", key[:8], "--storage"], ["gc"]):
        code = (
            "import sys; from lt_rebalance.cli.main import main\n"
            f"assert main({[*command, store.location]}) == 0\n"
            "assert not {'torch', 'ray', 'pandas', 'tensorflow'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)


# Plan


def test_plan_of_a_store_tells_cost_by_stage_method_and_cell(call: Call, store: Store) -> None:
    take_result(store, list_runs(store)[0].key)
    (plan,) = call("plan", store.location, "--rate", "1.5", "--json").json
    assert plan["stages"]["classifier"] == {"planned": 12, "done": 11, "to_run": 1}
    by_cell = sum(cell["spending"]["device_hours_spent"] for cell in plan["cells"])
    for axis in ("spending_by_kind", "spending_by_method"):
        assert sum(each["device_hours_spent"] for each in plan[axis].values()) == pytest.approx(by_cell)
    assert plan["spending"]["price_left"] == pytest.approx(1.5 * plan["spending"]["device_hours_left"])
    text = call("plan", store.location).out
    assert "classifier stages: 12 planned, 1 to run" in text and "in all: " in text
    for name in ("method oversample: ", "cell sound 1/2 oversample: "):
        assert f"  {name}" in text


def test_plan_of_a_finished_store_says_so_and_its_options_are_explained(call: Call, store: Store) -> None:
    assert "  nothing is left to run\n" in call("plan", store.location).out
    said = list_commands(make_parser())["plan"].format_help()
    assert "--rate PRICE" in said and "price of a device-hour" in said and "answer in JSON" in said
    refused = call("plan", store.location, "--preset", "paper")
    assert refused.code == 2
    assert "unrecognized arguments: --preset paper; options of a sweep need its file" in refused.err


@pytest.mark.slow
def test_plan_of_a_sweep_passes_its_options_on(tmp_path: Path) -> None:
    options = ["--preset", "quick", "--seeds", "1", "--json", "--storage", str(tmp_path / "store")]
    command = [sys.executable, "-m", "lt_rebalance", "plan", "sweeps/full_grid.py", *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert json.loads(done.stdout)["runs"]["planned"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("has_gap", [False, True])
def test_every_command_that_is_offered_can_be_pasted(
    call: Call, store: Store, tmp_path: Path, has_gap: bool
) -> None:
    """From `status` to the list of stages, to one stage, and to the report, also of a study with a gap."""
    if has_gap:
        take_result(store, list_runs(store)[-1].key)
    shown, report = (
        shlex.split(line.partition(": ")[2]) for line in call("status", store.location).out.splitlines()[-2:]
    )
    listing = call(*shown[1 : shown.index("lists")])
    one = shlex.split(listing.out.splitlines()[-1].partition(": ")[2])
    assert shown[0] == one[0] == "lt-rebalance" and call(*one[1:]).code == listing.code == 0
    assert report[:3] == ["python", "-m", "analysis"]
    assert analysis.__main__.main([*report[3:], "--out", str(tmp_path / "report")]) == 0


# Show


def test_show_of_a_store_lists_every_stage_with_its_key(call: Call, store: Store) -> None:
    run = list_runs(store)[-1]
    take_result(store, run.key)
    name, *stages, _ = call("show", store.location).out.splitlines()
    assert name == "full_grid-quick:" and len(stages) == 15
    assert [line.split()[:2] for line in stages].count([run.key[:8], "missing"]) == 1
    answer = call("show", store.location, "--json").json
    assert [each["state"] for each in answer].count("complete") == 14
    key, title = answer[0]["key"], answer[0]["title"]
    assert stages[0] == f"  {key[:8]}  complete  {title}"
    assert call("show", store.location, "--log").code == 2
    out = call("status", store.location).out
    assert "every difference: python -m" in out and out.rstrip().endswith(" --partial")
    (Path(store.location) / "studies" / "full_grid-quick.json").unlink()
    name, *stages, _ = call("show", store.location).out.splitlines()
    assert name == "in no study:" and len(stages) == 14 and "generator seed " in " ".join(stages)
    assert "there is no store and no stage at 'no/such'" in call("show", "no/such").err


def test_show_of_a_store_lists_a_damaged_record_that_no_study_has(call: Call, store: Store) -> None:
    (Path(store.location) / "studies" / "full_grid-quick.json").unlink()
    key = store.list_keys()[0]
    (Path(store.location) / "stages" / key / "result.json").write_text("{}")
    answer = call("show", store.location, "--json")
    assert answer.code == 0
    (damaged,) = [each for each in answer.json if each["state"] != "complete"]
    assert (damaged["key"], damaged["title"]) == (key, "unreadable") and "result.json" in damaged["reason"]
    assert f"  {key[:8]}  missing" in call("show", store.location).out and len(answer.json) == 15


def test_study_that_is_named_twice_is_taken_once(call: Call, store: Store) -> None:
    twice = ["--study", "full_grid-quick", "full_grid-quick"]
    for command in ("status", "plan"):
        once = call(command, store.location, *twice[:2])
        assert once.code == 0 and call(command, store.location, *twice).out == once.out


def test_time_between_two_looks_has_an_upper_bound(call: Call, store: Store) -> None:
    answer = call("status", store.location, "--watch", "--every", "1e300")
    assert answer.code == 2 and "--every: must be at most 1,000,000,000, got 1e300" in answer.err


def test_show_finds_a_record_by_its_first_letters_or_its_path(call: Call, store: Store) -> None:
    run = next(run for run in list_runs(store) if run.generator_key)
    for named in (
        [run.key[:8], "--storage", store.location],
        [f"{store.location}/stages/{run.key}"],
        [f"{store.location}/stages/{run.key}/result.json"],
    ):
        text = call("show", *named).out
        assert f"classifier {run.key}" in text and "state: complete, seed 0" in text
        assert "concern: has dead classes: no test image is recognised of" in text
        assert "Ankle boot" in text
        assert "generator: small_mlp_cgan_leaky; its training set by oversample, draw random" in text
        assert "method: cgan\nnetwork: paper_cnn, loss cross_entropy\naccuracy: " in text
    shown = call("show", run.generator_key, "--storage", store.location, "--json").json
    record = store.read_record(run.generator_key)
    assert record is not None and shown["state"] == "complete"
    assert shown["record"] == json.loads(record.to_json())


def test_show_names_a_log_that_is_a_directory(call: Call, store: Store) -> None:
    key = list_runs(store)[0].key
    (Path(store.location) / "logs" / f"{key}.log").mkdir(parents=True)
    answer = call("show", key, "--storage", store.location, "--log")
    assert answer.code == 2 and f": logs/{key}.log cannot be read: " in answer.err
    assert "is not a file; move it away" in answer.err


def test_show_of_a_failure_gives_its_traceback_and_the_log(call: Call, store: Store) -> None:
    key = list_runs(store)[0].key
    take_result(store, key)
    assert (
        "is not finished; 0 attempts ended in an error" in call("show", key, "--storage", store.location).out
    )
    store.mark_failed(make_failure(key, "RuntimeError: broken"))
    assert "error: RuntimeError: broken" in call("show", key, "--storage", store.location).out
    assert call("show", key, "--storage", store.location, "--json").json["state"] == "failed"
    store.files.append(f"logs/{key}.log", b"a line\n")
    assert call("show", key, "--storage", store.location, "--log").out == "a line\n"


# Export


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_export_writes_the_tidy_frame(call: Call, store: Store, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"runs.{ending}"
    answer = call("export", store.location, "--out", out, "--json")
    assert (answer.code, answer.json["rows"]) == (0, 12)
    read = pd.read_csv if ending == "csv" else pd.read_parquet
    expected = collect(store.location)
    pd.testing.assert_frame_equal(read(out), expected, check_dtype=False)


def test_export_prints_any_frame_and_keeps_the_rows_of_gaps(call: Call, store: Store) -> None:
    take_result(store, list_runs(store)[0].key)
    rows = call("export", store.location, "--json").json
    assert [row["state"] for row in rows].count("missing") == 1 and len(rows) == 12
    text = call("export", store.location, "--frame", "generator_rounds").out
    expected = read_results(store.location, allow=["gaps"]).generator_rounds
    assert len(text.splitlines()) == len(expected) + 1 == 7


# TensorBoard


def test_tensorboard_without_a_server_makes_missing_events(call: Call, store: Store) -> None:
    answer = call("tensorboard", store.location, "--no-server", "--json").json
    assert (answer["runs_made"], answer["study"]) == (15, "full_grid-quick")
    assert "--host=127.0.0.1" in answer["command"]
    assert call("tensorboard", store.location, "--no-server", "--json").json["runs_made"] == 0
    shown = call("tensorboard", store.location, "--no-server").out
    assert "to start the server: " in shown and "http://" not in shown
    assert len(list((Path(store.location) / "events").rglob("*tfevents*"))) == 15 + 4 + 1


def test_address_of_tensorboard_is_one_that_a_browser_opens(
    call: Call, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "execv", lambda *_: None)
    for host, address in (("127.0.0.1", "http://127.0.0.1:6006"), ("::1", "http://[::1]:6006")):
        answer = call("tensorboard", store.location, "--host", host, "--port", "6006")
        assert f"all runs: {address}; " in answer.out, answer


def test_tensorboard_listens_on_this_machine_unless_it_is_agreed_to(call: Call, store: Store) -> None:
    answer = call("tensorboard", store.location, "--host", "0.0.0.0", "--no-server")
    assert answer.code == 2 and "--listen-publicly" in answer.err
    assert not (Path(store.location) / "events").exists()
    agreed = call(
        "tensorboard", store.location, "--host", "0.0.0.0", "--listen-publicly", "--no-server", "--json"
    )
    assert "--host=0.0.0.0" in agreed.json["command"]


# Garbage


def plant_garbage(store: Store) -> list[str]:
    """Put what no result needs into a store and return the paths."""
    root, key = Path(store.location), list_runs(store)[0].key
    store.save_checkpoint(key, make_checkpoint(1))
    store.write_artifact(key, "predictions", ".npy", b"of an attempt that came second")
    artifact = store.write_artifact(key, "predictions", ".npy", b"of an attempt that came second").file
    old, fresh = (root / "stages" / key / f".writing-{name}" for name in ("old", "fresh"))
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    write_note(store.files, Note(name="trial-x.json", title="lost", keys=(key,), pid=dead.pid))
    write_note(store.files, Note(name="driver-y.json", title="alive"))
    stage = f"stages/{key}"
    return [f"{stage}/checkpoints", f"{stage}/{artifact}", f"{stage}/.writing-old", "running/trial-x.json"]


def test_gc_deletes_what_no_result_needs_and_nothing_else(call: Call, store: Store) -> None:
    root = Path(store.location)
    before = {path for path in root.rglob("*") if path.is_file()}
    planted = plant_garbage(store)
    full = {path for path in root.rglob("*") if path.is_file()}
    assert len(full) == len(before) + len(planted) + 2
    listed = call("gc", store.location, "--dry-run", "--json").json
    assert sorted(each["path"] for each in listed["garbage"]) == sorted(planted)
    assert listed["num_bytes"] == sum(each["num_bytes"] for each in listed["garbage"]) > 0
    assert {path for path in root.rglob("*") if path.is_file()} == full
    assert call("gc", store.location).out.splitlines()[-1].startswith("deleted: 4 things")
    left = {path for path in root.rglob("*") if path.is_file()} - before
    assert sorted(path.name for path in left) == [".writing-fresh", "000001.json", "driver-y.json"]
    assert find_holder(store.files) is None
    assert len(collect(store.location)) == 12
    assert call("gc", store.location, "--json").json["garbage"] == []


def test_gc_deletes_orphans_only_when_asked_to(call: Call, store: Store) -> None:
    call("tensorboard", store.location, "--no-server")
    study = store.load_study("full_grid-quick")
    dropped = [run for run in study.runs if run.generator_key]
    kept = tuple(run for run in study.runs if run not in dropped)
    store.write_study(dataclasses.replace(study, runs=kept))
    assert call("gc", store.location, "--json").json["garbage"] == []
    listed = call("gc", store.location, "--orphans", "--json").json["garbage"]
    stages = sorted(each["path"] for each in listed if each["path"].startswith("stages/"))
    expected = sorted(f"stages/{key}" for run in dropped for key in run.keys)
    assert stages == expected
    assert sum(each["path"].startswith("events/") for each in listed) == 6
    assert not any((Path(store.location) / path).exists() for path in expected)
    assert call("status", store.location, "--json").json[0]["runs"]["complete"] == 9


def test_gc_of_orphans_is_refused_while_a_sweep_is_at_work(call: Call, store: Store) -> None:
    write_note(store.files, Note(name="driver-y.json", title="alive"))
    answer = call("gc", store.location, "--orphans")
    assert answer.code == 2 and "a sweep is at work" in answer.err


# Completion


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lt-rebalance sta", ["status"]),
        ("lt-rebalance verify --st", ["--storage"]),
        ("lt-rebalance export --frame gen", ["generators", "generator_rounds", "generator_classes"]),
        ("lt-rebalance completion z", ["zsh"]),
        ("lt-rebalance status tests/gol", ["tests/golden"]),
    ],
)
def test_bash_completes_commands_options_values_and_files(call: Call, line: str, expected: list[str]) -> None:
    words = line.split(" ")
    script = call("completion", "bash").out + (
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _lt_rebalance\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == expected


# Wrong input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "nowhere"], "there is no store at 'nowhere'"),
        (["status", "STORE", "--study", "other"], "no study 'other'; known: full_grid-quick"),
        (["status", "STORE", "--watch", "--json"], "give one of them"),
        (["stat", "STORE"], "invalid choice: 'stat'"),
        (["status", "STORE", "--stud", "x"], "unrecognized arguments"),
        (["show", "ab", "--storage", "STORE"], "at least 4 letters"),
        (["show", "zzzz", "--storage", "STORE"], "no stage has a key that begins with 'zzzz'"),
        (["show", "KEY", "--log", "--storage", "STORE"], "has no log"),
        (["show", "KEY", "--log", "--json", "--storage", "STORE"], "name one of the two"),
        (["plan", "sweeps/none.py"], "there is no sweep"),
        (
            ["export", "STORE", "--out", "runs.xlsx"],
            "that ends in .csv or .parquet, got",
        ),
        (["export", "STORE", "--out", "nowhere/runs.csv"], "cannot be written"),
        (["retry", "STORE"], "--failed"),
        ([], "COMMAND"),
    ],
)
def test_wrong_input_gets_one_line_and_changes_nothing(
    call: Call, store: Store, arguments: list[str], message: str
) -> None:
    before = sorted(Path(store.location).rglob("*"))
    known = {"STORE": store.location, "KEY": list_runs(store)[0].key}
    answer = call(*(known.get(argument, argument) for argument in arguments))
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("error: ") and message in answer.err and answer.err.count("\n") == 1
    assert sorted(Path(store.location).rglob("*")) == before


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"runs": [{}], "cells": []}'])
def test_study_that_no_sweep_wrote_is_named(call: Call, store: Store, content: str) -> None:
    store.files.replace("studies/full_grid-quick.json", content.encode())
    for command in (["status"], ["gc", "--orphans"], ["tensorboard", "--no-server"]):
        answer = call(command[0], store.location, *command[1:])
        assert answer.code == 2 and answer.err.count("\n") == 1
        assert "studies/full_grid-quick.json" in answer.err


def test_every_command_explains_itself_and_answers_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    for name, parser in list_commands(make_parser()).items():
        with contextlib.suppress(SystemExit):
            main([name, "--help"])
        assert "lt-rebalance" in capsys.readouterr().out
        flags = {flag for action in parser._actions for flag in action.option_strings}
        # The plan of a sweep takes the sweep's own options, and completion prints a script.
        assert "--json" in flags or name in ("plan", "completion")
