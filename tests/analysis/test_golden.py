"""A small real store gives the tables that a person read before they were committed.

After a change that is meant to move numbers, run this file with PYTHONPATH=. in the environment to write the
tables again. Read the difference before you commit it.
"""

from pathlib import Path

import pandas as pd
import pytest

from analysis.aggregate import GROUP_RECALLS, aggregate, collapse_table, generator_table
from analysis.collect import Results, read_results
from analysis.compare import compare
from analysis.hypotheses import judge_hypotheses
from analysis.leading import LEADING
from lt_rebalance.ground.metrics import METRICS

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def results() -> Results:
    return read_results(str(GOLDEN / "store"))


def make_frames(results: Results) -> dict[str, pd.DataFrame]:
    contrasts = compare(results.runs)
    return {
        "runs": results.runs.drop(columns=["wall_s", "train_s", "device_s"]),
        "estimates": aggregate(results.runs),
        "contrasts": contrasts,
        "collapse": collapse_table(results.runs, results.classes),
        "generators": generator_table(results.generators, results.generator_classes),
        "hypotheses": judge_hypotheses(results),
    }


@pytest.mark.parametrize("name", ["runs", "estimates", "contrasts", "collapse", "generators", "hypotheses"])
def test_golden_store_gives_the_expected_table(results: Results, name: str, tmp_path: Path) -> None:
    make_frames(results)[name].to_csv(tmp_path / "found.csv", index=False)
    found = pd.read_csv(tmp_path / "found.csv")
    expected = pd.read_csv(GOLDEN / "expected" / f"{name}.csv")
    # What is younger than these tables adds a column, or rows of a metric or a hypothesis, and changes
    # nothing else.
    younger = {"is_not_applicable", "whole_s", *METRICS, *GROUP_RECALLS, LEADING} - set(
        pd.read_csv(GOLDEN / "expected" / "runs.csv").columns
    )
    found = found.drop(columns=[column for column in found if column in younger])
    if "metric" in found:
        found = found[~found["metric"].isin(younger)].reset_index(drop=True)
    if "hypothesis" in found:
        found = found[found["hypothesis"].isin(expected["hypothesis"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, rtol=1e-9, atol=1e-12)


def test_golden_store_is_complete_and_untouched_by_reading(results: Results) -> None:
    files = sorted(path for path in (GOLDEN / "store").rglob("*") if path.is_file())
    contents = [path.read_bytes() for path in files]
    again = read_results(str(GOLDEN / "store"))
    assert set(again.runs["state"]) == {"complete"} and len(again.runs) == 12
    assert [path.read_bytes() for path in files] == contents


if __name__ == "__main__":
    (GOLDEN / "expected").mkdir(exist_ok=True)
    for name_, frame in make_frames(read_results(str(GOLDEN / "store"))).items():
        frame.to_csv(GOLDEN / "expected" / f"{name_}.csv", index=False)
