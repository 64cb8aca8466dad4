"""A whole sweep on a set whose class counts no source tells, from its archive to where that is gone."""

import dataclasses
import json
from pathlib import Path

import pytest
import ray

from analysis.__main__ import main as analyse
from lt_rebalance.cli.main import main as look
from lt_rebalance.commands.sweep import main
from lt_rebalance.data import at_hand, counting
from lt_rebalance.data.catalog import DATASETS
from lt_rebalance.data.long_tail import DataConfig
from lt_rebalance.search.account import SearchBudget
from lt_rebalance.search.files import make_account
from lt_rebalance.search.owners import list_owned
from lt_rebalance.search.search import Search
from lt_rebalance.store import open_store
from lt_rebalance.studies.plan import compile_study, describe_plan, plan_from_description
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.training.configs import Execution
from sweeps import full_grid
from tests.data.test_counting import count, put_emnist
from tests.store.test_store import make_failure

NAME = "emnist_byclass"
TRAIN, TEST = [*range(62), *range(10), 0, 0], [*range(62), 61]
CELLS = ("--dataset", NAME, "--profile", "natural", "--methods", "none", "oversample", "--seeds", "1")
HOW = ("--steps", "4", "--device", "cpu", "--precision", "float32", "--storage", "results")


def forget() -> None:
    """Be as a process that has counted nothing yet."""
    at_hand._AT_HAND.clear()
    counting.look_in(None)


def sweep(*arguments: str) -> int:
    forget()
    return main(full_grid.make_grid_parser(), full_grid.build_study, [*CELLS, *HOW, *arguments])


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a tiny archive below `tmp_path/data`; commands are called beside that."""
    monkeypatch.setattr(at_hand, "_AT_HAND", {})
    monkeypatch.setattr(counting, "_place", (None, False))
    monkeypatch.delenv("LT_REBALANCE_DATA_DIR", raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return put_emnist(monkeypatch, tmp_path / "data", NAME, (TRAIN, TEST))


def test_plan_goes_by_the_labels_and_without_them_says_what_is_missing(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("--data-dir", str(tmp_path / "data"), "--plan", "--json") == 0
    answer = capsys.readouterr()
    assert json.loads(answer.out)["runs"]["planned"] == 2 and answer.err == ""
    assert sweep("--plan") == 2
    answer = capsys.readouterr()
    assert answer.out == "" and answer.err.count("\n") == 1
    assert f"{NAME}: gzip.zip missing in {tmp_path}/cwd/data/EMNIST/raw; place the files of" in answer.err
    assert not Path("results").exists()


def test_plan_that_a_store_describes_is_had_without_the_archive(
    cpu_execution: Execution, archive: Path, tmp_path: Path
) -> None:
    counting.look_in(tmp_path / "data")
    options = full_grid.make_grid_parser().parse_args(CELLS)
    plan = compile_study(full_grid.build_study(options), cpu_execution)
    document = describe_plan(plan)
    archive.unlink()
    forget()
    assert plan_from_description(document) == plan


def test_stages_of_a_search_are_known_as_its_own_without_the_archive(
    small_search: Search, archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put_emnist(monkeypatch, tmp_path / "data", NAME, ([*range(62)] * 6, TEST))
    counting.look_in(tmp_path / "data")
    data = DataConfig(dataset=NAME, c=None, subset_draw=None, class_order=None, validation_per_class=5)
    search = dataclasses.replace(small_search, base=dataclasses.replace(small_search.base, data=data))
    account = make_account(search, "", SearchBudget(trials=1), [], {})
    account["trials"] = [
        {"number": 0, "values": search.untuned, "state": "running", "reason": "", "rungs": []}
    ]
    store = open_store("results", RESULTS_VERSION, create=True)
    assert store is not None
    store.write_search(search.name, account)
    known = list_owned(store)
    archive.unlink()
    forget()
    assert known and list_owned(store) == known and at_hand.find(NAME) is None


@pytest.mark.slow
def test_sweep_runs_goes_on_and_is_refused_where_its_archive_is_gone_or_another(
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    there = ("--data-dir", str(tmp_path / "data"))
    assert sweep(*there) == 0
    store = open_store("results", RESULTS_VERSION, create=False)
    assert store is not None
    (study,) = store.list_studies()
    document = store.load_study(study)
    assert document.counts[NAME] == {"train": count(TRAIN, 62), "test": count(TEST, 62)}
    assert document.unbalanced == (NAME,)
    run = document.runs[-1]
    record = store.load_record(run.key)
    assert record is not None and record.class_counts == count(TRAIN, 62)

    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    assert sweep(*there) == 0
    assert "planned=2 complete=2 " in capsys.readouterr().out

    forget()
    assert look(["verify", run.key, "--storage", "results", *there]) == 0
    forget()
    assert look(["data", NAME, *there]) == 0

    content = archive.read_bytes()
    archive.write_bytes(content.replace(b"PK\x01\x02\x14", b"PK\x01\x02\x15", 1))
    assert sweep(*there, "--name", "other") == 2
    assert f"{NAME}: {archive}: md5 differs" in capsys.readouterr().err
    archive.unlink()
    assert sweep(*there, "--name", "other") == 2
    assert f"{NAME}: gzip.zip missing in {archive.parent}; place" in capsys.readouterr().err
    assert store.list_studies() == [study]

    # What only looks needs no archive.
    store.mark_failed(make_failure(run.key))
    for command in (
        "status results",
        "plan results",
        "retry results --failed --dry-run",
        "gc results --orphans",
    ):
        forget()
        assert look(command.split()) == 0, capsys.readouterr().err
    forget()
    assert analyse(["results", "--out", "report"]) == 0
    assert DATASETS[NAME].train_counts_K == () and at_hand.find(NAME) is None
