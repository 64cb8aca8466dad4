"""Options for the preparation of a user's images."""

from dataclasses import dataclass

SMALLEST_SIDE, LARGEST_SIDE = 16, 224
"""in pixels, of the training images"""
MOST_CLASSES = 10_000
OWN_FIELDS = ("image_size", "grey", "test_fraction", "validation_fraction", "relabel")
OWN_FLAGS = tuple(f"--{field.replace('_', '-')}" for field in OWN_FIELDS)


@dataclass(frozen=True, kw_only=True)
class OwnOptions:
    """How the images of a user's set are prepared."""

    image_size: int | None = None
    """Both sides in pixels after an antialiased resize, which ignores the aspect ratio; None: unchanged."""
    grey: bool = False
    """Whether colour becomes grey (ITU-R 601)."""
    test_fraction: float | None = None
    """Share of each class for the test split; None for a set that has one."""
    validation_fraction: float | None = None
    """Share of each class, without test images, for the validation split; None for no split."""
    relabel: bool = False
    """Whether the labels of an npz are renumbered 0..K-1 in their order."""

    def __post_init__(self) -> None:
        if self.image_size is not None and not SMALLEST_SIDE <= self.image_size <= LARGEST_SIDE:
            raise ValueError(
                f"the image size must be {SMALLEST_SIDE} to {LARGEST_SIDE} pixels, got {self.image_size}"
            )
        shares = {"test": self.test_fraction, "validation": self.validation_fraction}
        for name, share in shares.items():
            if share is not None and not 0 < share < 1:
                raise ValueError(f"the {name} fraction must be between 0 and 1, got {share:g}")
