"""A metric in a user's file: from the command line through every table, with its own direction."""

import re
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import analysis.__main__
from analysis.collect import read_results
from analysis.compare import MARGIN, describe_difference, margin_of
from analysis.figures import ranks
from analysis.sentences import UNCUT
from lt_rebalance.ground import own_file
from lt_rebalance.ground.metrics import METRICS, is_higher_better, own_metrics
from lt_rebalance.store import Store
from tests.analysis.synthetic import Truth, make_store, plan_study

SOURCE = """\
from lt_rebalance.ground.metrics import Metric


def share_of_errors(confusion):
    return 1 - confusion.hits_K.sum() / confusion.num_images


def share_of_hits(confusion):
    return confusion.hits_K.sum() / confusion.num_images


errors = Metric(label="my errors", is_higher_better=False, of_confusion=share_of_errors, low=0, high=1)
hits = Metric(label="my hits", is_higher_better=True, of_confusion=share_of_hits, low=0, high=1)
endless = Metric(label="my endless", is_higher_better=False, of_confusion=share_of_errors)
of_probabilities = Metric(label="mine", is_higher_better=True, of_probabilities=lambda of, labels: 0.5)
taken = Metric(label="accuracy", is_higher_better=True, of_confusion=share_of_hits)
too_low = Metric(label="low", is_higher_better=True, of_confusion=share_of_hits, low=0, high=0.1)
text = Metric(label="text", is_higher_better=True, of_confusion=lambda confusion: "0.5")
raising = Metric(label="raises", is_higher_better=True, of_confusion=lambda confusion: 1 / 0)
"""
ACCURACY = {"none": 0.79, "undersample": 0.72, "oversample": 0.83}
RIGHT = {
    ("undersample", "none"): "worse",
    ("oversample", "none"): "better",
    ("oversample", "undersample"): "better",
}


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a user's file, in a process that has loaded no such file before."""
    monkeypatch.setattr(own_file, "_AT_HAND", {})
    before = dict(METRICS)
    (tmp_path / "mine.py").write_text(SOURCE)
    yield tmp_path / "mine.py"
    assert before == METRICS


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    plan = plan_study(cs=["1/2"], methods=list(ACCURACY), generators=[], num_seeds=8)
    truth = Truth(accuracy=lambda run: ACCURACY[run.cell.method_label])
    return make_store(tmp_path_factory.mktemp("own") / "store", plan, truth)


@pytest.mark.slow
@pytest.mark.usefixtures("unprinted_figures")
def test_metric_of_ones_own_is_in_tables_and_verdicts_by_its_own_direction(
    path: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [f"{path}:{name}" for name in ("errors", "hits", "endless")]
    out = tmp_path / "report"
    assert analysis.__main__.main([store.location, "--out", str(out), "--metric", *asked]) == 0
    contrasts = pd.read_csv(out / "tables" / "m1-own-metrics.csv")
    verdicts, won = {}, {}
    for label, rows in contrasts.groupby("label"):
        pairs = list(zip(rows["method"], rows["comparator"], strict=True))
        verdicts[label] = dict(zip(pairs, rows["verdict"], strict=True))
        won[label] = dict(zip(pairs, rows["better_share"], strict=True))
    assert verdicts == {"my errors": RIGHT, "my hits": RIGHT, "my endless": RIGHT}
    assert won["my errors"] == won["my hits"] == won["my endless"]
    assert won["my errors"]["oversample", "none"] > 0.5 > won["my errors"]["undersample", "none"]
    # Each is in the table of the runs, under the name that tells the file and its content.
    runs = pd.read_csv(out / "tables" / "runs.csv")
    errors, hits = (
        next(name for name in runs if re.fullmatch(rf"mine\.py:{each}@[0-9a-f]{{8}}", name))
        for each in ("errors", "hits")
    )
    assert runs[errors].to_list() == pytest.approx((1 - runs["accuracy"]).to_list())
    assert runs[hits].to_list() == pytest.approx(runs["accuracy"].to_list())
    page = (out / "index.html").read_text()
    assert "Lower is better for my errors and my endless." in page and "Higher is better for my hits." in page
    further = (out / "tables" / "t1-further.md").read_text()
    assert UNCUT in further and UNCUT in (out / "tables" / "m1-own-metrics.md").read_text()
    assert "my errors: mean (95% t interval)" in further
    (falling,) = [line for line in further.splitlines() if "Lower is better for" in line]
    assert "my errors" in falling and "my hits" not in falling
    # A report of nobody's own metric has no word of it.
    assert analysis.__main__.main([store.location, "--out", str(tmp_path / "plain")]) == 0
    assert not (tmp_path / "plain" / "tables" / "m1-own-metrics.csv").exists()
    assert "your own metrics" not in (tmp_path / "plain" / "index.html").read_text().lower()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ("share_of_hits", "mine.py:8: share_of_hits must be of type Metric, got one of type function"),
        ("of_probabilities", "needs of_confusion, a function of the confusion matrix"),
        ("taken", "needs a unique label, got 'accuracy'"),
        ("too_low", "must give a number from 0 to 0.1, got "),
        ("text", "must give a number from "),
        ("raising", "mine.py:19: ZeroDivisionError: division by zero"),
        ("nothing", "does not define 'nothing'"),
    ],
)
def test_wrong_metric_of_ones_own_is_refused_in_a_line(
    taken: str, said: str, path: Path, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [store.location, "--out", str(tmp_path / "report"), "--metric", f"{path}:{taken}"]
    assert analysis.__main__.main(arguments) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1 and not (tmp_path / "report").exists()


def test_metric_that_is_no_file_is_refused(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert analysis.__main__.main([store.location, "--metric", "accuracy"]) == 2
    assert "a metric of your own is named PATH.py:NAME, got 'accuracy'" in capsys.readouterr().err


def test_pairs_won_are_those_that_are_better() -> None:
    paired = pd.DataFrame({"first": [1.0, 1.0, 3.0], "second": [2.0, 3.0, 2.0]})
    paired["difference"] = paired["first"] - paired["second"]
    shares = {metric: describe_difference(paired, metric)["better_share"] for metric in ("accuracy", "loss")}
    assert shares == {"accuracy": pytest.approx(1 / 3), "loss": pytest.approx(2 / 3)}


def test_first_rank_is_the_best_also_where_less_is_better(store: Store) -> None:
    runs = read_results(store.location).runs
    best = {}
    for metric in ("accuracy", "nll"):
        table = ranks.rank_table(runs.assign(nll=1 - runs["accuracy"], leading_metric=metric))
        best[metric] = ranks.mean_ranks(table, metric).idxmin()
    assert best["accuracy"] == best["nll"] and "oversample" in best["nll"]


def test_margin_is_of_the_range_of_a_metric(path: Path) -> None:
    with own_metrics([f"{path}:errors", f"{path}:endless"]):
        errors, endless = list(METRICS)[-2:]
        assert (margin_of(errors), margin_of("brier"), margin_of(endless)) == (MARGIN, 2 * MARGIN, 0.0)
        assert not is_higher_better(errors)
