"""What an option and a field of --set or --config say of the same thing must be the same."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from lt_rebalance.commands import search as search_command
from lt_rebalance.commands import searches as searches_command
from lt_rebalance.commands.sweep import main
from sweeps import full_grid, imbalance_levels, tune_cgan, tune_classifier, tune_methods

CPU = ["--device", "cpu", "--precision", "float32", "--plan"]


def run_grid(arguments: Sequence[str]) -> int:
    return main(full_grid.make_grid_parser(), full_grid.build_study, [*CPU, "--seeds", "1", *arguments])


def run_levels(arguments: Sequence[str]) -> int:
    return main(imbalance_levels.make_levels_parser(), imbalance_levels.build_study, [*CPU, *arguments])


def run_cgan(arguments: Sequence[str]) -> int:
    return search_command.main(
        tune_cgan.make_cgan_parser(), tune_cgan.build_search, lambda *_: [], [*CPU, *arguments]
    )


def run_classifier(arguments: Sequence[str]) -> int:
    return search_command.main(
        tune_classifier.make_classifier_parser(),
        tune_classifier.build_search,
        lambda *_: [],
        [*CPU, *arguments],
    )


def run_methods(arguments: Sequence[str]) -> int:
    return searches_command.main(
        tune_methods.make_methods_parser(),
        tune_methods.build_searches,
        tune_methods.say_next,
        [*CPU, *arguments],
    )


ONE = "--methods oversample --c 1/2"
CGAN = "--methods cgan --generators mlp_cgan_relu --c 1/2"
Run = Callable[[Sequence[str]], int]
AGAINST: list[tuple[Run, str, str, str]] = [
    (run_grid, "--dataset fashion_mnist_mini", "data.dataset=mnist", "--dataset chooses data.dataset"),
    (run_grid, ONE, "data.c=7/9", "--c chooses data.c, which is 1/2 by it and 7/9 by --set"),
    (run_grid, f"{ONE[:20]} --profile natural", "data.c=1/2", "--profile chooses data.c, which is None"),
    (run_grid, "--profile exp --ratio 10", "data.ratio=20", "--ratio chooses data.ratio, which is 10"),
    (run_grid, ONE, "method.name=none", "--methods chooses method.name, which is oversample"),
    (run_grid, "--methods focal:gamma=1 --c 1/2", "method.options.gamma=2", "--methods chooses method.opt"),
    (
        run_grid,
        f"{CGAN} --methods cgan:fill_fraction=0.5",
        "method.fill_fraction=1",
        "--methods chooses meth",
    ),
    (run_grid, CGAN, "generator.architecture=mlp_cgan_leaky", "--generators chooses generator.architecture"),
    (
        run_grid,
        "--steps 9",
        "classifier.budget.steps=8",
        "--steps chooses classifier.budget.steps, which",
    ),
    (run_grid, "--epochs 2", "classifier.budget.steps=8", "--epochs chooses classifier.budget.steps"),
    (run_grid, "--generator-steps 9", "generator.budget.epochs=1", "--generator-steps chooses generator.bu"),
    (run_levels, "--rho 10", "data.c=1/2", "--rho chooses data.c"),
    (run_cgan, "--classifier-steps 9", "classifier.budget.steps=8", "--classifier-steps chooses classifier"),
    (run_cgan, "--generator mlp_cgan_relu", "generator.architecture=mlp_cgan_leaky", "--generator chooses"),
    (run_classifier, "--method none", "method.name=oversample", "--method chooses method.name"),
    (run_methods, "--dataset fashion_mnist_mini", "data.dataset=mnist", "--dataset chooses data.dataset"),
    (run_methods, "--methods oversample --c 7/9", "data.c=1/2", "--c chooses data.c, which is 7/9 by it"),
    (run_classifier, "--c 7/9", "data.c=1/2", "--c chooses data.c, which is 7/9 by it and 1/2 by --set"),
]


@pytest.mark.parametrize(
    ("run", "asked", "field", "said"), AGAINST, ids=[f"{asked} {field}" for _, asked, field, _ in AGAINST]
)
def test_option_that_a_field_contradicts_is_refused_in_a_line(
    run: Run,
    asked: str,
    field: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    name, _, value = field.partition("=")
    *tables, last = name.split(".")
    value = value if value.isdigit() and "ratio" not in name else f'"{value}"'
    Path("fields.toml").write_text(f"[{'.'.join(tables)}]\n{last} = {value}\n")
    for given in (["--set", f"{name}={value}"], ["--config", "fields.toml"]):
        assert run([*asked.split(), *given]) == 2
        shown = capsys.readouterr()
        assert shown.out == "" and re.fullmatch(r"error: [^\n]+; give one of the two\n", shown.err), shown.err
        assert said in shown.err


@pytest.mark.parametrize(
    ("run", "asked", "field"),
    [
        (run_grid, ONE, "data.c=1/2"),
        (run_grid, "--steps 9", "classifier.budget.rounds=3"),
        (run_grid, "", "classifier.budget.steps=9"),
        (run_grid, "--methods focal:gamma=1 ldam --c 1/2", "method.options.scale=20"),
        (run_classifier, "--method none", "method.name=none"),
        (run_classifier, "", "method.name=undersample"),
        (run_cgan, "--classifier-steps 9", "classifier.learning_rate=0.002"),
    ],
)
def test_fields_that_options_leave_free_are_set(
    run: Run, asked: str, field: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*asked.split(), "--set", field]) == 0
