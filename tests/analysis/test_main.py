"""The command `python -m analysis`: what it prints, what it refuses, and its exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.__main__ import main
from lt_rebalance.store import Store
from lt_rebalance.studies.plan import Plan
from tests.analysis.synthetic import make_store, plan_study

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plan() -> Plan:
    """Two methods, two seeds."""
    return plan_study(methods=("none", "oversample"), generators=(), cs=("1/2",), num_seeds=2)


@pytest.fixture
def store(tmp_path: Path, plan: Plan) -> Store:
    """A complete store."""
    return make_store(tmp_path / "store", plan)


def result_path(store: Store, key: str) -> Path:
    return Path(store.location) / "stages" / key / "result.json"


@pytest.mark.slow
def test_command_writes_a_report_and_prints_where_and_the_account(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([store.location, "--out", str(tmp_path / "report")]) == 0
    output = capsys.readouterr()
    assert (tmp_path / "report" / "index.html").exists() and output.err == ""
    assert str(tmp_path / "report" / "index.html") in output.out
    assert output.out.splitlines()[-1] == "planned=4 complete=4 failed=0 diverged=0 missing=0"


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_default_place_is_report_in_the_working_directory(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert main([store.location, "--study", "synthetic"]) == 0
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["report"]


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_gaps_are_refused_and_reported_where_asked_for(
    tmp_path: Path, store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    result_path(store, plan.runs[0].key).unlink()
    out = tmp_path / "report"
    assert main([store.location, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith("error: ") and "1 of 4 planned runs has no result" in error and "--partial" in error
    )
    assert not out.exists()
    assert main([store.location, "--out", str(out), "--partial"]) == 0
    assert "planned=4 complete=3 failed=0 diverged=0 missing=1" in capsys.readouterr().out
    assert "PARTIAL" in (out / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_wrong_input_is_named_with_exit_code_2(
    tmp_path: Path, store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    (tmp_path / "file").write_text("")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("")
    wrong = {
        "there is no store": [str(tmp_path / "nowhere")],
        "not a store": [str(tmp_path / "foreign")],
        "no study 'other'; known: synthetic": [store.location, "--study", "other"],
        f"is in {store.location}, a store": [store.location, "--out", str(Path(store.location) / "stages")],
    }
    for message, arguments in wrong.items():
        assert main(["--out", str(out), *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error
    assert main([store.location, "--out", str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    result_path(store, plan.runs[0].key).write_text('{"key": ')
    assert main([store.location, "--out", str(out), "--partial"]) == 2
    assert plan.runs[0].key in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("arguments", [[], ["--allow", "everything", "store"], ["store", "--unknown"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


@pytest.mark.slow
def test_command_runs_as_a_module_without_torch_or_ray(tmp_path: Path, store: Store) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['analysis', {store.location!r}, '--out', {str(tmp_path / 'report')!r}]\n"
        "try:\n    runpy.run_module('analysis', run_name='__main__')\n"
        "except SystemExit as stopped:\n    assert stopped.code == 0\n"
        "print(sorted({'torch', 'torchvision', 'ray'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.splitlines()[-1] == "[]"
