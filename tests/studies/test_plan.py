"""Checks of the plan: each stage once, stable keys, and which stage may start next."""

import dataclasses
import json
from collections.abc import Mapping

import pytest

from lt_rebalance.ground.plain import config_from_dict
from lt_rebalance.studies.plan import Plan, Schedule, compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, AnyStage, ClassifierStage, GeneratorStage
from lt_rebalance.studies.study import Cell, Study
from lt_rebalance.studies.workload import describe_batches
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import torch_version
from sweeps import full_grid

EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version=torch_version())
SMALL, BIG = "small_mlp_cgan_leaky", "big_mlp_cgan_leaky"


def make_paper_cell(
    method: str, generator: str | None = None, c: str | None = "7/9", **classifier: object
) -> Cell:
    """Return a cell of the protocol "paper", with some fields of its classifier set otherwise."""
    cell = make_cell(get_protocol("paper"), dataset="fashion_mnist", c=c, method=method, generator=generator)
    name = " ".join(["paper", *map(str, classifier.values())])
    return dataclasses.replace(
        cell, protocol=name, classifier=dataclasses.replace(cell.classifier, **classifier)
    )


NONE = make_paper_cell("none")
CGAN = make_paper_cell("cgan", SMALL)
CGAN_OTHER_LOSS = make_paper_cell("cgan", SMALL, loss="cross_entropy")


def make_plan(*cells: Cell, num_seeds: int = 1, execution: Execution = EXECUTION) -> Plan:
    return compile_study(Study(name="test", cells=cells, seeds=tuple(range(num_seeds))), execution)


# Compiling


def test_compile_study_trains_a_generator_once_for_all_its_classifiers() -> None:
    plan = make_plan(CGAN, CGAN_OTHER_LOSS, NONE, num_seeds=2)
    assert len(plan.runs) == 6
    assert plan.count_stages() == {"generator": 2, "classifier": 6}
    for seed in (0, 1):
        first, second, none = (run.stage for run in plan.runs if run.seed == seed)
        assert first.generator_stage is not None and second.generator_stage is not None
        assert first.generator_stage.key == second.generator_stage.key
        assert first.key != second.key
        assert none.generator_stage is None


@pytest.mark.parametrize(
    "other",
    [
        make_paper_cell("cgan", BIG),
        make_paper_cell("cgan", SMALL, c="1/2"),
        dataclasses.replace(
            CGAN, protocol="other", generator=dataclasses.replace(CGAN.generator, batch_size=128)
        ),
    ],
)
def test_compile_study_trains_different_generators_apart(other: Cell) -> None:
    assert make_plan(CGAN, other).count_stages() == {"generator": 2, "classifier": 2}


def test_compile_study_lists_every_stage_by_its_key_after_what_it_builds_on() -> None:
    plan = make_plan(CGAN, NONE, CGAN_OTHER_LOSS, make_paper_cell("cgan", BIG), num_seeds=3)
    order = list(plan.stages)
    assert [stage.key for stage in plan.stages.values()] == order
    upstream = {key: upstream_of(stage) for key, stage in plan.stages.items()}
    assert sum(key is not None for key in upstream.values()) == 9
    for key, needed in upstream.items():
        assert needed is None or order.index(needed) < order.index(key)


def test_compile_study_completes_replicates_before_it_begins_others() -> None:
    plan = make_plan(CGAN, NONE, num_seeds=3)
    assert [(run.cell, run.seed) for run in plan.runs] == [
        *((CGAN, 0), (NONE, 0)),
        *((CGAN, 1), (NONE, 1)),
        *((CGAN, 2), (NONE, 2)),
    ]
    assert [stage.seed for stage in plan.stages.values()] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_compile_study_grown_by_seeds_and_cells_keeps_all_earlier_keys() -> None:
    small = make_plan(CGAN, NONE, num_seeds=2)
    more_seeds = make_plan(CGAN, NONE, num_seeds=4)
    more_cells = make_plan(make_paper_cell("cgan", BIG), NONE, CGAN_OTHER_LOSS, CGAN, num_seeds=2)
    for grown in (more_seeds, more_cells):
        keys = {(run.cell, run.seed): run.key for run in grown.runs}
        assert all(keys[run.cell, run.seed] == run.key for run in small.runs)
        assert set(small.stages) < set(grown.stages)
    assert len(more_seeds.stages) == 2 * len(small.stages)


def test_compile_study_of_another_execution_shares_no_key() -> None:
    other = dataclasses.replace(EXECUTION, precision="bfloat16")
    first, second = make_plan(CGAN, NONE), make_plan(CGAN, NONE, execution=other)
    assert not set(first.stages) & set(second.stages)


def test_compile_study_keys_do_not_depend_on_the_name_of_the_protocol() -> None:
    renamed = make_plan(dataclasses.replace(CGAN, protocol="other"))
    assert list(renamed.stages) == list(make_plan(CGAN).stages)


@pytest.mark.parametrize(("num_seeds", "num_classifiers", "num_generators"), [(1, 15, 8), (10, 150, 80)])
def test_compile_study_of_the_paper_trains_150_classifiers_and_80_generators_in_ten_seeds(
    num_seeds: int, num_classifiers: int, num_generators: int
) -> None:
    arguments = ["--preset", "paper", "--seeds", str(num_seeds)]
    study = full_grid.build_study(full_grid.make_grid_parser().parse_args(arguments))
    plan = compile_study(study, EXECUTION)
    assert len(plan.runs) == num_classifiers
    assert plan.count_stages() == {"classifier": num_classifiers, "generator": num_generators}


def test_stage_builds_on_the_generator_stage_where_there_is_one() -> None:
    classifier = CGAN.stage(0, EXECUTION)
    assert isinstance(classifier.generator_stage, GeneratorStage)
    assert classifier.upstreams == (classifier.generator_stage,)
    assert classifier.generator_stage.upstreams == () == NONE.stage(0, EXECUTION).upstreams


# Describing


def test_describe_plan_names_every_run_and_its_stages() -> None:
    plan = make_plan(CGAN, NONE, num_seeds=2)
    flop = {key: 1e9 * position for position, key in enumerate(plan.stages)}
    described = describe_plan(plan, "Which is best?", flop).to_plain()
    assert json.loads(json.dumps(described)) == described
    assert {name: described[name] for name in ("study", "question", "results_version")} == {
        "study": "test",
        "question": "Which is best?",
        "results_version": RESULTS_VERSION,
    }
    assert config_from_dict(Execution, described["execution"]) == EXECUTION
    generators = [CGAN.stage(seed, EXECUTION).generator_stage for seed in (0, 1)]
    assert described["runs"] == [
        {
            "cell": 0,
            "seed": seed,
            "subset_seed": seed,
            "generator_seed": seed,
            "key": CGAN.stage(seed, EXECUTION).key,
            "generator_key": generator and generator.key,
            "flop": flop[CGAN.stage(seed, EXECUTION).key],
            "generator_flop": generator and flop[generator.key],
        }
        if cell is CGAN
        else {
            "cell": 1,
            "seed": seed,
            "subset_seed": seed,
            "generator_seed": None,
            "key": NONE.stage(seed, EXECUTION).key,
            "generator_key": None,
            "flop": flop[NONE.stage(seed, EXECUTION).key],
            "generator_flop": None,
        }
        for seed, generator in enumerate(generators)
        for cell in (CGAN, NONE)
    ]


def test_describe_plan_holds_the_whole_configuration_of_a_cell_beside_its_names() -> None:
    described = describe_plan(make_plan(CGAN, NONE))
    assert described.question == ""
    for cell, written in zip((CGAN, NONE), described.cells, strict=True):
        assert config_from_dict(Cell, {"protocol": written.protocol, **written.config}) == cell
        assert "protocol" not in written.config
        assert (written.protocol, written.dataset, written.data) == ("paper", "fashion_mnist", "7/9")
    assert [written.method for written in described.cells] == [SMALL, "none"]


def test_describe_plan_names_the_classes_of_every_data_set() -> None:
    other = make_cell(get_protocol("paper"), dataset="mnist", c="7/9", method="none", generator=None)
    names = describe_plan(make_plan(NONE, other)).class_names
    assert set(names) == {"fashion_mnist", "mnist"}
    assert names["fashion_mnist"][0] == "T-shirt/top"
    assert len(names["mnist"]) == 10


# Scheduling


def upstream_of(stage: AnyStage) -> str | None:
    """Return the key of the one stage that a stage builds on, or None."""
    keys = [each.key for each in stage.upstreams]
    assert len(keys) <= 1
    return keys[0] if keys else None


def make_generator(number: int) -> GeneratorStage:
    """Return one of many different generator stages."""
    stage = CGAN.stage(number, EXECUTION).generator_stage
    assert stage is not None
    return stage


def make_dependent(generator: GeneratorStage, number: int) -> ClassifierStage:
    """Return one of many different classifier stages that build on a generator."""
    cell = make_paper_cell("cgan", SMALL, batch_size=number + 1)
    stage = cell.stage(generator.seed, EXECUTION)
    assert upstream_of(stage) == generator.key
    return stage


def make_single(number: int) -> ClassifierStage:
    """Return one of many different classifier stages that need no generator."""
    return NONE.stage(number, EXECUTION)


def make_run(number: int) -> ClassifierStage:
    """Return one of many classifier stages of different cells that need no generator."""
    return make_paper_cell("none", batch_size=number + 1).stage(0, EXECUTION)


def make_schedule(costs: Mapping[AnyStage, float]) -> Schedule:
    """Schedule stages, in this order, with these costs."""
    cost_by_key = {stage.key: cost for stage, cost in costs.items()}
    return Schedule({stage.key: stage for stage in costs}, lambda stage: cost_by_key[stage.key])


def drain(schedule: Schedule) -> list[AnyStage]:
    """Start and finish one stage at a time, all well, and return the order."""
    order = []
    while stages := schedule.next_ready():
        (stage,) = stages
        order.append(stage)
        schedule.finish(stage.key, releases=True)
    assert schedule.is_exhausted
    return order


def test_schedule_starts_the_longest_chain_first_beside_one_run() -> None:
    short, long = make_generator(0), make_generator(1)
    after_short, after_long = make_dependent(short, 0), make_dependent(long, 0)
    first, single = make_run(0), make_run(1)
    # Chains: 1 + 9 = 10, 4 + 2 = 6, and 7 on its own; a run comes before all.
    schedule = make_schedule({first: 1, short: 1, after_short: 9, long: 4, after_long: 2, single: 7})
    assert [schedule.next_ready() for _ in range(4)] == [[first], [short], [single], [long]]


def test_one_slot_works_on_runs_in_the_order_of_the_plan_while_one_is_ready() -> None:
    generator = make_generator(0)
    runs: list[AnyStage] = [make_run(number) for number in (2, 0, 1)]
    schedule = make_schedule({generator: 1, runs[0]: 1, runs[1]: 5, runs[2]: 3})
    assert [schedule.next_ready(), schedule.next_ready()] == [[runs[0]], [runs[1]]]  # then by cost
    schedule.finish(runs[1].key, releases=True)
    assert schedule.next_ready() == [runs[2]]
    schedule.finish(runs[0].key, releases=True)
    schedule.finish(runs[2].key, releases=True)
    assert schedule.next_ready() == [generator]


def test_schedule_counts_the_longest_dependent_of_a_generator_once() -> None:
    shared, other = make_generator(0), make_generator(1)
    dependents = [make_dependent(shared, number) for number in range(3)]
    after_other = make_dependent(other, 0)
    # Chains: 1 + max(3, 5, 4) = 6 and 1 + 7 = 8, although the three dependents cost 12 together.
    costs = {shared: 1, **dict(zip(dependents, (3, 5, 4), strict=True)), other: 1, after_other: 7}
    assert drain(make_schedule(costs)) == [other, after_other, shared, *dependents]


def test_schedule_of_equal_costs_keeps_the_order_of_the_plan() -> None:
    stages: list[AnyStage] = [make_single(number) for number in (3, 1, 2, 0)]
    assert drain(make_schedule(dict.fromkeys(stages, 1))) == stages


def test_schedule_of_equal_costs_puts_released_stages_at_their_place_in_the_plan() -> None:
    generator = make_generator(0)
    between, after = make_dependent(generator, 0), make_single(1)
    others: list[AnyStage] = [make_single(number) for number in (2, 3)]
    schedule = make_schedule({generator: 1, others[0]: 1, between: 1, after: 1, others[1]: 1})
    assert [schedule.next_ready(), schedule.next_ready()] == [[others[0]], [generator]]
    schedule.finish(generator.key, releases=True)
    assert [schedule.next_ready() for _ in range(3)] == [[between], [after], [others[1]]]


def test_schedule_releases_dependents_only_when_their_generator_finishes() -> None:
    generator = make_generator(0)
    first, second, single = make_dependent(generator, 0), make_dependent(generator, 1), make_single(0)
    schedule = make_schedule({generator: 9, first: 3, second: 4, single: 1})
    assert [schedule.next_ready(), schedule.next_ready()] == [[single], [generator]]
    schedule.finish(single.key, releases=True)
    for _ in range(3):
        assert schedule.next_ready() == []
    assert not schedule.is_exhausted
    schedule.finish(generator.key, releases=True)
    assert [schedule.next_ready(), schedule.next_ready(), schedule.next_ready()] == [[first], [second], []]


def test_schedule_drops_dependents_of_a_generator_that_releases_nothing() -> None:
    good, bad = make_generator(0), make_generator(1)
    after_good = make_dependent(good, 0)
    after_bad = [make_dependent(bad, number) for number in range(2)]
    schedule = make_schedule({bad: 5, after_bad[0]: 5, after_bad[1]: 5, good: 1, after_good: 1})
    assert schedule.next_ready() == [bad]
    schedule.finish(bad.key, releases=False)
    assert drain(schedule) == [good, after_good]


def test_schedule_of_a_dependent_whose_generator_is_done_starts_it_at_once() -> None:
    dependent = make_dependent(make_generator(0), 0)
    assert drain(make_schedule({dependent: 1})) == [dependent]


@pytest.mark.parametrize("releases", [True, False])
def test_schedule_is_exhausted_exactly_at_the_end(releases: bool) -> None:
    generator = make_generator(0)
    dependent = make_dependent(generator, 0)
    schedule = make_schedule({generator: 1, dependent: 1})
    assert not schedule.is_exhausted
    schedule.next_ready()
    assert not schedule.is_exhausted
    schedule.finish(generator.key, releases=releases)
    assert schedule.is_exhausted == (not releases)
    if releases:
        assert schedule.next_ready() == [dependent]
        assert not schedule.is_exhausted
        schedule.finish(dependent.key, releases=False)
        assert schedule.is_exhausted
    assert schedule.next_ready() == []


def test_schedule_of_nothing_is_exhausted() -> None:
    schedule = make_schedule({})
    assert schedule.next_ready() == []
    assert schedule.is_exhausted


def test_schedule_hands_out_seeds_of_one_stage_together_up_to_the_limit() -> None:
    generators = [make_generator(seed) for seed in range(4)]
    others = [make_single(seed) for seed in range(2)]
    costs: dict[AnyStage, float] = {stage: 5 for stage in generators} | {stage: 3 for stage in others}
    schedule = make_schedule(costs)
    assert schedule.num_ready == 6
    assert schedule.next_ready(3) == others
    assert schedule.num_ready == 4
    assert schedule.next_ready(3) == generators[:3]
    assert schedule.next_ready(3) == generators[3:]
    assert schedule.next_ready(3) == []
    for stage in generators + others:
        assert not schedule.is_exhausted
        schedule.finish(stage.key, releases=True)
    assert schedule.is_exhausted


@pytest.mark.parametrize(
    ("protocol", "validation_per_class", "dataset", "said"),
    [
        ("paper", 0, "fashion_mnist", False),  # its test file is mixed
        ("paper", 10, "fashion_mnist", True),
        ("paper", 0, "images@0123abcd", True),
        ("sound", 10, "images@0123abcd", False),
    ],
)
def test_scores_that_depend_on_the_order_of_images_are_told(
    protocol: str, validation_per_class: int, dataset: str, said: bool
) -> None:
    cell = make_cell(get_protocol(protocol), dataset="fashion_mnist", c="1/2", method="none", generator=None)
    data = dataclasses.replace(cell.data, validation_per_class=validation_per_class)
    object.__setattr__(data, "dataset", dataset)  # a user's set need not be available for this
    told = describe_batches(data, cell.classifier)
    assert told.startswith(f"{dataset}: its test") == said and bool(told) == said
