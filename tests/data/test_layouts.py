"""Checks of the layouts: tiny files in the official formats, read through the catalogue into known arrays."""

import bz2
import dataclasses
import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import urllib.error
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from numpy.typing import NDArray
from PIL import Image

from lt_rebalance.data.catalog import DATASETS
from lt_rebalance.data.files import load_dataset
from lt_rebalance.data.long_tail import GROUP_SIZES
from lt_rebalance.data.spec import Dataset
from lt_rebalance.ground.errors import DataError
from lt_rebalance.stages.inputs import InputReader
from lt_rebalance.stages.kinds import run_stage
from lt_rebalance.store import open_store
from lt_rebalance.studies.plan import compile_study
from lt_rebalance.studies.protocols import Protocol, make_cell
from lt_rebalance.studies.stage import RESULTS_VERSION
from lt_rebalance.studies.study import Study
from lt_rebalance.training.configs import Execution
from lt_rebalance.training.device import torch_version
from tests.stages.toy import SHORT

TRAIN, TEST = (0, 1, 1, 2, 0), (2, 0, 1)
"""labels of the tiny splits, of three classes"""
Files = dict[str, bytes]
Splits = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def draw(shape: tuple[int, int, int]) -> Splits:
    """Return `images_NCHW` of both splits."""
    rng = np.random.default_rng(0)
    train, test = (rng.integers(0, 256, (len(of), *shape), dtype=np.uint8) for of in (TRAIN, TEST))
    return train, test


def make_cifar(label_key: str, train_files: tuple[str, ...], test_file: str) -> tuple[Files, Splits]:
    """Pickle batches of rows of 3072 bytes, as Python 2 wrote them: protocol 2, text as bytes."""
    images = draw((3, 32, 32))
    pixels = np.array_split(images[0], len(train_files))
    labels = np.array_split(np.array(TRAIN), len(train_files))
    batches = [*zip(train_files, pixels, labels, strict=True), (test_file, images[1], np.array(TEST))]
    files = {
        file: pickle.dumps(
            {"data": pixels.reshape(-1, 3072), label_key: labels.tolist(), "filenames": ["a.png"]}, 2
        )
        for file, pixels, labels in batches
    }
    return files, images


def make_svhn() -> tuple[Files, Splits]:
    images = draw((3, 32, 32))
    files = {}
    for file, pixels, labels in (("train_32x32.mat", images[0], TRAIN), ("test_32x32.mat", images[1], TEST)):
        content = io.BytesIO()
        tens = np.array([[label or 10] for label in labels], dtype=np.uint8)
        scipy.io.savemat(content, {"X": pixels.transpose(2, 3, 1, 0), "y": tens})
        files[file] = content.getvalue()
    return files, images


def make_usps() -> tuple[Files, Splits]:
    images = draw((1, 16, 16))
    files = {}
    for file, pixels, labels in (("usps.bz2", images[0], TRAIN), ("usps.t.bz2", images[1], TEST)):
        lines = []
        for image, label in zip(pixels, labels, strict=True):
            # Half a grey level above, so that what is cut off to 8 bits is the level itself.
            values = (image.reshape(-1) + 0.5) / 255 * 2 - 1
            pairs = " ".join(f"{place + 1}:{value:.6f}" for place, value in enumerate(values))
            lines.append(f"{label + 1} {pairs} ")
        files[file] = bz2.compress("\n".join(lines).encode())
    return files, images


def make_emnist() -> tuple[Files, Splits]:
    images = draw((1, 28, 28))
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("gzip/emnist-letters-train-images-idx3-ubyte.gz", b"not read")
        for split, pixels, labels in (("train", images[0], TRAIN), ("test", images[1], TEST)):
            stem = f"gzip/emnist-balanced-{split}"
            lying = pixels[:, 0].transpose(0, 2, 1)
            head = struct.pack(">4B3I", 0, 0, 8, 3, *lying.shape)
            archive.writestr(f"{stem}-images-idx3-ubyte.gz", gzip.compress(head + lying.tobytes()))
            head = struct.pack(">4BI", 0, 0, 8, 1, len(labels))
            archive.writestr(f"{stem}-labels-idx1-ubyte.gz", gzip.compress(head + bytes(labels)))
    return {"gzip.zip": content.getvalue()}, images


def to_ppm(image_CHW: NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image_CHW.transpose(1, 2, 0)).save(content, "PPM")
    return content.getvalue()


def zip_up(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, each in members.items():
            archive.writestr(name, each)
    return content.getvalue()


def make_gtsrb() -> tuple[Files, Splits]:
    """Write images of 32 x 32, which are not resized; class 0 has two tracks, classes 1 and 2 one."""
    images = draw((3, 32, 32))
    by_class = np.argsort(TRAIN, kind="stable")
    frames = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, 1), (2, 0, 0)]
    root = "GTSRB/Final_Training/Images"
    train = {
        f"{root}/{label:05d}/{track:05d}_{frame:05d}.ppm": to_ppm(images[0][place])
        for (label, track, frame), place in zip(frames, by_class, strict=True)
    }
    train |= {f"{root}/00000/GT-00000.csv": b"Filename;Width", "GTSRB/Readme-Images.txt": b"read me"}
    test = {f"GTSRB/Final_Test/Images/{place:05d}.ppm": to_ppm(each) for place, each in enumerate(images[1])}
    rows = [f"{place:05d}.ppm;32;32;5;5;27;27;{label}" for place, label in enumerate(TEST)]
    table = "\r\n".join(["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId", *rows])
    files = {
        "GTSRB_Final_Training_Images.zip": zip_up(train),
        "GTSRB_Final_Test_Images.zip": zip_up(test),
        "GTSRB_Final_Test_GT.zip": zip_up({"GT-final_test.csv": table.encode()}),
    }
    return files, (images[0][by_class], images[1])


MAKERS: dict[str, Callable[[], tuple[Files, Splits]]] = {
    "cifar10": lambda: make_cifar(
        "labels", tuple(f"data_batch_{number}" for number in range(1, 6)), "test_batch"
    ),
    "cifar100": lambda: make_cifar("fine_labels", ("train",), "test"),
    "svhn": make_svhn,
    "usps": make_usps,
    "emnist_balanced": make_emnist,
    "gtsrb": make_gtsrb,
}


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Put tiny files in the place of a set's files, and an entry of their size in the place of its entry."""

    def put(name: str, files: Files, **changes: Any) -> None:
        spec = DATASETS[name]
        folder = tmp_path / spec.folder
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        entry = dataclasses.replace(
            spec,
            **{
                "num_classes": 3,
                "class_names": ("a", "b", "c"),
                "train_counts_K": (2, 2, 1),
                "test_counts_K": (1, 1, 1),
                "md5_by_file": {file: hashlib.md5(content).hexdigest() for file, content in files.items()},
                **changes,
            },
        )
        monkeypatch.setitem(DATASETS, name, entry)

    return put


def load(name: str, tmp_path: Path) -> Dataset:
    return load_dataset(name, tmp_path)


@pytest.mark.parametrize("name", MAKERS)
def test_files_in_the_official_format_become_known_arrays(
    name: str, register: Callable[..., None], tmp_path: Path
) -> None:
    files, (train, test) = MAKERS[name]()
    register(name, files)
    dataset = load(name, tmp_path)
    assert np.array_equal(dataset.train_images_NCHW, train)
    assert np.array_equal(dataset.test_images_NCHW, test)
    assert dataset.train_labels_N.tolist() == (sorted(TRAIN) if name == "gtsrb" else list(TRAIN))
    assert dataset.test_labels_N.tolist() == list(TEST)
    assert dataset.train_images_NCHW.flags.c_contiguous and dataset.train_images_NCHW.flags.writeable
    if name == "gtsrb":
        assert dataset.train_groups_N is not None and dataset.train_groups_N.tolist() == [0, 1, 2, 2, 3]


def test_stage_on_signs_sets_whole_tracks_aside(
    register: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_protocol: Protocol,
    cpu_execution: Execution,
) -> None:
    """Three tracks of two frames a class; a frame is of one colour, which names its track."""
    monkeypatch.setitem(GROUP_SIZES, "gtsrb", 2)
    files, _ = make_gtsrb()
    frames = [(label, track, frame) for label in range(3) for track in range(3) for frame in range(2)]
    files["GTSRB_Final_Training_Images.zip"] = zip_up(
        {
            f"GTSRB/Final_Training/Images/{label:05d}/{track:05d}_{frame:05d}.ppm": to_ppm(
                np.full((3, 32, 32), 10 * label + track, dtype=np.uint8)
            )
            for label, track, frame in frames
        }
    )
    register("gtsrb", files, train_counts_K=(6, 6, 6))
    protocol = dataclasses.replace(small_protocol, validation_per_class=2)
    cell = make_cell(protocol, dataset="gtsrb", c="natural", method="none", generator=None)
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    inputs = InputReader("gtsrb", str(tmp_path), store, torch.device("cpu")).read(
        cell.stage(0, cpu_execution)
    )
    chosen, drawn = inputs.validation_set, inputs.training_set
    assert chosen is not None and chosen.positions_N is not None
    colours = [
        pool[:, 0, 0, 0].tolist()
        for pool in (chosen.images_PCHW[chosen.positions_N], drawn.images_PCHW[drawn.items_N])
    ]
    assert sorted(Counter(colours[0]).values()) == [2, 2, 2]
    assert len(colours[1]) == 12 and not set(colours[0]) & set(colours[1])


def test_signs_of_other_sizes_are_resized_as_pillow_does(
    register: Callable[..., None], tmp_path: Path
) -> None:
    files, _ = make_gtsrb()
    large = np.random.default_rng(0).integers(0, 256, (3, 61, 47), dtype=np.uint8)
    with zipfile.ZipFile(io.BytesIO(files["GTSRB_Final_Training_Images.zip"])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    first = min(name for name in members if name.endswith(".ppm"))
    files["GTSRB_Final_Training_Images.zip"] = zip_up({**members, first: to_ppm(large)})
    register("gtsrb", files)
    expected = Image.fromarray(large.transpose(1, 2, 0)).resize((32, 32), Image.Resampling.BILINEAR)
    found_CHW = load("gtsrb", tmp_path).train_images_NCHW[0]
    assert np.array_equal(found_CHW, np.asarray(expected).transpose(2, 0, 1))


@pytest.mark.parametrize("name", MAKERS)
def test_missing_files_are_told_with_where_they_come_from(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load(name, tmp_path)
    spec = DATASETS[name]
    said = str(error.value)
    assert "\n" not in said and "give a sweep --download" in said
    for part in (*spec.md5_by_file, *spec.urls, str(tmp_path / spec.folder)):
        assert part in said


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_file_is_refused_by_its_checksum(
    name: str, register: Callable[..., None], tmp_path: Path
) -> None:
    files, _ = MAKERS[name]()
    register(name, files)
    file = next(iter(files))
    path = tmp_path / DATASETS[name].folder / file
    path.write_bytes(files[file][:-1] + bytes([files[file][-1] ^ 1]))
    with pytest.raises(DataError, match=rf"{name}: .*{file}: md5 differs .*; remove it, then"):
        load(name, tmp_path)


@pytest.mark.parametrize("name", MAKERS)
def test_file_that_is_not_in_its_layout_is_told(
    name: str, register: Callable[..., None], tmp_path: Path
) -> None:
    files, _ = MAKERS[name]()
    register(name, {file: b"\x80\x04N." for file in files})
    with pytest.raises(DataError, match=rf"{name}: .*: not in layout '{DATASETS[name].layout}' \(\w+: "):
        load(name, tmp_path)


class Bomb:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('this was run')",)


def test_pickle_of_anything_but_arrays_is_not_run(register: Callable[..., None], tmp_path: Path) -> None:
    register("cifar100", {"train": pickle.dumps(Bomb()), "test": pickle.dumps(Bomb())})
    with pytest.raises(DataError, match=r"UnpicklingError: it holds builtins\.exec, which is not an array"):
        load("cifar100", tmp_path)


def test_split_of_other_counts_is_refused(register: Callable[..., None], tmp_path: Path) -> None:
    files, _ = make_svhn()
    register("svhn", files, train_counts_K=(1, 3, 1))
    with pytest.raises(DataError, match=r"train split has \(2, 2, 1\) images per class, not \(1, 3, 1\)"):
        load("svhn", tmp_path)


def tar_up(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> None:
    """Write a tar.gz of files, and of symbolic links with what they lead to."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)


def put_cifar_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *args: Any) -> Path:
    """Put an archive in the place of CIFAR-100's, where torchvision finds it; return the folder."""
    archive, spec = tmp_path / "cifar-100-python.tar.gz", DATASETS["cifar100"]
    tar_up(archive, *args)
    url = next(iter(spec.urls))
    urls = {url: hashlib.md5(archive.read_bytes()).hexdigest()}
    monkeypatch.setitem(DATASETS, "cifar100", dataclasses.replace(spec, urls=urls))
    for file in (folder := tmp_path / spec.folder).iterdir():
        file.unlink()
    return folder


def test_archive_at_hand_is_unpacked_without_network_and_nothing_else_of_it(
    register: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torchvision")
    files, (train, _) = MAKERS["cifar100"]()
    register("cifar100", files)
    members = {f"cifar-100-python/{file}": content for file, content in files.items()}
    more = {"cifar-100-python/meta": b"more", "../outside": b"more", "cifar-100-python/../up": b"more"}
    folder = put_cifar_archive(tmp_path, monkeypatch, {**more, **members}, {"cifar-100-python/a": "/etc"})
    dataset = load_dataset("cifar100", tmp_path, download=True)
    assert np.array_equal(dataset.train_images_NCHW, train)
    assert {path.name for path in folder.iterdir()} == set(files)
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, "cifar-100-python.tar.gz"}


def test_link_in_an_archive_is_not_followed(
    register: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torchvision")
    files, _ = MAKERS["cifar100"]()
    register("cifar100", files)
    members = {"cifar-100-python/test": files["test"]}
    folder = put_cifar_archive(tmp_path, monkeypatch, members, {"cifar-100-python/train": "test"})
    with pytest.raises(DataError, match=r"cifar100: download failed .*/train in .* is not a regular file"):
        load_dataset("cifar100", tmp_path, download=True)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", MAKERS)
def test_download_asks_for_the_files_by_their_checksums(
    name: str, register: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    utils = pytest.importorskip("torchvision.datasets.utils")
    asked: dict[str, str] = {}
    files, _ = MAKERS[name]()
    register(name, files)
    for path in (tmp_path / DATASETS[name].folder).iterdir():
        path.unlink()

    def fetch(url: str, root: str, *_: Any, md5: str, **__: Any) -> None:
        asked[url] = md5
        folder = DATASETS[name].folder
        if name.startswith("cifar"):
            assert Path(root) == tmp_path
            tar_up(tmp_path / url.rpartition("/")[2], {f"{folder}/{file}": files[file] for file in files})
        else:
            assert Path(root) == tmp_path / folder
            for file, content in files.items():
                (Path(root) / file).write_bytes(content)

    monkeypatch.setattr(utils, "download_url", fetch)
    assert load_dataset(name, tmp_path, download=True).test_labels_N.tolist() == list(TEST)
    assert asked == dict(DATASETS[name].urls)


def test_download_without_network_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    utils = pytest.importorskip("torchvision.datasets.utils")

    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("Name or service\nnot known")

    monkeypatch.setattr(utils, "download_url", refuse)
    with pytest.raises(DataError, match=r"svhn: download failed .*Name or service not known.*train_32x32"):
        load_dataset("svhn", tmp_path, download=True)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", MAKERS)
def test_sets_of_every_layout_are_trained_on_and_tested(
    name: str, register: Callable[..., None], tmp_path: Path
) -> None:
    files, _ = MAKERS[name]()
    register(name, files)
    store = open_store(str(tmp_path / "store"), RESULTS_VERSION, create=True)
    assert store is not None
    cells = tuple(
        make_cell(SHORT, dataset=name, c="1/2", method=method, generator=None)
        for method in ("none", "oversample")
    )
    execution = Execution(device="cpu", precision="float32", num_threads=1, torch_version=torch_version())
    plan = compile_study(Study(name="tiny", cells=cells, seeds=(0,)), execution)
    records = [run_stage(run.stage, store, str(tmp_path)) for run in plan.runs]
    assert [record.state for record in records] == ["complete"] * 2
    assert [record.class_counts for record in records] == [(2, 1, 1)] * 2  # of 2, 2 and 1 images
    assert {record.training_counts for record in records} == {(2, 1, 1), (2, 2, 2)}
    assert all(store.read_array(record, "predictions").shape == (len(TEST),) for record in records)
