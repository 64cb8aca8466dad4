"""Notebooks are executed for real, on a small store that the test makes, and tell stories."""

import ast
import json
import os
from pathlib import Path

import nbclient
import nbformat
import pytest

import analysis
from analysis.collect import read_results
from analysis.tables import compute_frames
from lt_rebalance.ground.paper import TABLE_1
from tests.analysis.synthetic import make_store, plan_study

FOLDER = Path(analysis.__file__).parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(scope="module")
def store_location(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Both protocols, two Cs, two methods and a CGAN at two seeds, with results that are made up."""
    plan = plan_study(
        protocols=("paper", "sound"),
        cs=("7/9", "1/2"),
        methods=("none", "oversample", "cgan"),
        generators=("small_mlp_cgan_leaky",),
        num_seeds=2,
    )
    return make_store(tmp_path_factory.mktemp("notebooks") / "store", plan).location


def test_there_are_five_notebooks() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_tells_a_story_and_defines_nothing(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown" and kinds.count("markdown") >= 3
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    nodes = list(ast.walk(ast.parse(code)))
    assert not [n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Lambda)]
    assert not [node for node in nodes if isinstance(node, ast.Assert)], "tests assert, notebooks show"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_text_is_what_jupyter_would_save(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=1, ensure_ascii=False) + "\n"


@pytest.mark.slow
def test_results_are_as_the_notebooks_describe_them(store_location: str) -> None:
    """Accuracy is the mean recall of a balanced test set, and fewer than six pairs give no verdict."""
    results = read_results(store_location)
    assert (results.runs["accuracy"] - results.runs["balanced_accuracy"]).abs().max() < 1e-9
    assert results.generator_classes["diversity"].dropna().ge(0).all()
    assert results.generator_classes["distinct_nearest"].dropna().between(1, 200).all()
    contrasts = compute_frames(results).contrasts
    assert len(contrasts) and (contrasts["n_pairs"] < 6).all()
    assert (contrasts["verdict"] == "undecided").all()


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, store_location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LT_REBALANCE_STORE", store_location)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(FOLDER.parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    if path.stem.startswith("02"):
        shown = "".join(output.data.get("text/plain", "") for output in outputs)
        assert shown.count("True") == len(TABLE_1) and "False" not in shown  # every row is saturated
    assert outputs and not [output for output in outputs if output.output_type in ("error", "stream")]
