"""Make a small set of pictures in folders, like a set of your own on a disk.

    python examples/own_images.py digits
    lt-rebalance data digits
    python sweeps/full_grid.py --preset quick --dataset digits --profile exp --ratio 20 \\
        --methods none oversample

The first writes scikit-learn's digits as digits/train/CLASS/*.png and digits/test/CLASS/*.png. The second
shows the classes and images found there. The third cuts it to a long tail of ratio 20 and compares two
methods.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SIDE = 16
"""pixels; a set of your own may have 16 to 224 per side"""


def main(folder: Path) -> None:
    """Write every image into the folder of its split and class."""
    digits = load_digits()
    splits = train_test_split(
        digits.images, digits.target, test_size=0.3, stratify=digits.target, random_state=0
    )
    train_images, test_images, train_labels, test_labels = splits
    for split, images, labels in [
        ("train", train_images, train_labels),
        ("test", test_images, test_labels),
    ]:
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / split / f"digit {label}" / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray(np.uint8(pixels * 255 / 16))
            grey.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(place)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "digits"))
