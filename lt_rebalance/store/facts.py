"""What a store holds of the stages that a study plans, read at a glance; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lt_rebalance.store.records import name_seeds
from lt_rebalance.store.store import Store, StoreError

RUN_STATES = ("complete", "failed", "diverged", "missing")


@dataclass(frozen=True, kw_only=True)
class StageFacts:
    """One stage of a study, and what has become of it."""

    key: str
    kind: str
    """"generator", "representation" or "classifier\""""
    title: str
    """tells it apart from all others of the study"""
    cell: int
    """position of the cell in the study; of the first one that uses a generator"""
    upstream: str | None
    """key of the stage that it builds on, which may have one of its own"""
    flop: float | None
    """floating-point operations; None where the study was written without"""
    state: str = "missing"
    """one of `RUN_STATES`, of this stage alone"""
    reason: str = ""
    """why it failed, or cannot be read"""
    metrics: Mapping[str, float] = field(default_factory=dict)
    wall_s: float = 0.0
    train_s: float = 0.0
    device_s: float = 0.0
    """device time; the wall time of records from before it was kept"""
    finished_s: float = 0.0
    """when its record was committed, in seconds since 1970; 0 where that was not kept"""


def read_facts(store: Store | None, study: Mapping[str, Any]) -> dict[str, StageFacts]:
    """Return every stage of a study once, by key, after those that it builds on.

    None stands for an empty store. A record that cannot be read counts as missing, and its reason says so;
    nothing is moved.
    """
    planned: dict[str, dict[str, Any]] = {}
    num_datasets, num_protocols = (
        len({cell[name] for cell in study["cells"]}) for name in ("dataset", "protocol")
    )
    for run in study["runs"]:
        cell = study["cells"][run["cell"]]
        dataset = f"{cell['dataset']} " if num_datasets > 1 else ""
        protocol = f"{cell['protocol']} " if num_protocols > 1 else ""
        common = {"cell": run["cell"], "upstream": None}
        if (generator_key := run["generator_key"]) is not None:
            architecture = cell["config"]["generator"]["architecture"]
            planned.setdefault(
                generator_key,
                common
                | {
                    "kind": "generator",
                    "title": f"generator {dataset}{protocol}{cell['data']} {architecture} "
                    + name_generator_replicate(run),
                    "flop": run.get("generator_flop"),
                },
            )
        if (first_key := run.get("first_key")) is not None:
            architecture = cell["config"]["classifier"]["architecture"]
            planned.setdefault(
                first_key,
                common
                | {
                    "kind": "representation",
                    "title": f"representation {dataset}{protocol}{cell['data']} {architecture} "
                    + name_replicate(run),
                    "flop": run.get("first_flop"),
                },
            )
        planned.setdefault(
            run["key"],
            common
            | {
                "kind": "classifier",
                "title": f"{dataset}{cell['protocol']} {cell['data']} {cell['method']} {name_replicate(run)}",
                "flop": run.get("flop"),
                "upstream": first_key or generator_key,
            },
        )
    outcomes: dict[str, dict[str, Any]] = {}
    if store is not None:
        outcomes.update(store.scan(_read_outcome, planned))
    return {key: StageFacts(key=key, **values, **outcomes.get(key, {})) for key, values in planned.items()}


def name_replicate(run: Mapping[str, Any]) -> str:
    """Return how the seeds of a run are named; a study from before they were taken apart has one a run."""
    return name_seeds(run["seed"], run.get("subset_seed"), run.get("generator_seed"))


def name_generator_replicate(run: Mapping[str, Any]) -> str:
    """Return how the seeds of a run's generator are named."""
    return name_seeds(run.get("generator_seed", run["seed"]), run.get("subset_seed"))


def _read_outcome(store: Store, key: str) -> dict[str, Any]:
    try:
        summary = store.read_summary(key)
        if summary is None:
            failure = store.read_failure(key)
            return {} if failure is None else {"state": "failed", "reason": failure.error}
    except StoreError as error:
        return {"reason": str(error)}
    timing = summary.timing
    return {
        "state": summary.state,
        "metrics": summary.metrics,
        "wall_s": timing.wall_s,
        "train_s": timing.train_s,
        "device_s": timing.charged_s,
        "finished_s": timing.finished_s or 0.0,
    }


def run_state(facts: Mapping[str, StageFacts], key: str) -> str:
    """Return the state of a run, which shares the fate of what it builds on and that failed or diverged."""
    fact = facts[key]
    if fact.state != "missing" or fact.upstream is None:
        return fact.state
    upstream = run_state(facts, fact.upstream)
    return upstream if upstream in ("failed", "diverged") else "missing"


def list_pending(facts: Mapping[str, StageFacts]) -> list[StageFacts]:
    """Return the stages that are still to run, each after those that it builds on."""
    pending: dict[str, StageFacts] = {}
    for key, fact in facts.items():
        if fact.kind == "classifier" and run_state(facts, key) == "missing":
            chain, upstream = [fact], fact.upstream
            while upstream is not None and facts[upstream].state != "complete":
                chain.append(facts[upstream])
                upstream = facts[upstream].upstream
            pending |= {each.key: each for each in reversed(chain) if each.key not in pending}
    return list(pending.values())
