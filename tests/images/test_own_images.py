"""A user's images: how they are identified, how they are split, and how they are prepared once."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.errors import DataError
from lt_rebalance.images import archive, arrangement, decoding, load
from lt_rebalance.images.cache import CACHE_DIR_VARIABLE
from lt_rebalance.images.load import DRAWN, OwnSet, find_prepared, load_own, look_at
from lt_rebalance.images.options import OwnOptions
from lt_rebalance.images.splitting import draw_split
from tests.own_images import CLASSES, COUNTS, SIDE, draw_images, to_arrays, write_folder, write_npz


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory in which prepared images are kept; empty before each test."""
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "lt_rebalance"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with every picture that is decoded and every npz that is read."""
    seen: list[str] = []
    decode, read_archive = decoding.decode, archive.read_archive

    def decode_noted(path: str, options: OwnOptions, expected: tuple[int, int] | None) -> object:
        seen.append(path)
        return decode(path, options, expected)

    def read_noted(path: Path, options: OwnOptions) -> object:
        seen.append(str(path))
        return read_archive(path, options)

    monkeypatch.setattr(decoding, "decode", decode_noted)
    monkeypatch.setattr(load, "read_archive", read_noted)
    return seen


def get(path: Path, **options: object) -> OwnSet:
    return load_own(str(path), OwnOptions(**options))[0]  # type: ignore[arg-type]


def identity(path: Path, **options: object) -> str:
    return get(path, **options).spec.identity


# What comes out


def test_folder_becomes_arrays_and_a_description(tmp_path: Path) -> None:
    images = draw_images()
    own = get(write_folder(tmp_path / "pets", images))
    assert own.spec.name == f"images@{own.spec.identity[:8]}"
    assert (own.spec.class_names, own.spec.image_shape) == (CLASSES, (3, SIDE, SIDE))
    assert (own.spec.train_counts_K, own.spec.test_counts_K) == (COUNTS["train"], COUNTS["test"])
    assert own.dataset.train_labels_N.tolist() == [0] * 6 + [1] * 4 + [2] * 3
    found = {image.tobytes() for image in own.dataset.train_images_NCHW[6:10]}
    assert found == {np.moveaxis(image, 2, 0).tobytes() for image in images["train"]["dog"]}
    assert isinstance(own.dataset.train_images_NCHW, np.memmap)


@pytest.mark.parametrize("num_channels", [1, 3])
def test_folder_and_npz_of_the_same_images_are_the_same_set(tmp_path: Path, num_channels: int) -> None:
    images = draw_images(num_channels)
    folder, npz = (
        write_folder(tmp_path / "pets", images),
        write_npz(tmp_path / "pets.npz", to_arrays(images)),
    )
    assert get(folder).spec == get(npz).spec
    for options in ({"image_size": 20}, {"grey": True}, {"image_size": 24, "grey": True}):
        assert get(folder, **options).spec == get(npz, **options).spec


def test_same_images_elsewhere_under_other_names_are_the_same_set(tmp_path: Path) -> None:
    images = draw_images()
    first = identity(write_folder(tmp_path / "pets", images))
    turned = {
        split: {name: each[::-1] for name, each in classes.items()} for split, classes in images.items()
    }
    assert identity(write_folder(tmp_path / "elsewhere" / "animals", turned)) == first
    arrays = to_arrays(images)
    order = np.random.default_rng(1).permutation(13)
    arrays["train_images"], arrays["train_labels"] = (
        arrays["train_images"][order],
        arrays["train_labels"][order],
    )
    arrays["train_labels"] = arrays["train_labels"].astype(np.uint8)[:, np.newaxis]
    assert identity(write_npz(tmp_path / "shuffled.npz", arrays)) == first


@pytest.mark.parametrize("change", ["pixel", "label", "split", "group", "missing"])
def test_any_change_of_content_makes_another_set(tmp_path: Path, change: str) -> None:
    arrays = to_arrays(draw_images())
    first = identity(write_npz(tmp_path / "pets.npz", arrays))
    if change == "pixel":
        arrays["test_images"][3, 5, 5, 1] ^= 1
    elif change == "label":
        arrays["train_labels"][0] = 1
    elif change == "split":
        for part in ("images", "labels"):
            arrays[f"val_{part}"] = arrays[f"train_{part}"][-1:]
            arrays[f"train_{part}"] = arrays[f"train_{part}"][:-1]
    elif change == "group":
        arrays["train_groups"] = np.arange(13) // 2
    else:
        arrays["train_images"], arrays["train_labels"] = (
            arrays["train_images"][1:],
            arrays["train_labels"][1:],
        )
    assert identity(write_npz(tmp_path / "pets.npz", arrays)) != first


def test_resizing_is_antialiased_and_the_same_for_both_forms(tmp_path: Path) -> None:
    lines = np.zeros((64, 64), np.uint8)
    lines[:, ::2] = 255  # which nothing but an average of neighbours shows as grey
    images = {
        split: {name: [np.roll(lines, shift, axis=1)] for shift, name in enumerate(CLASSES[:2])}
        for split in ("train", "test")
    }
    for split, value in {"train": 0, "test": 9}.items():
        for name in CLASSES[:2]:
            images[split][name][0] = images[split][name][0].copy()
            images[split][name][0][:4] = value + 40 * CLASSES.index(name)
    own = get(write_folder(tmp_path / "lines", images), image_size=16)
    inner = own.dataset.train_images_NCHW[:, 0, 4:-2, 2:-2]
    assert inner.min() > 110 and inner.max() < 145


def test_description_travels_as_json(tmp_path: Path) -> None:
    spec = get(write_folder(tmp_path / "pets", draw_images())).spec
    back = DatasetSpec.from_plain(json.loads(json.dumps(spec.to_plain())))
    assert back == spec and back.identity == spec.identity and back.is_own and not back.is_embedded


def test_validation_split_and_groups_are_kept(tmp_path: Path) -> None:
    arrays = to_arrays(draw_images(counts={**COUNTS, "val": (1, 1, 2)}))
    arrays["train_groups"] = np.array([f"track {number // 2}" for number in range(13)])
    own = get(write_npz(tmp_path / "pets.npz", arrays))
    assert own.spec.validation_counts_K == (1, 1, 2) and own.spec.has_groups
    assert own.dataset.validation_labels_N is not None and own.dataset.train_groups_N is not None
    assert own.dataset.validation_labels_N.tolist() == [0, 1, 2, 2]
    sizes = np.bincount(own.dataset.train_groups_N)
    assert sizes.tolist().count(2) == 6 and sizes.tolist().count(1) == 1


def test_folders_inside_a_class_are_groups(tmp_path: Path) -> None:
    images = draw_images()
    root = write_folder(tmp_path / "pets", {"test": images["test"]})
    for name, each in images["train"].items():
        for number, image in enumerate(each):
            (root / "train" / name / f"{name}{number // 2}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / "train" / name / f"{name}{number // 2}" / f"{number}.png")
    arrays = to_arrays(images)
    arrays["train_groups"] = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6])
    assert get(root).spec.identity == identity(write_npz(tmp_path / "pets.npz", arrays))


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


# The cache


@pytest.mark.parametrize("form", ["folder", "npz"])
def test_second_load_decodes_nothing(tmp_path: Path, reads: list[str], form: str) -> None:
    images = draw_images()
    path = (
        write_folder(tmp_path / "pets", images)
        if form == "folder"
        else write_npz(tmp_path / "pets.npz", to_arrays(images))
    )
    first = look_at(str(path), OwnOptions())
    assert reads
    reads.clear()
    second = look_at(str(path), OwnOptions())
    assert reads == []
    assert first.own is not None and second.own is not None and second.own.spec == first.own.spec
    assert second.warnings == first.warnings and second.counts == first.counts and second.sizes == first.sizes
    assert np.array_equal(second.own.dataset.test_images_NCHW, first.own.dataset.test_images_NCHW)


def test_warnings_on_files_that_are_not_used_are_those_of_today(tmp_path: Path, reads: list[str]) -> None:
    root = write_folder(tmp_path / "pets", draw_images())
    assert not any("left out" in each for each in look_at(str(root), OwnOptions()).warnings)
    reads.clear()
    (root / "notes.txt").write_text("")
    assert "1 file left out, not png, jpg or webp: 'notes.txt'" in look_at(str(root), OwnOptions()).warnings
    (root / "notes.txt").unlink()
    assert not any("left out" in each for each in look_at(str(root), OwnOptions()).warnings)
    assert reads == []


def test_changed_pixel_is_seen_though_size_and_time_are_as_they_were(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pets", draw_images())
    file = root / "train" / "cat" / "0.png"
    first, before = identity(root), file.stat()
    content = file.read_bytes()
    with Image.open(file) as image:
        pixels = np.array(image)
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(file)
    file.write_bytes(file.read_bytes().ljust(len(content), b"\0"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert identity(root) != first


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("sets/*/train_images.npy", lambda content: content[:-1] + bytes([content[-1] ^ 1])),
        ("sets/*/train_images.npy", lambda content: content[:-100]),
        ("sets/*/test_labels.npy", lambda content: content[:-8] + b"\1" + bytes(7)),
        ("sets/*/test_labels.npy", lambda content: b""),
        ("sets/*/train_labels.npy", None),
        ("sources/*.json", lambda content: content.replace(b"cat", b"rat")),
        ("sources/*.json", lambda content: b"[]"),
    ],
)
def test_damaged_cache_is_noticed_and_remade(
    tmp_path: Path, cache: Path, reads: list[str], file: str, damage: Callable[[bytes], bytes] | None
) -> None:
    root = write_folder(tmp_path / "pets", draw_images())
    first = get(root)
    pixels = np.array(first.dataset.train_images_NCHW)
    (path,) = cache.glob(file)
    if damage is None:
        path.unlink()
    else:
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(damage(content))
    reads.clear()
    again = get(root)
    assert reads and again.spec == first.spec and np.array_equal(again.dataset.train_images_NCHW, pixels)
    reads.clear()
    assert get(root).spec == first.spec and reads == []
    assert [path.name for path in (cache / "sets").iterdir()] == [first.spec.identity]


@pytest.mark.filterwarnings("error")
def test_arrays_go_to_torch_without_a_warning(tmp_path: Path) -> None:
    own = get(write_folder(tmp_path / "pets", draw_images(counts={**COUNTS, "val": (1, 1, 1)})))
    arrays = [array for array in vars(own.dataset).values() if array is not None]
    assert [torch.from_numpy(array).shape == array.shape for array in arrays] == [True] * 6


def test_worker_finds_arrays_by_identity_alone(tmp_path: Path, cache: Path) -> None:
    own = get(write_folder(tmp_path / "pets", draw_images()))
    found = find_prepared(own.spec)
    assert found is not None and np.array_equal(found.train_images_NCHW, own.dataset.train_images_NCHW)
    for path in (cache / "sets").rglob("*.npy"):
        path.unlink()
    assert find_prepared(own.spec) is None


def test_writing_into_arrays_leaves_the_cache_as_it_is(tmp_path: Path, cache: Path) -> None:
    own = get(write_folder(tmp_path / "pets", draw_images()))
    (file,) = cache.glob("sets/*/train_images.npy")
    before = file.read_bytes()
    own.dataset.train_images_NCHW[0, 0, 0, 0] ^= 255
    assert file.read_bytes() == before


def test_nobody_else_may_look_into_the_cache(tmp_path: Path, cache: Path) -> None:
    cache.mkdir(parents=True, mode=0o777)
    cache.chmod(0o777)
    before = os.umask(0)
    try:
        get(write_folder(tmp_path / "pets", draw_images()))
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in [cache, *cache.rglob("*")]}
    assert modes == {0o700, 0o600}


def test_cache_of_a_link_or_of_nothing_is_refused(tmp_path: Path, cache: Path) -> None:
    root = write_folder(tmp_path / "pets", draw_images())
    (tmp_path / "other").mkdir()
    cache.parent.mkdir()
    cache.symlink_to(tmp_path / "other")
    with pytest.raises(DataError, match=CACHE_DIR_VARIABLE):
        get(root)
    cache.unlink()
    cache.write_text("")
    with pytest.raises(DataError, match=CACHE_DIR_VARIABLE):
        get(root)


PREPARE = """
import sys
from lt_rebalance.images import load
from lt_rebalance.images.options import OwnOptions
read, count = load.decode_folder, []
def noted(*arguments):
    print("decoding", flush=True)
    sys.stdin.readline()
    return read(*arguments)
load.decode_folder = noted
print(load.load_own(sys.argv[1], OwnOptions())[0].spec.identity, flush=True)
"""


def test_two_processes_at_once_decode_once(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pets", draw_images())
    start = [sys.executable, "-c", PREPARE, str(root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(start, **pipes)  # type: ignore[call-overload]
    assert first.stdout.readline() == "decoding\n"
    second = subprocess.Popen(start, **pipes)  # type: ignore[call-overload]
    assert "waiting" in second.stderr.readline()
    out, _ = first.communicate("\n")
    assert second.communicate("\n")[0] == out == f"{identity(root)}\n"


def test_leftovers_of_killed_processes_go_after_a_day(tmp_path: Path, cache: Path) -> None:
    root = write_folder(tmp_path / "pets", draw_images())
    old, new = cache / "sets" / ".writing-old", cache / "sets" / ".writing-new"
    for path in (old, new):
        path.mkdir(parents=True)
    os.utime(old, (time.time() - 90_000,) * 2)
    get(root)
    assert not old.exists() and new.exists()
