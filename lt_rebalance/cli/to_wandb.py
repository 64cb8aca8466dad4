"""Export to offline runs of Weights & Biases on this disk, which users upload by `wandb sync`."""

import contextlib
import re
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from lt_rebalance.cli.tracked import TrackedRun, environment
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.ground.text import one_line
from lt_rebalance.store.study_document import StudyDocument

_RUN = "offline-run-"
_NO_PROJECT = re.compile(r"[/\\#?%:]")
"""characters that are not allowed in names of projects"""
_LONGEST_PROJECT, _LONGEST_TAG = 128, 64
"""characters"""
_PATIENCE_S, _LOOK_AGAIN_S = 60.0, 0.01
_HEADER, _BLOCK = 7, 32768
"""bytes before a file and before each part of a record, and those of a block, at whose end none is cut"""
_LAST_PARTS = (1, 4)
"""kinds of parts that end a record: the whole of it, or the last"""


class WandbTracker:
    """A folder with runs of W&B, each in STUDY/wandb/offline-run-TIME-KEY.

    A run is written to a temporary directory in the folder and moved when complete. Runs in the folder are
    never read.
    """

    def __init__(self, folder: str, stack: contextlib.ExitStack) -> None:
        """Begin to write in an existing folder.

        Args:
            stack: at the end, ends W&B's own process, removes its leftovers and restores the environment.

        Raises:
            ValueError: the folder cannot be written.
        """
        self.place = folder
        self._folder = Path(folder).absolute()
        try:
            scratch = tempfile.TemporaryDirectory(
                prefix=".exporting-", dir=self._folder, ignore_cleanup_errors=True
            )
        except OSError as error:
            raise ValueError(f"--out {folder} cannot be written ({error.strerror})") from None
        self._scratch = stack.enter_context(scratch)
        # The user's own settings for runs, including login and server, do not apply to this export.
        stack.enter_context(environment(_keep_within(self._scratch), without="WANDB_"))
        import wandb

        stack.callback(wandb.teardown, exit_code=0)
        self._settings = wandb.Settings(
            mode="offline",
            root_dir=self._scratch,
            console="off",
            silent=True,
            disable_git=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )

    def find(self, study: StudyDocument) -> Collection[str]:
        """Return the keys of the exported runs of a study."""
        present = self._runs_of(study).glob(f"{_RUN}*")
        return {path.name.rpartition("-")[2] for path in present}

    def _runs_of(self, study: StudyDocument) -> Path:
        return self._folder / study.name / "wandb"

    def add(self, study: StudyDocument, run: TrackedRun) -> None:
        """Export a run.

        Raises:
            StorageError: it could not be written.
        """
        import wandb

        try:
            self._add(study, run)
        except (OSError, RuntimeError, wandb.Error) as error:
            raise StorageError(f"{self.place}: a run could not be written: {one_line(error)}") from None

    def _add(self, study: StudyDocument, run: TrackedRun) -> None:
        import wandb

        made = wandb.init(
            project=_NO_PROJECT.sub("-", study.name)[:_LONGEST_PROJECT],
            id=run.key,
            name=run.name,
            group=run.cell,
            notes=study.question,
            tags=[each[:_LONGEST_TAG] for each in _list_tags(run)],
            config={**run.tags, **run.settings},
            settings=self._settings,
        )
        for step, values in run.curves:
            made.log(dict(values), step=step)
        made.summary.update(dict(run.metrics))
        made.finish(exit_code=0 if run.is_complete else 1)
        (whole,) = Path(self._scratch, "wandb").glob(f"{_RUN}*-{run.key}")
        wait_for(whole / f"run-{run.key}.wandb", len(run.curves))
        runs = self._runs_of(study)
        runs.mkdir(parents=True, exist_ok=True)
        whole.rename(runs / whole.name)


def wait_for(path: Path, num_rounds: int) -> None:
    """Wait until a run's file is complete; a process of W&B writes it, and reports no errors.

    Raises:
        OSError: it is not complete after a minute.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        kinds = Counter(of for of, _ in read_run(path))
        if kinds["history"] == num_rounds and kinds["exit"]:
            return
        if time.monotonic() > deadline:
            raise OSError(
                f"{num_rounds} rounds were handed to W&B, and {kinds['history']} are in its file, which is "
                "incomplete"
            )
        time.sleep(_LOOK_AGAIN_S)


def read_run(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield kind and message of each record of a run's file, a log in LevelDB's format.

    A truncated file ends with the last complete record.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    content, offset, parts = path.read_bytes(), _HEADER, []
    while offset + _HEADER <= len(content):
        if (left := _BLOCK - offset % _BLOCK) < _HEADER:
            offset += left
            continue
        size, kind = int.from_bytes(content[offset + 4 : offset + 6], "little"), content[offset + 6]
        begin, offset = offset + _HEADER, offset + _HEADER + size
        parts.append(content[begin:offset])
        if kind in _LAST_PARTS and offset <= len(content):
            record = Record.FromString(b"".join(parts))
            of = record.WhichOneof("record_type")
            yield of, getattr(record, of)
            parts = []


def _keep_within(folder: str) -> dict[str, str]:
    """Return the environment by which W&B writes only to the folder, and sends nothing."""
    places = {f"WANDB_{each}_DIR": folder for each in ("ARTIFACT", "CACHE", "CONFIG", "DATA")}
    return places | {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}


def _list_tags(run: TrackedRun) -> list[str]:
    tags = {name.rpartition(".")[2]: value for name, value in run.tags.items()}
    return [tags["study"], f"results version {tags['results_version']}", tags["state"], tags["key"]]
