"""Checks of the words for ablations: changes, references, no cell twice, seeds of a nested design."""

import argparse
import dataclasses
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from analysis.power import fewest_seeds
from lt_rebalance.commands.options import read_axes
from lt_rebalance.commands.sweep import make_axes_parser
from lt_rebalance.store.study_document import Comparison
from lt_rebalance.studies.ablation import (
    MAX_SUBSETS,
    ablate,
    beside,
    combine,
    full_factorial,
    nested_seeds,
    one_at_a_time,
)
from lt_rebalance.studies.axes import make_presets
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.study import Cell, Seeds, Study
from lt_rebalance.training.configs import Budget, Execution
from sweeps import (
    ablate_beta1,
    ablate_budget,
    ablate_cgan_training_set,
    ablate_class_order,
    ablate_fill,
    ablate_loss,
    compare_methods,
    full_grid,
    imbalance_levels,
)
from sweeps import (
    nested_seeds as nested_seeds_sweep,
)

MINI = {"dataset": "fashion_mnist_mini", "c": "1/2"}
DOUBLE = {"classifier.loss": "double_softmax"}
SLOW, FAST = {"classifier.beta1": 0.99}, {"classifier.beta1": 0.5}
WITH_REFERENCES = {
    "ablate_loss": ablate_loss,
    "ablate_budget": ablate_budget,
    "ablate_class_order": ablate_class_order,
    "ablate_cgan_training_set": ablate_cgan_training_set,
    "ablate_fill": ablate_fill,
    "ablate_beta1": ablate_beta1,
    "imbalance_levels": imbalance_levels,
    "compare_methods": compare_methods,
}


@pytest.fixture
def none(small_protocol: Protocol) -> Cell:
    return make_cell(small_protocol, method="none", generator=None, **MINI)


@pytest.fixture
def cgan(small_protocol: Protocol) -> Cell:
    return make_cell(small_protocol, method="cgan", generator="small_mlp_cgan_leaky", **MINI)


# Changes


def test_one_at_a_time_changes_one_factor_to_each_of_its_levels() -> None:
    assert one_at_a_time([DOUBLE], [SLOW, FAST]) == [DOUBLE, SLOW, FAST]


def test_full_factorial_combines_all_levels_with_staying_as_it_is() -> None:
    found = full_factorial([DOUBLE], [SLOW, FAST])
    assert len(found) == 2 * 3 - 1
    for expected in (DOUBLE, SLOW, FAST, DOUBLE | SLOW, DOUBLE | FAST):
        assert found.count(expected) == 1


# Ablations


def test_each_reference_stands_beside_what_changes_make_of_it(none: Cell, cgan: Cell) -> None:
    found = ablate([none, cgan], [DOUBLE])
    assert [cell.classifier.loss for cell in found.cells] == ["cross_entropy", "double_softmax"] * 2
    assert [cell.method.name for cell in found.cells] == ["none", "none", "cgan", "cgan"]
    assert found.comparisons == (
        Comparison(cell=1, reference=0, change="classifier.loss=double_softmax"),
        Comparison(cell=3, reference=2, change="classifier.loss=double_softmax"),
    )
    assert found.cells[0] is none
    assert found.cells[1].protocol == "small+classifier.loss=double_softmax"


def test_change_that_changes_nothing_makes_no_cell(none: Cell, cgan: Cell) -> None:
    gan_beta1 = {"generator.beta1": 0.5}
    found = ablate([none, cgan], [gan_beta1, {"classifier.loss": "cross_entropy"}])
    assert [cell.method.name for cell in found.cells] == ["none", "cgan", "cgan"]
    assert [(each.cell, each.reference) for each in found.comparisons] == [(2, 1)]


def test_equal_configurations_are_one_cell_and_one_comparison(none: Cell) -> None:
    renamed = dataclasses.replace(none, protocol="other")
    double = dataclasses.replace(
        none, protocol="double", classifier=dataclasses.replace(none.classifier, loss="double_softmax")
    )
    found = combine([ablate([none], [DOUBLE]), beside(renamed, {"again": double})])
    assert [cell.protocol for cell in found.cells] == ["small", "small+classifier.loss=double_softmax"]
    assert [(each.cell, each.reference) for each in found.comparisons] == [(1, 0)]


def test_combinations_that_concern_no_generator_are_run_once(none: Cell) -> None:
    found = ablate([none], full_factorial([SLOW], [{"generator.beta1": 0.5}]))
    assert [cell.classifier.beta1 for cell in found.cells] == [0.9, 0.99]
    assert len(found.comparisons) == 1


def test_study_keeps_what_is_compared_and_describes_it(none: Cell, cpu_execution: Execution) -> None:
    study = ablate([none], [DOUBLE]).study("asked", range(3))
    assert study.seeds == (0, 1, 2) and len(study.comparisons) == 1
    described = describe_plan(compile_study(study, cpu_execution))
    change = "classifier.loss=double_softmax"
    assert described.comparisons == (Comparison(cell=1, reference=0, change=change),)


def test_study_that_compares_cells_it_does_not_have_is_refused(none: Cell) -> None:
    with pytest.raises(ValueError, match="compares cells that it does not have"):
        Study(
            name="asked",
            cells=(none,),
            seeds=(0,),
            comparisons=(Comparison(cell=1, reference=0, change=""),),
        )


# Nested seeds


def test_nested_seeds_cross_generators_and_classifiers_within_subsets() -> None:
    found = nested_seeds(3, 2, 2)
    assert len(set(found)) == 12
    of_subset_1 = [(seeds.generator, seeds.classifier) for seeds in found if seeds.subset == 1]
    assert of_subset_1 == [(1, 1), (1, 1001), (1001, 1), (1001, 1001)]
    for source in ("generator", "classifier"):
        subsets = {(getattr(seeds, source), seeds.subset) for seeds in found}
        assert len(subsets) == len({seed for seed, _ in subsets})  # no two subsets share one


def test_nested_seeds_grow_without_losing_a_run() -> None:
    assert set(nested_seeds(2, 2, 2)) < set(nested_seeds(3, 3, 4))


def test_first_runs_of_nested_seeds_are_those_of_plain_seeds(cgan: Cell, cpu_execution: Execution) -> None:
    nested = compile_study(Study(name="n", cells=(cgan,), seeds=nested_seeds(2, 2, 2)), cpu_execution)
    plain = compile_study(Study(name="p", cells=(cgan,), seeds=(0, 1)), cpu_execution)
    assert Counter(stage.kind for stage in nested.stages.values()) == {"generator": 4, "classifier": 8}
    assert set(plain.stages) < set(nested.stages)


@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 1, 2), (2, 2, 1), (0, 2, 2), (MAX_SUBSETS + 1, 2, 2)])
def test_nested_seeds_that_leave_nothing_to_compare_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="a nested design needs 2 to 1000 subsets"):
        nested_seeds(*shape)


def test_seeds_taken_apart_need_a_generator(none: Cell) -> None:
    with pytest.raises(ValueError, match="has separate seeds, so every cell needs a generator"):
        Study(name="n", cells=(none,), seeds=(Seeds(subset=0, generator=1, classifier=0),))
    with pytest.raises(ValueError, match="a seed must be at least 0"):
        Seeds(subset=0, generator=-1, classifier=0)


# The sweeps


def build(sweep: ModuleType, *arguments: str) -> Study:
    return sweep.build_study(parse(sweep, *arguments))


def parse(sweep: ModuleType, *arguments: str) -> argparse.Namespace:
    makers = {
        imbalance_levels: "make_levels_parser",
        nested_seeds_sweep: "make_nested_parser",
        compare_methods: "make_methods_parser",
    }
    if sweep in makers:
        return getattr(sweep, makers[sweep])().parse_args(arguments)
    return make_axes_parser(sweep.__doc__, sweep.PRESETS).parse_args(arguments)


@pytest.mark.parametrize("preset", ["quick", "full"])
@pytest.mark.parametrize("name", WITH_REFERENCES)
def test_ablation_compares_each_of_its_cells_and_has_none_twice(name: str, preset: str) -> None:
    study = build(WITH_REFERENCES[name], "--preset", preset)
    assert study.name == f"{name}-{preset}"
    dataset, num_seeds = {"quick": ("fashion_mnist_mini", 3), "full": ("fashion_mnist", 10)}[preset]
    assert {cell.data.dataset for cell in study.cells} == {dataset}
    num_seeds = 12 if study.name == "compare_methods-full" else num_seeds
    assert study.seeds == tuple(range(num_seeds))
    assert len({cell.unnamed() for cell in study.cells}) == len(study.cells)
    compared = {each.cell for each in study.comparisons} | {each.reference for each in study.comparisons}
    assert compared == set(range(len(study.cells)))
    for each in study.comparisons:
        first, second = study.cells[each.cell], study.cells[each.reference]
        assert (first.data.c, first.data.dataset) == (second.data.c, second.data.dataset)


@pytest.mark.parametrize("name", WITH_REFERENCES)
def test_ablation_asks_in_its_docstring(name: str) -> None:
    first_line = (WITH_REFERENCES[name].__doc__ or "").splitlines()[0]
    assert first_line.endswith("?")


def test_references_of_ablations_are_runs_of_the_grid(cpu_execution: Execution) -> None:
    grid_keys = set(compile_study(build(full_grid, "--c", "original", "7/9", "1/2"), cpu_execution).stages)
    for name, sweep in WITH_REFERENCES.items():
        study = build(sweep)
        references = [study.cells[index] for index in {each.reference for each in study.comparisons}]
        if sweep is ablate_beta1:  # its reference is the paper's 0.9, the quick grid has another
            references = [cell for cell in references if cell.generator is None]
        keys = {cell.stage(0, cpu_execution).key for cell in references if cell.data.c in ("7/9", "1/2")}
        assert keys and keys <= grid_keys, name


def test_budget_is_compared_in_both_units() -> None:
    study = build(ablate_budget, "--steps", "600", "--epochs", "3", "--methods", "none", "--c", "1/2")
    assert [cell.classifier.budget for cell in study.cells] == [Budget(steps=600, rounds=6), Budget(epochs=3)]
    with pytest.raises(ValueError, match="epochs must be above 0"):
        build(ablate_budget, "--epochs", "0")


def test_fill_takes_none_for_nothing_and_the_plain_cgan_for_all() -> None:
    study = build(ablate_fill, "--c", "1/2")
    shares = [cell.method.fill_fraction if cell.generator else 0.0 for cell in study.cells]
    assert shares == [0, 0.25, 0.5, 1]
    assert study.cells[-1].protocol == "sound"
    assert [each.change for each in study.comparisons] == [
        "mlp_cgan_relu, method.fill_fraction=0.25",
        "mlp_cgan_relu, method.fill_fraction=0.5",
        "mlp_cgan_relu, all",
    ]


@pytest.mark.parametrize("methods", [["oversample"], ["cgan", "balanced_softmax"]])
def test_fill_refuses_methods_without_images_to_fill_with(methods: list[str]) -> None:
    with pytest.raises(ValueError, match=f"method '{methods[-1]}' makes no images .*option of cgan, smote"):
        build(ablate_fill, "--c", "1/2", "--methods", *methods)


@pytest.mark.parametrize(
    ("sweep", "arguments"),
    [
        (ablate_cgan_training_set, ["--methods", "none", "--c", "1/2"]),
        (ablate_loss, ["--protocol", "paper"]),
        (ablate_budget, ["--preset", "full", "--protocol", "paper"]),
    ],
)
def test_ablation_whose_change_has_no_effect_is_refused(sweep: ModuleType, arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"changes nothing in .*; choose cells that it changes"):
        build(sweep, *arguments)


def test_methods_that_run_with_another_class_order_may_be_ones_own_or_need_a_generator(
    tmp_path: Path,
) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from lt_rebalance.methods.contract import Method\nplain = Method(description='as none')\n"
    )
    permuted = [f"{own}:plain", "cgan"]
    study = build(
        *(compare_methods, "--preset", "full", "--methods", "none"),
        *("--permuted", *permuted, "--generator-steps", "5"),
    )
    shuffled = [cell for cell in study.cells if cell.data.class_order == "permuted"]
    assert [cell.method.name.partition(":")[0] for cell in shuffled] == ["mine.py", "cgan"]
    assert [cell.generator.budget.steps for cell in shuffled if cell.generator] == [5]


def test_beta1_is_a_full_factorial_for_cells_with_a_generator() -> None:
    study = build(ablate_beta1, "--c", "1/2")
    betas = [(cell.classifier.beta1, cell.generator.beta1) for cell in study.cells if cell.generator]
    assert sorted(betas) == [(0.9, 0.5), (0.9, 0.9), (0.99, 0.5), (0.99, 0.9)]
    assert [cell.classifier.beta1 for cell in study.cells if cell.method.name == "none"] == [0.9, 0.99]


def test_levels_are_named_by_the_ratio_of_the_classes_as_kept() -> None:
    study = build(imbalance_levels, "--preset", "full", "--methods", "oversample")
    assert [cell.data.c for cell in study.cells][::2] == [
        "12/13",
        "5/6",
        "7/9",
        "5/7",
        "11/17",
        "3/5",
        "5/9",
        "1/2",
    ]
    changes = [each.change for each in study.comparisons]
    assert changes[2] == "oversample, rho 9.6" and changes[-1] == "oversample, rho 500"
    assert len(build(imbalance_levels, "--rho", "3", "--methods", "oversample").cells) == 2
    with pytest.raises(ValueError, match="--rho and --c both name levels"):
        build(imbalance_levels, "--rho", "3", "--c", "1/2")


def test_nested_sweep_takes_the_seeds_of_each_source() -> None:
    study = build(nested_seeds_sweep, "--subsets", "3", "--cgans", "2", "--classifiers", "4")
    assert study.seeds == nested_seeds(3, 2, 4)
    assert build(nested_seeds_sweep, "--preset", "full").seeds == nested_seeds(10, 3, 2)
    with pytest.raises(ValueError, match="got 0, 2 and 2"):
        build(nested_seeds_sweep, "--subsets", "0")
    with pytest.raises(ValueError, match="--seeds changes all sources together"):
        build(nested_seeds_sweep, "--seeds", "3")


def test_axes_of_one_point_are_one_protocol_at_one_c() -> None:
    presets = make_presets(methods=("none",))
    options = make_axes_parser("", presets).parse_args(["--protocol", "paper", "sound"])
    points = list(read_axes("asked", options, presets).points())
    found = [(point.cells()[0].protocol, point.cells()[0].data.c) for point in points]
    assert found == [("paper", "7/9"), ("paper", "1/2"), ("sound", "7/9"), ("sound", "1/2")]


def test_methods_stand_beside_none_and_beside_oversample() -> None:
    study = build(compare_methods, "--c", "1/2", "--methods", "none", "crt", "focal:gamma=1")
    labels = [cell.method_label for cell in study.cells]
    assert labels == ["none", "oversample", "crt", "focal:gamma=1.0"]
    compared = [(labels[each.cell], labels[each.reference]) for each in study.comparisons]
    assert sorted(compared) == [
        ("crt", "none"),
        ("crt", "oversample"),
        ("focal:gamma=1.0", "none"),
        ("focal:gamma=1.0", "oversample"),
        ("oversample", "none"),
    ]


def test_full_comparison_of_methods_has_the_seeds_that_its_correction_takes() -> None:
    study = build(compare_methods, "--preset", "full")
    assert fewest_seeds(family_size=len(study.comparisons)) == len(study.seeds) == 12
    assert sum(cell.generator is not None for cell in study.cells) == 1
