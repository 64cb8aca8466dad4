"""Read arrays from npy files without objects, and check their dtype and axes by role.

Shape suffixes: K classes, N images, S samples of a class, C H W image, T thresholds.
"""

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lt_rebalance.ground.metrics import NUM_THRESHOLDS

_AXES = {"predictions": "N", "precision_recall": "K2T", "samples": "3KSCHW"}
"""axes of each role; a digit is a fixed length, and so are K and T"""
_TYPES = {"precision_recall": "uint32", "samples": "uint8"}
MAX_CLASSES = 2**16
"""as many as the largest dtype of a prediction can number"""


def predictions_type(num_classes: int) -> str:
    """Return the smallest unsigned dtype for class numbers: uint8, or uint16 beyond 256 classes."""
    return np.min_scalar_type(num_classes - 1).name


def parse_array(content: bytes, role: str, num_classes: int) -> NDArray[Any]:
    """Return the array in a file of a role.

    Raises:
        ValueError: not an npy file, an array with objects, or one of another dtype, shape or length.
    """
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
        shape, _, dtype = (read_header or np.lib.format.read_array_header_2_0)(file)
    except (ValueError, EOFError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"it is not an npy file: {error}") from None
    if dtype.hasobject:
        raise ValueError("it holds objects, which could run code when they are read")
    lengths = {"K": num_classes, "T": NUM_THRESHOLDS}
    axes = _AXES[role]
    fits = len(shape) == len(axes) and all(
        length == (int(axis) if axis.isdigit() else lengths.get(axis, length)) and length > 0
        for axis, length in zip(axes, shape, strict=True)
    )
    needed = _TYPES.get(role) or predictions_type(num_classes)
    if not fits or dtype.name != needed:
        raise ValueError(f"it must be {needed} with axes {axes}, got {dtype} {shape}")
    if math.prod(shape) * dtype.itemsize != len(content) - file.tell():
        raise ValueError(f"its length is not that of {shape}")
    array: NDArray[Any] = np.load(io.BytesIO(content), allow_pickle=False)
    return array
