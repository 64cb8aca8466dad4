"""Report on a trial: its events, its note and its log. No result depends on them."""

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

from lt_rebalance.ground.errors import attempt
from lt_rebalance.monitoring.concerns import find_concerns
from lt_rebalance.monitoring.stage_log import StageLog, capture, say_begin, say_round
from lt_rebalance.monitoring.tensorboard.writer import RunEvents
from lt_rebalance.stages.base import StageRun
from lt_rebalance.stages.generator import GeneratorRun
from lt_rebalance.stages.watch import Watch
from lt_rebalance.store import Store
from lt_rebalance.store.presence import Note, remove_note, write_note
from lt_rebalance.studies.stage import AnyStage
from lt_rebalance.training.lane import Lane

_log = logging.getLogger(__name__)


class TrialObserver:
    """Follows the stages of one trial from its start to its end."""

    def __init__(self, store: Store, stages: Sequence[AnyStage], watch: Watch) -> None:
        """Leave a note that the trial has started."""
        self._store = store
        self._watch = watch
        self._events: dict[str, RunEvents] = {}
        self._seen: dict[str, tuple[int, bool]] = {}
        keys = tuple(stage.key for stage in stages)
        self._log_file = StageLog(store.files, keys)
        self._note = Note(
            name=f"trial-{keys[0]}.json",
            title=str(stages[0]) + (f" and {len(keys) - 1} more seeds" if len(keys) > 1 else ""),
            keys=keys,
            driver=watch.driver,
        )
        attempt(lambda: write_note(store.files, self._note))

    @contextlib.contextmanager
    def listen(self) -> Iterator[None]:
        """Write all that is logged or raised within a block to the log of the stages."""
        with capture(self._log_file):
            try:
                yield
            except Exception:
                _log.exception("this attempt ends")
                raise
            finally:
                attempt(self._log_file.flush)

    def follow(self, run: StageRun[Any, Any]) -> None:
        """Report the lanes that have advanced, from their state and the store."""
        for index, (stage, lane) in enumerate(zip(run.stages, run.lanes, strict=True)):
            state = (lane.round, lane.is_finished)
            if self._seen.get(stage.key) != state:
                is_first = stage.key not in self._seen
                self._seen[stage.key] = state
                _log.info(
                    "%s: %s",
                    stage,
                    say_begin(lane.round, len(lane.round_ends)) if is_first else _describe(lane),
                )
                attempt(functools.partial(self._show, run, index))
        slowest = min(run.lanes, key=lambda lane: lane.round)
        self._note = dataclasses.replace(
            self._note, round=slowest.round, num_rounds=len(slowest.round_ends), beat_s=time.time()
        )
        attempt(lambda: write_note(self._store.files, self._note))

    def _show(self, run: StageRun[Any, Any], index: int) -> None:
        stage, lane = run.stages[index], run.lanes[index]
        event_run = self._watch.runs.get(stage.key)
        if event_run is None:
            return
        if stage.key not in self._events:
            self._events[stage.key] = RunEvents(self._store, stage.kind, event_run)
        preview = (lambda: run.preview(index)) if isinstance(run, GeneratorRun) else None
        self._events[stage.key].note_rounds(lane.curves, len(lane.round_ends), preview)
        if lane.is_finished and (record := self._store.load_record(stage.key)) is not None:
            for concern in find_concerns(record, event_run.class_names):
                _log.warning("%s: %s", stage, concern.text)
            self._events[stage.key].finish(record)

    def close(self) -> None:
        """Remove the note; events and logs stay."""
        attempt(lambda: remove_note(self._store.files, self._note))


def _describe(lane: Lane) -> str:
    if lane.is_diverged:
        return f"diverged at step {lane.step}"
    numbers = {name: value for name, value in lane.curves[-1].items() if isinstance(value, float)}
    shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
    return f"{say_round(lane.round, len(lane.round_ends), lane.train_s)}: {shown}"
