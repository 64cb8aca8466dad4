"""What failed in a study is run again on a real Ray, and nothing else is."""

import json
from pathlib import Path
from typing import Any

import pytest

from lt_rebalance.cli.main import main
from lt_rebalance.cluster.session import RaySession
from lt_rebalance.commands import running
from lt_rebalance.ground.errors import ClusterError
from lt_rebalance.monitoring.tensorboard.naming import name_runs
from lt_rebalance.monitoring.tensorboard.writer import read_end
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.presence import read_notes
from lt_rebalance.store.study_document import StudyDocument, parse_study
from lt_rebalance.studies.ablation import ablate
from lt_rebalance.studies.overrides import change_study, make_overrides
from lt_rebalance.studies.plan import Plan, compile_study, describe_plan, plan_from_description
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from tests.analysis.synthetic import plan_nested
from tests.made_up import make_up
from tests.store.test_store import make_failure
from tests.tiny import TINY


@pytest.fixture
def plan(small_protocol: Protocol, cpu_execution: Execution) -> Plan:
    """Return two cells at two seeds."""
    common = {"dataset": TINY, "c": "1/2"}
    cells = (
        make_cell(small_protocol, method="none", generator=None, **common),
        make_cell(small_protocol, method="cgan", generator="small_mlp_cgan_leaky", **common),
    )
    return compile_study(Study(name="study", cells=cells, seeds=(0, 1)), cpu_execution)


@pytest.fixture
def store(plan: Plan, tmp_path: Path) -> Store:
    """Return a store in which the generator of seed 1 and the first classifier have failed."""
    opened = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert opened is not None
    opened.write_study(describe_plan(plan))
    generator_stage = plan.runs[3].stage.generator_stage
    assert generator_stage is not None
    for key in (generator_stage.key, plan.runs[0].key):
        opened.mark_failed(make_failure(key))
    return opened


def reread(described: dict[str, Any]) -> StudyDocument:
    """Return a document as a store gives it back."""
    return parse_study(json.loads(json.dumps(described)), described["study"])


def test_plan_that_was_described_is_the_plan(plan: Plan) -> None:
    overridden = change_study(plan.study, make_overrides({"classifier.beta1": 0.99}))
    ablated = ablate([plan.study.cells[0]], [{"classifier.loss": "double_softmax"}]).study("study", (0, 1))
    asked = [compile_study(study, plan.execution) for study in (overridden, ablated)]
    for each in (plan, plan_nested(), *asked):
        assert plan_from_description(reread(describe_plan(each).to_plain())) == each


def test_plan_from_before_seeds_were_taken_apart_is_the_plan(plan: Plan) -> None:
    described = describe_plan(plan).to_plain()
    for name in ("overrides", "comparisons"):
        del described[name]
    for run in described["runs"]:
        del run["subset_seed"], run["generator_seed"]
    assert plan_from_description(reread(described)) == plan


def test_plan_of_another_version_is_refused(plan: Plan) -> None:
    described = describe_plan(plan).to_plain()
    described["runs"][2]["key"] = "0" * 64
    with pytest.raises(ValueError, match="another version of this code"):
        plan_from_description(reread(described))


def test_dry_run_names_what_failed(plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retry", store.location, "--failed", "--dry-run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["runs"] == [str(plan.runs[0]), str(plan.runs[3])]
    assert store.read_failure(plan.runs[0].key) is not None


def test_study_that_takes_seeds_apart_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_nested()
    opened = open_store(str(tmp_path / "nested"), RESULTS_VERSION, create=True)
    assert opened is not None
    opened.write_study(describe_plan(plan))
    generator_stage = plan.runs[-1].stage.generator_stage
    assert generator_stage is not None
    opened.mark_failed(make_failure(generator_stage.key))
    assert main(["retry", opened.location, "--failed", "--dry-run", "--json"]) == 0
    built_on_it = [str(run) for run in plan.runs if run.stage.generator_stage == generator_stage]
    assert json.loads(capsys.readouterr().out)["runs"] == built_on_it and len(built_on_it) == 2


def test_retry_that_is_stopped_before_its_first_result_can_be_called_again(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(session: RaySession) -> None:
        raise ClusterError("Ray did not start")

    monkeypatch.setattr(RaySession, "start", refuse)
    for _ in range(2):
        assert main(["retry", store.location, "--failed", "--max-concurrent", "1"]) == 2
    capsys.readouterr()
    assert main(["retry", store.location, "--failed", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == [str(plan.runs[0]), str(plan.runs[3])]


def test_retry_counts_a_run_that_is_missing_at_its_end_as_unfinished(
    plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator_stage = plan.runs[3].stage.generator_stage
    assert generator_stage is not None

    def finish_generator(*_: Any) -> None:
        assert store.commit(make_up(generator_stage))

    monkeypatch.setattr(running, "run_pending", finish_generator)
    assert main(["retry", store.location, "--failed", "--max-concurrent", "1"]) == 1
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"failed: {plan.runs[0]}: ")
    assert second == f"missing: {plan.runs[3]}: it has not been run"
    assert last == "failed runs: 2; still without a result: 2"
    assert main(["retry", store.location, "--failed", "--dry-run"]) == 0
    assert "note: neither a result nor a failure: 3 runs of study study" in capsys.readouterr().err


@pytest.mark.slow
def test_retry_runs_what_failed_and_what_waits_for_it_and_nothing_else(
    plan: Plan, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    study = store.files.read("studies/study.json")
    assert main(["retry", store.location, "--failed", "--max-concurrent", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "failed runs: 2; still without a result: 0"
    found = [store.load_record(run.key) is not None for run in plan.runs]
    assert found == [True, False, False, True]
    assert store.read_failure(plan.runs[0].key) is None
    assert store.files.read("studies/study.json") == study and read_notes(store.files) == []
    runs = name_runs(describe_plan(plan))
    assert [read_end(store, runs[run.key]) for run in plan.runs] == ["complete", None, None, "complete"]
