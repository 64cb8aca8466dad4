"""Checks of stages with seeds taken apart, and of synthetic images that fill a share of the gap."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from lt_rebalance.commands.sweep import make_axes_parser
from lt_rebalance.ground.seeding import numpy_stream
from lt_rebalance.methods.registry import MethodConfig, plan_rebalancing
from lt_rebalance.stages.inputs import InputReader
from lt_rebalance.stages.kinds import open_run, run_stage
from lt_rebalance.store import Store, open_store
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage, stage_from_dict
from lt_rebalance.studies.study import Cell, Seeds
from lt_rebalance.training.configs import Budget, Execution
from sweeps import ablate_fill, nested_seeds
from tests.tiny import TINY

MINI = {"dataset": TINY, "c": "1/2"}
# From 200 images per class at C = 1/2, rounded up.
COUNTS = (200, 100, 50, 25, 13, 7, 4, 2, 1, 1)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store")


def make_store(root: Path) -> Store:
    store = open_store(str(root), RESULTS_VERSION, create=True)
    assert store is not None
    return store


@pytest.fixture
def protocol(small_protocol: Protocol) -> Protocol:
    """Return a protocol that tests once, which takes longer than all else."""
    return dataclasses.replace(small_protocol, classifier_budget=Budget(steps=4, rounds=1))


@pytest.fixture
def none(protocol: Protocol) -> Cell:
    return make_cell(protocol, method="none", generator=None, **MINI)


@pytest.fixture
def cgan(protocol: Protocol) -> Cell:
    return make_cell(protocol, method="cgan", generator="small_mlp_cgan_leaky", **MINI)


def train(stage: ClassifierStage, store: Store) -> dict[str, torch.Tensor]:
    """Return weights, moments and predictions at the end of a training."""
    run = open_run([stage], store, None)
    while not run.is_finished:
        run.run_round()
    return safetensors.torch.load(run.checkpoint_lane(0))


def initial_state(stage: ClassifierStage, store: Store) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(open_run([stage], store, None).checkpoint_lane(0))


def are_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)


# Shares of the gap


@pytest.mark.parametrize(
    ("share", "synthetic"), [(0.0, (0, 0, 0)), (0.25, (0, 1, 2)), (0.5, (0, 2, 4)), (1.0, (0, 4, 8))]
)
def test_share_of_each_gap_is_filled(share: float, synthetic: tuple[int, ...]) -> None:
    plan = plan_rebalancing("cgan", None, [10, 6, 2], numpy_stream(0, "resampling"), share)
    assert plan.num_synthetic_K == synthetic
    assert [len(positions) for positions in plan.positions_by_class] == [10, 6, 2]


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_fraction_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="fill_fraction must be at least 0 and at most 1"):
        MethodConfig(name="cgan", draw=None, fill_fraction=share)


def test_share_for_a_method_that_makes_no_images_is_refused() -> None:
    with pytest.raises(ValueError, match="method 'none' makes no images"):
        MethodConfig(name="none", draw=None, fill_fraction=0.5)


def test_sweep_that_sets_the_share_takes_none() -> None:
    options = make_axes_parser(ablate_fill.__doc__, ablate_fill.PRESETS).parse_args(
        ["--methods", "cgan:fill_fraction=0.5"]
    )
    with pytest.raises(ValueError, match="this sweep sets fill_fraction, got --methods cgan:fill_fraction"):
        ablate_fill.build_study(options)


@pytest.mark.parametrize("arguments", [["--protocol", "paper"], ["--profile", "natural"]])
def test_subsets_that_would_all_be_one_are_refused(arguments: list[str]) -> None:
    parser = nested_seeds.make_nested_parser()
    options = parser.parse_args(arguments)
    with pytest.raises(ValueError, match="every subset needs images of its own, got cell"):
        nested_seeds.require_drawn(nested_seeds.build_study(options), options)
    options = parser.parse_args(["--protocol", "sound"])
    assert nested_seeds.require_drawn(nested_seeds.build_study(options), options).cells


def test_share_of_0_gives_the_weights_of_none_bit_for_bit(
    none: Cell, cgan: Cell, cpu_execution: Execution, store: Store
) -> None:
    ends = {"none": train(none.stage(0, cpu_execution), store)}
    for share in (0.0, 0.5):
        method = dataclasses.replace(cgan.method, fill_fraction=share)
        stage = dataclasses.replace(cgan, method=method).stage(0, cpu_execution)
        assert stage.generator_stage is not None
        run_stage(stage.generator_stage, store)
        ends[str(share)] = train(stage, store)
        record = store.load_record(stage.key)
        assert record is not None
        assert record.synthetic_counts == tuple(round(share * (200 - count)) for count in COUNTS)
    assert are_equal(ends["none"], ends["0.0"])
    assert not are_equal(ends["none"], ends["0.5"])


# Seeds taken apart


def test_subset_is_that_of_its_seed_and_weights_are_those_of_theirs(
    none: Cell, cpu_execution: Execution, store: Store
) -> None:
    apart, first, second = (
        none.stage(seed, cpu_execution) for seed in (Seeds(subset=1, generator=0, classifier=0), 0, 1)
    )
    reader = InputReader(TINY, None, store, torch.device("cpu"))
    drawn, of_first, of_second = (
        np.concatenate(reader.read(stage).subset.indices_by_class) for stage in (apart, first, second)
    )
    assert np.array_equal(drawn, of_second) and not np.array_equal(drawn, of_first)
    assert are_equal(initial_state(apart, store), initial_state(first, store))
    assert not are_equal(initial_state(apart, store), initial_state(second, store))


def test_generator_seed_makes_the_synthetic_images(
    cgan: Cell, cpu_execution: Execution, store: Store
) -> None:
    reader = InputReader(TINY, None, store, torch.device("cpu"))
    pools = {}
    for generator, classifier in ((0, 0), (0, 5), (5, 0)):
        seeds = Seeds(subset=0, generator=generator, classifier=classifier)
        stage = cgan.stage(seeds, cpu_execution)
        assert stage.generator_stage is not None
        run_stage(stage.generator_stage, store)
        training_set = reader.read(stage).training_set
        pools[generator, classifier], _ = training_set.batch(torch.arange(len(training_set)))
    real = sum(COUNTS)
    assert torch.equal(pools[0, 0], pools[0, 5])
    assert torch.equal(pools[0, 0][:real], pools[5, 0][:real])
    assert not torch.equal(pools[0, 0][real:], pools[5, 0][real:])


def test_stages_with_seeds_apart_run_as_lanes_of_one_training(
    none: Cell, cpu_execution: Execution, store: Store, tmp_path: Path
) -> None:
    seeds = [Seeds(subset=1, generator=0, classifier=0), 7]
    stages = [none.stage(seed, cpu_execution) for seed in seeds]
    run = open_run(stages, store, None)
    while not run.is_finished:
        run.run_round()
    alone = make_store(tmp_path / "alone")
    for stage in stages:
        record = store.load_record(stage.key)
        assert record is not None
        assert record.deterministic() == run_stage(stage, alone).deterministic()


def test_stage_names_the_seeds_that_differ(cgan: Cell, cpu_execution: Execution) -> None:
    stage = cgan.stage(Seeds(subset=1, generator=2, classifier=3), cpu_execution)
    assert str(stage).endswith("seed 3 of subset 1 with generator 2")
    assert str(stage.generator_stage).endswith("seed 2 of subset 1")
    assert str(cgan.stage(4, cpu_execution)).endswith("small_mlp_cgan_leaky seed 4")
    assert stage_from_dict(stage.to_dict()) == stage


def test_generator_of_another_subset_is_refused(cgan: Cell, cpu_execution: Execution) -> None:
    stage, other = (cgan.stage(seed, cpu_execution) for seed in (0, 1))
    with pytest.raises(ValueError, match="and its classifier must learn from the same subset"):
        dataclasses.replace(stage, generator_stage=other.generator_stage)


def test_one_training_has_one_key(none: Cell, cpu_execution: Execution) -> None:
    stage = none.stage(3, cpu_execution)
    assert none.stage(Seeds(subset=3, generator=8, classifier=3), cpu_execution) == stage
    with pytest.raises(ValueError, match="must differ from the seed"):
        dataclasses.replace(stage, subset_seed=3)


def test_results_from_before_these_fields_keep_their_keys() -> None:
    records = sorted((Path(__file__).parents[1] / "golden" / "store").glob("stages/*/result.json"))
    assert records
    for path in records:
        record = json.loads(path.read_bytes())
        assert "subset_seed" not in record["stage"]
        assert stage_from_dict(record["stage"]).key == record["key"] == path.parent.name
