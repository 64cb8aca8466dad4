"""Checks of --profile and --ratio on the command line: what they plan, what is refused, and small runs."""

import json
from pathlib import Path

import pytest

from analysis.collect import Results, read_results
from lt_rebalance.commands.sweep import main
from lt_rebalance.studies.study import Study
from lt_rebalance.training.device import resolve_execution
from sweeps import full_grid, imbalance_levels, tune_classifier
from tests import linear_network

CPU = ["--device", "cpu", "--precision", "float32"]
METHODS = ["--methods", "none", "undersample", "oversample", "balanced_softmax", "crt"]


def build(*arguments: str) -> Study:
    return full_grid.build_study(full_grid.make_grid_parser().parse_args(arguments))


def call(*arguments: str) -> int:
    return main(full_grid.make_grid_parser(), full_grid.build_study, [*CPU, *arguments])


def labels(study: Study) -> list[str]:
    return list(dict.fromkeys(cell.data.label for cell in study.cells))


# Plans


def test_every_ratio_of_every_profile_is_a_training_set_under_every_method() -> None:
    study = build("--profile", "exp", "step", "natural", "--ratio", "10", "100", "--methods", "none", "crt")
    assert labels(study) == ["exp 10", "exp 100", "step 10", "step 100", "original"]
    assert {
        label: {cell.method.name for cell in study.cells if cell.data.label == label}
        for label in labels(study)
    } == {label: {"none", "crt"} for label in labels(study)}


def test_natural_shares_its_stages_with_the_original_set() -> None:
    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    (original,) = build("--c", "original", "--methods", "none").cells
    natural = build("--profile", "natural", "--methods", "none", "oversample").cells[0]
    assert natural.stage(0, execution).key == original.stage(0, execution).key


def test_generators_go_with_natural() -> None:
    study = build("--profile", "natural", "--methods", "cgan", "--generators", "small_mlp_cgan_leaky")
    assert [(cell.data.label, cell.method_label) for cell in study.cells] == [
        ("original", "small_mlp_cgan_leaky")
    ]


def test_levels_of_a_profile_stand_beside_none_with_the_ratio_that_is_kept() -> None:
    parser = imbalance_levels.make_levels_parser()
    study = imbalance_levels.build_study(
        parser.parse_args(["--profile", "exp", "--ratio", "10", "--methods", "oversample"])
    )
    assert labels(study) == ["exp 10"]
    assert [each.change for each in study.comparisons] == ["oversample, rho 10"]


def test_search_takes_one_profile() -> None:
    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    parser = tune_classifier.make_classifier_parser()
    search = tune_classifier.build_search(
        parser.parse_args(["--profile", "exp", "--ratio", "100"]), execution
    )
    assert search.base.data.label == "exp 100"
    with pytest.raises(ValueError, match="a search has one training set, got exp 10 and exp 100"):
        tune_classifier.build_search(
            parser.parse_args(["--profile", "exp", "--ratio", "10", "100"]), execution
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--profile exp", "--profile exp needs --ratio, such as --ratio 100"),
        ("--profile natural --ratio 10", "--profile natural takes no --ratio"),
        ("--ratio 10", "--ratio goes with --profile exp or step; a C has its own ratio"),
        ("--profile exp --ratio 10 --c 1/2", "--c and --profile both choose the training data"),
        ("--profile pareto --ratio 10", "unknown profile 'pareto'; known: natural, exp, step"),
        ("--profile exp --ratio 1", "an imbalance ratio is a number above 1"),
        ("--profile exp --ratio ten", "an imbalance ratio must be a number such as 100, got 'ten'"),
        ("--profile exp --ratio 601", "leaves the smallest class no image of the 600 of the largest"),
        ("--c original --methods oversample", "--profile natural takes all of them"),
        ("--c exp", "C must be a fraction such as 7/9"),
    ],
)
def test_wrong_profile_is_refused_with_one_line(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(*arguments.split(), "--storage", str(tmp_path / "store")) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("error: ") and message in err
    assert not (tmp_path / "store").exists()


def test_class_that_is_too_small_is_told_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["--profile", "step", "--ratio", "10", "--methods", "none", "--dataset", "mnist", "--plan"]
    assert call(*arguments, "--json", "--storage", str(tmp_path / "store")) == 0
    answer = capsys.readouterr()
    assert json.loads(answer.out)
    assert answer.err == (
        "note: mnist: 4 of 10 classes with fewer images than step 10 requires, all of which are kept\n"
    )


# Small runs


def run_profile(storage: Path, *arguments: str) -> Results:
    """Run a few methods on a profile, and return all results of the store."""
    small = [*METHODS, "--steps", "2", "--seeds", "1", *linear_network.OPTIONS]
    name = "-".join(arguments).replace("--", "")
    assert call("--profile", *arguments, *small, "--name", name, "--storage", str(storage)) == 0
    return read_results(str(storage))


@pytest.mark.slow
@pytest.mark.usefixtures("without_ray")
def test_every_method_runs_on_every_profile_and_all_are_one_setting_in_order(tmp_path: Path) -> None:
    counts = {
        "original": [600] * 10,
        "exp 100": [600, 359, 215, 129, 77, 46, 27, 16, 10, 6],
        "step 600": [600] * 5 + [1] * 5,
    }
    for arguments in (["exp", "--ratio", "100"], ["step", "--ratio", "600"], ["natural"]):
        results = run_profile(tmp_path / "results", *arguments)
    assert set(results.runs["state"]) == {"complete"}
    for data, expected in counts.items():
        runs = results.runs[results.runs["data"] == data]
        assert list(runs["method"]) == ["none", "undersample", "oversample", "balanced_softmax", "crt"]
        of_one = results.classes[results.classes["key"] == runs["key"].iloc[0]].sort_values("class")
        assert of_one["class_count"].tolist() == expected
    assert list(dict.fromkeys(results.cells["data"])) == list(counts)
    assert results.cells["setting"].nunique() == 1
