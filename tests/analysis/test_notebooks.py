"""Notebooks tell stories and show what they have of the published study; they run on other stores, too."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pytest

from analysis.collect import read_results
from analysis.tables import compute_frames
from lt_rebalance.ground.paper import TABLE_1
from tests.analysis import rendered
from tests.analysis.rendered import NOTEBOOKS, Cells, read_cells, run_notebook
from tests.analysis.synthetic import make_store, plan_study


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


def test_help_of_the_script_that_writes_notebooks_writes_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rendered, "run_notebook", lambda *_: pytest.fail("it runs a notebook"))
    for arguments, code in ((["--help"], 0), (["01"], 2)):
        with pytest.raises(SystemExit) as end:
            rendered.main(arguments)
        assert end.value.code == code
    assert "runs all on the published study" in capsys.readouterr().out
    assert Path(__file__).parents[2] / "analysis" / "notebooks" == rendered.FOLDER


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
    assert any(cell.outputs for cell in notebook.cells if cell.cell_type == "code")


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


NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def list_outputs(cells: Cells) -> list[dict[str, str]]:
    """Return the texts that cells show. Of a picture that is only that there is one: fonts differ."""
    outputs = [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert outputs and not [each for each in outputs if each["output_type"] in ("error", "stream")]
    return [{kind: text for kind, text in each["data"].items() if kind != "image/png"} for each in outputs]


def list_numbers(outputs: list[dict[str, str]]) -> list[float]:
    return [
        float(number) for output in outputs for text in output.values() for number in NUMBER.findall(text)
    ]


def hide_numbers(outputs: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{kind: NUMBER.sub("N", text) for kind, text in output.items()} for output in outputs]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_shows_what_its_file_has_of_the_published_study_and_runs_on_another_store(
    path: Path, store_location: str
) -> None:
    of_study, other = (list_outputs(cells) for cells in run_notebook(path, store_location))
    in_file = list_outputs(read_cells(path))
    remedy = "run python tests/analysis/rendered.py, and read what it changes"
    assert hide_numbers(of_study) == hide_numbers(in_file), remedy
    # Another processor may round the last digit that is shown otherwise.
    assert list_numbers(of_study) == pytest.approx(list_numbers(in_file), rel=0.02, abs=0.002), remedy
    if path.stem.startswith("02"):
        shown = "".join(output.get("text/plain", "") for output in other)
        assert shown.count("True") == len(TABLE_1) and "False" not in shown  # every row is saturated
