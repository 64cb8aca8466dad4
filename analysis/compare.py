"""Compare methods, paired by seed within a setting and C, with corrections declared beforehand."""

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.estimates import Interval, mean_interval, sample_sd, sd_interval
from analysis.leading import leading_of, require_metric
from analysis.naming import BLOCK_COLUMNS, in_order, method_rank, split
from analysis.power import fewest_seeds, find_seeds, sign_flip_effect
from analysis.significance import (
    Share,
    benjamini_hochberg,
    better_share,
    correlation,
    d_z,
    fisher_p,
    hedges_g_av,
    holm,
    paired_t_p,
    rope_probabilities,
    sign_flip_p,
    tost_p,
    wilcoxon_p,
)
from analysis.variance import seed_components
from lt_rebalance.ground.metrics import METRICS, is_higher_better, leading_metric
from lt_rebalance.ground.values import LARGEST

ALPHA = 0.05
MARGIN = 0.005
"""half a point of accuracy: the region of practical equivalence"""
MIN_PAIRS = fewest_seeds(ALPHA)
"""pairs below which there is no verdict: the sign-flip test cannot reach .05, and a sd is too uncertain"""
MAX_SPAN = 10
"""largest ratio of the squared ends of a sd's interval, and so of the seeds that they require, at which the
sd counts as known; below 8 pairs it is exceeded"""
EXPLORATORY = "exploratory"
"""value of the column `family` for contrasts of no family"""


def margin_of(metric: str) -> float:
    """Return the margin of equivalence of a metric: `MARGIN` of its range, or 0, so none, without a range."""
    require_metric(metric)
    low, high = METRICS[metric].low, METRICS[metric].high
    return MARGIN * (high - low) if max(-low, high) < LARGEST else 0.0


@dataclass(frozen=True, kw_only=True)
class Family:
    """Contrasts declared before results were read; Holm's correction runs over all of them."""

    name: str
    hypotheses: tuple[str, ...]
    metric: str
    data: tuple[str, ...]
    methods: tuple[str, ...]
    comparators: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.name in ("", EXPLORATORY):
            raise ValueError(
                f"a declared family needs a name other than {EXPLORATORY!r}, which marks the contrasts of "
                f"none, got {self.name!r}; rename it in families.toml"
            )
        require_metric(self.metric)

    @property
    def size(self) -> int:
        """Contrasts declared for one setting."""
        return len(self.data) * len(self.methods) * len(self.comparators)

    def holds(self, data: str, method: str, comparator: str, metric: str) -> bool:
        """Whether a contrast is one of the family."""
        return (
            metric == self.metric
            and data in self.data
            and method in self.methods
            and comparator in self.comparators
        )


def load_families() -> tuple[Family, ...]:
    """Return the families that families.toml declares; errors as `read_families`."""
    return read_families(resources.files("analysis").joinpath("families.toml").read_text(encoding="utf-8"))


def read_families(text: str) -> tuple[Family, ...]:
    """Return the families that a text like that of families.toml declares.

    Raises:
        ValueError: a field that is missing, unknown or of another type, two families of one name, or a
            contrast that the report never tests: it would count in Holm's correction and never be seen.
    """
    families = tuple(_read_family(each) for each in tomllib.loads(text)["family"])
    names = [family.name for family in families]
    if len(set(names)) < len(names):
        raise ValueError(f"families.toml declares two families of one name, got {', '.join(names)}")
    return families


def _read_family(declared: Mapping[str, Any]) -> Family:  # Any: values of TOML, checked here
    texts, lists = ("name", "metric"), ("hypotheses", "data", "methods", "comparators")
    if set(declared) != {*texts, *lists}:
        fields, got = ", ".join((*texts, *lists)), ", ".join(declared)
        raise ValueError(f"a family in families.toml has the fields {fields}, no more and no less, got {got}")
    for name in (*texts, *lists):
        each = [declared[name]] if name in texts else declared[name]
        if not (isinstance(each, list) and each and all(isinstance(word, str) for word in each)):
            kind = "a text" if name in texts else "a list of texts"
            raise ValueError(f"{name} of a family in families.toml is {kind}, got {declared[name]!r}")
    family = Family(
        name=declared["name"],
        metric=declared["metric"],
        **{name: tuple(declared[name]) for name in lists},
    )
    tested = tuple(leading_metric(is_test_balanced=balanced) for balanced in (True, False))
    if family.metric not in tested:
        raise ValueError(
            f"the metric of family {family.name!r} in families.toml must be one that leads a report "
            f"({' or '.join(tested)}), for only these are tested as declared, got {family.metric!r}"
        )
    for method in family.methods:
        for comparator in family.comparators:
            if method == comparator or method_rank(method) < method_rank(comparator):
                raise ValueError(
                    f"in a contrast the comparator is the one that the paper lists first, got {method!r} "
                    f"minus {comparator!r} in family {family.name!r} of families.toml; exchange them"
                )
    return family


def runs_of(runs: pd.DataFrame, comparisons: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that the studies of these comparisons plan for their cells.

    Args:
        runs: rows of `Results.runs`; other studies may plan more runs of the same cells.
        comparisons: rows of `Results.comparisons`.
    """
    return runs[runs["key"].isin({key for keys in comparisons["keys"] for key in keys})]


def pair(runs: pd.DataFrame, first: str, second: str, metric: str) -> pd.DataFrame:
    """Return `first`, `second` and their `difference` at the seeds at which both cells are complete."""
    return _pair(complete_table(runs, [first, second], metric), first, second)


def _pair(table: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    firsts, seconds = table[first], table[second]
    is_known = firsts.notna() & seconds.notna()
    pairs = pd.DataFrame({"first": firsts, "second": seconds, "difference": firsts - seconds})
    return pairs[is_known]


def complete_table(runs: pd.DataFrame, cells: Sequence[str], metric: str) -> pd.DataFrame:
    """Return a metric with seeds as rows and cells as columns, at the seeds at which all are complete.

    Raises:
        ValueError: no such metric or cell in these runs.
    """
    require_metric(metric, runs)
    if unknown := sorted(set(cells) - set(runs["cell"].unique())):
        raise ValueError(f"unknown cell {unknown[0]!r}; known are those of the column `cell` of these runs")
    return spread_out(runs[runs["cell"].isin(cells)], cells, metric).dropna()


def spread_out(runs: pd.DataFrame, cells: Sequence[str], metric: str) -> pd.DataFrame:
    """Return a metric of complete runs with seeds as rows and cells as columns, nan where there is none."""
    table = runs[runs["state"] == "complete"].pivot(index="seed", columns="cell", values=metric)
    return table.reindex(columns=list(cells)).astype(np.float64).sort_index()


def describe_difference(
    paired: pd.DataFrame, metric: str = "accuracy", margin: float = MARGIN
) -> dict[str, float]:
    """Return the statistics of one contrast, named as in `compare`, without corrections and verdict."""
    first, second, differences = (paired[name].to_numpy() for name in ("first", "second", "difference"))
    interval = mean_interval(differences)
    share, share_interval = _better_share(differences if is_higher_better(metric) else -differences)
    rope = rope_probabilities(differences, margin)
    n = len(differences)
    return {
        "n_pairs": n,
        "mean_difference": float(differences.mean()) if n else np.nan,
        "difference_low": interval.low,
        "difference_high": interval.high,
        "difference_sd": sample_sd(differences),
        "g_av": hedges_g_av(first, second),
        "d_z": d_z(differences),
        "r": correlation(first, second),
        "sign_flip_p": sign_flip_p(differences),
        "t_p": paired_t_p(differences),
        "wilcoxon_p": wilcoxon_p(differences),
        "better_share": share,
        "better_share_low": share_interval.low,
        "better_share_high": share_interval.high,
        "p_below": rope.below,
        "p_inside": rope.inside,
        "p_above": rope.above,
        "tost_p": tost_p(differences, margin),
    }


def _better_share(differences: NDArray[np.float64]) -> Share:
    """Return `better_share` with its interval; ties count half in both."""
    share, (low, high) = better_share(differences)
    untied = float(np.mean(differences != 0)) if len(differences) else math.nan
    ends = ((1 - untied) / 2 + untied * end for end in (low, high))
    return Share(share, Interval(*ends))


def compare(
    runs: pd.DataFrame,
    metric: str | None = None,
    margin: float = MARGIN,
    families: Sequence[Family] | None = None,
) -> pd.DataFrame:
    """Return every contrast of two methods within a setting and C, one row each.

    Columns: those of the setting and its training data (`setting`, `protocol`, `dataset`, `data`); `method`,
    `comparator` (the difference is method minus comparator, the one that the paper lists later minus the
    earlier) and `metric`; `n_expected` planned pairs, `n_diverged` of them without a difference because a run
    of theirs diverged, `n_pairs` with one; `mean_difference` with its Student t interval at 95 %
    (`difference_low`, `difference_high`) and its standard deviation `difference_sd`; `g_av` (Hedges) and
    `d_z`; `r`, the correlation of the pairs; p values `sign_flip_p` (primary), `t_p` and
    `wilcoxon_p`; `better_share` of pairs won, ties half, with a Clopper-Pearson interval
    (`better_share_low`, `better_share_high`); `p_below`, `p_inside` and `p_above` the margin (Student t
    posterior); `tost_p` of equivalence within it; `family`, the declared family or "exploratory"; `holm_p`
    within a family (contrasts of it that were not run count as p = 1), `bh_q` over the exploratory contrasts
    of the setting, never both; `verdict`: "better" or "worse" if the corrected p value is below 0.05, else
    "equivalent" if `tost_p` is, else "undecided"; always "undecided" below 6 pairs.

    Args:
        metric: the one that leads in each setting by default.
        margin: the region of practical equivalence, in the metric's unit.
        families: declared beforehand; those of families.toml by default.

    Raises:
        ValueError: no such metric in these runs.
    """
    if metric is not None:
        require_metric(metric, runs)
    families = load_families() if families is None else families
    rows = [
        names
        | {"method": method, "comparator": comparator, "metric": of_block}
        | count_pairs(block, cell, comparator_cell)
        | describe_difference(_pair(table, cell, comparator_cell), of_block, margin)
        | {"family": _family_name(families, names["data"], method, comparator, of_block)}
        for names, block in split(runs)
        for of_block in [metric or leading_of(block)]
        for table in [spread_out(block, list(block["cell"].unique()), of_block)]
        for method, cell, comparator, comparator_cell in _contrasts(block)
    ]
    if not rows:
        return pd.DataFrame()
    contrasts = _correct(pd.DataFrame(rows), families)
    corrected = contrasts["bh_q"].where(contrasts["family"] == EXPLORATORY, contrasts["holm_p"])
    contrasts["verdict"] = [
        decide(row, p_value, row["metric"]) for row, p_value in zip(_dicts(contrasts), corrected, strict=True)
    ]
    return contrasts


def _contrasts(block: pd.DataFrame) -> Iterator[tuple[str, str, str, str]]:
    cells = block.drop_duplicates("method").set_index("method")["cell"]
    order = in_order(block["method"])
    for index, method in enumerate(order):
        for comparator in order[:index]:
            yield method, cells[method], comparator, cells[comparator]


def count_pairs(runs: pd.DataFrame, first: str, second: str) -> dict[str, int]:
    """Return the number of planned pairs of two cells, and of those in which a run diverged."""
    seeds_and_states = runs[["seed", "state"]].to_numpy(dtype=object)
    states, others = (dict(seeds_and_states[(runs["cell"] == cell).to_numpy()]) for cell in (first, second))
    both = [(state, others[seed]) for seed, state in states.items() if seed in others]
    return {"n_expected": len(both), "n_diverged": sum("diverged" in pair for pair in both)}


def _family_name(families: Sequence[Family], data: str, method: str, comparator: str, metric: str) -> str:
    names = [family.name for family in families if family.holds(data, method, comparator, metric)]
    return names[0] if names else EXPLORATORY


def _correct(contrasts: pd.DataFrame, families: Sequence[Family]) -> pd.DataFrame:
    contrasts["holm_p"] = np.nan
    contrasts["bh_q"] = np.nan
    sizes = {family.name: family.size for family in families}
    for (_, family), same in contrasts.groupby(["setting", "family"], sort=False):
        if family == EXPLORATORY:
            contrasts.loc[same.index, "bh_q"] = benjamini_hochberg(same["sign_flip_p"])
        else:
            contrasts.loc[same.index, "holm_p"] = holm(same["sign_flip_p"], sizes[str(family)])
    return contrasts


def decide(difference: Mapping[str, Any], p_value: float, metric: str) -> str:
    """Return the verdict on a paired difference: the one rule, for contrasts, ablations and confirmations.

    "better" or "worse" where the p value is below .05, else "equivalent" where the TOST is, else
    "undecided"; and that always below `MIN_PAIRS`.

    Args:
        difference: as `describe_difference` returns it.
        p_value: of the sign-flip test, corrected as declared.
        metric: says which direction is better.

    Raises:
        ValueError: nothing is known of that metric.
    """
    if difference["n_pairs"] < MIN_PAIRS:
        return "undecided"
    if p_value < ALPHA:
        return "better" if (difference["mean_difference"] > 0) == is_higher_better(metric) else "worse"
    return "equivalent" if difference["tost_p"] < ALPHA else "undecided"


def _dicts(frame: pd.DataFrame) -> list[dict[str, Any]]:  # Any: names and numbers
    records: list[dict[str, Any]] = frame.to_dict("records")
    return records


def compare_collapse(runs: pd.DataFrame) -> pd.DataFrame:
    """Return collapse rates of each method against method none of its setting and C, by Fisher's exact test.

    Exploratory: `bh_q` corrects over all rows of a setting.
    """
    rows = []
    for names, block in split(runs):
        complete = block[block["state"] == "complete"]
        counts = {
            method: (int(same["is_collapsed"].sum()), len(same))
            for method, same in complete.groupby("method", sort=False)
        }
        for method in in_order(counts):
            if method != "none" and "none" in counts:
                (k, n), (k_none, n_none) = counts[method], counts["none"]
                row = {"method": method, "collapsed": k, "n": n, "collapsed_none": k_none, "n_none": n_none}
                rows.append(names | row | {"fisher_p": fisher_p(k, n, k_none, n_none)})
    frame = pd.DataFrame(rows)
    if len(frame):
        for _, same in frame.groupby("setting", sort=False):
            frame.loc[same.index, "bh_q"] = benjamini_hochberg(same["fisher_p"])
    return frame


def power_table(contrasts: pd.DataFrame, families: Sequence[Family] | None = None) -> pd.DataFrame:
    """Return the power of each contrast: T5.

    Columns: the contrast; `n_pairs`; `difference_sd` with its chi-square interval at 95 % (`sd_low`,
    `sd_high`), and `r`; `detectable`, the smallest true difference that the sign-flip test finds with power
    .8 at this n, alone, and `detectable_in_family` at Holm's first step in the declared family (nan for
    exploratory contrasts); `seeds` and `seeds_in_family` that it takes to find a difference of `MARGIN`. Each
    with `_low` and `_high`, for the ends of the interval of the sd. What a test of n pairs cannot reach is
    infinite. If `is_sd_known` is false, the sd is too uncertain and the values are to be read as unknown.
    """
    families = load_families() if families is None else families
    sizes = {family.name: family.size for family in families}
    rows = []
    for row in _dicts(contrasts):
        n, sd = int(row["n_pairs"]), row["difference_sd"]
        low, high = _sd_interval(n, sd)
        described = {name: row[name] for name in [*BLOCK_COLUMNS, "method", "comparator", "n_pairs", "r"]}
        described |= {"family": row["family"], "difference_sd": sd, "sd_low": low, "sd_high": high}
        for suffix, size in (("", 1), ("_in_family", sizes.get(str(row["family"])))):
            for end, value in (("", sd), ("_low", low), ("_high", high)):
                effect = math.nan if size is None or not sd > 0 else sign_flip_effect(n, size)
                described[f"detectable{suffix}{end}"] = _scale(effect, value)
                described[f"seeds{suffix}{end}"] = (
                    math.nan if size is None or not sd > 0 else find_seeds(MARGIN, value, size)
                )
        described["is_sd_known"] = bool((high / low) ** 2 <= MAX_SPAN)
        rows.append(described)
    return pd.DataFrame(rows)


def _sd_interval(n: int, sd: float) -> tuple[float, float]:
    """Return the chi-square interval of a sd of n values; nan below two values."""
    if n < 2 or not sd > 0:
        return math.nan, math.nan
    unit = np.linspace(-1, 1, n)
    factors = sd_interval(unit / unit.std(ddof=1))  # of n values whose sd is 1
    return factors.low * sd, factors.high * sd


def _scale(effect: float, sd: float) -> float:
    """Return an effect in sds as a difference; one beyond 100 points cannot be found."""
    difference = effect * sd
    return math.inf if difference > 1 else difference


def components_table(runs: pd.DataFrame, metric: str | None = None) -> pd.DataFrame:
    """Return the variance components of runs within each setting and C: T4.

    `seed_sd` is what all methods of one seed share (subset, initial weights); `residual_sd` is specific to
    each run; both in the metric's unit, with 90 % bootstrap intervals over seeds. Over the seeds at which all
    of the block's methods are complete; where there are not two, over the methods and seeds that leave most
    degrees of freedom, and then `left_out` names the other methods. The metric is the one that leads, unless
    one is given.

    Raises:
        ValueError: no such metric in these runs.
    """
    if metric is not None:
        require_metric(metric, runs)
    rows = []
    for names, block in split(runs):
        of_block = metric or leading_of(block)
        complete = block[block["state"] == "complete"]
        wide = complete.pivot_table(index="seed", columns="method", values=of_block, observed=True)
        table = _largest_complete(wide)
        values_SM: NDArray[np.float64] = table.to_numpy(dtype=np.float64)
        num_seeds, num_methods = values_SM.shape
        if num_seeds < 2 or num_methods < 2:
            continue
        components = seed_components(values_SM)
        row = names | {"metric": of_block, "n_seeds": num_seeds, "num_methods": num_methods}
        for name in ("seed", "residual"):
            component = getattr(components, name)
            low, high = component.interval
            row |= {f"{name}_sd": component.sd, f"{name}_low": low, f"{name}_high": high}
        left_out = ", ".join(in_order(set(wide.columns) - set(table.columns)))
        rows.append(row | ({"left_out": left_out} if left_out else {}))
    frame = pd.DataFrame(rows)
    return frame.fillna({"left_out": ""}) if "left_out" in frame else frame


def _largest_complete(table: pd.DataFrame) -> pd.DataFrame:
    """Return rows and columns without a gap: all columns, if they share two rows.

    Otherwise the rows that two columns share, with every column that has them all; of these, what leaves most
    degrees of freedom.
    """
    complete = table.dropna()
    if len(complete) >= 2:
        return complete
    is_known = table.notna()
    shared = [is_known[[*two]].all(axis=1) for two in itertools.combinations(table.columns, 2)]
    parts = [table.loc[rows, is_known[rows].all()] for rows in shared if rows.sum() >= 2]
    return max(parts, key=lambda part: (len(part) - 1) * (part.shape[1] - 1), default=complete)
