"""What leads, by how much and how sure that is: from runs that a reader can reckon with."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.aggregate import collapse_table
from analysis.compare import compare, compare_collapse
from analysis.first_screen import FirstScreen, describe_data, make_first_screen
from analysis.leaders import leaders_frame
from analysis.tables.differences import difference_table
from analysis.tables.leaders import leaders_table

NAN = float("nan")
NONE = (0.60, 0.61, 0.62, 0.60, 0.61, 0.62)
NO_CLASSES = pd.DataFrame({"cell": [], "class": [], "class_name": [], "recall": []})


def runs_of(
    values: Mapping[str, Sequence[float]],
    *,
    data: str = "1/2",
    setting: str = "s",
    metric: str = "accuracy",
    collapsed: Mapping[str, int] | None = None,
) -> pd.DataFrame:
    """Return runs of one place: each method has one value per seed, nan for a missing run."""
    return pd.DataFrame(
        [
            {
                **{"setting": setting, "protocol": "p", "dataset": "d", "data": data, "method": method},
                **{"loss_function": "l", "budget": "b", "class_order": "label"},
                "cell": f"{setting} {data} {method}",
                "seed": seed,
                "state": "missing" if np.isnan(value) else "complete",
                "is_collapsed": pd.NA if np.isnan(value) else seed < (collapsed or {}).get(method, 0),
                **{"accuracy": value, "macro_f1": value, "loss": 1.0, "leading_metric": metric},
                **{"num_dead_classes": 0.0, "is_constant": False},
            }
            for method, of_method in values.items()
            for seed, value in enumerate(of_method)
        ]
    ).astype({"is_collapsed": "boolean"})


def screen_of(*places: pd.DataFrame, ablations: pd.DataFrame | None = None) -> FirstScreen:
    runs = pd.concat(places, ignore_index=True)
    cells = runs.drop_duplicates("cell").assign(**{"classifier.selection": "last"})
    collapse = collapse_table(runs, NO_CLASSES)
    compared = pd.DataFrame() if ablations is None else ablations
    return make_first_screen(
        cells, runs, leaders_frame(runs), compare(runs), collapse, compared, pd.DataFrame()
    )


def above(values: Sequence[float], *differences: float) -> tuple[float, ...]:
    return tuple(value + each for value, each in zip(values, differences, strict=True))


# The frame


def test_leaders_stand_by_mean_with_intervals_that_hold_for_all_at_once() -> None:
    better = above(NONE, 0.10, 0.12, 0.14, 0.10, 0.12, 0.14)
    frame = leaders_frame(runs_of({"none": NONE, "undersample": (NAN,) * 6, "oversample": better}))
    assert list(frame["method"]) == ["oversample", "none", "undersample"]
    first, second, last = frame.to_dict("records")
    assert first["mean"] == pytest.approx(0.73) and first["minus_none"] == pytest.approx(0.12)
    # Two methods have runs, so a mean has 97.5 %; one of them differs from none, so that has 95 %.
    half = stats.t.ppf(0.9875, 5) * np.std(better, ddof=1) / np.sqrt(6)
    assert (first["mean_low"], first["mean_high"]) == pytest.approx((0.73 - half, 0.73 + half))
    half = stats.t.ppf(0.975, 5) * np.std([0.10, 0.12, 0.14] * 2, ddof=1) / np.sqrt(6)
    assert first["minus_none_low"] == pytest.approx(0.12 - half)
    assert second["minus_oversample"] == pytest.approx(-0.12)
    assert np.isnan(second["minus_none"]) and second["minus_none_n"] == 0
    # All six differences have one sign: p = 2 / 64 for the only pair, so that the order is certain.
    assert [(row["rank"], row["rank_low"], row["rank_high"]) for row in (first, second)] == [
        (1, 1, 1),
        (2, 2, 2),
    ]
    assert np.isnan(last["rank"]) and last["n"] == 0 and last["n_expected"] == 6


def test_a_pair_counts_only_where_both_are_complete() -> None:
    frame = leaders_frame(runs_of({"none": (0.5, NAN, 0.7), "oversample": (0.6, 0.9, 0.9)}))
    first = frame.iloc[0]
    assert first["method"] == "oversample" and first["n"] == 3 and first["minus_none_n"] == 2
    assert first["minus_none"] == pytest.approx(0.15)


# What is said of it


def test_a_sure_lead_over_none_and_over_the_next() -> None:
    better = above(NONE, *[0.10, 0.12] * 3)
    screen = screen_of(runs_of({"none": NONE, "oversample": better}))
    assert screen.headline == "oversample has the best accuracy of 2 methods on C = 1/2."
    (answer,) = screen.answers
    assert (answer.place, answer.leader) == ("C = 1/2", "oversample")
    # 0.11 with sd 0.010954; t(.975, 5) = 2.5706: half width 1.15 points
    lead = "+11.00 points (+9.85 to +12.15); significant (q = 0.031)."
    assert answer.lines == (
        f"Against no rebalancing (none): {lead}",
        "The tests rule out the other method as the best.",
    )
    assert screen.facts == {"Dead classes": "Every class is recognised in all 12 complete runs."}
    assert screen.scope == "d · C = 1/2 · 2 methods · 6 seeds · s"


@pytest.mark.parametrize("leader", ["none", "oversample"])
def test_a_difference_of_two_references_is_said_once(leader: str) -> None:
    other = {"none": "oversample", "oversample": "none"}[leader]
    (answer,) = screen_of(runs_of({other: NONE, leader: above(NONE, *[0.10, 0.12] * 3)})).answers
    assert answer.leader == leader
    assert sum("+11.00 points" in line for line in answer.lines) == 1


def test_names_of_the_protocol_do_not_divide_a_setting() -> None:
    """One setting by two studies, of which one names the budget as a change."""
    runs = runs_of({"none": NONE, "oversample": above(NONE, *(0.10, 0.12, 0.14) * 2)})
    other = runs_of({"undersample": above(NONE, *(-0.30, -0.32, -0.31) * 2)})
    runs = pd.concat([runs, other.assign(protocol="p+classifier.budget.epochs=30")], ignore_index=True)
    assert screen_of(runs).headline == "oversample has the best accuracy of 3 methods on C = 1/2."
    assert set(leaders_frame(runs)["protocol"]) == {"p or p+classifier.budget.epochs=30"}
    assert len(compare(runs)) == 3 and len(compare_collapse(runs)) == 2


def test_methods_with_one_mean_share_the_lead() -> None:
    better = above(NONE, 0.10, 0.12, 0.14, 0.10, 0.12, 0.14)
    values = {"none": NONE, "undersample": better, "oversample": better}
    screen = screen_of(runs_of(values))
    (answer,) = screen.answers
    assert screen.headline == (
        "undersample and oversample share the highest mean accuracy on C = 1/2; 2 of 3 methods may be the "
        "best."
    )
    assert (answer.leader, answer.reached) == (
        "undersample and oversample",
        "mean accuracy 0.730 each, intervals in T0",
    )
    assert answer.lines[1].startswith("undersample against oversampling (oversample): +0.00 points")
    alone = {"none": NONE, "mine": better}
    assert screen_of(runs_of(values, data="7/9"), runs_of(alone)).headline == (
        "undersample and oversample share the highest mean accuracy on C = 7/9; mine on C = 1/2."
    )
    five = [runs_of(values, setting=f"s{index}") for index in range(5)]
    assert screen_of(*five).headline == (
        "undersample and oversample share the highest mean accuracy in all 5 comparisons (5 settings)."
    )
    assert screen_of(*five[:2]).headline == (
        "undersample and oversample share the highest mean accuracy in both comparisons (2 settings)."
    )
    shared = runs_of({"none": NONE, "undersample": better, "oversample": NONE}, setting="other")
    assert screen_of(*five, shared).headline == (
        "undersample and oversample share the highest mean accuracy in 5 of 6 comparisons (6 settings), "
        "undersample in 1."
    )


def test_a_lead_that_chance_may_have_made_names_the_methods_that_may_be_best() -> None:
    near = above(NONE, *[0.02, -0.01] * 3)
    screen = screen_of(runs_of({"none": NONE, "oversample": (0.4,) * 6, "mine": near}))
    assert screen.headline == (
        "mine has the highest mean accuracy on C = 1/2, but 2 of 3 methods may be the best."
    )
    (answer,) = screen.answers
    assert answer.lines[0].startswith("Against no rebalancing (none): +0.50 points (−")
    assert answer.lines[0].endswith("; not significant (q = 0.625).")
    assert answer.lines[-1] == "2 of 3 methods may be the best: mine and none."


def test_a_lead_has_the_verdict_of_its_pair_in_t2_with_its_correction() -> None:
    def first_line(values: Mapping[str, Sequence[float]]) -> str:
        (answer,) = screen_of(runs_of(values)).answers
        return answer.lines[0]

    # Declared: the smallest p of 6 pairs, 2 / 64, times the 24 contrasts of the family.
    better = above(NONE, *[0.10, 0.12] * 3)
    assert first_line({"none": NONE, "mlp_cgan_relu": better}).endswith("; not significant (Holm p = 0.750).")
    near = above(NONE, *[0.001, -0.0005] * 3)
    assert first_line({"none": NONE, "mine": near}).endswith("; equivalent, within ±0.5 points.")
    # A lead of one method in all 6 pairs; the interval for 9 methods together is wider, by one large pair.
    far = above(NONE, 0.01, 0.01, 0.01, 0.01, 0.01, 0.06)
    others = {f"m{index}": above(NONE, *[-0.20 - 0.01 * index] * 6) for index in range(8)}
    assert first_line({"none": NONE, "mine": far} | others).endswith(
        "; significant (q = 0.031), although the interval, which holds for all methods together, includes 0."
    )


def test_one_seed_has_no_interval_and_tells_nothing_apart() -> None:
    screen = screen_of(runs_of({"none": (0.6,), "oversample": (0.7,), "mine": (0.8,)}))
    assert screen.headline == (
        "mine has the highest mean accuracy on C = 1/2; 1 seed cannot show whether this is significant."
    )
    (answer,) = screen.answers
    assert answer.reached == "mean accuracy 0.800 (no interval; 1 seed)"
    assert answer.lines == (
        "Against no rebalancing (none): +20.00 points (no interval).",
        "Against oversampling (oversample): +10.00 points (no interval).",
        "1 seed cannot distinguish methods: with fewer than 6 no paired test can be significant.",
    )


def test_missing_runs_are_counted_where_they_make_means_unequal() -> None:
    values = {"none": (0.5, NAN, 0.7), "oversample": (0.6, 0.9, 0.9), "mine": (NAN,) * 3}
    (answer,) = screen_of(runs_of(values)).answers
    assert "(+10.00 to" not in answer.lines[0] and "; 2 pairs)" in answer.lines[0]
    assert answer.lines[-1] == "Without a complete run: 1 of 3 methods. Means are over 2 to 3 seeds."


def test_without_none_and_oversample_the_next_method_is_told() -> None:
    screen = screen_of(runs_of({"mine": (0.7, 0.8), "yours": (0.6, 0.8)}, metric="macro_f1"))
    (answer,) = screen.answers
    assert answer.reached.startswith("mean macro F1 0.750 (")
    assert answer.lines[:2] == (
        "Not in this comparison: none and oversample.",
        # t(.9875, 1) = 25.452: half width 25.452 * 0.1414 / sqrt(2) = 2.545
        "Next, yours: 0.700 (−1.845 to 3.245; 2 seeds).",
    )


def test_one_method_is_compared_with_nothing() -> None:
    screen = screen_of(runs_of({"none": (0.7, 0.8)}, data="original"))
    assert screen.headline == "No two methods can be compared." and screen.answers == ()
    assert screen.lines[0] == (
        "On the original set only none was run: accuracy 0.750 (0.115 to 1.385; 2 seeds)."
    )


def test_a_method_whose_others_have_no_complete_run_is_not_said_to_be_the_only_one_that_was_run() -> None:
    screen = screen_of(runs_of({"none": (0.7, 0.8), "oversample": (NAN, NAN)}))
    assert screen.lines[0].startswith(
        "On C = 1/2 the only one of 2 methods with complete runs is none: accuracy 0.750"
    )


def test_of_many_places_with_one_method_four_are_named() -> None:
    screen = screen_of(*[runs_of({"none": (0.7, 0.8)}, setting=f"s{index}") for index in range(6)])
    assert "On s3, C = 1/2 only none was run" in screen.lines[0] and "s4" not in screen.lines[0]
    assert screen.lines[1] == "2 more have one method only (T0)."


def test_no_run_yet() -> None:
    screen = screen_of(runs_of({"none": (NAN,), "oversample": (NAN,)}))
    assert screen.headline == "No run is complete yet." and screen.answers == () and screen.lines == ()
    assert screen.facts == {}


def test_several_places_are_headed_by_who_leads_where() -> None:
    first, second = {"none": (0.6, 0.7), "mine": (0.7, 0.8)}, {"none": (0.8, 0.9), "mine": (0.7, 0.8)}
    places = [runs_of(first, data="7/9"), runs_of(second, data="1/2")]
    screen = screen_of(*places)
    assert screen.headline == "mine has the highest mean accuracy on C = 7/9; none on C = 1/2."
    assert [answer.place for answer in screen.answers] == ["C = 7/9", "C = 1/2"]
    screen = screen_of(*places, runs_of(first, setting="other"))
    assert screen.headline == (
        "Highest mean accuracy with s: mine on C = 7/9, none on C = 1/2; with other: mine on C = 1/2. In 0 "
        "of these 3 the tests rule out all other methods."
    )
    assert screen.answers[2].place == "other, C = 1/2"
    five = [*places, runs_of(first, setting="other"), runs_of(first, data="7/9", setting="other")]
    assert screen_of(*five, runs_of(second, setting="third")).headline == (
        "No method leads everywhere. mine has the highest mean accuracy in 3 of 5 comparisons (3 settings), "
        "none in 2."
    )


def test_thirty_methods_are_not_all_named() -> None:
    screen = screen_of(runs_of({f"m{index}": NONE for index in range(30)}))
    (answer,) = screen.answers
    assert answer.lines[-1] == ("30 of 30 methods may be the best: m0, m1, m2, m3 and 26 more.")


def test_collapse_is_one_line_with_where_it_is_worst() -> None:
    runs = runs_of({"none": NONE, "oversample": NONE}, collapsed={"none": 3})
    assert screen_of(runs).facts["Dead classes"] == (
        "In 3 of 12 complete runs (25%) at least one class is never recognised; most often with none on "
        "C = 1/2 (3 of 6)."
    )
    runs = runs_of({"none": NONE, "oversample": NONE}, collapsed={"none": 3, "oversample": 3})
    said = screen_of(runs).facts["Dead classes"]
    assert said.endswith("most often with none and oversample on C = 1/2 (3 of 6 each).")
    methods = ("none", "undersample", "oversample")
    places = [
        runs_of(dict.fromkeys(methods, NONE), data=data, collapsed=dict.fromkeys(methods, 6))
        for data in ("7/9", "1/2")
    ]
    assert screen_of(*places).facts["Dead classes"].endswith("most often in 6 rows of T3a (6 of 6 each).")


def test_rows_of_several_settings_are_told_apart_by_them() -> None:
    runs = [
        runs_of({"none": NONE}, setting=f"p, {each}", collapsed={"none": 3}) for each in ("loss a", "loss b")
    ]
    assert screen_of(*runs).facts["Dead classes"] == (
        "In 6 of 12 complete runs (50%) at least one class is never recognised: 3 of 6 with loss a and 3 of "
        "6 with loss b; most often with none on p, loss a, C = 1/2 and none on p, loss b, C = 1/2 (3 of 6 "
        "each)."
    )
    runs = [runs_of({"none": NONE}, setting=f"p, {each}", collapsed={"none": 3}) for each in range(5)]
    assert "never recognised; most often in 5 rows" in screen_of(*runs).facts["Dead classes"]


def test_sizes_of_classes_and_what_c_means_are_said_for_one_data_set() -> None:
    sizes = {"original": (600, 600, 600), "1/2": (600, 300, 150)}
    rows = [
        {"dataset": "d", "data": data, "class": label, "class_count": size}
        for data, counts in sizes.items()
        for label, size in enumerate(counts)
    ]
    assert describe_data(pd.DataFrame(rows)) == (
        "3 classes; training images of the largest and of the smallest: 600 and 600 on the original set, "
        "600 and 150 on C = 1/2. C is the size of each class over that of the class before it."
    )
    natural = pd.DataFrame(rows[:3]).assign(data="exp 1")
    assert describe_data(natural).endswith("600 and 600 on exp 1.")
    assert describe_data(pd.DataFrame([rows[0], rows[0] | {"dataset": "e"}])) == ""
    assert describe_data(pd.DataFrame(rows).iloc[:0]) == ""


def test_few_seeds_say_nothing_of_the_sign() -> None:
    values = {"none": (0.5, 0.7, 0.6), "oversample": (0.6, 0.6, 0.8)}
    (answer,) = screen_of(runs_of(values)).answers
    *leads, certainty = answer.lines
    assert len(leads) == 1 and not any("significant" in line for line in leads)
    assert certainty.startswith("3 seeds cannot distinguish methods")


def test_what_changes_do_is_said_where_settings_differ() -> None:
    runs = [runs_of({"none": (0.5, 0.6)}, setting=setting) for setting in ("a", "b")]
    change = {"study": "q", "data": "1/2", "method": "none", "change": "loss", "metric": "accuracy"}
    numbers = {
        "mean_difference": -0.1,
        "difference_low": -0.2,
        "difference_high": 0.0,
        "verdict": "undecided",
    }
    compared = pd.DataFrame([change | numbers | {"cell": "b 1/2 none", "reference": "a 1/2 none"}])
    assert screen_of(*runs, ablations=compared).lines[0] == (
        "q: 1 comparison with a reference that differs in a choice or a few: 1 undecided (A1, with an "
        "interval for each alone). Largest difference: loss, on C = 1/2 with none: −10.00 (−20.00 to +0.00) "
        "points of accuracy."
    )
    within = compared.assign(cell="a 1/2 none")
    assert "q:" not in screen_of(*runs, ablations=within).lines[0]


def test_every_number_stands_in_the_table() -> None:
    runs = runs_of({"none": NONE, "oversample": above(NONE, *[0.10, 0.12] * 3)})
    tables = (leaders_table(leaders_frame(runs)), difference_table(compare(runs)))
    shown = " ".join(
        cell.text for table in tables for block in table.blocks() for row in block.rows for cell in row
    )
    (answer,) = screen_of(runs).answers
    said = re.findall(r"\d+\.\d+", " ".join([answer.reached, *answer.lines]))
    assert len(said) == 7 and set(said) <= set(re.findall(r"\d+\.\d+", shown))
