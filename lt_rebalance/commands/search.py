"""The command line that every search shares: trials, the choice, its confirmation on fresh seeds."""

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from lt_rebalance.cluster.halving import run_search
from lt_rebalance.cluster.population import run_population
from lt_rebalance.cluster.resources import Resources
from lt_rebalance.cluster.session import RaySession
from lt_rebalance.commands.forecast import Job
from lt_rebalance.commands.search_forecast import SearchForecast
from lt_rebalance.commands.sweep import (
    check_options,
    first_line,
    open_results,
    prepare_machine,
    read_data,
    run_job,
)
from lt_rebalance.data.files import locate_data_dir
from lt_rebalance.files.bucket import SCHEME
from lt_rebalance.ground.exits import EXIT_INCOMPLETE, run_command, this_command
from lt_rebalance.ground.plain import require_positive
from lt_rebalance.ground.text import make_console, rich
from lt_rebalance.search.account import SearchBudget, Trial, choose, summary
from lt_rebalance.search.files import best_toml, confirmation_name, describe_search, make_account
from lt_rebalance.search.journal import SearchJournal, open_journal
from lt_rebalance.search.search import FIRST_SEARCH_SEED, Search
from lt_rebalance.store import Store
from lt_rebalance.store.lease import Lease
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.overrides import Overrides, change_cell, read_overrides
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.protocols import PROTOCOLS
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution

SearchBuilder = Callable[[argparse.Namespace, Execution], Search]
Comparison = Callable[[str, str], Sequence[str]]
"""from the location of a store and the name of a study to lines that say how its two cells differ"""


def main(
    parser: argparse.ArgumentParser,
    build_search: SearchBuilder,
    compare: Comparison,
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a search's command line and return its exit code.

    0: there is a choice, and it is confirmed. 1: no trial was completed, or runs of the confirmation failed
    or are missing. Others: as `run_command`.
    """

    def prepare(options: argparse.Namespace, stack: contextlib.ExitStack) -> Callable[[], int]:
        check_options(options)
        overrides = read_overrides(options.config, options.set)
        execution, resources = prepare_machine(options, stack)
        search = _change_base(build_search(options, execution), overrides)
        search.ladder(search.untuned)  # a ValueError where no trial could be made
        budget = SearchBudget(trials=options.trials, steps=options.max_steps, minutes=options.max_minutes)
        require_positive(confirm_seeds=options.confirm_seeds)
        if search.scheduler == "pbt":
            _require_population(options)
        if options.reduction is not None and search.scheduler != "asha":
            raise ValueError(f"--reduction is of scheduler asha, got scheduler {search.scheduler!r}")
        if options.confirm_seeds > FIRST_SEARCH_SEED:
            raise ValueError(
                f"--confirm-seeds must be at most {FIRST_SEARCH_SEED}, got {options.confirm_seeds}"
            )
        read_data([search.base.data.dataset], options)
        store = open_results(options)
        if store is not None:
            _require_same_search(search, store)
        if options.plan:
            forecast = SearchForecast(
                search=search,
                budget=budget,
                resources=resources,
                confirm_seeds=options.confirm_seeds,
                store=store,
                retry_failed=options.retry_failed,
            )
            return lambda: forecast.show(options.rate, as_json=options.json)
        assert store is not None
        lease = stack.enter_context(Lease(store.files, store.location, search.name))
        journal = stack.enter_context(open_journal(search, store))
        command = SearchCommand(
            search=search,
            journal=journal,
            store=store,
            budget=budget,
            resources=resources,
            session=stack.enter_context(RaySession(options.address, lease)),
            options=options,
            question=first_line(parser),
            console=make_console(),
        )
        return lambda: command.run(compare)

    return run_command(parser, prepare, arguments)


@dataclass(frozen=True, kw_only=True)
class SearchCommand:
    """What a command has to do, once all its input is known to be right."""

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

    def run(self, compare: Comparison) -> int:
        """Search until the budget is spent, choose, confirm the choice and return the exit code."""
        self._enqueue_known()
        self._write_account()
        if self.journal.in_flight() or self.journal.has_more(self.budget):
            self._search()
        trials = self.journal.trials()
        best = choose(trials, self.objective)
        print(summary(trials))
        if any(trial.state == "failed" for trial in trials):
            print(f"to try again what failed: {this_command()} --retry-failed")
        if best is None:
            print("no trial was completed, so there is nothing to choose")
            return EXIT_INCOMPLETE
        self._show_choice(trials, best)
        return self._confirm(best, compare)

    def _enqueue_known(self) -> None:
        """Put the untuned configuration first, then the values that the protocols give."""
        component, space = self.search.component, self.search.space
        self.journal.enqueue(self.search.untuned)
        for protocol in PROTOCOLS.values():
            self.journal.enqueue({name: getattr(protocol, f"{component}_{name}") for name in space})
        if self.options.retry_failed:
            self.journal.enqueue_failed()

    def _search(self) -> None:
        # Workers have a working directory and an environment of their own.
        data_dir = str(locate_data_dir(self.options.data_dir))
        self.session.start()
        common = (self.resources, self._show_trial, self.session.check)
        if self.search.scheduler == "pbt":
            # Members hand checkpoints on, and nodes of a cluster do so through a directory that they share.
            directory = self.store.search_directory(self.search.name)
            shared = None if self.options.address is None or directory is None else str(directory)
            run_population(self.journal, self.store, data_dir, self.budget, *common, shared)
        else:
            run_search(self.journal, self.store, data_dir, self.budget, *common)

    def _show_trial(self, trial: Trial) -> None:
        last = trial.rungs[-1] if trial.rungs else None
        where = f", round {last.round} of {self.search.rung_rounds[-1]}" if last else ""
        shown = f": {self._scores(trial)}" if last and trial.state != "diverged" else ""
        reason = f": {trial.reason}" if trial.reason else ""
        text = f"trial {trial.number} {trial.state}{where}{shown}{reason} ({describe_values(trial.values)})"
        self.console.print(rich(text), soft_wrap=True)
        if trial.state != "running":
            self._write_account()

    def _scores(self, trial: Trial) -> str:
        last = trial.rungs[-1]
        parts = []
        for name in self.search.objectives:
            sd = last.sd(name)
            spread = "" if sd is None else f" ± {sd:.4f}"
            parts.append(f"{name} {last.mean(name):.4f}{spread}")
        return ", ".join(parts)

    def _write_account(self) -> None:
        # Settings that change while a member trains do not explain what it reaches.
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
        """Run the choice on fresh seeds, as any study runs, beside the untuned one if it is another."""
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


def _require_same_search(search: Search, store: Store) -> None:
    """Raise a ValueError when the store holds another search of the same name."""
    if search.name not in store.list_searches():
        return
    kept, asked = store.load_search(search.name), describe_search(search)
    if different := sorted(name for name in asked if kept.get(name) != asked[name]):
        within = sorted(
            name for name in asked["search"] if kept.get("search", {}).get(name) != asked["search"][name]
        )
        raise ValueError(
            f"{store.location} holds another search {search.name!r}, which differs in "
            f"{', '.join(within or different)}; give this one another --name"
        )


def _change_base(search: Search, overrides: Overrides) -> Search:
    """Return a search whose untuned configuration has some fields replaced.

    Raises:
        ValueError: values that do not go together, or that options of the search set.
    """
    if not overrides.tables:
        return search
    if "generator" in overrides.tables and search.base.generator is None:
        raise ValueError(f"{overrides.label}: the method {search.base.method.name!r} has no generator")
    if "budget" in overrides.tables.get(search.component, {}):
        raise ValueError(f"{overrides.label}: how long a trial trains is what --steps says")
    return dataclasses.replace(search, base=change_cell(search.base, overrides))


def _require_population(options: argparse.Namespace) -> None:
    for name in ("max_steps", "max_minutes", "max_concurrent"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} does not go with --scheduler pbt: all members of a population, "
                "--trials of them, train to the end, as many at a time as there are CPUs or GPUs"
            )
    if options.address is not None and options.storage.startswith(SCHEME):
        raise ValueError(
            "the members of a population hand checkpoints on through a directory that all nodes share: name "
            f"one as --storage, got {options.storage!r}, or leave out --address to stay on this machine"
        )
