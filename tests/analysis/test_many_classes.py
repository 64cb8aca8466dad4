"""Of many classes, tables and figures show groups and the worst, and say what they leave out."""

from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from analysis.classes import (
    MAX_SHOWN,
    NUM_PAIRS,
    confused_pairs,
    recall_table,
    sampled_classes,
    shown_recalls,
    worst_classes,
)
from analysis.collect import read_results
from analysis.figures.classes import draw_confusions, draw_recalls, plot_pairs
from analysis.figures.generators import draw_grids, plot_grid
from analysis.tables.classes import class_table, has_classes_to_tell
from benchmarks import report
from lt_rebalance.cli.show import _render_classes
from lt_rebalance.data.catalog import DATASETS
from lt_rebalance.ground.confusion import Confusion
from lt_rebalance.ground.imbalance import count_groups, rank_groups
from lt_rebalance.monitoring.tensorboard.content import show_preview
from lt_rebalance.monitoring.tensorboard.pictures import draw_samples
from lt_rebalance.store import Store, open_store
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.training.device import resolve_execution


def make_classes(num_classes: int, recalls: dict[str, np.ndarray]) -> pd.DataFrame:
    """Return frames as `Results.classes`; recalls by key, whose method is what precedes the digit."""
    counts = [10 * (num_classes - label) for label in range(num_classes)]
    groups = {"rank_group": rank_groups(counts), "count_group": count_groups(counts)}
    frame = pd.concat(
        [
            pd.DataFrame(
                {
                    "setting": "sound",
                    "dataset": "pets (images@75d61863)",
                    "data": "original",
                    "method": key[:-1],
                    "key": key,
                    "class": range(num_classes),
                    "class_name": [f"kind {label}" for label in range(num_classes)],
                    "class_count": counts,
                    "recall": recall_K,
                }
            )
            for key, recall_K in recalls.items()
        ],
        ignore_index=True,
    )
    for column, of_column in groups.items():
        of_label = {label: name for name, labels in of_column.items() for label in labels}
        frame[column] = frame["class"].map(of_label)
    return frame


def many() -> pd.DataFrame:
    """Thirty classes, 300 down to 10 images; none hardly ever knows class 7, oversample class 8."""
    none_K = np.full(30, 0.5)
    none_K[7] = 0.0
    over_K = np.full(30, 0.7)
    over_K[8] = 0.1
    return make_classes(30, {"none0": none_K, "none1": none_K + 0.1, "oversample0": over_K})


def test_up_to_20_classes_are_shown_one_by_one() -> None:
    shown = shown_recalls(make_classes(MAX_SHOWN, {"none0": np.linspace(0, 0.95, MAX_SHOWN)}))
    assert shown["shown"].tolist() == [f"kind {label}" for label in range(20)]
    assert shown["recall"].tolist() == pytest.approx(np.linspace(0, 0.95, 20))


def test_of_more_classes_groups_and_the_worst_are_shown() -> None:
    classes = many()
    # Means over the three runs: class 7 has 0.8 / 3, class 8 has 1.2 / 3, all others 1.8 / 3; ties by label.
    assert worst_classes(classes) == [7, 8, 0, 1, 2]
    shown = shown_recalls(classes)
    of_one = shown[shown["key"] == "none0"].set_index("shown")
    assert of_one.index.tolist() == [
        *("head: 9 classes", "medium: 12 classes", "tail: 9 classes"),
        *("many-shot: 20 classes", "medium-shot: 9 classes", "few-shot: 1 class"),
        *("kind 7", "kind 8", "kind 0", "kind 1", "kind 2"),
    ]
    # Of the nine largest, class 7 has recall 0 and the others 0.5.
    assert of_one.loc["head: 9 classes", "recall"] == pytest.approx(8 * 0.5 / 9)
    assert of_one.loc["head: 9 classes", "class_count"] == sum(range(220, 301, 10))
    assert of_one.loc["few-shot: 1 class", "class_count"] == 10


def test_table_tells_recall_and_spread_of_each_method() -> None:
    table = recall_table(many())
    none = table[table["method"] == "none"].set_index("shown")
    assert len(table) == 2 * 11 and set(none["n"]) == {2}
    assert none.loc["kind 7", "recall"] == pytest.approx(0.05)
    assert none.loc["kind 7", "sd"] == pytest.approx(0.1 / np.sqrt(2))
    assert none.loc["kind 7", "class_count"] == 230
    shown = class_table(table, {"pets (images@75d61863)": [f"kind {label}" for label in range(30)]})
    assert "Of 30 classes" in shown.meaning and "left out" in shown.meaning
    (block,) = shown.blocks()
    assert block.rows[0][1].text == "head: 9 classes"
    assert [row[1].text for row in block.rows[12:16]] == ["kind 7"] * 2 + ["kind 8"] * 2
    assert [row[2].text for row in block.rows[:2]] == ["none", "oversample"]


@pytest.mark.parametrize(
    ("dataset", "num_classes", "is_shown"),
    [("fashion_mnist", 10, False), ("wide", 21, True), ("images@75d61863", 3, True)],
)
def test_classes_have_a_table_where_a_figure_does_not_say_all(
    dataset: str, num_classes: int, *, is_shown: bool
) -> None:
    cells = pd.DataFrame({"data.dataset": [dataset]})
    assert has_classes_to_tell(cells, {dataset: ("kind",) * num_classes}) is is_shown


def test_figure_of_many_classes_shows_groups_and_the_worst_and_says_so() -> None:
    classes = many()
    runs = classes.drop_duplicates("key").assign(state="complete", seed=0)
    (drawn,) = draw_recalls(classes, runs)
    names = [label.get_text() for label in drawn.figure.axes[0].get_xticklabels()]
    assert names[:2] == ["head: 9 classes", "medium: 12 classes"] and names[-5:-3] == ["kind 7", "kind 8"]
    assert len(names) == 11 and "Of 30 classes" in drawn.caption


def test_most_confused_pairs_come_first() -> None:
    # Of class 0, 3 of 4 are taken for 1; of class 1, 1 of 2 for 2. In the other run, 1 of class 0 is so.
    first = Confusion.of_matrix(np.array([[1, 3, 0], [0, 1, 1], [0, 0, 5]]))
    second = Confusion.of_matrix(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 5]]))
    pairs = confused_pairs([first, second])
    assert pairs == [(0, 1, pytest.approx((3 / 4 + 1 / 4) / 2)), (1, 2, pytest.approx(1 / 4))]
    axes = plot_pairs(Figure().subplots(), pairs, ["cat", "dog", "eel"])
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "cat, taken for dog",
        "dog, taken for eel",
    ]
    assert len(confused_pairs([Confusion.of_matrix(np.ones((30, 30), dtype=np.int64))])) == NUM_PAIRS
    assert confused_pairs([Confusion.of_matrix(np.eye(3, dtype=np.int64))]) == []


def test_grid_of_many_classes_shows_the_largest_and_the_smallest() -> None:
    assert sampled_classes([5, 9, 1]) == [0, 1, 2]
    counts = list(range(100))
    assert sampled_classes(counts) == [*range(99, 89, -1), *range(9, -1, -1)]


def test_colour_images_are_drawn_in_colour() -> None:
    images_KJCHW = np.zeros((1, 1, 3, 2, 2), dtype=np.uint8)
    images_KJCHW[0, 0, 0] = 200  # red
    axes = plot_grid(Figure().subplots(), images_KJCHW, ["cat"], [False])
    drawn = axes.get_images()[0].get_array()
    assert drawn is not None and drawn.shape == (4, 4, 3)
    assert drawn[0, 0].tolist() == [200, 0, 0] and drawn[3, 3].tolist() == [255, 255, 255]


def test_one_stage_of_many_classes_is_shown_by_groups_and_the_worst(tmp_path: Path) -> None:
    store = make_many(tmp_path, 30)
    results = read_results(store.location)
    record = store.read_record(str(results.runs["key"].iloc[0]))
    assert record is not None
    console = Console(width=200, file=StringIO(), record=True)
    for part in _render_classes(record, [f"kind {label}" for label in range(30)]):
        console.print(part)
    text = console.export_text()
    recall_K = record.read_confusion().recall_K
    assert f"head: 9 classes with {sum(record.class_counts[:9]):,} real images" in text
    assert f"mean recall {recall_K[:9].mean():.3f}" in text
    assert "of 30 classes, the 5 of lowest recall" in text
    worst = np.argsort(recall_K, kind="stable")[:5]
    assert [line.split()[2] for line in text.splitlines() if "kind" in line] == [str(each) for each in worst]


def make_many(root: Path, num_classes: int) -> Store:
    """Return the made-up store that reports of many classes are timed on."""
    store = open_store(str(root / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    execution = resolve_execution("cpu", "float32", 1, has_cuda=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, report.NAME, report.describe_dataset(num_classes))
        report.fill(store, report.make_plan(execution), np.random.default_rng(0))
    return store


def test_grids_and_pairs_of_many_classes_say_what_they_leave_out(tmp_path: Path) -> None:
    results = read_results(make_many(tmp_path, 30).location)
    captions = {each.name: each.caption for each in draw_grids(results)}
    assert "Of 30 classes, the 10 with most and the 10 with fewest" in captions["f8-samples-1"]
    (grid,) = [each.figure for each in draw_grids(results) if each.name == "f8-samples-1"]
    assert len(grid.axes[0].get_yticks()) == MAX_SHOWN
    (pairs,) = draw_confusions(results.runs, results.confusions, results.class_names)
    assert "10 pairs of 30 classes" in pairs.caption and "left out" in pairs.caption


def test_tensorboard_shows_colour_and_says_which_classes_are_left_out() -> None:
    samples_KSCHW = np.zeros((30, 2, 3, 16, 16), dtype=np.uint8)
    samples_KSCHW[:, :, 0] = 200  # red
    picture = draw_samples(samples_KSCHW[:1])
    with Image.open(BytesIO(picture.content)) as drawn:
        red, green, blue = np.moveaxis(np.asarray(drawn.convert("RGB"), dtype=np.int64), 2, 0)
    assert red.shape == (16, 32) and red.min() > 180 and max(green.max(), blue.max()) < 20
    (shown,) = show_preview(samples_KSCHW, (), [f"kind {label}" for label in range(30)])
    assert "Of 30 classes, the first 20." in str(shown)
