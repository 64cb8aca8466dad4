"""DATASETS: the image sets that are known by name."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from lt_rebalance.data import class_names
from lt_rebalance.data.at_hand import get_own_data, is_own_name
from lt_rebalance.data.counting import know_counts, require_counts
from lt_rebalance.data.spec import DatasetSpec


def get_dataset_spec(name: str, data_dir: str | Path | None = None, *, download: bool = False) -> DatasetSpec:
    """Return the entry of a data set, or a loaded set of the user; ValueError if there is none.

    If no source gives the class counts of an entry, its labels are read once, in a data directory or else in
    that of `counting.look_in`; DataError if they are missing.
    """
    if is_own_name(name):
        return get_own_data(name).spec
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return require_counts(DATASETS[name], data_dir, download=download)


def know_all_counts(counts: Mapping[str, Mapping[str, Sequence[int]]]) -> None:
    """Load the class counts of data sets from a document, for sets without counts in the catalogue."""
    for name, by_split in counts.items():
        if name in DATASETS and not DATASETS[name].train_counts_K:
            know_counts(DATASETS[name], by_split["train"], by_split["test"])


def is_location(dataset: str | None) -> bool:
    """Whether a data set is given by its path: anything that looks like a path, or is one."""
    if dataset is None or dataset in DATASETS:
        return False
    return "/" in dataset or dataset.endswith(".npz") or os.path.exists(dataset)


def require_set(dataset: str) -> None:
    """Raise a ValueError unless a data set is given by its name or by a location."""
    if not (dataset in DATASETS or is_own_name(dataset) or is_location(dataset)):
        raise ValueError(
            f"unknown data set {dataset!r}, and nothing is at that path; known: {', '.join(DATASETS)}"
        )


def are_embedded(names: Collection[str]) -> bool:
    """Whether all data sets come with the package, so that no data directory is read."""
    return all(get_dataset_spec(name).is_embedded for name in names)


_CIFAR = "https://www.cs.toronto.edu/~kriz"
_EMNIST = "https://biometrics.nist.gov/cs_links/EMNIST"
_EMNIST_MD5 = "58c8d27c78d21e728a6bc7b3cc06412e"
_SVHN = "http://ufldl.stanford.edu/housenumbers"
_LIBSVM = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass"
_GTSRB = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"


def _gtsrb(name: str, archive: str, md5: str, train_counts_K: tuple[int, ...]) -> DatasetSpec:
    """Return GTSRB with one of its two training sets; the test set is the same.

    "gtsrb" has the 39,209 training images of publications, "gtsrb_online" the 26,640 of the competition,
    which torchvision loads.
    """
    md5_by_file = {
        archive: md5,
        "GTSRB_Final_Test_Images.zip": "c7e4e6327067d32654124b0fe9e82185",
        "GTSRB_Final_Test_GT.zip": "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
    }
    return DatasetSpec(
        name=name,
        num_classes=43,
        image_shape=(3, 32, 32),
        class_names=class_names.GTSRB,
        train_counts_K=train_counts_K,
        test_counts_K=(
            *(60, 720, 750, 450, 660, 630, 150, 450, 450, 480, 660, 420, 690, 720, 270, 210, 150, 360),
            *(390, 60, 90, 90, 120, 150, 90, 480, 180, 60, 150, 90, 150, 270, 60, 210, 120, 390, 120),
            *(60, 690, 90, 90, 60, 90),
        ),
        licence="none stated by the publisher",
        citation="Stallkamp, Schlipsing, Salmen, Igel 2012, Man vs. Computer, Neural Networks 32",
        has_groups=True,
        place="gtsrb",
        layout="gtsrb",
        urls={f"{_GTSRB}/{file}": each for file, each in md5_by_file.items()},
        md5_by_file=md5_by_file,
    )


def _emnist(
    name: str,
    names: tuple[str, ...],
    *,
    train_counts_K: tuple[int, ...] = (),
    test_counts_K: tuple[int, ...] = (),
    num_images: tuple[int, int] | None = None,
) -> DatasetSpec:
    """Return one of the sets of EMNIST's archive; no source gives the class counts of the unbalanced ones."""
    return DatasetSpec(
        name=name,
        num_classes=len(names),
        image_shape=(1, 28, 28),
        class_names=names,
        train_counts_K=train_counts_K,
        test_counts_K=test_counts_K,
        num_images=num_images,
        licence="none stated by the publisher; made from NIST Special Database 19",
        citation="Cohen, Afshar, Tapson, van Schaik 2017, EMNIST, arXiv 1702.05373",
        place="EMNIST/raw",
        layout="emnist",
        urls={f"{_EMNIST}/gzip.zip": _EMNIST_MD5},
        md5_by_file={"gzip.zip": _EMNIST_MD5},
    )


# The checksums of Fashion-MNIST and MNIST are the ones that public projects pin for the unpacked files; those
# of KMNIST are of the publisher's .gz, as torchvision's prototype data sets list them. MD5s are those of
# torchvision, and of GTSRB's larger training set the one that public projects agree on.
DATASETS: dict[str, DatasetSpec] = {
    "fashion_mnist": DatasetSpec(
        name="fashion_mnist",
        num_classes=10,
        image_shape=(1, 28, 28),
        class_names=class_names.FASHION,
        train_counts_K=(6000,) * 10,
        test_counts_K=(1000,) * 10,
        licence="MIT",
        may_flip=True,
        torchvision_name="FashionMNIST",
        debian_package="dataset-fashion-mnist",
        sha256_by_file={
            "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
    "mnist": DatasetSpec(
        name="mnist",
        num_classes=10,
        image_shape=(1, 28, 28),
        class_names=class_names.DIGITS,
        train_counts_K=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        test_counts_K=(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
        licence="CC BY-SA 3.0, as Keras states it",
        torchvision_name="MNIST",
        sha256_by_file={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "kmnist": DatasetSpec(
        name="kmnist",
        num_classes=10,
        image_shape=(1, 28, 28),
        class_names=class_names.KMNIST,
        train_counts_K=(6000,) * 10,
        test_counts_K=(1000,) * 10,
        licence="CC BY-SA 4.0",
        torchvision_name="KMNIST",
        sha256_by_file={
            "train-images-idx3-ubyte.gz": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "train-labels-idx1-ubyte.gz": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "t10k-images-idx3-ubyte.gz": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "t10k-labels-idx1-ubyte.gz": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        },
    ),
    "cifar10": DatasetSpec(
        name="cifar10",
        num_classes=10,
        image_shape=(3, 32, 32),
        class_names=class_names.CIFAR10,
        train_counts_K=(5000,) * 10,
        test_counts_K=(1000,) * 10,
        licence="none stated by the publisher",
        citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        may_flip=True,
        place="cifar-10-batches-py",
        layout="cifar",
        urls={f"{_CIFAR}/cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
        md5_by_file={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
    ),
    "cifar100": DatasetSpec(
        name="cifar100",
        num_classes=100,
        image_shape=(3, 32, 32),
        class_names=class_names.CIFAR100,
        train_counts_K=(500,) * 100,
        test_counts_K=(100,) * 100,
        licence="none stated by the publisher",
        citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        may_flip=True,
        place="cifar-100-python",
        layout="cifar",
        urls={f"{_CIFAR}/cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85"},
        md5_by_file={
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        },
    ),
    "svhn": DatasetSpec(
        name="svhn",
        num_classes=10,
        image_shape=(3, 32, 32),
        class_names=class_names.DIGITS,
        train_counts_K=(4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
        test_counts_K=(1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
        licence="for non-commercial use, as the publisher states",
        citation="Netzer et al. 2011, Reading Digits in Natural Images with Unsupervised Feature Learning",
        place="",
        layout="svhn",
        urls={
            f"{_SVHN}/train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
            f"{_SVHN}/test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
        },
        md5_by_file={
            "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
            "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
        },
    ),
    "emnist_balanced": _emnist(
        "emnist_balanced",
        class_names.EMNIST_MERGED,
        train_counts_K=(2400,) * 47,
        test_counts_K=(400,) * 47,
    ),
    "emnist_byclass": _emnist("emnist_byclass", class_names.EMNIST, num_images=(697_932, 116_323)),
    "emnist_bymerge": _emnist("emnist_bymerge", class_names.EMNIST_MERGED, num_images=(697_932, 116_323)),
    "usps": DatasetSpec(
        name="usps",
        num_classes=10,
        image_shape=(1, 16, 16),
        class_names=class_names.DIGITS,
        train_counts_K=(1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644),
        test_counts_K=(359, 264, 198, 166, 200, 160, 170, 147, 166, 177),
        licence="none stated by the publisher",
        citation="Hull 1994, A Database for Handwritten Text Recognition Research",
        place="",
        layout="usps",
        urls={
            f"{_LIBSVM}/usps.bz2": "ec16c51db3855ca6c91edd34d0e9b197",
            f"{_LIBSVM}/usps.t.bz2": "8ea070ee2aca1ac39742fdd1ef5ed118",
        },
        md5_by_file={
            "usps.bz2": "ec16c51db3855ca6c91edd34d0e9b197",
            "usps.t.bz2": "8ea070ee2aca1ac39742fdd1ef5ed118",
        },
    ),
    "gtsrb": _gtsrb(
        "gtsrb",
        "GTSRB_Final_Training_Images.zip",
        "f33fd80ac59bff73c82d25ab499e03a3",
        (
            *(210, 2220, 2250, 1410, 1980, 1860, 420, 1440, 1410, 1470, 2010, 1320, 2100, 2160, 780),
            *(630, 420, 1110, 1200, 210, 360, 330, 390, 510, 270, 1500, 600, 240, 540, 270, 450, 780),
            *(240, 689, 420, 1200, 390, 210, 2070, 300, 360, 240, 240),
        ),
    ),
    "gtsrb_online": _gtsrb(
        "gtsrb_online",
        "GTSRB-Training_fixed.zip",
        "513f3c79a4c5141765e10e952eaa2478",
        (
            *(150, 1500, 1500, 960, 1320, 1260, 300, 960, 960, 990, 1350, 900, 1410, 1440, 540, 420),
            *(300, 750, 810, 150, 240, 240, 270, 360, 180, 1020, 420, 180, 360, 180, 300, 540, 180),
            *(480, 300, 810, 270, 150, 1380, 210, 240, 180, 180),
        ),
    ),
    "fashion_mnist_mini": DatasetSpec(
        name="fashion_mnist_mini",
        num_classes=10,
        image_shape=(1, 28, 28),
        class_names=class_names.FASHION,
        train_counts_K=(600,) * 10,
        test_counts_K=(200,) * 10,
        licence="MIT",
        may_flip=True,
        sha256_by_file={
            "fashion_mnist_mini.npz": "296bb38fd0342482d6f6fbf51db0f3e427f839ef48ca34a25608157289af8038",
        },
    ),
}

NAMED_CLASSES: dict[str, tuple[str, ...]] = {name: spec.class_names for name, spec in DATASETS.items()}
"""names of classes 0..K-1 by data set, also of sets that come as a user's files"""
