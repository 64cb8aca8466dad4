"""Checks of the sets whose class counts no source gives: they are read from the labels, before any image."""

import dataclasses
import gzip
import hashlib
import io
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lt_rebalance.data import at_hand, counting
from lt_rebalance.data.at_hand import described, hand_on, say_dataset, take_in
from lt_rebalance.data.catalog import DATASETS, get_dataset_spec, know_all_counts
from lt_rebalance.data.files import load_dataset
from lt_rebalance.data.long_tail import DataConfig
from lt_rebalance.ground.errors import DataError

NAMES = ("emnist_byclass", "emnist_bymerge")
TRAIN, TEST = (61, 0, 0, 46, 1), (0, 46, 61)
"""labels of the tiny splits of both sets, except that 61 is 45 in the smaller set"""
Labels = tuple[list[int], list[int]]


def make_images(labels: Sequence[int]) -> NDArray[np.uint8]:
    """Return upright `images_NHW` that are brighter the higher their label, with a mark in the first row."""
    images_NHW = np.empty((len(labels), 28, 28), np.uint8)
    for image_HW, label in zip(images_NHW, labels, strict=True):
        image_HW[:] = 2 * label
        image_HW[0, 20] = 255
    return images_NHW


def pack_emnist(name: str, train: Sequence[int], test: Sequence[int]) -> bytes:
    """Return the archive of EMNIST with one of its sets; images are transposed in it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for split, labels in (("train", train), ("test", test)):
            stem = f"gzip/emnist-{name.removeprefix('emnist_')}-{split}"
            lying = make_images(labels).transpose(0, 2, 1)
            head = struct.pack(">4B3I", 0, 0, 8, 3, *lying.shape)
            archive.writestr(f"{stem}-images-idx3-ubyte.gz", gzip.compress(head + lying.tobytes(), mtime=0))
            head = struct.pack(">4BI", 0, 0, 8, 1, len(labels))
            archive.writestr(f"{stem}-labels-idx1-ubyte.gz", gzip.compress(head + bytes(labels), mtime=0))
    return content.getvalue()


def put_emnist(patch: pytest.MonkeyPatch, root: Path, name: str, labels: Labels) -> Path:
    """Put a tiny archive in the place of EMNIST's, and register its checksum and sizes; return its path."""
    content = pack_emnist(name, *labels)
    path = root / DATASETS[name].folder / "gzip.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    entry = dataclasses.replace(
        DATASETS[name],
        num_images=(len(labels[0]), len(labels[1])),
        md5_by_file={"gzip.zip": hashlib.md5(content).hexdigest()},
    )
    patch.setitem(DATASETS, name, entry)
    return path


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(autouse=True)
def _nothing_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_hand, "_AT_HAND", {})
    monkeypatch.setattr(counting, "_place", (None, False))


@pytest.fixture
def labels(name: str) -> Labels:
    last = DATASETS[name].num_classes - 1
    return [min(label, last) for label in TRAIN], [min(label, last) for label in TEST]


@pytest.fixture
def archive(name: str, labels: Labels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the tiny archive, in a data directory where this process looks."""
    path = put_emnist(monkeypatch, tmp_path, name, labels)
    counting.look_in(tmp_path)
    return path


def count(labels: Sequence[int], num_classes: int) -> tuple[int, ...]:
    return tuple(labels.count(label) for label in range(num_classes))


def natural(name: str) -> DataConfig:
    return DataConfig(dataset=name, c=None, subset_draw=None, class_order=None, validation_per_class=0)


def test_entries_are_as_the_publisher_tells_but_for_class_counts(name: str) -> None:
    torchvision_datasets = pytest.importorskip("torchvision.datasets")
    spec = DATASETS[name]
    known = torchvision_datasets.EMNIST.classes_split_dict[name.removeprefix("emnist_")]
    assert list(spec.class_names) == known and spec.num_classes == len(known)
    assert spec.num_images == (697_932, 116_323) and spec.train_counts_K == spec.test_counts_K == ()
    assert dict(spec.urls) == {torchvision_datasets.EMNIST.url: torchvision_datasets.EMNIST.md5}
    assert spec.name == name and spec.licence and spec.citation and not spec.may_flip


def test_class_counts_are_those_of_the_labels(name: str, labels: Labels, archive: Path) -> None:
    spec = get_dataset_spec(name)
    assert spec.train_counts_K == count(labels[0], spec.num_classes)
    assert spec.test_counts_K == count(labels[1], spec.num_classes)
    assert spec.identity == DATASETS[name].identity and say_dataset(name) == name
    archive.unlink()  # they are read once
    assert get_dataset_spec(name) is spec


def test_images_become_known_arrays(name: str, labels: Labels, archive: Path, tmp_path: Path) -> None:
    dataset = load_dataset(name, tmp_path)
    assert dataset.train_labels_N.tolist() == labels[0] and dataset.test_labels_N.tolist() == labels[1]
    assert np.array_equal(dataset.train_images_NCHW[:, 0], make_images(labels[0]))
    assert np.array_equal(dataset.test_images_NCHW[:, 0], make_images(labels[1]))


def test_data_directory_of_a_call_goes_before_that_of_the_process(name: str, archive: Path) -> None:
    root = archive.parents[2]
    counting.look_in(root / "elsewhere")
    with pytest.raises(DataError, match=rf"{name}: gzip\.zip missing in {root}/elsewhere/EMNIST/raw; place"):
        get_dataset_spec(name)
    assert sum(get_dataset_spec(name, root).train_counts_K) == len(TRAIN)


def test_missing_archive_is_told_before_any_configuration(name: str, tmp_path: Path) -> None:
    counting.look_in(tmp_path)
    with pytest.raises(DataError) as error:
        natural(name)
    said = str(error.value)
    assert "\n" not in said
    for part in (name, str(tmp_path / "EMNIST" / "raw"), *DATASETS[name].urls, "give a sweep --download"):
        assert part in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda train: [*train, 1], r"\d bytes instead of 13"),
        (lambda train: train[1:], r"\(4, 3\) training and test images instead of \(5, 3\)"),
        (lambda train: [99, *train[1:]], r"label 99 in a set of (62|47) classes"),
    ],
)
def test_labels_of_another_set_are_refused(
    change: Callable[[list[int]], list[int]], said: str, name: str, labels: Labels, archive: Path
) -> None:
    archive.write_bytes(pack_emnist(name, change(labels[0]), labels[1]))
    with pytest.raises(DataError, match=rf"{name}: {archive}: not in layout 'emnist' .*{said}.*remove it"):
        get_dataset_spec(name)


@pytest.mark.parametrize("content", [b"", b"no archive", pack_emnist("emnist_balanced", [0], [0])])
def test_archive_without_the_labels_is_refused(content: bytes, name: str, archive: Path) -> None:
    archive.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: {archive}: not in layout 'emnist' .*remove it"):
        get_dataset_spec(name)


def test_archive_of_the_same_labels_is_refused_by_its_checksum(
    name: str, labels: Labels, archive: Path, tmp_path: Path
) -> None:
    archive.write_bytes(archive.read_bytes().replace(b"PK\x01\x02\x14", b"PK\x01\x02\x15", 1))
    assert get_dataset_spec(name).train_counts_K == count(labels[0], DATASETS[name].num_classes)
    with pytest.raises(DataError, match=rf"{name}: {archive}: md5 differs"):
        load_dataset(name, tmp_path)


def test_missing_archive_is_fetched_where_that_is_asked_for(
    name: str, archive: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    utils = pytest.importorskip("torchvision.datasets.utils")
    content = archive.read_bytes()
    archive.unlink()

    def fetch(url: str, root: str, *, md5: str) -> None:
        assert {url: md5} == DATASETS[name].urls
        (Path(root) / "gzip.zip").write_bytes(content)

    monkeypatch.setattr(utils, "download_url", fetch)
    counting.look_in(tmp_path, download=True)
    assert sum(get_dataset_spec(name).train_counts_K) == len(TRAIN)


def test_what_a_driver_counted_is_handed_on_to_workers(name: str, archive: Path) -> None:
    stages = [{"data": {"dataset": name}}, {"data": {"dataset": "mnist"}}]
    assert hand_on(stages) == []
    spec = get_dataset_spec(name)
    handed_on = hand_on(stages)
    archive.unlink()
    at_hand._AT_HAND.clear()
    take_in(handed_on)
    assert get_dataset_spec(name) == spec


def test_documents_tell_the_counts_where_the_archive_is_gone(name: str, archive: Path) -> None:
    counts, plain = get_dataset_spec(name).counts, get_dataset_spec(name).to_plain()
    archive.unlink()
    at_hand._AT_HAND.clear()
    with described([plain]):
        assert get_dataset_spec(name).counts == counts
    assert at_hand.find(name) is None
    know_all_counts({name: counts, "mnist": {"train": (1,), "test": (1,)}, "images@12345678": {}})
    assert get_dataset_spec(name).counts == counts and sum(get_dataset_spec("mnist").train_counts_K) == 60_000


def test_counts_of_a_document_that_do_not_add_up_are_refused(name: str, archive: Path) -> None:
    counts = get_dataset_spec(name).counts
    at_hand._AT_HAND.clear()
    with pytest.raises(ValueError, match=r"\(5, 5\) training and test images instead of \(5, 3\)"):
        know_all_counts({name: {**counts, "test": counts["train"]}})
