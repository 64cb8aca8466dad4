"""Show a running study: a live table, or lines if there is no terminal."""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from rich.console import Console, Group
from rich.live import Live

from lt_rebalance.data.catalog import get_dataset_spec
from lt_rebalance.ground.imbalance import is_balanced
from lt_rebalance.ground.metrics import METRICS, leading_metric
from lt_rebalance.ground.text import format_duration, rich
from lt_rebalance.monitoring.cell_table import DEAD_CLASS, CellRow, CellTable, name_group, tabled_metrics
from lt_rebalance.monitoring.concerns import find_concerns, find_disk_concern
from lt_rebalance.monitoring.stage_log import say_begin, say_round
from lt_rebalance.monitoring.verbosity import DETAILED, NORMAL, QUIET
from lt_rebalance.stages.arithmetic import Remaining, Throughput
from lt_rebalance.store.records import Record
from lt_rebalance.studies.ledger import Ledger
from lt_rebalance.studies.stage import AnyStage
from lt_rebalance.studies.tables import CellTally, describe_means, explain_cells, format_mean


def render_cells(cells: pd.DataFrame, title: str) -> CellTable:
    """Return the cells as a table for the terminal, with the paper's accuracy for the same cells.

    Runs that a mean leaves out are listed below.
    """
    # Of an unbalanced test set, which has balanced accuracies, the paper has no numbers.
    is_test_balanced = "balanced_accuracy_mean" not in cells
    metrics = tabled_metrics(is_test_balanced=is_test_balanced)
    has_paper = is_test_balanced and cells["paper_accuracy"].notna().any()
    has_several_sets = cells["dataset"].nunique() > 1
    rows = []
    for row in cells.to_dict("records"):
        means = {
            METRICS[each].label: format_mean(row[f"{each}_mean"], row[f"{each}_sd"], row["n"])
            for each in metrics
        }
        paper = {} if pd.isna(row["paper_accuracy"]) else {"paper": f"{row['paper_accuracy']:.3f}"}
        n = f"{row['n']}/{row['planned']}" + (f" ({row['diverged']} diverged)" if row["diverged"] else "")
        collapsed = {DEAD_CLASS: f"{row['collapsed']}/{row['n']}"} if row["n"] else {}
        group = name_group(row["protocol"], row["data"], row["dataset"] if has_several_sets else None)
        numbers = {"n": n} | means | paper | collapsed
        rows.append(CellRow(group=group, method=row["method"], numbers=numbers))
    leading, *further = (METRICS[name].label for name in metrics)
    beside = ["paper"] if has_paper else []
    return CellTable(
        rows=rows,
        columns=["n", leading, *beside, *further, DEAD_CLASS],
        by_importance=["n", leading, DEAD_CLASS, *beside, *further],
        title=title,
        notes=explain_cells(cells),
    )


_AGE_S = 1.0
"""seconds after which ages are painted again without an event"""
_BAR = 20
"""characters"""
_TOLD = {
    "generator": ("collapsed classes", "num_collapsed_classes", 0),
    "classifier": ("accuracy", "accuracy", 3),
    "representation": ("training loss", "train_loss", 3),
}
"""shown numbers of a finished stage, by kind: name, metric, and digits after the point"""
_SHOWN_OF_ROUNDS = ("train_loss", "test_accuracy", "test_macro_f1", "discriminator_loss", "generator_loss")


@dataclass
class RunningStage:
    """A stage in training, as reported."""

    stage: AnyStage
    started: float = field(default_factory=time.monotonic)
    round: int = 0
    num_rounds: int = 0

    @property
    def done_share(self) -> float:
        """The finished share of its training, in [0, 1]."""
        return self.round / self.num_rounds if self.num_rounds else 0.0

    def __str__(self) -> str:
        share = f", {self.round}/{self.num_rounds}" if self.num_rounds else ""
        return f"{self.stage} ({format_duration(time.monotonic() - self.started)}{share})"


class Progress:
    """Follows the stages of one execution of a plan and shows its progress."""

    def __init__(
        self,
        ledger: Ledger,
        throughput: Throughput,
        num_slots: int,
        console: Console,
        disk: str | None = None,
        painting_share: float = 0.05,
        verbosity: int = NORMAL,
    ) -> None:
        """Show the progress of the pending stages on a console.

        Args:
            disk: directory on the disk of the store.
            painting_share: largest share of time for painting the live table; events in between are shown by
                the next `tick`.
            verbosity: one of `verbosity.LEVELS`.
        """
        self._disk = disk
        self._concerns: Counter[str] = Counter()
        self._warned: set[tuple[str, AnyStage]] = set()
        self._ledger = ledger
        self._throughput = throughput
        self._num_slots = num_slots
        self._console = console
        self._remaining = Remaining(ledger.pending())
        self.num_stages = len(self._remaining)
        """stages that were to run at the beginning"""
        self._running: dict[str, RunningStage] = {}
        self._verbosity = verbosity
        has_cursor = console.is_interactive and verbosity > QUIET
        self._live = Live(console=console, auto_refresh=False) if has_cursor else None
        self._tally = CellTally(ledger) if has_cursor else None
        self._painting_share = painting_share
        self._is_painted = True
        self._painted_s = -math.inf
        self._paint_again_s = 0.0

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            if not self._is_painted:
                self._paint()
            self._live.stop()
        if sum(self._concerns.values()) > len(self._warned):
            counts = ", ".join(f"{kind}: {count}" for kind, count in sorted(self._concerns.items()))
            self._console.print(f"warnings in all: {counts}")

    @property
    def num_done(self) -> int:
        """How many of these stages have ended."""
        return self.num_stages - len(self._remaining)

    @property
    def share(self) -> float:
        """The finished share of these stages, with those in training in part, in [0, 1]."""
        under_way = sum(running.done_share for running in self._running.values())
        return (self.num_done + under_way) / self.num_stages if self.num_stages else 1.0

    def seconds_left(self) -> float | None:
        """Return the time of the remaining stages; None if it is not known yet."""
        done_shares = {key: running.done_share for key, running in self._running.items()}
        return self._remaining.seconds(self._throughput, self._num_slots, done_shares)

    def start(self, stage: AnyStage) -> None:
        """Note that a stage has begun."""
        self._running[stage.key] = RunningStage(stage)
        if self._verbosity >= DETAILED:
            self._print(f"{stage}: {say_begin(0, 0)}")
        self._note_change()

    def note_round(self, stages: Sequence[AnyStage], result: Mapping[str, Any]) -> None:
        """Note that a trial has finished a round of its stages; `result` is that of the trainable's step."""
        for stage in stages:
            self.advance(stage, result["round"], result["num_rounds"], result["train_s"] / len(stages))
        self.show_round(stages, result)

    def show_round(self, stages: Sequence[AnyStage], result: Mapping[str, Any]) -> None:
        """Print a round of a trial, at the highest verbosity; the last one is in the result at its end."""
        if self._verbosity >= DETAILED and "round" in result:
            others = f" and {len(stages) - 1} more seeds" if len(stages) > 1 else ""
            numbers = ", ".join(f"{name} {result[name]:.4g}" for name in _SHOWN_OF_ROUNDS if name in result)
            done = say_round(result["round"], result["num_rounds"], result["train_s"])
            self._print(f"{stages[0]}{others}: {done}: {numbers}")

    def advance(self, stage: AnyStage, round_index: int, num_rounds: int, train_s: float) -> None:
        """Note that a running stage has finished a round, after `train_s` seconds of training in all."""
        running = self._running[stage.key]
        running.round, running.num_rounds = round_index, num_rounds
        self._throughput.observe(stage, running.done_share, train_s)
        self._note_change()

    def finish(self, stage: AnyStage) -> None:
        """Note that a stage has ended; the ledger has its state."""
        self._running.pop(stage.key, None)
        if (record := self._ledger.records.get(stage.key)) is not None:
            self._throughput.observe_record(stage, record)
            if self._verbosity > QUIET:
                self._warn(stage, record)
        state = self._ledger.state(stage.key)
        if state != "missing":
            self._remaining.finish(stage.key, releases=state == "complete")
        if self._tally is None:
            if self._verbosity > QUIET or state == "failed":
                self._print(self._describe_end(stage))
        else:
            self._tally.update(self._ledger.with_all_that_build_on(stage.key))
            self._note_change()

    def _print(self, line: str) -> None:
        self._console.print(rich(line), soft_wrap=True)

    def _warn(self, stage: AnyStage, record: Record) -> None:
        """Print warnings, once for all seeds of a configuration, and once for the disk."""
        if self._disk is not None and (concern := find_disk_concern(self._disk)) is not None:
            self._disk = None
            self._print(f"warning: {concern.text}")
        if record.state == "diverged":  # the line of its end says so
            return
        for concern in find_concerns(record, get_dataset_spec(stage.data.dataset).class_names):
            self._concerns[concern.kind] += 1
            configuration = (concern.kind, stage.with_seed(0))
            if configuration not in self._warned:
                self._warned.add(configuration)
                self._print(f"warning: {stage}: {concern.text}")

    def _describe_end(self, stage: AnyStage) -> str:
        return f"{self._share_done()} {stage}: {self._outcome(stage)}; {self._time_left()}"

    def _share_done(self) -> str:
        return f"{self.num_done}/{self.num_stages}"

    def _outcome(self, stage: AnyStage) -> str:
        record = self._ledger.records.get(stage.key)
        if record is None:
            failure = self._ledger.failures.get(stage.key)
            return f"failed, {failure.error}" if failure is not None else "no result"
        if record.state == "diverged":
            return f"diverged after {record.num_steps} steps"
        name, metric, digits = _TOLD[record.kind]
        test_counts_K = get_dataset_spec(stage.data.dataset).test_counts_K
        if metric == "accuracy" and not is_balanced(test_counts_K):
            metric = leading_metric(is_test_balanced=False)
            name = METRICS[metric].label
        result = f"{name} {record.metrics[metric]:.{digits}f}"
        return f"{result} in {format_duration(record.timing.wall_s)}"

    def _time_left(self) -> str:
        if not len(self._remaining):
            return "nothing left"
        seconds = self.seconds_left()
        return "time left not known yet" if seconds is None else f"about {format_duration(seconds)} left"

    def _note_change(self) -> None:
        self._is_painted = False
        self.tick()

    def tick(self) -> None:
        """Show changes and new ages, unless painting has used its share of the time."""
        if self._live is None or time.monotonic() < self._paint_again_s:
            return
        is_old = self._running and time.monotonic() >= self._painted_s + _AGE_S
        if is_old or not self._is_painted:
            start_s = time.monotonic()
            self._paint()
            end_s = self._painted_s = time.monotonic()
            self._paint_again_s = end_s + (end_s - start_s) / self._painting_share

    def _paint(self) -> None:
        assert self._live is not None and self._tally is not None
        cells = self._tally.frame()
        title = describe_means(
            self._ledger.plan.study.name, cells, has_shared_subsets=self._tally.has_shared_subsets
        )
        bar = "█" * int(self.share * _BAR) + "░" * (_BAR - int(self.share * _BAR))
        done = f"{int(100 * self.share)} %, {self._share_done()} stages done, {self._time_left()}"
        status = (f"{bar} {done}", self._ledger.summary())
        running = [rich(f"running: {stage}") for stage in self._running.values()]
        # The table comes last: it is what a low terminal may cut off.
        self._live.update(Group(*map(rich, status), *running, render_cells(cells, title)), refresh=True)
        self._is_painted = True
