"""Export to MLflow: an experiment per study, and a run per finished run."""

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from lt_rebalance.cli.tracked import KEY_TAG, PREFIX, TrackedRun, environment
from lt_rebalance.files.archive import require_outside
from lt_rebalance.ground.errors import StorageError
from lt_rebalance.ground.text import one_line
from lt_rebalance.store.study_document import StudyDocument

URI_VARIABLE = "MLFLOW_TRACKING_URI"
_SQLITE = "sqlite:///"
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # send nothing to other servers
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3"}
"""unless the environment sets it: with MLflow's default 7, an unreachable server takes four minutes"""
_MOST_METRICS, _MOST_OTHERS = 1000, 100
"""limit of one request"""
_LONGEST_REASON = 300

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
MlflowEntity = Any
"""return values of MLflow, which is imported only when used"""


def check_uri(uri: str) -> str:
    """Return the address of a place that runs can be exported to.

    Raises:
        ValueError: it is not one.
    """
    if uri.startswith(_SQLITE) and uri != _SQLITE:
        folder = Path(uri.removeprefix(_SQLITE)).parent
        if not folder.is_dir():
            raise ValueError(f"{uri}: there is no folder {str(folder)!r}; make it first")
        require_outside("--out", uri.removeprefix(_SQLITE))
        return uri
    try:
        parts = urlsplit(uri)
        is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port, or half an IPv6 address
        is_server = False
    if not is_server:
        raise ValueError(
            f"--to mlflow needs a server, http://HOST:PORT or https://HOST, or a database, {_SQLITE}FILE; "
            f"got {uri!r}"
        )
    if "@" in parts.netloc:
        raise ValueError(
            "the address of an MLflow server is taken without a user and a password; put them into the "
            "variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return uri


class MlflowTracker:
    """An MLflow server, or its database."""

    def __init__(self, uri: str, stack: contextlib.ExitStack) -> None:
        """Connect to it, with one request.

        Args:
            stack: restores the environment at the end.

        Raises:
            ValueError: the address is invalid, or MLflow cannot be used there.
        """
        self.place = check_uri(uri)
        stack.enter_context(environment({**_RETRIES, **os.environ, **_ENVIRONMENT}))
        from mlflow import MlflowClient

        self._experiments: dict[str, str] = {}
        """by study, the id of its experiment"""
        self._begun: dict[tuple[str, str], MlflowEntity] = {}
        """by study and key, the runs of interrupted exports"""
        try:
            self._client = MlflowClient(tracking_uri=uri)
            self._client.search_experiments(max_results=1)
        except Exception as error:  # of MLflow, of its libraries, or because another server answers
            raise ValueError(f"{uri}: MLflow cannot be used there: {_say(error)}") from None

    def find(self, study: StudyDocument) -> Collection[str]:
        """Return the keys of the completely exported runs of a study.

        Raises:
            ValueError: its experiment was deleted.
        """
        experiment = self._ask(lambda: self._client.get_experiment_by_name(study.name))
        if experiment is None:
            return ()
        if experiment.lifecycle_stage != "active":
            raise ValueError(
                f"{self.place}: the experiment {study.name!r} was deleted; restore it with "
                "`mlflow experiments restore`, or empty the trash with `mlflow gc`"
            )
        self._experiments[study.name] = experiment.experiment_id
        whole = set()
        for run in self._list_runs(experiment.experiment_id):
            key = run.data.tags[KEY_TAG]
            if run.info.status == "RUNNING":
                self._begun[study.name, key] = run
            else:
                whole.add(key)
        return whole

    def _list_runs(self, experiment_id: str) -> Iterator[MlflowEntity]:
        token = None
        while True:
            page = self._ask(
                lambda: self._client.search_runs(
                    [experiment_id],
                    filter_string=f"tags.`{KEY_TAG}` LIKE '%'",
                    page_token=token,  # called immediately
                )
            )
            yield from page
            if not (token := page.token):
                return

    def add(self, study: StudyDocument, run: TrackedRun) -> None:
        """Export a run; complete one that an earlier export began.

        Raises:
            StorageError: the server refuses, or no longer answers.
        """
        self._ask(lambda: self._add(study, run))

    def _add(self, study: StudyDocument, run: TrackedRun) -> None:
        from mlflow.entities import Metric, Param

        made = self._begun.pop((study.name, run.key), None) or self._begin(study, run)
        run_id, begun_ms = made.info.run_id, made.info.start_time
        # All with the same timestamp: repeated values are equal, and stored once.
        metrics = [
            Metric(name, value, begun_ms, step)
            for step, values in [*run.curves, (int(run.metrics["num_steps"]), run.metrics)]
            for name, value in values.items()
        ]
        params = [Param(name, str(value)) for name, value in run.settings.items()]
        for part in _cut(params, _MOST_OTHERS):
            self._client.log_batch(run_id, params=part)
        for part in _cut(metrics, _MOST_METRICS):
            self._client.log_batch(run_id, metrics=part)
        status = "FINISHED" if run.is_complete else "FAILED"
        self._client.set_terminated(run_id, status, end_time=begun_ms + round(1000 * run.wall_s))

    def _begin(self, study: StudyDocument, run: TrackedRun) -> MlflowEntity:
        if study.name not in self._experiments:
            tags = {f"{PREFIX}study": study.name, "mlflow.note.content": study.question}
            self._experiments[study.name] = self._client.create_experiment(study.name, tags=tags)
        ended_s = time.time() if run.finished_s is None else run.finished_s
        return self._client.create_run(
            self._experiments[study.name],
            start_time=round(1000 * (ended_s - run.wall_s)),
            tags=dict(run.tags),
            run_name=run.name,
        )

    def _ask(self, ask: Callable[[], ResultT]) -> ResultT:
        from mlflow.exceptions import MlflowException

        try:
            return ask()
        except MlflowException as error:
            raise StorageError(f"{self.place}: MLflow refuses, or does not answer: {_say(error)}") from None


def _cut(items: Sequence[ItemT], size: int) -> Iterator[Sequence[ItemT]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _say(error: Exception) -> str:
    said = one_line(str(error).strip().partition("\n")[0]) or type(error).__name__
    return said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}..."
