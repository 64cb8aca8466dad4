"""Users' images that would give wrong results, or that cannot be read, are refused with a remedy."""

import dataclasses
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lt_rebalance.data import at_hand
from lt_rebalance.ground import memory
from lt_rebalance.ground.errors import DataError
from lt_rebalance.images import archive, load, room
from lt_rebalance.images.apart import require_set_aside_apart
from lt_rebalance.images.cache import CACHE_DIR_VARIABLE
from lt_rebalance.images.load import Look, bring, load_own, look_at
from lt_rebalance.images.options import OwnOptions
from lt_rebalance.images.splitting import draw_split
from lt_rebalance.stages.inputs import InputReader, load_dataset_once
from lt_rebalance.store import open_store
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION, ClassifierStage
from lt_rebalance.studies.workload import require_workable
from lt_rebalance.training.configs import Budget, Execution
from tests.own_images import COUNTS, SIDE, draw_images, to_arrays, write_folder, write_npz


@pytest.fixture(autouse=True)
def _nothing_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(at_hand, "_AT_HAND", {})
    load_dataset_once.cache_clear()
    require_set_aside_apart.cache_clear()
    yield
    load_dataset_once.cache_clear()
    require_set_aside_apart.cache_clear()


def look(path: Path, **options: Any) -> Look:
    return look_at(str(path), OwnOptions(**options))


def make_arrays(**counts: tuple[int, ...]) -> dict[str, Any]:
    return to_arrays(draw_images(counts=counts))


def test_root_of_all_files_is_no_folder_of_pictures() -> None:
    with pytest.raises(DataError, match=r"^/ holds all files; name a folder of pictures"):
        look_at("/", OwnOptions())


# Splits that are drawn


def test_no_class_loses_its_last_group_to_a_drawn_split() -> None:
    """Class 0 takes group 0 or 1, then class 1 would take group 2, and class 2 has no other than 1 and 2."""
    labels_N = np.tile([0, 0, 1, 1, 2, 2], 20)
    groups_N = np.tile([0, 1, 0, 2, 1, 2], 20)
    for name in ("test", "validation"):
        is_drawn = draw_split(name, labels_N, groups_N, 0.2)
        assert np.bincount(labels_N[~is_drawn], minlength=3).min() == 20
        assert len(set(groups_N[is_drawn].tolist())) == 1


def test_class_whose_groups_others_share_is_refused_for_the_test_images_it_lacks(tmp_path: Path) -> None:
    arrays = make_arrays(train=(40, 40, 40))
    groups = np.concatenate([np.repeat(pair, 20) for pair in ([0, 1], [0, 2], [1, 2])])
    found = look(write_npz(tmp_path / "a.npz", {**arrays, "train_groups": groups}), test_fraction=0.2)
    assert min(found.counts["train"]) == 20
    (error,) = found.errors
    assert error.startswith("every class must have test images, got none of ")
    assert "in further groups if a split is drawn" in error


# Splits that share images


@pytest.mark.parametrize(("other", "split"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_no_split_may_repeat_another(tmp_path: Path, other: str, split: str) -> None:
    arrays = make_arrays(train=(6, 4, 3), val=(2, 3, 1), test=(2, 3, 1))
    arrays[f"{split}_images"][2] = arrays[f"{other}_images"][1]
    name, rest = ({"val": "validation"}.get(each, each) for each in (split, other))
    (error,) = look(write_npz(tmp_path / "a.npz", arrays)).errors
    assert error.startswith(
        f"at most 0.1% of the {name} images may be in {rest}, too, got 1 of 6 {name} images"
    )
    assert f"{split}_images[2], which equals {other}_images[1]; remove one of each two" in error


def test_set_that_was_prepared_under_fewer_rules_is_checked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path / "a.npz", make_arrays(**COUNTS))
    monkeypatch.setattr(load, "RULES", load.RULES - 1)
    assert look(path).own is not None
    monkeypatch.undo()
    monkeypatch.setenv(CACHE_DIR_VARIABLE, str(tmp_path / "cache"))
    seen = []
    monkeypatch.setattr(load, "check_counts", lambda *found: seen.append(found))
    assert look(path).own is not None and seen
    seen.clear()
    assert look(path).own is not None and not seen


# Pixels


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_each_split_must_run_to_255(tmp_path: Path, split: str) -> None:
    arrays = make_arrays(train=(6, 4, 3), val=(2, 3, 1), test=(2, 3, 1))
    arrays[f"{split}_images"] //= 128
    (error,) = look(write_npz(tmp_path / "a.npz", arrays)).errors
    name = {"val": "validation"}.get(split, split)
    assert error.startswith(f"pixels must run from 0 to 255, got 1 as the largest of all {name} images; ")


# Names of folders


@pytest.mark.parametrize(
    ("renamed", "remedy"),
    [
        ({"train": "training", "test": "testing"}, "rename testing to test and rename training to train; "),
        ({"train": "Train", "test": "Test"}, "rename Test to test and rename Train to train; "),
        ({"val": "valid"}, "rename valid to val; "),
        ({"val": "validation"}, "rename validation to val; "),
        ({"val": "VAL"}, "rename VAL to val; "),
    ],
)
def test_folder_whose_name_means_a_split_is_neither_a_class_nor_left_out(
    tmp_path: Path, renamed: dict[str, str], remedy: str
) -> None:
    root = write_folder(tmp_path / "pets", draw_images(counts={**COUNTS, "val": (1, 1, 1)}))
    for name, other in renamed.items():
        (root / name).rename(root / other)
    for options in ({}, {"test_fraction": 0.2}):
        with pytest.raises(DataError) as refusal:
            look(root, **options)
        assert str(refusal.value).startswith("folders of splits must be named train, val, test, got ")
        assert remedy in str(refusal.value)
    for name, other in renamed.items():  # the remedy helps
        (root / other).rename(root / name)
    assert look(root).own is not None


def test_folder_beside_that_of_its_split_is_to_be_merged(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pets", draw_images())
    (root / "training" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="got training; merge training into train; a class of such a name"):
        look(root)


def test_class_may_have_the_name_of_a_split(tmp_path: Path) -> None:
    images = draw_images()
    named = {
        split: dict(zip(("Test", "valid"), each.values(), strict=False)) for split, each in images.items()
    }
    assert look(write_folder(tmp_path / "a", named)).class_names == ("Test", "valid")
    flat = {"loose": named["train"]}
    own = look(write_folder(tmp_path / "b", flat) / "loose", test_fraction=0.2)
    assert own.class_names == ("Test", "valid")


def test_other_folder_beside_splits_is_left_out_as_a_folder(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pets", draw_images())
    (root / "extra" / "cat").mkdir(parents=True)
    assert "1 folder left out, not train, val or test: 'extra/'" in look(root).warnings


def test_folders_and_pictures_that_their_names_hide_are_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pets", draw_images())
    for name in ("fox~", ".gnu/group", ".git/objects/00", ".cache", ".ipynb_checkpoints", "~"):
        (root / "train" / name).mkdir(parents=True)
    for name in ("fox~", ".gnu/group"):
        (root / "train" / name / "0.png").write_bytes(b"")
    (root / "train" / ".cache" / "index").write_bytes(b"")
    for name in (".5.png", "5.png~", "._0.png", ".DS_Store", "Thumbs.db", "notes~"):
        (root / "train" / "cat" / name).write_bytes(b"")
    (root / "__MACOSX" / "train").mkdir(parents=True)
    (root / "training").mkdir()  # a folder that is looked into before
    (root / "training" / ".0.png").write_bytes(b"")
    for _ in range(2):
        hidden = [each for each in look(root).warnings if "hidden" in each]
        assert hidden == [
            "5 folders or pictures left out, hidden by ~ or a dot: "
            "'train/.gnu', 'train/cat/.5.png', 'train/cat/5.png~'"
        ]


def test_hidden_links_are_left_out_wherever_they_lead(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pets", draw_images())
    before = look(root).warnings
    for name, target in ((".loop", ".loop"), ("loop~", "loop~"), (".out", str(tmp_path)), (".gone", "gone")):
        (root / "train" / "cat" / name).symlink_to(target)
    assert look(root).warnings == before


def test_class_called_train_beside_others_is_to_be_put_into_a_folder_train(tmp_path: Path) -> None:
    images = draw_images()["train"]
    named = dict(zip(("car", "plane", "train"), images.values(), strict=True))
    root = write_folder(tmp_path, {"vehicles": named}) / "vehicles"
    with pytest.raises(
        DataError, match=r"got train/0.png; .*if train is a class like car/, put both into a folder"
    ):
        look(root, test_fraction=0.2)


def test_size_that_cannot_be_used_is_of_the_picture_that_is_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pets", draw_images())
    for split in COUNTS:
        for path in (root / split).rglob("*.png"):
            Image.new("RGB", (300, 300)).save(path)
    (root / "train" / "cat" / "0.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"got 300 x 300 in train/cat/1.png; resize"):
        look(root)


# Damaged files


PACKINGS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def pack(path: Path, arrays: dict[str, Any], packing: int) -> Path:
    with zipfile.ZipFile(path, "w", packing) as file:
        for name, array in arrays.items():
            with file.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array))
    return path


@pytest.mark.parametrize("packing", PACKINGS)
def test_damaged_bytes_are_refused_however_they_are_packed(tmp_path: Path, packing: int) -> None:
    path = pack(tmp_path / "a.npz", make_arrays(**COUNTS), packing)
    assert look(path).own is not None
    content = path.read_bytes()
    rng = np.random.default_rng(packing)
    for place in [*range(30, 180), *rng.integers(180, len(content) - 1, 60).tolist()]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            look(path)
        except DataError:
            continue  # whichever: some bytes are those of a shape or of a name


@pytest.mark.parametrize(
    ("whole", "damaged"),
    [(b"{'descr': '|u1'", b"V'descr': '|u1'"), (b"'|u1', 'f", b"'|u1',b'f"), (b"'|u1'", b"',u1'")],
)
def test_damaged_header_of_an_array_is_refused(tmp_path: Path, whole: bytes, damaged: bytes) -> None:
    """They are a TokenError, a TypeError and a SyntaxError of numpy, before the checksum is compared."""
    path = pack(tmp_path / "a.npz", make_arrays(**COUNTS), zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(whole, damaged))
    with pytest.raises(DataError, match="must be a whole npz, got a damaged one"):
        look(path)


@pytest.mark.parametrize("name", ["a.npz", "a.bin"])
def test_npz_without_its_end_is_a_damaged_one(tmp_path: Path, name: str) -> None:
    content = write_npz(tmp_path / "whole.npz", make_arrays(**COUNTS)).read_bytes()
    (tmp_path / name).write_bytes(content[:-200])
    with pytest.raises(
        DataError, match=r"must be a whole npz, got a damaged one \(its end is missing\); make it"
    ):
        look(tmp_path / name)


@pytest.mark.parametrize("part", ["class_names", "train_groups"])
def test_texts_that_are_not_utf_8_are_to_be_saved_as_text(tmp_path: Path, part: str) -> None:
    arrays = make_arrays(train=(1, 1, 1), test=(1, 1, 1))
    arrays[part] = np.array(["K\u00e4fer".encode("latin-1"), b"dog", b"eel"])
    with pytest.raises(DataError, match=rf"{part} must be text, got bytes that are not UTF-8 .* of dtype U"):
        look(write_npz(tmp_path / "a.npz", arrays))


# Sizes


def test_remedy_for_a_large_npz_is_one_that_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_npz(tmp_path / "a.npz", make_arrays(**COUNTS))
    monkeypatch.setattr(memory, "available_bytes", lambda: 10_000)
    with pytest.raises(DataError, match=r"; save them smaller, or fewer of them$"):
        look(path, grey=True)


@pytest.mark.parametrize("form", ["folder", "npz"])
@pytest.mark.parametrize("options", [{}, {"image_size": 64}])
def test_preparing_takes_no_more_memory_than_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, options: dict[str, int]
) -> None:
    rng = np.random.default_rng(0)
    images = {name: [rng.integers(0, 256, (48, 48, 3), np.uint8)] * 200 for name in ("cat", "dog", "eel")}
    tested = {name: [rng.integers(0, 256, (48, 48, 3), np.uint8) for _ in range(30)] for name in images}
    splits = {"train": images, "test": tested}
    path = (
        write_folder(tmp_path / "pets", splits)
        if form == "folder"
        else write_npz(tmp_path / "pets.npz", to_arrays(splits))
    )
    asked = []
    monkeypatch.setattr(archive, "_PIECE", 2**16)
    monkeypatch.setattr(room, "require_memory", lambda num_bytes, *_: asked.append(num_bytes))
    look(path, grey=True)  # what is imported and made once
    tracemalloc.start()
    try:
        asked.clear()
        assert look(path, **options).own is not None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    side = options.get("image_size", 48)
    assert 2 * 690 * 3 * side**2 <= asked[0] and peak < 1.15 * asked[0]


def test_remedy_for_images_that_a_resize_makes_too_large_is_a_smaller_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path / "a.npz", make_arrays(**COUNTS))
    monkeypatch.setattr(memory, "available_bytes", lambda: 100_000)
    with pytest.raises(DataError, match=r"; give a smaller --image-size, or save fewer of them$"):
        look(path, image_size=224)


@pytest.mark.parametrize(
    ("shape", "needed"),
    [
        ((6, 20, 20, 3), {"image_size": 16}),
        ((6, SIDE, SIDE), {"grey": True}),
        ((6, 20, 20, 1), {"image_size": 16, "grey": True}),
    ],
)
def test_splits_of_several_shapes_need_only_what_makes_them_alike(
    tmp_path: Path, shape: tuple[int, ...], needed: dict[str, Any]
) -> None:
    arrays = make_arrays(**COUNTS)
    arrays["test_images"] = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    path = write_npz(tmp_path / "a.npz", arrays)
    flags = {"image_size": "--image-size N", "grey": "--grey"}
    asked = " and ".join(flags[name] for name in needed)
    with pytest.raises(DataError, match=rf"; give {asked}, or save them alike$"):
        look(path)
    assert load_own(str(path), OwnOptions(**needed))[0].spec.test_counts_K == (2, 3, 1)


# Images that are set aside


def make_stage(name: str, protocol: Protocol, execution: Execution) -> ClassifierStage:
    short = dataclasses.replace(
        protocol,
        classifier_budget=Budget(steps=2, rounds=1),
        classifier_batch_size=4,
        validation_per_class=2,
    )
    return make_cell(short, dataset=name, c=None, method="none", generator=None).stage(0, execution)


@pytest.mark.parametrize("is_repeated", [False, True])
def test_copies_are_not_divided_between_training_and_what_is_set_aside(
    is_repeated: bool, tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    """Every class is one image four times, so whichever two are set aside, the other two equal them."""
    arrays = make_arrays(train=(4, 4, 4), test=(1, 1, 1))
    if is_repeated:
        arrays["train_images"] = arrays["train_images"][[0, 4, 8]].repeat(4, axis=0)
    name, _ = bring(str(write_npz(tmp_path / "a.npz", arrays)), OwnOptions())
    stage = make_stage(name, small_protocol, cpu_execution)
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    reader = InputReader(name, None, store, torch.device("cpu"))
    if not is_repeated:
        require_workable(stage)
        assert reader.read(stage).validation_set is not None
        return
    rule = r"got 6 of 6 \(100.00%\) that validation_per_class sets aside .*; .* --validation-fraction 0\.1$"
    with pytest.raises(ValueError, match=rule):
        require_workable(stage)
    with pytest.raises(DataError, match=rule):
        reader.read(stage)


def test_drawn_validation_split_keeps_copies_together(
    tmp_path: Path, small_protocol: Protocol, cpu_execution: Execution
) -> None:
    """That is the remedy: of the two images of a class, each twice, one is drawn with its copy."""
    arrays = make_arrays(train=(4, 4, 4), test=(1, 1, 1))
    arrays["train_images"][1::2] = arrays["train_images"][::2]
    name, _ = bring(str(write_npz(tmp_path / "a.npz", arrays)), OwnOptions(validation_fraction=0.5))
    stage = make_stage(name, small_protocol, cpu_execution)
    require_workable(stage)
    assert stage.data.validation == "own"
