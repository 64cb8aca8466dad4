"""Run a search: trials, choice, confirmation on fresh seeds. This imports Ray, torch and Optuna."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from lt_rebalance.cluster.halving import find_failure, run_search
from lt_rebalance.cluster.population import run_population
from lt_rebalance.cluster.resources import Resources
from lt_rebalance.cluster.session import RaySession
from lt_rebalance.commands.forecast import Job
from lt_rebalance.commands.running import run_job
from lt_rebalance.commands.search_forecast import Comparison
from lt_rebalance.data.places import locate_data_dir
from lt_rebalance.ground.exits import EXIT_INCOMPLETE, this_command
from lt_rebalance.ground.text import rich
from lt_rebalance.monitoring.concerns import advise_on
from lt_rebalance.monitoring.verbosity import DETAILED, NORMAL, QUIET
from lt_rebalance.search.account import MAX_FAILED, SearchBudget, Trial, choose, summary
from lt_rebalance.search.files import best_toml, confirmation_name, make_account
from lt_rebalance.search.journal import SearchJournal
from lt_rebalance.search.search import Search
from lt_rebalance.search.spaces import SEARCH_SPACES
from lt_rebalance.store import Store
from lt_rebalance.store.records import NOT_APPLICABLE
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.protocols import ADAM_PROTOCOLS
from lt_rebalance.studies.study import Study


@dataclass(frozen=True, kw_only=True)
class SearchCommand:
    """The work of a command, after all its input has been checked."""

    search: Search
    journal: SearchJournal
    store: Store
    budget: SearchBudget
    resources: Resources
    session: RaySession
    options: argparse.Namespace
    question: str
    console: Console

    @property
    def objective(self) -> str:
        """The objective that decides."""
        return self.search.objectives[0]

    @property
    def best(self) -> Trial | None:
        """The choice among the trials so far; None if none is complete."""
        return choose(self.journal.trials(), self.objective)

    def run(self, compare: Comparison | None) -> int:
        """Search until the budget is spent, choose, confirm the choice and return the exit code.

        Args:
            compare: None if the choice is not confirmed here.
        """
        self._enqueue_known()
        self._write_account()
        if self.journal.in_flight() or self.journal.has_more(self.budget):
            self._search()
        trials, best = self.journal.trials(), self.best
        print(summary(trials))
        causes = {self._find_cause(trial) for trial in trials if trial.state == "failed"}
        if causes - {NOT_APPLICABLE}:
            print(advise_on(causes, this_command(), " --name ANOTHER"))
        is_cut_short = self.budget.is_out_of_reach(trials)
        if is_cut_short:
            print(f"ended before {self.budget} were spent: the last {MAX_FAILED} trials have all failed")
        if best is None:
            print("no trial was completed, so there is nothing to choose")
            return 0 if causes == {NOT_APPLICABLE} else EXIT_INCOMPLETE
        self._show_choice(trials, best)
        if is_cut_short:
            return EXIT_INCOMPLETE
        return 0 if compare is None else self._confirm(best, compare)

    def _enqueue_known(self) -> None:
        """Put the untuned configuration first, then the values that the protocols give."""
        component, space = self.search.component, self.search.space
        self.journal.enqueue(self.search.untuned)
        for protocol in ADAM_PROTOCOLS.values() if component in SEARCH_SPACES else ():
            self.journal.enqueue({name: getattr(protocol, f"{component}_{name}") for name in space})
        if self.options.retry_failed:
            self.journal.enqueue_failed()

    def _search(self) -> None:
        # Workers have their own working directory and environment.
        data_dir = str(locate_data_dir(self.options.data_dir))
        if self.options.verbosity > QUIET:
            self.console.print("starting Ray")
        self.session.start()
        common = (self.resources, self._show_trial, self.session.check)
        if self.search.scheduler == "pbt":
            # Members pass checkpoints; nodes of a cluster do so through a shared directory.
            directory = self.store.search_directory(self.search.name)
            shared = None if self.options.address is None else directory
            run_population(self.journal, self.store, data_dir, self.budget, *common, shared)
        else:
            run_search(self.journal, self.store, data_dir, self.budget, *common)

    def _show_trial(self, trial: Trial) -> None:
        if trial.state != "running":
            self._write_account()
        last = trial.rungs[-1] if trial.rungs else None
        begins = trial.state == "running" and last is None
        level = {"failed": QUIET}.get(trial.state, DETAILED if begins else NORMAL)
        if self.options.verbosity < level:
            return
        where = f", round {last.round} of {self.search.rung_rounds[-1]}" if last else ""
        shown = f": {self._scores(trial)}" if last and trial.state != "diverged" else ""
        reason = f": {trial.reason}" if trial.reason else ""
        state = "begins" if begins else trial.state
        text = f"trial {trial.number} {state}{where}{shown}{reason} ({describe_values(trial.values)})"
        self.console.print(rich(text), soft_wrap=True)

    def _find_cause(self, trial: Trial) -> str:
        """Return the cause of the failure of a trial, one of `records.CAUSES`."""
        if self.search.scheduler == "pbt":
            errors = self.store.load_member_errors(self.search.name, trial.number)
            failure = errors[-1] if errors else None
        else:
            failure = find_failure(self.search.ladder(trial.values), self.store)
        return "infrastructure" if failure is None else failure.cause

    def _scores(self, trial: Trial) -> str:
        last = trial.rungs[-1]
        parts = []
        for name in self.search.objectives:
            sd = last.sd(name)
            spread = "" if sd is None else f" ± {sd:.4f}"
            parts.append(f"{name} {last.mean(name):.4f}{spread}")
        return ", ".join(parts)

    def _write_account(self) -> None:
        # Settings that change during training do not explain a member's result.
        importance = {} if self.search.scheduler == "pbt" else self.journal.importance()
        account = make_account(self.search, self.question, self.budget, self.journal.trials(), importance)
        self.store.write_search(self.search.name, account)

    def _show_choice(self, trials: Sequence[Trial], best: Trial) -> None:
        num_seeds = len(self.search.seeds)
        for trial in trials:
            if trial.values == self.search.untuned and trial.state == "complete":
                print(f"untuned: {self._scores(trial)}, n={num_seeds} ({describe_values(trial.values)})")
        print(
            f"best, trial {best.number}: {self._scores(best)}, n={num_seeds} ({describe_values(best.values)})"
        )
        path = self.store.write_best(self.search.name, best_toml(self.search, best))
        print(f"configuration: {path}")

    def _confirm(self, best: Trial, compare: Comparison) -> int:
        """Run the choice on fresh seeds as a study, together with the untuned cell if it differs."""
        base = self.search.base
        tuned = self.search.cell(best.values, protocol=f"{base.protocol}-tuned")
        study = Study(
            name=confirmation_name(self.search),
            cells=(base,) if best.values == self.search.untuned else (base, tuned),
            seeds=tuple(range(self.options.confirm_seeds)),
        )
        ledger = Ledger(compile_study(study, self.search.execution), self.store)
        if self.options.retry_failed:
            ledger.forget_failures()
        job = Job(
            question=f"Confirmation on fresh seeds: {self.question}",
            ledger=ledger,
            store=self.store,
            resources=self.resources,
            seeds_option="--confirm-seeds",
        )
        exit_code = run_job(job, self.options, self.session)
        for line in compare(self.store.location, study.name):
            print(line)
        return exit_code


def describe_values(values: Mapping[str, Any]) -> str:
    """Return the values of a trial in one line."""
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in values.items()
    )
