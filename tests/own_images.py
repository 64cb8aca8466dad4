"""Tiny sets of images as users have them: as a folder, and as an npz."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lt_rebalance.images.load import OwnSet, load_own
from lt_rebalance.images.options import OwnOptions

CLASSES = ("cat", "dog", "eel")
COUNTS = {"train": (6, 4, 3), "test": (2, 3, 1)}
SIDE = 16

Splits = dict[str, dict[str, list[NDArray[np.uint8]]]]


def draw_images(num_channels: int = 3, counts: Mapping[str, tuple[int, ...]] = COUNTS) -> Splits:
    """Return random images, (16, 16, 3) or (16, 16), by split and class."""
    rng = np.random.default_rng(0)
    shape = (SIDE, SIDE, 3) if num_channels == 3 else (SIDE, SIDE)
    return {
        split: {
            name: [rng.integers(0, 256, shape, np.uint8) for _ in range(count)]
            for name, count in zip(CLASSES, counts_K, strict=True)
        }
        for split, counts_K in counts.items()
    }


def write_folder(root: Path, splits: Splits) -> Path:
    """Write images as train/cat/0.png and so on; return the folder."""
    for split, classes in splits.items():
        for name, images in classes.items():
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for number, image in enumerate(images):
                Image.fromarray(image).save(root / split / name / f"{number}.png")
    return root


def to_arrays(splits: Splits) -> dict[str, Any]:
    """Return the arrays of an npz in MedMNIST's layout."""
    arrays: dict[str, Any] = {"class_names": np.array(CLASSES)}
    for split, classes in splits.items():
        images = [image for each in classes.values() for image in each]
        arrays[f"{split}_images"] = np.stack(images)
        arrays[f"{split}_labels"] = np.repeat(
            np.arange(len(classes)), [len(each) for each in classes.values()]
        )
    return arrays


def write_npz(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Write arrays; return the path."""
    np.savez_compressed(path, **arrays)
    return path


def get(path: Path, **options: object) -> OwnSet:
    """Read a set with these options."""
    return load_own(str(path), OwnOptions(**options))[0]  # type: ignore[arg-type]


def identity(path: Path, **options: object) -> str:
    """Return the name under which the images of a set are known."""
    return get(path, **options).spec.identity
