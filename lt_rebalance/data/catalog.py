"""DATASETS: the image sets that are known by name."""

import os
from collections.abc import Collection

from lt_rebalance.data.at_hand import get_own_data, is_own_name
from lt_rebalance.data.spec import DatasetSpec


def get_dataset_spec(name: str) -> DatasetSpec:
    """Return the entry of a data set, or a set of the user's own at hand; ValueError if there is none."""
    if is_own_name(name):
        return get_own_data(name).spec
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(DATASETS)}")
    return DATASETS[name]


def is_location(dataset: str | None) -> bool:
    """Whether a data set is named by where it lies: anything that looks like a path, or is one."""
    if dataset is None or dataset in DATASETS:
        return False
    return "/" in dataset or dataset.endswith(".npz") or os.path.exists(dataset)


def are_embedded(names: Collection[str]) -> bool:
    """Whether data sets all come with the package, so that no directory of data is read for them."""
    return all(get_dataset_spec(name).is_embedded for name in names)


_FASHION_CLASS_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

_CIFAR10_CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

# The checksums of Fashion-MNIST and MNIST are the ones that public projects pin for the unpacked files; those
# of KMNIST are of the publisher's .gz, as torchvision's prototype data sets list them.
DATASETS: dict[str, DatasetSpec] = {
    "fashion_mnist": DatasetSpec(
        name="fashion_mnist",
        num_classes=10,
        image_shape=(1, 28, 28),
        class_names=_FASHION_CLASS_NAMES,
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
        class_names=("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
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
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
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
    "fashion_mnist_mini": DatasetSpec(
        name="fashion_mnist_mini",
        num_classes=10,
        image_shape=(1, 28, 28),
        class_names=_FASHION_CLASS_NAMES,
        train_counts_K=(600,) * 10,
        test_counts_K=(200,) * 10,
        licence="MIT",
        may_flip=True,
        sha256_by_file={
            "fashion_mnist_mini.npz": "296bb38fd0342482d6f6fbf51db0f3e427f839ef48ca34a25608157289af8038",
        },
    ),
}

NAMED_CLASSES: dict[str, tuple[str, ...]] = {
    **{name: spec.class_names for name, spec in DATASETS.items()},
    "cifar10": _CIFAR10_CLASS_NAMES,
}
"""names of classes 0..K-1 by data set, of the catalogue and of sets that come as files of a user's own"""
