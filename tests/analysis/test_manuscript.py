"""`--paper`: three tables, three figures and a text, with the numbers of the runs; and they compile."""

import csv
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.collect import Results, read_results
from analysis.manuscript import choose, make_manuscript
from analysis.manuscript.tables import difference_table, main_table
from analysis.tables import Frames, compute_frames
from tests.analysis.latex import compile_latex, count_pages
from tests.analysis.synthetic import Truth, make_store, plan_study

TABLES = ("table1-main", "table2-differences", "table3-classes")
FIGURES = ("figure1-main", "figure2-differences", "figure3-classes")
POINTS_PER_INCH = 72
METHODS = {"methods": ("none", "oversample", "undersample"), "generators": ()}


def make_results(directory: Path, truth: Truth | None = None, **axes: object) -> Results:
    """Return the results of a study of these axes, all of whose runs are complete."""
    return read_results(make_store(directory / "store", plan_study(**axes), truth).location)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def two_cs(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Three methods and a CGAN at both Cs and the original set, at three seeds."""
    truth = Truth(accuracy=lambda run: 0.9 if run.cell.method_label == "oversample" else 0.7)
    axes = {"methods": (*METHODS["methods"], "cgan"), "generators": ("mlp_cgan_relu",), "num_seeds": 3}
    return make_results(tmp_path_factory.mktemp("two"), truth, **axes)


@pytest.fixture(scope="module")
def frames(two_cs: Results) -> Frames:
    return compute_frames(two_cs)


@pytest.fixture(scope="module")
def files(two_cs: Results, frames: Frames) -> dict[str, bytes]:
    """Return all files of the manuscript, for two columns."""
    return make_manuscript(two_cs, frames, choose(two_cs), "two", "python -m analysis results --paper")


def read_csv(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def pages_of(pdf: bytes) -> list[tuple[float, float]]:
    """Return width and height of the pages of a PDF, in inches."""
    boxes = re.findall(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", pdf)
    return [(float(width) / POINTS_PER_INCH, float(height) / POINTS_PER_INCH) for width, height in boxes]


def write(files: dict[str, bytes], directory: Path) -> Path:
    """Write files below a directory and return the path of the document."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory / "paper" / "paper.tex"


# What is shown


def test_three_tables_and_three_figures_with_a_text_and_a_document(files: dict[str, bytes]) -> None:
    expected = {f"paper/{name}.{suffix}" for name in TABLES for suffix in ("tex", "csv")}
    expected |= {f"paper/{name}.pdf" for name in FIGURES} | {"paper/numbers.txt", "paper/paper.tex"}
    assert set(files) == expected
    document = files["paper/paper.tex"].decode()
    assert all(f"\\input{{{name}}}" in document for name in TABLES)
    assert all(f"\\includegraphics{{{name}}}" in document for name in FIGURES)


def test_numbers_are_those_of_the_runs(two_cs: Results, files: dict[str, bytes]) -> None:
    rows = {row["method"]: row for row in read_csv(files["paper/table1-main.csv"])}
    runs = two_cs.runs
    for method, row in rows.items():
        for index, data in enumerate(("original", "7/9", "1/2")):
            found = runs.loc[(runs["method"] == method) & (runs["data"] == data), "accuracy"]
            assert row[f"data_{index}"] == data and int(row[f"n_{index}"]) == len(found)
            if len(found) and found.nunique() == 1:
                assert row[f"mean_high_{index}"] == ""  # three equal values have no interval
            elif len(found):
                # t(.975, 2) = 4.3027
                half = 4.3027 * found.std() / np.sqrt(3)
                assert float(row[f"mean_{index}"]) == pytest.approx(found.mean())
                assert float(row[f"mean_high_{index}"]) == pytest.approx(found.mean() + half, abs=1e-5)
    assert rows["oversample"]["mean_0"] == ""  # not run on the original set
    assert next(iter(rows)) == "oversample"  # the best at the strongest imbalance first


def test_differences_have_the_sign_of_method_minus_reference_whatever_was_compared(
    two_cs: Results, frames: Frames
) -> None:
    choice = choose(two_cs)
    wide = two_cs.runs[two_cs.runs["data"] == "1/2"].pivot(index="seed", columns="method", values="accuracy")
    turned = frames.contrasts.rename(columns={"method": "comparator", "comparator": "method"}).assign(
        mean_difference=-frames.contrasts["mean_difference"],
        difference_low=-frames.contrasts["difference_high"],
        difference_high=-frames.contrasts["difference_low"],
    )
    for contrasts in (frames.contrasts, turned):
        frame = difference_table(choice, contrasts).frame
        rows = frame[frame["data"] == "1/2"].set_index("method")
        for method, reference in (("none", "oversample"), ("oversample", "none"), ("undersample", "none")):
            expected = (wide[method] - wide[reference]).mean()
            found = rows.loc[method]
            assert found[f"minus_{reference}"] == pytest.approx(expected)
            assert found[f"low_{reference}"] < expected < found[f"high_{reference}"]
        assert np.isnan(rows.loc["none", "minus_none"]) and rows.loc["none", "n_none"] == 0


def test_tables_have_six_columns_at_most_whatever_was_run(frames: Frames, two_cs: Results) -> None:
    choice = choose(two_cs)
    assert len(main_table(choice, frames.estimates).columns) == 4
    assert len(difference_table(choice, frames.contrasts).columns) == 6


def test_numbers_text_names_every_record_and_how_it_was_made(
    two_cs: Results, files: dict[str, bytes]
) -> None:
    text = files["paper/numbers.txt"].decode()
    assert all(key[:12] in text for key in two_cs.runs["key"])
    words = " ".join(text.split())
    for said in (
        "python -m analysis results --paper",
        two_cs.location,
        "27 complete, 0 failed, 0 diverged, 0 missing",
        "here 3 seeds",
        "tested once on 10,000 test images",
        "exact two-sided sign-flip test",
        "commit 0123456789abcdef",
        "- C = 1/2, oversample: n = 3 (0: ",
    ):
        assert said in words, said
    assert "Nothing is left out." in text and max(map(len, text.splitlines())) <= 110


def test_threads_are_whole_and_many_pairs_are_not_called_exact(two_cs: Results, frames: Frames) -> None:
    """Runs without a result make a float of the column."""
    runs = two_cs.runs.assign(num_threads=two_cs.runs["num_threads"].astype(float))
    results = dataclasses.replace(two_cs, runs=runs)
    many = dataclasses.replace(frames, contrasts=frames.contrasts.assign(n_pairs=21))
    files = make_manuscript(results, many, choose(results), "two", "command")
    words = " ".join(files["paper/numbers.txt"].decode().split())
    assert "threads per run 1." in words and "threads per run 1.0" not in words
    assert "p: two-sided sign-flip test" in words and "p: exact" not in words


# What is left out


@pytest.mark.slow
def test_one_seed_gives_means_and_says_that_intervals_are_left_out(tmp_path: Path) -> None:
    results = make_results(tmp_path, cs=("1/2",), num_seeds=1, **METHODS)
    choice = choose(results)
    assert choice.left_out == (
        "intervals and p values: there is one seed, and a spread takes two",
        "diversity of generated images: this setting has no generator",
    )
    files = make_manuscript(results, compute_frames(results), choice, "two", "command")
    assert {name for name in files if name.endswith(".pdf")} == {f"paper/{name}.pdf" for name in FIGURES}
    assert "±" not in files["paper/table1-main.tex"].decode().partition("midrule")[2]
    assert "- intervals and p values: there is one seed" in files["paper/numbers.txt"].decode()
    assert b"worst_class_recall" in files["paper/table3-classes.csv"]
    rows = read_csv(files["paper/table2-differences.csv"])
    assert rows and all(row["p_none"] == row["p_oversample"] == "" for row in rows)
    assert "1.000" not in files["paper/table2-differences.tex"].decode()


def test_caption_has_all_numbers_of_seeds(tmp_path: Path) -> None:
    """A second seed of none and oversample at C = 1/2 alone: no row of table 1 has one n."""
    results = make_results(tmp_path, cs=("7/9", "1/2"), num_seeds=2, **METHODS)
    runs = results.runs
    is_left = (runs["seed"] == 0) | ((runs["data"] == "1/2") & (runs["method"] != "undersample"))
    results = dataclasses.replace(results, runs=runs[is_left])
    files = make_manuscript(results, compute_frames(results), choose(results), "two", "command")
    assert "n = 1 to 2 runs per row" in files["paper/table1-main.tex"].decode()
    assert "n = 1 to 2 pairs per row" in files["paper/table2-differences.tex"].decode()
    by_place = {(row["data"], row["method"]): row for row in read_csv(files["paper/table2-differences.csv"])}
    assert by_place["1/2", "oversample"]["p_none"] == "1.0" and by_place["7/9", "oversample"]["p_none"] == ""


def test_one_method_has_no_differences_and_says_so(tmp_path: Path) -> None:
    results = make_results(tmp_path, cs=("1/2",), methods=("none",), generators=(), num_seeds=3)
    choice = choose(results)
    files = make_manuscript(results, compute_frames(results), choice, "two", "command")
    assert "paper/table2-differences.tex" not in files and "paper/figure2-differences.pdf" not in files
    assert "table 2 and figure 2: there is one method" in choice.left_out
    assert "table2" not in files["paper/paper.tex"].decode()


def test_setting_with_the_most_runs_is_shown_and_the_others_named(tmp_path: Path) -> None:
    plan = plan_study(protocols=("paper", "sound"), cs=("1/2",), num_seeds=2, **METHODS)  # type: ignore[arg-type]
    store = make_store(tmp_path / "store", plan)
    gone = next(run.key for run in plan.runs if run.cell.protocol == "paper")
    (Path(store.location) / "stages" / gone / "result.json").unlink()
    choice = choose(read_results(store.location, allow=["gaps"]))
    assert choice.setting.startswith("sound")
    assert choice.left_out[0].startswith("1 other setting (paper, double softmax, 30 epochs)")


def test_methods_beyond_the_room_of_a_table_are_counted(
    two_cs: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.manuscript.choice.MOST_ROWS", 6)
    choice = choose(two_cs)
    assert choice.best("1/2") == [
        "oversample",
        *[each for each in choice.methods if each in choice.best("1/2")][1:],
    ]
    assert {"none", "oversample"} < set(choice.best("1/2")) and len(choice.best("1/2")) == 3
    assert "in tables 2 and 3, the 1 method of lowest mean on C = 1/2" in choice.left_out


# Figures


def test_figures_are_as_wide_as_a_column_or_the_text_with_fonts_and_without_bitmaps(
    files: dict[str, bytes],
) -> None:
    widths = [pages_of(files[f"paper/{name}.pdf"])[0][0] for name in FIGURES]
    assert widths == pytest.approx([487 / 72.27, 487 / 72.27, 234 / 72.27], abs=0.01)
    for name in FIGURES:
        pdf = files[f"paper/{name}.pdf"]
        assert b"/CIDFontType2" in pdf and b"STIXGeneral" in pdf, name  # what font type 42 is in a PDF
        assert b"/Subtype /Type3" not in pdf and b"/Subtype /Image" not in pdf, name


@pytest.mark.slow
def test_a_second_manuscript_is_the_same(two_cs: Results, frames: Frames, files: dict[str, bytes]) -> None:
    again = make_manuscript(two_cs, frames, choose(two_cs), "two", "python -m analysis results --paper")
    assert again == files


# The command


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_command_writes_the_folder_and_says_what_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_study(cs=("1/2",), num_seeds=2, **METHODS)  # type: ignore[arg-type]
    store = make_store(tmp_path / "store", plan)
    assert main([store.location, "--out", str(tmp_path / "report"), "--paper", "one"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"paper: {tmp_path / 'report' / 'paper'}; not shown: diversity" in "\n".join(lines)
    document = (tmp_path / "report" / "paper" / "paper.tex").read_text()
    assert "twocolumn" not in document and "table*" not in document


def test_store_without_a_complete_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = plan_study(cs=("1/2",), methods=("none",), generators=(), num_seeds=1)
    store = make_store(tmp_path / "store", plan)
    (Path(store.location) / "stages" / plan.runs[0].key / "result.json").unlink()
    out = tmp_path / "report"
    assert main([store.location, "--out", str(out), "--partial", "--paper"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --paper takes complete runs") and not out.exists()


# pdflatex


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["two", "one"])
def test_document_compiles(columns: str, two_cs: Results, frames: Frames, tmp_path: Path) -> None:
    files = make_manuscript(two_cs, frames, choose(two_cs), columns, "command")
    assert count_pages(compile_latex(write(files, tmp_path))) <= 3
    assert (tmp_path / "paper" / "paper.pdf").stat().st_size > 10_000


@pytest.mark.slow
def test_document_of_more_training_sets_than_have_room_compiles(tmp_path: Path) -> None:
    cs = (None, "7/9", "3/4", "2/3", "3/5", "1/2")
    results = make_results(tmp_path, cs=cs, num_seeds=2, **METHODS)
    choice = choose(results)
    assert (
        len(choice.data) == 5 and "the original set: a table has room for 5 training sets" in choice.left_out
    )
    files = make_manuscript(results, compute_frames(results), choice, "two", "command")
    log = compile_latex(write(files, tmp_path))
    assert count_pages(log) <= 5
    assert pd.read_csv(tmp_path / "paper" / "table2-differences.csv")["data"].nunique() == 5
