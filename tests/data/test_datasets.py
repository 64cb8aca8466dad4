"""Checks of the data sets: IDX parsing, the registry, damage, download, the embedded mini set."""

import dataclasses
import gzip
import hashlib
import io
import shutil
import struct
import subprocess
import sys
import tracemalloc
import urllib.error
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lt_rebalance.data import places
from lt_rebalance.data.catalog import DATASETS, get_dataset_spec
from lt_rebalance.data.files import load_dataset
from lt_rebalance.data.layouts import READERS, parse_idx
from lt_rebalance.data.sample import make_mini
from lt_rebalance.data.spec import DATA_DIR_VARIABLE, DatasetSpec
from lt_rebalance.ground.errors import DataError

IDX_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# Two classes, images of 2 x 3: three to train on (labels 0, 1, 1) and two to test on (labels 1, 0).
TINY_FILES = {
    IDX_NAMES[0]: struct.pack(">4B3I", 0, 0, 8, 3, 3, 2, 3) + bytes(range(18)),
    IDX_NAMES[1]: struct.pack(">4BI", 0, 0, 8, 1, 3) + bytes([0, 1, 1]),
    IDX_NAMES[2]: struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 3) + bytes(range(100, 112)),
    IDX_NAMES[3]: struct.pack(">4BI", 0, 0, 8, 1, 2) + bytes([1, 0]),
}
TINY_SPEC = DatasetSpec(
    name="tiny",
    num_classes=2,
    image_shape=(1, 2, 3),
    class_names=("a", "b"),
    train_counts_K=(1, 2),
    test_counts_K=(1, 1),
    licence="none",
    torchvision_name="FashionMNIST",
    debian_package="dataset-fashion-mnist",
    sha256_by_file={name: hashlib.sha256(content).hexdigest() for name, content in TINY_FILES.items()},
)
Writer = Callable[[Path], Path]


def write_tiny(raw_dir: Path, *, is_gzip: bool = False) -> Path:
    """Write the tiny files into `raw_dir` and return it."""
    raw_dir.mkdir(parents=True)
    for name, content in TINY_FILES.items():
        if is_gzip:
            (raw_dir / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (raw_dir / name).write_bytes(content)
    return raw_dir


def write_tiny_gzip(raw_dir: Path) -> Path:
    """Write the tiny files as .gz only."""
    return write_tiny(raw_dir, is_gzip=True)


def assert_one_line(error: pytest.ExceptionInfo[DataError], *parts: str) -> None:
    """Check that the message is one line and holds every part."""
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DatasetSpec:
    """Register the tiny data set; no variable, no Debian files, an empty working directory."""
    monkeypatch.setitem(DATASETS, "tiny", TINY_SPEC)
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    monkeypatch.setattr(places, "DEBIAN_DIR", tmp_path / "debian")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return TINY_SPEC


@pytest.fixture
def tiny_gzip_hashed(tiny: DatasetSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Register a tiny data set whose checksums are of the .gz, as kmnist's are; return its data directory."""
    raw_dir = write_tiny_gzip(tmp_path / "home" / "FashionMNIST" / "raw")
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in raw_dir.iterdir()}
    ordered = {f"{name}.gz": hashes[f"{name}.gz"] for name in IDX_NAMES}
    monkeypatch.setitem(
        DATASETS, "tiny", dataclasses.replace(tiny, sha256_by_file=ordered, debian_package=None)
    )
    return tmp_path / "home"


def test_parse_idx_images_gives_rows_in_order() -> None:
    content = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 250, 251, 252])
    array = parse_idx(content)
    assert array.dtype == np.uint8
    assert array.tolist() == [[[1, 2, 3]], [[250, 251, 252]]]


def test_parse_idx_labels_with_more_than_255_items_reads_big_endian_size() -> None:
    array = parse_idx(bytes([0, 0, 8, 1, 0, 0, 1, 2]) + bytes([7]) * 258)
    assert array.shape == (258,)
    assert set(array.tolist()) == {7}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an IDX file"),
        (b"\x1f\x8b\x08\x01" + bytes(8), "not an IDX file"),
        (bytes([0, 0, 13, 1, 0, 0, 0, 1, 0, 0, 0, 0]), "not an IDX file"),
        (bytes([0, 0, 8, 0, 0, 0, 0, 1]), "header"),
        (bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1]), "header"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 3, 1, 2]), "header"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 1, 1, 2]), "header"),
    ],
    ids=["empty", "gzip", "float-type", "no-dims", "short-header", "item-lacks", "item-too-many"],
)
def test_parse_idx_malformed_raises(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_idx(content)


GREY = ["fashion_mnist", "mnist", "kmnist", "fashion_mnist_mini"]
SIZES = {
    **{"cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000), "svhn": (73_257, 26_032)},
    **{"emnist_balanced": (112_800, 18_800), "usps": (7_291, 2_007)},
    **{"gtsrb": (39_209, 12_630), "gtsrb_online": (26_640, 12_630)},
}


def test_registry_holds_the_grey_sets_and_those_of_the_field() -> None:
    assert set(DATASETS) == {*GREY, *SIZES, "emnist_byclass", "emnist_bymerge"}


@pytest.mark.parametrize("name", SIZES)
def test_entry_of_the_field_is_as_its_publisher_tells(name: str) -> None:
    spec = get_dataset_spec(name)
    assert (sum(spec.train_counts_K), sum(spec.test_counts_K)) == SIZES[name]
    assert len(set(spec.class_names)) == spec.num_classes
    assert spec.licence and spec.citation and spec.can_download and not spec.is_embedded
    assert spec.may_flip == name.startswith("cifar") and spec.has_groups == name.startswith("gtsrb")
    assert name == spec.name and spec.layout in READERS and hash(spec) == hash(dataclasses.replace(spec))


@pytest.mark.parametrize(
    ("name", "loader"),
    [("cifar10", "CIFAR10"), ("cifar100", "CIFAR100"), ("svhn", "SVHN"), ("usps", "USPS")],
)
def test_checksums_and_addresses_are_those_of_torchvision(name: str, loader: str) -> None:
    torchvision_datasets = pytest.importorskip("torchvision.datasets")
    spec, known = get_dataset_spec(name), getattr(torchvision_datasets, loader)
    if spec.layout == "cifar":
        assert dict(spec.md5_by_file) == dict([*known.train_list, *known.test_list])
        assert (dict(spec.urls), spec.place) == ({known.url: known.tgz_md5}, known.base_folder)
    else:
        listed = [known.split_list[split] for split in ("train", "test")]
        assert dict(spec.md5_by_file) == {file: md5 for _, file, md5 in listed}
        assert dict(spec.urls) == {url: md5 for url, _, md5 in listed}


def test_classes_and_archive_of_emnist_are_those_of_torchvision() -> None:
    torchvision_datasets = pytest.importorskip("torchvision.datasets")
    spec = get_dataset_spec("emnist_balanced")
    assert list(spec.class_names) == torchvision_datasets.EMNIST.classes_split_dict["balanced"]
    assert dict(spec.urls) == {torchvision_datasets.EMNIST.url: torchvision_datasets.EMNIST.md5}


@pytest.mark.parametrize("name", GREY)
def test_registry_entry_keeps_contract(name: str) -> None:
    spec = get_dataset_spec(name)
    assert spec.name == name
    assert spec.image_shape == (1, 28, 28)
    assert spec.num_classes == len(spec.class_names) == len(set(spec.class_names)) == 10
    assert len(spec.train_counts_K) == len(spec.test_counts_K) == 10
    expected_sums = (6000, 2000) if name == "fashion_mnist_mini" else (60000, 10000)
    assert (sum(spec.train_counts_K), sum(spec.test_counts_K)) == expected_sums
    assert spec.is_embedded == (name == "fashion_mnist_mini")
    for sha256 in spec.sha256_by_file.values():
        assert len(sha256) == 64
        assert set(sha256) <= set("0123456789abcdef")
    assert hash(spec) == hash(dataclasses.replace(spec))


def test_registry_torchvision_names_exist_and_class_names_agree() -> None:
    torchvision_datasets = pytest.importorskip("torchvision.datasets")
    for name in ("fashion_mnist", "kmnist"):
        spec = get_dataset_spec(name)
        assert spec.torchvision_name is not None
        loader = getattr(torchvision_datasets, spec.torchvision_name)
        assert list(spec.class_names) == loader.classes
        assert [file for file, _ in loader.resources] == [f"{file}.gz" for file in IDX_NAMES]
    assert hasattr(torchvision_datasets, str(get_dataset_spec("mnist").torchvision_name))


def test_identity_is_sha256_over_sorted_file_digests() -> None:
    digests = [
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ]
    assert (
        get_dataset_spec("fashion_mnist").identity == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    )


def test_identity_differs_between_data_sets() -> None:
    assert len({spec.identity for spec in DATASETS.values()}) == len(DATASETS)


def test_get_dataset_spec_unknown_name_lists_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown data set 'fasion'; known: fashion_mnist, mnist, kmnist"):
        get_dataset_spec("fasion")
    with pytest.raises(ValueError, match="unknown data set 'fasion'"):
        load_dataset("fasion")


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ("a",)},
        {"train_counts_K": (1, 2, 3)},
        {"test_counts_K": ()},
        {"torchvision_name": None},
    ],
)
def test_spec_inconsistent_raises(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="tiny"):
        dataclasses.replace(TINY_SPEC, **change)  # type: ignore[arg-type]  # wrong on purpose


def test_embedded_set_loads_from_any_directory(tiny: DatasetSpec) -> None:
    mini = load_dataset("fashion_mnist_mini", "no/such/directory", download=True)
    assert mini.train_images_NCHW.shape == (6000, 1, 28, 28)
    assert mini.test_images_NCHW.shape == (2000, 1, 28, 28)
    for images_NCHW in (mini.train_images_NCHW, mini.test_images_NCHW):
        assert images_NCHW.dtype == np.uint8
        assert (images_NCHW.min(), images_NCHW.max()) == (0, 255)
    for labels_N, num_per_class in ((mini.train_labels_N, 600), (mini.test_labels_N, 200)):
        assert labels_N.dtype == np.int64
        assert np.bincount(labels_N).tolist() == [num_per_class] * 10


@pytest.mark.filterwarnings("error")
def test_arrays_go_to_torch_without_a_warning(tiny: DatasetSpec, tmp_path: Path) -> None:
    write_tiny(tmp_path / "home" / "FashionMNIST" / "raw")
    for name, data_dir in (("tiny", tmp_path / "home"), ("fashion_mnist_mini", None)):
        data = load_dataset(name, data_dir)
        for array in (each for each in vars(data).values() if each is not None):
            assert torch.from_numpy(array).shape == array.shape


def test_embedded_set_damaged_raises(
    tiny: DatasetSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = bytearray((places.EMBEDDED_DIR / "fashion_mnist_mini.npz").read_bytes())
    content[len(content) // 2] ^= 1
    monkeypatch.setattr(places, "EMBEDDED_DIR", tmp_path)
    with pytest.raises(DataError) as error:
        load_dataset("fashion_mnist_mini", download=True)
    assert_one_line(error, "fashion_mnist_mini.npz missing", "reinstall lt_rebalance")
    (tmp_path / "fashion_mnist_mini.npz").write_bytes(content)
    with pytest.raises(DataError) as error:
        load_dataset("fashion_mnist_mini")
    assert_one_line(error, "fashion_mnist_mini.npz", "sha256 differs", "reinstall lt_rebalance")


def test_embedded_set_is_small_and_carries_its_licence() -> None:
    assert (places.EMBEDDED_DIR / "fashion_mnist_mini.npz").stat().st_size <= 4_000_000
    licence = (places.EMBEDDED_DIR / "LICENSE-fashion-mnist").read_text()
    assert "MIT" in licence
    assert "Copyright (c) 2017 Zalando SE, https://tech.zalando.com" in licence


def test_loading_does_not_import_torchvision_or_torch() -> None:
    code = (
        "import sys; from lt_rebalance.data.files import load_dataset; load_dataset('fashion_mnist_mini');"
        "assert not {'torchvision', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("write", [write_tiny, write_tiny_gzip])
def test_load_reads_unpacked_and_gzip_files(tiny: DatasetSpec, tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "home" / "FashionMNIST" / "raw")
    data = load_dataset("tiny", tmp_path / "home")
    assert data.train_images_NCHW.shape == (3, 1, 2, 3)
    assert data.train_images_NCHW[1].tolist() == [[[6, 7, 8], [9, 10, 11]]]
    assert data.train_labels_N.tolist() == [0, 1, 1]
    assert data.test_images_NCHW[1].tolist() == [[[106, 107, 108], [109, 110, 111]]]
    assert data.test_labels_N.tolist() == [1, 0]
    assert data.train_labels_N.dtype == data.test_labels_N.dtype == np.int64


def test_load_searches_directory_variable_default_and_debian_place_in_order(
    tiny: DatasetSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_tiny_gzip(tmp_path / "debian")
    load_dataset("tiny")
    # From here on each place is given a damaged file, so that the error shows which place was read.
    for place in ("cwd/data", "variable", "explicit"):
        raw_dir = tmp_path / place / "FashionMNIST" / "raw"
        raw_dir.mkdir(parents=True)
        (raw_dir / IDX_NAMES[1]).write_bytes(b"damaged")
    with pytest.raises(DataError, match="cwd/data/FashionMNIST/raw/train-labels-idx1-ubyte: 7 bytes"):
        load_dataset("tiny")
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "variable"))
    with pytest.raises(DataError, match="variable/FashionMNIST/raw/train-labels-idx1-ubyte: 7 bytes"):
        load_dataset("tiny")
    with pytest.raises(DataError, match="explicit/FashionMNIST/raw/train-labels-idx1-ubyte: 7 bytes"):
        load_dataset("tiny", str(tmp_path / "explicit"))
    load_dataset("tiny", tmp_path / "empty")
    monkeypatch.setenv(DATA_DIR_VARIABLE, "")
    with pytest.raises(DataError, match="cwd/data"):
        load_dataset("tiny")


def test_load_takes_unpacked_file_before_gzip(tiny: DatasetSpec, tmp_path: Path) -> None:
    raw_dir = write_tiny(tmp_path / "home" / "FashionMNIST" / "raw")
    (raw_dir / f"{IDX_NAMES[0]}.gz").write_bytes(b"garbage")
    load_dataset("tiny", tmp_path / "home")


def test_load_without_debian_package_ignores_debian_place(
    tiny: DatasetSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_tiny_gzip(tmp_path / "debian")
    monkeypatch.setitem(DATASETS, "tiny", dataclasses.replace(tiny, debian_package=None))
    with pytest.raises(DataError) as error:
        load_dataset("tiny", tmp_path / "home")
    assert_one_line(error, "missing", DATA_DIR_VARIABLE, "--download")
    assert "apt install" not in str(error.value)


def test_load_missing_directory_names_files_place_and_remedies(tiny: DatasetSpec, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load_dataset("tiny", tmp_path / "nowhere")
    assert_one_line(
        error,
        *IDX_NAMES,
        "missing",
        f"place the files in {tmp_path}/nowhere/FashionMNIST/raw or set {DATA_DIR_VARIABLE}",
        "apt install dataset-fashion-mnist",
        "give a sweep --download",
    )


def test_load_one_file_missing_names_only_that_one(tiny: DatasetSpec, tmp_path: Path) -> None:
    raw_dir = write_tiny(tmp_path / "home" / "FashionMNIST" / "raw")
    (raw_dir / IDX_NAMES[3]).unlink()
    with pytest.raises(DataError) as error:
        load_dataset("tiny", tmp_path / "home")
    assert_one_line(error, f"{IDX_NAMES[3]} missing")
    assert IDX_NAMES[0] not in str(error.value)


def truncate(content: bytes) -> bytes:
    """Drop the last three bytes."""
    return content[:-3]


def lengthen(content: bytes) -> bytes:
    """Add one byte."""
    return content + b"\0"


def flip(content: bytes) -> bytes:
    """Flip one bit of the last byte."""
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize(
    ("damage", "reason"),
    [(truncate, "bytes instead of"), (lengthen, "bytes instead of"), (flip, "sha256 differs")],
)
@pytest.mark.parametrize("is_gzip", [False, True])
def test_load_damaged_file_names_file_and_remedies(
    tiny: DatasetSpec,
    tmp_path: Path,
    index: int,
    damage: Callable[[bytes], bytes],
    reason: str,
    is_gzip: bool,
) -> None:
    raw_dir = write_tiny(tmp_path / "home" / "FashionMNIST" / "raw", is_gzip=is_gzip)
    content = damage(TINY_FILES[IDX_NAMES[index]])
    path = raw_dir / (IDX_NAMES[index] + (".gz" if is_gzip else ""))
    path.write_bytes(gzip.compress(content) if is_gzip else content)
    with pytest.raises(DataError) as error:
        load_dataset("tiny", tmp_path / "home")
    remedies = (DATA_DIR_VARIABLE, "apt install dataset-fashion-mnist", "give a sweep --download")
    assert_one_line(error, f"{path}: ", reason, "remove it", *remedies)
    if reason == "bytes instead of":
        assert f"{len(content)} bytes instead of {len(TINY_FILES[IDX_NAMES[index]])}" in str(error.value)


def test_load_refuses_gzip_that_unpacks_to_too_much_before_it_fills_the_memory(
    tiny: DatasetSpec, tmp_path: Path
) -> None:
    path = write_tiny_gzip(tmp_path / "home" / "FashionMNIST" / "raw") / f"{IDX_NAMES[0]}.gz"
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="bytes instead of"):
            load_dataset("tiny", tmp_path / "home")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:12],
        lambda content: content[:-4],
        lambda content: content[:10] + bytes(len(content) - 10),
        lambda content: b"garbage, not gzip",
        lambda content: b"",
    ],
    ids=["truncated-data", "truncated-trailer", "zeroed-data", "garbage", "empty"],
)
@pytest.mark.parametrize("index", [0, 3])
def test_load_corrupt_gzip_names_file_and_remedies(
    tiny: DatasetSpec, tmp_path: Path, index: int, damage: Callable[[bytes], bytes]
) -> None:
    path = write_tiny_gzip(tmp_path / "home" / "FashionMNIST" / "raw") / f"{IDX_NAMES[index]}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"corrupt gzip|0 bytes instead of") as error:
        load_dataset("tiny", tmp_path / "home")
    remedies = (DATA_DIR_VARIABLE, "apt install dataset-fashion-mnist", "give a sweep --download")
    assert_one_line(error, f"{path}: ", "remove it", *remedies)


def test_load_directory_in_place_of_file_counts_as_missing(tiny: DatasetSpec, tmp_path: Path) -> None:
    raw_dir = write_tiny(tmp_path / "home" / "FashionMNIST" / "raw")
    (raw_dir / IDX_NAMES[1]).unlink()
    (raw_dir / IDX_NAMES[1]).mkdir()
    with pytest.raises(DataError, match=f"{IDX_NAMES[1]} missing"):
        load_dataset("tiny", tmp_path / "home")


def test_load_counts_other_than_registered_raise(
    tiny: DatasetSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_tiny(tmp_path / "home" / "FashionMNIST" / "raw")
    monkeypatch.setitem(DATASETS, "tiny", dataclasses.replace(tiny, train_counts_K=(2, 1)))
    with pytest.raises(DataError, match=r"train split has \(1, 2\) images per class, not \(2, 1\)"):
        load_dataset("tiny", tmp_path / "home")


@pytest.mark.parametrize("case", ["missing", "missing, with --download", "another checksum"])
def test_remedies_of_a_set_that_torchvision_lacks_can_work(
    case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = dataclasses.replace(TINY_SPEC, torchvision_name="Tiny", debian_package=None)
    if case == "another checksum":
        write_tiny(tmp_path / "Tiny" / "raw")
        entry = dataclasses.replace(entry, sha256_by_file=dict.fromkeys(IDX_NAMES, "0" * 64))
    monkeypatch.setitem(DATASETS, "tiny", entry)
    with pytest.raises(DataError) as error:
        load_dataset("tiny", tmp_path, download="download" in case)
    assert_one_line(error, f"place the files in {tmp_path / 'Tiny' / 'raw'}")
    assert "give a sweep --download" not in str(error.value) and "remove it" not in str(error.value)
    assert "attribute" not in str(error.value)
    assert ("correct the entry of tiny" in str(error.value)) == (case == "another checksum")


def test_entry_with_a_checksum_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="64 lower-case hex digits, got 'xyz' of train-images"):
        dataclasses.replace(TINY_SPEC, sha256_by_file={**TINY_SPEC.sha256_by_file, IDX_NAMES[0]: "xyz"})


def test_gzip_hashed_set_is_verified_by_its_gzip(tiny_gzip_hashed: Path) -> None:
    assert load_dataset("tiny", tiny_gzip_hashed).train_labels_N.tolist() == [0, 1, 1]
    path = tiny_gzip_hashed / "FashionMNIST" / "raw" / f"{IDX_NAMES[1]}.gz"
    path.write_bytes(gzip.compress(TINY_FILES[IDX_NAMES[1]], mtime=1))
    with pytest.raises(DataError) as error:
        load_dataset("tiny", tiny_gzip_hashed)
    assert_one_line(error, f"{path}: sha256 differs", "give a sweep --download")


def test_gzip_hashed_set_refuses_unpacked_files_alone(tiny_gzip_hashed: Path) -> None:
    shutil.rmtree(tiny_gzip_hashed)
    write_tiny(tiny_gzip_hashed / "FashionMNIST" / "raw")
    with pytest.raises(DataError) as error:
        load_dataset("tiny", tiny_gzip_hashed)
    assert_one_line(
        error, f"{IDX_NAMES[0]}.gz", "missing", "only the .gz has a published checksum", "--download"
    )
    assert "apt install" not in str(error.value)


def test_download_without_network_is_one_line(
    tiny: DatasetSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torchvision_mnist = pytest.importorskip("torchvision.datasets.mnist")

    def refuse(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("Name or service\nnot known")

    monkeypatch.setattr(torchvision_mnist, "download_and_extract_archive", refuse)
    with pytest.raises(DataError) as error:
        load_dataset("tiny", tmp_path / "home", download=True)
    assert_one_line(error, "download failed", "Name or service not known", DATA_DIR_VARIABLE, "apt install")


def test_download_goes_into_data_directory_and_is_verified(
    tiny: DatasetSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torchvision_mnist = pytest.importorskip("torchvision.datasets.mnist")
    downloaded: list[str] = []

    def fetch(url: str, *, download_root: str, filename: str, md5: str) -> None:
        downloaded.append(filename)
        name = filename.removesuffix(".gz")
        (Path(download_root) / name).write_bytes(TINY_FILES[name])

    monkeypatch.setattr(torchvision_mnist, "download_and_extract_archive", fetch)
    with pytest.raises(DataError, match="missing"):
        load_dataset("tiny", tmp_path / "home")
    assert downloaded == []
    assert load_dataset("tiny", tmp_path / "home", download=True).test_labels_N.tolist() == [1, 0]
    assert downloaded == [f"{name}.gz" for name in IDX_NAMES]
    assert (tmp_path / "home" / "FashionMNIST" / "raw" / IDX_NAMES[0]).is_file()
    load_dataset("tiny", tmp_path / "home", download=True)
    assert len(downloaded) == 4


def test_draw_indices_takes_all_when_each_class_has_just_enough() -> None:
    labels_N = np.array([1, 0, 1, 0])
    assert make_mini.draw_indices(labels_N, 2, np.random.default_rng(0)).tolist() == [0, 1, 2, 3]


def test_draw_indices_is_balanced_ascending_and_follows_the_seed() -> None:
    labels_N = np.arange(400) % 4
    first, again, other = (
        make_mini.draw_indices(labels_N, 10, np.random.default_rng(seed)).tolist() for seed in (5, 5, 6)
    )
    assert first == again != other
    assert first == sorted(set(first))
    assert np.bincount(labels_N[first]).tolist() == [10] * 4


def test_pack_npz_is_reproducible_and_readable_without_pickle() -> None:
    arrays = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": np.array([1], dtype="<i4")}
    content = make_mini.pack_npz(dict(arrays))
    assert content == make_mini.pack_npz(dict(arrays))
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        assert archive.files == ["a", "b"]
        assert all((archive[key] == arrays[key]).all() for key in arrays)


def test_full_set_keeps_contract(full_data_dir: Path) -> None:
    data = load_dataset("fashion_mnist", full_data_dir)
    assert data.train_images_NCHW.shape == (60000, 1, 28, 28)
    assert data.test_images_NCHW.shape == (10000, 1, 28, 28)
    assert data.train_images_NCHW.dtype == data.test_images_NCHW.dtype == np.uint8
    # Order in which the classes first appear in the published label file.
    order = np.argsort(np.unique(data.train_labels_N, return_index=True)[1]).tolist()
    assert order == [9, 0, 3, 2, 7, 5, 1, 6, 4, 8]


def test_full_set_is_found_by_the_variable(
    full_data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "DEBIAN_DIR", tmp_path / "debian")
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(full_data_dir))
    assert len(load_dataset("fashion_mnist").train_labels_N) == 60000
    monkeypatch.delenv(DATA_DIR_VARIABLE)
    with pytest.raises(DataError, match="missing"):
        load_dataset("fashion_mnist")


def test_full_set_with_one_flipped_byte_raises(full_data_dir: Path, tmp_path: Path) -> None:
    raw_dir = tmp_path / "FashionMNIST" / "raw"
    shutil.copytree(full_data_dir / "FashionMNIST" / "raw", raw_dir)
    path = next(raw_dir.glob("train-images-idx3-ubyte*"))
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[30_000_000 % len(content)] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        load_dataset("fashion_mnist", tmp_path)
    assert_one_line(error, f"{path}: ", "--download")
    assert any(reason in str(error.value) for reason in ("sha256 differs", "corrupt gzip"))


def test_mini_images_equal_full_images_at_the_stored_indices(full_data_dir: Path) -> None:
    full, mini = load_dataset("fashion_mnist", full_data_dir), load_dataset("fashion_mnist_mini")
    with np.load(places.EMBEDDED_DIR / "fashion_mnist_mini.npz", allow_pickle=False) as archive:
        train_indices, test_indices = archive["train_indices"], archive["test_indices"]
    for indices, num_full in ((train_indices, 60000), (test_indices, 10000)):
        assert (np.diff(indices) > 0).all()
        assert indices.min() >= 0
        assert indices.max() < num_full
    assert np.array_equal(mini.train_images_NCHW, full.train_images_NCHW[train_indices])
    assert np.array_equal(mini.train_labels_N, full.train_labels_N[train_indices])
    assert np.array_equal(mini.test_images_NCHW, full.test_images_NCHW[test_indices])
    assert np.array_equal(mini.test_labels_N, full.test_labels_N[test_indices])


@pytest.mark.slow
def test_mini_rebuilt_is_byte_identical_and_follows_the_seed(
    full_data_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output_path = tmp_path / "mini.npz"
    options = ["make_mini", "--data-dir", str(full_data_dir), "--output-path", str(output_path)]
    monkeypatch.setattr(sys, "argv", options)
    make_mini.main()
    assert output_path.read_bytes() == (places.EMBEDDED_DIR / "fashion_mnist_mini.npz").read_bytes()
    assert make_mini.build_mini(full_data_dir, seed=make_mini.MINI_SEED + 1) != output_path.read_bytes()


def test_locate_data_dir_is_absolute_so_that_workers_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    assert places.locate_data_dir(None) == tmp_path / "data"
    monkeypatch.setenv(DATA_DIR_VARIABLE, "from_variable")
    assert places.locate_data_dir(None) == tmp_path / "from_variable"
    assert places.locate_data_dir("given") == tmp_path / "given"
