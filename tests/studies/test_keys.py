"""Keys written out from shared parts are those of the whole."""

import dataclasses
import random

import pytest

from lt_rebalance.store.records import stage_key
from lt_rebalance.studies.ablation import nested_seeds
from lt_rebalance.studies.keys import lanes_of
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.protocols import PROTOCOLS, get_protocol, grid
from lt_rebalance.studies.stage import AnyStage, stage_from_dict
from lt_rebalance.studies.study import Seed, Study
from tests.studies.chains import EXECUTION, draw_stages, make_stage


def list_stages(protocol: str, seeds: tuple[Seed, ...], methods: list[str]) -> list[AnyStage]:
    """Return the stages of a study on two sets, by a protocol."""
    cells = grid(
        [get_protocol(protocol)],
        dataset="fashion_mnist_mini",
        cs=["7/9", "1/2"],
        methods=methods,
        generators=["small_mlp_cgan_leaky", "big_mlp_cgan_leaky"],
    )
    return list(compile_study(Study(name="keys", cells=cells, seeds=seeds), EXECUTION).stages.values())


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_key_is_the_hash_of_all_plain_values(protocol: str) -> None:
    stages = list_stages(protocol, (0, 1, 12), ["none", "undersample", "oversample", "cgan"])
    stages += list_stages(protocol, nested_seeds(2, 2, 2), ["cgan"])
    assert [stage.key for stage in stages] == [stage_key(stage.to_dict()) for stage in stages]
    # Keys are written again, without parts that another stage has left.
    assert [stage_from_dict(stage.to_dict()).key for stage in stages] == [stage.key for stage in stages]


def test_key_tells_apart_what_is_equal_but_written_differently() -> None:
    whole = make_stage(0, batch_size=50)
    broken = dataclasses.replace(
        whole,
        classifier=dataclasses.replace(whole.classifier, batch_size=50.0),  # type: ignore[arg-type]
    )
    assert whole == broken
    assert whole.key == stage_key(whole.to_dict()) != broken.key == stage_key(broken.to_dict())


@pytest.mark.parametrize("seed", range(10))
def test_lanes_of_is_shared_by_stages_that_differ_in_seeds_alone(seed: int) -> None:
    stages = draw_stages(random.Random(seed))
    for stage in stages:
        assert stage.key == stage_key(stage.to_dict())
        for other in stages:
            assert (lanes_of(stage) == lanes_of(other)) == (stage.with_seed(0) == other.with_seed(0))
