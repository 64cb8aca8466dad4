"""A method or a network in a file of the user's: from the command line into keys, records and workers."""

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import analysis.__main__
from lt_rebalance.cli.main import main as look
from lt_rebalance.cluster.attempt import AttemptError
from lt_rebalance.cluster.rungs import RungTrainable, rung_trial_config
from lt_rebalance.cluster.trainable import trial_config
from lt_rebalance.commands.sweep import main
from lt_rebalance.commands.verification import prepare_verification
from lt_rebalance.ground import own_file
from lt_rebalance.ground.own_file import resolve
from lt_rebalance.methods.registry import METHODS, MethodConfig, get_method, plan_rebalancing
from lt_rebalance.networks.classifiers.registry import build_classifier
from lt_rebalance.networks.generators.generator import NOISE_DIM
from lt_rebalance.networks.generators.registry import build_generator as make_generator
from lt_rebalance.search.account import SearchBudget
from lt_rebalance.search.files import make_account
from lt_rebalance.search.journal import open_journal
from lt_rebalance.search.owners import list_owned
from lt_rebalance.search.search import Search
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Failure
from lt_rebalance.studies import workload
from lt_rebalance.studies.overrides import change_study, make_overrides
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan, plan_from_description
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage, stage_from_dict
from lt_rebalance.studies.study import Study
from lt_rebalance.trainables.trainables import CGANTrainable, CNNTrainable
from lt_rebalance.training.configs import Execution
from sweeps import full_grid
from tests.tiny import TINY

SOURCE = """\
import sys

import numpy as np
from torch import nn

from lt_rebalance.methods.contract import Method, RebalancePlan
from lt_rebalance.networks.generators.generator import LABEL_DIM, NOISE_DIM


def _first(number):
    def plan(counts_K, draw, rng, options):
        kept = tuple(np.arange(min(number, count)) for count in counts_K)
        return RebalancePlan(positions_by_class=kept, num_synthetic_K=(0,) * len(counts_K))

    return plan


def _method(plan):
    return Method(description="of a user", draws=(), needs_generator=False, plan=plan)


def _raise(counts_K, draw, rng, options):
    raise ERRORS[0](f"the counts are {counts_K}")


def _ask_for_too_many(counts_K, draw, rng, options):
    return _first(0)(counts_K, draw, rng, options).positions_by_class


def _mean(logits_LBK, labels_LB, counts_LK, progress, options):
    return logits_LBK.mean()


def _misspelt(logits_LBK, labels_LB, counts_LK, progress, options):
    return logits_LBK.summ(-1)


of_mean = Method(description="a mean", loss=_mean)
misspelt = Method(description="misspelt", loss=_misspelt)
ERRORS = [LookupError]
five = _method(_first(5))
raising = _method(_raise)
without_plan = _method(_ask_for_too_many)


def build(num_classes, image_shape):
    channels, height, width = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_classes))


def build_for_eleven(num_classes, image_shape):
    return build(num_classes + 1, image_shape)


def build_without_linear(num_classes, image_shape):
    channels, *area = image_shape
    return nn.Sequential(nn.Conv2d(channels, num_classes, area), nn.Flatten())


class TwoHeads(nn.Module):
    def __init__(self, num_classes, image_shape, num_unused):
        super().__init__()
        channels, height, width = image_shape
        self.logits = nn.Linear(channels * height * width, num_classes)
        self.unused = nn.Linear(3, num_unused)

    def forward(self, images_NCHW):
        return self.logits(images_NCHW.flatten(1))


def build_two_heads(num_classes, image_shape):
    return TwoHeads(num_classes, image_shape, 7)


def build_equal_heads(num_classes, image_shape):
    return TwoHeads(num_classes, image_shape, num_classes)


def build_generator(image_shape):
    channels, height, width = image_shape
    body = nn.Linear(NOISE_DIM + LABEL_DIM, channels * height * width)
    return nn.Sequential(body, nn.Unflatten(1, image_shape))


def build_flat_generator(image_shape):
    return nn.Linear(NOISE_DIM + LABEL_DIM, 784)


def build_generator_of_noise(image_shape):
    return nn.Linear(NOISE_DIM, 784)


def build_nothing(num_classes, image_shape):
    build(num_classes, image_shape)


def build_of_one(num_classes):
    return nn.Linear(3, num_classes)


def build_too_small(num_classes, image_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(3, num_classes))
"""
RAISES = 'raise ERRORS[0](f"the counts are {counts_K}")'
MINI = {"dataset": TINY, "c": "1/2", "generator": None}
CPU = ["--device", "cpu", "--precision", "float32"]

Forget = Callable[[], None]


def line_of(text: str) -> int:
    """Return the number of the line of `SOURCE` that a text begins on."""
    return SOURCE.partition(text)[0].count("\n") + 1


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> Forget:
    """Return what makes this process one to which no file was given; that is so at the start."""

    def forget_() -> None:
        monkeypatch.setattr(own_file, "_AT_HAND", {})
        workload._count_items.cache_clear()

    forget_()
    return forget_


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a user's file, in the working directory of this process."""
    (tmp_path / "of_mine").mkdir()
    monkeypatch.chdir(tmp_path / "of_mine")
    (tmp_path / "of_mine" / "mine.py").write_text(SOURCE)
    return Path("mine.py")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    opened = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert opened is not None
    return opened


@pytest.fixture
def make_stage(path: Path, small_protocol: Protocol, cpu_execution: Execution) -> Callable[..., Any]:
    """Return a function that makes the stage of a user's method."""

    def make(taken: str = "five", **changes: Any) -> ClassifierStage:
        protocol = dataclasses.replace(small_protocol, **changes)
        method = resolve(f"{path}:{taken}") if taken else "none"
        return make_cell(protocol, method=method, **MINI).stage(0, cpu_execution)

    return make


MakeStage = Callable[..., ClassifierStage]


def test_name_and_sha256_are_in_the_key_and_the_path_is_not(path: Path, make_stage: MakeStage) -> None:
    first = make_stage()
    content = first.to_dict()["method"]
    assert content["name"] == f"mine.py:five@{content['file_sha256'][:8]}" and first.method.name in str(first)
    path.rename("../mine.py")
    assert make_cell_key(Path("../mine.py"), first) == first.key
    Path("../mine.py").write_text(SOURCE + "\n# the same, except these words\n")
    changed = make_cell_key(Path("../mine.py"), first)
    assert changed != first.key


def make_cell_key(path: Path, like: ClassifierStage) -> str:
    config = MethodConfig(name=resolve(f"{path}:five"), draw=None)
    return dataclasses.replace(like, method=config).key


def test_stages_without_a_file_of_ones_own_describe_none(classifier_stage: ClassifierStage) -> None:
    assert "file_sha256" not in json.dumps(classifier_stage.to_dict())


def test_method_of_ones_own_acts_and_its_record_names_it(make_stage: MakeStage, store: Store) -> None:
    record = run_stage(make_stage(), store)
    assert record.state == "complete"
    assert record.training_counts == tuple(min(5, count) for count in record.class_counts)
    assert max(record.class_counts) > 5
    assert record.stage["method"] == make_stage().to_dict()["method"]


def test_worker_runs_what_its_driver_hands_on_though_it_has_no_such_file(
    path: Path, make_stage: MakeStage, store: Store, forget: Forget
) -> None:
    stage = make_stage()
    config = json.loads(json.dumps(trial_config([stage], store.location, None)))
    path.unlink()
    forget()
    trainable = CNNTrainable(config)
    while not trainable.train()["done"]:
        pass
    record = store.load_record(stage.key)
    assert record is not None and record.training_counts[0] == 5


def test_trial_of_a_search_is_handed_the_file_too(
    path: Path, small_search: Search, store: Store, forget: Forget
) -> None:
    search = with_method(small_search, path)
    config = rung_trial_config(search.ladder(search.untuned), ["macro_f1"], store.location, None)
    path.unlink()
    forget()
    assert RungTrainable(config).train()["outcome"] == "running"
    assert all(store.load_record(stage.key) for stage in search.ladder(search.untuned)[0].groups[0])


def with_method(search: Search, path: Path) -> Search:
    method = MethodConfig(name=resolve(f"{path}:five"), draw=None)
    return dataclasses.replace(search, base=dataclasses.replace(search.base, method=method))


def with_generator(search: Search, path: Path) -> Search:
    assert search.base.generator is not None
    generator = dataclasses.replace(search.base.generator, architecture=resolve(f"{path}:build_generator"))
    return dataclasses.replace(search, base=dataclasses.replace(search.base, generator=generator))


def test_file_of_the_documentation_works(path: Path, small_protocol: Protocol) -> None:
    text = (Path(__file__).parents[2] / "docs" / "own-method.md").read_text()
    path.write_text(text.partition("```python\n# mine.py\n")[2].partition("```")[0])
    method = make_cell(small_protocol, method=resolve(f"{path}:median"), **MINI).method
    plan = plan_rebalancing(method.name, method.draw, [9, 5, 1], np.random.default_rng(0))
    assert plan.counts_K == [5, 5, 1]
    generator = make_generator(resolve(f"{path}:generator"), 3, (1, 2, 2))
    images_NCHW = generator(torch.zeros(4, NOISE_DIM), torch.zeros(4, dtype=torch.int64))
    assert images_NCHW.shape == (4, 1, 2, 2)
    assert build_classifier(resolve(f"{path}:linear"), 3, (1, 2, 2))(torch.zeros(4, 1, 2, 2)).shape == (4, 3)


def test_network_of_ones_own_is_trained(
    path: Path, small_protocol: Protocol, cpu_execution: Execution, store: Store
) -> None:
    study = Study(name="study", cells=(make_cell(small_protocol, method="none", **MINI),), seeds=(0,))
    changed = change_study(study, make_overrides({"classifier.architecture": f"{path}:build"}))
    (run,) = compile_study(changed, cpu_execution).runs
    name = run.stage.classifier.architecture
    assert name.startswith("mine.py:build@") and changed.overrides["classifier"]["architecture"] == name
    assert str(run).startswith(f"small+classifier.architecture={name} ")
    record = run_stage(run.stage, store)
    assert record.stage["classifier"]["file_sha256"].startswith(name[-8:])
    assert make_overrides({"classifier.architecture": "paper_cnn"}).tables["classifier"] == {
        "architecture": "paper_cnn"
    }
    back = change_study(changed, make_overrides({"classifier.architecture": "paper_cnn"}))
    assert back.cells[0].classifier == study.cells[0].classifier


@pytest.mark.slow
def test_generator_of_ones_own_is_trained_and_fills_the_classes(
    path: Path, small_protocol: Protocol, cpu_execution: Execution, store: Store, forget: Forget
) -> None:
    options = full_grid.make_grid_parser().parse_args(
        ["--methods", "cgan", "--generators", f"{path}:build_generator", "--c", "1/2", "--seeds", "1"]
    )
    (cell,) = full_grid.build_study(options).cells
    name = cell.method_label
    assert name.startswith("mine.py:build_generator@")
    stage = make_cell(
        small_protocol, dataset="fashion_mnist_mini", c="1/2", method="cgan", generator=name
    ).stage(0, cpu_execution)
    assert stage.generator_stage is not None
    generator_trial = trial_config([stage.generator_stage], store.location, None)
    classifier_trial = trial_config([stage], store.location, None)
    path.unlink()
    for trainable, config in ((CGANTrainable, generator_trial), (CNNTrainable, classifier_trial)):
        forget()  # a worker has only what the main process passed to it
        running = trainable(json.loads(json.dumps(config)))
        while not running.train()["done"]:
            pass
    forget()
    record = store.read_record(stage.key)
    assert record is not None and len(set(record.training_counts)) == 1 and sum(record.synthetic_counts)
    assert record.stage["generator_stage"]["generator"]["file_sha256"].startswith(name[-8:])
    assert stage_from_dict(record.stage) == stage


@pytest.mark.parametrize("error", ["LookupError", "ValueError", "OSError"])
def test_error_of_a_users_code_in_a_worker_is_told_as_theirs_and_kept(
    error: str, path: Path, make_stage: MakeStage, store: Store, forget: Forget
) -> None:
    path.write_text(SOURCE.replace("[LookupError]", f"[{error}]"))
    stage = make_stage("raising")
    config = trial_config([stage], store.location, None)
    forget()
    said = f"mine.py:{line_of(RAISES)}: {error}: the counts are ["
    if error == "ValueError":  # final, as any ValueError is
        result = CNNTrainable(config).train()
        assert (result["outcome"], result["cause"]) == ("failed", "own file")
        failure = store.load_failure(stage.key)
    else:
        with pytest.raises(AttemptError, match=re.escape(said)):
            CNNTrainable(config).train()
        (failure,) = store.load_errors(stage.key)
    assert failure is not None
    assert failure.cause == "own file" and failure.error.startswith(said)
    assert RAISES in failure.traceback


def test_wrong_return_in_a_worker_is_told_as_theirs(
    make_stage: MakeStage, store: Store, forget: Forget
) -> None:
    stage = make_stage("of_mean")
    config = trial_config([stage], store.location, None)
    forget()
    trainable = CNNTrainable(config)
    result = trainable.train()
    assert (result["outcome"], result["cause"]) == ("failed", "own file")
    failure = store.load_failure(stage.key)
    said = f"mine.py:{line_of('def _mean')}: loss must return losses_LB of shape (1, "
    assert failure is not None and failure.error.startswith(said)


ON_LAST_LAYER = [
    name for name, each in METHODS.items() if each.head is not None or each.after is not None or each.then
]
WRONG = [
    (["--methods", "mine.py:five_"], "mine.py does not define 'five_'"),
    (
        ["--methods", "mine.py:build"],
        f"mine.py:{line_of('def build(')}: build must be of type Method, got one of type function",
    ),
    (["--methods", "nowhere/mine.py:five"], "there is no file 'nowhere/mine.py'"),
    (["--methods", "broken.py:five"], "broken.py:2: ModuleNotFoundError: No module named 'no_such_package'"),
    (["--methods", "mine.py:raising"], f"mine.py:{line_of(RAISES)}: LookupError: the counts are "),
    (
        ["--methods", "mine.py:without_plan"],
        f"mine.py:{line_of('def _ask_for_too_many')}: plan must return a RebalancePlan, got one",
    ),
    (
        ["--methods", "mine.py:of_mean"],
        f"mine.py:{line_of('def _mean')}: loss must return losses_LB of shape (2, 5) in floating point, got",
    ),
    (["--methods", "mine.py:misspelt"], f"mine.py:{line_of('logits_LBK.summ')}: AttributeError: "),
    (
        ["--set", "classifier.architecture=mine.py:build_nothing"],
        f"mine.py:{line_of('def build_nothing')}: a classifier is a function (num_classes, image_shape) -> "
        "nn.Module, got None",
    ),
    (
        ["--set", "classifier.architecture=mine.py:build_of_one"],
        f"mine.py:{line_of('def build_of_one')}: a classifier is a function (num_classes, image_shape) -> "
        "nn.Module, got one that takes (num_classes)",
    ),
    (
        ["--generators", "mine.py:build"],
        f"mine.py:{line_of('def build(')}: a generator is a function (image_shape) -> nn.Module, got one",
    ),
    (["--c", "original", "--methods", "mine.py:five"], "--c original goes with --methods none alone"),
    (
        ["--set", "classifier.architecture=mine.py:five"],
        f"mine.py:{line_of('five = ')}: five must be a function",
    ),
    (["--set", "classifier.architecture=mine.py:build_for_eleven"], "must make 10 logits an image"),
    (["--set", "classifier.architecture=mine.py:build_too_small"], "cannot be computed on images of 1x28x28"),
    *(
        (
            ["--methods", method, "--set", "classifier.architecture=mine.py:build_without_linear"],
            "needs a classifier that has one, got a Sequential without; end the network with nn.Linear",
        )
        for method in ON_LAST_LAYER
    ),
    *(
        (
            ["--methods", method, "--set", f"classifier.architecture=mine.py:build_{heads}"],
            f"method '{method}' acts on the linear layer that is created last, which must make 10 logits, "
            f"got 'unused' with {number} outputs, which is not used; create the layer of the logits last",
        )
        for heads, number in (("two_heads", 7), ("equal_heads", 10))
        for method in ON_LAST_LAYER
    ),
    (
        ["--methods", "seeding.py:five"],
        "seeding.py: a file must not draw from or set the global random stream of numpy when it is run",
    ),
    (["--set", "classifier.architecture=nowhere.py:build"], "there is no file 'nowhere.py'"),
    (["--generators", "mine.py:five"], f"mine.py:{line_of('five = ')}: five must be a function"),
    (
        ["--generators", "mine.py:build_flat_generator"],
        "must make images of 1x28x28, (2, 1, 28, 28) of 2 rows",
    ),
    (["--generators", "mine.py:build_generator_of_noise"], "cannot make images of 1x28x28: RuntimeError: "),
    (["--generators", "nowhere.py:build"], "there is no file 'nowhere.py'"),
    (["--set", "generator.architecture=nowhere.py:build"], "there is no file 'nowhere.py'"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG, ids=lambda each: " ".join(each)[-60:])
@pytest.mark.parametrize("plan", [True, False])
def test_wrong_file_of_ones_own_is_refused_in_a_line_before_anything_is_run(
    arguments: list[str], said: str, plan: bool, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("broken.py").write_text("\nimport no_such_package\n")
    Path("seeding.py").write_text(SOURCE + "\nnp.random.seed(3)\n")
    extra = ["--plan"] if plan else []
    code, _, err = call_sweep(["--c", "1/2", "--seeds", "1", *arguments, *extra], capsys)
    assert code == 2 and said in err and len(err.splitlines()) == 1 and err.startswith("error: ")
    assert not Path("results").exists()


def call_sweep(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(full_grid.make_grid_parser(), full_grid.build_study, [*CPU, *arguments])
    return (code, *capsys.readouterr())


@pytest.mark.usefixtures("measured_speed")
def test_plan_shows_methods_and_networks_of_ones_own(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    architecture = f"classifier.architecture={path}:build"
    arguments = ["--methods", "none", f"{path}:five", "--set", architecture, "--seeds", "1", "--c", "1/2"]
    code, out, _ = call_sweep([*arguments, "--plan"], capsys)
    assert code == 0 and "device time, method mine.py:five@" in out
    assert "+classifier.architecture=mine.py:build@" in out


# What is read is never run


@pytest.fixture
def plan(path: Path, small_protocol: Protocol, cpu_execution: Execution, store: Store) -> Plan:
    """Return the plan of a study whose run of seed 0 is finished and of seed 1 has failed."""
    cell = make_cell(small_protocol, method=resolve(f"{path}:five"), **MINI)
    planned = compile_study(Study(name="study", cells=(cell,), seeds=(0, 1)), cpu_execution)
    store.write_study(describe_plan(planned))
    run_stage(planned.runs[0].stage, store)
    stage = planned.runs[1].stage
    store.mark_failed(
        Failure(
            key=stage.key,
            kind=stage.kind,
            stage=stage.to_dict(),
            error="mine.py:24: LookupError: x",
            traceback="",
            provenance={},
            cause="own file",
        )
    )
    return planned


@pytest.mark.slow
def test_no_code_is_run_by_reading_and_the_same_file_is_asked_for_to_run_a_stage_again(
    plan: Plan, path: Path, store: Store, forget: Forget, capsys: pytest.CaptureFixture[str]
) -> None:
    forget()
    # Whoever takes the name in the store for a file to run, runs this.
    path.write_text("open('ran', 'w')\nraise SystemExit(9)\n")
    assert plan_from_description(store.load_study("study")) == plan
    done, failed = (run.stage for run in plan.runs)
    assert stage_from_dict(store.read_record(done.key).stage) == done  # type: ignore[union-attr]
    place, name = store.location, done.method.name
    for arguments in (
        ["status", place],
        ["plan", place],
        ["show", done.key, "--storage", place],
        ["show", failed.key, "--storage", place],
        ["export", place],
        ["tensorboard", place, "--no-server"],
        ["gc", place, "--orphans"],
        ["retry", place, "--failed", "--dry-run"],
    ):
        assert look(arguments) in (0, 1), arguments
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        if arguments[0] in ("status", "plan", "export"):
            assert name in out, arguments
    assert analysis.__main__.main([place, "--partial", "--out", "report"]) == 0
    assert name in Path("report/index.html").read_text()
    capsys.readouterr()

    again = {"verify": ["verify", done.key, "--storage", place], "retry": ["retry", place, "--failed"]}
    for command in again.values():
        for extra in ([], ["--own-file", "mine.py"]):
            assert look([*command, *extra]) == 2
            said = capsys.readouterr().err
            assert f"a file mine.py with sha256 {done.method.file_sha256}" in said and "--own-file" in said
            assert len(said.splitlines()) == 1
    assert not Path("ran").exists()

    Path("elsewhere").mkdir()
    Path("elsewhere/mine.py").write_text(SOURCE)
    assert look([*again["verify"], "--own-file", "elsewhere/mine.py"]) == 0
    assert "equal, bit for bit" in capsys.readouterr().out
    assert prepare_verification(store, done.key, None)().is_equal
    assert not Path("ran").exists()


@pytest.mark.slow
def test_what_failed_runs_again_in_workers_with_the_file_that_is_given(
    plan: Plan, path: Path, store: Store, forget: Forget, capsys: pytest.CaptureFixture[str]
) -> None:
    forget()
    Path("elsewhere").mkdir()
    path.rename("elsewhere/mine.py")
    done, failed = (run.stage for run in plan.runs)
    before = store.read_record(done.key)
    arguments = ["retry", store.location, "--failed", "--own-file", "elsewhere/mine.py"]
    assert look(arguments) == 0
    out = capsys.readouterr().out
    assert f"done: {plan.runs[1]}: has a result now" in out
    assert "failed runs: 1; still without a result: 0" in out
    record = store.read_record(failed.key)
    assert record is not None and record.stage == failed.to_dict()
    assert record.training_counts == tuple(min(5, count) for count in record.class_counts)
    assert store.read_failure(failed.key) is None and store.read_record(done.key) == before
    assert prepare_verification(store, failed.key, None)().is_equal
    assert look(arguments) == 0 and "failed runs: 0" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["method", "generator"])
def test_search_of_code_of_ones_own_keeps_its_stages_though_the_file_is_gone(
    part: str,
    path: Path,
    small_search: Search,
    small_cgan_search: Search,
    store: Store,
    forget: Forget,
) -> None:
    of_part = {"method": (with_method, small_search), "generator": (with_generator, small_cgan_search)}
    change, unchanged = of_part[part]
    search = change(unchanged, path)
    store.write_search(search.name, make_account(search, "?", SearchBudget(trials=1), [], {}))
    with open_journal(search, store) as journal:
        journal.enqueue(search.untuned)
        journal.begin()
    stages = [stage for rung in search.ladder(search.untuned) for group in rung.groups for stage in group]
    forget()
    path.write_text("open('ran', 'w')\n")
    assert list_owned(store) == {stage.key: f"search {search.name}" for stage in stages}
    assert not Path("ran").exists()


def test_configuration_of_a_method_that_is_not_at_hand_cannot_be_used(plan: Plan, forget: Forget) -> None:
    forget()
    with pytest.raises(ValueError, match="not loaded"):
        get_method(plan.runs[0].stage.method.name)
    with pytest.raises(ValueError, match="not loaded"):
        MethodConfig(name=plan.runs[0].stage.method.name, draw=None)


@pytest.mark.parametrize("moment", ["adjust=lambda logits, counts, options: logits / 2", "then=CRT.then"])
def test_plan_of_a_method_that_builds_on_a_first_training_asks_for_its_file(
    moment: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_protocol: Protocol,
    cpu_execution: Execution,
    forget: Forget,
) -> None:
    monkeypatch.chdir(tmp_path)
    imports = "from lt_rebalance.methods.contract import Method\nfrom lt_rebalance.methods.crt import CRT\n"
    options = "" if moment.startswith("adjust") else ", options=CRT.options"
    Path("mine.py").write_text(f'{imports}mine = Method(description="mine", {moment}{options})\n')
    method = resolve("mine.py:mine")
    cell = make_cell(small_protocol, dataset=TINY, c="1/2", method=method, generator=None)
    plan = compile_study(Study(name="study", cells=(cell,), seeds=(0,)), cpu_execution)
    document = describe_plan(plan)
    assert plan_from_description(document) == plan
    forget()
    with pytest.raises(ValueError, match=r"code of a file mine.py with sha256 .* give the file with"):
        plan_from_description(document)
