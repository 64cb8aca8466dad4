"""What a plan registers is what is run: a sweep takes its options from it, and refuses other cells."""

import dataclasses
import functools
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from lt_rebalance.commands import running
from lt_rebalance.registration.cells import describe_difference, register_cells
from lt_rebalance.registration.study_plan import (
    StudyPlan,
    read_plan,
    require_registered,
)
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.lease import Lease
from lt_rebalance.store.records import Failure
from lt_rebalance.store.study_document import StudyDocument
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import torch_version
from tests.commands.test_option_contract import load_sweep
from tests.made_up import make_study, make_up

ROOT = Path(__file__).parents[2]
PLAN = """
question = "Does it help?"
sweep = "full_grid.py"
arguments = ["--c", "1/2", "--methods", "none", "undersample", "--steps", "100"]
seeds = 4
least_seeds = 2
stopping = "after four seeds"
confirmatory = ["H4"]
"""
CHANGE = """
[[changes]]
date = 2026-12-01
what = "fewer steps"
why = "time"
arguments = ["--c", "1/2", "--methods", "none", "--steps", "50"]
seeds = 3
dropped = ["fashion_mnist_mini sound 1/2 undersample"]
"""

EARLIER, LATER = ({"date": f"2026-12-0{day}", "what": f"change {day}", "why": "time"} for day in (1, 2))

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the file of a plan without cells, of a study named pilot."""
    path = tmp_path / "pilot" / "plan.toml"
    path.parent.mkdir()
    path.write_text(PLAN)
    return path


@pytest.fixture
def run(path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return what runs the sweep of the plan, and returns its exit code and what it says."""
    monkeypatch.chdir(path.parent)

    def run_(*options: str, sweep: str = "full_grid") -> tuple[int, str, str]:
        capsys.readouterr()
        code = load_sweep(sweep)[1](["--plan-file", str(path), *options])
        return (code, *capsys.readouterr())

    return run_


def test_cells_are_registered_once_and_then_planned(path: Path, run: Run) -> None:
    assert run("--plan")[0] == 2 and "registers no cells yet" in run("--plan")[2]
    assert run("--register")[0] == 0
    written = path.read_text()
    cells = tomllib.loads(written)["cells"]
    assert list(cells) == ["fashion_mnist_mini sound 1/2 none", "fashion_mnist_mini sound 1/2 undersample"]
    code, out, _ = run("--plan")
    assert code == 0 and out.startswith("pilot: planned=8 ")
    assert run("--plan", "--seeds", "1")[1].startswith("pilot: planned=2 ")
    assert run("--register")[0] == 0 and path.read_text() == written


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--steps", "50"], "configured otherwise: fashion_mnist_mini sound 1/2 none, fashion_mnist_mini"),
        (["--methods", "none"], "registered and missing: fashion_mnist_mini sound 1/2 undersample;"),
        (
            ["--methods", "none", "undersample", "focal"],
            "not registered: fashion_mnist_mini sound 1/2 focal;",
        ),
        (["--seeds", "5"], "has 5 seeds, and pilot/plan.toml registers 1 to 4"),
        (["--name", "other"], "--name other is not the folder"),
    ],
)
def test_what_the_plan_does_not_register_is_refused(options: list[str], words: str, run: Run) -> None:
    run("--register")
    for instead in (["--plan"], []):
        code, _, err = run(*options, *instead)
        assert code == 2 and words in err and err.count("\n") == 1
    assert not Path("results").exists()


def test_plan_of_another_sweep_and_register_without_a_plan_are_refused(path: Path, run: Run) -> None:
    code, _, err = run("--plan", sweep="ablate_loss")
    assert code == 2 and "is of full_grid.py, and this is ablate_loss.py" in err
    assert load_sweep("full_grid")[1](["--register"]) == 2


def test_sweep_whose_seeds_are_counted_by_source_is_planned(path: Path, run: Run) -> None:
    counts = '"--subsets", "3", "--cgans", "2", "--classifiers", "2"'
    text = PLAN.replace("full_grid", "nested_seeds").replace("seeds = 4", "seeds = 12")
    path.write_text(text.replace('"--methods", "none", "undersample"', counts))
    assert run("--register", sweep="nested_seeds")[0] == 0
    code, out, _ = run("--plan", sweep="nested_seeds")
    assert code == 0 and out.startswith("pilot: planned=12 ")
    code, _, err = run("--plan", "--subsets", "4", sweep="nested_seeds")
    assert code == 2 and "has 16 seeds, and pilot/plan.toml registers 1 to 12" in err
    code, _, err = run("--plan", "--subsets", "2", "--cgans", "3", sweep="nested_seeds")
    assert code == 2 and "pilot/plan.toml registers --subsets 3, got 2; leave it out" in err


def test_register_shows_the_change_that_has_to_be_listed(path: Path, run: Run) -> None:
    run("--register")
    before = path.read_text()
    changed = ["--methods", "none", "oversample"]
    code, out, _ = run("--register", *changed)
    assert code == 1 and path.read_text() == before
    assert 'dropped = ["fashion_mnist_mini sound 1/2 undersample"]' in out
    arguments = ["--c", "1/2", *changed, "--steps", "100"]
    path.write_text(f"{before}\n{out}".replace('why = ""', f'why = "it is"\narguments = {arguments}'))
    assert run("--plan")[0] == 0


def test_change_counts_over_what_was_planned(path: Path, run: Run) -> None:
    run("--register")
    path.write_text(path.read_text() + CHANGE)
    plan = read_plan(str(path))
    assert (plan.seeds, plan.least_seeds, len(plan.changes)) == (3, 2, 1)
    assert list(plan.cells) == ["fashion_mnist_mini sound 1/2 none"]
    assert plan.arguments[-1] == "50"
    code, _, err = run("--plan")  # with its steps, the cell is another
    assert code == 2 and "configured otherwise: fashion_mnist_mini sound 1/2 none;" in err


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('sweep = "full_grid.py"', 'sweep = "../x.py"', "sweep must be a plain file name"),
        ("seeds = 4", "seeds = 0", "seeds must be a whole number"),
        ("least_seeds = 2", "least_seeds = 5", "least_seeds must be at most seeds, got 5 and 4"),
        ("question", "asks", "'question'"),
        ("stopping =", "stopping =\n", "is not a TOML file"),
        ("seeds = 4", "seeds = 4\nchanges = 1", "changes must be a list"),
        ('"100"]', '"100", "--stepz", "3"]', "plan.toml: unrecognized arguments: --stepz 3"),
        ('"H4"', '"H4", "R2", "H99"', "unknown confirmatory 'H99'; known: claims of the paper, H1, "),
        ('confirmatory = ["H4"]', CHANGE, "drops 'fashion_mnist_mini sound 1/2 undersample', which is not"),
        ('confirmatory = ["H4"]', CHANGE.replace("why", "reason"), "changes.0 must be an object with 'why'"),
    ],
)
def test_plan_that_is_none_is_refused_in_one_line(
    old: str, new: str, words: str, path: Path, run: Run
) -> None:
    path.write_text(PLAN.replace(old, new, 1))
    code, _, err = run("--plan")
    assert code == 2 and words in err and err.count("\n") == 1


def test_missing_plan_is_refused(path: Path, run: Run) -> None:
    path.unlink()
    assert run("--plan")[0] == 2


def make_plan(document: StudyDocument, **changes: object) -> StudyPlan:
    values = {
        "name": document.name,
        **dict.fromkeys(("question", "sweep", "stopping"), "x"),
        **dict.fromkeys(("arguments", "confirmatory", "changes"), ()),
        "registered": {"changes": []},
        "seeds": 3,
        "least_seeds": 2,
        "cells": register_cells(document.cells),
    }
    return StudyPlan(**values | changes)  # type: ignore[arg-type]


def test_what_a_store_holds_is_held_against_the_plan() -> None:
    document = make_study("pilot")  # of one cell at two seeds
    require_registered(make_plan(document), document)
    for changes, words in (
        (
            {"least_seeds": 3},
            "has 2 seeds, and pilot/plan.toml registers 3 to 3;.* --partial ",
        ),
        ({"seeds": 1, "least_seeds": 1}, "registers 1 to 1"),
        ({"cells": {"a": "b"}}, "not registered: fashion_mnist_mini sound 1/2 undersample"),
    ):
        with pytest.raises(ValueError, match=words):
            require_registered(make_plan(document, **changes), document)
    require_registered(make_plan(document, least_seeds=3), document, is_partial=True)
    with pytest.raises(ValueError, match="registers 1 to 1"):
        require_registered(make_plan(document, seeds=1, least_seeds=1), document, is_partial=True)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ({"confirmatory": ("H1", "H9")}, r"confirmatory = \[H1, H4\], and pilot/plan.toml has \[H1, H9\]"),
        ({"changes": ()}, "number 1 is altered or gone in pilot/plan.toml"),
        ({"changes": (LATER, EARLIER)}, "restore it, and append what is new"),
    ],
)
def test_older_documents_keep_what_is_judged_and_what_was_changed(now: dict[str, object], words: str) -> None:
    plan = make_plan(make_study("pilot"), confirmatory=("H1", "H4"), changes=(EARLIER,))
    document = dataclasses.replace(
        make_study("pilot"), confirmatory=plan.confirmatory, changes=plan.say_changes()
    )
    require_registered(dataclasses.replace(plan, changes=(EARLIER, LATER)), document)
    with pytest.raises(ValueError, match=words):
        require_registered(dataclasses.replace(plan, **now), document)
    with pytest.raises(ValueError, match=r"run with confirmatory = \[\], and"):  # nobody registered it
        require_registered(plan, dataclasses.replace(document, confirmatory=()))


@pytest.fixture
def began(path: Path, run: Run) -> Store:
    """Return the store of the registered study, which one sweep began: no run is finished."""
    run("--register")
    path.write_text(path.read_text() + STEPS)
    store = open_store("results", RESULTS_VERSION, create=True)
    assert store is not None
    plan = read_plan(str(path))
    told = {"confirmatory": plan.confirmatory, "changes": plan.say_changes(), "registered": plan.registered}
    store.write_study(dataclasses.replace(make_study("pilot"), **told))
    return store


STEPS = """
[[changes]]
date = 2026-12-02
what = "no more than planned"
why = "it is"
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"H4"', '"H4", "R2"', "run with confirmatory = [H4], and pilot/plan.toml has [H4, R2]"),
        ("least_seeds = 2", "least_seeds = 1", "differs in least_seeds from the plan with which"),
        ("after four", "after some", "differs in stopping from the plan"),
        ("seeds = 4\nleast_seeds = 2\n", "seeds = 4\n", "differs in least_seeds from"),
        ("no more than", "as", "number 1 is altered or gone in pilot/plan.toml"),
        (STEPS, "", "number 1 is altered or gone in pilot/plan.toml"),
        ('why = "it is"', 'why = "it is"\nleast_seeds = 1', "number 1 is altered or gone in pilot/plan.toml"),
        (
            'why = "it is"',
            'why = "it is"' + STEPS + 'confirmatory = ["H1"]',
            "has [H1]; what is confirmatory can only",
        ),
    ],
)
def test_plan_stays_as_it_was_when_its_study_began(
    old: str, new: str, words: str, began: Store, path: Path, run: Run
) -> None:
    assert run("--plan")[0] == 0
    before = began.load_study("pilot")
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    for options in (["--plan"], []):
        code, _, err = run(*options, "--device", "cpu", "--precision", "float32")
        assert code == 2 and words in err and err.count("\n") == 1
    assert began.load_study("pilot") == before


def test_plan_of_a_study_that_began_takes_further_changes(began: Store, path: Path, run: Run) -> None:
    path.write_text(path.read_text() + STEPS + "seeds = 3\n")
    assert run("--plan")[1].startswith("pilot: planned=6 ")


def test_registered_study_is_not_replaced_by_a_sweep_without_its_plan(
    began: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = load_sweep("full_grid")[1]
    given = ["--c", "1/2", "--methods", "none", "--steps", "100", "--plan", "--name"]
    assert sweep([*given, "pilot"]) == 2
    assert "is preregistered, and runs with --plan-file alone" in capsys.readouterr().err
    assert sweep([*given, "another"]) == 0


# Another sweep that is faster to the lease

Sweep = Callable[[], int]


@pytest.fixture
def sweep_after(without_ray: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sweep, Sweep], int]:
    """Return what runs a sweep that has read the store, and gets the lease when another sweep has ended."""
    enter = Lease.__enter__

    def sweep_after_(first: Sweep, second: Sweep) -> int:
        def wait(lease: Lease) -> Lease:
            patch.undo()
            assert first() == 0
            monkeypatch.setattr(running, "run_plan", lambda *_: pytest.fail("it trains"))
            return enter(lease)

        with monkeypatch.context() as patch:
            patch.setattr(Lease, "__enter__", wait)
            return second()

    return sweep_after_


UNPLANNED = ["--c", "1/2", "--methods", "none", "--seeds", "1", "--steps", "2", "--name", "pilot"]


def test_sweep_does_not_run_what_another_has_finished_before_it_got_the_lease(
    sweep_after: Callable[[Sweep, Sweep], int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = functools.partial(load_sweep("full_grid")[1], UNPLANNED)
    assert sweep_after(sweep, sweep) == 0
    assert capsys.readouterr().out.count("planned=1 complete=1 failed=0 diverged=0 missing=0") == 2


def test_study_that_another_sweep_has_registered_before_the_lease_was_taken_is_not_replaced(
    sweep_after: Callable[[Sweep, Sweep], int], path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_text(PLAN.replace('"100"', '"2"').replace('"none", "undersample"', '"none"'))
    run("--register")
    sweep = functools.partial(load_sweep("full_grid")[1], [*UNPLANNED[:-3], "3", "--name", "pilot"])
    assert sweep_after(lambda: run("--seeds", "1")[0], sweep) == 2
    assert "is preregistered, and runs with --plan-file alone" in capsys.readouterr().err
    store = open_store("results", RESULTS_VERSION, create=False)
    assert store is not None and store.load_study("pilot").confirmatory == ("H4",)


def test_less_can_be_confirmatory_after_the_first_run(began: Store, path: Path, run: Run) -> None:
    path.write_text(path.read_text() + STEPS + "confirmatory = []\n")
    assert run("--plan")[0] == 0


def test_whole_seed_is_neither_left_out_nor_repeated(began: Store, run: Run) -> None:
    cell = make_cell(
        get_protocol("sound"), dataset="fashion_mnist_mini", c="1/2", method="none", generator=None
    )
    execution = Execution(device="cpu", precision="float32", num_threads=1, torch_version=torch_version())
    plan = compile_study(Study(name="pilot", cells=(cell,), seeds=(0, 1)), execution)
    told = began.load_study("pilot")
    kept = {each: getattr(told, each) for each in ("confirmatory", "changes", "registered")}
    began.write_study(dataclasses.replace(describe_plan(plan), **kept))
    first, second = (each.stage for each in plan.runs)
    began.commit(make_up(first))
    failure = {"key": second.key, "kind": "classifier", "stage": second.to_dict(), "error": "x"}
    began.mark_failed(Failure(**failure, traceback="", provenance={}))  # it failed
    how = ["--plan", "--device", "cpu", "--precision"]
    assert run(*how, "float32", "--seeds", "1")[0] == 0
    code, _, err = run(*how, "bfloat16")
    assert code == 2 and "seed 0 of study pilot is complete, with precision float32, now bfloat16" in err
    began.commit(make_up(second))
    code, _, err = run(*how, "float32", "--seeds", "1")
    assert code == 2 and "seed 1 of study pilot is complete, and 1 seed would leave it out" in err
    assert run(*how, "float32", "--seeds", "2")[0] == 0


def test_what_the_plan_says_of_the_device_is_kept(path: Path, run: Run) -> None:
    path.write_text(PLAN.replace('"100"]', '"100", "--precision", "float32", "--threads=1"]'))
    assert run("--register", "--precision", "float32")[0] == 0
    for given in (["--precision", "bfloat16"], ["--threads", "2"]):
        code, _, err = run("--plan", *given)
        assert code == 2 and f"pilot/plan.toml registers {given[0]} " in err and "leave it out" in err
    assert run("--plan", "--device", "cpu")[0] == 0  # of which the plan says nothing


def test_register_writes_nothing_where_it_only_shows_and_into_no_second_table(path: Path, run: Run) -> None:
    assert run("--register", "--plan")[0] == 2 and path.read_text() == PLAN
    path.write_text(PLAN + "\n[cells]\n")
    code, out, _ = run("--register")
    assert code == 1 and "registers other cells" in out and path.read_text() == PLAN + "\n[cells]\n"


def test_difference_names_some_of_many_cells() -> None:
    cells = {f"c{n}": "0" for n in range(8)}
    assert describe_difference(cells, cells) == ""
    assert describe_difference({}, cells) == "not registered: c0, c1, c2, c3, c4 and 3 more"


IMAGES = 'data/[^"]+'
"""in a plan: a file of images that are not part of this repository"""
PLANS = [
    pytest.param(
        path,
        id=path.parent.name,
        marks=[pytest.mark.slow] if re.search(IMAGES, path.read_text(encoding="utf-8")) else [],
    )
    for path in sorted((ROOT / "studies").glob("*/plan.toml"))
]


@pytest.mark.parametrize("plan", PLANS)
def test_code_still_plans_what_the_studies_of_this_repository_register(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registered = read_plan(str(plan))
    if images := [each for each in registered.arguments if re.fullmatch(IMAGES, each)]:
        (tmp_path / "data").symlink_to(os.environ.get("LT_REBALANCE_DATA_DIR", ROOT / "data"))
        monkeypatch.chdir(tmp_path)
        if not Path(images[0]).exists():
            pytest.skip(f"{images[0]} is not here")
    run = load_sweep(registered.sweep.removesuffix(".py"))[1]
    assert run(["--plan-file", str(plan), "--register"]) == 0
    assert "cells, as this code plans them" in capsys.readouterr().out
