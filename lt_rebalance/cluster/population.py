"""Population-based training of CGANs on Ray Tune: members train side by side, the worst copy the best.

Source: Jaderberg et al. 2017, arXiv 1711.09846, with Tune's scheduler. The weights of the best members are
copied, their settings perturbed, whenever all members have trained for the same number of rounds.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import PopulationBasedTraining

from lt_rebalance.cluster.faults import StoreFaults, describe_lost_worker
from lt_rebalance.cluster.resources import Resources
from lt_rebalance.cluster.rungs import PopulationTrainable, member_trial_config, rung_result, unpack_member
from lt_rebalance.cluster.stateless import Stateless
from lt_rebalance.cluster.trainable import TrialConfig
from lt_rebalance.cluster.tuner import run_trials
from lt_rebalance.methods.domains import Domain, Range
from lt_rebalance.search.account import SearchBudget, Trial
from lt_rebalance.search.journal import SearchJournal
from lt_rebalance.search.search import Search, Values
from lt_rebalance.store import Store, StoreError

KEPT_CHECKPOINTS = 3
"""checkpoints of each member; with fewer, one could be deleted before another member copies it"""


def run_population(
    journal: SearchJournal,
    store: Store,
    data_dir: str | None,
    budget: SearchBudget,
    resources: Resources,
    show: Callable[[Trial], None],
    check_interrupt: Callable[[], None],
    scratch_parent: Path | None,
) -> None:
    """Train a population on the Ray that this process is connected to, until every member has ended.

    Members that were training when the search was last stopped resume from their last finished rung.

    Args:
        budget: its trials are the size of the population.
        scratch_parent: a directory that all nodes see; None for a single machine.
    """
    while journal.has_more(budget):
        journal.begin()
    # Tune pickles the scheduler, and a store's connections cannot be pickled.
    search, location = journal.search, store.location
    faults = StoreFaults(location)

    def configure(member: int, values: Values) -> TrialConfig:
        return member_trial_config(search, member, values, location, data_dir, resources.num_devices)

    running = [trial for trial in journal.trials() if trial.state == "running"]
    kept = {trial.number: _last_result(trial.number, search, store) for trial in running}
    configs = [configure(trial.number, kept[trial.number].get("values", trial.values)) for trial in running]
    rounds_done = max(result.get("round", 0) for result in kept.values())
    for trial in running:
        if not trial.rungs:
            show(trial)
    run_trials(
        PopulationTrainable,
        resources,
        faults.before(check_interrupt),
        num_pending=len(configs),
        param_space=tune.grid_search(configs),
        callbacks=[MemberCallback(journal, store, show, faults)],
        checkpoints=tune.CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
        scratch_parent=scratch_parent,
        scheduler=_Scheduler(search, configure, rounds_done),
    )
    faults.check()


def _last_result(member: int, search: Search, store: Store) -> dict[str, Any]:
    """Return the last result of a member, with its values; empty for one that has not begun."""
    content = store.load_member(search.name, member)
    if content is None:
        return {}
    try:
        state, _ = unpack_member(content)
    except ValueError as error:
        raise StoreError(
            f"{store.location}: searches/{search.name}/members/{member}.safetensors cannot be used "
            f"({error}); remove it and run the search again: that member begins again"
        ) from None
    result: dict[str, Any] = state["result"]
    return result


class _Scheduler(PopulationBasedTraining):
    """Tune's scheduler, with members that keep their number and values that stay in their space."""

    def __init__(
        self, search: Search, configure: Callable[[int, Values], TrialConfig], rounds_done: int
    ) -> None:
        """Wait with the first perturbation until all members have trained for equally many rounds."""
        super().__init__(
            time_attr="round",
            metric=search.objectives[0],
            mode="max",
            perturbation_interval=1,
            burn_in_period=rounds_done,
            hyperparam_mutations={
                "values": {name: _to_tune(domain) for name, domain in search.space.items()}
            },
            synch=True,
            log_config=False,
            require_attrs=False,
        )
        self._search = search
        self._configure = configure

    def _get_new_config(
        self, trial: TuneTrial, trial_to_clone: TuneTrial
    ) -> tuple[TrialConfig, dict[str, Any]]:
        config, operations = super()._get_new_config(trial, trial_to_clone)
        values = {name: _clip(config["values"][name], domain) for name, domain in self._search.space.items()}
        return self._configure(trial.config["member"], values), operations


class MemberCallback(Stateless, tune.Callback):
    """Records results of members in the journal, and the end of each: complete, diverged or failed."""

    def __init__(
        self, journal: SearchJournal, store: Store, show: Callable[[Trial], None], faults: StoreFaults
    ) -> None:
        """Record members in the journal of their search; `faults` records errors that are not theirs."""
        self._journal = journal
        self._store = store
        self._show = show
        self._faults = faults

    def on_trial_result(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, result: dict[str, Any], **info: Any
    ) -> None:
        """Record the result of a member at a rung."""
        if "round" in result:
            number = trial.config["member"]
            with self._faults.kept():
                self._journal.note_rung(number, rung_result(result, self._journal.search.objectives))
                self._show(self._journal.trials()[number])

    def on_trial_complete(
        self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any
    ) -> None:
        """Record the end of a member, unless it is to continue when the search is run again."""
        number, result = trial.config["member"], trial.last_result or {}
        if not self._faults.suspends(f"trial {number}", result):
            self._settle(number, result)

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Record the end of a member after its last retry."""
        self._settle(trial.config["member"], {})

    def _settle(self, number: int, result: dict[str, Any]) -> None:
        states = {"finished": "complete", "diverged": "diverged"}
        state = states.get(result.get("outcome", ""), "failed")
        with self._faults.kept():
            reason = result.get("reason") or self._last_error(number) if state == "failed" else ""
            self._journal.settle(number, state, reason)
            self._store.discard_member(self._journal.search.name, number)
            self._show(self._journal.trials()[number])

    def _last_error(self, number: int) -> str:
        """Return the last error of a member, or that its worker died."""
        errors = self._store.load_member_errors(self._journal.search.name, number)
        return errors[-1].error if errors else describe_lost_worker()


def _to_tune(domain: Domain) -> Any:  # Any: Tune's own domains
    """Return a domain for the scheduler: it steps to neighbours in lists and multiplies numbers."""
    if isinstance(domain, Range):
        return (tune.loguniform if domain.is_log else tune.uniform)(domain.low, domain.high)
    return list(domain.values)


def _clip(value: Any, domain: Domain) -> Any:  # Any: of the type of the setting
    return min(max(value, domain.low), domain.high) if isinstance(domain, Range) else value
