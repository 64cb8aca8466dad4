"""Read the arrays of a publisher's pickle, and nothing else: CIFAR comes so.

This is the one place that reads a pickle. It is for files whose checksum has been compared with the
publisher's; whatever a pickle names beyond what arrays are made of is refused, so none of its code is run.
"""

import io
import pickle
from typing import Any

_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs")
_NAMES = ("ndarray", "dtype", "_reconstruct", "encode")


class _ArraysOnly(pickle.Unpickler):
    """Builds plain values and arrays of numpy."""

    def find_class(self, module: str, name: str) -> Any:  # Any: a class or a function
        """Return what a pickle names; UnpicklingError for anything but what arrays are made of."""
        if module not in _MODULES or name not in _NAMES:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_arrays(content: bytes) -> Any:  # Any: plain values and arrays
    """Return what a pickle of plain values and arrays holds; bytes of Python 2 become text."""
    return _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
