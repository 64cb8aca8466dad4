"""The commands that search: killed and run again, blind to test images, and their answers to wrong input."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import ray
from optuna.trial import TrialState

from lt_rebalance.commands import search as search_command
from lt_rebalance.commands import searches as searches_command
from lt_rebalance.commands import sweep as sweep_command
from lt_rebalance.search.account import MAX_FAILED, RungResult, SearchBudget
from lt_rebalance.search.journal import open_journal
from lt_rebalance.search.search import Search
from lt_rebalance.store import open_store
from lt_rebalance.store.records import NOT_APPLICABLE
from lt_rebalance.studies.overrides import change_study, read_overrides
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.training.configs import Budget
from lt_rebalance.training.device import resolve_execution
from sweeps import compare_methods, full_grid, tune_cgan, tune_classifier, tune_methods
from tests import linear_network
from tests.made_once import make_once
from tests.store.test_store import make_failure

ROOT = Path(__file__).parents[2]
CPU = ["--device", "cpu", "--precision", "float32"]
TINY = [
    "--steps",
    "4",
    "--reduction",
    "2",
    "--seeds",
    "2",
    "--trials",
    "4",
    "--confirm-seeds",
    "1",
    "--max-concurrent",
    "1",
    *linear_network.OPTIONS,
]
NO_COMPARISON = lambda location, study: []  # noqa: E731


def build(module: ModuleType, *arguments: str) -> Search:
    make_parser = {
        tune_classifier: tune_classifier.make_classifier_parser,
        tune_cgan: tune_cgan.make_cgan_parser,
    }
    options = make_parser[module]().parse_args(arguments)
    search: Search = module.build_search(options, resolve_execution("cpu", "float32", 1, has_cuda=False))
    return search


# What the options describe


def test_quick_classifier_search_is_on_the_sample_with_validation_images_set_aside() -> None:
    search = build(tune_classifier)
    assert (search.name, search.component) == ("tune_classifier-quick", "classifier")
    assert search.base.data.dataset == "fashion_mnist_mini"
    assert search.base.data.validation_per_class == 50
    assert search.base.method.name == "oversample"
    assert search.seeds == (1000, 1001)
    assert search.rung_rounds == (1, 3, 9)
    assert search.budget == Budget(steps=90, rounds=9)


def test_full_searches_set_500_images_of_a_class_aside() -> None:
    for module in (tune_classifier, tune_cgan):
        assert build(module, "--preset", "full").base.data.validation_per_class == 500


def test_cgan_search_measures_with_a_short_classifier() -> None:
    search = build(tune_cgan, "--classifier-steps", "30", "--generator", "dccgan_leaky")
    assert search.base.generator is not None
    assert search.base.generator.architecture == "dccgan_leaky"
    assert search.base.generator.budget == Budget(steps=90, rounds=9)
    assert search.base.classifier.budget == Budget(steps=30, rounds=1)
    assert (search.objectives, search.scheduler) == (("macro_f1",), "asha")


def test_two_objectives_stop_nothing_early() -> None:
    search = build(tune_cgan, "--objective", "both")
    assert (search.objectives, search.scheduler) == (("macro_f1", "diversity"), "none")
    assert search.rung_rounds == (9,)


def test_population_is_measured_at_even_intervals() -> None:
    search = build(tune_cgan, "--scheduler", "pbt")
    assert search.rung_rounds == (1, 2, 3, 4, 5, 6)


# The commands


def call(module: ModuleType, arguments: Sequence[str]) -> int:
    make_parser = {
        tune_classifier: tune_classifier.make_classifier_parser,
        tune_cgan: tune_cgan.make_cgan_parser,
    }
    return search_command.main(make_parser[module](), module.build_search, NO_COMPARISON, arguments)


WRONG_INPUT: dict[str, tuple[ModuleType, list[str], str]] = {
    "preset": (tune_classifier, ["--preset", "huge"], "unknown preset 'huge'; known: quick, full"),
    "steps": (tune_classifier, ["--steps", "100"], "must divide into 9 rounds, got 100; the nearest is 99"),
    "method": (tune_classifier, ["--method", "cgan"], "sweeps/tune_cgan.py tunes that"),
    "unknown method": (tune_classifier, ["--method", "smite"], "unknown method 'smite'"),
    "seeds": (tune_classifier, ["--seeds", "0"], "seeds must be above 0, got 0"),
    "trials": (tune_classifier, ["--trials", "0"], "a budget in trials must be above 0 and finite, got 0"),
    "minutes": (tune_classifier, ["--max-minutes", "-1"], "minutes must be above 0 and finite, got -1"),
    "confirmation": (tune_classifier, ["--confirm-seeds", "0"], "confirm_seeds must be above 0"),
    "seeds that meet": (tune_classifier, ["--confirm-seeds", "1001"], "--confirm-seeds must be at most 1000"),
    "reduction": (tune_classifier, ["--reduction", "1"], "the reduction must be at least 2, got 1"),
    "scheduler": (tune_classifier, ["--scheduler", "median"], "unknown scheduler 'median'"),
    "populations": (tune_classifier, ["--scheduler", "pbt"], "trains populations of CGANs"),
    "objective": (
        tune_cgan,
        ["--objective", "fid"],
        "unknown objective 'fid'; known: macro_f1, diversity, both",
    ),
    "options of a method": (
        tune_classifier,
        ["--method", "focal:gamma=1"],
        "write --method focal --set method.options.gamma=1",
    ),
    "share of a method": (
        tune_classifier,
        ["--method", "smote:fill_fraction=0.5"],
        "write --method smote --set method.fill_fraction=0.5",
    ),
    "no image made": (
        tune_cgan,
        ["--set", "method.fill_fraction=0"],
        "macro F1 needs images that the generator",
    ),
    "early stop": (
        tune_cgan,
        ["--objective", "both", "--scheduler", "asha"],
        "ranks trials by one objective",
    ),
    "budget of a population": (tune_cgan, ["--scheduler", "pbt", "--max-steps", "9"], "does not go with"),
    "no validation": (
        tune_classifier,
        ["--set", "data.validation_per_class=0"],
        "needs validation_per_class",
    ),
    "test that is read": (
        tune_classifier,
        ["--set", "classifier.selection=oracle_best_test"],
        "which reads the test",
    ),
    "budget in a field": (tune_classifier, ["--set", "classifier.budget.steps=9"], "is set by --steps"),
    "option that the method lacks": (
        tune_classifier,
        ["--set", "method.options.nonsense=2"],
        "none of the methods has an option 'nonsense'; known: none",
    ),
    "no generator": (tune_classifier, ["--set", "generator.beta1=0.5"], "of the methods has a generator"),
    "untuned outside the space": (
        tune_classifier,
        ["--set", "classifier.beta1=0.1"],
        "outside of the search space",
    ),
    "reduction of what stops nothing": (
        tune_cgan,
        ["--objective", "both", "--reduction", "2", "--steps", "88"],
        "--reduction is for scheduler asha",
    ),
    "flag": (tune_cgan, ["--colour", "red"], "unrecognized arguments: --colour red"),
}


def test_store_of_a_population_on_a_cluster_is_one_that_nobody_else_can_replace(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name in ("closed", "open"):
        asked = ["--scheduler", "pbt", "--address", "auto", "--storage", str(tmp_path / name / "store")]
        options = tune_cgan.make_cgan_parser().parse_args(asked)
        if name == "closed":
            search_command._require_population(options)
            continue
        with pytest.raises(ValueError, match="open, which can be replaced by other users"):
            search_command._require_population(options)


@pytest.mark.parametrize(("module", "arguments", "message"), WRONG_INPUT.values(), ids=WRONG_INPUT)
def test_wrong_input_is_one_line_and_starts_nothing(
    module: ModuleType,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray was started"))
    code = call(module, [*CPU, "--storage", str(tmp_path / "store"), *arguments])
    shown = capsys.readouterr()
    assert code == 2
    assert shown.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", shown.err), shown.err
    assert message in shown.err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("module", [tune_classifier, tune_cgan], ids=["classifier", "cgan"])
def test_plan_shows_the_space_and_writes_nothing(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*CPU, "--storage", str(tmp_path / "store"), "--plan"]
    assert call(module, arguments) == 0
    shown = capsys.readouterr().out
    assert "learning_rate" in shown and "budget: 6 trials; " in shown
    assert call(module, [*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["rung_rounds"] == [1, 3, 9]
    assert answer["budget"] == {"trials": 6, "steps": None, "minutes": None}
    assert not (tmp_path / "store").exists()


def test_fields_that_are_set_change_what_all_trials_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fields.toml").write_text("[classifier]\nlearning_rate = 0.002\n")
    fields = ["--config", str(tmp_path / "fields.toml"), "--set", "classifier.loss=double_softmax"]
    arguments = [*CPU, "--storage", str(tmp_path / "store"), "--plan", "--json", *fields, "--rate", "2"]
    assert call(tune_classifier, arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    base = answer["search"]["base"]
    assert (base["classifier"]["loss"], base["classifier"]["learning_rate"]) == ("double_softmax", 0.002)
    assert base["protocol"] == "sound+fields+classifier.loss=double_softmax"
    assert answer["untuned"]["learning_rate"] == 0.002
    assert answer["price_at_most"] == pytest.approx(2 * answer["device_hours_at_most"]) != 0


def start(module: str, storage: Path, *arguments: str, checkout: Path = ROOT) -> subprocess.Popen[str]:
    """Start a command of a checkout."""
    sweep = checkout / "sweeps" / f"{module}.py"
    command = [sys.executable, str(sweep), *CPU, *TINY, "--storage", str(storage)]
    return subprocess.Popen(
        [*command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(checkout)},
        cwd=checkout,
    )


def finish(module: str, storage: Path, *arguments: str, checkout: Path = ROOT) -> str:
    process = start(module, storage, *arguments, checkout=checkout)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def load_account(storage: Path, module: str) -> dict[str, Any]:
    path = storage / "searches" / f"{module}-quick" / "account.json"
    account: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return account


def choices(account: dict[str, Any]) -> dict[str, Any]:
    """Return all that a search decided, without times."""
    trials = [
        trial | {"rungs": [{**rung, "train_s": None} for rung in trial["rungs"]]}
        for trial in account["trials"]
    ]
    return {name: account[name] for name in ("importance", "best", "front")} | {"trials": trials}


def find_results(storage: Path) -> dict[Path, tuple[int, int]]:
    stats = {path: path.stat() for path in storage.glob("stages/*/result.json")}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the store of a search of a classifier that ran from its beginning to its end."""

    def run_search(directory: Path) -> None:
        output = finish("tune_classifier", directory / "store")
        assert re.search(r"trials=4 complete=\d pruned=\d diverged=0 failed=0 running=0", output)

    return make_once(tmp_path_factory, "undisturbed", run_search) / "store"


def kill_at_work(module: str, storage: Path, *arguments: str, checkout: Path) -> None:
    """Start a search and kill it when it has finished three stages."""
    process = start(module, storage, *arguments, checkout=checkout)
    while len(find_results(storage)) < 3 and process.poll() is None:
        time.sleep(0.1)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


def plan_grid(*arguments: str) -> dict[str, Any]:
    """Return the configuration of a CGAN cell of the full grid with the given options."""
    options = full_grid.make_grid_parser().parse_args(["--methods", "cgan", *arguments])
    study = change_study(full_grid.build_study(options), read_overrides(options.config, options.set))
    return dataclasses.asdict(study.cells[0])


@pytest.mark.slow
@pytest.mark.parametrize("module", ["tune_classifier", "tune_cgan"])
def test_search_killed_at_work_goes_on_with_the_same_study_and_confirms_its_choice(
    module: str, undisturbed: Path, tmp_path: Path
) -> None:
    """A search of a classifier has noise for test images, and chooses as one that was left alone."""
    short = ["--classifier-steps", "3"] if module == "tune_cgan" else []
    checkout = ROOT if module == "tune_cgan" else copy_with_noise(tmp_path / "copy")
    storage = tmp_path / "store"
    kill_at_work(module, storage, *short, checkout=checkout)
    results = find_results(storage)
    output = finish(module, storage, *short, checkout=checkout)
    assert results.items() <= find_results(storage).items(), "a finished stage was run again"
    account = load_account(storage, module)
    if module == "tune_classifier":
        assert choices(account) == choices(load_account(undisturbed, module))
        accuracies = [read_test_accuracy(each) for each in (undisturbed, storage)]
        assert accuracies[0] != accuracies[1], "the test images were not replaced"

    best = account["trials"][account["best"]]
    component = account["search"]["component"]
    written = storage / "searches" / f"{module}-quick" / "best.toml"
    assert tomllib.loads(written.read_text(encoding="utf-8")) == {component: best["values"]}
    taken = plan_grid("--config", str(written))
    assert best["values"].items() <= taken[component].items()
    study = json.loads((storage / "studies" / f"{account['confirmation']}.json").read_text(encoding="utf-8"))
    assert {run["seed"] for run in study["runs"]} == {0}
    assert account["search"]["seeds"] == [1000, 1001]
    assert study["cells"][-1]["config"][component] == account["search"]["base"][component] | best["values"]
    assert "test macro F1: untuned" in output


@pytest.mark.slow
def test_search_that_is_done_trains_nothing_again(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray was started"))
    results = find_results(undisturbed)
    assert call(tune_classifier, [*CPU, *TINY, "--storage", str(undisturbed)]) == 0
    shown = capsys.readouterr().out
    assert "trials=4 " in shown and "stages to run" not in shown
    assert find_results(undisturbed) == results


def copy_with_noise(copy: Path) -> Path:
    """Return a copy of the checkout whose sample has noise for test images."""
    for name in ("lt_rebalance", "analysis", "sweeps"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    data = copy / "lt_rebalance" / "data" / "sample" / "fashion_mnist_mini.npz"
    with np.load(data) as archive:
        arrays = dict(archive)
    arrays["test_images"] = np.random.default_rng(0).integers(0, 256, arrays["test_images"].shape, np.uint8)
    np.savez(data, **arrays)
    registry = copy / "lt_rebalance" / "data" / "catalog.py"
    digests = [hash_file(path) for path in (ROOT / "lt_rebalance" / "data" / "sample" / data.name, data)]
    text = registry.read_text(encoding="utf-8")
    assert digests[0] in text
    registry.write_text(text.replace(*digests), encoding="utf-8")
    return copy


def hash_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_test_accuracy(storage: Path) -> list[float]:
    records = [json.loads(path.read_text(encoding="utf-8")) for path in storage.glob("stages/*/result.json")]
    return sorted(each["metrics"]["accuracy"] for each in records if each["kind"] == "classifier")


@pytest.mark.parametrize("scheduler", ["asha", "pbt"])
@pytest.mark.parametrize(
    ("cause", "said"),
    [("own file", r"which runs without more\), then: .* --name ANOTHER\n"), ("code", r" --retry-failed\n")],
)
def test_failures_of_a_file_of_ones_own_are_not_tried_again_as_they_are(
    cause: str, said: str, scheduler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fixed file makes another search. A search whose only trial failed has nothing left to run."""
    asked = ["--scheduler", scheduler, "--trials", "1"]
    search = build(tune_cgan, *asked)
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    with open_journal(search, store) as journal:
        number = journal.begin()
        journal.settle(number, "failed", "RuntimeError: no")
        stage = search.ladder(journal.trials()[number].values)[0].groups[0][0]
    failure = dataclasses.replace(make_failure(stage.key), stage=stage.to_dict(), cause=cause)
    if scheduler == "pbt":
        store.note_member_error(search.name, number, failure)
    else:
        store.mark_failed(failure)
    assert call(tune_cgan, [*CPU, "--storage", store.location, *asked]) == 1
    out = capsys.readouterr().out
    assert re.search(rf"first fix the [^\n]* that raised[^\n]*{said}", out), out


@pytest.mark.parametrize("num_complete", [0, 1])
def test_search_without_a_limit_in_trials_ends_when_all_fail_and_stays_at_its_end(
    num_complete: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray, "init", lambda **options: pytest.fail("Ray was started"))
    search = build(tune_classifier, "--max-steps", "1000")
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    with open_journal(search, store) as journal:
        for number in range(num_complete + MAX_FAILED):
            assert journal.has_more(SearchBudget(steps=1000))
            assert journal.begin() == number
            rung = RungResult(round=9, num_steps=9, scores={"macro_f1": (0.5,)}, total_steps=9, train_s=1)
            complete = number < num_complete
            journal.settle(number, "complete" if complete else "failed", "no", rung if complete else None)
        assert not journal.has_more(SearchBudget(steps=1000))
        assert journal.has_more(SearchBudget(trials=20))
        journal.enqueue_failed()
        assert journal.has_more(SearchBudget(steps=1000)), "--retry-failed"
        for trial in journal.study.get_trials(states=(TrialState.WAITING,)):
            number = journal.begin()
            assert number == trial.number
            journal.settle(number, "failed", "no")
    for _ in range(2):
        assert call(tune_classifier, [*CPU, "--storage", store.location, "--max-steps", "1000"]) == 1
        out = capsys.readouterr().out
        assert "ended before 1,000 steps were spent: the last 10 trials have all failed" in out
        assert ("best, trial 0" in out) == bool(num_complete) and "--retry-failed" in out


def test_search_of_a_method_that_cannot_be_applied_counts_as_one_without_a_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three searches have spent their budget; the method of one was not applicable: the command succeeds."""
    arguments = [*CPU, "--trials", "1", "--methods", "undersample", "--storage", str(tmp_path / "store")]
    parser, build = tune_methods.make_methods_parser(), tune_methods.build_searches
    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    searches = build(parser.parse_args(arguments), execution)
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None and len(searches) == 3
    for search in searches:
        with open_journal(search, store) as journal:
            journal.enqueue(search.untuned)
            number = journal.begin()
            if search is searches[-1]:
                journal.settle(number, "failed", "NotApplicableError: no")
                stage = search.ladder(search.untuned)[0].groups[0][0]
            else:
                scores = {"macro_f1": (0.5, 0.5)}
                result = RungResult(round=1, num_steps=4, scores=scores, total_steps=8, train_s=1)
                journal.note_rung(number, result)
                journal.settle(number, "complete")
    failure = make_failure(stage.key)
    store.mark_failed(dataclasses.replace(failure, stage=stage.to_dict(), cause=NOT_APPLICABLE))
    assert searches_command.main(parser, build, tune_methods.say_next, arguments) == 0
    out = capsys.readouterr().out
    assert "no trial was completed, so there is nothing to choose" in out
    assert "searches=3 chosen=2 without=1" in out


@pytest.mark.slow
def test_searches_of_methods_go_on_where_they_stopped_and_methods_are_compared_with_their_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = str(tmp_path / "tuned")
    methods = ["--steps", "4", "--methods", "undersample", *linear_network.OPTIONS]
    search = [*CPU, *methods, "--storage", tuned, "--seeds", "1", "--max-concurrent", "1"]

    def tune(*arguments: str) -> dict[str, dict[str, Any]]:
        parser, build = tune_methods.make_methods_parser(), tune_methods.build_searches
        assert searches_command.main(parser, build, tune_methods.say_next, [*search, *arguments]) == 0
        accounts = Path(tuned).glob("searches/*/account.json")
        return {path.parent.name: json.loads(path.read_text()) for path in accounts}

    first = tune("--trials", "1")
    assert len(first) == 3 and all(len(account["trials"]) == 1 for account in first.values())
    parser, build = compare_methods.make_methods_parser(), compare_methods.build_study
    compared = [*CPU, *methods, "--storage", str(tmp_path / "store"), "--seeds", "1", "--tuned", tuned]
    longer = tune("--trials", "2")
    stages = sorted(path.name for path in Path(tuned, "stages").iterdir())
    for name, account in longer.items():
        assert account["trials"][0] == first[name]["trials"][0] and len(account["trials"]) == 2
    assert tune("--trials", "2") == longer
    assert sorted(path.name for path in Path(tuned, "stages").iterdir()) == stages
    capsys.readouterr()
    steps = {"change": compare_methods.take_tuned, "answer": compare_methods.answer_methods}
    assert sweep_command.main(parser, build, compared, **steps) == 0
    assert "Budgets were equal: 2 trials of 1 seed for each of 3 methods." in capsys.readouterr().out
