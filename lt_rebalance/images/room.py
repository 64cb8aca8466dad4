"""Check the size of images, and whether they fit into memory."""

from lt_rebalance.ground.errors import DataError
from lt_rebalance.ground.memory import require_memory
from lt_rebalance.images.options import LARGEST_SIDE, SMALLEST_SIDE

_COPIES = 2
"""as found, and in their final order"""


def require_sides(width: int, height: int, name: str) -> None:
    """Raise a DataError that names an image unless both its sides are in the allowed range."""
    if not (SMALLEST_SIDE <= width <= LARGEST_SIDE and SMALLEST_SIDE <= height <= LARGEST_SIDE):
        raise DataError(
            f"images must have sides of {SMALLEST_SIDE} to {LARGEST_SIDE} pixels, got {width} x {height} in "
            f"{name}; resize all with --image-size N"
        )


def require_room(num_bytes: int, name: str, remedy: str) -> None:
    """Raise a DataError unless images of `num_bytes` bytes can be prepared in the free memory."""
    require_memory(_COPIES * num_bytes, f"{name}, which, while it is prepared, takes", remedy)
