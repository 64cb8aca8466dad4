"""A user's images: how they are identified, and how they are prepared once."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lt_rebalance.data.spec import DatasetSpec
from lt_rebalance.ground.errors import DataError
from lt_rebalance.images import archive, decoding, load
from lt_rebalance.images.cache import CACHE_DIR_VARIABLE
from lt_rebalance.images.load import find_prepared, look_at
from lt_rebalance.images.options import OwnOptions
from tests.own_images import (
    CLASSES,
    COUNTS,
    SIDE,
    draw_images,
    get,
    identity,
    to_arrays,
    write_folder,
    write_npz,
)


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
