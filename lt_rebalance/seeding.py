"""Derive every random stream of a run from its seed and a named purpose.

A stream depends on nothing else: not on the method, the lane, the worker or the order of execution. So
methods are paired by seed, and what a seed sees does not depend on what runs beside it. Streams that are
consumed while training take the index of the pass as well, so that a resumed run needs no generator state.
"""

import numpy as np
import torch

ROOT_ENTROPY = 10707

# A number, once given, keeps its meaning for ever: results depend on it.
STREAMS = {
    "validation": 0,
    "class_order": 1,
    "subset": 2,
    "resampling": 3,
    "generator_init": 4,
    "discriminator_init": 5,
    "generator_batches": 6,
    "generator_noise": 7,
    "discriminator_dropout": 8,
    "sampling_noise": 9,
    "diversity_noise": 10,
    "classifier_init": 11,
    "classifier_batches": 12,
    "sheet_noise": 13,
}


def _seed_sequence(seed: int, purpose: str, index: int) -> np.random.SeedSequence:
    if purpose not in STREAMS:
        raise ValueError(f"unknown stream {purpose!r}; known: {', '.join(STREAMS)}")
    if seed < 0:
        raise ValueError(f"a seed must be at least 0, got {seed}")
    return np.random.SeedSequence([ROOT_ENTROPY, seed], spawn_key=(STREAMS[purpose], index))


def numpy_stream(seed: int, purpose: str, index: int = 0) -> np.random.Generator:
    """Return the numpy generator of one purpose of one seed.

    Args:
        seed: replicate index, at least 0.
        purpose: a name in `STREAMS`.
        index: the pass (epoch) that consumes the stream; 0 for streams consumed once.

    Raises:
        ValueError: unknown purpose or negative seed.
    """
    return np.random.default_rng(_seed_sequence(seed, purpose, index))


def torch_stream(
    seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return the torch generator of one purpose of one seed; arguments and errors as `numpy_stream`."""
    state = _seed_sequence(seed, purpose, index).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))
