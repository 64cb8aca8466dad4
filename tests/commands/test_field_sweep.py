"""Checks of sweeps/cifar_lt.py, of --flip, and of what is said where a recipe would flip and must not."""

import json
from pathlib import Path

import pytest

from lt_rebalance.commands import search
from lt_rebalance.commands.sweep import main
from lt_rebalance.methods.registry import METHODS
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Budget
from sweeps import cifar_lt, tune_classifier
from tests.own_images import draw_images, to_arrays, write_npz

PLAN = ["--device", "cpu", "--precision", "float32", "--plan", "--json"]
COUNTS = {"train": (40, 30, 24), "test": (10, 10, 10)}
FEW = ["--methods", "none", "--seeds", "1"]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Study]:
    """Return the list of studies that are built."""
    studies: list[Study] = []
    build = cifar_lt.build_study
    monkeypatch.setattr(
        cifar_lt, "build_study", lambda options: studies.append(build(options)) or studies[-1]
    )
    return studies


@pytest.fixture
def npz(tmp_path: Path) -> str:
    return str(write_npz(tmp_path / "pets.npz", to_arrays(draw_images(counts=COUNTS))))


def plan(*arguments: str) -> int:
    return main(cifar_lt.make_field_parser(), cifar_lt.build_study, [*PLAN, *arguments])


def build(*arguments: str) -> Study:
    return cifar_lt.build_study(cifar_lt.make_field_parser().parse_args(arguments))


def test_full_preset_is_the_table_of_the_field() -> None:
    study = build("--preset", "full", "--dataset", "fashion_mnist")
    methods = [name for name, method in METHODS.items() if not method.needs_generator]
    points = [(cell.data.profile, cell.data.ratio, cell.method.name) for cell in study.cells]
    assert sorted(points) == sorted(("exp", ratio, name) for ratio in ("10", "50", "100") for name in methods)
    (classifier,) = {cell.classifier for cell in study.cells}
    assert (classifier.architecture, classifier.batch_size) == ("resnet32", 128)
    assert (classifier.budget, classifier.learning_rate) == (Budget(epochs=200), 0.1)
    assert (classifier.momentum, classifier.weight_decay) == (0.9, 2e-4)
    assert study.seeds == (0, 1, 2)
    assert len(study.comparisons) == len(study.cells) - 3
    for each in study.comparisons:
        cell, reference = study.cells[each.cell], study.cells[each.reference]
        assert (reference.method.name, reference.data) == ("none", cell.data)
        assert each.change == cell.method.name


def test_both_data_sets_are_one_study() -> None:
    sets = ("cifar10", "cifar100")
    study = build("--preset", "full", "--methods", "oversample", "--ratio", "20")
    assert [cell.data.dataset for cell in study.cells] == ["cifar10"] * 2 + ["cifar100"] * 2
    assert {cell.data.ratio for cell in study.cells} == {"20"}
    assert [each.change for each in study.comparisons] == [f"oversample, {name}" for name in sets]


def test_cells_of_several_data_sets_are_told_apart_in_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--preset", "full", "--ratio", "20", *FEW) == 0
    costs = json.loads(capsys.readouterr().out)["costs"]
    assert list(costs["cell"]) == [f"{name} cifar_lt exp 20 none" for name in ("cifar10", "cifar100")]


def test_a_data_set_that_is_named_is_trained_on_in_full_and_nothing_named_quickly() -> None:
    assert build().name == "cifar_lt-quick"
    assert {cell.classifier.budget for cell in build().cells} == {Budget(steps=60, rounds=1)}
    assert build("--dataset", "mnist").name == "cifar_lt-full"
    assert build("--dataset", "mnist", "--preset", "quick").name == "cifar_lt-quick"


def test_own_images_are_taken_as_they_come_unless_a_ratio_is_asked_for(npz: str, built: list[Study]) -> None:
    assert plan("--dataset", npz, *FEW) == 0
    assert plan("--dataset", npz, "--ratio", "3", *FEW) == 0
    assert [cell.data.label for study in built for cell in study.cells] == ["original", "exp 3"]


# Flips


FLIPS: list[tuple[list[str], int, str, str]] = [
    (["--dataset", "fashion_mnist"], 0, "crop+flip", ""),
    (
        ["--dataset", "mnist"],
        0,
        "crop",
        "cifar_lt is used without its flip, which mnist does not allow\n",
    ),
    (["--dataset", "mnist", "--flip"], 2, "", "--flip are for images of your own, with --dataset PATH"),
    (["--dataset", "mnist", "--set", "classifier.augmentation=flip"], 2, "", "mnist does not allow flip"),
    (["--dataset", "mnist", "--methods", "augmentation:flip=true"], 2, "", "mnist does not allow flip"),
    (["--dataset", "NPZ"], 0, "crop", "does not allow; --flip allows it\n"),
    (["--dataset", "NPZ", "--flip"], 0, "crop+flip", ""),
    (["--dataset", "NPZ", "--set", "classifier.augmentation=flip"], 2, "", "or allow it by --flip"),
    (["--dataset", "NPZ", "--flip", "--set", "classifier.augmentation=flip"], 0, "", ""),
    (["--dataset", "NPZ", "--flip", "--protocol", "sound"], 0, "none", "--flip changes nothing"),
    (["--dataset", "NPZ", "--protocol", "sound"], 0, "none", ""),
]


@pytest.mark.parametrize(("arguments", "code", "augmentation", "said"), FLIPS, ids=lambda each: str(each))
def test_images_are_flipped_where_their_set_allows_it_alone(
    arguments: list[str],
    code: int,
    augmentation: str,
    said: str,
    npz: str,
    built: list[Study],
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = [npz if each == "NPZ" else each for each in arguments]
    assert plan(*FEW, "--ratio", "3", *asked) == code
    if augmentation:
        assert {cell.classifier.augmentation for cell in built[-1].cells} == {augmentation}
    printed = capsys.readouterr().err
    assert said in printed and ("flip" in printed) == ("flip" in said)


@pytest.mark.parametrize(("extra", "code"), [([], 2), (["--flip"], 0)])
def test_search_flips_own_images_with_the_word_of_their_user_alone(
    extra: list[str], code: int, npz: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--dataset", npz, "--profile", "natural", "--set", "classifier.augmentation=flip", *extra]
    parser = tune_classifier.make_classifier_parser()
    found = search.main(
        parser, tune_classifier.build_search, tune_classifier.answer_search, [*PLAN, *arguments]
    )
    assert found == code
    assert ("or allow it by --flip" in capsys.readouterr().err) == (code == 2)
