"""`lt-rebalance export`: frames as files, and runs in MLflow and W&B as they are read back from there."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.collect import read_results
from lt_rebalance.cli.main import main
from lt_rebalance.cli.parser import FRAMES
from lt_rebalance.cli.to_mlflow import check_uri
from lt_rebalance.cli.to_wandb import read_run, wait_for
from lt_rebalance.cli.tracked import KEY_TAG, TrackedRun, read_tracked
from lt_rebalance.ground.metrics import metric_names
from lt_rebalance.store import Store, open_store
from lt_rebalance.store.records import Timing
from lt_rebalance.studies.plan import compile_study, describe_plan
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Budget, Execution
from tests.made_up import make_up
from tests.mlflow_server import MlflowServer, serve
from tests.store.test_store import make_failure

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "store"
FINISHED_S, WALL_S = 1_700_000_000.0, 65.0
FIRST, SECOND = "first", "second: of #2"
NUM_ROUNDS = 120
"""with more numbers than one request to MLflow, and more bytes than one block of W&B, may have"""


@pytest.fixture
def store(tmp_path: Path, cpu_execution: Execution) -> Store:
    """Two studies: runs of the first are complete, diverged, failed, missing; the second has one of them."""
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    budget = Budget(steps=100 * NUM_ROUNDS, rounds=NUM_ROUNDS)
    sound = dataclasses.replace(get_protocol("sound"), classifier_budget=budget)
    none, other = (
        make_cell(sound, dataset="fashion_mnist_mini", c="1/2", method=method, generator=None)
        for method in ("none", "oversample")
    )
    original = make_cell(sound, dataset="fashion_mnist_mini", c=None, method="none", generator=None)
    first = compile_study(Study(name=FIRST, cells=(none, other), seeds=(0, 1)), cpu_execution)
    second = compile_study(Study(name=SECOND, cells=(none, original), seeds=(0,)), cpu_execution)
    for plan in (first, second):
        store.write_study(describe_plan(plan))
    complete, diverged, failed, _ = (run.stage for run in first.runs)
    timing = Timing(wall_s=WALL_S, train_s=60.0, num_errors=0, device_s=30.0, finished_s=FINISHED_S)
    store.commit(make_up(complete, hits=80, timing=timing, provenance={"commit": "c0ffee"}))
    store.commit(make_up(diverged, "diverged", timing=timing))
    store.commit(make_up(second.runs[1].stage))
    store.mark_failed(make_failure(failed.key))
    return store


def read_all(store: Store) -> dict[str, TrackedRun]:
    """Return the finished runs of the first study, by state."""
    runs = read_tracked(store, store.load_study(FIRST), ())
    return {run.tags["lt_rebalance.state"]: run for run in runs}


def list_tree(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# Frames


@pytest.mark.slow
def test_parquet_folder_holds_every_frame_with_its_types(store: Store, tmp_path: Path) -> None:
    for location, name in ((str(GOLDEN), "golden"), (store.location, "made_up")):
        out = tmp_path / name
        assert main(["export", location, "--to", "parquet", "--out", str(out)]) == 0
        results = read_results(location, allow=["gaps"])
        assert sorted(path.name for path in out.iterdir()) == sorted(f"{frame}.parquet" for frame in FRAMES)
        for frame in FRAMES:
            expected, read = getattr(results, frame), pd.read_parquet(out / f"{frame}.parquet")
            assert read.columns.tolist() == expected.columns.tolist()
            if len(expected):  # a frame without a row has no categories that could be kept
                pd.testing.assert_frame_equal(read, expected)


def test_csv_folder_holds_the_frame_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tables"
    assert main(["export", str(GOLDEN), "--to", "csv", "--frame", "rounds", "--out", str(out), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert [told["file"]] == [str(path) for path in out.iterdir()] == [str(out / "rounds.csv")]
    assert told["rows"] == len(pd.read_csv(out / "rounds.csv")) == 24


# What a tracker receives


def test_frames_come_with_notes_on_what_they_lack(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    expected = read_results(store.location, allow=["gaps"]).notes
    assert main(["export", store.location]) == 0
    captured = capsys.readouterr()
    assert expected and captured.err.splitlines() == [f"note: {each}" for each in expected]
    assert captured.out.startswith("setting,")


def test_tracked_runs_are_those_of_the_frames(store: Store) -> None:
    for location in (str(GOLDEN), store.location):
        results = read_results(location, allow=["gaps"])
        cells, rounds = results.cells.set_index("cell"), results.rounds.set_index("key")
        finished = results.runs[results.runs["state"].isin(["complete", "diverged"])].set_index("key")
        (read,) = results.stores
        studies = map(read.load_study, results.studies)
        tracked = {run.key: run for study in studies for run in read_tracked(read, study, ())}
        assert set(tracked) == set(finished.index)
        for key, row in finished.iterrows():
            run = tracked[str(key)]
            measured = [*metric_names(), *(name for name in finished if name.startswith("recall_"))]
            found = {name: run.metrics[name] for name in measured if name in run.metrics}
            assert found == pytest.approx(row[measured].dropna().to_dict(), abs=1e-12)
            assert run.metrics["device_s"] == row["device_s"] and run.settings["seed"] == row["seed"]
            config = cells.loc[row["cell"]].filter(like=".").dropna().to_dict()
            assert {name: value for name, value in run.settings.items() if "." in name} == config
            curve = rounds.loc[[key]]
            assert [step for step, _ in run.curves] == curve["step"].tolist()
            assert [values["train_loss"] for _, values in run.curves] == curve["train_loss"].tolist()


def test_tracked_runs_leave_out_what_is_present_and_what_has_no_result(store: Store) -> None:
    runs = read_all(store)
    assert set(runs) == {"complete", "diverged"}
    study = store.load_study(FIRST)
    (left,) = read_tracked(store, study, {runs["complete"].key})
    assert left == runs["diverged"] and not left.is_complete


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "folder"], "a folder goes with --to"),
        (["--to", "csv", "--out", "runs.parquet"], "two kinds of files"),
        (["--to", "parquet"], "--to parquet needs --out"),
        (["--to", "parquet", "--out", "STORE"], ", a store or a published study, which"),
        (["--to", "parquet", "--out", "STORE/frames"], ", a store or a published study, which"),
        (["--out", "STORE/frames.csv"], ", a store or a published study, which"),
        (["--out", "way/../STORE/frames.csv"], ", a store or a published study, which"),
        (["--out", "linked/frames.csv"], ", a store or a published study, which"),
        (["--out", "studies/sample/frames.csv"], ", a store or a published study, which"),
        (["--out", "studies/sample/report/tables/cells.csv"], ", a store or a published study, which"),
        (["--to", "mlflow", "--out", "sqlite:///STORE/runs.db"], ", a store or a published study, which"),
        (["--to", "parquet", "--out", "s3://one/runs"], "a file of this machine"),
        (["--to", "mlflow"], "the variable MLFLOW_TRACKING_URI"),
        (["--to", "mlflow", "--out", "mlruns"], "got 'mlruns'"),
        (["--to", "mlflow", "--out", "http://"], "http://HOST:PORT"),
        (["--to", "mlflow", "--out", "http://here:port"], "http://HOST:PORT"),
        (["--to", "mlflow", "--out", "sqlite:///"], "sqlite:///FILE"),
        (["--to", "mlflow", "--out", "sqlite:///nowhere/x.db"], "there is no folder 'nowhere'"),
        (["--to", "mlflow", "--out", "https://me:secret@host"], "MLFLOW_TRACKING_PASSWORD"),
        (["--to", "mlflow", "--out", "http://host", "--frame", "runs"], "--frame is for frames"),
        (["--to", "wandb-offline"], "--to wandb-offline needs --out, a folder"),
        (["--to", "wandb-offline", "--out", "https://api.wandb.ai"], "a folder of this machine"),
        (["--to", "wandb-offline", "--out", "STORE/runs"], ", a store or a published study, which"),
        (["--to", "wandb-offline", "--out", "file/runs"], "must be a folder that can be written"),
        (["--to", "wandb-offline", "--out", "runs", "--allow", "versions"], "--allow is for frames"),
        (["--to", "neptune"], "invalid choice: 'neptune'"),
    ],
)
def test_wrong_export_is_refused_and_writes_nothing(
    store: Store,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "file").touch()
    (tmp_path / "way").mkdir()
    (tmp_path / "linked").symlink_to(Path(store.location, "studies"))
    published = tmp_path / "studies" / "sample"
    (published / "report" / "tables").mkdir(parents=True)
    for name in ("store.zip", "SHA256SUMS", "report/tables/cells.csv"):
        (published / name).touch()
    before = list_tree(tmp_path)
    asked = [each.replace("STORE", Path(store.location).name) for each in arguments]
    assert main(["export", store.location, *asked]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert message in captured.err and "secret" not in captured.err
    assert list_tree(tmp_path) == before


@pytest.mark.parametrize(("to", "module"), [("mlflow", "mlflow"), ("wandb-offline", "wandb")])
def test_extra_that_is_not_installed_is_named_with_its_remedy(
    to: str,
    module: str,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as Python itself notes what cannot be imported
    place = {"mlflow": f"sqlite:///{tmp_path}/x.db", "wandb-offline": str(tmp_path / "x")}[to]
    assert main(["export", store.location, "--to", to, "--out", place]) == 2
    error = capsys.readouterr().err
    assert f"--to {to} needs the package {module}, which is not installed" in error
    assert f"in the checkout: pip install -e '.[{module}]'" in error
    assert not list(tmp_path.glob("x*"))


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:5000", "https://host", "http://[::1]:5000/base", "sqlite:///x.db"]
)
def test_addresses_of_mlflow_are_taken(uri: str) -> None:
    assert check_uri(uri) == uri


# Trackers, each in a process of its own as users have it


def export(store: Store, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "lt_rebalance", "export", store.location, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | variables)


def counts_of(answer: "subprocess.CompletedProcess[str]") -> dict[str, tuple[int, int, int]]:
    """Return the counts that an export printed of each study: exported, there before, without a result."""
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)["studies"]
    return {each["study"]: (each["exported"], each["there_before"], each["without_result"]) for each in told}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with serve(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.mark.slow
def test_mlflow_server_holds_each_finished_run_once(store: Store, server: MlflowServer) -> None:
    before = list_tree(Path(store.location))
    asked = ("--to", "mlflow", "--json")
    first = export(store, *asked, MLFLOW_TRACKING_URI=server.url)
    assert counts_of(first) == {FIRST: (2, 0, 2), SECOND: (2, 0, 0)} and first.stderr == ""
    assert counts_of(export(store, *asked, "--out", server.url)) == {FIRST: (0, 2, 2), SECOND: (0, 2, 0)}
    assert list_tree(Path(store.location)) == before
    experiment = server.get("experiments/get-by-name", experiment_name=FIRST)["experiment"]
    told = {tag["key"]: tag["value"] for tag in experiment["tags"]}
    assert told["mlflow.note.content"] == store.load_study(FIRST).question
    runs = {
        entry(run, "tags")["lt_rebalance.state"]: run
        for run in server.post("runs/search", experiment_ids=[experiment["experiment_id"]])["runs"]
    }
    expected = read_all(store)
    assert set(runs) == set(expected)
    for state, status in {"complete": "FINISHED", "diverged": "FAILED"}.items():
        run, tracked = runs[state], expected[state]
        assert entry(run, "params") == {name: str(value) for name, value in tracked.settings.items()}
        assert tracked.tags.items() <= entry(run, "tags").items()
        assert {run["info"][name] for name in ("status", "run_name")} == {status, tracked.name}
        begun_s, ended_s = run["info"]["start_time"] / 1000, run["info"]["end_time"] / 1000
        assert (begun_s, ended_s) == (FINISHED_S - WALL_S, FINISHED_S)
        last = dict(tracked.curves[-1][1]) | tracked.metrics
        assert entry(run, "metrics") == pytest.approx(last)
        for name in ("train_loss", "test_accuracy"):
            history = server.get(
                "metrics/get-history", run_id=run["info"]["run_id"], metric_key=name, max_results="1000"
            )["metrics"]
            curve = [(step, values[name]) for step, values in tracked.curves]
            assert sorted((int(point["step"]), point["value"]) for point in history) == curve
    assert runs["complete"]["info"]["run_id"] and len(expected["complete"].curves) == NUM_ROUNDS


def entry(run: Any, part: str) -> dict[str, Any]:
    """Return a part of a run as MLflow answers it: its params, tags or metrics."""
    return {each["key"]: each["value"] for each in run["data"][part]}


@pytest.mark.slow
def test_mlflow_run_that_an_export_left_half_done_is_completed(
    store: Store, server: MlflowServer, cpu_execution: Execution
) -> None:
    whole = read_all(store)["complete"]
    name = "half done"
    store.write_study(dataclasses.replace(store.load_study(FIRST), name=name))
    experiment_id = server.post("experiments/create", name=name)["experiment_id"]
    begun = server.post(
        "runs/create",
        experiment_id=experiment_id,
        start_time=1000,
        tags=[{"key": KEY_TAG, "value": whole.key}],
    )["run"]["info"]
    step, values = whole.curves[0]
    metric = {"key": "train_loss", "value": values["train_loss"], "timestamp": 1000, "step": step}
    server.post("runs/log-batch", run_id=begun["run_id"], metrics=[metric])
    server.post("runs/create", experiment_id=experiment_id)  # of somebody else
    asked = ("--to", "mlflow", "--out", server.url, "--study", name, "--json")
    assert counts_of(export(store, *asked)) == {name: (2, 0, 2)}
    runs = server.post("runs/search", experiment_ids=[experiment_id])["runs"]
    assert len(runs) == 3
    (found,) = (run for run in runs if entry(run, "tags").get(KEY_TAG) == whole.key)
    assert (found["info"]["run_id"], found["info"]["status"]) == (begun["run_id"], "FINISHED")
    history = server.get("metrics/get-history", run_id=begun["run_id"], metric_key="train_loss")["metrics"]
    assert len(history) == NUM_ROUNDS
    server.post("experiments/delete", experiment_id=experiment_id)
    refused = export(store, *asked)
    assert refused.returncode == 2 and f"the experiment {name!r} was deleted" in refused.stderr


@pytest.mark.slow
def test_place_where_mlflow_cannot_be_used_is_refused(store: Store, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    (tmp_path / "no.db").write_text("no database " * 1000)
    for uri in (f"http://127.0.0.1:{port}", f"sqlite:///{tmp_path}/no.db"):
        answer = export(store, "--to", "mlflow", "--out", uri, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
        assert answer.returncode == 2 and answer.stdout == ""
        assert answer.stderr.startswith(f"error: {uri}: MLflow cannot be used there: ")
        assert answer.stderr.count("\n") == 1


def list_runs(out: Path) -> list[Path]:
    return sorted(out.glob("*/wandb/offline-run-*"))


@pytest.mark.slow
def test_wandb_folder_holds_each_finished_run_once_and_nobody_is_asked(store: Store, tmp_path: Path) -> None:
    before, out, home = list_tree(Path(store.location)), tmp_path / "runs", tmp_path / "home"
    home.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as asked:
        asked.settimeout(0)
        url = f"http://127.0.0.1:{asked.getsockname()[1]}"
        # What a user has set for runs of his own: a server to ask, and other names.
        own = {"WANDB_MODE": "online", "WANDB_BASE_URL": url, "WANDB_API_KEY": "0" * 40, "HTTPS_PROXY": url}
        own |= {"WANDB_PROJECT": "other", "WANDB_DIR": str(home), "HTTP_PROXY": url, "HOME": str(home)}
        arguments = ("--to", "wandb-offline", "--out", str(out), "--json")
        first = export(store, *arguments, **own)
        assert counts_of(first) == {FIRST: (2, 0, 2), SECOND: (2, 0, 0)} and first.stderr == ""
        made = list_runs(out)
        (made[0] / "taken").mkdir()  # as a whole run is not made again
        assert counts_of(export(store, *arguments, **own)) == {FIRST: (0, 2, 2), SECOND: (0, 2, 0)}
        with pytest.raises(BlockingIOError):
            asked.accept()
    assert list_runs(out) == made and sorted(os.listdir(out)) == [FIRST, SECOND]
    assert list_tree(Path(store.location)) == before and not list_tree(home)
    for path in made:
        key = path.name.rpartition("-")[2]
        name = path.parents[1].name
        (tracked,) = (run for run in read_tracked(store, store.load_study(name), ()) if run.key == key)
        check_wandb_run(path / f"run-{key}.wandb", tracked, name)


def check_wandb_run(path: Path, tracked: TrackedRun, study: str) -> None:
    """Compare a run of W&B with what it was made from."""
    records = list(read_run(path))
    (run,), (ended,) = ([each for kind, each in records if kind == which] for which in ("run", "exit"))
    assert (run.run_id, run.display_name, run.run_group) == (tracked.key, tracked.name, tracked.cell)
    assert run.project == study.replace(":", "-").replace("#", "-")
    config = {each.key: json.loads(each.value_json) for each in run.config.update}
    assert tracked.settings.items() <= config.items()
    assert config["lt_rebalance.key"] == tracked.key and config["lt_rebalance.study"] == study
    assert set(run.tags) == {study, "results version 4", tracked.tags["lt_rebalance.state"], tracked.key}
    assert ended.exit_code == (0 if tracked.is_complete else 1)
    history = [items_of(each) for kind, each in records if kind == "history"]
    assert [row["_step"] for row in history] == [step for step, _ in tracked.curves]
    for row, (_, values) in zip(history, tracked.curves, strict=True):
        assert {name: row[name] for name in values} == values
    summary: dict[str, Any] = {}
    for kind, each in records:
        if kind == "summary":
            summary |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in each.update}
    assert {name: summary[name] for name in tracked.metrics} == tracked.metrics


def items_of(history: Any) -> dict[str, Any]:
    return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in history.item}


@pytest.mark.slow
def test_wandb_run_that_is_gone_is_made_again_and_a_half_one_is_none(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "runs"
    arguments = ("--to", "wandb-offline", "--out", str(out), "--study", FIRST, "--json")
    assert counts_of(export(store, *arguments)) == {FIRST: (2, 0, 2)}
    gone, stays = list_runs(out)
    gone.rename(tmp_path / "gone")
    assert counts_of(export(store, *arguments)) == {FIRST: (1, 1, 2)}
    assert {path.name.rpartition("-")[2] for path in list_runs(out)} == {
        path.name.rpartition("-")[2] for path in (gone, stays)
    }
    assert stays in list_runs(out)
    file = next(stays.glob("*.wandb"))
    kinds = [kind for kind, _ in read_run(file)]
    file.write_bytes(file.read_bytes()[:-5])
    assert [kind for kind, _ in read_run(file)] == kinds[:-1]
    monkeypatch.setattr("lt_rebalance.cli.to_wandb._PATIENCE_S", 0)
    num_rounds = kinds.count("history")
    with pytest.raises(OSError, match=f"^{num_rounds} rounds were handed to W&B, and {num_rounds} are in"):
        wait_for(file, num_rounds)
