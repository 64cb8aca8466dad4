"""Every ablation runs at a quick size, answers its question, and trains nothing when run again."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from analysis.answers import answer_differences, answer_sources
from lt_rebalance.commands import running
from lt_rebalance.commands.sweep import main, make_axes_parser
from sweeps import (
    ablate_beta1,
    ablate_budget,
    ablate_cgan_training_set,
    ablate_class_order,
    ablate_fill,
    ablate_loss,
    cifar_lt,
    imbalance_levels,
    nested_seeds,
)
from tests import linear_network

ROOT = Path(__file__).parents[2]
CPU = ["--device", "cpu", "--precision", "float32", "--max-concurrent", "1"]
SHORT = [*CPU, "--steps", "2", "--c", "1/2"]
QUICK = [*SHORT, *linear_network.OPTIONS]
GENERATOR = ["--generator-steps", "2", "--generators", "small_mlp_cgan_leaky"]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where all of these studies keep their results, so that they share runs."""
    return tmp_path_factory.mktemp("ablations") / "results"


def call(sweep: ModuleType, arguments: list[str], storage: Path) -> int:
    makers = {
        cifar_lt: "make_field_parser",
        imbalance_levels: "make_levels_parser",
        nested_seeds: "make_nested_parser",
    }
    if sweep in makers:
        parser = getattr(sweep, makers[sweep])()
    else:
        parser = make_axes_parser(sweep.__doc__, sweep.PRESETS)
    answer = answer_sources if sweep is nested_seeds else answer_differences
    return main(parser, sweep.build_study, [*arguments, "--storage", str(storage)], answer=answer)


def run_and_run_again(
    sweep: ModuleType,
    arguments: list[str],
    storage: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[str, pd.DataFrame]:
    """Return what the first run printed and its answer as a table; check that the second trains nothing."""
    assert call(sweep, arguments, storage) == 0
    first = capsys.readouterr().out
    results = {path: path.stat().st_mtime_ns for path in storage.glob("stages/*/result.json")}
    with monkeypatch.context() as patch:
        patch.setattr(running, "run_plan", lambda *_: pytest.fail("trained again"))
        assert call(sweep, arguments, storage) == 0
    again = capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in storage.glob("stages/*/result.json")} == results
    assert "stages to run" not in again
    assert again.splitlines()[-1] == first.splitlines()[-1]
    assert re.fullmatch(r"planned=(\d+) complete=\1 failed=0 diverged=0 missing=0", again.splitlines()[-1])
    (path,) = re.findall(r"^table: (.*/answer\.csv)$", first, re.MULTILINE)
    return first, pd.read_csv(path)


def check_differences(printed: str, answer: pd.DataFrame, num_comparisons: int) -> None:
    assert "Changes to reference configurations: paired differences of accuracy" in printed
    assert "Student's t interval" in " ".join(printed.split())
    assert len(answer) == num_comparisons
    assert set(answer["n_pairs"]) == {2}
    # Two equal differences have no spread, so they have no interval.
    told = answer["difference_low"].notna()
    assert (answer["difference_high"].notna() == told).all()
    assert (answer["difference_low"] <= answer["mean_difference"])[told].all()
    assert (answer["mean_difference"] <= answer["difference_high"])[told].all()


@pytest.mark.slow
def test_loss_is_ablated_on_ray_and_run_again_for_nothing(
    storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*QUICK, "--seeds", "2", "--methods", "none"]
    printed, answer = run_and_run_again(ablate_loss, arguments, storage, capsys, monkeypatch)
    check_differences(printed, answer, 1)
    assert answer["change"].tolist() == ["classifier.loss=double_softmax"]


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_example_of_the_documentation_is_short_and_runs(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(code.splitlines()) <= 25
    path = tmp_path / "ablate_batch_size.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    arguments = [*SHORT, "--seeds", "2", "--methods", "none", "--set", "classifier.beta2=0.99"]
    printed, answer = run_and_run_again(example, arguments, storage, capsys, monkeypatch)
    check_differences(printed, answer, 2)
    assert "sound+classifier.beta2=0.99" in printed


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
@pytest.mark.parametrize(
    ("sweep", "arguments", "num_comparisons"),
    [
        (ablate_budget, ["--epochs", "1", "--methods", "none", "undersample"], 2),
        (ablate_class_order, [], 2),
        (ablate_cgan_training_set, GENERATOR, 1),
        (ablate_fill, GENERATOR, 3),
        (ablate_beta1, [*GENERATOR, "--methods", "none", "cgan"], 4),
        (cifar_lt, [], 2),
        (imbalance_levels, GENERATOR, 2),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_choice_is_ablated_and_run_again_for_nothing(
    sweep: ModuleType,
    arguments: list[str],
    num_comparisons: int,
    storage: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command_line = [*QUICK, "--seeds", "2", *arguments]
    printed, answer = run_and_run_again(sweep, command_line, storage, capsys, monkeypatch)
    check_differences(printed, answer, num_comparisons)


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_seeds_are_nested_and_run_again_for_nothing(
    storage: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed, answer = run_and_run_again(nested_seeds, [*QUICK, *GENERATOR], storage, capsys, monkeypatch)
    assert "Sources of variance, from separate seeds" in printed
    shape = answer[["n_subsets", "num_generators", "num_classifiers"]].iloc[0]
    assert shape.tolist() == [2, 2, 2]
    assert answer[["subset_sd", "generator_sd", "classifier_sd", "residual_sd"]].notna().all(axis=None)
