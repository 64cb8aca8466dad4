"""Write the events of one run during training, or of a whole study from its records."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.monitoring.tensorboard.content import (
    is_previewed,
    is_shown,
    planned_rounds,
    show_preview,
    show_record,
    show_round,
)
from lt_rebalance.monitoring.tensorboard.log import EventLog, list_event_files
from lt_rebalance.monitoring.tensorboard.naming import EventRun, name_runs
from lt_rebalance.monitoring.tensorboard.protos import SESSION_STATUS, session_end, session_start
from lt_rebalance.store import Store
from lt_rebalance.store.records import Record
from lt_rebalance.store.study_document import StudyDocument

ENDED = "ended"
"""file beside the events of a run that has ended; contains the state"""
Preview = tuple[NDArray[np.uint8], list[float | None]]
"""samples_KSCHW and the diversity of each class"""


class RunEvents:
    """The events of one run. Events of earlier attempts are kept and not written again."""

    def __init__(self, store: Store, kind: str, run: EventRun) -> None:
        """Resume after an earlier attempt; the end of a failed one is deleted."""
        self._store = store
        self._kind = kind
        self._run = run
        if read_end(store, run) == "failed":
            remove_events(store, run.directory)
        self._log = EventLog(store.files, run.directory)
        if run.group:
            self._log.add(0, [session_start(run.group, run.hparams, time.time())])

    def note_rounds(
        self,
        curves: Sequence[Mapping[str, Any]],
        num_rounds: int,
        preview: Callable[[], Preview] | None = None,
    ) -> None:
        """Write the rounds that are not written yet.

        Args:
            curves: one row for each round so far, from the first on.
            num_rounds: rounds in all.
            preview: draws samples of the current generator, after the last of these rounds.
        """
        for index, row in enumerate(curves, start=1):
            if is_shown(index, num_rounds):
                self._log.add(row["step"], show_round(self._kind, row, self._run.class_names))
        step = curves[-1]["step"] if curves else 0
        is_due = is_previewed(len(curves), num_rounds) and not self._log.has(step, "samples")
        if preview is not None and is_due:
            self._log.add(step, show_preview(*preview(), self._run.class_names))
        self._log.flush()

    def finish(self, record: Record) -> None:
        """Write what the record adds, and that the run has ended; errors as `content.show_record`."""
        self.note_rounds(record.curves, planned_rounds(record.stage))
        self._log.add(record.num_steps, show_record(record, self._store, self._run.class_names))
        self._end(record.num_steps, record.state)

    def fail(self) -> None:
        """Write that the run has failed."""
        self._end(0, "failed")

    def _end(self, step: int, state: str) -> None:
        if self._run.group:
            self._log.add(step, [session_end(state, time.time())])
        self._log.flush()
        self._store.files.replace(f"{self._run.directory}/{ENDED}", state.encode())


def read_end(store: Store, run: EventRun) -> str | None:
    """Return the state in which a run has ended by its events, or None."""
    try:
        return store.files.read(f"{run.directory}/{ENDED}").decode(errors="replace")
    except FileNotFoundError:
        return None


def remove_events(store: Store, directory: str) -> None:
    """Delete the events of one run."""
    for name in [ENDED, *list_event_files(store.files, directory)]:
        store.files.remove(f"{directory}/{name}")


def fill_in(store: Store, study: StudyDocument) -> int:
    """Write missing events of the finished stages of a study; return how many stages lacked some."""
    runs, count = name_runs(study), 0
    keys = sorted(set(runs).intersection(store.list_keys()))
    ends = store.files.read_each(lambda key: read_end(store, runs[key]), keys)
    for key in [key for key, end in zip(keys, ends, strict=True) if end not in SESSION_STATUS]:
        if (record := store.read_record(key, study)) is not None:
            RunEvents(store, record.kind, runs[key]).finish(record)
            count += 1
    return count
