"""Every option of every command changes what is run or shown, says that it changes nothing, or is refused.

The tests find the real commands and call them in this process. An option that is missing from the tables
below fails the test: whoever adds an option also writes here what it does.
"""

import argparse
import contextlib
import dataclasses
import json
import math
import re
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from torch import nn

import analysis.__main__
from lt_rebalance.cli.completion import list_commands
from lt_rebalance.cli.main import main as look
from lt_rebalance.cli.parser import make_parser, make_store_plan_parser
from lt_rebalance.cluster import session as cluster
from lt_rebalance.cluster.resources import ClusterSize
from lt_rebalance.commands import search as search_command
from lt_rebalance.commands import searches as searches_command
from lt_rebalance.commands import sweep as command
from lt_rebalance.networks.classifiers.registry import CLASSIFIERS
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import open_store
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Budget, Execution
from tests.own_networks import register
from tests.store.test_store import make_failure

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "store"
SWEEPS = sorted(path.stem for path in (ROOT / "sweeps").glob("*.py"))
SEARCHES = {name for name in SWEEPS if name.startswith("tune_")}
CPU = ["--device", "cpu", "--precision", "float32"]
PLAN = ["--plan", "--json"]

Command = tuple[argparse.ArgumentParser, Callable[[Sequence[str]], int]]


class Answer(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str
    tree: Mapping[str, bytes]


Call = Callable[[Callable[[Sequence[str]], int], Sequence[str]], Answer]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return what calls a command in an empty directory."""
    # No cluster is available.
    monkeypatch.setattr(cluster, "ray_cluster", _made_up_cluster)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")

    def call_(run: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> Answer:
        capsys.readouterr()
        code = run(arguments)
        return Answer(code, *capsys.readouterr(), tree=_read_tree(Path.cwd()))

    return call_


@contextlib.contextmanager
def _made_up_cluster(address: str | None) -> Iterator[ClusterSize]:
    if address is None:
        pytest.fail("Ray was started")
    yield [{"CPU": 123, "GPU": 0}]


def _read_tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class Found(Exception):
    """Ends a command as soon as its parser is known."""


def load_sweep(name: str) -> Command:
    """Return the parser of a sweep, and the sweep itself, as `python sweeps/<name>.py` runs it."""
    parsers: list[argparse.ArgumentParser] = []

    def start(arguments: Sequence[str]) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [f"sweeps/{name}.py", *arguments])
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(ROOT / "sweeps" / f"{name}.py"), run_name="__main__")
        code = ended.value.code
        assert isinstance(code, int)
        return code

    def find(parser: argparse.ArgumentParser, *_: object) -> int:
        parsers.append(parser)
        raise Found

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Found):
        for module in (command, search_command, searches_command):
            patch.setattr(module, "run_command", find)
        runpy.run_path(str(ROOT / "sweeps" / f"{name}.py"), run_name="__main__")
    return parsers[0], start


def list_flags(parser: argparse.ArgumentParser) -> list[str]:
    """Return the long name of every option, and the name of every argument without one."""
    return [action.option_strings[-1] if action.option_strings else action.dest for action in parser._actions]


def act(call: Call, run: Callable[[Sequence[str]], int], base: Sequence[str], extra: Sequence[str]) -> str:
    """Return how a command with more arguments differs from the one without; in nothing is a failure."""
    return differ(call(run, base), call(run, [*base, *extra]), extra)


def differ(without: Answer, with_it: Answer, extra: Sequence[str]) -> str:
    """Return how the answer to more arguments differs from the one without; in nothing is a failure."""
    assert without.code == 0, without.err
    assert "Traceback" not in with_it.err
    if with_it.code == 2:
        assert re.fullmatch(r"(note: [^\n]+\n)*error: [^\n]+\n", with_it.err), with_it.err
        return "refused"
    if (with_it.out, with_it.tree) != (without.out, without.tree):
        return "acts"
    said = set(with_it.err.splitlines()) - set(without.err.splitlines())
    assert any(line.startswith("note: ") for line in said), f"{' '.join(extra)} does nothing"
    return "said"


# Sweeps and searches

VALUES: dict[str, list[str]] = {
    "--storage": ["DIRECTORY"],
    "--data-dir": ["/nowhere"],
    "--download": [],
    "--address": ["10.0.0.1:6379"],
    "--device": ["cuda"],
    "--precision": ["bfloat16"],
    "--threads": ["2"],
    "--gpus-per-trial": ["0.5"],
    "--lanes": ["3"],
    "--max-concurrent": ["1"],
    "--config": ["FILE"],
    "--set": ["classifier.learning_rate=0.002"],
    "--rate": ["2"],
    "--preset": ["full"],
    "--dataset": ["mnist"],
    "--image-size": ["16"],
    "--grey": [],
    "--flip": [],
    "--test-fraction": ["0.2"],
    "--validation-fraction": ["0.1"],
    "--relabel": [],
    "--upload-data": [],
    "--c": ["7/9"],
    "--profile": ["natural"],
    "--ratio": ["100"],
    "--methods": ["none", "undersample"],
    "--generators": ["big_mlp_cgan_leaky"],
    "--protocol": ["paper"],
    "--name": ["[red]other"],
    "--seeds": ["4"],
    "--steps": ["450"],
    "--epochs": ["3"],
    "--generator-steps": ["450"],
    "--generator-epochs": ["3"],
    "--rho": ["20"],
    "--subsets": ["4"],
    "--cgans": ["4"],
    "--classifiers": ["4"],
    "--method": ["undersample"],
    "--generator": ["big_mlp_cgan_leaky"],
    "--objective": ["both"],
    "--classifier-steps": ["60"],
    "--scheduler": ["none"],
    "--reduction": ["2"],
    "--search-seed": ["5"],
    "--trials": ["9"],
    "--max-steps": ["100"],
    "--max-minutes": ["3"],
    "--confirm-seeds": ["5"],
    "--tuned": ["DIRECTORY"],
    "--tuned-name": ["second"],
    "--untuned": [],
    "--permuted": ["none"],
    "--plan-file": ["FILE"],
    "--verbosity": ["2"],
}
SAYS_SO = {"--help", "--plan", "--json", "--retry-failed", "--register"}
"""options with tests of their own, here or in test_study_plan.py"""
MUST_ACT = {
    *("--set", "--config", "--rate", "--name", "--lanes", "--threads", "--precision", "--address"),
    *("--max-concurrent", "--preset", "--dataset"),
}
"""that all sweeps and searches take: no refusal will do"""


def make_inputs(tmp_path: Path) -> None:
    (tmp_path / "DIRECTORY").mkdir()
    (tmp_path / "DIRECTORY" / "thesis.tex").write_text("no store")
    # As an editor on another system writes it.
    (tmp_path / "FILE").write_bytes(b"\xef\xbb\xbf[classifier]\r\nlearning_rate = 0.003\r\n")


@pytest.mark.parametrize("name", SWEEPS)
def test_every_option_of_every_sweep_acts_or_is_refused(name: str, call: Call, tmp_path: Path) -> None:
    parser, run = load_sweep(name)
    make_inputs(tmp_path)
    base = [*CPU, *PLAN]
    unknown = set(list_flags(parser)) - set(VALUES) - SAYS_SO
    assert not unknown, f"say in VALUES what {unknown} changes"
    found = {}
    without = call(run, base)
    for flag in list_flags(parser):
        if flag not in SAYS_SO:
            values = [str(tmp_path / each) if each.isupper() else each for each in VALUES[flag]]
            found[flag] = differ(without, call(run, [*base, flag, *values]), [flag, *values])
    priced = json.loads(call(run, [*base, "--rate", "2"]).out)
    assert "price" in json.dumps(priced)
    assert [flag for flag in sorted(MUST_ACT) if found[flag] != "acts"] == []
    assert found["--download"] == found["--storage"] == "refused"
    assert not list(Path.cwd().iterdir()), "a plan has written"


TOGETHER = [
    ("full_grid", "--c original", "--generators dccgan_leaky"),
    ("full_grid", "--c original", "--generator-steps 9"),
    ("full_grid", "--c original original", "--generator-epochs 9"),
    ("full_grid", "--c original", "--methods oversample"),
    ("full_grid", "--c 1/2", "--profile natural"),
    ("full_grid", "--profile natural", "--ratio 100"),
    ("full_grid", "--profile natural", "--c original"),
    ("full_grid", "--c 1/2", "--ratio 100"),
    ("imbalance_levels", "--profile natural", "--rho 20"),
    ("tune_classifier", "--profile exp --ratio 100", "--c 1/2"),
    ("full_grid", "--methods none", "--generators dccgan_leaky"),
    ("full_grid", "--methods none", "--set generator.beta1=0.5"),
    ("full_grid", "--methods none", "--generator-steps 9"),
    ("full_grid", "--steps 9", "--epochs 9"),
    ("full_grid", "--generator-steps 9", "--generator-epochs 9"),
    ("imbalance_levels", "--c 1/2", "--rho 20"),
    ("nested_seeds", "", "--seeds 3"),
    ("ablate_loss", "", "--set classifier.loss=double_softmax"),
    ("ablate_beta1", "", "--set generator.beta1=0.5"),
    ("tune_cgan", "--scheduler pbt", "--reduction 2"),
    ("tune_cgan", "--scheduler pbt", "--max-steps 9"),
    ("tune_cgan", "--scheduler pbt", "--max-minutes 9"),
    ("tune_cgan", "--scheduler pbt", "--max-concurrent 2"),
    ("tune_cgan", "--scheduler none", "--reduction 3"),
    ("tune_cgan", "--objective both", "--reduction 3"),
    ("tune_classifier", "", "--set generator.beta1=0.5"),
    ("tune_classifier", "", "--set classifier.budget.steps=9"),
]


@pytest.mark.parametrize(("name", "base", "extra"), TOGETHER, ids=" ".join)
def test_option_that_another_takes_the_ground_from_is_refused(
    name: str, base: str, extra: str, call: Call
) -> None:
    assert act(call, load_sweep(name)[1], [*CPU, *PLAN, *base.split()], extra.split()) == "refused"


@pytest.mark.parametrize("name", SWEEPS)
def test_options_of_plans_are_refused_without_one(name: str, call: Call) -> None:
    _, run = load_sweep(name)
    for extra in (["--json"], ["--rate", "0"], ["--rate", "2"]):
        answer = call(run, [*CPU, *extra])
        assert (answer.code, answer.err) == (2, f"error: {extra[0]} goes with --plan\n")
    text = call(run, [*CPU, "--plan"])
    assert text.code == 0 and not text.out.startswith("{")
    assert json.loads(call(run, [*CPU, "--plan", "--json"]).out)
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("name", SWEEPS)
def test_plan_with_retry_failed_plans_what_would_be_run_again(name: str, call: Call) -> None:
    """Make a store in which something has failed, whatever the sweep is, and compare two plans of it."""
    _, run = load_sweep(name)
    planned = first_of(json.loads(call(run, [*CPU, *PLAN]).out))
    store = open_store("results", RESULTS_VERSION, create=True)
    assert store is not None
    if name in SEARCHES:
        account = {part: planned[part] for part in ("results_version", "search", "objectives", "space")}
        account |= {part: planned[part] for part in ("untuned", "rung_rounds")}
        trial = {"values": planned["untuned"], "reason": "", "rungs": []}
        account |= {
            "question": "",
            "budget": {"trials": 2, "steps": None, "minutes": None},
            "trials": [trial | {"number": 0, "state": "failed"}, trial | {"number": 1, "state": "running"}],
            "importance": {},
            "best": None,
            "front": [],
            "confirmation": f"{planned['name']}-confirmation",
        }
        store.write_search(planned["name"], account)
        count = lambda answer: first_of(answer)["to_try_again"]  # noqa: E731
    else:
        with pytest.MonkeyPatch.context() as patch:
            keys: list[str] = []
            patch.setattr(command, "Ledger", lambda plan, store: keys.extend(plan.stages) or stop())
            with contextlib.suppress(StopIteration):
                run([*CPU, *PLAN])
        store.mark_failed(make_failure(keys[-1]))
        count = lambda answer: sum(each["to_run"] for each in answer["stages"].values())  # noqa: E731
    before, again = (json.loads(call(run, [*CPU, *PLAN, *extra]).out) for extra in ([], ["--retry-failed"]))
    assert count(again) > count(before)


def first_of(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer about a search, the first of several."""
    found: dict[str, Any] = answer.get("searches", [answer])[0]
    return found


def stop() -> None:
    raise StopIteration


# Commands that look

AGAIN_WITH_IMAGES = {
    **{"--dataset": ["mnist"], "--image-size": ["16"], "--grey": [], "--test-fraction": ["0.2"]},
    **{"--validation-fraction": ["0.1"], "--relabel": []},
}
LOOKS: dict[str, tuple[list[str], dict[str, list[str]]]] = {
    "plan": (["plan", "STORE"], {"what": ["status"], "--study": ["other"], "--rate": ["2"], "--json": []}),
    "status": (
        ["status", "STORE"],
        {"--study": ["other"], "--watch": [], "--every": ["1"], "--rate": ["2"], "--json": []},
    ),
    "show": (["show", "STAGE"], {"--storage": ["nowhere"], "--log": [], "--json": []}),
    "verify": (
        ["verify", "STAGE"],
        {
            **{"--storage": ["nowhere"], "--data-dir": ["/nowhere"], "--own-file": [__file__], "--json": []},
            **AGAIN_WITH_IMAGES,
        },
    ),
    "retry": (
        ["retry", "STORE", "--failed", "--dry-run"],
        {
            **{"--study": ["other"], "--data-dir": ["/nowhere"], "--address": ["10.0.0.1:1"], "--json": []},
            **{
                "--own-file": [__file__],
                "--gpus-per-trial": ["0.5"],
                "--max-concurrent": ["3"],
                "--lanes": ["3"],
            },
            **AGAIN_WITH_IMAGES,
            "--upload-data": [],
        },
    ),
    "gc": (["gc", "STORE"], {"--orphans": [], "--dry-run": [], "--json": []}),
    "export": (
        ["export", "STORE"],
        {
            **{"--study": ["other"], "--frame": ["rounds"], "--out": ["runs.csv"], "--json": []},
            **{"--allow": ["duplicates"], "--to": ["parquet"]},
        },
    ),
    "tensorboard": (
        ["tensorboard", "STORE", "--no-server"],
        {
            **{"--study": ["other"], "--port": ["7007"], "--host": ["0.0.0.0"], "--listen-publicly": []},
            "--json": [],
        },
    ),
    "data": (
        ["data", "fashion_mnist_mini"],
        {
            **{"--image-size": ["16"], "--grey": [], "--test-fraction": ["0.2"], "--relabel": []},
            **{"--validation-fraction": ["0.1"]},
            **{"--samples": ["samples.png"], "--data-dir": ["/nowhere"], "--json": []},
        },
    ),
    # test_publish.py: test_images_of_ones_own_act_or_are_refused
    "publish": (
        ["publish", "FOLDER"],
        {flag.lstrip("-").replace("-", "_"): [] for flag in AGAIN_WITH_IMAGES},
    ),
    "completion": (["completion", "bash"], {}),
}
ELSEWHERE = {
    "help": "explains itself: test_every_command_explains_itself_and_answers_in_json",
    "arguments": "test_plan_of_a_sweep_passes_its_options_on",
    "store": "every base names one; another is refused: test_wrong_input_is_one_line",
    "record": "test_show_finds_a_record_by_its_first_letters_or_its_path",
    "shell": "test_bash_completes_commands_options_values_and_files",
    "failed": "says that failed runs are meant; without it the command is refused",
    "dry_run": "its bases are dry runs; test_dry_run_names_what_failed",
    "no_server": "without it the command becomes the server",
    "what": "the store, or the set of images",
    "folder": "test_publish.py, as all options of publish",
    "partial": "test_what_is_not_whole_or_not_planned_is_not_published",
    "storage": "of publish: test_publish.py",
    "json": "of publish: test_folder_holds_everything_and_is_published_again_alike",
    "allow": "accepts what is refused without it: tests of the analysis",
}


def plant(tmp_path: Path) -> tuple[str, str]:
    """Return a store of all that options tell apart, and a stage of it: failures, garbage, an orphan."""
    store_path = tmp_path / "store"
    shutil.copytree(GOLDEN, store_path)
    store = open_store(str(store_path), None, create=False)
    assert store is not None
    runs = store.load_study("full_grid-quick").runs
    (store_path / "stages" / runs[-1].key / "result.json").unlink()
    store.mark_failed(make_failure(runs[-1].key))
    shutil.copytree(store_path / "stages" / runs[0].key, store_path / "stages" / ("f" * 64))
    return str(store_path), f"{store_path}/stages/{runs[0].key}"


def plant_new(tmp_path: Path, protocol: Protocol, execution: Execution) -> tuple[str, str]:
    """Return a store of this version in which one run is finished and one has failed, and a stage of it."""
    cell = make_cell(protocol, dataset="fashion_mnist_mini", c="1/2", method="none", generator=None)
    classifier = dataclasses.replace(cell.classifier, architecture="plain")
    cell = dataclasses.replace(cell, classifier=classifier)
    plan = compile_study(Study(name="study", cells=(cell,), seeds=(0, 1)), execution)
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    store.write_study(describe_plan(plan))
    finished, failed = plan.runs
    run_stage(finished.stage, store)
    store.mark_failed(make_failure(failed.key))
    return store.location, f"{store.location}/stages/{finished.key}"


@pytest.mark.parametrize(
    "parser",
    [*list_commands(make_parser()).values(), analysis.__main__.make_parser()],
    ids=lambda it: it.prog,
)
def test_usage_has_places_before_options_that_would_take_them(parser: argparse.ArgumentParser) -> None:
    if any(action.option_strings and action.nargs == "+" for action in parser._actions):
        names = [str(action.metavar) for action in parser._actions if not action.option_strings]
        usage = parser.format_usage().removeprefix(f"usage: {parser.prog} ")
        assert names and usage.startswith((f"[{names[0]}]", names[0])), usage


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(list_commands(make_parser())))
def test_every_option_of_every_command_that_looks_acts_or_is_refused(
    name: str,
    call: Call,
    tmp_path: Path,
    small_protocol: Protocol,
    cpu_execution: Execution,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parser = list_commands(make_parser())[name]
    actions = [*parser._actions, *(make_store_plan_parser()._actions if name == "plan" else [])]
    base, values = LOOKS[name]
    known = {flag.lstrip("-").replace("-", "_") for flag in values} | set(ELSEWHERE)
    assert {action.dest for action in actions} <= known, "say in LOOKS what the new option changes"
    if name in ("retry", "verify"):  # which train, or would, and change nothing
        register(monkeypatch, CLASSIFIERS, "plain", build_linear)  # two thousand test images take no time
        one_round = dataclasses.replace(small_protocol, classifier_budget=Budget(steps=2, rounds=1))
        named = name_planted(base, *plant_new(tmp_path, one_round, cpu_execution))
        without = call(look, named)
        for flag, extra in values.items():
            differ(without, call(look, [*named, flag, *extra]), [flag, *extra])
        return
    for flag, extra in values.items():
        if flag.startswith("-") and flag != "--allow":
            named = name_planted(base, *plant(tmp_path / flag.lstrip("-")))
            act(call, look, named, [flag, *extra])


def build_linear(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(image_shape), num_classes))


def name_planted(base: Sequence[str], store: str, stage: str) -> list[str]:
    return [{"STORE": store, "STAGE": stage}.get(part, part) for part in base]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "extra"),
    [
        ("--out", ["elsewhere"]),
        ("--study", ["other"]),
        ("--partial", []),
        ("--allow", ["duplicates"]),
        ("--metric", ["missing.py:metric"]),
        ("--paper", ["one"]),
    ],
)
@pytest.mark.usefixtures("unprinted_figures")
def test_every_option_of_the_report_acts_or_is_refused(
    flag: str, extra: list[str], call: Call, tmp_path: Path
) -> None:
    flags = set(list_flags(analysis.__main__.make_parser())) - {"--help", "store"}
    assert flags == {"--out", "--study", "--partial", "--allow", "--metric", "--paper"}
    if flag == "--allow":
        return  # accepts what is refused without it: tests of the analysis
    shutil.copytree(GOLDEN, tmp_path / "store")
    if flag == "--partial":
        gone = next((tmp_path / "store" / "stages").iterdir()) / "result.json"
        gone.unlink()
    answer = call(analysis.__main__.main, [str(tmp_path / "store"), flag, *extra])
    if flag in ("--study", "--metric"):
        assert answer.code == 2 and extra[0].partition(":")[0] in answer.err
    else:
        assert answer.code == 0 and ("elsewhere" in answer.out) == (flag == "--out")
        assert ("report/paper/paper.tex" in answer.tree) == (flag == "--paper")
