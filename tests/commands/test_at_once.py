"""Commands that only read, check or plan import no library that trains, distributes work or plots.

All command lines run one after the other in one fresh process. After each of them it reports which of these
libraries have been imported, so the first command line that imports any is named. A user's shell starts one
process per command: `-X importtime` shows the same for two of them.
"""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from lt_rebalance.cli.completion import list_commands
from lt_rebalance.cli.parser import make_parser
from lt_rebalance.commands.sweep import main
from lt_rebalance.stages.arithmetic import Throughput
from lt_rebalance.studies.axes import QUICK
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.training.device import resolve_execution
from sweeps import full_grid
from tests.analysis.synthetic import make_store

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "store"
SWEEPS = sorted(f"sweeps/{path.name}" for path in (ROOT / "sweeps").glob("*.py"))
BENCHMARKS = sorted(
    f"benchmarks.{path.stem}"
    for path in (ROOT / "benchmarks").glob("*.py")
    if "sys.exit(main())" in path.read_text(encoding="utf-8")
)
HEAVY = ("torch", "torchvision", "ray", "pandas", "matplotlib", "scipy", "optuna", "tensorboard")
LOOK = "lt_rebalance"
CPU = ["--device", "cpu", "--precision", "float32"]
RUN_ALL = """
import contextlib, importlib, io, json, runpy, sys
heavy, lines = json.loads(sys.argv[1]), json.loads(sys.stdin.read())
sys.path.insert(0, ".")
for name, *arguments in lines:
    sys.argv = [name, *arguments]
    output, code = io.StringIO(), None
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            if arguments == ["import"]:
                importlib.import_module(name)
            elif name.endswith(".py"):
                runpy.run_path(name, run_name="__main__")
            else:
                runpy.run_module(name, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code or 0
    found = [each for each in heavy if each in sys.modules]
    print(json.dumps([code, found, output.getvalue()]))
"""


class Ended(NamedTuple):
    """How a command line ended, and what of `HEAVY` had been imported by then."""

    code: int | None
    heavy: list[str]
    output: str


def run_all(lines: Sequence[Sequence[str]], heavy: Sequence[str] = HEAVY) -> dict[str, Ended]:
    """Return how each of some command lines ended, all of them in one process."""
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, json.dumps(heavy)],
        **{"input": json.dumps(lines), "capture_output": True, "text": True, "cwd": ROOT, "timeout": 600},
    )
    assert done.returncode == 0, done.stderr
    ends = [Ended(*json.loads(line)) for line in done.stdout.splitlines()]
    return {" ".join(line): end for line, end in zip(lines, ends, strict=True)}


def require_light(ended: dict[str, Ended], code: int | None) -> None:
    assert {line: end for line, end in ended.items() if end.heavy or end.code != code} == {}


def list_modules(*wings: str) -> list[str]:
    paths = [path for wing in wings for path in (ROOT / "lt_rebalance" / wing).rglob("*.py")]
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths
    ]


def test_help_of_every_command_imports_nothing_heavy() -> None:
    helped = [[sweep] for sweep in SWEEPS] + [["analysis"], [LOOK]]
    helped += [[LOOK, command] for command in list_commands(make_parser())]
    helped += [[benchmark] for benchmark in BENCHMARKS]
    assert len(helped) > 20 and len(BENCHMARKS) > 10
    require_light(run_all([[*line, "--help"] for line in helped]), code=0)


def test_wrong_input_is_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    nowhere, damaged, foreign = (str(tmp_path / name) for name in ("nowhere", "damaged", "foreign"))
    Path(foreign).mkdir()
    (Path(foreign) / "notes.txt").write_text("")
    raw = Path(damaged) / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images", "train-labels", "t10k-images", "t10k-labels"):
        (raw / f"{name}-idx{3 if 'images' in name else 1}-ubyte").write_bytes(b"damaged")
    wrong = [
        ["--no-such-option"],
        ["--set", "classifier.no_such_field=1"],
        ["--set", "classifier.batch_size=many"],
        ["--methods", "no_such_method"],
        ["--generators", "no_such_generator"],
        ["--c", "3/2"],
        ["--device", "no_such_device"],
        ["--gpus-per-trial", "0.5", *CPU],
        ["--config", nowhere],
        ["--storage", foreign, *CPU],
        ["--storage", str(GOLDEN), *CPU],
        ["--preset", "paper", "--data-dir", damaged, "--storage", nowhere, *CPU],
    ]
    lines = [["sweeps/full_grid.py", *line] for line in wrong]
    lines += [["sweeps/tune_cgan.py", *line] for line in wrong if "--c" not in line and "paper" not in line]
    lines = [line for line in lines if line[0].endswith("full_grid.py") or "--methods" not in line]
    lines += [[LOOK, command, nowhere] for command in ("status", "export", "tensorboard", "gc", "plan")]
    lines += [[LOOK, "retry", "--failed", nowhere], [LOOK, "verify", "0000", "--storage", nowhere]]
    lines += [[LOOK, "show", "0000", "--storage", str(GOLDEN)], ["analysis", nowhere], ["analysis", foreign]]
    lines += [["analysis", str(GOLDEN), "--study", "other"], [LOOK, "no-such-command"]]
    require_light(run_all(lines), code=2)
    assert not Path(nowhere).exists()


def test_status_and_plan_of_a_store_import_nothing_heavy(tmp_path: Path) -> None:
    study = full_grid.build_study(full_grid.make_grid_parser().parse_args(["--seeds", "1"]))
    plan = compile_study(study, resolve_execution("cpu", "float32", 1, has_cuda=False))
    store = make_store(tmp_path / "store", plan)
    sweep = ["sweeps/full_grid.py", "--storage", store.location, "--plan", *CPU]
    lines = [[LOOK, "status", str(GOLDEN)], [LOOK, "status", str(GOLDEN), "--json"]]
    lines += [[LOOK, "plan", str(GOLDEN)], [LOOK, "gc", "--dry-run", store.location]]
    lines += [sweep, [*sweep, "--json"], [*sweep, "--seeds", "1"]]
    ended = run_all(lines)
    require_light(ended, code=0)
    # The speed is known from the finished runs, so the time of the new seeds is shown.
    shown = ended[" ".join(sweep)].output
    assert f"complete={len(plan.runs)}" in ended[" ".join([*sweep, "--seeds", "1"])].output
    assert "time: not known" not in shown and QUICK.num_seeds == 3


@pytest.mark.slow
def test_process_of_a_sweep_trains_nothing_and_imports_no_tracking_service(tmp_path: Path) -> None:
    services = ["mlflow", "wandb"]
    assert all(map(importlib.util.find_spec, services))
    small = ["--methods", "none", "--c", "1/2", "--seeds", "1", "--steps", "2", *CPU]
    sweep = ["sweeps/full_grid.py", *small, "--storage", str(tmp_path / "store")]
    ended = run_all([sweep], heavy=["torch", "torchvision", *services])
    require_light(ended, code=0)
    assert "planned=1 complete=1" in ended[" ".join(sweep)].output


def test_wings_that_read_and_plan_import_nothing_heavy() -> None:
    modules = list_modules("ground", "files", "store", "data", "methods", "studies")
    modules += [name for name in list_modules("monitoring") if ".tensorboard" not in name]
    # A table is a frame of pandas, and a user's own method is tried with torch: no command that only reads
    # imports these.
    modules.remove("lt_rebalance.studies.tables")
    modules.remove("lt_rebalance.studies.trying")
    require_light(run_all([[name, "import"] for name in modules]), code=None)


@pytest.mark.parametrize("line", [["sweeps/full_grid.py", "--help"], ["-m", "lt_rebalance", "--help"]])
def test_importtime_shows_no_heavy_library(line: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *line], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    imported = set(re.findall(r"\| +([a-z_]+)", done.stderr))
    assert done.returncode == 0 and {"argparse", "lt_rebalance"} <= imported
    assert imported & set(HEAVY) == set()


def test_check_sees_what_is_imported() -> None:
    ended = run_all([["abc", "import"], ["colorsys", "import"]], heavy=["colorsys"])
    assert [end.heavy for end in ended.values()] == [[], ["colorsys"]]
    with pytest.raises(AssertionError, match="colorsys"):
        require_light(ended, code=None)


def test_plan_names_its_runs_before_a_speed_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    monkeypatch.setattr(Throughput, "calibrate", lambda *_: shown.append(capsys.readouterr().out))
    arguments = ["--methods", "none", "focal", "--c", "1/2", "--seeds", "2", *CPU, "--plan"]
    assert main(full_grid.make_grid_parser(), full_grid.build_study, arguments) == 0
    assert "planned=4 complete=0" in shown[0] and "classifier runs: 4 planned, 4 to run" in shown[0]
    assert "time: not known here" in capsys.readouterr().out
