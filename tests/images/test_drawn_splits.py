"""Splits that are drawn of a user's images: shares of classes, whole groups, and groups that share images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lt_rebalance.images import arrangement
from lt_rebalance.images.cache import CACHE_DIR_VARIABLE
from lt_rebalance.images.load import DRAWN, load_own, look_at
from lt_rebalance.images.options import OwnOptions
from lt_rebalance.images.splitting import draw_split
from tests.own_images import (
    draw_images,
    get,
    identity,
    to_arrays,
    write_folder,
    write_npz,
)


@pytest.fixture(autouse=True)
def _new_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path / "cache"))


# Test splits that are drawn


def test_drawn_test_split_is_stratified_and_follows_from_content(tmp_path: Path) -> None:
    images = draw_images(counts={"train": (20, 10, 5)})
    own = get(write_folder(tmp_path / "pets", images), test_fraction=0.2)
    assert own.spec.test_counts_K == (4, 2, 1) and own.spec.train_counts_K == (16, 8, 4)
    both = [*own.dataset.train_images_NCHW, *own.dataset.test_images_NCHW]
    assert len({image.tobytes() for image in both}) == 35
    loose = write_folder(tmp_path, {"loose": images["train"]}) / "loose"
    assert identity(loose, test_fraction=0.2) == own.spec.identity
    assert identity(loose, test_fraction=0.4) != own.spec.identity


def test_validation_split_is_drawn_by_group_of_what_is_not_tested_on(tmp_path: Path) -> None:
    arrays = to_arrays(draw_images(counts={"train": (40, 40, 24)}))
    groups = np.arange(104) // 4
    path = write_npz(tmp_path / "a.npz", {**arrays, "train_groups": groups})
    tested = get(path, test_fraction=0.2)
    own = get(path, test_fraction=0.2, validation_fraction=0.25)
    assert own.spec.test_counts_K == tested.spec.test_counts_K == (8, 8, 4)
    assert own.spec.validation_counts_K == (8, 8, 4) and own.spec.train_counts_K == (24, 24, 16)
    assert own.spec.identity != tested.spec.identity
    assert own.dataset.train_groups_N is not None
    assert set(np.bincount(own.dataset.train_groups_N).tolist()) <= {0, 4}
    before = {image.tobytes() for image in tested.dataset.train_images_NCHW}
    assert own.dataset.validation_images_NCHW is not None
    chosen = {image.tobytes() for image in own.dataset.validation_images_NCHW}
    left = {image.tobytes() for image in own.dataset.train_images_NCHW}
    assert not chosen & left and chosen | left == before


@pytest.mark.parametrize(
    ("brought", "fractions", "said"),
    [
        (
            {"val": (5, 5, 5)},
            {"test_fraction": 0.25},
            ["test split was drawn: 12 of 48 images, about 0.25"],
        ),
        (
            {},
            {"test_fraction": 0.25, "validation_fraction": 0.25},
            [
                "test split was drawn: 12 of 48 images, about 0.25",
                "validation split was drawn: 9 of 36 images",
            ],
        ),
        ({"test": (5, 5, 5)}, {"validation_fraction": 0.25}, ["validation split was drawn: 12 of 48 images"]),
    ],
)
def test_note_on_a_drawn_split_counts_the_images_that_it_was_drawn_from(
    brought: dict[str, tuple[int, ...]], fractions: dict[str, float], said: list[str], tmp_path: Path
) -> None:
    images = draw_images(counts={"train": (20, 16, 12), **brought})
    _, warnings = load_own(str(write_folder(tmp_path / "pets", images)), OwnOptions(**fractions))
    drawn = [each for each in warnings if each.startswith(DRAWN)]
    assert len(drawn) == len(said)
    assert all(part in note for part, note in zip(said, drawn, strict=True))


def test_class_of_a_single_group_is_named_where_a_validation_split_is_drawn(tmp_path: Path) -> None:
    arrays = to_arrays(draw_images(counts={"train": (12, 12, 3), "test": (1, 1, 1)}))
    look = look_at(
        str(write_npz(tmp_path / "a.npz", {**arrays, "train_groups": np.arange(27) // 3})),
        OwnOptions(validation_fraction=0.25),
    )
    assert look.counts["validation"] == (3, 3, 0)
    (said,) = [each for each in look.warnings if "without validation images: 1 class, such as " in each]
    assert "which cannot be divided if groups and equal images stay together; a search cannot" in said


def test_drawn_test_split_tears_no_group_and_no_equal_images_apart(tmp_path: Path) -> None:
    arrays = to_arrays(draw_images(counts={"train": (12, 12, 12)}))
    groups = np.arange(36) // 3
    own = get(write_npz(tmp_path / "a.npz", {**arrays, "train_groups": groups}), test_fraction=0.25)
    assert own.spec.test_counts_K == (3, 3, 3)
    assert own.dataset.train_groups_N is not None
    assert np.bincount(own.dataset.train_groups_N).tolist() == [3] * 9
    arrays["train_images"][1::2] = arrays["train_images"][::2]
    own = get(write_npz(tmp_path / "b.npz", arrays), test_fraction=0.5)
    train, test = (
        {each.tobytes() for each in images}
        for images in (own.dataset.train_images_NCHW, own.dataset.test_images_NCHW)
    )
    assert len(train) == len(test) == 9 and not train & test


def test_group_of_several_classes_serves_the_smallest_first() -> None:
    labels_N = np.array([0] * 8 + [1] * 2)
    groups_N = np.array([0, 1, 2, 3, 4, 5, 6, 7, 6, 7])
    is_tested = draw_split("test", labels_N, groups_N, 0.25)
    assert is_tested[8:].sum() == 1 and is_tested[labels_N == 0].sum() == 2
    assert [is_tested[groups_N == group].all() for group in (6, 7)] == [
        is_tested[groups_N == group].any() for group in (6, 7)
    ]


@pytest.mark.parametrize(
    ("sizes", "fraction", "drawn"),
    [
        *(((60, 10, 10, 10, 10), 0.2, 20), ((39, 20, 20, 21), 0.2, 20), ((18, 10, 10, 62), 0.1, 10)),
        *(((100, 5), 0.1, 5), ((30, 40, 30), 0.1, 30), ((9, 11), 0.01, 9), ((15, 7, 78), 0.2, 22)),
    ],
)
def test_class_takes_no_group_that_is_too_large_where_another_comes_nearer(
    sizes: tuple[int, ...], fraction: float, drawn: int
) -> None:
    num_classes = 10
    labels_N = np.repeat(np.arange(num_classes), sum(sizes))
    groups_N = np.repeat(np.arange(num_classes * len(sizes)), sizes * num_classes)
    is_drawn = draw_split("test", labels_N, groups_N, fraction)
    assert np.bincount(labels_N[is_drawn]).tolist() == [drawn] * num_classes
    others = groups_N[is_drawn] % len(sizes)
    assert len(sizes) < 5 or len(set(others.tolist())) == 4  # which of equal ones is drawn by chance


def test_class_whose_share_of_a_drawn_split_is_far_off_is_named(tmp_path: Path) -> None:
    arrays = to_arrays(draw_images(counts={"train": (20, 40, 20)}))
    groups = np.repeat(np.arange(12), [10, 10, *[4] * 10])
    path = write_npz(
        tmp_path / "a.npz", {**arrays, "train_groups": np.concatenate([groups, groups[:20] + 99])}
    )
    own, warnings = load_own(str(path), OwnOptions(test_fraction=0.1))
    assert own.spec.test_counts_K == (10, 4, 10)
    (far,) = [each for each in warnings if each.startswith("the test split has ")]
    assert "10 of 20 images of 'cat', and not 0.1 of them, and too large or small a share of 1 other" in far
    assert "groups and equal images together" in next(each for each in warnings if each.startswith(DRAWN))


@pytest.mark.parametrize(
    ("copies", "identity_before"),
    [
        ({}, "436b51b0"),
        ({place: place - 1 for place in range(1, 35, 2)}, "9e96f9f0"),
        ({place: 20 for place in range(21, 29)}, "37c6ddbc"),
    ],
)
def test_drawn_split_without_groups_stays_as_it_was(
    tmp_path: Path, copies: dict[int, int], identity_before: str
) -> None:
    """Results name a set by its identity: another draw would orphan them."""
    arrays = to_arrays(draw_images(counts={"train": (20, 10, 5)}))
    for place, other in copies.items():
        arrays["train_images"][place] = arrays["train_images"][other]
    assert identity(write_npz(tmp_path / "a.npz", arrays), test_fraction=0.1).startswith(identity_before)


# Groups that share images


def make_linked_groups() -> dict[str, Any]:
    """Return 24 groups of 4; groups 0, 1 and 2 are linked by images that two share, 6 and 7 have the same."""
    arrays = to_arrays(draw_images(counts={"train": (40, 40, 16), "test": (3, 3, 3)}))
    images = arrays["train_images"]
    images[4], images[8] = images[0], images[5]
    images[28:32] = images[24:28]
    return {**arrays, "train_groups": np.array([f"p{place // 4:02d}" for place in range(96)])}


@pytest.mark.parametrize("fractions", [{}, {"validation_fraction": 0.25}])
def test_identity_follows_from_groups_and_not_from_their_names_or_order(
    tmp_path: Path, fractions: dict[str, float]
) -> None:
    arrays = make_linked_groups()
    first = identity(write_npz(tmp_path / "a.npz", arrays), **fractions)
    names, groups = np.unique(arrays["train_groups"], return_inverse=True)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        order = rng.permutation(96)
        other = {part: arrays[part][order] for part in ("train_images", "train_labels")}
        other["train_groups"] = rng.permutation(names)[groups][order]
        assert identity(write_npz(tmp_path / "b.npz", {**arrays, **other}), **fractions) == first
    moved = arrays["train_groups"].copy()
    moved[4], moved[0] = moved[0], moved[4]  # equal images, so the groups have what they had
    assert identity(write_npz(tmp_path / "b.npz", {**arrays, "train_groups": moved}), **fractions) == first
    moved[4], moved[20] = moved[20], moved[4]
    assert identity(write_npz(tmp_path / "b.npz", {**arrays, "train_groups": moved}), **fractions) != first


def test_identity_follows_from_groups_that_several_splits_have(tmp_path: Path) -> None:
    """Groups 6 and 7 have the same images in one split, so that only the other tells them from each other."""
    arrays = make_linked_groups()
    arrays["test_images"][1] = arrays["test_images"][0]
    arrays["test_groups"] = np.array([f"p{number:02d}" for number in (7, 6, 7, 3, 3, 90, 91, 91, 6)])
    first = identity(write_npz(tmp_path / "a.npz", arrays))
    everywhere = np.concatenate([arrays["train_groups"], arrays["test_groups"]])
    names, groups = np.unique(everywhere, return_inverse=True)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        renamed = np.split(rng.permutation(names)[groups], [96])
        other = dict(arrays)
        for split, groups_N in zip(("train", "test"), renamed, strict=True):
            order = rng.permutation(len(groups_N))
            other |= {f"{split}_{part}": arrays[f"{split}_{part}"][order] for part in ("images", "labels")}
            other[f"{split}_groups"] = groups_N[order]
        assert identity(write_npz(tmp_path / "b.npz", other)) == first
    moved = arrays["test_groups"].copy()
    moved[0] = "p05"
    assert identity(write_npz(tmp_path / "b.npz", {**arrays, "test_groups": moved})) != first


def make_blanks(num_images: int) -> dict[str, Any]:
    """Return three classes of 8 groups; the first image of every group is the same one."""
    arrays = to_arrays(draw_images(counts={"train": (num_images,) * 3}))
    arrays["train_groups"] = np.arange(3 * num_images) // (num_images // 8)
    arrays["train_images"][:: num_images // 8] = arrays["train_images"][0]
    return arrays


@pytest.mark.parametrize("num_images", [40, 9600])
def test_image_that_all_groups_share_does_not_keep_a_class_from_a_split(
    tmp_path: Path, num_images: int
) -> None:
    path = write_npz(tmp_path / "a.npz", make_blanks(num_images))
    look = look_at(str(path), OwnOptions(test_fraction=0.25))
    assert look.counts["test"] == (num_images // 4,) * 3
    (note,) = [each for each in look.warnings if "share images with others" in each]
    twin = num_images // 8
    assert "24 groups share images with others, such as train_images[0], which equals " in note
    assert f"train_images[{twin}], and are drawn apart from them" in note
    drawn = next(each for each in look.warnings if each.startswith(DRAWN))
    assert "of each class, groups together" in drawn
    leaks = [each for each in (*look.errors, *look.warnings) if "that are also in train, such as" in each]
    assert len(leaks) == 1 and (leaks == look.errors) == (num_images == 40)


def test_error_on_a_class_without_test_images_names_the_groups_that_share_images(tmp_path: Path) -> None:
    """Every class is in two of the three groups that are left when those with an equal image count as one."""
    arrays = to_arrays(draw_images(counts={"train": (40, 40, 40)}))
    groups = np.concatenate([np.repeat(pair, 20) for pair in ([0, 1], [0, 2], [1, 3])])
    arrays["train_images"][60] = arrays["train_images"][119]
    path = write_npz(tmp_path / "a.npz", {**arrays, "train_groups": groups})
    (error,) = look_at(str(path), OwnOptions(test_fraction=0.2)).errors
    assert error.startswith("every class must have test images, got none of ")
    assert ", where 2 groups share images with others, such as train_images[60], which equals " in error
    assert "train_images[119], and count as one with them; add some, in further groups" in error


def test_groups_that_share_an_image_are_drawn_together_also_through_others(tmp_path: Path) -> None:
    arrays = make_linked_groups()
    del arrays["test_images"], arrays["test_labels"]
    ranks_N = np.unique(arrays["train_images"].reshape(96, -1), axis=0, return_inverse=True)[1].reshape(-1)
    joined_N = arrangement.join_groups(arrays["train_groups"], ranks_N)
    assert len(set(joined_N[:12].tolist())) == 1 and len(set(joined_N[24:32].tolist())) == 1
    assert len(set(joined_N.tolist())) == 24 - 3
    for number, fraction in enumerate(np.linspace(0.1, 0.9, 9)):
        path = write_npz(tmp_path / f"{number}.npz", arrays)
        own = get(path, test_fraction=fraction)
        train, test = (
            {each.tobytes() for each in images}
            for images in (own.dataset.train_images_NCHW, own.dataset.test_images_NCHW)
        )
        assert not train & test
