"""A wheel and a checkout work from any directory; two copies of the project are refused, not mixed."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import pytest

from lt_rebalance.stages import installation
from lt_rebalance.stages.installation import ROOT, require_one_copy
from lt_rebalance.stages.provenance import COMMIT_VARIABLE, hash_source

CHECKOUT = Path(__file__).parents[2]
GOLDEN = CHECKOUT / "tests" / "golden" / "store"
COMMIT = "c0ffee" * 6 + "c0de"
QUICK = [
    "--methods",
    "none",
    "--c",
    "1/2",
    "--seeds",
    "1",
    "--steps",
    "2",
    "--device",
    "cpu",
    "--precision",
    "float32",
]


def set_script(monkeypatch: pytest.MonkeyPatch, path: Path | None) -> None:
    main = types.ModuleType("__main__")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        main.__file__ = str(path)
    monkeypatch.setitem(sys.modules, "__main__", main)


def make_checkout(root: Path) -> Path:
    (root / "lt_rebalance").mkdir(parents=True)
    (root / "lt_rebalance" / "__init__.py").touch()
    (root / "pyproject.toml").touch()
    return root


def test_script_of_another_checkout_is_refused_with_both_places_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_checkout(tmp_path / "other")
    for script in ("sweeps/full_grid.py", "mine.py", "sweeps/of/mine/x.py"):
        set_script(monkeypatch, other / script)
        with pytest.raises(ValueError, match="belongs to the checkout") as raised:
            require_one_copy()
        for said in (str(other / script), str(ROOT), f"pip install -e '{other}[s3]'"):
            assert said in str(raised.value)


def test_scripts_of_no_other_checkout_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_checkout(tmp_path / "other")
    (other / ".venv").mkdir()
    (other / ".venv" / "pyvenv.cfg").touch()
    for script in (
        None,
        tmp_path / "mine" / "sweep.py",
        other / ".venv" / "bin" / "lt-rebalance",
        other / ".venv" / "lib" / "python3.11" / "site-packages" / "pytest" / "__main__.py",
    ):
        set_script(monkeypatch, script)
        require_one_copy()
    set_script(monkeypatch, None)
    monkeypatch.setattr(
        sys.modules["__main__"], "__file__", str(CHECKOUT / "sweeps" / "full_grid.py"), raising=False
    )
    require_one_copy()


def test_analysis_of_another_copy_is_refused_with_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_script(monkeypatch, None)
    other = types.ModuleType("analysis")
    other.__file__ = str(tmp_path / "analysis" / "__init__.py")
    monkeypatch.setitem(sys.modules, "analysis", other)
    with pytest.raises(ValueError, match=rf"analysis is taken from {tmp_path} and lt_rebalance from {ROOT}"):
        require_one_copy()
    with pytest.raises(ValueError, match="shadows"):
        installation.import_beside("analysis")


def test_link_to_a_checkout_is_that_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "link").symlink_to(CHECKOUT)
    set_script(monkeypatch, None)
    script = str(tmp_path / "link" / "sweeps" / "full_grid.py")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", script, raising=False)
    require_one_copy()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory that contains a wheel of this checkout, unpacked as by an installer."""
    build = pytest.importorskip("hatchling.build")
    folder = tmp_path_factory.mktemp("wheel")
    script = f"import hatchling.build, sys; print(hatchling.build.build_wheel({str(folder)!r}))"
    assert build is not None
    subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def shadows(tmp_path: Path) -> Path:
    """Return a directory that holds another lt_rebalance, another sweeps, and nothing else."""
    for name in ("lt_rebalance", "sweeps"):
        (tmp_path / "elsewhere" / name).mkdir(parents=True)
        (tmp_path / "elsewhere" / name / "__init__.py").write_text(
            "raise SystemExit('the wrong copy runs')\n"
        )
    return tmp_path / "elsewhere"


def run(*arguments: object, packages: Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python with packages of ours in this place, and no other copy of them.

    -S keeps out the editable install of this checkout, whose dependencies come from the same place.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(packages), dependencies()]), **variables}
    command = [sys.executable, "-S", *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def dependencies() -> str:
    return str(Path(importlib.import_module("torch").__file__ or "").parents[1])


def test_wheel_holds_the_package_and_the_analysis_whole_and_no_sweep(site: Path) -> None:
    assert hash_source(site / "lt_rebalance") == hash_source(CHECKOUT / "lt_rebalance")
    assert hash_source(site / "analysis") == hash_source(CHECKOUT / "analysis")
    for name in ("analysis/families.toml", "analysis/templates/report.html.jinja"):
        assert (site / name).exists(), name
    assert [path.name for path in (site / "lt_rebalance" / "data" / "sample").glob("*.npz")]
    assert not (site / "sweeps").exists() and not (site / "tests").exists()
    (entry_points,) = site.glob("*.dist-info/entry_points.txt")
    assert "lt-rebalance = lt_rebalance.cli.main:main" in entry_points.read_text()


@pytest.mark.slow
def test_wheel_works_in_a_directory_that_holds_another_copy(site: Path, shadows: Path) -> None:
    command = (
        "import sys; sys.path.pop(0); from lt_rebalance.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    status = run("-c", command, "status", GOLDEN, packages=site, cwd=shadows)
    assert status.returncode == 0, status.stderr
    rows = run("-c", command, "export", GOLDEN, "--json", packages=site, cwd=shadows)
    assert rows.returncode == 0 and len(json.loads(rows.stdout)) == 12, rows.stderr
    report = run("-m", "analysis", GOLDEN, "--out", shadows / "report", packages=site, cwd=shadows)
    assert report.returncode == 0 and (shadows / "report" / "index.html").exists(), report.stderr


@pytest.mark.slow
def test_sweep_of_a_checkout_does_not_run_an_installed_copy(site: Path, tmp_path: Path) -> None:
    for arguments in (["sweeps/full_grid.py"], ["sweeps/ablate_loss.py"], ["sweeps/tune_classifier.py"]):
        refused = run(CHECKOUT / arguments[0], "--plan", packages=site, cwd=tmp_path)
        assert refused.returncode == 2 and refused.stdout == "", refused.stderr
        assert refused.stderr.startswith("error: ") and "Traceback" not in refused.stderr
        assert str(CHECKOUT) in refused.stderr and str(site) in refused.stderr
        assert "pip install -e" in refused.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_sweeps_of_wheel_and_checkout_run_their_own_code_in_workers_too(site: Path, shadows: Path) -> None:
    """In a directory with another lt_rebalance, from a checkout without its repository and from a wheel."""
    checkout = shadows.parent / "sent"
    for name in ("lt_rebalance", "analysis", "sweeps"):
        shutil.copytree(CHECKOUT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", checkout)
    (checkout / "lt_rebalance" / "__init__.py").open("a").write("\n# sent\n")
    mine = shadows.parent / "mine" / "full_grid.py"
    mine.parent.mkdir()
    shutil.copy(CHECKOUT / "sweeps" / "full_grid.py", mine)
    for script, packages, commit in (
        (checkout / "sweeps" / "full_grid.py", checkout, f"{COMMIT}-dirty"),
        (mine, site, ""),
    ):
        storage = shadows.parent / f"results-{packages.name}"
        variables = {COMMIT_VARIABLE: commit, "RAY_worker_niceness": "0"}
        ended = run(script, *QUICK, "--storage", storage, packages=packages, cwd=shadows, **variables)
        assert ended.returncode == 0, ended.stderr + ended.stdout
        (result,) = storage.glob("stages/*/result.json")
        made = json.loads(result.read_text())["provenance"]
        assert made["commit"] == (COMMIT if commit else None)
        assert made["is_dirty"] is (True if commit else None)
        assert made["source_sha256"] == hash_source(packages / "lt_rebalance")
        assert made["versions"]["lt_rebalance"] == "0.1.0"


@pytest.mark.slow
def test_user_of_whom_no_home_is_known_can_use_the_commands() -> None:
    script = (
        "import os, pwd\n"
        "pwd.getpwuid = {}.__getitem__\n"
        "os.environ.pop('HOME', None)\n"
        "import lt_rebalance.cluster.session"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
