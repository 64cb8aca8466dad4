"""A study that was run is published so that everybody can check it, or not at all."""

import dataclasses
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from analysis.__main__ import main as analyse
from lt_rebalance.cli import publish as command
from lt_rebalance.cli.main import main
from lt_rebalance.files import archive
from lt_rebalance.monitoring.sessions import SessionLog, sessions_path
from lt_rebalance.registration.cells import register_cells
from lt_rebalance.registration.study_plan import list_whole_seeds, read_plan
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import NOT_APPLICABLE, Failure
from lt_rebalance.store.study_document import StudyDocument
from lt_rebalance.studies.ablation import nested_seeds
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan, plan_from_description
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Cell, Study
from lt_rebalance.training.configs import Execution
from tests.made_up import make_up
from tests.own_images import draw_images, write_folder
from tests.published import read_files

ROOT = Path(__file__).parents[2]
NAME = "pilot"
PLAN = """
question = "Does it *help*?"
sweep = "full_grid.py"
arguments = ["--preset", "quick"]
seeds = 4
least_seeds = 3
stopping = "after four seeds"
confirmatory = ["H2", "claims of the paper"]
"""


def save_zeros(*shape: int) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(shape, dtype=np.uint8))
    return file.getvalue()


ARRAYS = {"predictions": save_zeros(1000), "samples": save_zeros(3, 10, 10, 1, 28, 28)}
Publish = Callable[..., tuple[int, str, str]]


def fill_store(root: Path, study: Study, execution: Execution) -> tuple[Store, Plan]:
    """Return a store of made-up results of every stage of a study, and its plan."""
    opened, plan = open_store(str(root), RESULTS_VERSION, create=True), compile_study(study, execution)
    assert opened is not None
    opened.write_study(dataclasses.replace(describe_plan(plan), confirmatory=("H2", "claims of the paper")))
    for key, stage in plan.stages.items():
        contents = {"predictions": ARRAYS["predictions"]}
        if stage.kind == "generator":
            contents = {"weights": b"weights", "samples": ARRAYS["samples"]}
        artifacts = {role: opened.write_artifact(key, role, ".npy", each) for role, each in contents.items()}
        opened.commit(make_up(stage, artifacts=artifacts))
    return opened, plan


@pytest.fixture
def cells(small_protocol: Protocol) -> tuple[Cell, Cell]:
    common = {"dataset": "fashion_mnist_mini", "c": "1/2"}
    return (
        make_cell(small_protocol, method="none", generator=None, **common),
        make_cell(small_protocol, method="cgan", generator="small_mlp_cgan_leaky", **common),
    )


@pytest.fixture
def store(tmp_path: Path, cells: tuple[Cell, Cell], cpu_execution: Execution) -> Store:
    """Return a store of made-up results, with the logs of a sweep and of a resumed stage."""
    study = Study(name=NAME, cells=cells, seeds=(0, 1, 2))
    opened, plan = fill_store(tmp_path / "store", study, cpu_execution)
    key = plan.runs[0].key
    log = [f"t INFO x: classifier 1/2 none seed 0: {said}" for said in ("begins", "round 1/2, 3600.0 s: a")]
    log += [
        f"t INFO x: classifier 1/2 none seed 0: {said}"
        for said in ("goes on after round 1/2", "round 2/2, 9 s")
    ]
    opened.files.append(f"logs/{key}.log", "\n".join(log).encode())
    command = "python sweep.py --storage=/home/me/store --data-dir '/data of/me/x' 7/9"
    SessionLog(opened.files, NAME, command, 15)
    return opened


@pytest.fixture
def folder(store: Store, tmp_path: Path) -> Path:
    """Return the folder of a study with its plan."""
    return write_plan(store, tmp_path)


def write_plan(store: Store, tmp_path: Path) -> Path:
    folder = tmp_path / "studies" / NAME
    folder.mkdir(parents=True)
    cells = register_cells(store.load_study(NAME).cells)
    listed = "\n".join(f"{json.dumps(cell)} = {json.dumps(digits)}" for cell, digits in cells.items())
    (folder / "plan.toml").write_text(f"{PLAN}\n[cells]\n{listed}\n")
    return folder


@pytest.fixture
def publish(folder: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> Publish:
    def publish_(*options: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return (main(["publish", str(folder), "--storage", store.location, *options]), *capsys.readouterr())

    return publish_


@pytest.mark.slow
def test_report_is_rebuilt_from_the_published_folder_bit_for_bit(
    publish: Publish, folder: Path, tmp_path: Path
) -> None:
    code, _, err = publish()
    assert code == 0, err
    assert analyse([str(folder), "--out", str(tmp_path / "again")]) == 0
    rebuilt = read_files(tmp_path / "again")
    assert rebuilt == read_files(folder / "report") and "index.html" in rebuilt
    assert any(name.endswith(".png") for name in rebuilt)


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_folder_holds_everything_and_is_published_again_alike(
    publish: Publish, folder: Path, store: Store
) -> None:
    (folder / "notes.md").write_text("mine")
    code, out, _ = publish()
    assert code == 0 and "9 records" in out
    first = read_files(folder)
    assert {name.partition("/")[0] for name in first} == {
        *("plan.toml", "README.md", "SHA256SUMS", "store.zip", "report", "notes.md")
    }
    listed = dict(reversed(line.split("  ", 1)) for line in first.pop("SHA256SUMS").decode().splitlines())
    assert listed == {name: hashlib.sha256(content).hexdigest() for name, content in first.items()}
    assert json.loads(publish("--json")[1])["records"] == 9
    assert {name: content for name, content in read_files(folder).items() if name != "SHA256SUMS"} == first
    published = open_store(str(folder), None, create=False, is_read_only=True)
    assert published is not None
    assert b"--storage=store " in published.files.read_appended(sessions_path(NAME))
    for key in store.list_keys():
        record = published.read_record(key)
        assert record == store.read_record(key) and record is not None
        roles = record.artifacts.keys() - {"weights"}
        assert all(published.has_artifact(record, role) for role in roles)


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
@pytest.mark.parametrize("is_dirty", [False, True])
def test_readme_names_the_code_of_the_report_and_whether_it_was_changed(
    publish: Publish, folder: Path, is_dirty: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "driver_source", lambda: {"commit": "c0ffee", "is_dirty": is_dirty})
    publish()
    words = " ".join((folder / "README.md").read_text().split())
    changed = ", with uncommitted changes," if is_dirty else ""
    assert f"what the code of commit c0ffee{changed} writes" in words


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_readme_tells_runs_keys_attempts_and_cost(publish: Publish, folder: Path, store: Store) -> None:
    publish()
    text = (folder / "README.md").read_text()
    keys = hashlib.sha256("".join(f"{key}\n" for key in sorted(store.list_keys())).encode()).hexdigest()
    for said in (
        "# Does it \\*help\\*?",
        "2 cells at 3 seeds: planned 6, complete 6, failed 0, diverged 0, missing 0.",
        f"`{keys}`",
        "Confirmatory: H2, claims of the paper; everything else is exploratory.",
        "1 of 9 stages have logs; one that another study trained has none. By them 1 attempts began",
        "round, 1 more at a checkpoint, and 0 at a stage whose training had ended.",
        "saved 1.00 h of training",
        "| 15 | none: killed |  | python sweep.py --storage=store --data-dir 'x' 7/9 |",
        f"verify studies/{NAME} ",
    ):
        assert said in text, said
    plan = folder / "plan.toml"
    plan.write_text(re.sub(r"confirmatory = .*", "confirmatory = []", plan.read_text()))
    publish()
    assert "reproduces them. Everything in this study is exploratory.\n" in (folder / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_readme_counts_combinations_of_separate_seeds_and_their_subsets(
    tmp_path: Path, cells: tuple[Cell, Cell], cpu_execution: Execution
) -> None:
    study = Study(name=NAME, cells=cells[1:], seeds=nested_seeds(3, 2, 2))
    store, _ = fill_store(tmp_path / "store", study, cpu_execution)
    folder = write_plan(store, tmp_path)
    plan = folder / "plan.toml"
    plan.write_text(re.sub("seeds = [34]", "seeds = 12", plan.read_text()))
    assert main(["publish", str(folder), "--storage", store.location]) == 0
    assert "1 cell at 12 combinations of seeds (3 subsets): planned 12," in (folder / "README.md").read_text()


def remove_record(store: Store, folder: Path) -> None:
    Path(store.location, "stages", store.load_study(NAME).runs[0].key, "result.json").unlink()


def alter_predictions(store: Store, folder: Path) -> None:
    next(Path(store.location).glob("stages/*/predictions-*")).write_bytes(b"altered")


def register_another(store: Store, folder: Path) -> None:
    plan = folder / "plan.toml"
    plan.write_text(re.sub(r'(none" = )".*"', r'\1"0123456789ab"', plan.read_text()))


def plan_fewer_seeds(store: Store, folder: Path) -> None:
    plan = folder / "plan.toml"
    plan.write_text(
        plan.read_text().replace("seeds = 4", "seeds = 2").replace("least_seeds = 3", "least_seeds = 2")
    )


def ask_for_more_seeds(store: Store, folder: Path) -> None:
    plan = folder / "plan.toml"
    plan.write_text(plan.read_text().replace("least_seeds = 3", "least_seeds = 4"))


def confirm_unknown(store: Store, folder: Path) -> None:
    plan = folder / "plan.toml"
    plan.write_text(plan.read_text().replace('"H2"', '"H99"'))


def lose_the_plan(store: Store, folder: Path) -> None:
    (folder / "plan.toml").unlink()


def forget_the_study(store: Store, folder: Path) -> None:
    Path(store.location, "studies", f"{NAME}.json").unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (remove_record, "1 of 6 planned runs has no result"),
        (alter_predictions, "does not have the sha256 that its record states"),
        (register_another, "configured otherwise: fashion_mnist_mini small 1/2 none"),
        (plan_fewer_seeds, "has 3 seeds, and pilot/plan.toml registers 2 to 2"),
        (ask_for_more_seeds, "has 3 seeds, and pilot/plan.toml registers 4 to 4"),
        (confirm_unknown, "unknown confirmatory 'H99'; known: claims of the paper, H1"),
        (lose_the_plan, "plan.toml cannot be read"),
        (forget_the_study, "no study 'pilot'"),
    ],
)
@pytest.mark.usefixtures("unprinted_figures")
def test_what_is_not_whole_or_not_planned_is_not_published(
    harm: Callable[[Store, Path], None], words: str, publish: Publish, folder: Path, store: Store
) -> None:
    harm(store, folder)
    before = read_files(folder)
    code, _, err = publish()
    assert code == 2 and words in err and err.count("\n") == 1 and ".publishing" not in err
    assert read_files(folder) == before
    if harm in (remove_record, ask_for_more_seeds):
        assert publish("--partial")[0] == 0
        text = (folder / "README.md").read_text()
        has_gap = harm is remove_record
        assert ("--partial\n" in text) == has_gap and "plan.toml --seeds 3 --storage again" in text
        says = "3 seeds, and this has 2." if has_gap else "4 seeds, and this has 3."
        assert f"**Interim.** The stopping rule asks for at least {says}" in text
        assert ("**Incomplete.** 2 of 3 seeds have the results" in text) == has_gap


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dataset", "mnist"], "--dataset is the path of images of your own that stages learned from"),
        *(
            ([flag, *value], "are for images of your own, with --dataset PATH; leave them out")
            for flag, value in {
                "--image-size": ["16"],
                "--grey": [],
                "--test-fraction": ["0.2"],
                "--validation-fraction": ["0.1"],
                "--relabel": [],
            }.items()
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_images_of_ones_own_act_or_are_refused(
    options: list[str], words: str, publish: Publish, folder: Path
) -> None:
    code, _, err = publish(*options)
    assert code == 2 and words in err and list(folder.iterdir()) == [folder / "plan.toml"]


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_images_that_the_study_did_not_use_change_nothing(publish: Publish, tmp_path: Path) -> None:
    images = write_folder(tmp_path / "pets", draw_images())
    code, _, err = publish("--dataset", str(images))
    assert code == 0 and "--dataset changes nothing: images@" in err


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_study_that_a_repository_should_not_hold_is_refused(
    publish: Publish, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most, words in ((1000, "the archive alone"), (60_000, f"{NAME} would have")):
        monkeypatch.setattr(command, "MOST_BYTES", most)
        monkeypatch.setattr(archive, "MOST_BYTES", most)
        code, _, err = publish()
        assert code == 2 and words in err and "publish it as several studies" in err
    assert list(folder.iterdir()) == [folder / "plan.toml"]


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_real_images_of_ones_own_are_not_published(
    publish: Publish, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def list_roles() -> set[str]:
        published = open_store(str(folder), None, create=False, is_read_only=True)
        assert published is not None
        held = {path.split("/")[2].partition("-")[0] for path in list_names(folder) if path.count("/") == 2}
        assert held.isdisjoint(published.left_out)
        return held

    assert publish()[0] == 0 and "samples" in list_roles()
    assert list(folder.glob("report/figures/f8-[ns]*"))
    assert "--dataset" not in (folder / "README.md").read_text()
    monkeypatch.setattr(command, "is_own_name", lambda name: True)
    assert publish()[0] == 0 and "samples" not in list_roles()
    readme = (folder / "README.md").read_text()
    assert " --dataset PATH" in readme and "\nThe images, fashion\\_mnist\\_mini, are not part of" in readme
    assert not list(folder.glob("report/figures/f8-[ns]*"))
    assert main(["show", str(folder)]) == 0 and analyse([str(folder), "--out", str(folder.parent / "x")]) == 0


def list_names(folder: Path) -> list[str]:
    with zipfile.ZipFile(folder / "store.zip") as file:
        return file.namelist()


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_published_failure_names_no_directory(publish: Publish, folder: Path, store: Store) -> None:
    key = store.load_study(NAME).runs[0].key
    record = store.read_record(key)
    assert record is not None
    told = {
        "error": "no /home/me/z",
        "traceback": 'Traceback:\n  File "/home/me/x.py", line 1\n    it\'s at /home/me/y',
    }
    store.note_error(Failure(key=key, kind=record.kind, stage=record.stage, provenance={}, **told))
    assert publish()[0] == 0
    (name,) = [each for each in list_names(folder) if "/errors/" in each]
    with zipfile.ZipFile(folder / "store.zip") as file:
        failure = Failure.from_json(file.read(name))
    assert failure.error == "no z"
    assert failure.traceback == 'Traceback:\n  File "x.py", line 1\n    it\'s at y'


def register(store: Store, folder: Path, *, least_seeds: int) -> StudyDocument:
    """Let the store hold the plan of its study, as a sweep does, with another minimum of seeds."""
    plan = folder / "plan.toml"
    plan.write_text(plan.read_text().replace("least_seeds = 3", f"least_seeds = {least_seeds}"))
    registered = read_plan(str(plan)).registered
    store.write_study(dataclasses.replace(store.load_study(NAME), registered=registered))
    return store.load_study(NAME)


def lose(store: Store, *, seeds: Iterable[int]) -> None:
    """Remove the results of runs with a generator at some seeds, and of their generators."""
    for run in store.load_study(NAME).runs:
        if run.seed in seeds and run.generator_key is not None:
            for key in run.keys:
                (Path(store.location) / "stages" / key / "result.json").unlink(missing_ok=True)


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_unfinished_seed_is_kept_and_not_counted(
    publish: Publish, folder: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = register(store, folder, least_seeds=2)
    two = tuple(run for run in document.runs if run.seed < 2)
    store.write_study(dataclasses.replace(document, runs=two))
    assert publish()[0] == 0
    before = read_files(folder / "report")

    store.write_study(document)
    lose(store, seeds=[2])
    code, out, _ = publish()
    told = "ot counted while runs are missing: seed 2 (1 of 2 runs have ended)"
    assert code == 0 and f"note: n{told}" in out and "not read" not in out
    assert json.loads(publish("--json")[1])["unfinished_seeds"] == [2]
    text = (folder / "README.md").read_text()
    assert "**Not counted: seed 2.** The report" in text
    assert "Interim" not in text and "Incomplete" not in text
    example = re.findall(r"verify studies/pilot (\w+)", text)[0]
    assert example in {key[:12] for run in two for key in run.keys}
    assert "2 cells at 3 seeds: planned 6, complete 5, failed 0, diverged 0, missing 1" in text
    assert "--partial" not in text and "plan.toml --seeds 2 --storage again" in text
    after = read_files(folder / "report")
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert changed == {"index.html", "tables/t6-completeness.md", "tables/t6-completeness.tex"}
    assert told in after["index.html"].decode()
    assert analyse([str(folder), "--out", str(tmp_path / "again")]) == 0
    assert read_files(tmp_path / "again") == after

    with zipfile.ZipFile(folder / "store.zip") as file:
        file.extractall(tmp_path / "copy")
    copy = open_store(str(tmp_path / "copy"), RESULTS_VERSION, create=False)
    assert copy is not None and copy.load_study(NAME) == document
    cgan_2 = document.runs[-1]
    assert cgan_2.seed == 2 and cgan_2.generator_key is not None
    ledger = Ledger(plan_from_description(copy.load_study(NAME)), copy)
    assert {*ledger.pending()} == {cgan_2.key, cgan_2.generator_key}
    capsys.readouterr()
    assert main(["gc", str(tmp_path / "copy"), "--orphans", "--dry-run"]) == 0
    assert "nothing owns" not in capsys.readouterr().out


def end_generator(store: Store, *, seed: int, failure: str = "") -> None:
    """Let the generator of a seed have diverged, or failed for a cause, and so its classifier never run."""
    lose(store, seeds=[seed])
    document = store.load_study(NAME)
    plan = plan_from_description(document)
    (key,) = {run.generator_key for run in document.runs if run.seed == seed} - {None}
    assert key is not None
    if not failure:
        store.commit(make_up(plan.stages[key], state="diverged"))
        return
    stage = plan.stages[key]
    told = {"error": "ended", "traceback": "", "cause": failure}
    store.mark_failed(Failure(key=key, kind=stage.kind, stage=stage.to_dict(), provenance={}, **told))


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
@pytest.mark.parametrize("failure", ["", NOT_APPLICABLE])
def test_run_whose_generator_has_no_result_has_ended(
    failure: str, publish: Publish, folder: Path, store: Store
) -> None:
    register(store, folder, least_seeds=3)
    end_generator(store, seed=2, failure=failure)
    code, out, err = publish()
    assert code == 0, err
    text = (folder / "README.md").read_text()
    assert "not counted" not in out and "Not counted" not in text and "Interim" not in text
    assert "Incomplete" not in text and "--partial" not in text


def test_failed_generator_of_the_last_seed_is_a_gap(publish: Publish, folder: Path, store: Store) -> None:
    register(store, folder, least_seeds=2)
    end_generator(store, seed=2, failure="unknown")
    code, _, err = publish()
    assert code == 2 and "1 of 6 planned runs has no result: " in err and "seed 2 (failed)" in err


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_without_a_whole_first_seed_all_are_counted(publish: Publish, folder: Path, store: Store) -> None:
    register(store, folder, least_seeds=2)
    lose(store, seeds=[0, 1, 2])
    code, _, err = publish()
    assert code == 2 and "3 of 6 planned runs have no result" in err
    assert publish("--partial")[0] == 0
    text = (folder / "README.md").read_text()
    assert "planned 6, complete 3, failed 0, diverged 0, missing 3" in text and "Not counted" not in text
    assert "**Incomplete.** 0 of 3 seeds have the results" in text


def test_seed_with_a_damaged_record_is_protected_as_whole(store: Store) -> None:
    document = store.load_study(NAME)
    lose(store, seeds=[1])
    store.files.replace(f"stages/{document.runs[0].key}/result.json", b"{")
    assert document.runs[0].seed == 0
    assert list_whole_seeds(document, store) == [(0, 0, 0), (2, 2, 2)]


def test_too_few_finished_seeds_are_refused(publish: Publish, folder: Path, store: Store) -> None:
    register(store, folder, least_seeds=3)
    lose(store, seeds=[2])
    code, _, err = publish()
    assert code == 2 and "study pilot has 2 finished seeds, and pilot/plan.toml registers 3 to 4" in err
    assert "publish --partial publishes fewer as an interim state" in err
    assert list(folder.iterdir()) == [folder / "plan.toml"]


def test_study_without_any_result_is_not_published(publish: Publish, folder: Path, store: Store) -> None:
    for record in Path(store.location).glob("stages/*/result.json"):
        record.unlink()
    code, _, err = publish("--partial")
    assert code == 2 and "has no result of study pilot yet; run its sweep first" in err


def test_damaged_error_is_named(publish: Publish, store: Store) -> None:
    path = f"stages/{store.load_study(NAME).runs[0].key}/errors/a.json"
    store.files.replace(path, b'{"x"')
    code, _, err = publish()
    assert code == 2 and f"{path} is damaged" in err and "move it away" in err


def test_search_that_only_another_store_has_is_named(publish: Publish, store: Store) -> None:
    document = store.load_study(NAME)
    values: dict[str, object] = {"learning_rate": 0.001}
    tuning = {"cell": 0, "search": "tuned", "method": "none", "num_trials": 2, "num_seeds": 1}
    told = {"tunings": (tuning | {"values": values, "untuned": values},)}
    store.write_study(dataclasses.replace(document, **told))
    code, _, err = publish()
    assert code == 2 and "lacks search tuned" in err and "copy searches/tuned from" in err


@pytest.mark.parametrize("name", ["README.md", "report/notes.txt", "store.zip"])
def test_what_was_not_published_is_not_replaced(name: str, publish: Publish, folder: Path) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    before = read_files(folder)
    code, _, err = publish()
    assert code == 2 and f"{name} is not as it was published" in err and "move it away" in err
    assert read_files(folder) == before


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_reading_commands_write_nothing_into_a_published_study(
    publish: Publish,
    folder: Path,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert publish()[0] == 0
    before = read_files(folder)
    monkeypatch.chdir(folder)
    for call in (
        lambda: analyse(["."]),
        lambda: analyse([str(folder), "--out", str(folder / "report")]),
        lambda: analyse([store.location, "--out", str(folder / "report")]),
        lambda: analyse([store.location, "--out", str(folder / "new" / "x")]),
        lambda: main(["export", str(folder), "--to", "csv", "--out", str(folder)]),
        lambda: main(["export", store.location, "--to", "csv", "--out", str(folder / "new")]),
    ):
        assert call() == 2 and capsys.readouterr().err.count("\n") == 1
    assert read_files(folder) == before
    elsewhere = folder.parent / "mine" / "x"
    elsewhere.mkdir(parents=True)
    (elsewhere.parent / "store.zip").write_bytes(b"somebody's own archive")
    assert main(["export", store.location, "--to", "csv", "--out", str(elsewhere / "csv")]) == 0
    assert analyse([store.location, "--out", str(elsewhere / "report")]) == 0


@pytest.mark.slow
def test_study_is_registered_run_published_and_verified_on_real_ray(tmp_path: Path) -> None:
    folder = tmp_path / "studies" / "pilot"
    folder.mkdir(parents=True)
    arguments = "--preset quick --c 1/2 --methods none cgan --generators small_mlp_cgan_leaky --device cpu"
    arguments += " --precision float32 --steps 20 --generator-steps 20"
    plan = PLAN.replace('["--preset", "quick"]', json.dumps(arguments.split()))
    plan = plan.replace("least_seeds = 3", "least_seeds = 1").replace("seeds = 4", "seeds = 1")
    (folder / "plan.toml").write_text(plan)

    def call(*command: str) -> str:
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    sweep = [str(ROOT / "sweeps" / "full_grid.py"), "--plan-file", "studies/pilot/plan.toml"]
    call(*sweep, "--register")
    assert "for twice the seeds" not in call(*sweep, "--storage", "store"), "no more are registered"
    look = ["-c", "import sys; from lt_rebalance.cli.main import main; sys.exit(main())"]
    call(*look, "publish", "studies/pilot", "--storage", "store")
    shutil.rmtree(tmp_path / "store")
    call("-m", "analysis", "studies/pilot", "--out", "again")
    assert read_files(tmp_path / "again") == read_files(folder / "report")
    study = open_store(str(folder), None, create=False, is_read_only=True)
    assert study is not None
    page = (folder / "report" / "index.html").read_text()
    assert "Before the first run: the contrasts of “claims of the paper” and H2. Everything else" in page
    assert "not tested (registered)" in page and "not tested (exploratory)" in page
    key = next(run.key for run in study.load_study("pilot").runs if run.generator_key is not None)
    assert "equal, bit for bit" in call(*look, "verify", "studies/pilot", key[:12])
    assert "| done |" in (folder / "README.md").read_text()
