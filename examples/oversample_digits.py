"""Fill the rare classes of scikit-learn's digits with generated images, in a pipeline of imbalanced-learn.

    python examples/oversample_digits.py [STEPS]

Prints the balanced accuracy of a linear classifier on images that no generator has seen: without a generator,
with a conditional GAN, and with a conditional variational autoencoder.
"""

import sys

import numpy as np
from imblearn.pipeline import make_pipeline
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_validate

from lt_rebalance import CGANSampler, CVAESampler

LARGEST = 120


def main(steps: int) -> None:
    """Compare both on a long-tailed cut of the digits."""
    pixels, labels = load_digits(return_X_y=True)
    # From 120 images of a 0 down to 6 of a 9.
    kept = np.concatenate(
        [np.flatnonzero(labels == label)[: round(LARGEST * 20 ** (-label / 9))] for label in range(10)]
    )
    classifiers = {"as it is": LogisticRegression(max_iter=2000)}
    for name, sampler in {"CGAN": CGANSampler, "CVAE": CVAESampler}.items():
        filled = sampler(random_state=0, image_shape=(1, 8, 8), steps=steps)
        classifiers[f"filled by a {name}"] = make_pipeline(filled, LogisticRegression(max_iter=2000))
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    for name, classifier in classifiers.items():
        found = cross_validate(classifier, pixels[kept], labels[kept], cv=folds, scoring="balanced_accuracy")
        scores = found["test_score"]
        print(f"{name}: {scores.mean():.3f} ± {scores.std(ddof=1):.3f} over {len(scores)} folds")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
