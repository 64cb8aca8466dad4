"""Counts and the table of cells, kept up to date while runs end, are those of all runs looked at again."""

import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lt_rebalance.store import open_store
from lt_rebalance.store.records import Failure
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.protocols import get_protocol, grid
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.studies.tables import (
    CellTally,
    Moments,
    cells_frame,
    describe_cells,
    describe_means,
    runs_frame,
)
from tests.made_up import make_up
from tests.studies.chains import EXECUTION


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_counts_and_cells_follow_each_end(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    cells = grid(
        [get_protocol("sound"), get_protocol("paper")],
        dataset="fashion_mnist_mini",
        cs=["1/2"],
        methods=["none", "cgan"],
        generators=["small_mlp_cgan_leaky"],
    )
    plan = compile_study(Study(name="test", cells=cells, seeds=(0, 1, 2)), EXECUTION)
    store = open_store(str(tmp_path / "results"), RESULTS_VERSION, create=True)
    assert store is not None
    ledger = Ledger(plan, store)
    tally = CellTally(ledger)
    stages = list(plan.stages.values())
    rng.shuffle(stages)
    for stage in stages:
        state = rng.choice(("complete", "complete", "diverged", "failed"))
        if state == "failed":
            store.mark_failed(
                Failure(
                    key=stage.key,
                    kind=stage.kind,
                    stage=stage.to_dict(),
                    error="OSError: none",
                    traceback="",
                    provenance={},
                )
            )
        else:
            dead = [3] if rng.random() < 0.3 else []
            store.commit(make_up(stage, state, hits=rng.randrange(20, 90), dead=dead))
        ledger.refresh(stage.key)
        tally.update(ledger.with_all_that_build_on(stage.key))

        again = Ledger(plan, store)
        assert ledger.count_runs() == again.count_runs()
        assert ledger.summary() == again.summary()
        runs = runs_frame(again)
        expected, shown = cells_frame(runs), tally.frame()
        pd.testing.assert_frame_equal(shown, expected, check_dtype=False, rtol=1e-12)
        title = describe_means("test", shown, has_shared_subsets=tally.has_shared_subsets)
        assert title == describe_cells("test", runs, expected)


def test_moments_are_those_of_numpy() -> None:
    values = [1e6 + 0.1, 1e6 + 0.5, 1e6 - 0.3]
    moments = Moments()
    assert np.isnan([moments.mean, moments.sd]).all()
    for value in (*values[:1], float("nan")):
        moments.add(value)
    assert moments.mean == values[0] and np.isnan(moments.sd)
    for value in values[1:]:
        moments.add(value)
    assert moments.mean == pytest.approx(np.mean(values), rel=1e-15)
    assert moments.sd == pytest.approx(np.std(values, ddof=1), rel=1e-9)
