"""A user's images in every command: they are run again, verified, searched and cleaned up."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lt_rebalance.cli.main import main as look
from lt_rebalance.cluster.rungs import RungTrainable, rung_trial_config
from lt_rebalance.commands import search as search_command
from lt_rebalance.data import at_hand
from lt_rebalance.images.cache import CACHE_DIR_VARIABLE
from lt_rebalance.images.load import bring
from lt_rebalance.images.options import OwnOptions
from lt_rebalance.search.account import SearchBudget
from lt_rebalance.search.files import make_account
from lt_rebalance.search.owners import list_owned
from lt_rebalance.search.search import Search
from lt_rebalance.stages.inputs import load_dataset_once
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import Store, open_store
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from sweeps import tune_classifier
from tests.own_images import draw_images, write_folder
from tests.store.test_store import make_failure


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert opened is not None
    return opened


@pytest.fixture
def pets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder of tiny colour pictures, of which nothing is known."""
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(at_hand, "_AT_HAND", {})
    load_dataset_once.cache_clear()
    yield write_folder(tmp_path / "pets", draw_images())
    load_dataset_once.cache_clear()


@pytest.fixture
def plan(pets: Path, store: Store, small_protocol: Protocol, cpu_execution: Execution) -> Plan:
    """Return the plan of a study whose run of seed 0 is finished and of seed 1 has failed; forget the set."""
    name, _ = bring(str(pets), OwnOptions(image_size=20))
    cell = make_cell(small_protocol, dataset=name, c=None, method="none", generator=None)
    planned = compile_study(Study(name="pets", cells=(cell,), seeds=(0, 1)), cpu_execution)
    store.write_study(describe_plan(planned))
    run_stage(planned.runs[0].stage, store)
    store.mark_failed(make_failure(planned.runs[1].key))
    at_hand._AT_HAND.clear()
    return planned


def test_stages_of_own_images_are_read_without_and_run_again_with_them(
    plan: Plan, pets: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place, key = store.location, plan.runs[0].key
    (name,) = {run.cell.data.dataset for run in plan.runs}
    for arguments in (
        ["status", place],
        ["plan", place],
        ["show", key, "--storage", place],
        ["export", place],
        ["tensorboard", place, "--no-server"],
        ["gc", place, "--orphans"],
    ):
        assert look(arguments) in (0, 1), (arguments, capsys.readouterr().err)
    capsys.readouterr()
    pets.rename(tmp_path / "animals")
    path = str(tmp_path / "animals")
    for command in (
        ["verify", key, "--storage", place],
        ["retry", place, "--failed"],
        ["retry", place, "--failed", "--dry-run"],
    ):
        for extra, said in (
            ([], f"{name} are a user's images that are not loaded"),
            (["--dataset", path], f"{path} holds images@"),  # in another size
            (["--dataset", "mnist"], "--dataset is the path of images of your own"),
            (["--dataset", str(tmp_path / "none.npz")], "got nothing at"),
            (["--dataset", "picturs", "--grey"], "unknown data set 'picturs', and nothing is at that path"),
            (["--image-size", "20"], "with --dataset PATH; leave them out"),
            (["--dataset", path, "--data-dir", place], "--data-dir and --download are for sets by name"),
        ):
            at_hand._AT_HAND.clear()
            assert look([*command, *extra]) == 2, (command, extra)
            *notes, error = capsys.readouterr().err.splitlines()
            assert said in error and all(each.startswith("note: ") for each in notes), (command, extra)
    given = ["--dataset", path, "--image-size", "20"]
    assert look(["verify", key, "--storage", place, *given]) == 0
    assert "equal, bit for bit" in capsys.readouterr().out
    assert look(["retry", place, "--failed", "--dry-run", *given]) == 0
    assert "still without a result: 1" in capsys.readouterr().out
    assert look(["retry", place, "--failed", "--dry-run", *given, "--upload-data"]) == 2
    assert "--upload-data does not go with --dry-run" in capsys.readouterr().err
    assert not store.files.list("images")


@pytest.mark.slow
def test_retry_puts_own_images_into_the_store_and_runs_what_failed(
    plan: Plan, pets: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--dataset", str(pets), "--image-size", "20", "--upload-data"]
    assert look(["retry", store.location, "--failed", *given]) == 0
    out, err = capsys.readouterr()
    assert "still without a result: 0" in out and "written to" in err
    assert store.files.list("images") == [plan.runs[0].stage.dataset_identity]


def test_trial_of_a_search_is_handed_the_set_that_its_worker_does_not_know(
    small_search: Search, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder = small_search.ladder(small_search.untuned)
    config = json.loads(json.dumps(rung_trial_config(ladder, ["macro_f1"], store.location, None)))
    keys = [stage.key for stage in ladder[0].groups[0]]
    monkeypatch.setattr(at_hand, "_AT_HAND", {})
    assert RungTrainable(config).train()["outcome"] == "running"
    assert all(store.load_record(key) for key in keys)


def test_stages_of_a_search_are_known_as_its_own_without_the_images(
    small_search: Search, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = make_account(small_search, "", SearchBudget(trials=1), [], {})
    account["trials"] = [
        {"number": 0, "values": small_search.untuned, "state": "running", "reason": "", "rungs": []}
    ]
    store.write_search(small_search.name, account)
    known = list_owned(store)
    monkeypatch.setattr(at_hand, "_AT_HAND", {})
    assert known and list_owned(store) == known and not at_hand._AT_HAND


@pytest.mark.slow
@pytest.mark.usefixtures("measured_speed")
def test_search_takes_own_images_by_their_path(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    many = {"train": (30, 24, 13), "test": (2, 3, 1)}
    shutil.rmtree(pets)
    write_folder(pets, draw_images(counts=many))

    def call(*arguments: str) -> tuple[int, str, str]:
        parser = tune_classifier.make_classifier_parser()
        given = ["--device", "cpu", "--plan", "--json", *arguments]
        code = search_command.main(parser, tune_classifier.build_search, lambda *_: [], given)
        return (code, *capsys.readouterr())

    code, out, err = call("--dataset", str(pets))
    assert code == 0, err
    data = json.loads(out)["search"]["base"]["data"]
    assert data["dataset"] == bring(str(pets), OwnOptions())[0] and data["validation_per_class"] == 1
    for arguments, said in (
        (["--dataset", str(pets), "--upload-data"], "--upload-data does not go with --plan"),
        (["--grey"], "with --dataset PATH; leave them out"),
        (["--dataset", str(pets / "nowhere")], "got nothing at"),
    ):
        code, _, err = call(*arguments)
        assert code == 2 and said in err and len(err.splitlines()) == 1
