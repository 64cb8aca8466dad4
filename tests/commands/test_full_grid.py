"""Checks of the full grid's command line, in process: its studies, its plan, its answers to wrong input."""

import argparse
import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import ray
import torch

from lt_rebalance.cluster.session import RaySession
from lt_rebalance.commands.sweep import main
from lt_rebalance.data import places
from lt_rebalance.ground.errors import ClusterError
from lt_rebalance.store.lease import Lease
from lt_rebalance.store.place import STORE_FORMAT, open_store
from lt_rebalance.store.records import Failure, Timing
from lt_rebalance.store.store import Store
from lt_rebalance.studies.plan import Plan, compile_study
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage
from lt_rebalance.studies.study import Study
from lt_rebalance.training import device
from lt_rebalance.training.configs import Budget
from lt_rebalance.training.device import resolve_execution
from sweeps import full_grid
from tests.made_up import make_up

CPU = ["--device", "cpu", "--precision", "float32"]
CNN_FLOP = 31_964_672


def parse(*arguments: str) -> argparse.Namespace:
    return full_grid.make_grid_parser().parse_args(arguments)


def build(*arguments: str) -> Study:
    return full_grid.build_study(parse(*arguments))


def names(study: Study) -> list[tuple[str, str]]:
    """Return training data and method of every cell, as tables name them."""
    return [(cell.data.label, cell.method_label) for cell in study.cells]


# Presets


GENERATORS = ["mlp_cgan_relu", "small_mlp_cgan_leaky", "mlp_cgan_leaky", "big_mlp_cgan_leaky"]
METHODS = ["none", "undersample", "oversample", *GENERATORS]


def test_quick_has_the_rows_of_table_1_at_one_c_on_the_sample_at_three_seeds() -> None:
    study = build()
    assert names(study) == [("original", "none"), *(("1/2", method) for method in METHODS)]
    assert study.seeds == (0, 1, 2)
    assert study.name == "full_grid-quick"
    assert {cell.protocol for cell in study.cells} == {"sound"}
    assert {cell.data.dataset for cell in study.cells} == {"fashion_mnist_mini"}
    assert {cell.classifier.budget for cell in study.cells} == {Budget(steps=200, rounds=2)}
    generators = [cell.generator for cell in study.cells if cell.generator]
    assert {each.budget for each in generators} == {Budget(steps=600, rounds=2)}
    assert {(each.learning_rate, each.beta1) for each in generators} == {(1e-3, 0.5)}
    assert build("--preset", "quick") == study


def test_paper_has_every_row_of_table_1_as_the_paper_ran_it_at_ten_seeds() -> None:
    study = build("--preset", "paper")
    expected = [("original", "none"), *((c, method) for c in ("7/9", "1/2") for method in METHODS)]
    assert names(study) == expected and len(expected) == 15
    assert study.seeds == tuple(range(10))
    assert study.name == "full_grid-paper"
    assert {cell.protocol for cell in study.cells} == {"paper"}
    assert {cell.data.dataset for cell in study.cells} == {"fashion_mnist"}
    assert {cell.classifier.budget for cell in study.cells} == {Budget(epochs=30)}
    assert {cell.classifier.batch_size for cell in study.cells} == {100}
    assert {cell.classifier.loss for cell in study.cells} == {"double_softmax"}
    assert {cell.generator.budget for cell in study.cells if cell.generator} == {Budget(epochs=96)}
    assert {cell.generator.batch_size for cell in study.cells if cell.generator} == {256}


def test_full_has_both_protocols_all_methods_and_all_generators() -> None:
    study = build("--preset", "full")
    # In each protocol the original set, and at each C three plain methods and five generators.
    assert Counter(cell.protocol for cell in study.cells) == {"paper": 1 + 2 * 8, "sound": 1 + 2 * 8}
    assert study.seeds == tuple(range(10))
    assert {cell.data.dataset for cell in study.cells} == {"fashion_mnist"}
    generators = {cell.generator.architecture for cell in study.cells if cell.generator}
    assert len(generators) == 5
    assert "dccgan_leaky" in generators
    assert {cell.method.name for cell in study.cells} == {"none", "undersample", "oversample", "cgan"}


# Overrides


def test_c_selects_imbalance_ratios_in_lowest_terms() -> None:
    study = build("--c", "0.25", "6/8", "--methods", "none")
    assert names(study) == [("1/4", "none"), ("3/4", "none")]


def test_c_original_stands_for_the_balanced_set_alone() -> None:
    assert names(build("--c", "original")) == [("original", "none")]


def test_c_named_twice_runs_once() -> None:
    assert names(build("--c", "1/2", "0.5", "--methods", "none")) == [("1/2", "none")]


def test_methods_without_none_leave_the_original_set_out() -> None:
    study = build("--methods", "oversample", "undersample")
    methods = ("oversample", "undersample")
    assert names(study) == [("1/2", method) for method in methods]


def test_generators_multiply_only_the_method_that_needs_one() -> None:
    study = build("--c", "1/2", "--generators", "dccgan_leaky", "mlp_cgan_relu")
    plain = ["none", "undersample", "oversample"]
    assert names(study) == [("1/2", method) for method in [*plain, "dccgan_leaky", "mlp_cgan_relu"]]


def test_protocol_selects_protocols() -> None:
    study = build("--protocol", "paper", "sound", "--methods", "none", "--c", "1/2")
    assert [cell.protocol for cell in study.cells] == ["paper", "sound"]
    assert [cell.classifier.loss for cell in study.cells] == ["double_softmax", "cross_entropy"]


def test_dataset_selects_the_data_set() -> None:
    study = build("--dataset", "mnist")
    assert {cell.data.dataset for cell in study.cells} == {"mnist"}


def test_name_names_the_study() -> None:
    assert build().name == "full_grid-quick"
    assert build("--name", "mine").name == "mine"


def test_seeds_are_counted_from_zero() -> None:
    assert build("--seeds", "5").seeds == (0, 1, 2, 3, 4)
    assert build("--preset", "paper", "--seeds", "1").seeds == (0,)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--steps", "250"], Budget(steps=250, rounds=2)),
        (["--steps", "5000"], Budget(steps=5000, rounds=30)),
        (["--steps", "3"], Budget(steps=3, rounds=1)),
        (["--epochs", "3"], Budget(epochs=3)),
    ],
)
@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_classifier_budget_replaces_that_of_classifiers_alone(
    preset: str, arguments: list[str], expected: Budget
) -> None:
    before, after = build("--preset", preset), build("--preset", preset, *arguments)
    assert {cell.classifier.budget for cell in after.cells} == {expected}
    assert [cell.generator for cell in after.cells] == [cell.generator for cell in before.cells]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--generator-steps", "250"], Budget(steps=250, rounds=2)),
        (["--generator-epochs", "3"], Budget(epochs=3)),
    ],
)
@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_generator_budget_replaces_that_of_generators_alone(
    preset: str, arguments: list[str], expected: Budget
) -> None:
    before, after = build("--preset", preset), build("--preset", preset, *arguments)
    assert {cell.generator.budget for cell in after.cells if cell.generator} == {expected}
    assert [cell.classifier for cell in after.cells] == [cell.classifier for cell in before.cells]


# The command


class Answer(NamedTuple):
    """What a call of the command left."""

    code: int
    out: str
    err: str


Call = Callable[[Sequence[str]], Answer]


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Call]:
    """Return what runs the command in an empty directory; a call that would start Ray fails."""

    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("the command began to run a study")

    monkeypatch.setattr(ray, "init", refuse)
    work_dir = tmp_path / "cwd"
    work_dir.mkdir()
    monkeypatch.chdir(work_dir)
    num_threads = torch.get_num_threads()

    def run(arguments: Sequence[str]) -> Answer:
        code = main(full_grid.make_grid_parser(), full_grid.build_study, arguments)
        return Answer(code, *capsys.readouterr())

    yield run
    torch.set_num_threads(num_threads)


def list_tree(root: Path) -> dict[str, bytes | None]:
    """Return everything in a directory, with the content of its files."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


def assert_is_refused(answer: Answer, *expected: str) -> None:
    """Check that a call ended with one line that says these things."""
    assert answer.code == 2
    assert answer.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", answer.err), answer.err
    assert "Traceback" not in answer.err
    for text in expected:
        assert text in answer.err


WRONG_INPUT: dict[str, tuple[list[str], list[str]]] = {
    "preset": (["--preset", "huge"], ["unknown preset 'huge'", "known: quick, paper, full"]),
    "method": (["--methods", "smite"], ["unknown method 'smite'", "known: none, undersample, oversample"]),
    "generator": (["--generators", "mpl_cgan"], ["unknown generator 'mpl_cgan'", "known: small_mlp_cgan"]),
    "protocol": (["--protocol", "fair"], ["unknown protocol 'fair'", "known: paper, sound"]),
    "dataset": (["--dataset", "cifar"], ["unknown data set 'cifar'", "known: fashion_mnist, mnist"]),
    "dataset that is nowhere": (
        ["--dataset", "picturs", "--image-size", "32"],
        ["unknown data set 'picturs', and nothing is at that path; known: fashion_mnist"],
    ),
    "device": (["--device", "tpu"], ["unknown device 'tpu'", "known: cpu, cuda, auto"]),
    "precision": (["--precision", "float16"], ["unknown precision 'float16'", "float32, bfloat16, auto"]),
    "c above 1": (["--c", "1.5"], ["C must be strictly between 0 and 1", "1.5"]),
    "c of 1": (["--c", "1"], ["C must be strictly between 0 and 1", "got 1;", "original"]),
    "c not a number": (["--c", "abc"], ["C must be a fraction", "'abc'"]),
    "c over zero": (["--c", "1/0"], ["C must be a fraction", "'1/0'"]),
    "no seeds": (["--seeds", "0"], ["--seeds must be at least 1", "got 0"]),
    "seeds not a number": (["--seeds", "ten"], ["--seeds", "must be a whole number, got 'ten'"]),
    "no steps": (["--steps", "0"], ["steps must be above 0", "got 0"]),
    "negative steps": (["--steps", "-5"], ["steps must be above 0", "got -5"]),
    "no epochs": (["--epochs", "0"], ["epochs must be above 0", "got 0"]),
    "no generator steps": (["--generator-steps", "0"], ["steps must be above 0", "got 0"]),
    "steps and epochs": (["--steps", "9", "--epochs", "9"], ["--epochs", "not allowed with", "--steps"]),
    "two generator budgets": (
        ["--generator-steps", "9", "--generator-epochs", "9"],
        ["--generator-epochs", "not allowed with", "--generator-steps"],
    ),
    "flag": (["--colour", "red"], ["unrecognized arguments", "--colour red"]),
    "shortened flag": (["--step", "9"], ["unrecognized arguments", "--step 9"]),
    "value left out": (["--storage"], ["--storage", "expected one argument"]),
    "generators without cgan": (
        ["--generators", "mlp_cgan_relu", "--methods", "none", "oversample"],
        ["--generators needs a method with a generator", "got --methods none oversample"],
    ),
    "original without none": (
        ["--c", "original", "1/2", "--methods", "oversample"],
        ["--c original", "method none", "add none to --methods"],
    ),
    "no threads": (["--threads", "0"], ["num_threads must be above 0", "got 0"]),
    "no trials at a time": (["--max-concurrent", "0"], ["max_concurrent must be above 0", "got 0"]),
    "share of a GPU on a CPU": (["--device", "cpu", "--gpus-per-trial", "0.5"], ["is for trials on a GPU"]),
    "more threads than CPUs": (["--device", "cpu", "--threads", "9999"], ["no trial fits", "9999 CPUs"]),
    "storage elsewhere": (["--storage", "ftp://host/x"], ["--storage must be a directory", "'ftp://host/x'"]),
    # Names that nothing would ever read.
    "method beside original alone": (
        ["--c", "original", "--methods", "none", "smite"],
        ["unknown method 'smite'"],
    ),
    "generator beside original alone": (
        ["--c", "original", "--generators", "mpl_cgan"],
        ["--generators needs a method with a generator, got --c original"],
    ),
    "rebalancing of the balanced set": (
        ["--c", "original", "--methods", "none", "oversample"],
        ["--c original goes with --methods none alone", "none oversample"],
    ),
    "unknown field": (
        ["--set", "classifier.lr=1"],
        ["unknown field of classifier 'lr'", "known: learning_rate"],
    ),
    "value of another type": (
        ["--set", "data.c=0.5"],
        ["data.c must be a value of type str", "quote it: 'data.c=\"0.5\"'"],
    ),
    "file of fields that is missing": (["--config", "no.toml"], ["--config no.toml cannot be read"]),
    "generator field without cgan": (
        ["--set", "generator.beta1=0.5", "--methods", "none"],
        ["none of the methods has a generator"],
    ),
    "generator budget without cgan": (["--generator-steps", "9", "--methods", "none"], ["--generator-steps"]),
}


@pytest.mark.parametrize("is_plan", [False, True])
@pytest.mark.parametrize("case", WRONG_INPUT)
def test_wrong_input_is_refused_in_one_line_and_touches_nothing(
    call: Call, tmp_path: Path, case: str, is_plan: bool
) -> None:
    arguments, expected = WRONG_INPUT[case]
    answer = call(["--storage", "results", *arguments, *(["--plan"] if is_plan else [])])
    assert_is_refused(answer, *expected)
    assert list_tree(tmp_path) == {"cwd": None}


def test_json_without_plan_is_refused_and_touches_nothing(call: Call, tmp_path: Path) -> None:
    assert_is_refused(call([*CPU, "--json"]), "--json goes with --plan")
    assert list_tree(tmp_path) == {"cwd": None}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_without_a_gpu_is_refused_and_touches_nothing(call: Call, tmp_path: Path) -> None:
    assert_is_refused(call(["--device", "cuda"]), "--device cuda needs a GPU")
    assert list_tree(tmp_path) == {"cwd": None}


BOTH_WAYS = pytest.mark.parametrize("extra", [[], ["--plan"]], ids=["run", "plan"])


@BOTH_WAYS
def test_storage_under_a_file_is_refused_and_untouched(call: Call, tmp_path: Path, extra: list[str]) -> None:
    (tmp_path / "file").write_text("a file")
    before = list_tree(tmp_path)
    storage = tmp_path / "file" / "x"
    assert_is_refused(call([*CPU, *extra, "--storage", str(storage)]), "--storage", str(storage), "directory")
    assert list_tree(tmp_path) == before


@BOTH_WAYS
def test_storage_that_is_a_file_is_refused_and_untouched(
    call: Call, tmp_path: Path, extra: list[str]
) -> None:
    (tmp_path / "file").write_text("a file")
    before = list_tree(tmp_path)
    assert_is_refused(call([*CPU, *extra, "--storage", str(tmp_path / "file")]), str(tmp_path / "file"))
    assert list_tree(tmp_path) == before


@BOTH_WAYS
def test_storage_that_holds_something_else_is_refused_and_untouched(
    call: Call, tmp_path: Path, extra: list[str]
) -> None:
    storage = tmp_path / "thesis"
    storage.mkdir()
    (storage / "chapter.tex").write_text("It was a dark and stormy night.")
    before = list_tree(tmp_path)
    answer = call([*CPU, *extra, "--storage", str(storage)])
    assert_is_refused(answer, str(storage), "not empty and not a store", "'chapter.tex'")
    assert list_tree(tmp_path) == before


@BOTH_WAYS
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            json.dumps({"format": STORE_FORMAT, "results_version": RESULTS_VERSION + 1}),
            ["results of version", f"'results_version': {RESULTS_VERSION + 1}", "use another store"],
        ),
        (
            json.dumps({"format": STORE_FORMAT + 1, "results_version": RESULTS_VERSION}),
            [f"'format': {STORE_FORMAT + 1}", "use another store"],
        ),
        ("[]", ["use another store"]),
        ("{", ["store.json is damaged", "use another store"]),
    ],
    ids=["results version", "format", "no version", "damaged"],
)
def test_storage_of_another_version_is_refused_and_untouched(
    call: Call, tmp_path: Path, extra: list[str], content: str, expected: list[str]
) -> None:
    storage = tmp_path / "results"
    storage.mkdir()
    (storage / "store.json").write_text(content)
    before = list_tree(tmp_path)
    assert_is_refused(call([*CPU, *extra, "--storage", str(storage)]), str(storage), *expected)
    assert list_tree(tmp_path) == before


def test_missing_data_is_refused_and_storage_is_untouched(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "DEBIAN_DIR", tmp_path / "no-package")
    data_dir = tmp_path / "empty"
    data_dir.mkdir()
    before = list_tree(tmp_path)
    answer = call([*CPU, "--preset", "paper", "--data-dir", str(data_dir), "--storage", "results"])
    assert_is_refused(answer, "train-images-idx3-ubyte", "missing", str(data_dir), "--download")
    assert list_tree(tmp_path) == before


def test_truncated_data_are_refused_and_storage_is_untouched(
    call: Call, tmp_path: Path, full_data_dir: Path
) -> None:
    raw_dir = tmp_path / "data" / "FashionMNIST" / "raw"
    raw_dir.mkdir(parents=True)
    for path in (full_data_dir / "FashionMNIST" / "raw").glob("*ubyte*"):
        if path.name.startswith("t10k-labels"):
            (raw_dir / path.name).write_bytes(path.read_bytes()[:-100])
        else:
            (raw_dir / path.name).symlink_to(path)
    damaged = next(raw_dir.glob("t10k-labels*"))
    data_dir = str(tmp_path / "data")
    answer = call([*CPU, "--preset", "paper", "--data-dir", data_dir, "--storage", "results"])
    assert_is_refused(answer, "fashion_mnist", str(damaged), "remove it")
    assert not (tmp_path / "cwd" / "results").exists()


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_tells_what_it_answers_and_what_can_be_set(
    call: Call, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        call([flag])
    assert stopped.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("quick", "paper", "full", "Table 1", "--storage", "store of all results", "--plan"):
        assert word in out
    for option in vars(parse()):
        assert f"--{option.replace('_', '-')}" in out
    # The docstring keeps its lines.
    assert re.search(r"^  quick   the 8 rows", out, re.MULTILINE)
    assert "the same command resumes where" in out


# The plan


def test_plan_as_json_counts_stages_and_arithmetic_and_creates_nothing(call: Call, tmp_path: Path) -> None:
    selection = ["--methods", "oversample", "cgan", "--generators", "small_mlp_cgan_leaky", "--c", "7/9"]
    answer = call([*CPU, *selection, "--seeds", "2", "--max-concurrent", "2", "--plan", "--json"])
    assert (answer.code, answer.err) == (0, "")
    plan = json.loads(answer.out)
    assert plan["study"] == "full_grid-quick"
    assert plan["runs"] == {"planned": 4, "complete": 0, "failed": 0, "diverged": 0, "missing": 4}
    assert plan["stages"] == {
        "generator": {"planned": 2, "to_run": 2},
        "classifier": {"planned": 4, "to_run": 4},
    }
    assert plan["execution"]["device"] == "cpu"
    assert plan["execution"]["precision"] == "float32"
    assert plan["num_slots"] == 2
    # A classifier trains on 200 batches of 32 images. The 188th ends an epoch of 6,000 images and has 16.
    # Training takes three passes per image. The classifier tests 2,000 images twice, with one pass per image.
    # A CGAN takes 600 batches, of which every 188th has 16 images, with three passes of the generator and
    # eight of the discriminator.
    generator, discriminator = 1_121_280, 2_937_344
    classifiers = 2 * CNN_FLOP * (3 * 6_384 + 2 * 2_000)
    assert plan["flop"] == 2 * (classifiers + 19_152 * (3 * generator + 8 * discriminator))
    # On two slots at least half of all the work is left, and no less than one chain.
    half_s = plan["device_hours"] * 3600 / 2
    assert plan["eta_s"] >= half_s * (1 - 1e-12) > 0
    assert list_tree(tmp_path) == {"cwd": None}


def test_plan_counts_stages_in_words_and_creates_nothing(call: Call, tmp_path: Path) -> None:
    answer = call([*CPU, "--plan", "--storage", str(tmp_path / "deep" / "results")])
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[0] == "full_grid-quick: planned=24 complete=0 failed=0 diverged=0 missing=24"
    assert lines[1] == "cells: 8, seeds: 3; what is complete is not run again"
    assert lines[2] == "generator runs: 12 planned, 12 to run"
    assert lines[3] == "classifier runs: 24 planned, 24 to run"
    assert re.fullmatch(r"arithmetic: [\d.]+ PFLOP in float32", lines[4])
    assert re.fullmatch(r"time: .+ of one cpu slot, about .+ on \d+", lines[5])
    assert lines[6] == "seeds per trial: at most 1"
    assert all(line.startswith("device time, ") for line in lines[7:])
    assert list_tree(tmp_path) == {"cwd": None}


@pytest.mark.parametrize("num_threads", ["1", "2"])
def test_plan_prices_device_time_by_stage_method_and_cell(
    num_threads: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lt_rebalance.commands.sweep.count_cpus", lambda: 2)
    asked = ["--threads", num_threads, "--storage", str(tmp_path / "results")]
    plan = json.loads(call([*CPU, "--plan", "--json", "--rate", "3", *asked]).out)
    assert len(plan["costs"]["cell"]) == 8 and set(plan["costs"]["stage"]) == {"generator", "classifier"}
    for axis in ("stage", "cell", "method", "in"):
        left_h = sum(each["device_hours_left"] for each in plan["costs"][axis].values())
        assert left_h == pytest.approx(plan["device_hours"])
        price = sum(each["price_left"] for each in plan["costs"][axis].values())
        assert price == pytest.approx(3 * plan["device_hours"])


@pytest.mark.slow
@pytest.mark.usefixtures("measured_speed")
def test_plan_needs_no_data(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "DEBIAN_DIR", tmp_path / "no-package")
    selection = ["--preset", "paper", "--methods", "none", "--c", "1/2", "--seeds", "1"]
    answer = call([*CPU, *selection, "--data-dir", str(tmp_path / "nowhere"), "--plan", "--json"])
    assert (answer.code, answer.err) == (0, "note: --data-dir changes nothing: a plan reads no data\n")
    assert json.loads(answer.out)["runs"]["planned"] == 1


# A study that the store answers already


class Finished:
    """A store in which a small study is done, in the way a test asks for."""

    arguments = (*CPU, "--methods", "none", "--c", "7/9", "1/2", "--seeds", "2", "--storage", "results")

    def __init__(self, root: Path) -> None:
        store = open_store(str(root), RESULTS_VERSION, create=True)
        assert store is not None
        self.store: Store = store
        execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
        self.plan: Plan = compile_study(build(*self.arguments), execution)
        self.stages: list[AnyStage] = [run.stage for run in self.plan.runs]

    def commit(self, stage: AnyStage, state: str = "complete") -> None:
        record = make_up(stage, state, timing=Timing(wall_s=7.0, train_s=6.0, num_errors=0))
        assert self.store.commit(record)

    def fail(self, stage: AnyStage, error: str) -> None:
        values = {"key": stage.key, "kind": stage.kind, "stage": stage.to_dict(), "error": error}
        self.store.mark_failed(Failure(**values, traceback="", provenance={}))


@pytest.fixture
def finished(call: Call) -> Finished:
    """Return an empty store for a study of two cells at two seeds, where the command will look for it."""
    return Finished(Path("results").absolute())


def test_plan_of_a_started_study_goes_by_what_its_stages_took(
    call: Call, finished: Finished, tmp_path: Path
) -> None:
    for stage in finished.stages[:3]:
        finished.commit(stage)
    before = list_tree(tmp_path)
    answer = call([*finished.arguments, "--max-concurrent", "1", "--plan", "--json"])
    assert (answer.code, answer.err) == (0, "")
    plan = json.loads(answer.out)
    assert plan["runs"] == {"planned": 4, "complete": 3, "failed": 0, "diverged": 0, "missing": 1}
    assert plan["stages"]["classifier"] == {"planned": 4, "to_run": 1}
    # 200 batches of 32 are two epochs of the 2,485 images of 7/9 and 44 more batches, 6,378 images, or five
    # epochs of the 1,202 images of 1/2 and 10 more batches, 6,330 images. 7/9, 1/2 and 7/9 took 6 s each; 1/2
    # is left, and the median speed is that of 7/9.
    of_7_9, of_1_2 = (CNN_FLOP * (3 * num_images + 2 * 2_000) for num_images in (6_378, 6_330))
    assert plan["flop"] == of_1_2
    assert plan["eta_s"] == pytest.approx(6 * of_1_2 / of_7_9)
    assert plan["device_hours"] == pytest.approx(plan["eta_s"] / 3600)
    assert list_tree(tmp_path) == before


def test_new_store_inside_of_another_is_refused(call: Call, finished: Finished) -> None:
    for stage in finished.stages:
        finished.commit(stage)
    assert call(finished.arguments).code == 0
    inside = call([*finished.arguments[:-1], "results/studies/new"])
    assert inside.code == 2 and "results, a store or a published study" in inside.err
    assert not Path("results/studies/new").exists()


@pytest.mark.parametrize("asked", [[], ["--device", "cpu"]])
def test_study_goes_on_in_the_precision_that_it_was_begun_in(
    asked: list[str], call: Call, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that would choose another, all finished runs would be trained again."""
    for stage in finished.stages:
        finished.commit(stage)
    assert call(finished.arguments).code == 0  # which writes the study
    monkeypatch.setattr(device, "cpu_computes_bfloat16", lambda: True)
    monkeypatch.setattr(device, "may_have_gpu", lambda: False)
    answer = call([*finished.arguments[len(CPU) :], *asked, "--plan", "--json"])
    assert json.loads(answer.out)["runs"]["complete"] == 4
    assert "goes on as it was begun, on cpu in float32; this machine would choose cpu and bf" in answer.err
    other = call([*finished.arguments[len(CPU) :], "--precision", "bfloat16", "--plan", "--json"])
    assert (json.loads(other.out)["runs"]["complete"], other.err) == (0, "")
    more = call([*finished.arguments[len(CPU) :], "--threads", "2", "--plan", "--json"])
    assert (json.loads(more.out)["runs"]["complete"], more.err) == (0, "")  # other keys in any case


def test_study_that_was_begun_on_a_gpu_is_not_trained_again_on_a_cpu_unasked(
    call: Call, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in finished.stages:
        finished.commit(stage)
    assert call(finished.arguments).code == 0
    study = finished.store.load_study("full_grid-quick")
    execution = {**study.execution, "device": "cuda", "precision": "bfloat16"}
    finished.store.write_study(dataclasses.replace(study, execution=execution))
    monkeypatch.setattr(device, "may_have_gpu", lambda: False)
    refused = call([*finished.arguments[len(CPU) :], "--plan"])
    assert (
        refused.code == 2
        and "was begun on a GPU, and this machine has none; run it where there is" in refused.err
    )
    assert call([*finished.arguments, "--plan"]).code == 0


def test_plan_of_a_finished_study_has_nothing_left(call: Call, finished: Finished) -> None:
    for stage in finished.stages:
        finished.commit(stage)
    answer = call([*finished.arguments, "--plan", "--json"])
    plan = json.loads(answer.out)
    assert plan["stages"]["classifier"] == {"planned": 4, "to_run": 0}
    assert (plan["flop"], plan["eta_s"], plan["device_hours"]) == (0, 0, 0)


def test_plan_with_retry_failed_counts_what_would_be_tried_again(
    call: Call, finished: Finished, tmp_path: Path
) -> None:
    for stage in finished.stages[:3]:
        finished.commit(stage)
    finished.fail(finished.stages[3], "OSError: disk full")
    before = list_tree(tmp_path)
    for extra, to_run in (([], 0), (["--retry-failed"], 1)):
        answer = call([*finished.arguments, *extra, "--plan", "--json"])
        assert json.loads(answer.out)["stages"]["classifier"] == {"planned": 4, "to_run": to_run}
    assert list_tree(tmp_path) == before


def test_finished_study_is_shown_again_without_running_anything(call: Call, finished: Finished) -> None:
    for stage in finished.stages:
        finished.store.commit(make_up(stage, dead=[9]))
    answer = call(finished.arguments)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert lines[-1] == "planned=4 complete=4 failed=0 diverged=0 missing=0"
    first = [line.rstrip() for line in lines].index("sound, C = 7/9")
    assert lines[first + 2].rstrip() == "sound, C = 1/2"
    for row in (lines[first + 1], lines[first + 3]):
        assert re.match("  none +2/2  .*0.440 ± 0.000", row)
    tables = Path("results/tables/full_grid-quick")
    assert f"table: {tables.absolute()}/cells.csv" in lines
    assert f"table: {tables.absolute()}/runs.csv" in lines
    cells, runs = pd.read_csv(tables / "cells.csv"), pd.read_csv(tables / "runs.csv")
    assert cells["accuracy_mean"].tolist() == pytest.approx([0.45, 0.45])
    assert cells["n"].tolist() == [2, 2]
    assert runs["key"].tolist() == [run.key for run in finished.plan.runs]
    study = finished.store.load_study("full_grid-quick")
    assert [run.key for run in study.runs] == [run.key for run in finished.plan.runs]
    assert study.results_version == RESULTS_VERSION
    assert study.question == (full_grid.__doc__ or "").splitlines()[0]


def test_finished_study_is_written_only_by_the_holder_of_the_lease_and_shown_without(
    call: Call, finished: Finished
) -> None:
    for stage in finished.stages:
        finished.commit(stage)
    path, fewer = "studies/full_grid-quick.json", [*finished.arguments, "--seeds", "1"]
    with Lease(finished.store.files, finished.store.location, "other", beat_s=0.05):
        assert_is_refused(call(finished.arguments), "in use: other")
        assert finished.store.list_studies() == []
    assert call(finished.arguments).code == 0
    written = finished.store.files.read(path)
    with Lease(finished.store.files, finished.store.location, "other", beat_s=0.05):
        answer = call([*finished.arguments, "--max-concurrent", "1"])
        assert (answer.code, answer.err) == (0, "")
        assert_is_refused(call(fewer), "in use: other")
        assert finished.store.files.read(path) == written
    assert call(fewer).code == 0
    assert len(finished.store.load_study("full_grid-quick").runs) == 2


def test_failures_outlive_a_retry_whose_ray_does_not_start(
    call: Call, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(session: RaySession) -> None:
        raise ClusterError("Ray did not start")

    for stage in finished.stages[:3]:
        finished.commit(stage)
    finished.fail(finished.stages[3], "OSError: disk full")
    monkeypatch.setattr(RaySession, "start", refuse)
    assert call([*finished.arguments, "--retry-failed"]).code == 2
    assert finished.store.read_failure(finished.stages[3].key) is not None
    assert call([*finished.arguments, "--retry-failed"]).code == 2


@pytest.mark.slow
def test_a_study_that_drops_runs_of_an_earlier_one_says_so(call: Call, finished: Finished) -> None:
    for stage in finished.stages:
        finished.commit(stage)
    assert "note:" not in call(finished.arguments).out
    fewer = [*finished.arguments, "--seeds", "1"]
    assert "note:" not in call([*fewer, "--name", "mine"]).out
    assert "note: study full_grid-quick planned 2 other runs before." in call(fewer).out
    assert "note:" not in call(finished.arguments).out  # nothing is dropped when it grows again


def test_study_with_diverged_runs_is_finished(call: Call, finished: Finished) -> None:
    for stage in finished.stages[:3]:
        finished.commit(stage)
    finished.commit(finished.stages[3], "diverged")
    answer = call(finished.arguments)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.endswith("planned=4 complete=3 failed=0 diverged=1 missing=0\n")


@pytest.mark.parametrize("error", ["OSError: disk full", "RuntimeError: [/tmp/x] is [full] :warning:"])
def test_study_with_failed_runs_says_which_and_why_and_exits_1(
    call: Call, finished: Finished, error: str
) -> None:
    for stage in finished.stages[:3]:
        finished.commit(stage)
    finished.fail(finished.stages[3], error)
    answer = call(finished.arguments)
    assert (answer.code, answer.err) == (1, "")
    lines = answer.out.splitlines()
    assert f"failed: sound 1/2 none seed 1: {error}" in lines
    assert any(line.startswith("to retry what failed: ") and "--retry-failed" in line for line in lines)
    assert lines[-1] == "planned=4 complete=3 failed=1 diverged=0 missing=0"
