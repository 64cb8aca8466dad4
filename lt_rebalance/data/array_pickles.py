"""Read the arrays of a publisher's pickle, the format of CIFAR, and nothing else.

Only this module reads pickles. It is for files whose checksum has been compared with the publisher's. A
pickle that names anything but the parts of arrays is refused, so none of its code is run.
"""

import io
import pickle
from typing import Any

_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs")
_NAMES = ("ndarray", "dtype", "_reconstruct", "encode")


class _ArraysOnly(pickle.Unpickler):
    """Builds plain values and arrays of numpy."""

    def find_class(self, module: str, name: str) -> Any:  # Any: a class or a function
        """Return a class that a pickle names; UnpicklingError unless it is a part of arrays."""
        if module not in _MODULES or name not in _NAMES:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not an array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_arrays(content: bytes) -> Any:  # Any: plain values and arrays
    """Return the content of a pickle of plain values and arrays; bytes of Python 2 become text."""
    return _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
