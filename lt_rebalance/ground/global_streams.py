"""Watch the random streams that torch, numpy and Python share in a process, and restore their states."""

import contextlib
import random
import sys
from collections.abc import Iterator

import numpy as np

HAND_MADE_SEED = 2**32
"""a seed of torch below it was set by a user, except for one import in 4 x 10^9"""


def _read_torch() -> bytes | None:
    """Return the state of torch's stream on the CPU; None before torch is imported."""
    torch = sys.modules.get("torch")
    return None if torch is None else torch.get_rng_state().numpy().tobytes()


@contextlib.contextmanager
def watched_streams() -> Iterator[list[str]]:
    """Yield a list that holds, after the block, the global streams that it drew from or seeded.

    Their states are restored, also if the block raises.
    """
    touched: list[str] = []
    python, old_torch = random.getstate(), _read_torch()
    old_numpy = np.random.get_state()  # noqa: NPY002  # it is watched, not drawn from
    try:
        yield touched
    finally:
        if random.getstate() != python:
            touched.append("python")
            random.setstate(python)
        new_numpy = np.random.get_state()  # noqa: NPY002
        if any(not np.array_equal(*pair) for pair in zip(old_numpy, new_numpy, strict=True)):
            touched.append("numpy")
            np.random.set_state(old_numpy)  # noqa: NPY002
        if (new_torch := _read_torch()) is not None and _was_touched(old_torch, new_torch):
            touched.append("torch")


def _was_touched(old: bytes | None, new: bytes) -> bool:
    """Return whether torch's stream has moved, or differs from its state after import; restore it."""
    torch = sys.modules["torch"]
    if old is None:
        # Importing torch takes a 64-bit seed from the system and draws nothing.
        seed = torch.initial_seed()
        fresh = torch.Generator().manual_seed(seed).get_state()
        return bool(seed < HAND_MADE_SEED or fresh.numpy().tobytes() != new)
    if new == old:
        return False
    torch.set_rng_state(torch.frombuffer(bytearray(old), dtype=torch.uint8))
    return True
