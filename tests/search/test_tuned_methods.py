"""Searches of methods: each over its own space, with equal budgets, and what a study takes from them."""

import argparse
import dataclasses
import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.collect import read_results
from analysis.methods import methods_frame
from analysis.tables.methods import methods_tables
from lt_rebalance.commands import searches as searches_command
from lt_rebalance.commands import sweep
from lt_rebalance.commands.search import change_base
from lt_rebalance.ground.own_file import resolve
from lt_rebalance.methods.domains import Choice, Range, domains_of, searched
from lt_rebalance.methods.registry import METHODS, get_method
from lt_rebalance.search.account import RungResult, SearchBudget, Trial
from lt_rebalance.search.files import best_toml, make_account
from lt_rebalance.search.search import Search, set_values
from lt_rebalance.store import Store, StoreError, open_store
from lt_rebalance.studies.overrides import change_cell, change_study, read_overrides
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, RepresentationStage, ValidationStage
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Budget, Execution
from sweeps import compare_methods, tune_methods
from tests.analysis.synthetic import make_store

ASKED = ["--steps", "100", "--methods", "undersample", "focal", "crt"]
OWN = """
from dataclasses import dataclass
from lt_rebalance.methods.contract import Method
from lt_rebalance.methods.domains import Range, searched

@dataclass(frozen=True, kw_only=True)
class Options:
    heat: float = searched(1.0, Range(low=0.5, high=2.0, unit="factor"))
    kept: int = 3

def loss(logits_LBK, labels_LB, counts_LK, progress, options):
    from torch.nn import functional
    return functional.cross_entropy(options.heat * logits_LBK.transpose(1, 2), labels_LB, reduction="none")

heated = Method(description="heat", options=Options, loss=loss)
"""


def build(execution: Execution, *arguments: str) -> dict[str, Search]:
    options = tune_methods.make_methods_parser().parse_args(arguments)
    return {each.base.method_label: each for each in tune_methods.build_searches(options, execution)}


def run(*arguments: str) -> int:
    parser, build_all = tune_methods.make_methods_parser(), tune_methods.build_searches
    cpu = ["--device", "cpu", "--precision", "float32"]
    return searches_command.main(parser, build_all, tune_methods.say_next, [*cpu, *arguments])


def ask(*arguments: str) -> argparse.Namespace:
    return compare_methods.make_methods_parser().parse_args(arguments)


# Spaces


@pytest.mark.parametrize("name", METHODS)
def test_every_option_of_every_method_has_a_domain_that_the_method_takes(name: str) -> None:
    options: Any = get_method(name).options
    domains = domains_of(options)
    known = {field.name for field in dataclasses.fields(options)} if options else set()
    # A flip is a user's to allow; the size and the steps of an autoencoder are what it costs.
    assert set(domains) == known - {"flip", "steps", "num_features", "width"}
    for option, domain in domains.items():
        ends = domain.values if isinstance(domain, Choice) else (domain.low, domain.high)
        for value in ends:
            options(**{option: value})  # which checks itself


def test_default_outside_of_its_domain_is_refused() -> None:
    with pytest.raises(ValueError, match="a default must be one of the values that are searched, 0 to 1; x"):
        searched(2.0, Range(low=0, high=1, unit="x"))


def test_learning_rate_is_in_every_space_and_steps_in_that_of_undersampling(cpu_execution: Execution) -> None:
    searches = build(cpu_execution, "--steps", "96", "--methods", "undersample", "remix", "cgan")
    assert list(searches) == ["none", "oversample", "undersample", "remix", "mlp_cgan_relu"]
    assert all("classifier.learning_rate" in search.space for search in searches.values())
    steps = searches["undersample"].space["classifier.budget.steps"]
    assert isinstance(steps, Choice) and steps.values == (6, 24, 96)
    options = {f"method.options.{name}" for name in ("alpha", "kappa", "tau")}
    assert set(searches["remix"].space) == {"classifier.learning_rate", *options}
    assert set(searches["mlp_cgan_relu"].space) == {"classifier.learning_rate", "generator.learning_rate"}
    assert set(searches["none"].space) == {"classifier.learning_rate"}


def test_option_that_a_users_own_method_declares_is_tuned(tmp_path: Path, cpu_execution: Execution) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    search = build(cpu_execution, "--methods", f"{tmp_path}/mine.py:heated")[
        resolve(f"{tmp_path}/mine.py:heated")
    ]
    assert set(search.space) == {"classifier.learning_rate", "method.options.heat"}
    cell = search.cell({"classifier.learning_rate": 1e-3, "method.options.heat": 0.7})
    assert (cell.method.options.heat, cell.method.options.kept) == (0.7, 3)


DOMAIN = 'heat: float = searched(1.0, Range(low=0.5, high=2.0, unit="factor"))'


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        (
            'heat: int = searched(1, Range(low=1, high=8, unit="x"))',
            "mine.py:7: a Range is for options of type float, got Options.heat of type int; declare a Choice",
        ),
        (
            'heat: float = searched(1.0, Choice(values=("a", 1.0), unit="x"))',
            "mine.py:7: a trial may set method.options.heat to 'a', which is refused: method.options.heat "
            "must be a value of type float, got 'a'; cut its domain",
        ),
        (
            'heat: float = searched(1.0, Range(low=0, high=9, unit="x"))',
            "mine.py:7: a trial may set method.options.heat to 0.0, which is refused: it must be above 0; ",
        ),
        (
            'heat: float = searched(1.0, Range(low=0.0, high=float("inf"), unit="x"))',
            "mine.py:8: ValueError: a range needs low below high, both finite, got 0.0 and inf",
        ),
    ],
)
def test_domain_with_values_that_a_method_refuses_is_refused_before_any_work(
    domain: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imports = OWN.replace("import Range,", "import Choice, Range,").replace(
        "    kept",
        "    def __post_init__(self):\n        if self.heat <= 0:\n            "
        "raise ValueError('it must be above 0')\n    kept",
    )
    (tmp_path / "mine.py").write_text(imports.replace(DOMAIN, domain))
    assert run("--methods", f"{tmp_path}/mine.py:heated", "--plan") == 2
    shown = capsys.readouterr()
    assert (shown.out, said in shown.err, len(shown.err.splitlines())) == ("", True, 1), shown.err


@pytest.mark.parametrize("method", METHODS)
def test_every_value_of_the_space_of_a_method_is_possible(method: str, cpu_execution: Execution) -> None:
    for search in build(cpu_execution, "--steps", "400", "--methods", method).values():
        search.require_possible()


# Fields that are set


def test_options_and_generators_are_set_where_some_method_has_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = ["--plan", "--json", "--methods", "cgan", "focal"]
    given = ["--set", "generator.beta1=0.4", "--set", "method.options.gamma=1.0"]
    assert run(*plan, *given) == 0
    bases = [each["search"]["base"] for each in json.loads(capsys.readouterr().out)["searches"]]
    assert [base["generator"] and base["generator"]["beta1"] for base in bases] == [None, None, 0.4, None]
    assert bases[-1]["method"]["options"]["gamma"] == 1.0
    assert run(*plan, "--set", "method.options.nonsense=1") == 2
    assert "none of the methods has an option 'nonsense'; known: deferred, gamma" in capsys.readouterr().err


def test_length_of_trials_of_methods_is_set_by_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--plan", "--set", "classifier.budget.steps=60") == 2
    assert "budget.steps=60: the length of a trial is set by --steps" in capsys.readouterr().err


# Trials


def test_trial_of_a_method_has_its_values_and_no_others(cpu_execution: Execution) -> None:
    search = build(cpu_execution, *ASKED)["undersample"]
    (rung,) = search.ladder({"classifier.learning_rate": 2e-3, "classifier.budget.steps": 6})
    ((first, second),) = rung.groups
    assert isinstance(first, ValidationStage) and (first.seed, second.seed) == (1000, 1001)
    assert first.classifier.budget == Budget(steps=6, rounds=1) and first.classifier.learning_rate == 2e-3
    assert (
        dataclasses.replace(first.classifier, budget=Budget(steps=100, rounds=1), learning_rate=5e-4)
        == search.base.classifier
    )
    assert first.data.validation_per_class == 50


def test_first_training_of_a_method_with_two_comes_before_its_second(cpu_execution: Execution) -> None:
    search = build(cpu_execution, *ASKED)["crt"]
    (rung,) = search.ladder({"classifier.learning_rate": 2e-3, "method.options.budget_share": 0.5})
    firsts, seconds = rung.groups
    assert all(isinstance(stage, RepresentationStage) for stage in firsts)
    assert [stage.first_stage for stage in seconds] == list(firsts)
    assert {stage.classifier.learning_rate for stage in (*firsts, *seconds)} == {2e-3}
    assert {stage.classifier.budget.steps for stage in seconds} == {50}


def test_choice_can_be_taken_by_any_sweep(tmp_path: Path, cpu_execution: Execution) -> None:
    search = build(cpu_execution, *ASKED)["focal"]
    values = {
        "classifier.learning_rate": 2e-3,
        "method.options.deferred": 0.5,
        "method.options.gamma": 3.0,
    }
    path = tmp_path / "best.toml"
    path.write_text(best_toml(search, Trial(number=0, values=values, state="complete")))
    changed = change_cell(search.base, read_overrides(str(path), []))
    assert changed.unnamed() == set_values(search.base, values).unnamed()


# Equal budgets, and what a study takes


def trials_of(search: Search, count: int, rate: float) -> list[Trial]:
    """Return complete trials of which the last, whose learning rate is the largest, is the best."""
    return [
        Trial(
            number=number,
            values=dict(search.untuned) | {"classifier.learning_rate": rate * (number + 1)},
            state="complete",
            rungs=(
                RungResult(
                    round=1,
                    num_steps=100,
                    scores={"macro_f1": (0.1 * number, 0.1 * number)},
                    total_steps=200,
                    train_s=1.0,
                ),
            ),
        )
        for number in range(count)
    ]


def write(
    store: Store, searches: Sequence[Search], count: int = 2, budget: int = 2, rate: float = 5e-4
) -> None:
    for search in searches:
        trials = trials_of(search, count, rate)
        account = make_account(search, "Which?", SearchBudget(trials=budget), trials, {})
        store.write_search(search.name, account)


@pytest.fixture
def searches(cpu_execution: Execution) -> dict[str, Search]:
    return build(cpu_execution, *ASKED)


@pytest.fixture
def tuned(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "tuned"), RESULTS_VERSION, create=True)
    assert store is not None
    return store


def compare(store: Store, *arguments: str) -> Study:
    options = ask("--tuned", store.location, *ASKED, *arguments)
    study = change_study(compare_methods.build_study(options), read_overrides(options.config, options.set))
    return compare_methods.take_tuned(study, options)


def test_methods_are_compared_with_what_they_chose_on_fresh_seeds(
    tuned: Store, searches: dict[str, Search]
) -> None:
    write(tuned, list(searches.values()))
    untuned, study = compare_methods.build_study(ask(*ASKED)), compare(tuned)
    assert (untuned.name, study.name) == ("compare_methods-quick", "compare_methods-tuned-quick")
    assert study.comparisons == untuned.comparisons and not untuned.tunings
    for before, after, tuning in zip(untuned.cells, study.cells, study.tunings, strict=True):
        assert after.classifier.learning_rate == 1e-3 == 2 * before.classifier.learning_rate
        assert dataclasses.replace(after, classifier=before.classifier) == before
        assert (tuning["num_trials"], tuning["num_seeds"]) == (2, 2)
        assert tuning["method"] == before.method_label
        assert tuning["untuned"] == {"classifier.learning_rate": 5e-4}


def test_fields_that_were_set_for_the_searches_are_set_for_the_comparison_and_what_was_chosen_stays(
    tuned: Store, searches: dict[str, Search]
) -> None:
    """Through the command: it is what puts --config and --set before the choices."""
    given = ["--set", "classifier.architecture=resnet20", "--set", "classifier.learning_rate=0.002"]
    write(tuned, [change_base(each, read_overrides(None, given[1::2])) for each in searches.values()])
    with pytest.raises(
        ValueError, match=r"that differs in classifier\.architecture, classifier\.learning_rate;"
    ):
        compare(tuned)
    storage = ["--storage", str(Path(tuned.location).parent / "store")]
    line = ["--tuned", tuned.location, *ASKED, *given, *storage, "--device", "cpu", "--precision", "float32"]
    studies: list[Study] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "_prepare", lambda study, *_: studies.append(study) or (None, None))
        patch.setattr(sweep, "show_plan", lambda *_, **__: 0)
        patch.setattr(sys, "argv", ["sweeps/compare_methods.py", *line, "--plan"])
        with pytest.raises(SystemExit, match="0"):
            runpy.run_path(compare_methods.__file__, run_name="__main__")
    (study,) = studies
    assert {cell.classifier.architecture for cell in study.cells} == {"resnet20"}
    assert {cell.classifier.learning_rate for cell in study.cells} == {1e-3}


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["--methods", "focal:gamma=1.0", "--c", "7/9", "--seeds", "1"],
        ["--steps=30", "--profile", "exp", "--ratio", "10", "--methods", "undersample", "--trials", "2"],
        ["--set", "classifier.architecture=resnet20", "--name", "mine", "--methods", "focal"],
        ["--methods", "cgan", "--generators", "cdcgan", "--generator-steps", "7"],
    ],
    ids=" ".join,
)
def test_command_that_searches_end_with_compares_their_choices(
    line: list[str], tuned: Store, cpu_execution: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that is printed, with its quotes, is what is parsed here."""
    monkeypatch.setattr(sys, "orig_argv", ["python", "sweeps/tune_methods.py", *line])
    options = tune_methods.make_methods_parser().parse_args(line)
    searches = tune_methods.build_searches(options, cpu_execution)
    changes = read_overrides(options.config, options.set)
    write(tuned, [change_base(each, changes) for each in searches])
    command = shlex.split(tune_methods.say_next(options, tuned, line).partition(": ")[2])
    assert command[:2] == ["python", "sweeps/compare_methods.py"]
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "sweeps.tune_methods", *line])
    as_module = shlex.split(tune_methods.say_next(options, tuned, line).partition(": ")[2])
    assert as_module == ["python", "-m", "sweeps.compare_methods", *command[2:]]
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "main()"])
    from_program = shlex.split(tune_methods.say_next(options, tuned, line).partition(": ")[2])
    assert from_program == command
    asked = ask(*command[2:])
    study = change_study(compare_methods.build_study(asked), read_overrides(asked.config, asked.set))
    chosen = {each["method"] for each in compare_methods.take_tuned(study, asked).tunings}
    assert chosen == {each.base.method_label for each in searches}


def test_tuned_methods_are_of_one_setting_and_the_table_says_what_was_chosen(
    tuned: Store, searches: dict[str, Search], tmp_path: Path, cpu_execution: Execution
) -> None:
    write(tuned, list(searches.values()))
    write(tuned, [searches["focal"]], rate=1e-3)
    plan = compile_study(
        dataclasses.replace(compare(tuned), cells=compare(tuned).cells[:4], comparisons=()), cpu_execution
    )
    study = dataclasses.replace(
        plan.study,
        tunings=plan.study.tunings[:4],
        comparisons=tuple(each for each in compare(tuned).comparisons if max(each.cell, each.reference) < 4),
    )
    store = make_store(tmp_path / "store", compile_study(study, cpu_execution))
    results = read_results(store.location)
    assert results.cells["setting"].nunique() == 1
    frame = methods_frame(results.runs, results.cells, results.comparisons, results.tunings)
    assert set(frame["method"]) == {"none", "oversample", "undersample", "focal"}
    row = frame.set_index("method").loc["focal"]
    assert row["chosen"] == "learning_rate=0.002, deferred=0, gamma=2"
    assert row["untuned"] == "learning_rate=0.0005, deferred=0, gamma=2"
    table = methods_tables(frame)[-1]
    assert table.meaning.startswith("Budgets were equal: 2 trials of 2 seeds for each of 4 methods.")
    others = methods_tables(frame.assign(num_trials=float("nan")))[-1]
    assert others.meaning == "Nothing was tuned: options are those in the names, all else is the protocol's."


def test_methods_that_are_one_with_what_was_chosen_are_compared_once(
    tuned: Store, cpu_execution: Execution, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--steps", "100", "--methods", "class_balanced", "class_balanced:deferred=0.8", "focal"]
    searches = build(cpu_execution, *asked)
    write(tuned, list(searches.values()))
    deferred = {"method.options.deferred": 0.8}
    for name in ("class_balanced", "class_balanced:deferred=0.8"):
        trials = [
            dataclasses.replace(each, values={**each.values, **deferred})
            for each in trials_of(searches[name], 2, 5e-4)
        ]
        tuned.write_search(
            searches[name].name, make_account(searches[name], "Which?", SearchBudget(trials=2), trials, {})
        )
    options = ask("--tuned", tuned.location, *asked)
    study = compare_methods.take_tuned(compare_methods.build_study(options), options)
    labels = [cell.method_label for cell in study.cells]
    assert labels == ["none", "oversample", "class_balanced:deferred=0.8", "focal"]
    assert [tuning["cell"] for tuning in study.tunings] == [0, 1, 2, 3]
    assert {
        (study.cells[each.cell].method_label, study.cells[each.reference].method_label)
        for each in study.comparisons
    } == {*((label, "none") for label in labels[1:]), *((label, "oversample") for label in labels[2:])}
    assert "class_balanced:deferred=0.8 is left out: tuned, it has the same name" in capsys.readouterr().err


def test_method_of_which_no_trial_was_completed_stays_untuned(
    tuned: Store, searches: dict[str, Search]
) -> None:
    write(tuned, [search for name, search in searches.items() if name != "focal"])
    failed = [
        Trial(number=number, values=dict(searches["focal"].untuned), state="failed", reason="too few")
        for number in range(2)
    ]
    account = make_account(searches["focal"], "Which?", SearchBudget(trials=2), failed, {})
    tuned.write_search(searches["focal"].name, account)
    (focal,) = [cell for cell in compare(tuned).cells if cell.method.name == "focal"]
    assert focal.classifier.learning_rate == 5e-4


def test_store_that_does_not_hold_all_searches_finished_with_one_budget_is_refused(
    tuned: Store, searches: dict[str, Search]
) -> None:
    every = list(searches.values())
    with pytest.raises(ValueError, match=r"contains no search of a method; run sweeps/tune_methods\.py"):
        compare(tuned)
    write(tuned, every[:-1])
    with pytest.raises(ValueError, match="contains no search of sound 1/2 crt; run"):
        compare(tuned)
    write(tuned, every[-1:], budget=3)
    with pytest.raises(ValueError, match=r"quick-crt of .* has ended 2 of 3 trials; run the command"):
        compare(tuned)
    write(tuned, every[-1:], count=3, budget=3)
    with pytest.raises(ValueError, match=r"unequal budgets: .*none 2 trials of 2 seeds; .*crt 3 trials of 2"):
        compare(tuned)
    write(tuned, every[-1:])
    assert len(compare(tuned).tunings) == 5
    for arguments, differs in (
        (["--steps", "50"], "classifier.budget.steps"),
        (["--dataset", "mnist"], "data.dataset"),
        (["--c", "7/9"], "data.c"),
    ):
        with pytest.raises(ValueError, match=f"one of this method that differs in {differs};"):
            compare(tuned, *arguments)
    with pytest.raises(ValueError, match="seed 1000 was used by the searches"):
        compare(tuned, "--seeds", "1001")


def test_one_of_several_series_of_searches_is_chosen_by_name(tuned: Store, cpu_execution: Execution) -> None:
    every = {}
    for number, series in enumerate(("first", "first-2", "second"), start=1):
        every[series] = list(build(cpu_execution, *ASKED, "--name", series).values())
        write(tuned, every[series], count=number, budget=number, rate=1e-4 * number)
    with pytest.raises(
        ValueError, match=r"several searches of sound 1/2 none: first-2-none, first-none, second-none; give"
    ):
        compare(tuned)
    for number, series in enumerate(every, start=1):
        study = compare(tuned, "--tuned-name", series)
        assert [each["search"] for each in study.tunings] == [each.name for each in every[series]]
        assert {each["num_trials"] for each in study.tunings} == {number}
    with pytest.raises(ValueError, match="--tuned-name third contains no search of sound 1/2 none; run"):
        compare(tuned, "--tuned-name", "third")
    options = ask(*ASKED, "--tuned-name", "first")
    with pytest.raises(ValueError, match="--tuned-name chooses among the searches of --tuned STORE, which"):
        compare_methods.take_tuned(compare_methods.build_study(options), options)


Spoil = Callable[[dict[str, Any]], object]
DAMAGE: dict[str, tuple[Spoil, str]] = {
    "no budget": (lambda account: account.pop("budget"), "an object with 'budget'"),
    "words": (lambda account: account["budget"].update(trials="many"), "budget.trials must be"),
    "no base": (lambda account: account["search"].pop("base"), "an object with 'base'"),
    "a list": (lambda account: account["search"].update(base=[]), "search.base must be"),
    "another version": (lambda account: account.update(results_version=1), "is of results version 1, this"),
    "no version": (lambda account: account.pop("results_version"), "is of results version None, this"),
    "unknown values": (
        lambda account: account["trials"][-1].update(values={"classifier.nonsense": 1}),
        "none has chosen {'classifier.nonsense': 1}, which sound 1/2 none does not take",
    ),
    "values of no section": (
        lambda account: account["trials"][-1].update(values={"nonsense": 1}),
        "which sound 1/2 none does not take",
    ),
    "values of another type": (
        lambda account: account["trials"][-1].update(values={"classifier.learning_rate": "x"}),
        "which sound 1/2 none does not take",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), DAMAGE.values(), ids=DAMAGE)
def test_account_that_is_damaged_or_of_another_version_is_refused(
    spoil: Spoil, said: str, tuned: Store, searches: dict[str, Search]
) -> None:
    write(tuned, list(searches.values()))
    path = Path(tuned.location, "searches", searches["none"].name, "account.json")
    account = json.loads(path.read_text())
    spoil(account)
    path.write_text(json.dumps(account))
    with pytest.raises(StoreError, match=re.escape(said)):
        compare(tuned)


def test_options_that_would_make_budgets_unequal_are_refused(cpu_execution: Execution) -> None:
    for option in ("--scheduler asha", "--max-steps 9", "--max-minutes 1", "--confirm-seeds 3"):
        with pytest.raises(ValueError, match="every method has the same --trials, each to its end"):
            build(cpu_execution, *option.split())
    with pytest.raises(ValueError, match="unknown method 'smite'"):
        build(cpu_execution, "--methods", "smite")


def test_search_of_a_method_stops_no_trial_early(searches: dict[str, Search]) -> None:
    with pytest.raises(ValueError, match='trials of a method run to their end, scheduler "none"'):
        dataclasses.replace(searches["focal"], scheduler="asha")
    none = make_cell(get_protocol("sound"), dataset="fashion_mnist", c="1/2", method="none", generator=None)
    assert dataclasses.replace(searches["focal"], base=none).space.keys() == {"classifier.learning_rate"}
